"""Figures of notebook 03: losses by epoch, and calibration."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from facelib.plots.style import GREY, INK, SKY, error_bars, finish, label_lines, panel_grid
from facelib.statistics import CalibrationError


def training_curves(history: pd.DataFrame, titles: dict[str, str], used: int) -> Figure:
    """Training and validation by epoch, of each measure with a title; `used` is the epoch whose weights are used."""
    figure, axes = panel_grid(len(titles), 2, width=9, height=2.7)
    for axis, (name, label) in zip(axes, titles.items(), strict=True):
        for stage, colour in (("train", GREY), ("validation", INK)):
            axis.plot(history["epoch"] + 1, history[f"{stage}_{name}"], color=colour, marker=".")
        axis.axvline(used + 1, color=SKY, linewidth=1, linestyle="--", label="used")
        axis.set(xlabel="Epoch", title=label)
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        last = history.iloc[-1]
        label_lines(axis, [("train", last[f"train_{name}"], GREY), ("validation", last[f"validation_{name}"], INK)])
    axes[0].text(used + 1, axes[0].get_ylim()[1], " used", color=SKY, va="top", ha="right" if used else "left")
    return finish(figure)


def reliability_diagram(points: dict[str, pd.DataFrame], errors: dict[str, CalibrationError]) -> Figure:
    """Accuracy against confidence, a panel for each name, with the calibration error and that of chance alone."""
    figure, axes = panel_grid(len(points), 2, width=8.4, height=3.6)
    for axis, (name, table) in zip(axes, points.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        columns = (table[column] for column in ("confidence", "accuracy", "low", "high"))
        error_bars(axis, *columns, vertical=True, fmt="o-", capsize=2)
        lowest = max(0, min(table["confidence"].min(), table["low"].min()) - 0.05)
        axis.set(xlabel="Confidence", ylabel="Accuracy", xlim=(lowest, 1.02), ylim=(lowest, 1.02))
        error = errors[name]
        axis.set_title(f"{name}\nerror {error.observed:.3f}, by chance {error.by_chance:.3f}", fontsize=10)
    return finish(figure)
