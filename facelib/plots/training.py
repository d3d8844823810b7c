"""Figures of notebook 03: losses and calibration."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from facelib.plots.style import BLUE, GREY, ORANGE, finish, new_figure, panel_grid


def training_curves(history: pd.DataFrame, losses: dict[str, str], kept: int) -> Figure:
    """Training and validation losses by epoch; `losses` gives each one's name and title, `kept` the epoch kept."""
    figure, axes = panel_grid(len(losses), 2, width=9, height=2.7)
    for axis, (name, label) in zip(axes, losses.items(), strict=True):
        for stage, colour in (("train", GREY), ("validation", BLUE)):
            axis.plot(history["epoch"] + 1, history[f"{stage}_{name}"], color=colour, label=stage, marker=".")
        axis.axvline(kept + 1, color=ORANGE, linewidth=1, linestyle="--", label="kept")
        axis.set(xlabel="Epoch", title=label)
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes[0].legend()
    return finish(figure)


def recipe_comparison(table: pd.DataFrame) -> Figure:
    """Measures of several recipes with their intervals, a panel each: variant, measure, value, low, high, n."""
    names = {
        "age.mae": "Age MAE (years)\nleft is better",
        "gender.accuracy": "Gender accuracy\nright is better",
        "ethnicity.accuracy": "Ethnicity accuracy\nright is better",
    }
    variants = list(dict.fromkeys(table["variant"]))
    figure, axes = new_figure(len(names), width=11, height=1.5 + 0.32 * len(variants))
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
    return finish(figure)


def reliability_diagram(points: dict[str, pd.DataFrame], errors: dict[str, float]) -> Figure:
    """Accuracy against confidence of each head, with its expected calibration error."""
    figure, axes = panel_grid(len(points), 2, width=8.4, height=3.6)
    for axis, (name, table) in zip(axes, points.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        bars = [(table["accuracy"] - table["low"]).clip(lower=0), (table["high"] - table["accuracy"]).clip(lower=0)]
        axis.errorbar(table["confidence"], table["accuracy"], yerr=bars, fmt="o-", color=BLUE, capsize=2)
        lowest = max(0, min(table["confidence"].min(), table["low"].min()) - 0.05)
        axis.set(xlabel="Confidence", ylabel="Accuracy", xlim=(lowest, 1.02), ylim=(lowest, 1.02))
        axis.set_title(f"{name}: calibration error {errors[name]:.3f}", fontsize=10)
    return finish(figure)
