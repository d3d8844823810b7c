"""Figures of notebook 02: copies, doubted labels, quality."""

from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from facelib.audit.label_issues import most_doubted
from facelib.audit.quality import THRESHOLDS, flag_names
from facelib.data.pixels import FaceImages
from facelib.plots.style import (
    INK,
    PALETTE,
    RED,
    SKY,
    error_bars,
    finish,
    image_grid,
    may_show,
    new_figure,
    panel_grid,
    title,
)
from facelib.runs import RunFolder
from facelib.schema import AGE
from facelib.statistics import Bootstrap, Estimate


def quality_scores(quality: pd.DataFrame) -> Figure:
    """Distribution of each quality score, with the share flagged."""
    names = flag_names(quality)
    figure, axes = panel_grid(len(names), 5, width=10, height=2.2)
    for axis, (flag, name) in zip(axes, names.items(), strict=True):
        score = flag.removeprefix("is_")
        sns.histplot(quality[score], bins=30, binrange=(0, 1), ax=axis, color=SKY, linewidth=0)
        axis.set(xlabel="Score", ylabel="", xlim=(-0.03, 1.03), yticks=[])
        axis.set_title(f"{name}\n{quality[flag].mean():.1%} flagged", fontsize=9)
        axis.axvline(THRESHOLDS[score], color=RED, linewidth=1)
    title(figure, f"Scores from 0 (worst) to 1; flagged left of the line, n = {len(quality):,}")
    return finish(figure)


def label_issue_scores(issues: pd.DataFrame) -> Figure:
    """Label scores of each attribute, with the flagged ones coloured; an empty panel where nothing was scored."""
    attributes = list(issues["attribute"].unique())
    figure, axes = new_figure(max(1, len(attributes)), width=10, height=2.8)
    axes[0, 0].set_visible(bool(attributes))
    for axis, attribute in zip(axes.flat, attributes, strict=False):
        part = issues[issues["attribute"] == attribute]
        look = {"palette": {False: SKY, True: RED}, "multiple": "stack", "linewidth": 0, "legend": False}
        sns.histplot(part, x="score", hue="is_issue", bins=40, ax=axis, **look)
        _count_by_powers(axis)
        axis.set(xlabel="Label score (0 worst)", ylabel="Images (log)")
        axis.set_title(f"{attribute}: {int(part['is_issue'].sum()):,} of {len(part):,} flagged", fontsize=10)
    title(figure, "Scores of labels; those flagged in red")
    return finish(figure)


def _count_by_powers(axis) -> None:
    """A logarithmic axis of counts, with plain numbers at powers of ten alone."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")


def copies_disagree(contradictions: pd.DataFrame, disagreements: pd.DataFrame, bootstrap: Bootstrap) -> Figure:
    """Groups of copies by size, how often two labels of one photograph disagree, and how far their ages lie apart.

    The tables are from the functions of these names in `audit.contradictions`.
    """
    figure, ((left, middle, right),) = new_figure(3, width=11, height=3)
    sizes, heading = contradictions["size"].value_counts().sort_index(), f"{len(contradictions):,} groups of copies"
    left.bar(sizes.index.astype(str), sizes.to_numpy(), color=INK)
    left.bar_label(left.containers[0], fmt="{:,.0f}", fontsize=9)
    left.set(xlabel="Images of one photograph", ylabel="Groups of copies", title=heading)
    differ = {name: bootstrap(np.mean, part["differ"]) for name, part in disagreements.groupby("attribute", sort=False)}
    values, low, high = ([getattr(estimate, end) for estimate in differ.values()] for end in ("value", "low", "high"))
    error_bars(middle, list(differ), values, low, high)
    middle.set_ylim(-0.5, max(1, len(differ)) - 0.5)
    middle.set(xlabel="Probability for two copies (95 % interval)", title="Two labels disagree", xlim=(0, 1))
    middle.invert_yaxis()
    years = disagreements.loc[disagreements["attribute"] == AGE.name, "difference"]
    bins = {"binwidth": 2, "binrange": (0, max(2, years.max()))} if len(years) else {}
    sns.histplot(years, **bins, ax=right, color=INK, linewidth=0)
    _count_by_powers(right)
    right.set(xlabel="Years between two age labels", ylabel="Groups (log)")
    right.set_title(f"Age labels, n = {len(years):,} groups")
    return finish(figure)


def ranking_curves(curves: pd.DataFrame, results: dict[str, Estimate]) -> Figure:
    """Precision and recall of label scores on planted errors, from `planting.measure_ranking`, beside chance."""
    figure, ((axis,),) = new_figure(width=7, height=3.8)
    for (attribute, part), colour in zip(curves.groupby("attribute", sort=False), cycle(PALETTE), strict=False):
        planted, area = results[f"{attribute}.precision_at_k"], results[f"{attribute}.auroc"]
        label = f"{attribute}: {planted.n:,} of {area.n:,} planted, AUROC {area.value:.3f}"
        axis.plot(part["recall"], part["precision"], color=colour, label=label)
        axis.axhline(planted.n / area.n, color=colour, linestyle=":", linewidth=1)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), title="Planted label errors (dotted: chance)")
    axis.set(xlabel="Share of planted errors found (recall)", ylabel="Share of finds that were planted (precision)")
    if results:
        figure.legend(loc="outside lower center", fontsize=9)
    return finish(figure)


def doubted_gallery(
    run: RunFolder, images: FaceImages, faces: pd.DataFrame, issues: pd.DataFrame, show_faces: bool
) -> Figure | None:
    """The most doubted single faces with the label given and the one suggested, where they may be shown."""
    worst = most_doubted(issues)
    if not may_show(run, show_faces) or worst.empty:
        return None
    named = {attribute.name: attribute for attribute in run.attributes}

    def label(attribute: str, value: float) -> str:
        return named[attribute].label_name(value) + " y" * (named[attribute].unit == "years")

    rows = worst[["attribute", "given", "suggested"]].itertuples(index=False)
    titles = [f"{label(name, given)},\nnot {label(name, suggested)}?" for name, given, suggested in rows]
    rows = pd.Series(range(len(faces)), index=faces["image_id"]).loc[worst["image_id"]]
    heading = "The most suspicious labels: the label given, and the one that networks suggest"
    return image_grid(list(images[rows.to_numpy()]), titles, heading=heading)
