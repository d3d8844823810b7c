"""Pairs of hashes within a radius: all of them, once each, whatever the number of bands, however crowded they are."""

import itertools
import tracemalloc

import numpy as np
import pytest

from facelib.audit import hash_search
from facelib.audit.hash_search import band_radii, choose_bands, pairs_within


def brute(left, right, radius: int) -> set[tuple[int, int, int]]:
    if right is None:
        pairs = itertools.combinations(range(len(left)), 2)
        right = left
    else:
        pairs = itertools.product(range(len(left)), range(len(right)))
    left, right = left.tolist(), right.tolist()
    return {(i, j, bits) for i, j in pairs if (bits := (left[i] ^ right[j]).bit_count()) <= radius}


def found(parts) -> list[tuple[int, int, int]]:
    return [tuple(pair) for part in parts for pair in np.stack(part, axis=1).tolist()]


def crowd(n: int, seed: int, flips: int = 12) -> np.ndarray:
    """Hashes around a few centres, of which half of the bits never change, as with aligned faces."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, 5, dtype=np.uint64)[rng.integers(0, 5, n)]
    for row in range(n):
        for bit in rng.choice(32, rng.integers(0, flips), replace=False):
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
    return hashes


@pytest.mark.slow
@pytest.mark.parametrize("radius", [0, 1, 4, 7, 12, 20])
@pytest.mark.parametrize("bands", [None, 3, 4, 8])
def test_all_pairs_are_found_once(radius, bands):
    hashes = crowd(250, 1)
    pairs = found(pairs_within(hashes, None, radius, bands))
    assert len(pairs) == len(set(pairs)) and set(pairs) == brute(hashes, None, radius)


@pytest.mark.parametrize("radius", [2, 9])
def test_all_pairs_of_two_sets_are_found_once(radius):
    left, right = crowd(150, 2), np.concatenate([crowd(80, 2), crowd(90, 3)])
    pairs = found(pairs_within(left, right, radius))
    assert len(pairs) == len(set(pairs)) and set(pairs) == brute(left, right, radius)
    assert any(i > j for i, j, _ in pairs) and any(i == j for i, j, _ in pairs)


def test_pairs_at_exactly_the_radius_are_found_wherever_their_bits_lie():
    rng = np.random.default_rng(5)
    base = rng.integers(0, 2**63, 300, dtype=np.uint64)
    other = base.copy()
    for row in range(300):
        for bit in rng.choice(64, 4, replace=False):
            other[row] ^= np.uint64(1) << np.uint64(bit)
    pairs = set(found(pairs_within(base, other, 4)))
    assert {(row, row, 4) for row in range(300)} <= pairs
    assert not {(row, row, 4) for row in range(300)} & set(found(pairs_within(base, other, 3)))


def test_nothing_makes_no_pairs():
    empty = np.zeros(0, np.uint64)
    assert found(pairs_within(empty)) == found(pairs_within(empty, np.zeros(3, np.uint64))) == []
    assert found(pairs_within(np.zeros(1, np.uint64))) == []


@pytest.mark.parametrize(("bands", "radius"), itertools.product(range(2, 9), range(21)))
def test_bands_cannot_all_be_missed(bands, radius):
    """The fewest bits that differ if every band differs in more than its radius are more than the radius."""
    assert sum(within + 1 for within in band_radii(bands, radius)) == radius + 1


def test_more_hashes_are_looked_up_in_wider_bands():
    chosen = [choose_bands(n, 4) for n in (1000, 30_000, 1_000_000)]
    assert chosen == sorted(chosen, reverse=True) and chosen[-1] == 3


def test_equal_hashes_do_not_fill_the_memory(monkeypatch):
    """Their pairs come in parts, which a caller can drop."""
    monkeypatch.setattr(hash_search, "CHUNK", 20_000)
    tracemalloc.start()
    pairs = sum(len(first) for first, _, _ in pairs_within(np.zeros(1500, np.uint64), bands=8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pairs == 1500 * 1499 / 2
    assert peak < 12e6  # all pairs at once would be 27 MB and more


def test_the_work_does_not_grow_with_the_square_of_the_number(monkeypatch):
    compared = []
    expand = hash_search._expand

    def counted(*args):
        for first, place in expand(*args):
            compared.append(len(first))
            yield first, place

    monkeypatch.setattr(hash_search, "_expand", counted)
    rng = np.random.default_rng(6)
    work = []
    for n in (10_000, 80_000):
        compared.clear()
        list(pairs_within(rng.integers(0, 2**64, n, dtype=np.uint64), radius=4))
        work.append(sum(compared))
    assert work[1] < 80_000**2 / 2 / 100 and work[1] / work[0] < 30  # eight times the hashes
