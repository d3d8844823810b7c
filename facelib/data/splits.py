"""Splits that keep copies together and hold age bands and classes in proportion; and published ones."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib import schema
from facelib.finding import Finding, Findings
from facelib.schema import Attribute
from facelib.statistics import Estimate, count, format_value, rate

RANDOM_SPLITS = 20  # draws over which the copies that a random split lets cross are averaged


def stratum(faces: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.Series:
    """Age band and classes of each face as one text, the unit of stratification."""
    first, *others = (attribute.strata(faces[attribute.name]).astype(object) for attribute in attributes)
    return first.str.cat(others, sep="|") if others else first


def representatives(faces: pd.DataFrame, group_id: np.ndarray) -> np.ndarray:
    """Which row represents its group, bool (n,): the one with most original pixels, then by a digest of the image_id.

    Not by the image_id itself: UTKFace's names open with the age, so the first would be the youngest label.
    """
    digest = [hashlib.sha256(image_id.encode()).hexdigest() for image_id in faces["image_id"]]
    order = pd.DataFrame(
        {"group": group_id, "pixels": -(faces["width"] * faces["height"]).to_numpy(), "digest": digest}
    ).sort_values(["group", "pixels", "digest"])
    chosen = np.zeros(len(faces), bool)
    chosen[order.drop_duplicates("group").index] = True
    return chosen


def split_faces(
    faces: pd.DataFrame,
    group_id: np.ndarray,
    attributes: Iterable[Attribute],
    seed: int,
    shares: dict[str, float] = schema.SPLITS,
) -> pd.DataFrame:
    """Assign every face to train, validation, calibration or test, whole groups at a time.

    Within each stratum (of the group's representative) groups are shuffled and cut at the fractions of `shares` by
    systematic sampling with a random start, so that each stratum is in proportion to within one group.

    Parameters
    ----------
    faces : DataFrame
    group_id : int array of shape (n,)
        Equal for copies of one photograph.
    attributes : iterable of Attribute
        What the split is stratified by.
    seed : int
    shares : dict of float
        Of each split; their order is that of the cut.

    Returns
    -------
    DataFrame
        image_id, split, group_id, representative, in the order of `faces`.
    """
    rng = np.random.default_rng(seed)
    chosen = representatives(faces, group_id)
    groups = pd.DataFrame({"group": group_id[chosen], "stratum": stratum(faces, attributes)[chosen].to_numpy()})
    groups = groups.sort_values("group").sample(frac=1, random_state=rng)
    grouped = groups.groupby("stratum", sort=True)
    size = grouped["group"].transform("size")
    start = grouped["group"].transform(lambda members: rng.random())
    quantile = (grouped.cumcount() + start) / size
    edges = np.cumsum(list(shares.values()))
    names = np.array(list(shares))[np.searchsorted(edges[:-1] / edges[-1], quantile, side="right")]
    split = pd.Series(names, index=groups["group"]).loc[group_id].to_numpy()
    return _splits_table(faces, split, group_id, chosen)


def _splits_table(faces: pd.DataFrame, split, group_id: np.ndarray, representative: np.ndarray) -> pd.DataFrame:
    columns = {"image_id": faces["image_id"], "split": split, "group_id": group_id, "representative": representative}
    return pd.DataFrame(columns)


def split_listed(faces: pd.DataFrame, group_id: np.ndarray, attributes: Iterable[Attribute], seed: int) -> pd.DataFrame:
    """Test what a published split tests (column `part`), and carve validation and calibration out of its training list.

    Published splits let copies cross from training to test, and nothing is removed from them here: see
    `copied_from_training`. Within the training list whole groups are assigned, as by `split_faces`, whose table this
    returns. A face that both lists name is tested and not trained on. Every tested face is a representative.
    """
    trained = (faces["part"] == "train").to_numpy()
    shares = {name: share for name, share in schema.SPLITS.items() if name != "test"}
    carved = split_faces(faces[trained].reset_index(drop=True), group_id[trained], attributes, seed, shares)
    split, chosen = np.full(len(faces), "test", dtype=object), np.ones(len(faces), bool)
    split[trained], chosen[trained] = carved["split"], carved["representative"]
    return _splits_table(faces, split, group_id, chosen)


def leaking_pairs(splits: pd.DataFrame) -> int:
    """Number of pairs of copies that lie in different splits; only a published split may have any."""
    pairs = 0
    for _, members in splits.groupby("group_id"):
        sizes = members["split"].value_counts().to_numpy()
        pairs += int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
    return pairs


def random_split_pairs(splits: pd.DataFrame, seed: int) -> float:
    """Pairs of copies that a split of single images lets cross: the mean over `RANDOM_SPLITS` draws."""
    rng = np.random.default_rng(seed)
    drawn = (splits.assign(split=rng.permutation(splits["split"])) for _ in range(RANDOM_SPLITS))
    return float(np.mean([leaking_pairs(split) for split in drawn]))


def copied_from_training(splits: pd.DataFrame) -> np.ndarray:
    """Which test images have a copy in another split: bool (n,). Only a published split has any.

    A copy in validation or calibration counts too: it comes from the training list, and something was chosen or fitted
    on it.

    Examples
    --------
    >>> splits = pd.DataFrame({"split": ["train", "test", "test", "validation", "test"], "group_id": [0, 0, 1, 2, 2]})
    >>> copied_from_training(splits).tolist()
    [False, True, False, False, True]
    """
    tested = (splits["split"] == "test").to_numpy()
    return tested & splits["group_id"].isin(splits.loc[~tested, "group_id"]).to_numpy()


def split_measures(splits: pd.DataFrame) -> dict[str, Estimate]:
    """Headline metrics: copies that cross the split, within what is trained on, and into the test split."""
    tested = splits["split"] == "test"
    return {
        "splits.leaking_pairs": count(leaking_pairs(splits), "pairs"),
        "splits.leaking_pairs_within_training": count(leaking_pairs(splits[~tested]), "pairs"),
        "splits.copied_test_images": rate(int(copied_from_training(splits).sum()), int(tested.sum())),
    }


def split_findings(faces: pd.DataFrame, splits: pd.DataFrame, random_pairs: float, protocol: dict) -> Findings:
    """Copies that cross the split, and that a random split would let cross; and the published lists it follows, if any.

    `random_pairs` is from `random_split_pairs`, `protocol` the run's.
    """
    measured, tested = split_measures(splits), (splits["split"] == "test").to_numpy()
    leaks, within, copied = measured.values()
    text = (
        f"{leaks.text} pairs of copies cross the split, {within.text} of them between training, validation and "
        f"calibration. The test split holds {format_value(tested.mean(), 'share')} of the images."
    )
    findings = [
        Finding("split.leaks", text, leaks),
        Finding(
            "split.random",
            f"A random split of the same faces lets {random_pairs:.0f} pairs of copies cross, on average over "
            f"{RANDOM_SPLITS} draws.",
            Estimate(random_pairs, np.nan, np.nan, RANDOM_SPLITS, "pairs"),
        ),
    ]
    if protocol:
        identical = int(faces.loc[tested, "sha256"].isin(faces.loc[~tested, "sha256"]).sum())
        text = (
            f"The split follows the lists of {protocol['name']} (digest {protocol['digest']}): {(~tested).sum():,} "
            f"faces to train on and {tested.sum():,} to test. {round(copied.value * copied.n):,} test images have a "
            f"copy in the training list, {identical:,} of them byte-identical. They are tested as published and marked."
        )
        findings.append(Finding("split.protocol", text, copied))
    return Findings(findings)


def fold_of_groups(group_id: np.ndarray, strata: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row for out-of-fold prediction, int (n,) from 0; copies share a fold, strata are spread evenly."""
    rng = np.random.default_rng(seed)
    groups = pd.DataFrame({"group": group_id, "stratum": strata}).drop_duplicates("group")
    groups = groups.sample(frac=1, random_state=rng).sort_values("stratum", kind="stable")
    fold = pd.Series(np.arange(len(groups)) % folds, index=groups["group"])
    return fold.loc[group_id].to_numpy(int)
