"""Figures of notebook 09: photographs, and predictions by the alignment of the face."""

import textwrap
from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from facelib.evaluation.misalignment import MISALIGNMENTS, measures
from facelib.plots.style import GREY, INK, RED, class_colours, finish, label_lines, new_figure, title
from facelib.prediction.answers import FaceResult, draw_faces
from facelib.prediction.ood import OOD_PERCENTILE
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import SHARE, YEARS


def photo_with_faces(photo: Image.Image, faces: Iterable[FaceResult]) -> Figure:
    """A photograph with the frames of its faces and what was predicted for each."""
    figure, ((axis,),) = new_figure(width=6, height=6)
    axis.imshow(draw_faces(photo, faces))
    axis.axis("off")
    return finish(figure)


def _rows(table: pd.DataFrame, panels: int) -> tuple[Figure, list[tuple[pd.DataFrame, list[Axes]]]]:
    """A figure with a row of panels for each kind of misalignment, whose rows of the table come with the axes."""
    kinds = list(table.groupby("kind", sort=False))
    figure, axes = new_figure(panels, rows=len(kinds), width=3.4 * panels, height=2.5)
    for (kind, _), row in zip(kinds, axes, strict=True):
        for axis in row:
            axis.axvline(MISALIGNMENTS[kind].aligned, color=GREY, linestyle=":", linewidth=1)
            axis.set_xlabel(MISALIGNMENTS[kind].label)
    return figure, [(rows, list(row)) for (_, rows), row in zip(kinds, axes, strict=True)]


def one_face_curves(table: pd.DataFrame, attributes: Iterable[Attribute], heading: str) -> Figure:
    """Age with its interval, the probability of each class, and the OOD percentile, by each misalignment of a face."""
    attributes = tuple(attributes)
    figure, rows = _rows(table, len(attributes) + 1)
    for part, axes in rows:
        for axis, attribute in zip(axes, (*attributes, None), strict=True):
            _one_face_panel(axis, part, attribute)
    title(figure, heading)
    return finish(figure)


def _one_face_panel(axis: Axes, table: pd.DataFrame, attribute: Attribute | None) -> None:
    """One attribute, or the OOD percentile, by the amount of a misalignment."""
    x = table["amount"]
    if attribute is None:
        axis.plot(x, table["ood_percentile"], "o-", color=INK)
        axis.axhline(OOD_PERCENTILE, color=RED, linewidth=1)
        axis.set(ylabel="OOD percentile", ylim=(-2, 102))
        label_lines(axis, [("flagged", OOD_PERCENTILE, RED)])
    elif isinstance(attribute, ClassAttribute):
        colours, ends = class_colours(attribute).items(), []
        for column, (name, colour) in zip(attribute.columns, colours, strict=True):
            axis.plot(x, table[column], "o-", color=colour)
            ends.append((name, table[column].iloc[-1], colour))
        axis.set(ylabel=f"{attribute.title}: probability", ylim=(-0.02, 1.02))
        label_lines(axis, ends)
    else:
        predicted, _, low, high = (table[column] for column in attribute.columns)
        axis.fill_between(x, low, high, color=INK, alpha=0.2, linewidth=0)
        axis.plot(x, predicted, "o-", color=INK)
        label_lines(axis, [("90 % interval", high.iloc[-1], INK)])
        axis.set(ylabel=f"{attribute.title} ({attribute.unit})")


def misalignment_curves(study: pd.DataFrame, attributes: Iterable[Attribute], heading: str) -> Figure:
    """Errors and share out of distribution, with intervals, by each misalignment."""
    panels = measures(attributes)
    figure, rows = _rows(study, len(panels))
    for part, axes in rows:
        for axis, (name, (label, unit)) in zip(axes, panels.items(), strict=True):
            axis.fill_between(part["amount"], part[f"{name}_low"], part[f"{name}_high"], color=INK, alpha=0.2, lw=0)
            axis.plot(part["amount"], part[name], "o-", color=INK)
            label = f"{label} (years)" if unit == YEARS else label
            axis.set(ylabel=textwrap.fill(label, 16), ylim=(-0.02, 1.02) if unit == SHARE else (0, None))
    title(figure, heading)
    return finish(figure)
