"""What a faces table holds: the images, the ages, and where the data are thin."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib.data.pixels import FaceImages
from facelib.finding import Finding, Findings, listed
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute, all_known, class_attributes, known_together
from facelib.statistics import Estimate, count, rate

THIN = 30  # images; cells with fewer are thin
SAMPLED = 500  # images whose brightness and colour are measured


def faces_findings(
    faces: pd.DataFrame, rejected: pd.DataFrame, attributes: Iterable[Attribute], label: str = ""
) -> Findings:
    """How many faces are used, what they are labelled with, and their ages; `label` is the run's."""
    names = listed(attribute.name for attribute in attributes)
    text = f"{len(faces):,} {label or 'faces'} are used, labelled with {names}; {len(rejected):,} items are rejected."
    findings = Findings([Finding("data.faces", text, count(len(faces), "images"))])
    for attribute in (a for a in attributes if not a.exact):
        counts = attribute.groups_of(faces).value_counts()
        text = (
            f"{attribute.title} is known by {len(counts)} bands of years, from {attribute.group_names[0]} to "
            f"{attribute.group_names[-1]}; the most frequent is {counts.index[0]}."
        )
        findings.append(Finding(f"data.{attribute.name}s", text, rate(int(counts.iloc[0]), int(counts.sum()))))
    if AGE in attributes:
        years = faces[AGE.name].describe()
        known = f"The {years['count']:,.0f} faces of known age" if years["count"] < len(faces) else "Ages"
        text = "{} run from {min:.0f} to {max:.0f} years with a median of {50%:.0f}.".format(known, **years)
        findings.append(
            Finding("data.ages", text, Estimate(years["50%"], np.nan, np.nan, int(years["count"]), "years"))
        )
    return findings


def reading_findings(run: RunFolder) -> Findings:
    """What a reader should know of how the labels were read: those that could not be used, merged classes, warnings."""
    notes = run.params["data"].get("notes", ())
    return Findings(Finding(f"data.reading.{number}", note) for number, note in enumerate(notes, 1))


def cells(faces: pd.DataFrame, attributes: tuple[Attribute, ...]) -> pd.Series:
    """Images in each combination of age band and classes, empty ones included, of those with all labels.

    Attributes that no image has beside those before are left out; see `schema.known_together`.
    """
    attributes = known_together(faces, attributes) or attributes[:1]
    known = faces[all_known(faces, attributes)]
    groups = [attribute.groups_of(known).rename(attribute.title) for attribute in attributes]
    return known.groupby(groups, observed=False).size().rename("images")


def imbalance_finding(counts: pd.Series, faces: pd.DataFrame, attributes: Iterable[Attribute]) -> Finding:
    """How many of `cells`'s combinations are thin, and how far the sizes of classes lie apart."""
    thin = int((counts < THIN).sum())
    names = listed("age band" if name == AGE.title else name.lower() for name in counts.index.names)
    text = f"{thin} of the {len(counts)} cells of {names} contain fewer than {THIN} images."
    widest = max(class_attributes(attributes), key=lambda attribute: len(attribute.classes), default=None)
    if widest is not None:
        shares = widest.groups(faces[widest.name]).value_counts()
        shares = shares[shares > 0]
        text += (
            f" The largest {widest.name} label, {shares.index[0]}, has {shares.iloc[0] / shares.iloc[-1]:.1f} times "
            f"the images of the smallest, {shares.index[-1]}."
        )
    return Finding("data.imbalance", text, rate(thin, len(counts)))


def images_finding(images: FaceImages) -> Finding:
    """Brightness of a sample, and how many of it are grey images in RGB."""
    sample = images[np.arange(0, len(images), max(1, len(images) // SAMPLED))]
    grey = np.ptp(sample.astype(int), axis=3).mean(axis=(1, 2)) < 2
    share = rate(int(grey.sum()), len(sample))
    text = (
        f"The images are cached as {images.px} x {images.px} RGB. In a sample of {len(sample)} the mean brightness is "
        f"{sample.mean():.0f} of 255, and {share.text} are greyscale."
    )
    return Finding("data.images", text, share)


def details(counts: pd.Series, faces: pd.DataFrame) -> dict:
    """What notebook 01 saves beside its findings: thin_cells, and ages where there are any."""
    ages = {"ages": faces[AGE.name].describe().to_dict()} if AGE.name in faces and faces[AGE.name].any() else {}
    return {"thin_cells": int((counts < THIN).sum()), **ages}
