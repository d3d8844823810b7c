"""Crop-scale robustness: faces cropped tighter and wider than in training."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib import metrics
from facelib.finding import Finding, listed
from facelib.prediction.photos import FaceCrop, rezoom
from facelib.prediction.predictor import Predictor
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute, ClassAttribute
from facelib.statistics import SHARE, YEARS, Bootstrap, Estimate, format_value, rate

# Widths of the crop, 1 as in training; 1.8 adds 40 % of the face on each side.
ZOOMS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.8)
REPORTED = (1.25, 1.4, 1.8)


def zoom_faces(images: np.ndarray, zoom: float) -> np.ndarray:
    """Aligned faces (n, px, px, 3) cropped `zoom` times as wide about their centre, black beyond the image."""
    px = images.shape[1]
    return np.stack([rezoom(image, FaceCrop(image, (0, 0, px), True), zoom, px) for image in images])


def zoom_one(predictor: Predictor, photo: np.ndarray, crop: FaceCrop) -> pd.DataFrame:
    """Predictions for one face of a photograph at each of `ZOOMS`, in the column zoom."""
    crops = np.stack([rezoom(photo, crop, zoom, predictor.image_px) for zoom in ZOOMS])
    return predictor(crops).assign(zoom=ZOOMS)


def zoom_finding(table: pd.DataFrame, attributes: Iterable[Attribute]) -> Finding:
    """Finding photos.crop: how much the predictions of `zoom_one` vary."""
    ranges = [
        f"{np.ptp(attribute.probabilities(table), axis=0).max():.2f} in the probabilities of {attribute.name}"
        if isinstance(attribute, ClassAttribute)
        else f"{np.ptp(attribute.decode(table)):.1f} {attribute.unit} in {attribute.name}"
        for attribute in attributes
    ]
    ranges.append(f"{np.ptp(table['ood_percentile']):.0f} points in the out-of-distribution percentile")
    widths = f"{table['zoom'].min():g} and {table['zoom'].max():g}"
    text = f"Between {widths} times the training crop, the predictions vary by {listed(ranges)}."
    return Finding("photos.crop", text, n=1)


def sample_faces(run: RunFolder, attributes: Iterable[Attribute], most: int) -> np.ndarray:
    """Rows of `most` validation faces or fewer, one per copy group, labelled with any of the attributes."""
    faces, splits = run.load_table("faces"), run.load_table("splits")
    usable = splits["representative"] & (splits["split"] == "validation")
    usable &= np.any([attribute.is_known(faces[attribute.name]) for attribute in attributes], axis=0)
    return np.sort(np.random.default_rng(run.settings.seed).permutation(np.flatnonzero(usable))[:most])


def measures(attributes: Iterable[Attribute]) -> dict[str, tuple[str, str]]:
    """Title and unit of what `study_crop_scale` measures, by column."""
    columns = {}
    for attribute in attributes:
        is_class = isinstance(attribute, ClassAttribute)
        name, title, unit = ("accuracy", "accuracy", SHARE) if is_class else ("mae", "error", YEARS)
        columns[f"{attribute.name}_{name}"] = f"{attribute.title} {title}", unit
    return columns | {"out_of_distribution": ("Share out of distribution", SHARE)}


def study_crop_scale(
    predictor: Predictor, images: np.ndarray, labels: pd.DataFrame, bootstrap: Bootstrap, zooms=ZOOMS
) -> pd.DataFrame:
    """Errors of the same faces by the width of their crop; `zooms` include 1, to which the others are compared.

    Takes images uint8 (n, px, px, 3) cropped as in training, one per copy group, and their labels, a column per
    attribute of the predictor. Columns: zoom, n, those of `measures`, and age_change (years, against zoom 1 on the same
    faces), with _low and _high. Each attribute is scored on the faces that are labelled with it.
    """
    tables = {zoom: predictor(zoom_faces(images, zoom)) for zoom in zooms}
    rows = []
    for zoom, table in tables.items():
        row = {"zoom": zoom, "n": len(table)}
        for attribute in predictor.attributes:
            known = attribute.is_known(labels[attribute.name])
            y_true = labels[attribute.name].to_numpy(float)[known]
            predicted, reference = (attribute.decode(one).to_numpy()[known] for one in (table, tables[1.0]))
            if isinstance(attribute, ClassAttribute):
                right = rate((predicted == y_true).sum(), len(y_true))
                row |= right.columns(f"{attribute.name}_accuracy")
            else:
                error, before = (np.abs(metrics.whole_years(age) - y_true) for age in (predicted, reference))
                row |= bootstrap(np.mean, error).columns(f"{attribute.name}_mae")
                row |= bootstrap(np.mean, error - before).columns(f"{attribute.name}_change")
        flagged = rate(table["out_of_distribution"].sum(), len(table))
        rows.append(row | flagged.columns("out_of_distribution"))
    return pd.DataFrame(rows)


def crop_scale_results(study: pd.DataFrame, attributes: Iterable[Attribute]) -> tuple[dict[str, Estimate], Finding]:
    """Changes of the age error, in years, at `REPORTED` crops, and finding photos.crop_scale."""
    rows, shown = study.set_index("zoom"), measures(attributes)
    headline, texts = {}, []
    for zoom in (1.0, *REPORTED):
        row = rows.loc[zoom]
        values = [f"{title.lower()} {format_value(row[name], unit)}" for name, (title, unit) in shown.items()]
        texts.append(f"{f'{zoom:g} times as wide' if zoom in REPORTED else 'As in training'}: {listed(values)}")
        if zoom in REPORTED and "age_change" in row:
            ends = (row[f"age_change{end}"] for end in ("", "_low", "_high"))
            headline[f"validation.crop_{zoom:g}.{AGE.name}.mae_change"] = Estimate(*ends, int(row["n"]), YEARS)
    n = int(study["n"].iloc[0])
    text = f"Validation faces (n = {n:,}) by the width of their crop. {'. '.join(texts)}."
    return headline, Finding("photos.crop_scale", text, headline.get(f"validation.crop_1.4.{AGE.name}.mae_change"), n)
