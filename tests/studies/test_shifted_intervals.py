"""Intervals under shift: planted shifts that reweighting or new labels repair, and bands counted as they are."""

import numpy as np
import pandas as pd
import pytest

from facelib.prediction.calibration import fit_age_intervals
from studies.shifted_intervals import bands_of, covered, likelihood_ratios, refitted, weighted_half_widths


def test_reweighting_restores_coverage_where_new_faces_are_of_a_rare_kind():
    rng = np.random.default_rng(0)

    def draw(n: int, rare: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kind = rng.random(n) < rare
        features = rng.normal(0, 1, (n, 3)) + 4 * kind[:, None]
        return features, np.full(n, 40.0), 40 + rng.normal(0, np.where(kind, 12, 3))

    own, new = draw(2000, 0.1), draw(2000, 0.8)
    low, high = fit_age_intervals(own[2], own[1], most=1)(new[1])
    plain = ((low <= new[2]) & (new[2] <= high)).mean()
    ratios = likelihood_ratios(own[0], new[0])
    half = weighted_half_widths(np.abs(own[2] - own[1]), *ratios)
    weighted = (np.abs(new[2] - new[1]) <= half).mean()
    assert plain < 0.7 and weighted == pytest.approx(0.9, abs=0.05)


def test_faces_of_which_calibration_says_nothing_get_the_widest_interval():
    residuals, weights = np.arange(1.0, 11), np.ones(10)
    assert weighted_half_widths(residuals, weights, np.array([1.0, 100.0])).tolist() == [10.0, 116.0]
    assert weighted_half_widths(np.arange(1.0, 11), np.r_[np.zeros(9), 1.0], np.array([0.0])).tolist() == [10.0]


def test_bands_are_reached_if_touched_and_held_if_within():
    low, high = np.array([10.0, 10, 10, 40]), np.array([30.0, 30, 30, 50])
    found = covered(low, high, np.array([20.0, 25, 31, 45]), np.array([29.0, 39, 39, 45]))
    assert (found["reached"]["value"], found["held"]["value"], found["width"]) == (0.75, 0.5, 17.5)
    faces = pd.DataFrame(
        {"age": [7.0, np.nan, np.nan], "age_from": [np.nan, 20, np.nan], "age_to": [np.nan, 29, np.nan]}
    )
    assert [part.tolist()[:2] for part in bands_of(faces)] == [[7, 20], [7, 29]]
    assert [part.tolist() for part in bands_of(faces[["age"]].head(1))] == [[7], [7]]


def test_some_labelled_new_faces_restore_the_promise():
    rng, n = np.random.default_rng(0), 1500
    truth, first = rng.integers(0, 80, n).astype(float), None
    first = truth // 10 * 10
    ages = truth + 8 + rng.normal(0, 9, n)  # as if of other photographs: too old, and noisier
    found = refitted(ages, first, first + 9, 200, 0)
    assert found["reached"]["value"] == pytest.approx(0.9, abs=0.015) and found["reached"]["n"] == 1300
    assert found["reached"]["low"] < 0.9 < found["reached"]["high"]
