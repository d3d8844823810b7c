"""Figures of notebook 01: labels and average faces."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from facelib.plots.style import GENDER_COLOURS, finish, image_grid, new_figure
from facelib.schema import AGE_BANDS, CLASS_NAMES, GENDERS, age_band, is_known, label_name, labelled


def label_distributions(faces: pd.DataFrame, note: str = "") -> Figure:
    """Ages by gender, and counts of ethnicity and gender, of those that are labelled."""
    there = labelled(faces)
    classes = [name for name in ("ethnicity", "gender") if name in there]
    figure, axes = new_figure(("age" in there) + bool(classes), width=10)
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
    return finish(figure)


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
    figure, axes = new_figure(height=1.2 + 0.3 * len(counts))
    sns.heatmap(
        np.log10(counts.to_numpy() + 1), annot=counts.to_numpy(), fmt=",d", cmap="viridis", cbar=False, ax=axes[0, 0],
        xticklabels=bands, yticklabels=list(counts.index), linewidths=0.5,
    )  # fmt: skip
    axes[0, 0].tick_params(axis="y", rotation=0)
    axes[0, 0].set(
        xlabel="Age band (years)", ylabel="", title=f"Images in each cell (colour: log count), n = {len(known):,}"
    )
    return finish(figure)


def face_gallery(images: np.ndarray, faces: pd.DataFrame, title: str) -> Figure:
    """Single faces with their labels; only behind `may_show`."""
    titles = [
        f"{label_name('age', row.age)}, {label_name('gender', row.gender)}\n{label_name('ethnicity', row.ethnicity)}"
        for row in faces.itertuples()
    ]
    return image_grid(list(images), titles, title=title)
