"""Error measures against values worked out by hand or by scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from facelib import metrics

AGE_TRUE, AGE_PRED = [10, 20, 30, 40], [12, 15, 30, 50]  # errors +2, -5, 0, +10 years


@pytest.mark.parametrize("container", [list, np.array, pd.Series])
@pytest.mark.parametrize(
    ("measure", "value"),
    [
        (metrics.mae, 17 / 4),
        (metrics.bias, 7 / 4),
        (metrics.cs5, 3 / 4),  # an error of exactly 5 years counts
        (metrics.r2, 1 - 129 / 500),  # squares 4 + 25 + 0 + 100 over 225 + 25 + 25 + 225
    ],
)
def test_age_errors(container, measure, value):
    assert measure(container(AGE_TRUE), container(AGE_PRED)) == pytest.approx(value)


def test_cells_weigh_the_same_however_many_rows_they_have():
    # Cell 3 has errors 2 and 5, cell 7 errors 0 and 10, cells between none.
    assert metrics.mae_over_cells(AGE_TRUE, AGE_PRED, [3, 3, 7, 7]) == pytest.approx((3.5 + 5) / 2)
    assert metrics.mae_over_cells(AGE_TRUE, AGE_PRED, [1, 1, 1, 4]) == pytest.approx((7 / 3 + 10) / 2)


def test_r2_of_the_mean_is_zero_and_undefined_without_spread():
    assert metrics.r2([1, 2, 3], [2, 2, 2]) == 0
    assert math.isnan(metrics.r2([5, 5], [4, 6]))


def test_class_measures():
    y_true, y_pred = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]
    assert metrics.accuracy(y_true, y_pred) == pytest.approx(4 / 6)
    # F1: class 0 has 2 hits, 1 miss, 1 false; class 1 has 2, 0, 1; class 2 has none
    assert metrics.macro_f1(y_true, y_pred) == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
    others = np.random.default_rng(0).choice([0.0, 2, 4], (2, 50))
    assert metrics.macro_f1(*others) == pytest.approx(sk.f1_score(*others, average="macro"))


@pytest.mark.parametrize("decimals", [6, 1, 0])
def test_auc_equals_scikit_learns_also_with_ties(decimals):
    rng = np.random.default_rng(decimals)
    y_true = rng.integers(0, 2, 200)
    score = np.round(rng.normal(y_true, 1.5), decimals)
    assert metrics.auc(y_true, score) == pytest.approx(sk.roc_auc_score(y_true, score), abs=1e-12)


def test_auc_by_hand_and_without_one_class():
    assert metrics.auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.9]) == 3.5 / 4  # a tie counts one half
    assert math.isnan(metrics.auc([1, 1], [0.2, 0.3]))


@pytest.mark.parametrize("decimals", [6, 1, 0])
def test_average_precision_equals_scikit_learns_also_with_ties(decimals):
    rng = np.random.default_rng(decimals)
    y_true = (rng.random(200) < 0.2).astype(int)
    score = np.round(rng.normal(y_true, 1.5), decimals)
    expected = sk.average_precision_score(y_true, score)
    assert metrics.average_precision(y_true, score) == pytest.approx(expected, abs=1e-12)


def test_average_precision_by_hand_and_without_one_class():
    # Ranked 1, 0, 1: the first find at precision 1, the second at 2/3.
    assert metrics.average_precision([1, 0, 1], [0.9, 0.8, 0.2]) == pytest.approx((1 + 2 / 3) / 2)
    # A score that knows nothing reaches the share of class 1.
    assert metrics.average_precision([1, 0, 0, 0], [0.5] * 4) == 0.25
    assert math.isnan(metrics.average_precision([1, 1], [0.2, 0.3]))


def test_calibration_error_weighs_each_bins_gap_by_its_count():
    correct, confidence = [True, True, True, False], [0.95, 0.95, 0.95, 0.65]
    expected = 3 / 4 * 0.05 + 1 / 4 * 0.65
    assert metrics.expected_calibration_error(correct, confidence, bins=10) == pytest.approx(expected)
    # A confidence of 1 shares the last bin: one of two is right, at a mean confidence of 0.975.
    assert metrics.expected_calibration_error([False, True], [1.0, 0.95], bins=10) == pytest.approx(0.475)
