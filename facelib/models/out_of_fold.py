"""Out-of-fold predictions of labels: each row is predicted by networks that saw neither it nor a copy of it."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib.config import Settings
from facelib.data.pixels import FaceImages, resize
from facelib.data.splits import fold_of_groups, stratum
from facelib.models.heads import HEADS
from facelib.models.network import predict_outputs
from facelib.models.training import train_scorer
from facelib.schema import Attribute, labelled


def predictions_table(
    outputs: dict[str, np.ndarray], attributes: Iterable[Attribute], temperatures: dict[str, float] | None = None
) -> pd.DataFrame:
    """Outputs of `predict_outputs` as the `columns` of attributes, their logits divided by `temperatures` by name."""
    table = {}
    for attribute in attributes:
        values = HEADS[attribute.kind].columns(attribute, outputs, (temperatures or {}).get(attribute.name, 1.0))
        table |= dict(zip(attribute.columns, values, strict=True))
    return pd.DataFrame(table).astype("float64")


def score_out_of_fold(
    faces: pd.DataFrame, images: FaceImages, splits: pd.DataFrame, attributes: tuple[Attribute, ...], settings: Settings
) -> pd.DataFrame:
    """Predict every label by networks that were trained without the row and without its copies.

    Training rows are predicted by the network of the fold that holds them out, all others by the mean of the fold
    networks. Faces, images and splits have the same rows, and so has the result: `columns` of the attributes, nan where
    no training face has the label; fold, -1 outside training.
    """
    audit = settings.audit
    small = resize(images, audit.label_px)
    train = np.flatnonzero(splits["split"] == "train")
    representative = splits["representative"].to_numpy()
    fold = np.full(len(faces), -1)
    strata, group_id = stratum(faces, attributes).to_numpy(), splits["group_id"].to_numpy()
    fold[train] = fold_of_groups(group_id[train], strata[train], audit.label_folds, settings.seed)
    trained = labelled(faces.iloc[train], attributes)
    columns = [column for attribute in trained for column in attribute.columns]
    sums = np.zeros((len(faces), len(columns)))
    for held_out in range(audit.label_folds):
        seen = np.flatnonzero((fold >= 0) & (fold != held_out) & representative)
        network = train_scorer(small, faces, seen, trained, settings)
        scored = np.flatnonzero((fold == held_out) | (fold == -1))
        share = np.where(fold[scored] == -1, 1 / audit.label_folds, 1.0)
        predicted = predictions_table(predict_outputs(network, small.take(scored)), trained)
        sums[scored] += predicted[columns].to_numpy() * share[:, None]
    table = pd.DataFrame(sums, columns=columns)
    return table.reindex(columns=[column for a in attributes for column in a.columns]).assign(fold=fold)
