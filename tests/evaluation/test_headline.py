"""Evaluation: every headline number recomputed on a mask, unknown labels left out, one row per copy group."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from facelib.evaluation.headline import (
    GROUPINGS,
    baselines,
    confidence,
    coverage_table,
    evaluation_frame,
    group_table,
    groupings,
    headline_metrics,
    one_against_rest,
    ranking_table,
    reliability,
    widest_gap,
)
from facelib.schema import HEADLINE_KEYS, P_ETHNICITY, TEST_KEYS

N = 300
EDGES = np.array([30.0, 60.0])  # of three age bins, years


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Faces, splits, predictions and age stages of 300 images with unknown labels and copies among them."""
    rng = np.random.default_rng(0)
    ids = [f"face_{number:03d}" for number in range(N)]
    age = rng.integers(1, 90, N).astype(float)
    faces = pd.DataFrame(
        {"image_id": ids, "age": age, "gender": rng.integers(0, 2, N), "ethnicity": rng.integers(0, 5, N)}
    )
    faces.loc[::17, "age"] = np.nan
    faces.loc[::13, "gender"] = -1
    faces.loc[::11, "ethnicity"] = -1
    group_id = np.arange(N) // 2 * 2  # pairs of copies
    kept = np.arange(N) % 2 == 0
    split = np.where(group_id % 3 == 0, "train", "test")
    splits = pd.DataFrame({"image_id": ids, "split": split, "group_id": group_id, "kept": kept})
    predictions = pd.DataFrame({"image_id": ids, "model": "final", "p_female": rng.random(N)})
    predictions[list(P_ETHNICITY)] = rng.dirichlet(np.ones(5), N)
    predictions["age_pred"] = (age + rng.normal(0, 8, N)).clip(0, 116)
    predictions["age_low"], predictions["age_high"] = predictions["age_pred"] - 10, predictions["age_pred"] + 12
    stages = pd.DataFrame({"image_id": ids, "predicted_bin": rng.integers(0, 3, N)})
    for column in ("age_routed", "age_soft", "age_bin_0", "age_bin_1", "age_bin_2"):
        stages[column] = age + rng.normal(0, 5, N)
    return faces, splits, predictions.sample(frac=1, random_state=1), stages


@pytest.fixture(scope="module")
def frame(tables) -> pd.DataFrame:
    faces, splits, predictions, stages = tables
    return evaluation_frame(faces, splits, predictions, ("test",), stages, EDGES)


@pytest.fixture(scope="module")
def headline(frame) -> dict:
    return headline_metrics(frame, "test", resamples=60, seed=0)


# --- the frame --------------------------------------------------------------------------------------------


def test_a_frame_has_one_row_per_group_of_the_asked_splits(frame, tables):
    _, splits, _, _ = tables
    assert frame["group_id"].is_unique
    expected = splits[(splits["split"] == "test") & splits["kept"]]["image_id"]
    assert frame["image_id"].tolist() == expected.tolist()
    both = evaluation_frame(*tables[:3], ("train", "test"))
    assert len(both) == N // 2 and "predicted_bin" not in both


def test_the_oracle_looks_at_the_labels_it_is_given(tables):
    faces, splits, predictions, stages = tables
    older = evaluation_frame(faces.assign(age=75.0), splits, predictions, ("test",), stages, EDGES)
    assert (older["true_bin"] == 2).all() and (older["age_oracle_bin"] - older["age_bin_2"]).abs().max() <= 0.5
    younger = evaluation_frame(faces.assign(age=30.0), splits, predictions, ("test",), stages, EDGES)
    assert (younger["true_bin"] == 1).all() and (younger["age_oracle_bin"] - younger["age_bin_1"]).abs().max() <= 0.5


def test_predictions_join_their_own_image_whatever_their_order(frame, tables):
    predictions = tables[2].set_index("image_id").loc[frame["image_id"]]
    assert (frame["p_female"].to_numpy() == predictions["p_female"].to_numpy()).all()
    assert (frame["gender_pred"] == (predictions["p_female"].to_numpy() >= 0.5)).all()
    assert (frame["ethnicity_pred"] == predictions[list(P_ETHNICITY)].to_numpy().argmax(axis=1)).all()


def test_ages_are_scored_in_whole_years_and_kept_as_they_were(frame, tables):
    predictions = tables[2].set_index("image_id").loc[frame["image_id"]]
    assert (frame["age_smooth"].to_numpy() == predictions["age_pred"].to_numpy()).all()
    for name in ("age_pred", "age_routed", "age_soft", "age_oracle_bin"):
        assert (frame[name] % 1 == 0).all()
    assert (frame["age_pred"] - frame["age_smooth"]).between(-0.5, 0.5).all()
    faces = pd.DataFrame({"image_id": ["a", "b", "c"], "age": 20.0, "gender": 0, "ethnicity": 0})
    splits = pd.DataFrame({"image_id": ["a", "b", "c"], "split": "test", "group_id": range(3), "kept": True})
    said = tables[2].head(3).assign(image_id=["a", "b", "c"], age_pred=[25.4, 25.5, 14.5])
    assert evaluation_frame(faces, splits, said, ("test",))["age_pred"].tolist() == [25, 26, 15]
    measured = headline_metrics(evaluation_frame(faces, splits, said, ("test",)), "test", resamples=10, seed=0)
    assert measured["test.age.cs5"].value == pytest.approx(2 / 3)
    assert measured["test.age.cs5_unrounded"].value == 0


def test_unknown_labels_are_missing_values(frame, tables):
    faces = tables[0].set_index("image_id").loc[frame["image_id"]]
    for name in ("gender", "ethnicity"):
        assert (frame[name].isna().to_numpy() == (faces[name] == -1).to_numpy()).all()
        assert frame[f"{name}_name"].isna().sum() == frame[name].isna().sum() > 0
    assert frame["age_band"].isna().sum() == frame["age"].isna().sum() > 0
    assert set(frame["gender_name"].dropna()) == {"male", "female"}


# --- headline metrics -------------------------------------------------------------------------------------


def test_every_headline_key_of_the_test_set_is_measured(headline):
    assert set(headline) == {f"test.{key}" for key in TEST_KEYS} <= set(HEADLINE_KEYS)


def recomputed(frame: pd.DataFrame) -> dict[str, tuple[float, int]]:
    """Value and n of each headline metric, by another way than the package's."""
    aged = frame[~frame["age"].isna()]
    error = aged["age_pred"] - aged["age"]
    young, old = aged["age"] <= 45, aged["age"] > 45
    sexed, grown = frame[frame["gender"] >= 0], frame[(frame["gender"] >= 0) & (frame["age"] >= 5)]
    named = frame[frame["ethnicity"] >= 0]
    held = (aged["age_low"] <= aged["age"]) & (aged["age"] <= aged["age_high"])
    return {
        "age.mae": (error.abs().mean(), len(aged)),
        "age.cs5": ((error.abs() <= 5).mean(), len(aged)),
        "age.cs5_unrounded": (((aged["age_smooth"] - aged["age"]).abs() <= 5).mean(), len(aged)),
        "age.bias": (error.mean(), len(aged)),
        "age.mae_le45": (error[young].abs().mean(), young.sum()),
        "age.mae_gt45": (error[old].abs().mean(), old.sum()),
        "age.r2": (sk.r2_score(aged["age"], aged["age_pred"]), len(aged)),
        "age.interval_coverage": (held.mean(), len(aged)),
        "age.interval_width": (22.0, len(aged)),
        "gender.accuracy": (((sexed["p_female"] >= 0.5) == sexed["gender"]).mean(), len(sexed)),
        "gender.accuracy_age5plus": (((grown["p_female"] >= 0.5) == grown["gender"]).mean(), len(grown)),
        "gender.auc": (sk.roc_auc_score(sexed["gender"], sexed["p_female"]), len(sexed)),
        "ethnicity.accuracy": (sk.accuracy_score(named["ethnicity"], named["ethnicity_pred"]), len(named)),
        "ethnicity.macro_f1": (sk.f1_score(named["ethnicity"], named["ethnicity_pred"], average="macro"), len(named)),
        "age_stages.bin_accuracy": ((aged["true_bin"] == aged["predicted_bin"]).mean(), len(aged)),
        **{
            f"age_stages.mae_{way}": ((aged[f"age_{way}"] - aged["age"]).abs().mean(), len(aged))
            for way in ("routed", "soft", "oracle_bin")
        },
    }


@pytest.mark.parametrize("key", TEST_KEYS)
def test_a_headline_metric_equals_its_recomputation(key, frame, headline):
    value, n = recomputed(frame)[key]
    assert headline[f"test.{key}"].value == pytest.approx(value)
    assert headline[f"test.{key}"].n == n < len(frame)  # rows with an unknown label do not count
    assert headline[f"test.{key}"].low <= value <= headline[f"test.{key}"].high


def test_units_are_years_shares_or_none(headline):
    assert headline["test.age.mae"].unit == headline["test.age.interval_width"].unit == "years"
    assert headline["test.gender.accuracy"].unit == headline["test.age.cs5"].unit == "share"
    assert headline["test.gender.auc"].unit == ""


def test_an_error_of_a_year_at_45_counts_as_young_and_at_46_as_old(frame):
    two = frame[frame["age"].notna()].head(2).assign(age=[45.0, 46.0], age_pred=[46.0, 48.0], gender=np.nan)
    found = headline_metrics(two, "x", resamples=10, seed=0)
    assert (found["x.age.mae_le45"].value, found["x.age.mae_gt45"].value) == (1, 2)


@pytest.mark.parametrize("attribute", ["age", "gender", "ethnicity"])
def test_what_has_no_label_is_left_out(attribute, frame):
    found = headline_metrics(frame.assign(**{attribute: np.nan}), "test", resamples=10, seed=0)
    assert not [key for key in found if key.startswith(f"test.{attribute}.")]
    assert "test.age.mae" in found or attribute == "age"
    if attribute == "age":
        assert not [key for key in found if "age_stages" in key]


def test_without_stages_or_intervals_their_keys_are_left_out(tables):
    faces, splits, predictions, _ = tables
    plain = evaluation_frame(faces, splits, predictions.assign(age_low=np.nan, age_high=np.nan), ("test",))
    found = headline_metrics(plain, "test", resamples=10, seed=0)
    assert not [key for key in found if "stages" in key or "interval" in key] and "test.age.mae" in found


def test_each_class_is_ranked_against_the_rest(frame):
    table = ranking_table(frame, resamples=40, seed=0).set_index("class")
    assert table.index.tolist() == ["female", "White", "Black", "Asian", "Indian", "Other"]
    named = frame[frame["ethnicity"].notna()]
    is_asian = named["ethnicity"] == 2
    row = table.loc["Asian"]
    assert row["n"] == len(named) < len(frame) and row["base_rate"] == pytest.approx(is_asian.mean())
    assert row["auc"] == pytest.approx(sk.roc_auc_score(is_asian, named["p_ethnicity_2"]))
    assert row["average_precision"] == pytest.approx(sk.average_precision_score(is_asian, named["p_ethnicity_2"]))
    for measure in ("auc", "average_precision"):
        assert (table[f"{measure}_low"] < table[measure]).all() and (table[measure] < table[f"{measure}_high"]).all()


def test_a_class_that_nobody_or_everybody_has_is_not_ranked(frame):
    assert set(one_against_rest(frame.assign(ethnicity=1.0))) == {"female"}
    nobody = frame.assign(ethnicity=np.nan, gender=np.nan)
    assert one_against_rest(nobody) == {} and ranking_table(nobody, 5, 0).empty


# --- baselines --------------------------------------------------------------------------------------------


def test_baselines_by_hand():
    train = pd.DataFrame({"age": [10, 20, 60, np.nan], "gender": [1, 1, 0, -1], "ethnicity": [3, 3, -1, -1]})
    frame = pd.DataFrame(
        {"age": [20, 30, np.nan, 50], "gender": [1, 0, 0, np.nan], "ethnicity": [3, 3, 1, 0.0], "group_id": range(4)}
    ).assign(age_pred=0.0, gender_pred=0.0, ethnicity_pred=0.0)
    table = baselines(train, frame, resamples=20, seed=0).set_index("metric")
    assert table.loc["age.mae", ["baseline", "n", "unit"]].tolist() == ["always 20 years", 3, "years"]
    assert table.loc["age.mae", "value"] == pytest.approx((0 + 10 + 30) / 3)
    assert table.loc["gender.accuracy", "baseline"] == "always class 1"
    assert table.loc["gender.accuracy", "value"] == pytest.approx(1 / 3)
    assert table.loc["ethnicity.accuracy", "value"] == pytest.approx(2 / 4)  # the unknown is no majority class


def test_an_attribute_without_labels_has_no_baseline():
    train = pd.DataFrame({"age": [10.0], "gender": [-1], "ethnicity": [0]})
    frame = pd.DataFrame({"age": [20.0], "gender": [1.0], "ethnicity": [np.nan], "group_id": [0]})
    frame = frame.assign(age_pred=0.0, gender_pred=0.0, ethnicity_pred=0.0)
    assert baselines(train, frame, resamples=5, seed=0)["metric"].tolist() == ["age.mae"]


# --- groups -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [["gender_name"], ["age_band"], ["ethnicity_name", "age_band"]])
def test_group_tables_equal_their_recomputation(by, frame):
    table = group_table(frame, by, resamples=20, seed=0, min_rows=1)
    known = frame.dropna(subset=["age", "gender", "ethnicity"])
    assert table["n"].sum() == len(known) < len(frame)
    for _, row in table.iterrows():
        part = known[np.logical_and.reduce([known[name].astype(str) == row[name] for name in by])]
        assert row["n"] == len(part) > 0
        assert row["mae"] == pytest.approx((part["age_pred"] - part["age"]).abs().mean())
        assert row["bias"] == pytest.approx((part["age_pred"] - part["age"]).mean())
        assert row["gender_accuracy"] == pytest.approx((part["gender"] == part["gender_pred"]).mean())
        assert row["ethnicity_accuracy"] == pytest.approx((part["ethnicity"] == part["ethnicity_pred"]).mean())
        assert row["gender_accuracy_low"] <= row["gender_accuracy"] <= row["gender_accuracy_high"]


def test_small_groups_keep_their_count_and_lose_their_metrics(frame):
    whole = group_table(frame, ["age_band"], resamples=20, seed=0, min_rows=1)
    limit = int(whole["n"].median()) + 1
    table = group_table(frame, ["age_band"], resamples=20, seed=0, min_rows=limit)
    assert table["n"].tolist() == whole["n"].tolist()
    small = table["n"] < limit
    assert small.any() and not small.all()
    measured = [name for name in table if name not in ("age_band", "n")]
    assert len(measured) == 12 and (table[measured].isna().all(axis=1) == small).all()


def test_age_bands_are_in_order_of_age(frame):
    table = group_table(frame, ["age_band"], resamples=5, seed=0, min_rows=1)
    assert table["age_band"].tolist() == ["0-4", "5-17", "18-29", "30-45", "46-59", "60-74", "75+"]


def test_the_widest_gap_leaves_masked_groups_out():
    table = pd.DataFrame({"group": list("abc"), "mae": [4.0, math.nan, 6.0]})
    low, high = widest_gap(table, "mae")
    assert (low["group"], high["group"]) == ("a", "c")
    assert widest_gap(table.assign(mae=math.nan), "mae") is None


# --- reliability ------------------------------------------------------------------------------------------


def test_reliability_by_hand():
    confidence = np.r_[np.full(20, 0.9), np.full(20, 0.6)]
    correct = np.r_[np.arange(20) < 18, np.arange(20) < 5]
    table = reliability(correct, confidence, bins=2)
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert table["accuracy"].tolist() == [0.25, 0.9] and table["n"].tolist() == [20, 20]
    wilson = stats.binomtest(18, 20).proportion_ci(method="wilson")
    assert (table["low"].iloc[1], table["high"].iloc[1]) == pytest.approx((wilson.low, wilson.high))


def test_reliability_bins_hold_ten_rows_at_least():
    rng = np.random.default_rng(0)
    assert [len(reliability(rng.random(n) < 0.5, rng.random(n))) for n in (5, 29, 95, 1000)] == [1, 2, 9, 10]


def test_confidence_is_the_likeliest_classes_probability_for_known_labels():
    labels = pd.DataFrame({"gender": [1, 0, -1], "ethnicity": [4.0, np.nan, 0.0]})
    probabilities = pd.DataFrame({"p_female": [0.75, 0.75, 0.5]})
    probabilities[[f"p_ethnicity_{code}" for code in range(5)]] = [[0.1, 0.2, 0.1, 0.1, 0.5]] * 3
    correct, chance = confidence(labels, probabilities, "gender")
    assert correct.tolist() == [True, False] and chance.tolist() == [0.75, 0.75]
    correct, chance = confidence(labels, probabilities, "ethnicity")
    assert correct.tolist() == [True, False] and chance.tolist() == [0.5, 0.5]


def test_coverage_and_width_by_hand():
    frame = pd.DataFrame({"age": [10.0, 20.0, 30.0, 40.0], "kind": ["a", "a", "b", None]}, index=[5, 6, 7, 8])
    low, high = np.array([8.0, 21.0, 30.0, 0.0]), np.array([12.0, 27.0, 31.0, 116.0])
    found = coverage_table(frame, "kind", {"narrow": (low, high), "wide": (low - 5, high + 5)})
    assert found[["group", "kind", "value", "n", "width"]].to_numpy().tolist() == [
        ["a", "narrow", 0.5, 2, 5.0],
        ["b", "narrow", 1.0, 1, 1.0],
        ["a", "wide", 1.0, 2, 15.0],
        ["b", "wide", 1.0, 1, 11.0],
    ]
    assert (found["low"] < found["value"]).all()


def test_groups_of_faces_that_nobody_labelled_in_an_attribute_keep_their_other_numbers(frame):
    without = frame.assign(gender=np.nan)
    table = group_table(without, ["ethnicity_name"], 20, 0, 5).set_index("ethnicity_name")
    assert table["gender_accuracy"].isna().all()
    rows = without.dropna(subset=["age", "ethnicity"])
    assert table["n"].sum() == len(rows)
    for name, group in rows.groupby("ethnicity_name"):
        assert table.loc[name, "mae"] == pytest.approx((group["age"] - group["age_pred"]).abs().mean())
        assert table.loc[name, "ethnicity_accuracy"] == pytest.approx(
            (group["ethnicity"] == group["ethnicity_pred"]).mean()
        )


def test_what_was_not_learned_is_not_scored(tables):
    faces, splits, predictions, _ = tables
    silent = predictions.assign(age_pred=np.nan, **dict.fromkeys(P_ETHNICITY, np.nan))
    frame = evaluation_frame(faces, splits, silent, ("test",))
    assert frame[["age_pred", "age_smooth", "ethnicity_pred"]].isna().all(axis=None)
    found = headline_metrics(frame, "test", resamples=10, seed=0)
    assert {key.split(".")[1] for key in found} == {"gender"}
    table = group_table(frame, ["gender_name"], resamples=10, seed=0, min_rows=3)
    assert table["gender_accuracy"].notna().all() and table[["mae", "ethnicity_accuracy"]].isna().all(axis=None)
    assert ranking_table(frame, resamples=10, seed=0)["class"].tolist() == ["female"]
    assert baselines(faces, frame, resamples=10, seed=0)["metric"].tolist() == ["gender.accuracy"]


def test_groups_are_made_of_the_labels_that_there_are(frame):
    assert groupings(frame) == list(GROUPINGS)
    assert groupings(frame.assign(ethnicity_name=np.nan)) == [by for by in GROUPINGS if "ethnicity_name" not in by]
    half = np.arange(len(frame)) % 2 == 0  # the labels of two sets of faces: no row has both
    assert groupings(frame.assign(age=frame["age"].where(half), gender=frame["gender"].mask(half))) == []
