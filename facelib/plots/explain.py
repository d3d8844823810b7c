"""Figures of notebook 08: attribution maps and their faithfulness."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from facelib.plots.style import BLUE, GREEN, GREY, ORANGE, PALETTE, finish, panel_grid


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
    return finish(figure)


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
    return finish(figure)


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
    return finish(figure)


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
    return finish(figure)


def faithfulness_gains(gains: pd.DataFrame, title: str) -> Figure:
    """Each method's faithfulness minus a baseline's, with intervals: a panel per output, since their units differ."""
    heads, baselines = list(gains["head"].unique()), list(gains["baseline"].unique())
    methods = list(gains["method"].unique())
    figure, axes = panel_grid(len(heads), 4, width=10, height=2.1, sharey=True)
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
    return finish(figure)
