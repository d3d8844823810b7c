"""Copies of one photograph: byte-identical ones, and near ones found by perceptual hash and confirmed by pixels.

Aligned faces all look alike to a 64-bit hash, so a hash alone calls thousands of different people copies. Here it only
proposes; a pair counts as a copy when the pictures, laid exactly upon each other, share their fine detail. Copies
cropped, rotated or filtered too much for the hash are proposed by the face network: they are alike as one person's.
"""

from collections.abc import Iterator

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facelib.audit import alignment
from facelib.audit.hash_search import HASH_BITS, pairs_within
from facelib.data.pixels import FaceImages, chunks
from facelib.embedding.persons import Pairs
from facelib.finding import Finding, Findings
from facelib.statistics import count

LANCZOS = Image.Resampling.LANCZOS
HASHED_PX, HASH_EDGE = 32, 8  # edges of the picture that imagehash.phash transforms and of what it keeps
HASH_RADIUS = 14  # bits of 64; cropped copies found in studies/copies.py: 97 % at 12, 99 % at 14
MIN_CONTRAST = 2.0  # grey levels, standard deviation of the coarse picture
MIN_ALIKE = 0.70  # correlation of the coarse pictures as they lie
MIN_COARSE = 0.93  # and after a small shift and stretch
MIN_DETAIL = 0.66  # correlation of the fine detail; set by eye on 40 pairs of UTKFace between 0.50 and 0.70
SPREADS = 3.5  # between the middle of what lookalikes have in common and a copy
FEW_LOOKALIKES = 100  # pairs; with fewer their spread is not known
STAND_IN = alignment.ALIGNED  # a copy with the same hash and this much common detail is searched through its first copy
CHUNK = 1000  # images a task
ALIKE_PAIRS = 3  # an image, the closest, are compared: pictures without a face are all alike to the face network
COMPARED_AT_ONCE = 20_000  # pairs; those that earlier ones have joined into a group need no comparison


def _hash_chunk(images: np.ndarray) -> np.ndarray:
    """PHash of each image and of its mirror image, as uint64 (n, 2): `imagehash.phash`, bit for bit, of all at once.

    Pillow resizes across first, then down: one below the other, then side by side, images do not touch each other.
    """
    n, px = images.shape[:2]
    column = Image.fromarray(images.reshape(n * px, px, 3)).convert("L").resize((HASHED_PX, n * px), LANCZOS)
    row = np.asarray(column).reshape(n, px, HASHED_PX).swapaxes(0, 1).reshape(px, n * HASHED_PX)
    row = np.asarray(Image.fromarray(row).resize((n * HASHED_PX, HASHED_PX), LANCZOS))
    grey = row.reshape(HASHED_PX, n, HASHED_PX).astype(float)
    down = dct(grey, axis=0)[:HASH_EDGE]
    low = dct(np.stack([down, down[..., ::-1]]), axis=3)[..., :HASH_EDGE]  # (2, 8, n, 8)
    low = low.transpose(2, 0, 1, 3).reshape(n, 2, HASH_BITS)
    return np.packbits(low > np.median(low, axis=2, keepdims=True), axis=2).view(np.uint64)[..., 0]


def perceptual_hashes(images: FaceImages, n_jobs: int = -1) -> np.ndarray:
    """64-bit pHash of every image and of its mirror image: uint64 (n, 2)."""
    # Pillow and scipy release the interpreter's lock.
    parts = joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
        joblib.delayed(_hash_chunk)(images[rows]) for rows in chunks(len(images), CHUNK)
    )
    return np.concatenate(parts)


def candidate_pairs(hashes: np.ndarray, radius: int = HASH_RADIUS) -> Iterator[pd.DataFrame]:
    """All pairs whose hashes differ in at most `radius` bits, as they are or with the second one mirrored, in parts.

    Yields tables of first < second (rows), bits (Hamming distance), mirrored; `hashes` is from `perceptual_hashes`.
    """
    for mirrored, other in ((False, None), (True, hashes[:, 1])):
        for first, second, bits in pairs_within(hashes[:, 0], other, radius):
            once = first < second  # with mirror images each pair comes from both sides
            pair = {"first": first[once], "second": second[once], "bits": bits[once]}
            yield pd.DataFrame(pair).assign(mirrored=mirrored)


class CoarsePictures:
    """All images, as `alignment.grey_pictures` (n, 16, 16), ready to be compared in bulk."""

    def __init__(self, grey: np.ndarray):
        self.pictures = alignment.normalised(grey)
        parts = [alignment.deformation_basis(self.pictures[rows]) for rows in chunks(len(grey), CHUNK)]
        self.basis = np.concatenate(parts) if parts else np.zeros((0, 5, alignment.COARSE_PX**2), np.float32)

    def correlation(self, pairs: pd.DataFrame) -> np.ndarray:
        """Correlation of each pair after a small shift and stretch, 0 to 1; 0 where they are not even roughly alike."""
        columns = [pairs[name].to_numpy() for name in ("first", "second", "mirrored")]
        correlation = np.zeros(len(pairs))
        for rows in chunks(len(pairs), 20_000):  # what is gathered for a pair takes 7 kB
            first, second, mirrored = (column[rows] for column in columns)
            partners = self.pictures[second]
            partners[mirrored] = partners[mirrored][:, :, ::-1]
            alike = np.einsum("nij,nij->n", self.pictures[first], partners) >= MIN_ALIKE
            correlation[rows[alike]] = alignment.coarse_correlation(self.basis[first[alike]], partners[alike])
        return correlation


def _detail_chunk(first: np.ndarray, second: np.ndarray, mirrored: np.ndarray) -> list[float]:
    pictures = (alignment.grey_pictures(images, alignment.DETAIL_PX) for images in (first, second))
    return [
        alignment.detail_correlation(one, np.ascontiguousarray(other[:, ::-1]) if flip else other)
        for one, other, flip in zip(*pictures, mirrored, strict=True)
    ]


def detail_correlations(images: FaceImages, pairs: pd.DataFrame) -> np.ndarray:
    """Correlation of the fine detail of each pair once it is aligned: float (len(pairs),), -1 to 1."""
    first, second, mirrored = (pairs[column].to_numpy() for column in ("first", "second", "mirrored"))
    # OpenCV releases the interpreter's lock.
    parts = joblib.Parallel(n_jobs=-1, prefer="threads")(
        joblib.delayed(_detail_chunk)(images[first[part]], images[second[part]], mirrored[part])
        for part in chunks(len(pairs), 250)
    )
    return np.array([value for part in parts for value in part])


def copy_limit(detail: np.ndarray) -> float:
    """Least common detail of a pair that counts as a copy, from the common detail (n,) of all compared pairs.

    `MIN_DETAIL` for photographs. Where different people look more alike, as drawn ones do, `SPREADS` above the common
    detail of such lookalikes, as `MIN_DETAIL` is for photographs.

    Examples
    --------
    >>> copy_limit(np.full(10, 0.5)) == MIN_DETAIL  # too few pairs
    True
    """
    lookalikes = detail[detail < MIN_DETAIL]
    if len(lookalikes) < FEW_LOOKALIKES:
        return MIN_DETAIL
    low, middle = np.percentile(lookalikes, [16, 50])  # the lower half, where no copy hides
    return float(np.clip(middle + SPREADS * (middle - low), MIN_DETAIL, STAND_IN))


def _compared(images: FaceImages, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs with their distance, 1 - correlation of the detail: first, second, distance, mirrored."""
    return pairs.assign(distance=1 - detail_correlations(images, pairs))[["first", "second", "distance", "mirrored"]]


def _near_copies(images: FaceImages, hashes: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Confirmed pairs among images of different content: first, second, distance, mirrored; and the limit of distance.

    Many copies of one photograph would make as many pairs as their number squared. So a copy with the same hash as an
    earlier one is compared with that one alone, and pairs that are joined already are not compared.
    """
    n = len(images)
    grey = np.concatenate([alignment.grey_pictures(images[rows], alignment.COARSE_PX) for rows in chunks(n, CHUNK)])
    # Blank images and scans all share a hash, and hold nothing to compare.
    searched = np.flatnonzero(grey.std(axis=(1, 2)) >= MIN_CONTRAST)
    _, leader, bucket = np.unique(hashes[searched, 0], return_index=True, return_inverse=True)
    same = pd.DataFrame({"first": searched[leader[bucket]], "second": searched, "mirrored": False})
    compared = _compared(images, same[same["first"] < same["second"]])
    stand_ins = compared.loc[compared["distance"] <= 1 - STAND_IN, "second"]
    searched = np.setdiff1d(searched, stand_ins)

    coarse = CoarsePictures(grey[searched])
    parts = [pd.DataFrame({"first": [], "second": [], "mirrored": [], "alike": []})]
    for pairs in candidate_pairs(hashes[searched]):
        alike = coarse.correlation(pairs)
        parts.append(pairs.assign(alike=alike)[alike >= MIN_COARSE])
    pairs = pd.concat(parts, ignore_index=True).astype({"mirrored": bool})
    pairs[["first", "second"]] = searched[pairs[["first", "second"]].to_numpy(int)]
    pairs = pairs.sort_values(["alike", "first", "second", "mirrored"], ascending=False, ignore_index=True)

    sample = pairs if len(pairs) <= COMPARED_AT_ONCE else pairs.sample(COMPARED_AT_ONCE // 4, random_state=0)
    compared = pd.concat([compared, _compared(images, sample)])
    limit = 1 - copy_limit(1 - compared["distance"].to_numpy())
    confirmed = compared[compared["distance"] <= limit]
    rest = pairs.drop(sample.index)
    for at in range(0, len(rest), COMPARED_AT_ONCE):
        group, part = group_copies(n, confirmed), rest[at : at + COMPARED_AT_ONCE]
        more = _compared(images, part[group[part["first"]] != group[part["second"]]])
        confirmed = pd.concat([confirmed, more[more["distance"] <= limit]])
    return confirmed.sort_values("distance", kind="stable").drop_duplicates(["first", "second"]), limit


def _turned(images: FaceImages, pairs: pd.DataFrame) -> np.ndarray:
    """Whether the second picture of each pair is more like the first one when it is mirrored: bool (len(pairs),)."""
    turned = np.zeros(len(pairs), bool)
    for rows in chunks(len(pairs), CHUNK):
        first, second = (images[pairs[side].to_numpy()[rows]] for side in ("first", "second"))
        first, second = (alignment.normalised(alignment.grey_pictures(p, alignment.COARSE_PX)) for p in (first, second))
        basis = alignment.deformation_basis(first)
        plain, mirrored = (alignment.coarse_correlation(basis, view) for view in (second, second[:, :, ::-1]))
        turned[rows] = mirrored > plain
    return turned


def _altered_copies(images: FaceImages, near: pd.DataFrame, alike: Pairs, limit: float) -> pd.DataFrame:
    """Confirmed pairs among those that are alike and that no near pair joins, as `_near_copies` within its limit."""
    group = group_copies(len(images), near)
    ends = np.sort([alike.first, alike.second], axis=0)
    pairs = pd.DataFrame({"first": ends[0], "second": ends[1], "apart": alike.distance})
    pairs = pairs[group[ends[0]] != group[ends[1]]].sort_values(["apart", "first", "second"])
    pairs = pairs.drop_duplicates(["first", "second"]).head(ALIKE_PAIRS * len(images))
    compared = _compared(images, pairs.assign(mirrored=_turned(images, pairs)))
    return compared[compared["distance"] <= min(limit, 1 - copy_limit(1 - compared["distance"].to_numpy()))]


def find_copies(faces: pd.DataFrame, images: FaceImages, alike: Pairs | None = None) -> pd.DataFrame:
    """Confirmed pairs of copies, enough of them to join every group, though not all.

    Parameters
    ----------
    faces : DataFrame
    images : FaceImages
        By row of `faces`.
    alike : Pairs, optional
        From `embedding.persons.find_persons`: rows that may be altered copies.

    Returns
    -------
    DataFrame
        first < second (rows), kind (exact | near | altered, which the hash does not find), distance (1 - correlation of
        the fine detail; 0 for exact), mirrored.
    """
    # One row of each content is enough to search: its exact copies join the group through it.
    place, repeated = faces.groupby("sha256", sort=False).ngroup().to_numpy(), faces["sha256"].duplicated().to_numpy()
    first_of_content, copies = np.flatnonzero(~repeated), np.flatnonzero(repeated)
    exact = pd.DataFrame({"first": first_of_content[place[copies]], "second": copies})
    exact = exact.assign(kind="exact", distance=0.0, mirrored=False)

    unique = images.take(first_of_content)
    near, limit = _near_copies(unique, perceptual_hashes(unique))
    near = near.assign(kind="near")
    if alike is not None:
        altered = _altered_copies(unique, near, Pairs(place[alike.first], place[alike.second], alike.distance), limit)
        near = pd.concat([near, altered.assign(kind="altered")])
    near[["first", "second"]] = first_of_content[near[["first", "second"]].to_numpy(int)]
    pairs = pd.concat([exact, near[exact.columns]]).astype({"first": int, "second": int, "mirrored": bool})
    return pairs.sort_values(["first", "second"], ignore_index=True)


def group_copies(n: int, pairs: pd.DataFrame) -> np.ndarray:
    """Group id of each of n rows: the transitive closure of the pairs.

    Examples
    --------
    >>> group_copies(4, pd.DataFrame({"first": [0, 2], "second": [2, 3]})).tolist()
    [0, 1, 0, 0]
    """
    links = coo_array((np.ones(len(pairs)), (pairs["first"], pairs["second"])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)


def both_ways(pairs: pd.DataFrame) -> pd.DataFrame:
    """Each pair from either side, the closest first: row, copy, and the other columns of `find_copies`."""
    ends = ("row", "copy"), ("copy", "row")
    sides = [pairs.rename(columns={"first": first, "second": second}) for first, second in ends]
    return pd.concat(sides).sort_values(["distance", "kind"], kind="stable")


def exact_groups(faces: pd.DataFrame) -> int:
    """Number of contents that several images share."""
    return int(faces.groupby("sha256").size().gt(1).sum())


def groups_of(kind: str, pairs: pd.DataFrame, group_id: np.ndarray) -> int:
    """Number of groups that a copy of some kind, such as `near`, belongs to."""
    return len(np.unique(group_id[pairs.loc[pairs["kind"] == kind, "first"]]))


def copies_findings(faces: pd.DataFrame, pairs: pd.DataFrame, group_id: np.ndarray) -> Findings:
    """How many groups of copies there are."""
    groups = count(int((np.unique(group_id, return_counts=True)[1] > 1).sum()), "groups")
    if not groups.value:
        return Findings([Finding("copies.groups", "No photograph is found to occur more than once.", groups)])
    text = (
        f"{groups.text} photograph{'s occur' if groups.value > 1 else ' occurs'} more than once: "
        f"{exact_groups(faces):,} groups contain byte-identical files, "
        f"{groups_of('near', pairs, group_id):,} a near copy, {groups_of('altered', pairs, group_id):,} a copy that is "
        "cropped, rotated or filtered; a group may contain several kinds."
    )
    return Findings([Finding("copies.groups", text, groups)])


def duplicates_table(faces: pd.DataFrame, group_id: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    """Members of groups of two or more, each with the closest of the copies that it was compared with.

    Columns: image_id, group_id, kind (see `find_copies`), distance, copy (image_id of the closest copy), mirrored.
    """
    closest, ids = both_ways(pairs).drop_duplicates("row").sort_values("row"), faces["image_id"].to_numpy()
    own, copy = ids[closest["row"]], ids[closest["copy"]]
    table = closest.assign(image_id=own, group_id=group_id[closest["row"]], copy=copy)
    return table[["image_id", "group_id", "kind", "distance", "copy", "mirrored"]].reset_index(drop=True)
