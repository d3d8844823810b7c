"""Figures of notebook 01: labels and average faces."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from facelib.data.pixels import FaceImages
from facelib.plots.style import INK, average_face, class_colours, finish, image_grid, may_show, new_figure
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute, ClassAttribute, class_attributes

LEAST = 50  # different images behind an average face, should some be near copies
GALLERY = 21  # single faces


def first_of_two(attributes: tuple[Attribute, ...]) -> ClassAttribute | None:
    """The first attribute with two classes, which divides figures."""
    return next((attribute for attribute in class_attributes(attributes) if len(attribute.classes) == 2), None)


def label_distributions(faces: pd.DataFrame, attributes: tuple[Attribute, ...], note: str = "") -> Figure:
    """Ages, and counts of each class or band, all divided by the first attribute of two classes."""
    by = first_of_two(attributes)
    classes = [a for a in attributes if a not in (by, AGE)] or [by] * (by is not None)
    figure, axes = new_figure((AGE in attributes) + len(classes), width=10)
    panels, colours = list(axes[0]), class_colours(by) if by else None
    part = None if by is None else by.groups(faces[by.name]).rename(by.title)
    if AGE in attributes:
        axis = panels.pop(0)
        divided = {"color": INK} if by is None else {"hue": part, "multiple": "stack", "palette": colours}
        divided["legend"] = False
        ages = faces[AGE.name]
        ends = ages.min(), max(ages.max(), ages.min() + 2)  # seaborn needs a range, if only of one face
        bins = {"binwidth": 2, "binrange": ends} if ages.notna().any() else {}
        sns.histplot(x=ages, **divided, **bins, ax=axis, linewidth=0)
        axis.set(xlabel="Age label (years)", ylabel="Images", title=f"Ages, n = {faces[AGE.name].count():,}{note}")
    for axis, attribute in zip(panels, classes, strict=True):
        groups = attribute.groups_of(faces).rename(attribute.title)
        counts = groups.value_counts(sort=False).to_frame("Images")
        both = part is not None and attribute != by and bool((groups.notna() & part.notna()).any())
        if both:
            counts = pd.crosstab(groups, part).reindex(index=list(attribute.group_names), fill_value=0)
        colour = [colours[name] for name in counts] if both else INK
        counts.plot.barh(stacked=True, ax=axis, color=colour, width=0.75, legend=False)
        title = f"{attribute.title} labels" + (f" by {by.name}" if both else "")
        axis.set(xlabel="Images", ylabel=f"{attribute.title} label", title=title)
        axis.invert_yaxis()
    if by is not None:
        marks = [mpl.patches.Patch(color=colour, label=name) for name, colour in colours.items()]
        figure.legend(handles=marks, loc="outside right center")
    return finish(figure)


def joint_imbalance(counts: pd.Series) -> Figure:
    """Images by age band and classes, from `overview.cells`: where the data are thin."""
    table, has_ages = counts.to_frame(), AGE.title in counts.index.names
    if has_ages and counts.index.nlevels > 1:
        table = counts.unstack(AGE.title)
    elif has_ages:
        table = counts.to_frame("all").T
    rows = [", ".join(name) if isinstance(name, tuple) else name for name in table.index]
    figure, ((axis,),) = new_figure(height=1.2 + 0.3 * len(table))
    look = {"annot": table.to_numpy(), "fmt": ",d", "cmap": "viridis", "cbar": False, "linewidths": 0.5}
    colour = np.log10(table.to_numpy() + 1)
    sns.heatmap(colour, xticklabels=list(table.columns), yticklabels=rows, ax=axis, **look)
    axis.tick_params(axis="y", rotation=0)
    title = f"Images in each cell (colour: log count), n = {counts.sum():,}"
    axis.set(xlabel="Age band (years)" if has_ages else "", ylabel="", title=title)
    return finish(figure)


def average_faces(images: FaceImages, faces: pd.DataFrame, attributes: tuple[Attribute, ...], note: str = "") -> Figure:
    """The mean face of each age band, by the first attribute of two classes; grey for fewer than `LEAST` images."""
    by = first_of_two(attributes)
    sides = {"all": np.ones(len(faces), bool)}
    if by is not None:
        sides = {name: (faces[by.name] == code).to_numpy() for code, name in enumerate(by.classes)}
    bands = {"any age": np.ones(len(faces), bool)}
    for years in (attribute for attribute in attributes if not isinstance(attribute, ClassAttribute)):
        bands = {name: (years.groups_of(faces) == name).to_numpy() for name in years.group_names}
    first = ~faces["sha256"].duplicated().to_numpy()
    rows = {(side, band): np.flatnonzero(first & sides[side] & bands[band]) for side in sides for band in bands}
    averages = [average_face(images[members], LEAST) for members in rows.values()]
    titles = [f"{side}, {band}\nn = {len(members):,}" for (side, band), members in rows.items()]
    return image_grid(averages, titles, columns=len(bands), heading=f"Average faces{note}")


def random_faces(run: RunFolder, images: FaceImages, faces: pd.DataFrame, show_faces: bool) -> Figure | None:
    """A random draw of single faces with their labels, where they may be shown."""
    if not may_show(run, show_faces):
        return None
    rows = np.random.default_rng(run.settings.seed).permutation(len(faces))[:GALLERY]
    labels = list(zip(*(attribute.label_names(faces.iloc[rows]) for attribute in run.attributes), strict=True))
    titles = [", ".join(names[:2]) + "\n" + ", ".join(names[2:]) for names in labels]
    return image_grid(list(images[rows]), titles, heading=f"A random draw{run.note}")
