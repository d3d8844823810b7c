"""Figures of one style: each function draws from tables and returns a matplotlib figure."""

import textwrap
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from sklearn.metrics import precision_recall_curve, roc_curve

from facelib.audit.quality import THRESHOLDS, flag_names
from facelib.metrics import bootstrap
from facelib.runs import RunFolder
from facelib.schema import AGE_BANDS, CLASS_NAMES, GENDERS, age_band, is_known, label_name, labelled

# The Okabe-Ito palette, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#777777",
)
PALETTE = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY]
GENDER_COLOURS = dict(zip(GENDERS, (BLUE, ORANGE), strict=True))
MIN_AVERAGED = 25  # groups of copies behind an average face, so that nobody is recognisable


def use_style() -> None:
    """Set how this process draws figures and prints tables."""
    sns.set_theme(
        style="whitegrid",
        palette=PALETTE,
        rc={
            "figure.dpi": 96,
            "savefig.bbox": "tight",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#e6e6e6",
            "legend.frameon": False,
            # Same bytes for the same figure, and text that can be searched.
            "svg.hashsalt": "facelib",
            "svg.fonttype": "none",
            "text.parse_math": False,  # the name of a photograph is no formula
        },
    )
    pd.set_option("styler.format.escape", "html")  # nor are texts from data markup
    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        set_matplotlib_formats("svg")
    # seaborn 0.13.2 passes a keyword to boxplot that matplotlib has renamed.
    warnings.filterwarnings("ignore", message="vert: bool", category=PendingDeprecationWarning)


def _figure(
    columns: int = 1, rows: int = 1, width: float = 9.0, height: float = 3.6, **shared
) -> tuple[Figure, np.ndarray]:
    size = (width, height * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)


def _grid(panels: int, columns: int, width: float, height: float, **shared) -> tuple[Figure, np.ndarray]:
    """A figure of some panels, so many in a row that their text can be read, and the axes of those that are needed."""
    columns = min(columns, panels)
    figure, axes = _figure(columns, -(-panels // columns), width, height, **shared)
    for axis in axes.flat[panels:]:
        axis.remove()
    return figure, axes.flat[:panels]


def _finish(figure: Figure) -> Figure:
    """Hand a figure over without leaving it open, so that notebooks show it once."""
    plt.close(figure)
    return figure


def label_distributions(faces: pd.DataFrame, note: str = "") -> Figure:
    """Ages by gender, and counts of ethnicity and gender, of those that are labelled."""
    there = labelled(faces)
    classes = [name for name in ("ethnicity", "gender") if name in there]
    figure, axes = _figure(("age" in there) + bool(classes), width=10)
    panels = list(axes[0])
    gender = faces["gender"].map(dict(enumerate(GENDERS)))
    if "age" in there:
        by_gender = {"hue": gender.rename("Gender"), "multiple": "stack", "palette": GENDER_COLOURS}
        axis = panels.pop(0)
        sns.histplot(x=faces["age"], **by_gender if "gender" in there else {}, binwidth=2, ax=axis, linewidth=0)
        axis.set(xlabel="Age label (years)", ylabel="Images", title=f"Ages, n = {faces['age'].notna().sum():,}{note}")
    if classes:
        named = pd.DataFrame({name: faces[name].map(dict(enumerate(CLASS_NAMES[name]))) for name in classes})
        if named.dropna().empty:  # the labels of two sets of faces
            classes = classes[:1]
        named = named[classes].dropna()
        counts = named.groupby(classes[0]).size().to_frame("Images")
        colours = None
        if len(classes) > 1:
            counts = named.groupby(classes).size().unstack(fill_value=0)
            counts.columns.name, colours = "Gender", [GENDER_COLOURS[name] for name in counts]
        counts = counts.reindex([name for name in CLASS_NAMES[classes[0]] if name in counts.index])
        counts.plot.barh(stacked=True, ax=panels[0], color=colours, width=0.75, legend=len(classes) > 1)
        title = f"{' and '.join(classes).capitalize()} labels"
        panels[0].set(xlabel="Images", ylabel=f"{classes[0].capitalize()} label", title=title)
        panels[0].invert_yaxis()
    return _finish(figure)


def joint_imbalance(faces: pd.DataFrame) -> Figure:
    """Counts of age band by ethnicity and gender, of those that are labelled: where the data are thin.

    Where no face has all of these labels, of the first of them alone.
    """
    there = labelled(faces)
    if not np.all([is_known(faces[name]) for name in there], axis=0).any():
        there = there[:1]
    classes = [name for name in ("ethnicity", "gender") if name in there]
    known = faces[np.all([is_known(faces[name]) for name in there], axis=0)]
    known = known.sort_values(classes) if classes else known
    named = [known[name].map(dict(enumerate(CLASS_NAMES[name]))) for name in classes]
    row = named[0].str.cat(named[1:], sep=", ") if named else pd.Series("all", known.index)
    bands = list(AGE_BANDS) if "age" in there else ["any age"]
    band = np.asarray(age_band(known["age"])) if "age" in there else np.full(len(known), bands[0])
    counts = pd.crosstab(row, band).reindex(index=row.unique(), columns=bands, fill_value=0)
    figure, axes = _figure(height=1.2 + 0.3 * len(counts))
    sns.heatmap(
        np.log10(counts.to_numpy() + 1), annot=counts.to_numpy(), fmt=",d", cmap="viridis", cbar=False, ax=axes[0, 0],
        xticklabels=bands, yticklabels=list(counts.index), linewidths=0.5,
    )  # fmt: skip
    axes[0, 0].tick_params(axis="y", rotation=0)
    axes[0, 0].set(
        xlabel="Age band (years)", ylabel="", title=f"Images in each cell (colour: log count), n = {len(known):,}"
    )
    return _finish(figure)


def image_grid(
    images: list[np.ndarray], titles: list[str], columns: int = 7, size: float = 1.35, title: str = ""
) -> Figure:
    """Pictures with a short title each; a missing picture (None) leaves a grey field."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, (size + 0.3) * rows + 0.3), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, name in zip(axes.flat, images, titles, strict=False):
        if image is None:
            axis.add_patch(mpl.patches.Rectangle((0, 0), 1, 1, transform=axis.transAxes, color="#eeeeee"))
        else:
            axis.imshow(image, interpolation="bilinear")
        axis.set_title(name, fontsize=8, loc="center", fontweight="normal")
    if title:
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return _finish(figure)


def average_face(images: np.ndarray, least: int = MIN_AVERAGED) -> np.ndarray | None:
    """Mean of uint8 images (n, px, px, 3); None for fewer than `least`, which might show a person."""
    return None if len(images) < least else images.mean(axis=0).round().astype(np.uint8)


def quality_scores(quality: pd.DataFrame) -> Figure:
    """Distribution of each quality score, with the share flagged."""
    names = flag_names(quality)
    figure, axes = _grid(len(names), 5, width=10, height=2.2)
    for axis, (flag, name) in zip(axes, names.items(), strict=True):
        score = flag.removeprefix("is_")
        sns.histplot(quality[score], bins=30, binrange=(0, 1), ax=axis, color=SKY, linewidth=0)
        axis.set(xlabel="Score", ylabel="", xlim=(-0.03, 1.03), yticks=[])
        axis.set_title(f"{name}\n{quality[flag].mean():.1%} flagged", fontsize=9)
        axis.axvline(THRESHOLDS[score], color=RED, linewidth=1)
    return _finish(figure)


def label_issue_scores(issues: pd.DataFrame) -> Figure:
    """Label scores of each attribute, with the flagged ones coloured."""
    attributes = list(issues["attribute"].unique())
    figure, axes = _figure(len(attributes), width=10, height=2.8)
    for axis, attribute in zip(axes.flat, attributes, strict=True):
        part = issues[issues["attribute"] == attribute].assign(
            Flagged=lambda t: t["is_issue"].map({True: "yes", False: "no"})
        )
        sns.histplot(
            part, x="score", hue="Flagged", hue_order=["no", "yes"], palette={"no": SKY, "yes": RED}, bins=40,
            multiple="stack", linewidth=0, ax=axis,
        )  # fmt: skip
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_ylim(top=axis.get_ylim()[1] * 8)  # room for the legend above the bars
        axis.set(xlabel="Label score (0 worst)", ylabel="Images (log)")
        axis.set_title(f"{attribute}: {int(part['is_issue'].sum()):,} of {len(part):,} flagged", fontsize=10)
    return _finish(figure)


def copies_disagree(contradictions: pd.DataFrame, disagreements: pd.DataFrame) -> Figure:
    """Groups of copies by size, how often two labels of one photograph disagree, and how far their ages lie apart.

    Parameters
    ----------
    contradictions, disagreements : DataFrame
        From the functions of these names.
    """
    figure, axes = _figure(3, width=11, height=3)
    sizes = contradictions["size"].value_counts().sort_index()
    axes[0, 0].bar(sizes.index.astype(str), sizes.to_numpy(), color=SKY)
    axes[0, 0].bar_label(axes[0, 0].containers[0], fmt="{:,.0f}", fontsize=9)
    axes[0, 0].set(
        xlabel="Images of one photograph", ylabel="Groups of copies", title=f"{len(contradictions):,} groups of copies"
    )
    differ = {name: bootstrap(np.mean, part["differ"]) for name, part in disagreements.groupby("attribute", sort=False)}
    bars = [[e.value - e.low for e in differ.values()], [e.high - e.value for e in differ.values()]]
    values = [estimate.value for estimate in differ.values()]
    axes[0, 1].barh(list(differ), values, xerr=bars, color=ORANGE, height=0.6, capsize=3)
    axes[0, 1].set(xlabel="Chance for two copies (95 %)", title="Two labels disagree", xlim=(0, 1))
    axes[0, 1].invert_yaxis()
    years = disagreements.loc[disagreements["attribute"] == "age", "difference"]
    bins = {"binwidth": 2, "binrange": (0, max(2, years.max()))} if len(years) else {}
    sns.histplot(years, **bins, ax=axes[0, 2], color=ORANGE, linewidth=0)
    axes[0, 2].set_yscale("log")
    axes[0, 2].yaxis.set_major_formatter("{x:g}")
    axes[0, 2].set(
        xlabel="Years between two age labels", ylabel="Groups (log)", title=f"Age labels, n = {len(years):,} groups"
    )
    return _finish(figure)


def ranking_curves(curves: pd.DataFrame, results: dict[str, dict]) -> Figure:
    """Precision and recall of label scores on planted errors, with what chance would give.

    Parameters
    ----------
    curves, results
        From `planting.measure_ranking`.
    """
    figure, axes = _figure(width=7, height=3.8)
    for (attribute, part), colour in zip(curves.groupby("attribute", sort=False), PALETTE, strict=False):
        found, area = results[f"{attribute}.precision_at_k"], results[f"{attribute}.auroc"]
        label = f"{attribute}: {found['n']:,} planted, AUROC {area['value']:.3f}"
        axes[0, 0].plot(part["recall"], part["precision"], color=colour, label=label)
        axes[0, 0].axhline(found["n"] / area["n"], color=colour, linestyle=":", linewidth=1)
    axes[0, 0].set(
        xlabel="Share of planted errors found (recall)", ylabel="Share of finds that were planted (precision)",
        xlim=(0, 1), ylim=(0, 1.02), title=f"Planted label errors among {area['n']:,} images (dotted: chance)",
    )  # fmt: skip
    axes[0, 0].legend(loc="upper right", fontsize=9)
    return _finish(figure)


def training_curves(history: pd.DataFrame, losses: dict[str, str], kept: int) -> Figure:
    """Training and validation losses by epoch; `losses` gives each one's name and title, `kept` the epoch kept."""
    figure, axes = _grid(len(losses), 2, width=9, height=2.7)
    for axis, (name, label) in zip(axes, losses.items(), strict=True):
        for stage, colour in (("train", GREY), ("validation", BLUE)):
            axis.plot(history["epoch"] + 1, history[f"{stage}_{name}"], color=colour, label=stage, marker=".")
        axis.axvline(kept + 1, color=ORANGE, linewidth=1, linestyle="--", label="kept")
        axis.set(xlabel="Epoch", title=label)
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes[0].legend()
    return _finish(figure)


def intervals(
    table: pd.DataFrame, label: str, value: str, unit: str, title: str, reference: float | None = None
) -> Figure:
    """Values with their intervals, one row each, with counts where the table has n."""
    shown = table.dropna(subset=[value]).reset_index(drop=True)
    figure, axes = _figure(width=8, height=0.7 + 0.34 * len(shown))
    axis = axes[0, 0]
    low = shown[value] - shown.get(f"{value}_low", shown.get("low"))
    high = shown.get(f"{value}_high", shown.get("high")) - shown[value]
    axis.errorbar(
        shown[value], shown.index, xerr=[low.clip(lower=0), high.clip(lower=0)], fmt="o", color=BLUE, capsize=3
    )
    names = [textwrap.shorten(str(name), 60) for name in shown[label]]
    if "n" in shown:
        names = [f"{name}  (n = {n:,})" for name, n in zip(names, shown["n"], strict=True)]
    axis.set(yticks=shown.index, yticklabels=names, xlabel=unit, title=title, ylim=(len(shown) - 0.5, -0.5))
    if reference is not None:
        axis.axvline(reference, color=GREY, linestyle="--", linewidth=1)
    return _finish(figure)


def bin_study(table: pd.DataFrame, title: str) -> Figure:
    """Error of each way to use two-stage models, and how often they find the true bin, by number of bins."""
    lines = {
        "routed": ("routed", BLUE, "-"),
        "soft": ("soft", ORANGE, "-"),
        "routed_overlap": ("routed, overlapping", BLUE, ":"),
        "soft_overlap": ("soft, overlapping", ORANGE, ":"),
        "oracle_bin": ("oracle bin (looks at the label)", GREY, "-"),
        "no_image": ("oracle bin, no image", GREY, "--"),
    }
    figure, axes = _figure(2, width=11)
    for name, (label, colour, style) in lines.items():
        axes[0, 0].plot(table["bins"], table[name], style, marker="o", color=colour, label=label)
    axes[0, 0].set(ylabel="MAE (years)", ylim=(0, None), title=title)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, fontsize=9, loc="outside lower center")
    axes[0, 1].plot(table["bins"], table["bin_accuracy"], "o-", color=BLUE)
    axes[0, 1].set(ylabel="Share sent to the right bin", ylim=(0, 1))
    axes[0, 1].yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    for axis in axes.flat:
        axis.set(xlabel="Age bins", xticks=table["bins"])
    return _finish(figure)


def recipe_comparison(table: pd.DataFrame) -> Figure:
    """Measures of several recipes with their intervals, a panel each: variant, measure, value, low, high, n."""
    names = {
        "age.mae": "Age MAE (years)\nleft is better",
        "gender.accuracy": "Gender accuracy\nright is better",
        "ethnicity.accuracy": "Ethnicity accuracy\nright is better",
    }
    variants = list(dict.fromkeys(table["variant"]))
    figure, axes = _figure(len(names), width=11, height=1.5 + 0.32 * len(variants))
    for axis, (measure, title) in zip(axes.flat, names.items(), strict=True):
        shown = table[table["measure"] == measure]
        at = [variants.index(name) for name in shown["variant"]]
        bars = [shown["value"] - shown["low"], shown["high"] - shown["value"]]
        axis.errorbar(shown["value"], at, xerr=bars, fmt="o", color=BLUE, capsize=3)
        axis.set(yticks=range(len(variants)), yticklabels=variants if axis is axes[0, 0] else [], title=title)
        axis.set(ylim=(len(variants) - 0.5, -0.5))
        if measure != "age.mae":
            axis.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    figure.suptitle(f"Validation, n = {table['n'].max():,}, 95 % intervals", fontsize=10)
    return _finish(figure)


def confusion(counts: np.ndarray, names: list[str], title: str) -> Figure:
    """Confusion matrix: row shares as colour, counts as text."""
    figure, axes = _figure(width=1.6 + 0.95 * len(names), height=1.3 + 0.65 * len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    text = np.array(
        [[f"{share:.0%}\n{n:,}" for share, n in zip(*row, strict=True)] for row in zip(shares, counts, strict=True)]
    )
    sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axes[0, 0],
                xticklabels=names, yticklabels=names, linewidths=0.5)  # fmt: skip
    axes[0, 0].set(xlabel="Predicted", ylabel="Label", title=title)
    axes[0, 0].tick_params(axis="y", rotation=0)
    return _finish(figure)


def class_curves(curves: dict[str, tuple], table: pd.DataFrame, title: str) -> Figure:
    """ROC and precision-recall curves of each class against the rest, with what a guess would reach.

    Parameters
    ----------
    curves : dict of tuples
        From `evaluation.one_against_rest`.
    table : DataFrame
        From `evaluation.ranking_table`, in the same order.
    """
    figure, axes = _figure(2, width=11, height=4.4)
    (left, right), rows = axes[0], table.set_index("class")
    for (name, (is_class, score, _)), colour in zip(curves.items(), PALETTE, strict=False):
        row = rows.loc[name]
        false_rate, true_rate, _ = roc_curve(is_class, score)
        left.plot(false_rate, true_rate, color=colour, label=f"{name}: {row['auc']:.3f}")
        precision, recall, _ = precision_recall_curve(is_class, score)
        shown = f"{name}: {row['average_precision']:.3f} (base rate {row['base_rate']:.2f})"
        right.plot(recall, precision, color=colour, label=shown, drawstyle="steps-post")
        right.axhline(row["base_rate"], color=colour, linestyle=":", linewidth=1)
    left.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    left.set(xlabel="False positive rate", ylabel="True positive rate", title=title)
    right.set(xlabel="Recall", ylabel="Precision", ylim=(0, 1.03), title="Dotted: what a guess reaches")
    for axis, name in ((left, "Area under the curve"), (right, "Average precision")):
        axis.set(xlim=(0, 1))
        axis.legend(title=name, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return _finish(figure)


def reliability_diagram(points: dict[str, pd.DataFrame], errors: dict[str, float]) -> Figure:
    """Accuracy against confidence of each head, with its expected calibration error."""
    figure, axes = _grid(len(points), 2, width=8.4, height=3.6)
    for axis, (name, table) in zip(axes, points.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        bars = [(table["accuracy"] - table["low"]).clip(lower=0), (table["high"] - table["accuracy"]).clip(lower=0)]
        axis.errorbar(table["confidence"], table["accuracy"], yerr=bars, fmt="o-", color=BLUE, capsize=2)
        lowest = max(0, min(table["confidence"].min(), table["low"].min()) - 0.05)
        axis.set(xlabel="Confidence", ylabel="Accuracy", xlim=(lowest, 1.02), ylim=(lowest, 1.02))
        axis.set_title(f"{name}: calibration error {errors[name]:.3f}", fontsize=10)
    return _finish(figure)


def age_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """Predicted against labelled age, with the median and middle 80 % of predictions by label."""
    figure, axes = _figure(width=6, height=4.8)
    axis = axes[0, 0]
    axis.scatter(frame["age"], frame["age_pred"], s=6, alpha=0.35, color=BLUE, linewidth=0)
    axis.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1, label="label = prediction")
    by_decade = frame.groupby((frame["age"] // 10).rename("decade"))
    enough = by_decade.size() >= 10
    at = by_decade["age"].median()[enough]  # labels crowd within a decade, babies' most of all
    running = by_decade["age_pred"].quantile([0.1, 0.5, 0.9]).unstack()[enough]
    axis.plot(at, running[0.5], color=RED, label="median by decade")
    axis.fill_between(at, running[0.1], running[0.9], color=RED, alpha=0.15, label="middle 80 %")
    axis.set(xlabel="Age label (years)", ylabel="Predicted age (years)", title=title)
    axis.legend(loc="upper left")
    return _finish(figure)


def group_errors(table: pd.DataFrame, metric: str, label: str, title: str, reference: float | None = None) -> Figure:
    """A metric by age band (x) and a second grouping (colour), with intervals; masked groups are absent.

    Parameters
    ----------
    table : DataFrame
        age_band, a second grouping where there is one, n, and `metric` with its _low and _high.
    metric : str
    label : str
        Of the y axis.
    title : str
    reference : float, optional
        Value of a horizontal line.
    """
    hue = next((name for name in ("gender_name", "ethnicity_name") if name in table), None)
    groups = [(None, table)] if hue is None else list(table.groupby(hue, observed=True))
    figure, axes = _figure(width=9, height=3.6)
    bands = [band for band in AGE_BANDS if band in set(table["age_band"].astype(str))]
    for number, (name, part) in enumerate(groups):
        shown = part.dropna(subset=[metric])
        x = shown["age_band"].astype(str).map({band: at for at, band in enumerate(bands)}).astype(float)
        x += (number - (len(groups) - 1) / 2) * 0.13
        bars = [
            (shown[metric] - shown[f"{metric}_low"]).clip(lower=0),
            (shown[f"{metric}_high"] - shown[metric]).clip(lower=0),
        ]
        axes[0, 0].errorbar(x, shown[metric], yerr=bars, fmt="o", capsize=2, label=name, color=PALETTE[number])
    if reference is not None:
        axes[0, 0].axhline(reference, color=GREY, linestyle="--", linewidth=1)
    counts = table.groupby(table["age_band"].astype(str))["n"].sum()
    names = [f"{band}\nn = {counts[band]:,}" for band in bands]
    axes[0, 0].set(xticks=range(len(bands)), xticklabels=names, xlabel="Age band (years)", ylabel=label, title=title)
    axes[0, 0].tick_params(axis="x", labelsize=9)
    if hue is not None:
        axes[0, 0].legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
    return _finish(figure)


def raw_and_standardised(rates: pd.DataFrame, title: str) -> Figure:
    """Each group's raw and age-standardised numbers side by side with their intervals, a panel per measure.

    Parameters
    ----------
    rates : DataFrame
        From `standardised.standardise`.
    """
    names = {
        "mae": "Age MAE (years)",
        "gender_accuracy": "Gender accuracy",
        "ethnicity_accuracy": "Ethnicity accuracy",
    }
    shown = [name for name in names if name in set(rates["metric"])]
    drawn = rates.drop_duplicates("group").set_index("group")
    groups, begins = drawn["n"], np.flatnonzero(drawn["by"].ne(drawn["by"].shift()))[1:]
    figure, axes = _figure(max(1, len(shown)), width=11, height=1.5 + 0.34 * len(groups))
    for axis, metric in zip(axes.flat, shown, strict=False):
        part = rates[rates["metric"] == metric].set_index("group").loc[groups.index]
        for way, offset, colour, face in (("raw", -0.13, GREY, "white"), ("standardised", 0.13, BLUE, BLUE)):
            bars = [part[way] - part[f"{way}_low"], part[f"{way}_high"] - part[way]]
            axis.errorbar(
                part[way], np.arange(len(part)) + offset, xerr=np.clip(bars, 0, None), fmt="o", color=colour,
                markerfacecolor=face, markersize=5, capsize=2, label=way,
            )  # fmt: skip
        for at in begins:  # groups compare within their own grouping
            axis.axhline(at - 0.5, color=GREY, linewidth=0.8)
        labels = [f"{name}  (n = {n:,})" for name, n in groups.items()] if axis is axes[0, 0] else []
        axis.set(yticks=range(len(groups)), yticklabels=labels, ylim=(len(groups) - 0.5, -0.5), xlabel=names[metric])
        if metric != "mae":
            axis.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    if shown:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, fontsize=9, loc="outside lower center")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return _finish(figure)


def error_map(positions: np.ndarray, labels: np.ndarray, title: str) -> Figure:
    """A 2-d map of errors coloured by cluster; noise is grey."""
    figure, axes = _figure(width=7, height=5)
    for number in sorted(set(labels)):
        part = positions[labels == number]
        round_of, colour = divmod(number, len(PALETTE))
        look = {"color": PALETTE[colour], "marker": "o^s"[round_of % 3]}  # no two clusters look the same
        name, look = ("in no cluster", {"color": "#cccccc"}) if number < 0 else (f"cluster {number}", look)
        axes[0, 0].scatter(part[:, 0], part[:, 1], s=14, label=f"{name} ({len(part)})", alpha=0.8, linewidth=0, **look)
    axes[0, 0].set(xticks=[], yticks=[], title=title, xlabel="t-SNE; only neighbourhoods have a meaning")
    axes[0, 0].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return _finish(figure)


def attribution_grid(
    background: np.ndarray, maps: dict[tuple[str, str], np.ndarray], title: str, notes: dict | None = None
) -> Figure:
    """Attribution maps over one background picture: a row per method, a column per explained output.

    LIME's are green where they support and pink where they oppose the output, which colour-blind readers tell apart.
    `notes` are short texts below single maps, by output and method.
    """
    heads = list(dict.fromkeys(head for head, _ in maps))
    methods = list(dict.fromkeys(method for _, method in maps))
    figure, axes = plt.subplots(
        len(methods),
        len(heads),
        figsize=(max(1.5 * len(heads), 5), 1.55 * len(methods) + 0.6),
        squeeze=False,
        layout="constrained",
    )
    grey = background.mean(axis=2)
    for row, method in zip(axes, methods, strict=True):
        row[0].set_ylabel(method.replace("_", " "))
        for axis, head in zip(row, heads, strict=True):
            saliency = maps[head, method]
            axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
            signed = method == "lime"
            limit = np.abs(saliency).max() or 1
            low = -limit if signed else saliency.min()
            axis.imshow(saliency, cmap="PiYG" if signed else "magma", alpha=0.55, vmin=low, vmax=limit)
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel((notes or {}).get((head, method), ""), fontsize=8)
    scales = ["CAM: dark least, bright most"] * any(method != "lime" for method in methods)
    scales += ["LIME: green supports the output, pink opposes it"] * ("lime" in methods)
    figure.supxlabel(f"{'; '.join(scales)}; each map on a scale of its own", fontsize=9)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(
            head.replace("ethnicity_", "ethnicity\n").replace("_", " "), fontsize=9, loc="center", fontweight="normal"
        )
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return _finish(figure)


def region_outline(background: np.ndarray, regions: np.ndarray, names: tuple[str, ...]) -> Figure:
    """The region map over one picture, so that a reader can check where each region lies."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
    colours = mpl.colors.ListedColormap([*PALETTE, "#F0E442", "#DDDDDD"][: len(names)])
    axes[0].imshow(background)
    axes[1].imshow(background.mean(axis=2), cmap="gray")
    axes[1].imshow(regions, cmap=colours, alpha=0.5, vmin=-0.5, vmax=len(names) - 0.5, interpolation="nearest")
    for axis in axes:
        axis.axis("off")
    handles = [
        mpl.patches.Patch(color=colours(code), label=name.replace("_", " and ")) for code, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=8)
    return _finish(figure)


def region_heatmap(table: pd.DataFrame, regions: tuple[str, ...], area: np.ndarray) -> Figure:
    """Mean share of attribution per region as numbers, coloured by how often it is the region's share of the picture.

    A panel per method, a row per explained output; a row is empty where all its maps are flat.
    """
    methods = list(table["method"].unique())
    counts = table.groupby("method", sort=False)["head"].nunique()
    figure, axes = plt.subplots(
        len(methods), 1, figsize=(8.5, 0.27 * counts.sum() + 0.35 * len(methods) + 0.6), squeeze=False,
        layout="constrained", height_ratios=counts.loc[methods],
    )  # fmt: skip
    columns = [f"share_{name}" for name in regions]
    for axis, method in zip(axes[:, 0], methods, strict=True):
        part = table[table["method"] == method].groupby("head", sort=False)[columns].mean()
        drawn = sns.heatmap(
            np.log2(np.maximum(part.to_numpy(), 1e-3) / area), annot=100 * part, fmt=".0f", cmap="PiYG", vmin=-2,
            vmax=2, ax=axis, cbar=False, linewidths=0.5,
        )  # fmt: skip
        axis.set(title=f"{method.replace('_', ' ')}: % of attribution", ylabel="", xticklabels=[])
        axis.set_yticklabels([name.replace("_", " ") for name in part.index], rotation=0)
    names = [f"{name.replace('_', ', ')}\n{share:.0%}" for name, share in zip(regions, area, strict=True)]
    axes[-1, 0].set_xticklabels(names, rotation=0, fontsize=8)
    axes[-1, 0].set_xlabel("Region, and its share of the picture")
    bar = figure.colorbar(drawn.collections[0], ax=axes[:, 0], ticks=[-2, -1, 0, 1, 2], shrink=0.6)
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    bar.set_label("Attribution over area")
    return _finish(figure)


def faithfulness_curves(numbers: dict[tuple[str, str], np.ndarray], title: str) -> Figure:
    """Mean deletion and insertion curves: a column per explained output, a line per method; baselines dashed.

    Parameters
    ----------
    numbers : dict
        By head and method, a float array (2, steps + 1, n).
    """
    heads = list(dict.fromkeys(head for head, _ in numbers))
    figure, axes = plt.subplots(
        2, len(heads), figsize=(2.3 * len(heads) + 1.2, 4.6), squeeze=False, layout="constrained", sharex=True
    )
    colours = dict(
        zip(dict.fromkeys(method for _, method in numbers), [BLUE, ORANGE, GREEN, GREY, "#111111"], strict=False)
    )
    for (head, method), values in numbers.items():
        for axis, heights in zip(axes[:, heads.index(head)], values.mean(axis=2), strict=True):
            axis.plot(
                np.linspace(0, 1, len(heights)), heights, "--" if method in ("edges", "noise") else "-",
                color=colours[method], label=method.replace("_", " "), linewidth=1.4,
            )  # fmt: skip
    for head, column in zip(heads, axes.T, strict=True):
        column[0].set_title(head.replace("_", " "), fontsize=10)
        column[1].xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        for axis in column:
            axis.tick_params(labelsize=8)
    axes[0, 0].set_ylabel("Deletion (lower is better)", fontsize=9)
    axes[1, 0].set_ylabel("Insertion (higher is better)", fontsize=9)
    figure.supxlabel("Pixels changed, most salient first", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return _finish(figure)


def faithfulness_gains(gains: pd.DataFrame, title: str) -> Figure:
    """Each method's faithfulness minus a baseline's, with intervals: a panel per output, since their units differ."""
    heads, baselines = list(gains["head"].unique()), list(gains["baseline"].unique())
    methods = list(gains["method"].unique())
    figure, axes = _grid(len(heads), 4, width=10, height=2.1, sharey=True)
    places = np.arange(len(methods))
    for axis, head in zip(axes, heads, strict=True):
        for offset, colour, baseline in zip((-0.14, 0.14), (BLUE, ORANGE), baselines, strict=False):
            part = gains[(gains["head"] == head) & (gains["baseline"] == baseline)].set_index("method").loc[methods]
            errors = [part["value"] - part["low"], part["high"] - part["value"]]
            axis.errorbar(
                part["value"], places + offset, xerr=np.maximum(errors, 0), fmt="o", markersize=4, capsize=3,
                color=colour, label=f"against {baseline}",
            )  # fmt: skip
        axis.axvline(0, color=GREY, linestyle="--", linewidth=1)
        unit = "years" if head == "age" else "probability"
        axis.set(yticks=places, ylim=(len(methods) - 0.5, -0.5))
        axis.set_yticklabels([method.replace("_", " ") for method in methods])
        axis.set_xlabel(unit, fontsize=8)
        axis.set_title(head.replace("_", " "), fontsize=10)
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
        axis.tick_params(labelsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return _finish(figure)


def photo_with_boxes(photo: np.ndarray, boxes: list[tuple[int, int, int]], texts: list[str]) -> Figure:
    """A photograph with its face crops and what was predicted for each."""
    figure, axes = _figure(width=5, height=5)
    axes[0, 0].imshow(photo)
    for (left, top, edge), text in zip(boxes, texts, strict=True):
        axes[0, 0].add_patch(mpl.patches.Rectangle((left, top), edge, edge, fill=False, color=ORANGE, linewidth=2))
        axes[0, 0].text(left, top - 6, text, color="white", fontsize=9, va="bottom",
                        bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none"})  # fmt: skip
    axes[0, 0].axis("off")
    return _finish(figure)


def zoom_curve(table: pd.DataFrame, title: str) -> Figure:
    """Predicted age with its interval, and the probability of female, by the width of the crop."""
    figure, axes = _figure(2, width=9, height=3)
    axes[0, 0].fill_between(
        table["zoom"], table["age_low"], table["age_high"], color=SKY, alpha=0.3, label="90 % interval"
    )
    axes[0, 0].plot(table["zoom"], table["age_pred"], "o-", color=BLUE, label="predicted age")
    axes[0, 0].set(ylabel="Age (years)", title=title)
    axes[0, 0].legend()
    axes[0, 1].plot(table["zoom"], table["p_female"], "o-", color=ORANGE)
    axes[0, 1].set(ylabel="p(female)", ylim=(-0.02, 1.02))
    for axis in axes.flat:
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axis.set_xlabel("Crop width, 1 = as in training")
    return _finish(figure)


def margin_curves(table: pd.DataFrame, title: str) -> Figure:
    """Age error, gender accuracy and share flagged, with intervals, by the width of the crop."""
    panels = {
        "mae": ("Mean absolute error (years)", BLUE),
        "gender_accuracy": ("Gender accuracy", ORANGE),
        "unlike_training": ("Share flagged as unlike", GREEN),
    }
    figure, axes = _figure(len(panels), width=11, height=3)
    for axis, (name, (label, colour)) in zip(axes[0], panels.items(), strict=True):
        axis.fill_between(table["zoom"], table[f"{name}_low"], table[f"{name}_high"], color=colour, alpha=0.2, lw=0)
        axis.plot(table["zoom"], table[name], "o-", color=colour)
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axis.set(xlabel="Crop width, 1 = as in training", ylabel=label)
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 2].set_ylim(-0.02, 1.02)
    figure.suptitle(title, x=0.01, ha="left")
    return _finish(figure)


def may_show(run: RunFolder, show_faces: bool) -> bool:
    """Whether single faces of a run may be drawn: synthetic ones always, real ones only where the reader asked."""
    return run.is_synthetic or show_faces


def face_gallery(images: np.ndarray, faces: pd.DataFrame, title: str) -> Figure:
    """Single faces with their labels; only behind `may_show`."""
    titles = [
        f"{label_name('age', row.age)}, {label_name('gender', row.gender)}\n{label_name('ethnicity', row.ethnicity)}"
        for row in faces.itertuples()
    ]
    return image_grid(list(images), titles, title=title)


def doubted_gallery(images: np.ndarray, issues: pd.DataFrame, title: str) -> Figure:
    """Single faces with the label given and the one suggested; only behind `may_show`."""

    def said(attribute: str, value: float) -> str:
        return label_name(attribute, value) + (" y" if attribute == "age" else "")

    titles = [
        f"{said(row.attribute, row.given)},\nnot {said(row.attribute, row.suggested)}?" for row in issues.itertuples()
    ]
    return image_grid(list(images), titles, title=title)
