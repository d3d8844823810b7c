"""Figures of notebook 08: attribution maps, where they point, and their faithfulness."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from facelib.explain.faithfulness import beats_all
from facelib.explain.methods import BASELINES, METHODS
from facelib.explain.regions import REGIONS, SHARES, edge_rows
from facelib.plots.style import CLASSES, GREY, PALETTE, error_bars, finish, new_figure, panel_grid
from facelib.plots.style import title as set_title


def _title(name: str) -> str:
    return (METHODS | BASELINES)[name].title


def attribution_grid(
    background: np.ndarray, maps: dict[tuple[str, str], np.ndarray], title: str, notes: dict | None = None
) -> Figure:
    """Maps over one background picture: a row per method, a column per output; `notes` are short texts below maps."""
    heads, names = (list(dict.fromkeys(key)) for key in zip(*maps, strict=True))
    figure, axes = new_figure(len(heads), len(names), max(1.5 * len(heads), 5), 1.55 + 0.6 / len(names))
    signed = {name: METHODS[name].signed for name in names}
    for row, name in zip(axes, names, strict=True):
        row[0].set_ylabel(_title(name))
        for axis, head in zip(row, heads, strict=True):
            saliency = maps[head, name]
            limit = np.abs(saliency).max() or 1
            low, colours = (-limit, "PiYG") if signed[name] else (saliency.min(), "magma")
            axis.imshow(background.mean(axis=2), cmap="gray", vmin=0, vmax=255)
            axis.imshow(saliency, cmap=colours, alpha=0.55, vmin=low, vmax=limit)
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel((notes or {}).get((head, name), ""), fontsize=8)
    # Green and pink, which colour-blind readers can distinguish.
    scales = {False: "dark least, bright most", True: "green supports the output, pink opposes it"}
    of = {sign: ", ".join(_title(name) for name in names if signed[name] == sign) for sign in scales}
    texts = [f"{of[sign]}: {text}" for sign, text in scales.items() if of[sign]]
    figure.supxlabel(f"{'; '.join(texts)}; each map on its own scale", fontsize=9)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head.replace("_", "\n"), fontsize=9, loc="center", fontweight="normal")
    set_title(figure, title)
    return finish(figure)


def region_outline(background: np.ndarray, regions: np.ndarray) -> Figure:
    """The region map over one picture, so that a reader can check where each region lies."""
    figure, ((left, right),) = new_figure(2, width=7, height=3.4)
    colours = mpl.colors.ListedColormap([*CLASSES[: len(REGIONS) - 1], "#DDDDDD"])
    left.imshow(background)
    right.imshow(background.mean(axis=2), cmap="gray")
    right.imshow(regions, cmap=colours, alpha=0.5, vmin=-0.5, vmax=len(REGIONS) - 0.5, interpolation="nearest")
    for axis in (left, right):
        axis.axis("off")
    named = enumerate(name.replace("_", " and ") for name in REGIONS)
    handles = [mpl.patches.Patch(color=colours(code), label=name) for code, name in named]
    figure.legend(handles=handles, loc="outside right center", fontsize=8)
    return finish(figure)


def region_heatmap(table: pd.DataFrame, area: dict[str, float]) -> Figure:
    """Mean share of attribution per region as numbers, coloured by its ratio to the region's share of the picture.

    A panel per method and one for the edge map, a row per output; a row is empty where all its maps are flat.
    """
    parts = [table[table["method"] == name] for name in METHODS] + [edge_rows(table)]
    heights = [part["head"].nunique() for part in parts]
    height = (0.27 * sum(heights) + 0.35 * len(parts) + 0.6) / len(parts)
    figure, axes = new_figure(1, len(parts), 8.5, height, height_ratios=heights)
    for axis, part in zip(axes[:, 0], parts, strict=True):
        shares = part.groupby("head", sort=False)[SHARES].mean()
        ratio = np.log2(np.maximum(shares.to_numpy(), 1e-3) / np.array(list(area.values())))
        look = {"annot": 100 * shares, "fmt": ".0f", "cmap": "PiYG", "vmin": -2, "vmax": 2, "linewidths": 0.5}
        heatmap = sns.heatmap(ratio, ax=axis, cbar=False, **look)
        axis.set(title=f"{_title(part['method'].iloc[0])}: % of attribution", ylabel="", xticklabels=[])
        axis.set_yticklabels([name.replace("_", " ") for name in shares.index], rotation=0)
    names = [f"{name.replace('_', ', ')}\n{share:.0%}" for name, share in area.items()]
    axes[-1, 0].set_xticklabels(names, rotation=0, fontsize=8)
    axes[-1, 0].set_xlabel("Region, and its share of the picture")
    bar = figure.colorbar(heatmap.collections[0], ax=axes[:, 0], ticks=[-2, -1, 0, 1, 2], shrink=0.6)
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    bar.set_label("Attribution over area")
    return finish(figure)


def faithfulness_curves(numbers: dict[tuple[str, str], np.ndarray], title: str) -> Figure:
    """Mean deletion and insertion curves from `faithfulness.mean_curves`: a column per output; baselines dashed."""
    heads = list(dict.fromkeys(head for head, _ in numbers))
    figure, axes = new_figure(len(heads), 2, 2.3 * len(heads) + 1.2, 2.3, sharex=True)
    for (head, name), values in numbers.items():
        look = {"color": (METHODS | BASELINES)[name].colour, "label": _title(name), "linewidth": 1.4}
        for axis, heights in zip(axes[:, heads.index(head)], values.mean(axis=2), strict=True):
            axis.plot(np.linspace(0, 1, len(heights)), heights, "--" if name in BASELINES else "-", **look)
    for head, column in zip(heads, axes.T, strict=True):
        column[0].set_title(head.replace("_", " "), fontsize=10)
        column[1].xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        for axis in column:
            axis.tick_params(labelsize=8)
    axes[0, 0].set_ylabel("Deletion (lower is better)", fontsize=9)
    axes[1, 0].set_ylabel("Insertion (higher is better)", fontsize=9)
    figure.supxlabel("Pixels changed, most salient first", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    set_title(figure, title)
    return finish(figure)


def faithfulness_gains(gains: pd.DataFrame, title: str) -> Figure:
    """Each method's faithfulness minus a baseline's, with intervals: a panel per output, since units differ."""
    heads, names = list(gains["head"].unique()), list(gains["method"].unique())
    figure, axes = panel_grid(len(heads), 4, width=10, height=2.1, sharey=True)
    places = np.arange(len(names))
    for axis, head in zip(axes, heads, strict=True):
        rows = gains[gains["head"] == head]
        for k, (baseline, part) in enumerate(rows.groupby("baseline", sort=False)):
            part = part.set_index("method").loc[names]
            look = {"markersize": 4, "color": PALETTE[k], "label": f"against {_title(baseline)}"}
            error_bars(axis, places + 0.28 * k - 0.14, part["value"], part["low"], part["high"], **look)
        axis.axvline(0, color=GREY, linestyle="--", linewidth=1)
        axis.set(yticks=places, ylim=(len(names) - 0.5, -0.5))
        axis.set_yticklabels([_title(name) for name in names])
        axis.set_xlabel(rows["unit"].iloc[0], fontsize=8)
        axis.set_title(head.replace("_", " "), fontsize=10)
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
        axis.tick_params(labelsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    set_title(figure, title)
    return finish(figure)


def mean_maps(background: np.ndarray, maps: dict[tuple[str, str], np.ndarray], gains: pd.DataFrame, title: str):
    """Mean maps of the methods over one background picture; those not shown to beat every baseline are marked."""
    means = {key: values.mean(axis=0) for key, values in maps.items() if key[1] in METHODS}
    won = beats_all(gains)
    notes = {key: "" if won[key] else "not shown to beat both" for key in means}
    return attribution_grid(background, means, title, notes)
