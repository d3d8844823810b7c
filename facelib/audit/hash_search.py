"""All pairs of 64-bit hashes within a Hamming radius: exact, and without comparing every hash with every other.

Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): two hashes that differ in few bits agree nearly everywhere
in at least one of a few bands of their bits, and near agreement of a short band can be looked up in a table.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

HASH_BITS = 64
CHUNK = 2_000_000  # pairs compared at a time: bounds the memory for any hashes
BANDS = range(2, 9)  # numbers of bands to choose from
EFFECTIVE = 0.75  # set by hand: share of a band's bits that tell hashes apart, since bits go together
LOOKUP_COST = 4  # set by hand: of a table lookup, in comparisons of two hashes


def band_radii(bands: int, radius: int) -> list[int]:
    """Radius to search in each band so that no pair is missed; -1 leaves a band out.

    If every band differed in more bits than its radius, the whole would differ in more than `radius`.

    Examples
    --------
    >>> band_radii(3, 4), band_radii(4, 2)
    ([1, 1, 0], [0, 0, 0, -1])
    """
    low, extra = divmod(radius, bands)
    return [low if band <= extra else low - 1 for band in range(bands)]


def _widths(bands: int) -> list[int]:
    return [HASH_BITS // bands + (band < HASH_BITS % bands) for band in range(bands)]


def _lookups(width: int, radius: int) -> int:
    return sum(math.comb(width, flips) for flips in range(radius + 1))


def choose_bands(n: int, radius: int) -> int:
    """Number of bands with the least expected work for n hashes."""

    def work(bands: int) -> float:
        return sum(
            _lookups(width, within) * (LOOKUP_COST + n / 2 ** (EFFECTIVE * width))
            for width, within in zip(_widths(bands), band_radii(bands, radius), strict=True)
        )

    return min((bands for bands in BANDS if max(_widths(bands)) <= 22), key=work)


def _deal_bits(left: np.ndarray, right: np.ndarray, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes with their bits reordered so that informative bits are spread evenly over the bands.

    A band of bits that are nearly always or nearly never set would put most hashes in one place.
    """
    bits = [
        np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 8), axis=1) for hashes in (left, right)
    ]
    telling = np.argsort(np.abs(bits[1].mean(axis=0) - 0.5), kind="stable")
    # Band b takes the bits at b, b + bands, ... of that order, so the widest bands come first, as in `_widths`.
    order = np.concatenate([telling[band::bands] for band in range(bands)])
    dealt = (np.ascontiguousarray(np.packbits(values[:, order], axis=1)) for values in bits)
    return tuple(packed.view(">u8")[:, 0].astype(np.uint64) for packed in dealt)


def _band_keys(hashes: np.ndarray, band: int, widths: list[int]) -> np.ndarray:
    shift = HASH_BITS - sum(widths[: band + 1])
    return ((hashes >> np.uint64(shift)) & np.uint64(2 ** widths[band] - 1)).astype(np.int64)


def _expand(rows: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each row with each of the `counts` places from its `starts` on, about `CHUNK` pairs at a time."""
    some = counts > 0
    rows, starts, counts = rows[some], starts[some], counts[some]
    ends = np.cumsum(counts)
    for chunk in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(ends // CHUNK)) + 1):
        if len(chunk):
            within, offset = counts[chunk], ends[chunk] - counts[chunk]
            yield (
                np.repeat(rows[chunk], within),
                np.arange(offset[0], ends[chunk[-1]]) + np.repeat(starts[chunk] - offset, within),
            )


def pairs_within(
    left: np.ndarray, right: np.ndarray | None = None, radius: int = 4, bands: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs whose hashes differ in at most `radius` bits, 0 to 63, in chunks, each pair once.

    Parameters
    ----------
    left, right : uint64 arrays of shape (n,) and (m,)
        Without `right`, pairs within `left`, first < second.
    radius : int
    bands : int, optional
        Bands of the index; the fastest by estimate without it. Changes the order of the pairs alone.

    Yields
    ------
    first, second : int arrays
        Rows of `left` and of `right` (or of `left`).
    bits : uint8 array
        Hamming distance.
    """
    within_one = right is None
    right = left if within_one else right
    if len(left) == 0 or len(right) == 0:
        return
    bands = choose_bands(max(len(left), len(right)), radius) if bands is None else bands
    left, right = _deal_bits(left, right, bands)
    widths, radii = _widths(bands), band_radii(bands, radius)
    for band in range(bands):
        keys = _band_keys(right, band, widths)
        table = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[table], np.arange(2 ** widths[band] + 1)).astype(np.int32)
        query = _band_keys(left, band, widths)
        rows = table if within_one else np.argsort(query, kind="stable")
        query = query[rows]  # in the table's order: neighbours look up neighbours
        for flipped in itertools.chain.from_iterable(
            itertools.combinations(range(widths[band]), flips) for flips in range(radii[band] + 1)
        ):
            asking, key, at = rows, query ^ sum(1 << bit for bit in flipped), None
            if within_one and flipped:  # each pair from one of its two sides
                one_side = (query >> flipped[-1]) & 1 == 0
                asking, key = rows[one_side], key[one_side]
            elif within_one:
                at = np.arange(1, len(rows) + 1, dtype=np.int32)
            start = starts[key] if at is None else at
            for first, place in _expand(asking, start, starts[key + 1] - start):
                second = table[place]
                different = left[first] ^ right[second]
                bits = np.bitwise_count(different)
                near = bits <= radius
                # A pair that an earlier band has found already is not reported again.
                for earlier in range(band):
                    part = _band_keys(different[near], earlier, widths)
                    near[near] = np.bitwise_count(part) > radii[earlier]
                if near.any():
                    pair = np.stack([first[near], second[near]])
                    yield (*(np.sort(pair, axis=0) if within_one else pair), bits[near])
