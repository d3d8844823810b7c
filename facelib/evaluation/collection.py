"""A baseline that sees no face but the time of collection: labels of the training faces collected nearest to it."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib.data.sessions import NEIGHBOURS, nearest_in_time, seconds
from facelib.evaluation.headline import evaluation_frame, headline_metrics, metrics_of
from facelib.finding import Finding, listed
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import Bootstrap, Estimate


def time_predictions(faces: pd.DataFrame, splits: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Predict the test faces whose time of collection is known, each by the `NEIGHBOURS` nearest training faces.

    Their median age, and their shares of each class. Columns: image_id and those of the attributes, nan where no
    training face has both a label and a time.
    """
    part, when = splits["split"].to_numpy(), seconds(faces["collected"])
    tested = np.flatnonzero((part == "test") & np.isfinite(when))
    columns = {"image_id": faces["image_id"].to_numpy()[tested]}
    for attribute in attributes:
        learned = np.flatnonzero((part == "train") & np.isfinite(when) & attribute.is_known(faces[attribute.name]))
        if not len(learned):
            continue
        labels = faces[attribute.name].to_numpy()[learned]
        near = labels[nearest_in_time(when[learned], when[tested])]
        if isinstance(attribute, ClassAttribute):
            shares = (near[:, :, None] == np.arange(len(attribute.classes))).mean(axis=1)
            columns |= dict(zip(attribute.columns, shares.T, strict=True))
        else:
            columns[attribute.columns[0]] = np.median(near, axis=1)
    names = [name for attribute in attributes for name in attribute.columns]
    return pd.DataFrame(columns).reindex(columns=["image_id", *names])


def time_baseline(
    faces: pd.DataFrame, splits: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """The headline metrics of `time_predictions`, below `by_time`; none where the data name no times."""
    attributes = tuple(attributes)
    if "collected" not in faces:
        return {}
    predictions = time_predictions(faces, splits, attributes)
    frame = evaluation_frame(faces, splits, predictions, ("test",), attributes)
    return headline_metrics(frame, attributes, "by_time", bootstrap)


def time_finding(results: dict[str, Estimate], attributes: Iterable[Attribute]) -> Finding:
    """How well collection time alone predicts each attribute."""
    phrases, n = [], 0
    for attribute in attributes:
        lead = metrics_of(attribute)[0]
        if estimate := results.get(f"by_time.{lead.key}"):
            phrases.append(f"{attribute.title.lower()} {lead.phrase.format(estimate.text)}")
            n = max(n, estimate.n)
    if not phrases:
        return Finding("test.by_time", "The data do not say when images were collected: no baseline by time.", n=0)
    text = (
        f"Predicted from the labels of the {NEIGHBOURS} training faces nearest in collection time alone, "
        f"{listed(phrases)}."
    )
    return Finding("test.by_time", text, n=n)
