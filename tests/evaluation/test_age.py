"""Ways to predict age, compared by hand and against planted shrinkage."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation import age as age_evaluation
from facelib.evaluation.age import (
    OWN_HEAD,
    SOFT_HEAD,
    Comparison,
    balanced_weights,
    choose_method,
    compare_bins,
    deshrink,
    heads_finding,
    remedies,
    shrinkage,
    shrinkage_finding,
    shrinkage_table,
    stage_estimates,
    stage_metrics,
)
from facelib.models.age_stages import AgeStagesNet
from facelib.runs import start_run
from facelib.schema import AGE, ClassAttribute
from facelib.statistics import Bootstrap

Y_TRUE = np.array([10.0, 40.0, 50.0, 80.0])
FEW = Bootstrap(50)
EXPRESSION = ClassAttribute("expression", classes=("calm", "glad"))


def comparison(y_true: np.ndarray) -> Comparison:
    return Comparison(y_true, np.arange(len(y_true)), FEW)


def test_errors_by_hand():
    estimates = {"direct": Y_TRUE + np.array([0.5, -2.6, -4.4, -8.0])}  # 1, -3, -4 and -8 in whole years
    row = comparison(Y_TRUE).errors(estimates).iloc[0]
    assert (row["method"], row["name"], row["mae"], row["n"]) == ("direct", "direct, no bins", 4, 4)
    assert (row["mae_le45"], row["mae_gt45"], row["bias_gt45"]) == (2, 6, -6)
    assert row["mae_low"] <= 4 <= row["mae_high"]


def test_copies_are_resampled_together():
    estimates = {"a": np.repeat([12.0, 46.0], 50)}
    y_true = np.repeat([10.0, 40.0], 50)
    grouped = Comparison(y_true, np.repeat([0, 1], 50), FEW).errors(estimates).iloc[0]
    assert (grouped["mae_low"], grouped["mae_high"]) == (2, 6)  # two groups: each resample is one of them or both


def test_without_older_people_their_error_is_unknown():
    row = comparison(np.array([10.0, 20.0])).errors({"a": np.array([11.0, 20.4])}).iloc[0]
    assert row["mae_le45"] == 0.5 and np.isnan(row["mae_gt45"])


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
    table = comparison(y_true).differences(estimates, "reference").set_index("method")
    assert table["answer"].to_dict() == {
        "smaller errors": "better",
        "larger errors": "worse",
        "other errors": "inconclusive",
    }
    assert table.loc["smaller errors", "difference"] == pytest.approx(-np.abs(noise).mean() / 2)


# --- two stages -------------------------------------------------------------------------------------------


@pytest.fixture
def stages(tiny) -> AgeStagesNet:
    return AgeStagesNet({"architecture": tiny}, (30.0, 60.0), (20.0, 40.0, 70.0))


def test_estimates_of_the_validation_faces_by_hand(stages):
    ages = np.array([5.0, 15.0, 90.0, 10.0, 65.0])
    bin_ages = np.array([[1.0, 31, 61]] * 3 + [[12.0, 32, 62], [13.0, 33, 63]])
    rows = {"train": np.array([0, 1, 2]), "validation": np.array([3, 4])}
    estimates = stage_estimates({"direct": np.arange(5.0)}, stages, bin_ages, ages, rows)
    assert {name: value.tolist() for name, value in estimates.items()} == {
        "direct": [3, 4],
        "oracle_bin": [12, 63],
        "no_image": [20, 70],
        "median": [15, 15],
    }


def stage_errors() -> pd.DataFrame:
    mae = {"direct": 5.0, "routed": 6.0, "soft": 4.5, "mean": 4.75, "oracle_bin": 2.0, "no_image": 3.25, "median": 9.0}
    rows = [{"method": name, "mae": mae, "mae_low": mae - 1, "mae_high": mae + 1, "n": 40} for name, mae in mae.items()]
    return pd.DataFrame(rows)


def test_the_method_with_the_lowest_error_is_chosen_among_those_that_do_not_see_the_label():
    differences = pd.DataFrame({"method": ["routed", "soft"], "answer": ["worse", "inconclusive"]})
    method, finding = choose_method(stage_errors(), differences, np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]))
    assert method == "soft" and finding.key == "age.chosen"
    assert (finding.estimate.value, finding.estimate.low, finding.estimate.n) == (4.5, 3.5, 40)
    for number in ("4.50 y", "75.0 %", "4.0 years", "3.25 years", "routed is worse and soft is not shown to differ"):
        assert number in finding.text


def test_the_headline_holds_the_error_of_each_method():
    headline = stage_metrics(stage_errors())
    assert len(headline) == 7
    estimate = headline["validation.age_stages.mae_no_image"]
    assert (estimate.value, estimate.low, estimate.high, estimate.n, estimate.unit) == (3.25, 2.25, 4.25, 40, "years")


@pytest.mark.slow
def test_numbers_of_bins_that_ties_make_equal_are_tried_once():
    rng = np.random.default_rng(0)
    ages = rng.choice([5.0, 25.0, 60.0], 240)  # as of a data set with three age bands
    features = rng.normal(0, 1, (1, 240, 3))
    features[0, :, 0] = ages / 10
    table = compare_bins(features.astype(np.float16), ages, features[0], ages, (2, 3, 6, 12), seed=0)
    assert table["bins"].tolist() == [2, 3]
    # With a bin for each band the true bin's median is the age itself.
    assert table.set_index("bins").loc[3, "no_image"] == 0
    assert (table["bin_accuracy"] > 0.9).all() and (table["soft"] < 8).all()


# --- heads and shrinkage ----------------------------------------------------------------------------------


def test_the_best_head_is_compared_with_its_error_on_training_images():
    errors = pd.DataFrame({"method": [OWN_HEAD, "a", "b"], "mae": [3.0, 5.0, 4.0], "n": 30})
    differences = pd.DataFrame({"method": ["a", "b"], "answer": ["worse", "inconclusive"]})
    trained = {"a": np.array([9.0, 9.0]), "b": np.array([11.0, 23.4])}
    finding = heads_finding(errors, differences, trained, np.array([10.0, 20.0]))
    assert (finding.key, finding.n) == ("age.heads", 30)
    for part in (
        "0 have a lower error",
        "and 1 a higher one",
        "for 1 the interval includes 0",
        "The error is lowest for b: 4.00 years",
        "2.00 years on augmented",
    ):
        assert part in finding.text


def test_planted_shrinkage_is_measured_by_group_and_undone():
    rng = np.random.default_rng(0)
    age = rng.uniform(0, 90, 600)
    frame = pd.DataFrame({"age": age, "group_id": np.arange(600), "kind": np.repeat(["a", "b"], 300)})
    slopes = np.where(frame["kind"] == "a", 0.9, 0.6)
    frame["age_pred"] = 40 + slopes * (age - 40) + rng.normal(0, 3, 600)
    table = shrinkage(frame, "kind", 10, FEW).set_index("group")
    assert table.loc["a", "slope_low"] < 0.9 < table.loc["a", "slope_high"]
    assert table.loc["b", "slope_low"] < 0.6 < table.loc["b", "slope_high"]
    assert table.loc["b", "bias_gt45"] < table.loc["a", "bias_gt45"] < 0 < table.loc["b", "bias_le45"]
    flat = frame[frame["kind"] == "b"]
    intercept, slope = deshrink(flat["age"], flat["age_pred"])
    steeper = flat.assign(age_pred=intercept + slope * flat["age_pred"])
    assert shrinkage(steeper, "kind", 10, FEW).loc[0, "slope"] == pytest.approx(1)


def test_small_groups_and_groups_of_one_age_have_no_slope():
    frame = pd.DataFrame(
        {
            "age": [1.0, 2, 3, 30, 30, 30, 50],
            "age_pred": [1.0, 2, 4, 30, 31, 32, 40],
            "group_id": range(7),
            "kind": ["grows"] * 3 + ["one age"] * 3 + ["few"],
        }
    )
    assert shrinkage(frame, "kind", 2, FEW)["group"].tolist() == ["grows"]


def test_the_slopes_of_a_run_are_those_of_its_predictor_on_validation(empty_runs):
    run = start_run("aged", "smoke", overrides={"min_group": 5})
    run.set_attributes((AGE, EXPRESSION), (AGE, EXPRESSION))
    age = np.arange(1.0, 81.0)
    faces = pd.DataFrame({"image_id": [str(k) for k in range(80)], "age": age, "expression": np.repeat([0, 1], 40)})
    faces.loc[7, "age"] = np.nan
    run.save_table(faces, "faces")
    split = np.where(np.arange(80) % 2, "validation", "test")
    splits = pd.DataFrame({"image_id": faces["image_id"], "split": split, "group_id": range(80)})
    run.save_table(splits.assign(representative=splits["group_id"] != 9), "splits")
    base = splits[["image_id", "split"]].assign(
        p_expression_calm=0.5, p_expression_glad=0.5, age_low=0.0, age_high=99.0
    )
    models = [
        base.assign(model=model, age_pred=factor * age) for model, factor in {"multitask": 2, "predictor": 1}.items()
    ]
    run.save_table(pd.concat(models, ignore_index=True), "predictions")
    table = shrinkage_table(run)
    assert table["group"].tolist() == ["all faces", "calm", "glad"] and table["n"].tolist() == [38, 18, 20]
    assert table["slope"].to_numpy() == pytest.approx([1, 1, 1])


def test_balanced_weights_by_hand():
    weights = balanced_weights(np.array([1.0, 2.0, 3.0, 35.0]))
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])


def test_predictions_that_do_not_follow_the_age_are_left():
    assert deshrink(Y_TRUE, 30 + 0.1 * Y_TRUE) == (0, 1)


def test_the_remedies_are_the_balanced_head_and_the_inverted_line(monkeypatch):
    def fit(features, ages, seed, names, weights):
        assert names == (SOFT_HEAD,) and weights.tolist() == balanced_weights(ages).tolist()
        return lambda new: {f"{SOFT_HEAD}, mean": new[:, 0]}

    monkeypatch.setattr(age_evaluation, "fit_age_heads", fit)
    heads = {OWN_HEAD: np.array([10.0, 60.0]), f"{SOFT_HEAD}, mean": np.array([9.0, 8.0]), "other": np.zeros(2)}
    found = remedies(heads, np.zeros((1, 2, 1)), np.array([5.0, 50.0]), np.array([[1.0], [2.0]]), (-20.0, 2.5), 0)
    assert {name: value.tolist() for name, value in found.items()} == {
        OWN_HEAD: [10, 60],
        f"{SOFT_HEAD}, mean": [9, 8],
        f"{SOFT_HEAD}, mean, balanced decades": [1, 2],
        f"{OWN_HEAD}, de-shrunk": [5, 116],
    }


def test_the_shrinkage_finding_holds_the_slope_and_what_de_shrinking_costs():
    slopes = pd.DataFrame({"group": ["all faces"], "slope": [0.8], "slope_low": [0.7], "slope_high": [0.9], "n": [50]})
    errors = comparison(Y_TRUE).errors({OWN_HEAD: Y_TRUE - 4, f"{OWN_HEAD}, de-shrunk": Y_TRUE + 7})
    finding = shrinkage_finding(slopes, errors)
    assert (finding.key, finding.estimate.value, finding.estimate.n) == ("age.shrinkage", 0.8, 50)
    assert "from -4.0 to +7.0" in finding.text and "from 4.00 to 7.00" in finding.text
