"""Figures of notebook 09: photographs and the scale of crops."""

from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.evaluation.crop_scale import measures
from facelib.plots.style import BLUE, GREY, ORANGE, PALETTE, PURPLE, RED, SKY, class_colours, finish, new_figure, title
from facelib.prediction.ood import OOD_PERCENTILE
from facelib.prediction.photos import FaceResult
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import SHARE, YEARS

WIDTH = "Crop width, 1 = as in training"


def photo_with_faces(photo: np.ndarray, faces: Iterable[FaceResult]) -> Figure:
    """A photograph with its face crops and what was predicted for each."""
    figure, ((axis,),) = new_figure(width=5, height=5)
    axis.imshow(photo)
    for face in faces:
        left, top, edge = face.crop.box
        text = ", ".join([*face.summaries(), *["flagged"] * bool(face.warnings)])
        axis.add_patch(mpl.patches.Rectangle((left, top), edge, edge, fill=False, color=ORANGE, linewidth=2))
        axis.text(left, top - 6, text, color="white", fontsize=9, va="bottom",
                  bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none"})  # fmt: skip
    axis.axis("off")
    return finish(figure)


def zoom_curves(table: pd.DataFrame, attributes: Iterable[Attribute], heading: str) -> Figure:
    """Age with its interval, the probability of each class, and the OOD percentile, by the width of the crop."""
    attributes = tuple(attributes)
    panels = len(attributes) + 1
    figure, axes = new_figure(panels, width=4 * panels, height=3)
    for axis, attribute in zip(axes[0], (*attributes, None), strict=True):
        if attribute is None:
            axis.plot(table["zoom"], table["ood_percentile"], "o-", color=PURPLE, label="of calibration faces nearer")
            axis.axhline(OOD_PERCENTILE, color=RED, linewidth=1, label="flagged from here on")
            axis.set(ylabel="OOD percentile", ylim=(-2, 102))
        elif isinstance(attribute, ClassAttribute):
            colours = class_colours(attribute).items()
            for column, (name, colour) in zip(attribute.columns, colours, strict=True):
                axis.plot(table["zoom"], table[column], "o-", color=colour, label=name)
            axis.set(ylabel=f"{attribute.title}: probability", ylim=(-0.02, 1.02))
        else:
            predicted, _, low, high = (table[column] for column in attribute.columns)
            axis.fill_between(table["zoom"], low, high, color=SKY, alpha=0.3, label="90 % interval")
            axis.plot(table["zoom"], predicted, "o-", color=BLUE, label="predicted")
            axis.set(ylabel=f"{attribute.title} ({attribute.unit})")
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axis.set_xlabel(WIDTH)
        axis.legend()
    title(figure, heading)
    return finish(figure)


def crop_scale_curves(study: pd.DataFrame, attributes: Iterable[Attribute], heading: str) -> Figure:
    """Errors and share out of distribution, with intervals, by the width of the crop."""
    panels = measures(attributes)
    figure, axes = new_figure(len(panels), width=3.7 * len(panels), height=3)
    for axis, colour, (name, (label, unit)) in zip(axes[0], PALETTE * len(panels), panels.items(), strict=False):
        axis.fill_between(study["zoom"], study[f"{name}_low"], study[f"{name}_high"], color=colour, alpha=0.2, lw=0)
        axis.plot(study["zoom"], study[name], "o-", color=colour)
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1)
        label = f"{label} (years)" if unit == YEARS else label
        axis.set(xlabel=WIDTH, ylabel=label, ylim=(-0.02, 1.02) if unit == SHARE else (0, None))
    title(figure, heading)
    return finish(figure)
