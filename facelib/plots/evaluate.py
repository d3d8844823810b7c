"""Figures of notebook 05: confusion, ranking and age intervals."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from facelib.plots.style import BLUE, GREEN, GREY, class_colours, error_bars, finish, label_lines, new_figure, title
from facelib.schema import UNKNOWN, Attribute, ClassAttribute, class_attributes


def confusion(frame: pd.DataFrame, attribute: Attribute, note: str = "") -> Figure:
    """Confusion matrix of the groups in an evaluation frame: row shares as colour, counts as text."""
    label, predicted = attribute.groups_of(frame).cat.codes, attribute.groups(frame[attribute.prediction]).cat.codes
    known, names = (label != UNKNOWN) & (predicted != UNKNOWN), attribute.group_names
    counts = confusion_matrix(label[known], predicted[known], labels=range(len(names)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    text = [[f"{share:.0%}\n{n:,}" for share, n in zip(*row, strict=True)] for row in zip(shares, counts, strict=True)]
    figure, ((axis,),) = new_figure(width=1.6 + 0.95 * len(names), height=1.3 + 0.65 * len(names))
    sns.heatmap(shares, annot=np.array(text), fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axis,
                xticklabels=[stacked(name) for name in names], yticklabels=names, linewidths=0.5)  # fmt: skip
    axis.set(xlabel="Predicted", ylabel="Label", title=f"{attribute.title}, n = {known.sum():,}{note}")
    axis.tick_params(axis="y", rotation=0)
    return finish(figure)


def stacked(name: str) -> str:
    """A name with a line for each of its words."""
    return name.replace("_", " ").replace(" ", "\n")


def confusions(frame: pd.DataFrame, attributes: Iterable[Attribute], note: str = "") -> dict[str, Figure]:
    """The confusion matrix of each attribute with classes, or with bands alone, by the name of its file."""
    grouped = (a for a in attributes if isinstance(a, ClassAttribute) or not a.exact)
    return {f"confusion_{a.name}": confusion(frame, a, note) for a in grouped}


def class_curves(
    curves: dict[tuple[str, str], tuple], table: pd.DataFrame, heading: str, attributes: Iterable[Attribute]
) -> Figure:
    """ROC and precision-recall curves, from `headline.one_against_rest` and `ranking_table`, beside a guess."""
    figure, ((left, right),) = new_figure(2, width=11, height=4.4)
    colours = {
        (a.name, name): colour for a in class_attributes(attributes) for name, colour in class_colours(a).items()
    }
    for (key, (is_class, score, _)), row in zip(curves.items(), table.to_dict("records"), strict=True):
        colour = colours[key]
        false_rate, true_rate, _ = roc_curve(is_class, score)
        left.plot(false_rate, true_rate, color=colour, label=f"{row['class']}: {row['auc']:.3f}")
        precision, recall, _ = precision_recall_curve(is_class, score)
        label = f"{row['class']}: {row['average_precision']:.3f} (base rate {row['base_rate']:.2f})"
        right.plot(recall, precision, color=colour, label=label, drawstyle="steps-post")
        right.axhline(row["base_rate"], color=colour, linestyle=":", linewidth=1)
    left.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    left.set(xlabel="False positive rate", ylabel="True positive rate", title=heading)
    right.set(xlabel="Recall", ylabel="Precision", ylim=(0, 1.03), title="Dotted: what a guess reaches")
    for axis, name in ((left, "Area under the curve"), (right, "Average precision")):
        axis.set(xlim=(0, 1))
        axis.legend(title=name, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return finish(figure)


def coverage_by_age(coverage: pd.DataFrame, note: str = "") -> Figure:
    """The share of labels that each kind of age interval covers, by labelled age; see `headline.age_coverage`."""
    rows = coverage[coverage["by"] == "age_band"]
    counts = rows.groupby("group", sort=False)["n"].first()
    figure, ((axis,),) = new_figure(width=8)
    axis.axhline(0.9, color=GREY, linestyle="--", linewidth=1)
    ends = [("90 % nominal", 0.9, GREY)]
    for k, ((kind, part), colour) in enumerate(zip(rows.groupby("kind", sort=False), (GREY, GREEN), strict=False)):
        x = part["group"].map(list(counts.index).index) + 0.12 * k - 0.06
        look = {"vertical": True, "fmt": "o-", "color": colour, "linewidth": 1.5}
        error_bars(axis, x, part["value"], part["low"], part["high"], **look)
        ends.append((kind, part["value"].iloc[-1], colour))
    names = [f"{band}\nn = {n:,}" for band, n in counts.items()]
    axis.set(xticks=range(len(counts)), xticklabels=names, xlabel="Age label (years)", ylabel="Coverage")
    axis.set(title=f"Coverage of the 90 % age intervals, n = {counts.sum():,}, 95 % intervals{note}")
    axis.yaxis.set_major_formatter("{x:.0%}")
    label_lines(axis, ends)
    return finish(figure)


def label_disagreement(measured: pd.DataFrame, note: str = "") -> Figure:
    """How far two labels of one photograph differ, and the model from a label and from the truth: a panel each."""
    names = measured["attribute"].unique()
    figure, axes = new_figure(len(names), height=2.2)
    for axis, name in zip(axes[0], names, strict=True):
        part = measured[(measured["attribute"] == name) & ~measured["quantity"].str.contains("minus")]
        error_bars(axis, np.arange(len(part)), part["value"], part["low"], part["high"])
        axis.set_yticks(np.arange(len(part)), [text.partition(",")[0] for text in part["quantity"]])
        axis.set(title=f"{name}, n = {part['n'].iloc[0]:,}", xlabel=part["unit"].iloc[0], xlim=(0, None))
        axis.invert_yaxis()
    for axis in axes[0, 1:]:
        axis.set_yticklabels([])
    title(figure, f"Photographs with two labels, outside training{note}")
    return finish(figure)


def noise_bias(noise: pd.DataFrame, note: str = "") -> Figure:
    """Mean of predicted minus labelled age by labelled band, as measured and as label noise alone makes it."""
    figure, ((axis,),) = new_figure(width=8)
    axis.axhline(0, color=GREY, linewidth=1)
    named = []
    for name, text, colour, shift in (("bias", "the model", BLUE, -0.06), ("noise", "label noise alone", GREY, 0.06)):
        value, low, high = (noise[f"{name}{end}"] for end in ("", "_low", "_high"))
        look = {"vertical": True, "fmt": "o-", "color": colour, "linewidth": 1.5}
        error_bars(axis, np.arange(len(noise)) + shift, value, low, high, **look)
        named.append((text, value.iloc[-1], colour))
    names = [f"{band}\nn = {n:,}" for band, n in zip(noise["age_band"], noise["n"], strict=True)]
    axis.set(
        xticks=range(len(noise)), xticklabels=names, xlabel="Age label (years)", ylabel="Predicted minus labelled (y)"
    )
    label_lines(axis, named)
    title(figure, f"How much of the bias by labelled age is label noise{note}")
    return finish(figure)
