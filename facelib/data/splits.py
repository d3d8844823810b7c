"""Splits that keep copies together and hold age band, gender and ethnicity in proportion; and published ones."""

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


def split_faces(
    faces: pd.DataFrame, group_id: np.ndarray, seed: int, shares: dict[str, float] = schema.SPLITS
) -> pd.DataFrame:
    """Assign every face to train, validation, calibration or test, whole groups at a time.

    Within each stratum (of the group's kept face) groups are shuffled and cut at the fractions of `shares` by
    systematic sampling with a random start, so that each stratum is in proportion to within one group.

    Parameters
    ----------
    faces : DataFrame
        The faces table.
    group_id : int array of shape (n,)
        Equal for copies of one photograph.
    seed : int
        Fixes the shuffle.
    shares : dict of float
        Of each split, in proportion; their order is that of the cut.

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
    edges = np.cumsum(list(shares.values()))
    edges = edges[:-1] / edges[-1]
    names = np.array(list(shares))[np.searchsorted(edges, quantile, side="right")]
    split_of = dict(zip(heads["group"], names, strict=True))
    return pd.DataFrame(
        {
            "image_id": faces["image_id"],
            "split": [split_of[group] for group in group_id],
            "group_id": group_id,
            "kept": kept,
        }
    )


def split_listed(faces: pd.DataFrame, group_id: np.ndarray, seed: int) -> pd.DataFrame:
    """Test the faces that a published split tests, and carve validation and calibration out of the others.

    Published splits let copies cross from training to test, and nothing is taken away from them here: see
    `copied_from_training`. Within the training list whole groups are assigned, as by `split_faces`. A face that both
    lists name is tested and not trained on.

    Parameters
    ----------
    faces : DataFrame
        The faces table, with the column `part`; see `facelib.data.protocols.follow`.
    group_id : int array of shape (n,)
        Equal for copies of one photograph, on whichever side.
    seed : int
        Fixes the shuffle.

    Returns
    -------
    DataFrame
        As of `split_faces`. Every tested face is `kept`, and one of each group in the training list.
    """
    trained = (faces["part"] == "train").to_numpy()
    shares = {name: share for name, share in schema.SPLITS.items() if name != "test"}
    carved = split_faces(faces[trained].reset_index(drop=True), group_id[trained], seed, shares)
    split, kept = np.full(len(faces), "test", dtype=object), np.ones(len(faces), bool)
    split[trained], kept[trained] = carved["split"], carved["kept"]
    return pd.DataFrame({"image_id": faces["image_id"], "split": split, "group_id": group_id, "kept": kept})


def leaking_pairs(splits: pd.DataFrame) -> int:
    """Number of pairs of copies that lie in different splits; only a published split may have any."""
    pairs = 0
    for _, members in splits.groupby("group_id"):
        sizes = members["split"].value_counts().to_numpy()
        pairs += int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
    return pairs


def copied_from_training(splits: pd.DataFrame) -> np.ndarray:
    """Which test images have a copy in another split: bool (n,). Only a published split has any.

    A copy that validation or calibration was carved from counts too: it comes from the training list, and something was
    chosen or fitted on it.

    Examples
    --------
    >>> splits = pd.DataFrame({"split": ["train", "test", "test", "validation", "test"], "group_id": [0, 0, 1, 2, 2]})
    >>> copied_from_training(splits).tolist()
    [False, True, False, False, True]
    """
    tested = (splits["split"] == "test").to_numpy()
    return tested & splits["group_id"].isin(splits.loc[~tested, "group_id"]).to_numpy()


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
