"""Contradictions of copies: which labels disagree, by how much, and what that says about all labels."""

import itertools

import numpy as np
import pandas as pd
import pytest

from facelib.audit.contradictions import (
    contradictions,
    disagreements,
    independent_error_rate,
    label_noise,
    labels_findings,
)
from facelib.schema import AGE, UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap


def test_contradictions_of_groups_leave_unknown_labels_out():
    faces = pd.DataFrame(
        {
            "age": [20, 25, np.nan, 40, 40, 7, 60, 61],
            "gender": [0, 1, 0, 1, -1, 0, 1, 1],
            "ethnicity": [2, 2, -1, 0, 3, 1, 4, 4],
        },
        index=range(10, 18),
    )
    table = contradictions(faces, np.array([0, 0, 0, 1, 1, 2, 3, 3]), UTKFACE_ATTRIBUTES).set_index("group_id")
    assert table.index.tolist() == [0, 1, 3]  # the single row of group 2 cannot contradict itself
    assert table["size"].tolist() == [3, 2, 2]
    assert table["age_range"].tolist() == [5, 0, 1]
    assert table["gender_disagrees"].tolist() == [True, False, False]
    assert table["ethnicity_disagrees"].tolist() == [False, True, False]
    assert table["contradicts"].tolist() == [True, True, True]
    ages = contradictions(faces, np.array([0, 0, 0, 1, 1, 2, 3, 3]), [AGE])
    assert list(ages.columns) == ["group_id", "size", "age_range", "contradicts"]
    assert ages["contradicts"].tolist() == [True, False, True]


def test_bands_of_copies_contradict_where_they_do_not_overlap():
    bands = {"age_from": [20, 30, 20, 25, 10, np.nan], "age_to": [29, 39, 29, 34, 19, np.nan]}
    faces = pd.DataFrame({"age": [np.nan] * 5 + [40.0], **bands})
    table = contradictions(faces, np.array([0, 0, 1, 1, 2, 2]), [AGE])
    assert table["age_range"].tolist() == [1, 0, 21] and table["contradicts"].tolist() == [True, False, True]
    pairs = disagreements(faces, np.array([0, 0, 1, 1, 2, 2]), [AGE])
    assert pairs["difference"].tolist() == [10, 5, 25.5] and pairs["differ"].tolist() == [1, 1, 1]


@pytest.fixture
def copies() -> pd.DataFrame:
    """Two groups of two, one of three, and a single."""
    return pd.DataFrame(
        {
            "age": [20.0, 26.0, 40.0, 40.0, 1.0, 2.0, np.nan, 70.0],
            "gender": [0, 1, 1, 1, 0, 0, 1, 1],
            "ethnicity": [2, 2, 0, -1, 3, 3, 4, 4],
        }
    )


GROUPS = np.array([5, 5, 1, 1, 0, 0, 0, 9])


def test_disagreement_is_the_mean_over_all_pairs_of_a_group():
    rng = np.random.default_rng(0)
    group_id = rng.integers(0, 40, 150)
    faces = pd.DataFrame(
        {
            "age": np.where(rng.random(150) < 0.2, np.nan, rng.integers(0, 9, 150)),
            "gender": rng.integers(-1, 2, 150),
            "ethnicity": rng.integers(-1, 5, 150),
        },
        index=rng.permutation(150),
    )
    expected = []
    for attribute, group in itertools.product(["age", "gender", "ethnicity"], range(40)):
        labels = [x for x in faces[attribute].to_numpy(float)[group_id == group] if x >= 0]
        gaps = [abs(a - b) for a, b in itertools.combinations(labels, 2)]
        if gaps:
            differ = float(np.mean([gap > 0 for gap in gaps]))
            years = float(np.mean(gaps)) if attribute == "age" else differ
            expected.append((group, attribute, len(labels), pytest.approx(differ), pytest.approx(years)))
    found = disagreements(faces, group_id, UTKFACE_ATTRIBUTES)
    assert list(found.columns) == ["group_id", "attribute", "labels", "differ", "difference"]
    assert list(found.itertuples(index=False, name=None)) == expected


def test_nothing_disagrees_without_copies(copies):
    assert disagreements(copies, np.arange(8), UTKFACE_ATTRIBUTES).empty
    assert disagreements(copies, GROUPS, ()).empty and label_noise(copies, GROUPS, (), Bootstrap(20)).empty


def test_a_photograph_that_is_there_a_hundred_thousand_times_takes_no_more_memory_than_its_rows():
    n = 100_000
    faces = pd.DataFrame({"age": np.tile([20.0, 30.0], n // 2), "gender": 0, "ethnicity": -1})
    found = disagreements(faces, np.zeros(n, int), UTKFACE_ATTRIBUTES).set_index("attribute")
    assert found.loc["age", "difference"] == pytest.approx(5, rel=1e-3) and found.loc["gender", "differ"] == 0


def test_the_finding_counts_groups_and_years(copies):
    conflicts = contradictions(copies, GROUPS, UTKFACE_ATTRIBUTES)
    (finding,) = labels_findings(conflicts, disagreements(copies, GROUPS, UTKFACE_ATTRIBUTES), UTKFACE_ATTRIBUTES)
    assert (finding.key, finding.estimate.value, finding.estimate.n) == ("copies.labels_differ", 2 / 3, 3)
    assert "2 of 3" in finding.text and "2.3 years" in finding.text  # (6 + 0 + 1) / 3


def test_noise_by_hand(copies):
    noise = label_noise(copies, GROUPS, UTKFACE_ATTRIBUTES, Bootstrap(50)).set_index(["attribute", "assumption"])[
        "value"
    ]
    assert noise["age", "none"] == pytest.approx((6 + 0 + 1) / 3)
    assert noise["age", "one of two is right"] == pytest.approx(7 / 6)
    assert noise["age", "both err independently"] == pytest.approx(7 / 3 / 2**0.5)
    gender = (1 + 0 + 2 / 3) / 3  # 0 and 1; 1 and 1; 0, 0 and 1
    assert noise["gender", "none"] == pytest.approx(gender)
    assert noise["gender", "one of two is right"] == pytest.approx(gender / 2)
    assert noise["gender", "both err independently"] == 0.5  # more than half disagree: no better than a coin
    assert noise["gender", "all others are right"] == 2 / 8  # one of 0, 1 and one of 0, 0, 1
    assert noise["ethnicity", "all others are right"] == 1 / 7
    assert label_noise(copies[:1], GROUPS[:1], UTKFACE_ATTRIBUTES, Bootstrap(50)).empty


@pytest.mark.parametrize(("classes", "error"), [(2, 0.05), (2, 0.3), (5, 0.1), (5, 0.4)])
def test_independent_errors_are_estimated_back(classes, error):
    rng = np.random.default_rng(3)
    truth = rng.integers(0, classes, 400_000)
    first, second = (
        np.where(rng.random(len(truth)) < error, (truth + rng.integers(1, classes, len(truth))) % classes, truth)
        for _ in range(2)
    )
    assert independent_error_rate(float((first != second).mean()), classes) == pytest.approx(error, abs=0.006)


def test_normal_age_errors_are_estimated_back():
    rng = np.random.default_rng(4)
    truth = rng.uniform(10, 80, 4000).repeat(2)
    error = rng.normal(0, 5, 8000)
    faces = pd.DataFrame({"age": truth + error, "gender": -1, "ethnicity": -1})
    noise = label_noise(faces, np.arange(4000).repeat(2), UTKFACE_ATTRIBUTES, Bootstrap(100)).set_index("assumption")
    estimate = noise.loc["both err independently"]
    assert estimate["low"] < np.abs(error).mean() < estimate["high"]


def test_each_photograph_counts_once_however_many_copies_it_has():
    labels = [0] * 20 + [1] * 20 + [0, 0] * 30
    faces = pd.DataFrame({"age": np.nan, "gender": labels, "ethnicity": -1})
    group_id = np.array([0] * 40 + [1 + k // 2 for k in range(60)])
    disagree = label_noise(faces, group_id, UTKFACE_ATTRIBUTES, Bootstrap(300)).iloc[0]
    assert disagree["n"] == 31 and disagree["value"] == pytest.approx(20 * 20 / (40 * 39 / 2) / 31)
    assert disagree["low"] == 0 and disagree["high"] < 0.1
