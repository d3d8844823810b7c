"""Ways to predict age, compared by hand and against planted shrinkage."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation.age import (
    balanced_weights,
    compare_bins,
    compare_errors,
    paired_differences,
    shrinkage,
    straighten,
)

Y_TRUE = np.array([10.0, 40.0, 50.0, 80.0])
FEW = {"resamples": 50, "seed": 0}


def test_errors_by_hand():
    estimates = {"a": Y_TRUE + np.array([0.5, -2.6, -4.4, -8.0])}  # 1, -3, -4 and -8 in whole years
    found = compare_errors(estimates, Y_TRUE, groups=np.arange(4), **FEW).iloc[0]
    assert (found["method"], found["mae"], found["n"]) == ("a", 4, 4)
    assert (found["mae_le45"], found["mae_gt45"], found["bias_gt45"]) == (2, 6, -6)


def test_without_older_people_their_error_is_unknown():
    found = compare_errors({"a": np.array([11.0, 20.4])}, np.array([10.0, 20.0]), groups=np.arange(2), **FEW).iloc[0]
    assert found["mae_le45"] == 0.5 and np.isnan(found["mae_gt45"])


def test_a_difference_counts_only_where_its_interval_excludes_zero():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 90, 400).astype(float)
    noise = 2 * rng.normal(0, 3, 400).round()
    estimates = {
        "reference": y_true + noise,
        "smaller errors": y_true + noise / 2,
        "larger errors": y_true + noise * 1.5 + 0.4,
        "other errors": y_true + rng.permutation(noise),
    }
    found = paired_differences(estimates, "reference", y_true, groups=np.arange(400), **FEW).set_index("method")
    assert found["answer"].to_dict() == {
        "smaller errors": "better",
        "larger errors": "worse",
        "other errors": "cannot tell",
    }
    assert found.loc["smaller errors", "difference"] == pytest.approx(-np.abs(noise).mean() / 2)


def test_numbers_of_bins_that_ties_make_equal_are_tried_once():
    rng = np.random.default_rng(0)
    ages = rng.choice([5.0, 25.0, 60.0], 240)  # a data set that knows three bands alone
    features = rng.normal(0, 1, (1, 240, 3))
    features[0, :, 0] = ages / 10
    found = compare_bins(features.astype(np.float16), ages, features[0], ages, (2, 3, 6, 12), seed=0)
    assert found["bins"].tolist() == [2, 3]
    # With a bin for each band the true bin's median is the age itself.
    assert found.set_index("bins").loc[3, "no_image"] == 0
    assert (found["bin_accuracy"] > 0.9).all() and (found["soft"] < 8).all()


def test_planted_shrinkage_is_found_by_group_and_undone():
    rng = np.random.default_rng(0)
    age = rng.uniform(0, 90, 600)
    frame = pd.DataFrame({"age": age, "group_id": np.arange(600), "gender_name": np.repeat(["female", "male"], 300)})
    slopes = np.where(frame["gender_name"] == "female", 0.9, 0.6)
    frame["age_pred"] = 40 + slopes * (age - 40) + rng.normal(0, 3, 600)
    found = shrinkage(frame, "gender_name", 10, **FEW).set_index("group")
    assert found.loc["female", "low"] < 0.9 < found.loc["female", "high"]
    assert found.loc["male", "low"] < 0.6 < found.loc["male", "high"]
    assert found.loc["male", "bias_gt45"] < found.loc["female", "bias_gt45"] < 0 < found.loc["male", "bias_le45"]
    male = frame[frame["gender_name"] == "male"]
    intercept, slope = straighten(male["age"], male["age_pred"])
    straight = male.assign(age_pred=intercept + slope * male["age_pred"])
    assert shrinkage(straight, "gender_name", 10, **FEW).loc[0, "slope"] == pytest.approx(1)


def test_small_groups_and_groups_of_one_age_have_no_slope():
    frame = pd.DataFrame(
        {
            "age": [1.0, 2, 3, 30, 30, 30, 50],
            "age_pred": [1.0, 2, 4, 30, 31, 32, 40],
            "group_id": range(7),
            "kind": ["grows"] * 3 + ["one age"] * 3 + ["few"],
        }
    )
    assert shrinkage(frame, "kind", 2, **FEW)["group"].tolist() == ["grows"]


def test_balanced_weights_by_hand():
    weights = balanced_weights(np.array([1.0, 2.0, 3.0, 35.0]))
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])


def test_predictions_that_do_not_follow_the_age_are_left():
    assert straighten(Y_TRUE, 30 + 0.1 * Y_TRUE) == (0, 1)
