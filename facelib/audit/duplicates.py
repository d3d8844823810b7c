"""Copies of one photograph: byte-identical ones, and near ones found by perceptual hash and confirmed by pixels.

Aligned faces all look alike to a 64-bit hash, so a hash alone calls thousands of different people copies. Here it only
proposes; a pair counts as a copy when the aligned grey pixels correlate.
"""

import imagehash
import joblib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facelib.data import FaceImages
from facelib.schema import ATTRIBUTES, UNKNOWN

HASH_RADIUS = 10  # bits of 64; on UTKFace nearly every confirmed copy is closer
MIN_CORRELATION = 0.97  # set by eye on 84 pairs of UTKFace between 0.90 and 0.98: mostly copies from 0.96 on
CONFIRM_PX = 32  # edge of the compared grey images, pixels
MAX_SHIFT = 2  # pixels of the compared images; covers a slight crop
BLOCK = 512  # rows of the hash table compared at a time


def _grey(images: np.ndarray, px: int) -> np.ndarray:
    """Grey float32 images of edge px from uint8 RGB ones."""
    small = [Image.fromarray(image).convert("L").resize((px, px), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(image, np.float32) for image in small])


def _hash_chunk(images: np.ndarray) -> np.ndarray:
    """PHash of each image and of its mirror image, as uint64 (n, 2)."""
    bits = np.stack(
        [[imagehash.phash(Image.fromarray(view)).hash.ravel() for view in (image, image[:, ::-1])] for image in images]
    )
    return np.packbits(bits, axis=2).view(np.uint64)[..., 0]


def perceptual_hashes(images: FaceImages, n_jobs: int = -1) -> np.ndarray:
    """64-bit pHash of every image and of its mirror image.

    Returns
    -------
    uint64 array of shape (n, 2)
    """
    chunks = np.array_split(np.arange(len(images)), max(1, len(images) // 1000))
    hashes = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(_hash_chunk)(images[rows]) for rows in chunks)
    return np.concatenate(hashes)


def candidate_pairs(hashes: np.ndarray, radius: int = HASH_RADIUS) -> pd.DataFrame:
    """All pairs whose hashes differ in at most `radius` bits, as they are or with one mirrored.

    Parameters
    ----------
    hashes : uint64 array of shape (n, 2)
        From `perceptual_hashes`.

    Returns
    -------
    DataFrame
        first < second (rows), bits (Hamming distance), mirrored.
    """
    found = []
    for start in range(0, len(hashes), BLOCK):
        block = hashes[start : start + BLOCK, 0]
        for mirrored in (False, True):
            # Pairs are counted once: only rows from this block on are compared.
            bits = np.bitwise_count(block[:, None] ^ hashes[None, start:, int(mirrored)])
            first, second = np.nonzero(bits <= radius)
            later = first < second
            first, second = first[later], second[later]
            found.append(
                pd.DataFrame(
                    {
                        "first": first + start,
                        "second": second + start,
                        "bits": bits[first, second],
                        "mirrored": mirrored,
                    }
                )
            )
    return pd.concat(found, ignore_index=True)


def _normalised(images: np.ndarray) -> np.ndarray:
    """Images as rows of zero mean and unit length; flat images become zero rows."""
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-6)


def pixel_correlation(images: FaceImages, pairs: pd.DataFrame, max_shift: int = MAX_SHIFT) -> np.ndarray:
    """Highest correlation of each pair's grey images over small shifts; 1 for the same picture, brighter or not.

    Returns
    -------
    float array of shape (len(pairs),), -1 to 1
    """
    if pairs.empty:
        return np.zeros(0)
    rows = np.unique(pairs[["first", "second"]])
    grey = np.concatenate([_grey(images[chunk], CONFIRM_PX) for chunk in np.array_split(rows, len(rows) // 1000 + 1)])
    edge = max_shift + 1
    correlation = np.full(len(pairs), -1.0)
    for chunk in np.array_split(np.arange(len(pairs)), len(pairs) // 20_000 + 1):
        part = pairs.iloc[chunk]
        first, second = (grey[np.searchsorted(rows, part[side])] for side in ("first", "second"))
        mirrored = part["mirrored"].to_numpy()
        second[mirrored] = second[mirrored][:, :, ::-1]
        core = _normalised(first[:, edge:-edge, edge:-edge])
        for dy in range(-max_shift, max_shift + 1):
            for dx in range(-max_shift, max_shift + 1):
                window = second[:, edge + dy : CONFIRM_PX - edge + dy, edge + dx : CONFIRM_PX - edge + dx]
                correlation[chunk] = np.maximum(correlation[chunk], (core * _normalised(window)).sum(axis=1))
    return correlation


def find_copies(faces: pd.DataFrame, images: FaceImages, hashes: np.ndarray | None = None) -> pd.DataFrame:
    """All confirmed pairs of copies.

    Parameters
    ----------
    faces : DataFrame
        The faces table.
    images : FaceImages
        By row of `faces`.
    hashes : uint64 array of shape (n, 2), optional
        From `perceptual_hashes`; computed where not given.

    Returns
    -------
    DataFrame
        first < second (rows), kind (exact | near), distance (1 - correlation; 0 for exact), mirrored.
    """
    # One row of each content is enough to search: its exact copies join the group through it.
    place = faces.groupby("sha256", sort=False).ngroup().to_numpy()
    first_of_content = np.flatnonzero(~faces["sha256"].duplicated().to_numpy())
    copies = np.flatnonzero(faces["sha256"].duplicated().to_numpy())
    exact = pd.DataFrame({"first": first_of_content[place[copies]], "second": copies})
    exact = exact.assign(kind="exact", distance=0.0, mirrored=False)

    hashes = perceptual_hashes(images) if hashes is None else hashes
    near = candidate_pairs(hashes[first_of_content])
    near[["first", "second"]] = first_of_content[near[["first", "second"]].to_numpy()]
    near["distance"] = 1 - pixel_correlation(images, near)
    near = near[near["distance"] <= 1 - MIN_CORRELATION].sort_values("distance", kind="stable")
    near = near.drop_duplicates(["first", "second"]).assign(kind="near")
    columns = ["first", "second", "kind", "distance", "mirrored"]
    return pd.concat([exact, near], ignore_index=True)[columns].sort_values(["first", "second"], ignore_index=True)


def group_copies(n: int, pairs: pd.DataFrame) -> np.ndarray:
    """Group id of each of n rows: the transitive closure of the pairs.

    Examples
    --------
    >>> group_copies(4, pd.DataFrame({"first": [0, 2], "second": [2, 3]})).tolist()
    [0, 1, 0, 0]
    """
    links = coo_array((np.ones(len(pairs)), (pairs["first"], pairs["second"])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)


def duplicates_table(faces: pd.DataFrame, group_id: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    """Members of groups of two and more: image_id, group_id, kind (exact | near), distance to the closest copy."""
    ends = pd.concat([pairs.rename(columns={side: "row"})[["row", "kind", "distance"]] for side in ("first", "second")])
    closest = ends.sort_values(["distance", "kind"]).drop_duplicates("row").set_index("row").sort_index()
    return pd.DataFrame(
        {
            "image_id": faces["image_id"].to_numpy()[closest.index],
            "group_id": group_id[closest.index],
            "kind": closest["kind"].to_numpy(),
            "distance": closest["distance"].to_numpy(),
        }
    )


def contradictions(faces: pd.DataFrame, group_id: np.ndarray) -> pd.DataFrame:
    """Groups of copies whose labels disagree.

    Returns
    -------
    DataFrame
        group_id, size, age_range (years between the lowest and highest label), gender_disagrees, ethnicity_disagrees,
        contradicts (any of them); one row per group of two and more, unknown labels left out.
    """
    groups = faces.assign(group_id=group_id).groupby("group_id").filter(lambda members: len(members) > 1)
    known = groups.assign(**{name: groups[name].where(groups[name] != UNKNOWN) for name in ATTRIBUTES[1:]})
    by_group = known.groupby("group_id")
    table = pd.DataFrame(
        {
            "size": by_group.size(),
            "age_range": by_group["age"].max() - by_group["age"].min(),
            "gender_disagrees": by_group["gender"].max() > by_group["gender"].min(),
            "ethnicity_disagrees": by_group["ethnicity"].max() > by_group["ethnicity"].min(),
        }
    )
    table["contradicts"] = (table["age_range"] > 0) | table["gender_disagrees"] | table["ethnicity_disagrees"]
    return table.reset_index()
