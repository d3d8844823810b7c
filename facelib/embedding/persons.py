"""Groups of faces that the face network recognises as one person.

Distances are relative to those of unrelated faces (cohort normalisation, as in speaker recognition). By plain distance,
infants and other groups of which the network learned little are taken for each other: at a limit that 1 in 1,000 pairs
of the same labels is within, 17 in 1,000 are at ages 0 to 2. By relative distance, 3 in 1,000 are in the worst age band
(5,000 faces of UTKFace).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from facelib.data.pixels import chunks
from facelib.finding import Finding
from facelib.statistics import Estimate, rate

# 4,714 faces of UTKFace: within it are 96 % of 429 pairs of near copies, 2 in 10,000 random pairs of the same labels
# (an upper bound of false matches: some are of one person), and 52 of the 11 million pairs that are not copies.
PERSON_DISTANCE = 0.50
SEARCHED = 1.2  # times that distance: copies that were cropped, rotated or filtered lie further apart
COHORT = 3000  # faces, drawn at random, that stand for unrelated ones
COHORT_SHARE, COHORT_RANK = 0.02, 10  # how many of them, at least, may be of the same person
RANDOM_PAIRS = 200_000
BLOCK_ROWS, BLOCK_COLUMNS = 1024, 8192  # of the matrix of distances: 32 MB
LARGEST_COMPONENT = 4000  # faces whose distances are all held at once: 64 MB


class Pairs(NamedTuple):
    """Pairs of rows, first < second, and their relative distances: 1 is that of the most alike unrelated faces."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray


def unrelated_distances(descriptors: np.ndarray, seed: int = 0) -> np.ndarray:
    """How far each face lies from unrelated ones: from the closest 2 % of a random sample; float32 (n,)."""
    points = np.asarray(descriptors, np.float32)
    members = np.random.default_rng(seed).permutation(len(points))[:COHORT]
    rank = min(max(COHORT_RANK, round(COHORT_SHARE * len(members))), len(members) - 1)
    nearest, half = np.zeros(len(points), np.float32), (points**2).sum(axis=1) / 2
    for rows in chunks(len(points), BLOCK_ROWS) if rank > 0 else []:
        halved = half[rows, None] + half[members] - points[rows] @ points[members].T
        halved[rows[:, None] == members] = np.inf
        nearest[rows] = np.partition(halved, rank - 1, axis=1)[:, rank - 1]
    return np.sqrt(2 * np.maximum(nearest, 1e-6 + 1e-4 * half))  # above its rounding errors where all faces are equal


def close_pairs(descriptors: np.ndarray, unrelated: np.ndarray, limit: float = PERSON_DISTANCE) -> Iterator[Pairs]:
    """All pairs within a relative distance, each once, a block of the matrix of distances at a time.

    The relative distance of x and y is |x - y| / sqrt(unrelated of x * unrelated of y).

    Parameters
    ----------
    descriptors : float array (n, width)
    unrelated : float array (n,)
        From `unrelated_distances`.
    limit : float
    """
    points, scale = np.asarray(descriptors, np.float32), np.asarray(unrelated, np.float32)[:, None]
    # One product gives (limit^2 * scale of x * scale of y - |x - y|^2) / 2, at least 0 for a close pair.
    half, one = -(points**2).sum(axis=1, keepdims=True) / 2, np.ones_like(scale)
    left, right = np.hstack([points, half, one, scale * limit**2 / 2]), np.hstack([points, one, half, scale])
    for rows in chunks(len(points), BLOCK_ROWS):
        for columns in chunks(len(points) - rows[0], BLOCK_COLUMNS):
            spare = left[rows] @ right[rows[0] + columns[0] : rows[0] + columns[-1] + 1].T
            first, second = np.nonzero(spare >= 0)
            spare, first, second = spare[first, second], first + rows[0], second + rows[0] + columns[0]
            spare, first, second = (values[first < second] for values in (spare, first, second))
            squared = limit**2 - 2 * spare / (scale[first, 0] * scale[second, 0])
            yield Pairs(first.astype(np.int32), second.astype(np.int32), np.sqrt(np.maximum(squared, 0)))


def find_persons(descriptors: np.ndarray, limit: float = PERSON_DISTANCE, seed: int = 0) -> tuple[np.ndarray, Pairs]:
    """Which faces are of one person.

    Close pairs are joined. Average linkage then parts each group so that the mean relative distance between what is
    merged stays within the limit. Joining alone chains different persons: two false matches a face connect all faces.

    Parameters
    ----------
    descriptors : float array (n, 128)
        See `facelib.embedding.features.embed`. Persons with more than 2 % of all faces are not recognised.
    limit : float
        Relative distance.
    seed : int
        Of the sample of unrelated faces.

    Returns
    -------
    person_id : int array (n,)
        0 to the number of persons - 1.
    pairs : Pairs
        All pairs within `SEARCHED` times the limit, of one person or not.
    """
    points, unrelated = np.asarray(descriptors, np.float32), unrelated_distances(descriptors, seed)
    none = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    pairs = Pairs(*map(np.concatenate, zip(none, *close_pairs(points, unrelated, SEARCHED * limit), strict=True)))
    component, closer = (_connected(len(points), pairs, share * limit) for share in (1, 0.5))
    person_id, persons = np.empty(len(points), int), 0
    for rows in np.split(np.argsort(component, kind="stable"), np.cumsum(np.bincount(component))[:-1]):
        part = np.ones(len(rows), int)
        if len(rows) > LARGEST_COMPONENT:
            part = np.unique(closer[rows], return_inverse=True)[1] + 1
        elif len(rows) > 1:
            first, second = np.triu_indices(len(rows), 1)
            scale = np.sqrt(unrelated[rows[first]] * unrelated[rows[second]])
            part = fcluster(linkage(pdist(points[rows]) / scale, "average"), limit, "distance")
        person_id[rows] = persons + part - 1
        persons += part.max(initial=0)
    return person_id, pairs


def _connected(n: int, pairs: Pairs, limit: float) -> np.ndarray:
    """The component of each of n rows, by pairs within a distance."""
    near = pairs.distance <= limit
    links = coo_array((np.ones(near.sum(), bool), (pairs.first[near], pairs.second[near])), shape=(n, n))
    return connected_components(links, directed=False)[1] if n else np.zeros(0, int)


def persons_table(image_ids: np.ndarray, person_id: np.ndarray, pairs: Pairs) -> pd.DataFrame:
    """Faces of persons with two faces or more, in the order of `image_ids`.

    Returns
    -------
    DataFrame
        image_id, person_id, distance (relative, to the closest face of the same person), closest (its image_id).
    """
    same = pd.DataFrame(pairs._asdict())[person_id[pairs.first] == person_id[pairs.second]]
    both = pd.concat([same, same.rename(columns={"first": "second", "second": "first"})])
    both = both.sort_values(["first", "distance", "second"]).drop_duplicates("first")
    row, ids = both["first"].to_numpy(), np.asarray(image_ids, object)
    closest, distance = ids[both["second"]], both["distance"].to_numpy()
    return pd.DataFrame({"image_id": ids[row], "person_id": person_id[row], "distance": distance, "closest": closest})


def match_rate(
    descriptors: np.ndarray, strata: np.ndarray, group_id: np.ndarray, limit: float = PERSON_DISTANCE, seed: int = 0
) -> Estimate:
    """Share of random pairs of the same labels that are close: an upper bound of the false-match rate.

    Parameters
    ----------
    descriptors : float array (n, width)
    strata : array of str (n,)
        Labels; see `facelib.data.splits.stratum`.
    group_id : int array (n,)
        Equal for copies of one photograph, which make no pair.
    limit : float
        Relative distance.
    seed : int
    """
    points, unrelated = np.asarray(descriptors, np.float32), unrelated_distances(descriptors, seed)
    stratum, rng = pd.factorize(np.asarray(strata))[0], np.random.default_rng(seed)
    order, sizes = np.argsort(stratum, kind="stable"), np.bincount(stratum)
    first = rng.integers(0, len(points), RANDOM_PAIRS if len(points) else 0)
    second = order[(np.cumsum(sizes) - sizes)[stratum[first]] + rng.integers(0, sizes[stratum[first]])]
    different = np.asarray(group_id)[first] != np.asarray(group_id)[second]
    matches, first, second = 0, first[different], second[different]
    for part in chunks(len(first), BLOCK_COLUMNS):
        apart = np.linalg.norm(points[first[part]] - points[second[part]], axis=1)
        matches += int((apart <= limit * np.sqrt(unrelated[first[part]] * unrelated[second[part]])).sum())
    return rate(matches, len(first))


def match_finding(descriptors: np.ndarray, strata: np.ndarray, group_id: np.ndarray) -> Finding:
    """How often different photographs of the same labels are taken for one person; see `match_rate`."""
    false = match_rate(descriptors, strata, group_id)
    copies = known_match_rate(descriptors, group_id)
    text = (
        f"Of {false.n:,} random pairs with the same labels {10_000 * false.value:.1f} in 10,000 are taken for one "
        "person, an upper bound of the false matches."
    )
    if copies.n:
        text += f" Of {copies.n:,} pairs of copies {copies} are recognised."
    return Finding("persons.matches", text, false)


def known_match_rate(descriptors: np.ndarray, group_id: np.ndarray, limit: float = PERSON_DISTANCE) -> Estimate:
    """Share of photographs with a copy that are close to it: each of a group (n,) against the group's first."""
    points, unrelated = np.asarray(descriptors, np.float32), unrelated_distances(descriptors)
    rows = np.arange(len(points))
    first = pd.Series(rows).groupby(np.asarray(group_id)).transform("first").to_numpy()
    second, first = rows[rows != first], first[rows != first]
    apart = np.linalg.norm(points[first] - points[second], axis=1)
    return rate(int((apart <= limit * np.sqrt(unrelated[first] * unrelated[second])).sum()), len(first))
