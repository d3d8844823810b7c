"""Error measures against values worked out by hand or published, and intervals that resample whole groups."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from facelib import metrics, statistics
from facelib.statistics import Estimate, bootstrap, rate, rate_difference

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


def test_cumulative_score_counts_up_to_k_years():
    assert [metrics.cs(AGE_TRUE, AGE_PRED, k) for k in (0, 1.9, 2, 4.9, 9, 10)] == [0.25, 0.25, 0.5, 0.5, 0.75, 1]


def test_r2_of_the_mean_is_zero_and_undefined_without_spread():
    assert metrics.r2([1, 2, 3], [2, 2, 2]) == 0
    assert math.isnan(metrics.r2([5, 5], [4, 6]))


def test_class_measures():
    y_true, y_pred = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]
    assert metrics.accuracy(y_true, y_pred) == pytest.approx(4 / 6)
    # F1: class 0 has 2 hits, 1 miss, 1 false; class 1 has 2, 0, 1; class 2 has none
    assert metrics.macro_f1(y_true, y_pred) == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)


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


def test_the_interval_of_a_small_calibration_error_holds_it():
    # Every bin is right exactly as often as it is confident: any resample is further off.
    shares = np.array([0.6, 0.7, 0.8, 0.9])
    correct, confidence = (np.arange(100) < 100 * shares[:, None]).ravel(), np.repeat(shares, 100)
    drawn = statistics.bootstrap(metrics.expected_calibration_error, correct, confidence, resamples=200, seed=0)
    found = statistics.calibration_error(correct, confidence, resamples=200, seed=0)
    assert found.value < 1e-12 < drawn.low and (found.low, found.high, found.n) == (found.value, drawn.high, 400)


# --- proportions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(8, 10, 0.49016, 0.94332), (0, 20, 0.0, 0.16113), (20, 20, 0.83887, 1.0)],  # 0.16113 is z2 / (n + z2)
)
def test_rate_has_a_wilson_interval(successes, n, low, high):
    estimate = rate(successes, n)
    assert estimate.value == successes / n and estimate.n == n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table II, method 10
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
    ],
)
def test_rate_difference_has_newcombes_interval(counts, low, high):
    estimate = rate_difference(*counts)
    assert estimate.value == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=6e-5)
    assert estimate.n == counts[1] + counts[3]


def test_a_rate_of_nothing_is_undefined():
    estimate = rate(0, 0)
    assert math.isnan(estimate.value) and math.isnan(estimate.high) and estimate.n == 0


# --- bootstrap --------------------------------------------------------------------------------------------


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def test_bootstrap_of_a_mean_has_the_width_of_its_standard_error():
    errors_years = np.random.default_rng(0).normal(0, 6, 400)
    estimate = bootstrap(metrics.bias, np.zeros(400), errors_years, unit="years")
    assert estimate.value == pytest.approx(errors_years.mean())
    assert estimate.low < estimate.value < estimate.high
    assert width(estimate) == pytest.approx(2 * 1.96 * errors_years.std() / 20, rel=0.15)
    assert (estimate.n, estimate.unit) == (400, "years")


def test_copies_do_not_narrow_an_interval_when_their_groups_are_given():
    y_pred = np.random.default_rng(1).normal(0, 6, 30)
    copied, groups = np.repeat(y_pred, 9), np.repeat(np.arange(30), 9)
    single = bootstrap(metrics.bias, np.zeros(30), y_pred)
    grouped = bootstrap(metrics.bias, np.zeros(270), copied, groups=groups)
    naive = bootstrap(metrics.bias, np.zeros(270), copied)
    assert width(grouped) == pytest.approx(width(single), rel=0.1)
    assert width(naive) < 0.5 * width(grouped)  # nine copies feign three times the precision


def test_groups_are_drawn_whole_whatever_the_order_of_rows():
    groups = np.array(["b", "a", "c", "a", "b", "c", "a"])
    seen = []

    def statistic(rows):
        seen.append(sorted(rows.tolist()))
        return 0.0

    bootstrap(statistic, np.arange(7), groups=groups, resamples=50)
    members = [{0, 4}, {1, 3, 6}, {2, 5}]
    for rows in seen:
        assert all(len({rows.count(row) for row in whole}) == 1 for whole in members)
    assert len({tuple(rows) for rows in seen}) > 3


def test_bootstrap_repeats_with_its_seed_and_only_then():
    sample = np.random.default_rng(2).normal(size=50)
    first, again, other = (bootstrap(metrics.mae, sample, np.zeros(50), seed=seed) for seed in (3, 3, 4))
    assert first == again and first.low != other.low and first.value == other.value


def test_undefined_resamples_are_left_out_of_the_interval():
    y_true = np.array([0, 0, 0, 0, 1, 0, 0, 0])  # a third of the resamples hold no positive
    estimate = bootstrap(metrics.auc, y_true, np.arange(8.0), resamples=200)
    assert estimate.value == 4 / 7 and 0 < estimate.low < 4 / 7 < estimate.high < 1


def test_nothing_and_one_group_have_no_interval():
    nothing = bootstrap(metrics.mae, [], [])
    assert math.isnan(nothing.value) and nothing.n == 0
    one = bootstrap(metrics.mae, [1.0, 2.0], [2.0, 4.0], groups=[7, 7])
    assert one.value == 1.5 and math.isnan(one.low) and one.n == 2


# --- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.857, "4.86"), (0.9123, "0.912"), (1.0, "1"), (123.4, "123"), (-2.5, "-2.50"), (math.nan, "n/a")],
)
def test_numbers_are_rounded_for_reading(value, text):
    assert statistics.format_value(value) == text


def test_an_estimate_reads_as_value_unit_and_interval():
    assert str(Estimate(4.857, 4.7, 5.01, 2301, "years")) == "4.86 years (4.70 to 5.01)"
    assert Estimate(0.5, 0.4, 0.6, 9).to_dict() == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "unit": ""}
