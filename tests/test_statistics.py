"""Intervals against published or computed values; whole groups are resampled; permutations and corrections."""

import math

import numpy as np
import pytest
from scipy import stats

from facelib import metrics
from facelib.statistics import (
    Bootstrap,
    Estimate,
    adjusted,
    calibration_error,
    format_value,
    largest_gap,
    mean,
    rate,
    rate_difference,
)


def test_a_calibration_error_of_chance_alone_is_said_to_be_chance():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 1500)
    honest = calibration_error(rng.random(1500) < confidence, confidence, Bootstrap(200))
    assert honest.observed > 0.01 and honest.by_chance == pytest.approx(honest.observed, rel=0.4) and honest.p > 0.05
    assert honest.estimate.value < 0.6 * honest.observed and honest.estimate.low == 0 and honest.estimate.n == 1500
    proud = calibration_error(rng.random(1500) < confidence - 0.1, confidence, Bootstrap(200))
    assert proud.p < 0.01 and proud.by_chance == pytest.approx(honest.by_chance, rel=0.1)
    assert proud.estimate.low < 0.1 < proud.estimate.high and proud.estimate.low > 0.05


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
    estimate = Bootstrap()(metrics.bias, np.zeros(400), errors_years, unit="years")
    assert estimate.value == pytest.approx(errors_years.mean())
    assert estimate.low < estimate.value < estimate.high
    assert width(estimate) == pytest.approx(2 * 1.96 * errors_years.std() / 20, rel=0.15)
    assert (estimate.n, estimate.unit) == (400, "years")


def test_copies_do_not_narrow_an_interval_when_their_groups_are_given():
    y_pred = np.random.default_rng(1).normal(0, 6, 30)
    copied, groups = np.repeat(y_pred, 9), np.repeat(np.arange(30), 9)
    single = Bootstrap()(metrics.bias, np.zeros(30), y_pred)
    grouped = Bootstrap()(metrics.bias, np.zeros(270), copied, groups=groups)
    naive = Bootstrap()(metrics.bias, np.zeros(270), copied)
    assert width(grouped) == pytest.approx(width(single), rel=0.1)
    assert width(naive) < 0.5 * width(grouped)  # nine copies feign three times the precision


def test_groups_are_drawn_whole_whatever_the_order_of_rows():
    groups = np.array(["b", "a", "c", "a", "b", "c", "a"])
    seen = []

    def statistic(rows):
        seen.append(sorted(rows.tolist()))
        return 0.0

    Bootstrap(50)(statistic, np.arange(7), groups=groups)
    members = [{0, 4}, {1, 3, 6}, {2, 5}]
    for rows in seen:
        assert all(len({rows.count(row) for row in whole}) == 1 for whole in members)
    assert len({tuple(rows) for rows in seen}) > 3


def test_bootstrap_repeats_with_its_seed_and_only_then():
    sample = np.random.default_rng(2).normal(size=50)
    first, again, other = (Bootstrap(seed=seed)(metrics.mae, sample, np.zeros(50)) for seed in (3, 3, 4))
    assert first == again and first.low != other.low and first.value == other.value


def test_undefined_resamples_are_left_out_of_the_interval():
    y_true = np.array([0, 0, 0, 0, 1, 0, 0, 0])  # a third of the resamples hold no positive
    estimate = Bootstrap(200)(metrics.auc, y_true, np.arange(8.0))
    assert estimate.value == 4 / 7 and 0 < estimate.low < 4 / 7 < estimate.high < 1


@pytest.mark.filterwarnings("error")
def test_a_statistic_that_no_resample_defines_has_no_interval_and_warns_of_nothing():
    estimate = Bootstrap(20)(lambda values: math.nan, np.arange(5.0))
    assert math.isnan(estimate.value) and math.isnan(estimate.low) and math.isnan(estimate.high) and estimate.n == 5


def test_nothing_and_one_group_have_no_interval():
    nothing = Bootstrap()(metrics.mae, [], [])
    assert math.isnan(nothing.value) and nothing.n == 0
    one = Bootstrap()(metrics.mae, [1.0, 2.0], [2.0, 4.0], groups=[7, 7])
    assert one.value == 1.5 and math.isnan(one.low) and one.n == 2


def test_weights_draw_groups_whole_and_begin_with_the_sample():
    weights = Bootstrap(50, seed=1).weights(["b", "a", "b", "c"])
    assert weights.shape == (51, 4) and (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all() and len(np.unique(weights[:, 0])) > 1
    # Three groups are drawn each time.
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert Bootstrap(5).weights([]).shape == (6, 0)


def test_an_estimate_of_draws_has_their_percentiles_and_none_where_nothing_varies():
    draws = np.concatenate([[0.5], np.linspace(0, 1, 201)])
    estimate = Bootstrap().of_draws(draws, 9, "share")
    assert (estimate.value, estimate.n, estimate.unit) == (0.5, 9, "share")
    assert (estimate.low, estimate.high) == pytest.approx((0.025, 0.975))
    assert math.isnan(Bootstrap().of_draws(np.zeros(50), 9).low)
    assert math.isnan(Bootstrap().of_draws(np.array([np.nan, 1.0, 2.0]), 9).high)


# --- permutations and many tests --------------------------------------------------------------------------


def test_p_values_are_adjusted_as_by_hand_and_missing_ones_do_not_count():
    # Benjamini-Hochberg of 0.01, 0.02, 0.5: 3/1 * 0.01, 3/2 * 0.02, 0.5
    np.testing.assert_allclose(adjusted([0.5, 0.01, np.nan, 0.02]), [0.5, 0.03, np.nan, 0.03])
    assert np.isnan(adjusted([np.nan])).all() and adjusted([]).size == 0


def test_a_mean_of_few_rows_has_students_interval():
    values, groups = np.random.default_rng(0).normal(2, 1, 10), np.arange(10)
    estimate = mean(values, unit="years", confidence=0.99)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.99)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    copied = mean(np.repeat(values, 3), np.repeat(groups, 3), confidence=0.99)
    assert (copied.value, copied.low, copied.high) == pytest.approx((estimate.value, expected.low, expected.high))
    assert copied.n == 30 and math.isnan(mean([1.0]).low) and mean([]).n == 0


def test_a_real_difference_is_beyond_chance_and_noise_is_not():
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], 200)
    noise = rng.normal(size=600)
    same, apart = (largest_gap(noise + 2 * shift * (groups == "c"), groups, seed=1) for shift in (0, 1))
    assert apart.p < 0.01 and apart.estimate.low > 1 and apart.estimate.value == pytest.approx(2, abs=0.3)
    assert same.p > 0.05 and same.estimate.low == 0 and same.by_chance > 0


def test_two_groups_have_the_interval_of_their_difference():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 80), rng.normal(1, 3, 120)
    gap = largest_gap(np.r_[a, b], np.repeat(["a", "b"], [80, 120]), seed=0).estimate
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high), abs=0.12)


@pytest.mark.slow
def test_groups_that_do_not_differ_are_found_to_at_the_promised_rate_and_the_interval_holds_the_truth():
    rng, sizes = np.random.default_rng(0), [20, 30, 40, 60, 150]
    groups, found, held = np.repeat(np.arange(5), sizes), 0, 0
    for seed in range(300):
        noise = rng.exponential(4, 300)
        found += largest_gap(noise, groups, seed).estimate.low > 0
        wide = largest_gap(noise + 2 * (groups == 3), groups, seed).estimate
        held += wide.low <= 2 <= wide.high
    # 15 of 300 are expected; less than 5 or more than 27 come up in one of 500 seeds.
    assert 5 <= found <= 27 and held >= 273


def test_what_strata_explain_is_no_difference_between_groups():
    strata = np.repeat(["young", "old"], 400)
    groups = np.concatenate([np.repeat(["a", "b"], [300, 100]), np.repeat(["a", "b"], [100, 300])])
    values = np.where(strata == "old", 10.0, 0.0) + np.random.default_rng(0).normal(size=800)
    assert largest_gap(values, groups, seed=0).estimate.low > 4
    standardised = largest_gap(values, groups, seed=0, strata=strata)
    assert standardised.estimate.value < 0.5 and standardised.p > 0.01
    with pytest.raises(ValueError, match="group b has no row"):
        largest_gap(values[:500], np.where(strata == "old", "a", groups)[:500], seed=0, strata=strata[:500])


# --- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(4.857, "", "4.86"), (0.9123, "", "0.912"), (1.0, "", "1"), (123.4, "", "123"), (-2.5, "", "-2.50"),
     (math.nan, "share", "n/a"), (0.9416, "share", "94.2 %"), (12.0, "years", "12 y"), (23704, "images", "23,704")],
)  # fmt: skip
def test_numbers_are_rounded_for_reading(value, unit, text):
    assert format_value(value, unit) == text


def test_an_estimate_reads_as_value_unit_and_interval():
    assert str(Estimate(4.857, 4.7, 5.01, 2301, "years")) == "4.86 y (4.70 to 5.01)"
    assert str(Estimate(0.5, 0.4, 0.6, 9, "share")) == "50.0 % (40.0 to 60.0)"
    assert str(Estimate.unknown(3)) == "not measured"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((32, 30.09, 33.81), "32.00 y (30.09 to 33.81)"), ((1.02, 0.98, 1.06), "1.02 y (0.98 to 1.06)"),
     ((99.5, 97, 101.2), "99.50 y (97.00 to 101.20)"), ((0, -0.25, 0.5), "0.00 y (-0.25 to 0.50)"),
     ((123.4, 98.7, 150), "123 y (99 to 150)"), ((32, 30, 34), "32 y (30 to 34)")],
)  # fmt: skip
def test_a_value_and_its_interval_have_the_same_decimals(numbers, text):
    estimate = Estimate(*map(float, numbers), 9, "years")
    assert str(estimate) == text == f"{estimate.text} ({estimate.interval_text})"


def test_an_estimate_survives_json_and_fills_the_columns_of_a_table():
    estimate = Estimate(0.5, 0.4, 0.6, 9)
    assert estimate.to_dict() == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "unit": ""}
    assert Estimate.from_dict(estimate.to_dict()) == estimate
    assert estimate.columns("mae") == {"mae": 0.5, "mae_low": 0.4, "mae_high": 0.6}
    assert math.isnan(Estimate.from_dict({"value": None, "low": None, "high": None, "n": 0}).value)


@pytest.mark.parametrize(("low", "high", "answer"), [(1, 2, "more"), (-2, -1, "less"), (-1, 2, "inconclusive")])
def test_an_interval_on_one_side_of_a_number_answers(low, high, answer):
    assert Estimate((low + high) / 2, low, high, 9).against(0, "less", "more") == answer
