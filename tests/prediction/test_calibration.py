"""Temperatures that undo a known scaling, and age intervals with the promised coverage."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from facelib.prediction.calibration import (
    COVERAGE,
    MIN_CATEGORY,
    MIN_ROWS,
    MONDRIAN_BINS,
    AgeIntervals,
    fit_age_intervals,
    fit_temperature,
)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5, 6.0])
def test_a_known_scaling_of_the_logits_is_recovered(factor):
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20_000, 5))
    y_true = (softmax(honest, axis=1).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(honest * factor, y_true) == pytest.approx(factor, rel=0.05)


def test_the_temperature_has_the_lowest_loss():
    rng = np.random.default_rng(1)
    logits, y_true = rng.normal(0, 3, (300, 2)), rng.integers(0, 2, 300)
    logits[np.arange(300), y_true] += 1.5

    def loss(temperature: float) -> float:
        return -log_softmax(logits / temperature, axis=1)[np.arange(300), y_true].mean()

    found = fit_temperature(logits, y_true)
    assert all(loss(found) <= loss(found * factor) for factor in (0.8, 0.95, 1.05, 1.25))


@pytest.mark.parametrize("n", [0, 1, MIN_ROWS - 1])
def test_too_few_rows_scale_nothing(n):
    sure = np.tile([1.0, 0, 0, 0, 0], (n, 1))  # right each time: the more certain, the lower the loss
    assert fit_temperature(sure, np.zeros(n, int)) == 1
    assert fit_temperature(np.tile([1.0, 0, 0, 0, 0], (MIN_ROWS, 1)), np.zeros(MIN_ROWS, int)) < 0.1


# --- intervals --------------------------------------------------------------------------------------------


def simulate(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions, years; the older, the larger the error."""
    age_pred = rng.uniform(25, 85, n)
    return age_pred + rng.normal(0, age_pred / 10), age_pred


def test_intervals_hold_their_share_overall_and_in_every_category():
    rng = np.random.default_rng(2)
    held, category = [], []
    for _ in range(60):
        intervals = fit_age_intervals(*simulate(rng, 3 * MIN_CATEGORY + 30))
        y_true, age_pred = simulate(rng, 200)
        low, high = intervals(age_pred)
        held.append((low <= y_true) & (y_true <= high))
        category.append(np.searchsorted(intervals.edges, age_pred, side="right"))
    held, category = np.concatenate(held), np.concatenate(category)
    # 60 calibrations of 50 rows a category: their own spread of 0.042 / sqrt(60) beside the binomial one.
    for part in (category == 0, category == 1, category == 2, category >= 0):
        deviation = np.hypot(np.sqrt(0.09 / part.sum()), 0.042 / np.sqrt(60))
        # With 50 rows the smallest promise not below 0.9 is 46 of 51.
        assert COVERAGE - 4 * deviation <= held[part].mean() <= 46 / 51 + 4 * deviation


def test_one_width_for_all_would_fail_the_oldest():
    rng = np.random.default_rng(3)
    intervals = fit_age_intervals(*simulate(rng, 3000))
    assert len(intervals.half_widths) == MONDRIAN_BINS and len(intervals.edges) == MONDRIAN_BINS - 1
    assert list(intervals.half_widths) == sorted(intervals.half_widths)
    assert intervals.half_widths[2] > 1.5 * intervals.half_widths[0]


def test_the_half_width_is_the_conformal_quantile_by_hand():
    age_pred = np.full(24, 50.0)
    y_true = age_pred + np.array([(-1) ** k * k for k in range(1, 25)])  # errors of 1 to 24 years
    assert fit_age_intervals(y_true, age_pred) == AgeIntervals((), (23.0,))  # the 23rd: 0.9 * (24 + 1), rounded up


def test_too_few_rows_give_the_whole_range_of_ages():
    rng = np.random.default_rng(4)
    for n in (0, 1, 9):
        low, high = fit_age_intervals(*simulate(rng, n))(np.array([0.0, 30.0, 116.0]))
        assert low.tolist() == [0, 0, 0] and high.tolist() == [116, 116, 116]


@pytest.mark.parametrize(("n", "categories"), [(10, 1), (79, 1), (80, 2), (119, 2), (120, 3), (1000, 3)])
def test_categories_need_rows_enough(n, categories):
    intervals = fit_age_intervals(*simulate(np.random.default_rng(5), n))
    assert len(intervals.half_widths) == categories and len(intervals.edges) == categories - 1


@pytest.mark.parametrize(
    ("ages", "edges"), [([33.0] * 200, 0), ([33.0] * 180 + [50.0] * 20, 0), ([20.0, 40.0] * 100, 1)]
)
def test_tied_predictions_leave_no_category_without_rows(ages, edges):
    errors = np.random.default_rng(7).uniform(1, 30, len(ages))
    intervals = fit_age_intervals(np.array(ages) + errors, np.array(ages))
    assert len(intervals.edges) == edges and len(intervals.half_widths) == edges + 1 and min(intervals.half_widths) > 20


def test_ends_are_clipped_and_categories_open_at_their_edges():
    intervals = AgeIntervals((30.0, 60.0), (2.0, 5.0, 70.0))
    low, high = intervals(np.array([1.0, 29.9, 30.0, 60.0]))
    assert low == pytest.approx([0.0, 27.9, 25.0, 0.0])
    assert high == pytest.approx([3.0, 31.9, 35.0, 116.0])


def test_a_wider_promise_makes_wider_intervals():
    rng = np.random.default_rng(6)
    y_true, age_pred = simulate(rng, 400)
    half, most = (fit_age_intervals(y_true, age_pred, coverage).half_widths for coverage in (0.5, 0.95))
    assert all(np.array(half) < np.array(most))
