"""Recognised persons: every close pair once, groups that do not chain, rates by hand."""

import itertools
import tracemalloc

import numpy as np
import pytest

from facelib.embedding import persons
from facelib.embedding.persons import Pairs, close_pairs, find_persons, match_rate, persons_table, unrelated_distances


def descriptors_of(person: np.ndarray, spread: float, seed: int = 0) -> np.ndarray:
    """Faces (n, 128) around a point of length 1.4 for each person, `spread` away from it."""
    rng = np.random.default_rng(seed)

    def directions(n: int) -> np.ndarray:
        points = rng.normal(size=(n, 128))
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    centres = 1.4 * directions(person.max() + 1)
    return (centres[person] + spread * directions(len(person))).astype(np.float32)


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def all_close(points: np.ndarray, unrelated: np.ndarray, limit: float) -> Pairs:
    return Pairs(*map(np.concatenate, zip(*close_pairs(points, unrelated, limit), strict=True)))


@pytest.mark.parametrize(("rows", "columns"), [(1024, 8192), (7, 5), (5, 7), (1, 1)])
def test_all_close_pairs_are_found_once(monkeypatch, rows, columns):
    monkeypatch.setattr(persons, "BLOCK_ROWS", rows)
    monkeypatch.setattr(persons, "BLOCK_COLUMNS", columns)
    rng = np.random.default_rng(1)
    points, unrelated = rng.normal(size=(60, 3)), rng.uniform(0.5, 2, 60)
    pairs = all_close(points, unrelated, 0.7)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) / np.sqrt(unrelated[:, None] * unrelated[None])
    close = {(i, j) for i, j in itertools.combinations(range(60), 2) if distance[i, j] <= 0.7}
    found = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(found) == len(set(found)) and set(found) == close != set()
    np.testing.assert_allclose(pairs.distance, distance[pairs.first, pairs.second], atol=2e-3)


def test_the_unrelated_distance_is_that_of_the_rank():
    """On a line at 0, 1, 2, ... the 10th nearest of the others; of 1,000 and more, the nearest 2 %."""
    line = np.arange(41.0)[:, None]
    unrelated = unrelated_distances(line)
    assert unrelated[0] == pytest.approx(10) and unrelated[20] == pytest.approx(5)
    assert unrelated_distances(np.arange(1000.0)[:, None])[500] == pytest.approx(10, rel=1e-2)
    assert unrelated_distances(np.arange(4.0)[:, None]).tolist() == pytest.approx([3, 2, 2, 3])


def test_a_sample_stands_for_many_faces(monkeypatch):
    points = descriptors_of(np.arange(2000), 0)
    exact = unrelated_distances(points)
    monkeypatch.setattr(persons, "COHORT", 700)
    np.testing.assert_allclose(unrelated_distances(points, seed=1), exact, rtol=0.05)


@pytest.mark.parametrize("scale", [1, 0.1])
def test_planted_persons_are_found_whatever_the_scale(scale):
    """Faces that all lie near each other, as infants do, are not one person."""
    person = np.random.default_rng(2).integers(0, 150, 400)
    person_id, pairs = find_persons(scale * descriptors_of(person, 0.15))
    assert partition(person_id) == partition(person) and set(person_id) == set(range(person_id.max() + 1))
    assert (person[pairs.first] == person[pairs.second]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_precision_of_descriptors_does_not_matter(dtype):
    person = np.arange(200) // 2
    assert partition(find_persons(descriptors_of(person, 0.15).astype(dtype))[0]) == partition(person)


def with_strangers(line: list[float]) -> np.ndarray:
    """Faces on a line, whose unrelated distance is about 2, and 600 others."""
    chain = np.zeros((len(line), 128), np.float32)
    chain[:, 0] = line
    return np.vstack([chain, descriptors_of(np.arange(600), 0)])


def test_a_chain_of_different_persons_is_cut():
    """Neighbours in the chain are close, its ends eleven times as far apart."""
    person_id, pairs = find_persons(with_strangers([0.01 * step for step in range(12)]), 0.0077)
    unrelated = unrelated_distances(with_strangers([0.01 * step for step in range(12)]))[:12]
    assert (pairs.first < 12).all() and len(pairs.first) == 11 and unrelated.min() > 1.3
    labels = person_id[:12]
    assert 4 <= len(np.unique(labels)) < 12
    assert all(np.ptp(np.flatnonzero(labels == label)) <= 2 for label in np.unique(labels))


def test_close_copies_stay_together_in_a_chain():
    person_id, _ = find_persons(with_strangers([0, 0.38, 0.40, 0.42, 0.8, 1.2]), 0.28)
    assert len(set(person_id[1:4])) == 1


def test_a_component_too_large_for_memory_is_parted_by_closer_pairs(monkeypatch):
    monkeypatch.setattr(persons, "LARGEST_COMPONENT", 10)
    monkeypatch.setattr(persons, "unrelated_distances", lambda points, _: np.ones(len(points)))
    line = np.cumsum([0.02 if row % 4 == 0 else 0.005 for row in range(40)])
    person_id, pairs = find_persons(with_strangers(line.tolist()), 0.0201)
    assert set(pairs.first) == set(range(39))  # all are connected
    assert partition(person_id[:40]) == {frozenset(range(at, at + 4)) for at in range(0, 40, 4)}


def test_faces_that_are_all_equal_are_one():
    assert set(find_persons(np.ones((30, 128), np.float32))[0]) == {0}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_faces(n):
    person_id, pairs = find_persons(descriptors_of(np.arange(max(n, 1)), 0)[:n])
    assert person_id.tolist() == list(range(n)) and len(pairs.first) == 0
    assert persons_table(np.arange(n), person_id, pairs).columns.tolist() == [
        "image_id", "person_id", "distance", "closest"
    ]  # fmt: skip


def test_the_table_names_the_closest_face_of_the_same_person():
    first, second = np.array([0, 0, 1, 3], np.int32), np.array([1, 2, 2, 4], np.int32)
    pairs = Pairs(first, second, np.array([0.3, 0.1, 0.2, 0.39], np.float32))
    table = persons_table(np.array(list("abcdef")), np.array([7, 7, 7, 1, 2, 3]), pairs)
    assert table["image_id"].tolist() == ["a", "b", "c"] and table["closest"].tolist() == ["c", "c", "a"]
    assert table["person_id"].tolist() == [7, 7, 7]  # d and e are recognised, and were cut
    np.testing.assert_allclose(table["distance"], [0.1, 0.2, 0.1])


# --- rates ------------------------------------------------------------------------------------------------


def test_random_pairs_have_the_same_labels_and_are_no_copies():
    """In stratum a a half lies at one place, everybody in b is a copy of the others."""
    descriptors = 20 * descriptors_of(np.arange(300), 0)
    descriptors[:100], descriptors[200:] = descriptors[0], descriptors[200]
    strata = np.array(["a"] * 200 + ["b"] * 100)
    group_id = np.concatenate([np.arange(200), np.full(100, 999)])
    unrelated = np.ones(300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(persons, "unrelated_distances", lambda *_: unrelated)
        estimate = match_rate(descriptors, strata, group_id)
        # Two of the hundred at one place: a half of the draws times 99 of the other 199.
        assert estimate.value == pytest.approx(0.5 * 99 / 199, abs=0.005)
        assert estimate.low < 0.5 * 99 / 199 < estimate.high
        assert estimate.n == pytest.approx(persons.RANDOM_PAIRS * 2 / 3 * 199 / 200, rel=0.01)
    assert match_rate(descriptors, np.arange(300).astype(str), group_id).n == 0
    assert match_rate(descriptors[:0], strata[:0], group_id[:0]).n == 0


def test_the_rate_is_that_of_all_pairs():
    points = descriptors_of(np.random.default_rng(3).integers(0, 40, 200), 0.3)
    pairs = all_close(points, unrelated_distances(points), 0.5)
    rate = match_rate(points, np.zeros(200, str), np.arange(200), 0.5)
    assert rate.value == pytest.approx(len(pairs.first) / (200 * 199 / 2), abs=0.002) and rate.value > 0.01


def test_the_memory_does_not_grow_with_the_square_of_the_number():
    points = descriptors_of(np.arange(8000), 0)
    tracemalloc.start()
    find_persons(points)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 120e6  # all distances at once would be 256 MB


def test_the_finding_gives_random_pairs_and_copies():
    person = np.arange(300) // 2
    points = descriptors_of(person, 0.1)
    points[1] = points[50]  # one copy is not recognised
    finding = persons.match_finding(points, np.repeat("x", 300), person)
    assert finding.estimate.value < 0.001 and "Of 150 pairs of copies 99.3 %" in finding.text
