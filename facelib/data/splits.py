"""Splits that keep copies together and hold age band, gender and ethnicity in proportion."""

import hashlib

import numpy as np
import pandas as pd

from facelib import schema


def stratum(faces: pd.DataFrame) -> pd.Series:
    """Age band, gender and ethnicity of each face as one text, the unit of stratification."""
    band = pd.Series(schema.age_band(faces["age"]), index=faces.index).astype(object).fillna("unknown")
    return band + "|" + faces["gender"].astype(str) + "|" + faces["ethnicity"].astype(str)


def keep_one(faces: pd.DataFrame, group_id: np.ndarray) -> np.ndarray:
    """Which row stands for its group: the one with most original pixels, ties broken by a digest of the image_id.

    The digest, and not the image_id itself, because UTKFace's names open with the age: the first name would be the
    youngest label.

    Returns
    -------
    bool array of shape (n,)
    """
    digest = [hashlib.sha256(image_id.encode()).hexdigest() for image_id in faces["image_id"]]
    order = pd.DataFrame(
        {"group": group_id, "pixels": -(faces["width"] * faces["height"]).to_numpy(), "digest": digest}
    ).sort_values(["group", "pixels", "digest"])
    kept = np.zeros(len(faces), bool)
    kept[order.drop_duplicates("group").index] = True
    return kept


def split_faces(faces: pd.DataFrame, group_id: np.ndarray, seed: int) -> pd.DataFrame:
    """Assign every face to train, validation, calibration or test, whole groups at a time.

    Within each stratum (of the group's kept face) groups are shuffled and cut at the fractions of `schema.SPLITS` by
    systematic sampling with a random start, so that each stratum is in proportion to within one group.

    Parameters
    ----------
    faces : DataFrame
        The faces table.
    group_id : int array of shape (n,)
        Equal for copies of one photograph.
    seed : int
        Fixes the shuffle.

    Returns
    -------
    DataFrame
        image_id, split, group_id, kept (the row that stands for its group), in the order of `faces`.
    """
    rng = np.random.default_rng(seed)
    kept = keep_one(faces, group_id)
    heads = pd.DataFrame({"group": group_id[kept], "stratum": stratum(faces)[kept].to_numpy()})
    heads = heads.sort_values("group").sample(frac=1, random_state=rng)
    grouped = heads.groupby("stratum", sort=True)
    count = grouped["group"].transform("size")
    start = grouped["group"].transform(lambda members: rng.random())
    quantile = (grouped.cumcount() + start) / count
    edges = np.cumsum(list(schema.SPLITS.values()))[:-1]
    names = np.array(list(schema.SPLITS))[np.searchsorted(edges, quantile, side="right")]
    split_of = dict(zip(heads["group"], names, strict=True))
    return pd.DataFrame(
        {
            "image_id": faces["image_id"],
            "split": [split_of[group] for group in group_id],
            "group_id": group_id,
            "kept": kept,
        }
    )


def leaking_pairs(splits: pd.DataFrame) -> int:
    """Number of pairs of copies that lie in different splits; 0 is the only acceptable value."""
    pairs = 0
    for _, members in splits.groupby("group_id"):
        sizes = members["split"].value_counts().to_numpy()
        pairs += int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
    return pairs


def fold_of_groups(group_id: np.ndarray, strata: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold number of each row for out-of-fold prediction; copies share a fold, strata are spread evenly.

    Parameters
    ----------
    group_id : int array of shape (n,)
    strata : array of str, shape (n,)
    folds : int
    seed : int

    Returns
    -------
    int array of shape (n,), values 0 to folds - 1
    """
    rng = np.random.default_rng(seed)
    heads = pd.DataFrame({"group": group_id, "stratum": strata}).drop_duplicates("group")
    heads = heads.sample(frac=1, random_state=rng).sort_values("stratum", kind="stable")
    fold = dict(zip(heads["group"], np.arange(len(heads)) % folds, strict=True))
    return np.array([fold[group] for group in group_id], dtype=int)
