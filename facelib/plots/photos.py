"""Figures of notebook 09: photographs and the scale of crops."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.plots.style import BLUE, GREEN, GREY, ORANGE, SKY, finish, new_figure


def photo_with_boxes(photo: np.ndarray, boxes: list[tuple[int, int, int]], texts: list[str]) -> Figure:
    """A photograph with its face crops and what was predicted for each."""
    figure, axes = new_figure(width=5, height=5)
    axes[0, 0].imshow(photo)
    for (left, top, edge), text in zip(boxes, texts, strict=True):
        axes[0, 0].add_patch(mpl.patches.Rectangle((left, top), edge, edge, fill=False, color=ORANGE, linewidth=2))
        axes[0, 0].text(left, top - 6, text, color="white", fontsize=9, va="bottom",
                        bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none"})  # fmt: skip
    axes[0, 0].axis("off")
    return finish(figure)


def zoom_curve(table: pd.DataFrame, title: str) -> Figure:
    """Predicted age with its interval, and the probability of female, by the width of the crop."""
    figure, axes = new_figure(2, width=9, height=3)
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
    return finish(figure)


def margin_curves(table: pd.DataFrame, title: str) -> Figure:
    """Age error, gender accuracy and share flagged, with intervals, by the width of the crop."""
    panels = {
        "mae": ("Mean absolute error (years)", BLUE),
        "gender_accuracy": ("Gender accuracy", ORANGE),
        "unlike_training": ("Share flagged as unlike", GREEN),
    }
    figure, axes = new_figure(len(panels), width=11, height=3)
    for axis, (name, (label, colour)) in zip(axes[0], panels.items(), strict=True):
        axis.fill_between(table["zoom"], table[f"{name}_low"], table[f"{name}_high"], color=colour, alpha=0.2, lw=0)
        axis.plot(table["zoom"], table[name], "o-", color=colour)
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axis.set(xlabel="Crop width, 1 = as in training", ylabel=label)
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 2].set_ylim(-0.02, 1.02)
    figure.suptitle(title, x=0.01, ha="left")
    return finish(figure)
