"""Predictions of labels by networks that never saw the row they score."""

import numpy as np
import pandas as pd

from facelib.config import Profile
from facelib.data.pixels import FaceImages, resize
from facelib.data.splits import fold_of_groups, stratum
from facelib.models.losses import OPINIONS
from facelib.models.network import predict_outputs, sigmoid, softmax
from facelib.models.training import train_scorer
from facelib.schema import P_ETHNICITY, labelled, without_unlearned


def predictions_table(outputs: dict[str, np.ndarray]) -> pd.DataFrame:
    """Outputs as columns: age_pred, age_spread (years, nan for a linear head), p_female, p_ethnicity_0 to 4."""
    spread = outputs.get("age_spread", np.full(len(outputs["age"]), np.nan))
    table = pd.DataFrame({"age_pred": outputs["age"], "age_spread": spread, "p_female": sigmoid(outputs["gender"])})
    table[list(P_ETHNICITY)] = softmax(outputs["ethnicity"])
    return table.astype("float64")


def opinions_table(scores: pd.DataFrame) -> pd.DataFrame:
    """What the networks of `score_out_of_fold` say of the training rows; nan for all others, which they all saw.

    Examples
    --------
    >>> scores = pd.DataFrame({"age_pred": [20.0, 30.0], "fold": [1, -1]} | dict.fromkeys(OPINIONS[1:], 0.5))
    >>> opinions_table(scores)["age_pred"].tolist()
    [20.0, nan]
    """
    return scores[list(OPINIONS)].where(scores["fold"] >= 0)


def score_out_of_fold(faces: pd.DataFrame, images: FaceImages, splits: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Predict every label by networks that were trained without the row and without its copies.

    Training rows are predicted by the network of the fold that holds them out. All other rows are predicted by the
    mean of the fold networks, each trained within the training split.

    Parameters
    ----------
    faces : DataFrame
    images : FaceImages
        By row of `faces`.
    splits : DataFrame
        From `split_faces`, in the order of `faces`.
    profile : Profile
        label_folds, label_epochs, label_px.

    Returns
    -------
    DataFrame
        In the order of `faces`: age_pred and age_spread (years), p_female, p_ethnicity_0 to 4 (nan where no training
        face has the label), fold (-1 outside training).
    """
    small = resize(images, profile.label_px)
    train = np.flatnonzero(splits["split"] == "train")
    kept = splits["kept"].to_numpy()
    fold = np.full(len(faces), -1)
    strata = stratum(faces).to_numpy()
    fold[train] = fold_of_groups(splits["group_id"].to_numpy()[train], strata[train], profile.label_folds, profile.seed)
    columns = list(OPINIONS)
    sums = np.zeros((len(faces), len(columns)))
    for held_out in range(profile.label_folds):
        seen = np.flatnonzero((fold >= 0) & (fold != held_out) & kept)
        network = train_scorer(small, faces, seen, profile)
        scored = np.flatnonzero((fold == held_out) | (fold == -1))
        share = np.where(fold[scored] == -1, 1 / profile.label_folds, 1.0)
        predicted = predictions_table(predict_outputs(network, small.take(scored)))
        sums[scored] += predicted[columns].to_numpy() * share[:, None]
    return without_unlearned(pd.DataFrame(sums, columns=columns), labelled(faces.iloc[train])).assign(fold=fold)
