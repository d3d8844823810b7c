"""Evaluation: every headline number recomputed on a mask, unknown labels left out, one row per copy group."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from facelib.errors import MissingFromRun
from facelib.evaluation.headline import (
    age_coverage,
    attribute_findings,
    baselines,
    calibration_finding,
    calibration_points,
    cleaned_frame,
    compare,
    confidence,
    coverage_table,
    evaluation_frame,
    expected_keys,
    faces_finding,
    headline_metrics,
    interval_finding,
    inverted_findings,
    metrics_of,
    one_against_rest,
    protocol_metrics,
    ranking_finding,
    ranking_table,
    reliability,
    results_table,
    run_frame,
    scored,
    source_metrics,
    sources_table,
)
from facelib.prediction.calibration import AgeIntervals, fit_age_intervals
from facelib.runs import start_run
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Bootstrap, Estimate

N = 300
EDGES = np.array([30.0, 60.0])  # of three age bins, years
SMILE = ClassAttribute("smile", classes=("no", "yes"))
KEYS = [metric.key for attribute in UTKFACE_ATTRIBUTES for metric in metrics_of(attribute) if not metric.bands]


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
    splits = pd.DataFrame({"image_id": ids, "split": split, "group_id": group_id, "representative": kept})
    female = rng.random(N)
    predictions = pd.DataFrame({"image_id": ids, "model": "predictor", "p_gender_male": 1 - female})
    predictions["p_gender_female"] = female
    predictions[list(ETHNICITY.columns)] = rng.dirichlet(np.ones(5), N)
    predictions["age_pred"] = (age + rng.normal(0, 8, N)).clip(0, 116)
    predictions["age_low"], predictions["age_high"] = predictions["age_pred"] - 10, predictions["age_pred"] + 12
    stages = pd.DataFrame({"image_id": ids, "predicted_bin": rng.integers(0, 3, N)})
    for column in ("age_routed", "age_soft", "age_bin_0", "age_bin_1", "age_bin_2"):
        stages[column] = age + rng.normal(0, 5, N)
    return faces, splits, predictions.sample(frac=1, random_state=1), stages


@pytest.fixture(scope="module")
def frame(tables) -> pd.DataFrame:
    faces, splits, predictions, stages = tables
    return evaluation_frame(faces, splits, predictions, ("test",), UTKFACE_ATTRIBUTES, stages, EDGES)


@pytest.fixture(scope="module")
def headline(frame) -> dict:
    return headline_metrics(frame, UTKFACE_ATTRIBUTES, "test", Bootstrap(60))


# --- the frame --------------------------------------------------------------------------------------------


def test_a_frame_has_one_row_per_group_of_the_asked_splits(frame, tables):
    _, splits, _, _ = tables
    assert frame["group_id"].is_unique
    expected = splits[(splits["split"] == "test") & splits["representative"]]["image_id"]
    assert frame["image_id"].tolist() == expected.tolist()
    both = evaluation_frame(*tables[:3], ("train", "test"), UTKFACE_ATTRIBUTES)
    assert len(both) == N // 2 and "predicted_bin" not in both


def test_the_oracle_looks_at_the_labels_it_is_given(tables):
    faces, splits, predictions, stages = tables
    others = splits, predictions, ("test",), UTKFACE_ATTRIBUTES, stages, EDGES
    older, younger = (evaluation_frame(faces.assign(age=age), *others) for age in (75.0, 30.0))
    assert (older["true_bin"] == 2).all() and (older["age_oracle_bin"] - older["age_bin_2"]).abs().max() <= 0.5
    assert (younger["true_bin"] == 1).all() and (younger["age_oracle_bin"] - younger["age_bin_1"]).abs().max() <= 0.5


def test_predictions_join_their_own_image_whatever_their_order(frame, tables):
    predictions = tables[2].set_index("image_id").loc[frame["image_id"]]
    assert (frame["p_gender_female"].to_numpy() == predictions["p_gender_female"].to_numpy()).all()
    assert (frame["gender_pred"] == (predictions["p_gender_female"].to_numpy() >= 0.5)).all()
    assert (frame["ethnicity_pred"] == predictions[list(ETHNICITY.columns)].to_numpy().argmax(axis=1)).all()


def test_ages_are_scored_in_whole_years_and_kept_as_they_were(frame, tables):
    predictions = tables[2].set_index("image_id").loc[frame["image_id"]]
    assert (frame["age_unrounded"].to_numpy() == predictions["age_pred"].to_numpy()).all()
    for name in ("age_pred", "age_routed", "age_soft", "age_oracle_bin"):
        assert (frame[name] % 1 == 0).all()
    assert (frame["age_pred"] - frame["age_unrounded"]).between(-0.5, 0.5).all()
    faces = pd.DataFrame({"image_id": ["a", "b", "c"], "age": 20.0, "gender": 0, "ethnicity": 0})
    splits = pd.DataFrame({"image_id": ["a", "b", "c"], "split": "test", "group_id": range(3), "representative": True})
    three = tables[2].head(3).assign(image_id=["a", "b", "c"], age_pred=[25.4, 25.5, 14.5])
    small = evaluation_frame(faces, splits, three, ("test",), UTKFACE_ATTRIBUTES)
    assert small["age_pred"].tolist() == [25, 26, 15]
    measured = headline_metrics(small, UTKFACE_ATTRIBUTES, "test", Bootstrap(10))
    assert measured["test.age.cs5"].value == 0  # errors of 5.4, 5.5 and 5.5 years
    assert measured["test.age.cs5_whole_years"].value == pytest.approx(2 / 3)


def test_unknown_labels_are_missing_values(frame, tables):
    faces = tables[0].set_index("image_id").loc[frame["image_id"]]
    for name in ("gender", "ethnicity"):
        assert (frame[name].isna().to_numpy() == (faces[name] == -1).to_numpy()).all()
        assert frame[f"{name}_name"].isna().sum() == frame[name].isna().sum() > 0
    assert frame["age_band"].isna().sum() == frame["age"].isna().sum() > 0
    assert set(frame["gender_name"].dropna()) == {"male", "female"}


# --- headline metrics -------------------------------------------------------------------------------------


def test_every_headline_key_of_the_test_set_is_measured(headline):
    assert set(headline) == {f"test.{key}" for key in KEYS} <= set(expected_keys(UTKFACE_ATTRIBUTES))
    assert KEYS[:3] == ["age.mae", "age.cs5", "age.cs5_whole_years"] and len(set(KEYS)) == 18


def test_metrics_follow_from_the_kind_and_the_number_of_classes():
    assert [metric.key for metric in metrics_of(SMILE)] == ["smile.accuracy", "smile.accuracy_age5plus", "smile.auc"]
    assert metrics_of(SMILE)[2].columns == ("smile", "p_smile_yes")
    assert [metric.key for metric in metrics_of(ETHNICITY)] == ["ethnicity.accuracy", "ethnicity.macro_f1"]
    tested = {key for key in expected_keys([SMILE]) if key.startswith("test")}
    assert tested == {f"{test}.smile.{name}" for test in ("test", "test_cleaned") for name in ("accuracy", "auc")}
    assert {"data.images", "audit.label_issues.smile"} <= set(expected_keys([SMILE]))


def test_ages_known_by_bands_alone_have_metrics_of_bands_alone():
    banded = replace(AGE, bands=((0, 2), (3, 9)))
    parts = "band_accuracy", "band_off_by_one", "band_mae_least"
    assert [metric.key for metric in metrics_of(banded)] == [f"age.{part}" for part in parts]
    keys = expected_keys([banded, SMILE])
    assert {"test.age.band_accuracy", "test.smile.accuracy"} <= set(keys)
    assert not {"audit.label_issues.age", "test.age.mae", "test.smile.accuracy_age5plus"} & set(keys)


def banded_faces(years: list[int]) -> pd.DataFrame:
    """Faces known by FairFace's bands alone, each in the band of one of these years."""
    bands = pd.Series([(0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 116)])
    chosen = [next(band for band in bands if band[0] <= year <= band[1]) for year in years]
    table = pd.DataFrame(chosen, columns=["age_from", "age_to"]).assign(age=np.nan, source="fairface")
    return table.assign(image_id=[f"f{row}" for row in range(len(table))])


def test_a_constant_answer_to_bands_is_the_median_of_the_middles():
    train = banded_faces([25, 25, 35, 45, 55])
    frame = train.assign(age_pred=25.0, age_unrounded=25.0, group_id=range(5), age_from_next=20.0, age_to_next=39.0)
    table = baselines(train, frame, [AGE.labelled_in(train)], Bootstrap(5)).set_index("metric")
    # The median middle is 34.5: in the band of 35, and 5.5 years above that of 25.
    assert table.loc["age.band_accuracy", "value"] == 0.2 and "34.5" in table.loc["age.band_accuracy", "baseline"]
    assert table.loc["age.band_mae_least", "value"] == pytest.approx((5.5 * 2 + 0 + 5.5 + 15.5) / 5)


def test_a_band_is_missed_by_one_where_the_prediction_lies_in_the_one_beside_it():
    faces = banded_faces([1, 25, 25, 65, 80, 15, 5])
    predictions = pd.DataFrame({"image_id": faces["image_id"], "age_pred": [9.4, 10.0, 40.0, 71.0, 59.0, 15.0, 5.0]})
    predictions = predictions.assign(age_spread=1.0, age_low=np.nan, age_high=np.nan)
    splits = pd.DataFrame(
        {"image_id": faces["image_id"], "split": "test", "group_id": range(7), "representative": True}
    )
    banded = AGE.labelled_in(faces)
    frame = evaluation_frame(faces, splits, predictions, ("test",), (banded,))
    assert frame["age_band"].tolist() == ["0-2", "20-29", "20-29", "60-69", "70+", "10-19", "3-9"]
    found = headline_metrics(frame, (banded,), "test", Bootstrap(5))
    assert found["test.age.band_accuracy"].value == pytest.approx(2 / 7)
    # 59 lies below 60-69, the band before 70+; 40 lies between 20-29 and the next band of these faces.
    assert found["test.age.band_off_by_one"].value == pytest.approx(6 / 7)
    assert found["test.age.band_mae_least"].value == pytest.approx((7 + 10 + 11 + 2 + 11) / 7)


def test_swapped_classes_warn():
    def found(share: float) -> list:
        return inverted_findings({"test.smile.accuracy": Estimate(share, share, share, 99)}, [SMILE, ETHNICITY], "test")

    assert found(0.5) == found(0.41) == []
    assert [finding.key for finding in found(0.1)] == ["test.smile.inverted"]
    assert "no and yes the other way round" in found(0.1)[0].text


def test_the_faces_of_each_data_set_have_metrics_of_their_own(empty_runs):
    run = start_run("two", "smoke", overrides={"resamples": 5})
    run.set_attributes([SMILE], [SMILE])
    frame = pd.DataFrame({"source": ["a", "a", "b"], "smile": [0.0, 1.0, 1.0], "smile_pred": [0.0, 0.0, 1.0]})
    frame = frame.assign(group_id=range(3), p_smile_yes=0.5)
    results, finding = source_metrics(run, frame)
    assert results["test_a.smile.accuracy"].value == 0.5 and results["test_b.smile.accuracy"].n == 1
    assert "2 of a and 1 of b" in finding.text
    table = sources_table(results, [SMILE])
    assert table.query("metric == 'Smile: accuracy'")["data set"].tolist() == ["a", "b"]


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
        "age.cs5": (((aged["age_unrounded"] - aged["age"]).abs() <= 5).mean(), len(aged)),
        "age.cs5_whole_years": ((error.abs() <= 5).mean(), len(aged)),
        "age.bias": (error.mean(), len(aged)),
        "age.mae_le45": (error[young].abs().mean(), young.sum()),
        "age.mae_gt45": (error[old].abs().mean(), old.sum()),
        "age.r2": (sk.r2_score(aged["age"], aged["age_pred"]), len(aged)),
        "age.interval_coverage": (held.mean(), len(aged)),
        "age.interval_width": (22.0, len(aged)),
        "gender.accuracy": (((sexed["p_gender_female"] >= 0.5) == sexed["gender"]).mean(), len(sexed)),
        "gender.accuracy_age5plus": (((grown["p_gender_female"] >= 0.5) == grown["gender"]).mean(), len(grown)),
        "gender.auc": (sk.roc_auc_score(sexed["gender"], sexed["p_gender_female"]), len(sexed)),
        "ethnicity.accuracy": (sk.accuracy_score(named["ethnicity"], named["ethnicity_pred"]), len(named)),
        "ethnicity.macro_f1": (sk.f1_score(named["ethnicity"], named["ethnicity_pred"], average="macro"), len(named)),
        "age_stages.bin_accuracy": ((aged["true_bin"] == aged["predicted_bin"]).mean(), len(aged)),
        **{
            f"age_stages.mae_{way}": ((aged[f"age_{way}"] - aged["age"]).abs().mean(), len(aged))
            for way in ("routed", "soft", "oracle_bin")
        },
    }


@pytest.mark.parametrize("key", KEYS)
def test_a_headline_metric_equals_its_recomputation(key, frame, headline):
    value, n = recomputed(frame)[key]
    assert headline[f"test.{key}"].value == pytest.approx(value)
    assert headline[f"test.{key}"].n == n < len(frame)  # rows with an unknown label do not count
    assert headline[f"test.{key}"].low <= value <= headline[f"test.{key}"].high


def test_units_are_years_shares_or_none(headline):
    assert headline["test.age.mae"].unit == headline["test.age.interval_width"].unit == "years"
    assert headline["test.gender.accuracy"].unit == headline["test.age.cs5"].unit == "share"
    assert headline["test.gender.auc"].unit == ""


def test_five_years_old_are_five_years_and_over(frame):
    rows = frame[frame["gender"].notna()].head(3).assign(age=[4.0, 5.0, 6.0])
    assert headline_metrics(rows, [GENDER], "x", Bootstrap(5))["x.gender.accuracy_age5plus"].n == 2


def test_an_error_of_a_year_at_45_counts_as_young_and_at_46_as_old(frame):
    two = frame[frame["age"].notna()].head(2).assign(age=[45.0, 46.0], age_pred=[46.0, 48.0], gender=np.nan)
    found = headline_metrics(two, UTKFACE_ATTRIBUTES, "x", Bootstrap(10))
    assert (found["x.age.mae_le45"].value, found["x.age.mae_gt45"].value) == (1, 2)


@pytest.mark.parametrize("attribute", ["age", "gender", "ethnicity"])
def test_what_has_no_label_is_left_out(attribute, frame):
    found = headline_metrics(frame.assign(**{attribute: np.nan}), UTKFACE_ATTRIBUTES, "test", Bootstrap(10))
    assert not [key for key in found if key.startswith(f"test.{attribute}.")]
    assert "test.age.mae" in found or attribute == "age"
    if attribute == "age":
        assert not [key for key in found if "age_stages" in key]


def test_without_stages_or_intervals_their_keys_are_left_out(tables):
    faces, splits, predictions, _ = tables
    without = predictions.drop(columns=["age_low", "age_high"])
    plain = evaluation_frame(faces, splits, without, ("test",), UTKFACE_ATTRIBUTES)
    found = headline_metrics(plain, UTKFACE_ATTRIBUTES, "test", Bootstrap(10))
    assert not [key for key in found if "stages" in key or "interval" in key] and "test.age.mae" in found


def test_each_class_is_ranked_against_the_rest(frame):
    table = ranking_table(frame, UTKFACE_ATTRIBUTES, Bootstrap(40)).set_index("class")
    assert table.index.tolist() == ["female", "White", "Black", "Asian", "Indian", "Other"]
    named = frame[frame["ethnicity"].notna()]
    is_asian = named["ethnicity"] == 2
    row = table.loc["Asian"]
    assert row["n"] == len(named) < len(frame) and row["base_rate"] == pytest.approx(is_asian.mean())
    assert row["auc"] == pytest.approx(sk.roc_auc_score(is_asian, named["p_ethnicity_asian"]))
    assert row["average_precision"] == pytest.approx(sk.average_precision_score(is_asian, named["p_ethnicity_asian"]))
    for measure in ("auc", "average_precision"):
        assert (table[f"{measure}_low"] < table[measure]).all() and (table[measure] < table[f"{measure}_high"]).all()


def test_a_class_that_no_face_or_every_face_has_is_not_ranked(frame):
    assert set(one_against_rest(frame.assign(ethnicity=1.0), UTKFACE_ATTRIBUTES)) == {("gender", "female")}
    unlabelled = frame.assign(ethnicity=np.nan, gender=np.nan)
    assert one_against_rest(unlabelled, UTKFACE_ATTRIBUTES) == {}
    assert ranking_table(unlabelled, UTKFACE_ATTRIBUTES, Bootstrap(5)).empty


# --- baselines --------------------------------------------------------------------------------------------


def test_baselines_by_hand():
    train = pd.DataFrame({"age": [10, 20, 60, np.nan], "gender": [1, 1, 0, -1], "ethnicity": [3, 3, -1, -1]})
    frame = pd.DataFrame(
        {"age": [20, 30, np.nan, 50], "gender": [1, 0, 0, np.nan], "ethnicity": [3, 3, 1, 0.0], "group_id": range(4)}
    ).assign(age_pred=0.0, gender_pred=0.0, ethnicity_pred=0.0)
    table = baselines(train, frame, UTKFACE_ATTRIBUTES, Bootstrap(20)).set_index("metric")
    assert table.loc["age.mae", ["baseline", "n", "unit"]].tolist() == ["always answering 20 years", 3, "years"]
    assert table.loc["age.mae", "value"] == pytest.approx((0 + 10 + 30) / 3)
    assert table.loc["gender.accuracy", "baseline"] == "always answering female"
    assert table.loc["gender.accuracy", "value"] == pytest.approx(1 / 3)
    assert table.loc["ethnicity.accuracy", "value"] == pytest.approx(2 / 4)  # the unknown is no majority class


def test_every_headline_metric_has_a_baseline(tables, frame):
    faces, splits, predictions, stages = tables
    train = evaluation_frame(faces, splits, predictions, ("train",), UTKFACE_ATTRIBUTES, stages, EDGES)
    table = baselines(train, frame, UTKFACE_ATTRIBUTES, Bootstrap(5)).set_index("metric")
    assert table.index.tolist() == KEYS
    ages = train["age"].dropna()
    low, high = ages.quantile([0.05, 0.95])
    expected = {
        "age.bias": (ages.median() - frame["age"]).mean(),
        "age.cs5": ((frame["age"] - ages.median()).abs() <= 5).mean() * len(frame) / frame["age"].notna().sum(),
        "age.interval_width": high - low,
        "age_stages.bin_accuracy": (frame["true_bin"] == train["true_bin"][train["age"].notna()].mode()[0])[
            frame["age"].notna()
        ].mean(),
        "age_stages.mae_routed": table.loc["age.mae", "value"],
        "gender.auc": 0.5,
    }
    assert table.loc[list(expected), "value"].tolist() == pytest.approx(list(expected.values()))
    oracle = frame["true_bin"].map(train.dropna(subset=["age"]).groupby("true_bin")["age"].median())
    assert table.loc["age_stages.mae_oracle_bin", "value"] == pytest.approx((frame["age"] - oracle).abs().mean())
    assert 0.8 < table.loc["age.interval_coverage", "value"] < 1
    assert table.loc["age.interval_width", "baseline"] == "the middle 90 % of the training ages"
    assert table.loc["age.cs5", "baseline"] == f"always answering {ages.median():g} years"
    beside = results_table(headline_metrics(frame, UTKFACE_ATTRIBUTES, "test", Bootstrap(5)), UTKFACE_ATTRIBUTES,
                           constant=table.reset_index())  # fmt: skip
    assert beside["no-image baseline"].tolist() == table["value"].tolist()


def test_an_attribute_without_labels_has_no_baseline():
    train = pd.DataFrame({"age": [10.0], "gender": [-1], "ethnicity": [0]})
    frame = pd.DataFrame({"age": [20.0], "gender": [1.0], "ethnicity": [np.nan], "group_id": [0]})
    frame = frame.assign(age_pred=0.0, gender_pred=0.0, ethnicity_pred=0.0)
    measured = baselines(train, frame, UTKFACE_ATTRIBUTES, Bootstrap(5))["metric"]
    assert set(measured.str.partition(".")[0]) == {"age"}


def test_the_interval_of_the_coverage_includes_the_draw_of_the_calibration_split():
    rng = np.random.default_rng(0)

    def drawn(n: int) -> pd.DataFrame:
        frame = pd.DataFrame({"age": rng.uniform(1, 90, n), "group_id": np.arange(n)})
        frame["age_unrounded"] = frame["age_pred"] = frame["age"] + rng.normal(0, 6, n)
        return frame

    few, test = drawn(60), drawn(3000)
    test["age_low"], test["age_high"] = fit_age_intervals(few["age"].to_numpy(), few["age_pred"].to_numpy())(
        test["age_pred"].to_numpy()
    )
    alone = headline_metrics(test, [AGE], "test", Bootstrap(200))["test.age.interval_coverage"]
    both = headline_metrics(test, [AGE], "test", Bootstrap(200), few)["test.age.interval_coverage"]
    assert both.value == pytest.approx(alone.value) and both.n == alone.n == 3000
    assert both.low < alone.low and alone.high < both.high
    # 60 calibration faces: the coverage that they give has a standard deviation of about sqrt(0.09 / 62) = 3.8 %.
    assert both.high - both.low == pytest.approx(2 * 1.96 * np.hypot(0.038, 0.0055), rel=0.4)


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


def test_confidence_is_the_likeliest_classes_probability_of_what_is_labelled_and_predicted():
    labels = pd.DataFrame({"gender": [1, 0, -1, 1], "ethnicity": [4.0, np.nan, 0.0, 1.0]})
    probabilities = pd.DataFrame({"p_gender_male": [0.25, 0.25, 0.5, np.nan]})
    probabilities["p_gender_female"] = 1 - probabilities["p_gender_male"]
    probabilities[list(ETHNICITY.columns)] = [[0.1, 0.2, 0.1, 0.1, 0.5]] * 4
    correct, chance = confidence(labels, probabilities, GENDER)
    assert correct.tolist() == [True, False] and chance.tolist() == [0.75, 0.75]
    correct, chance = confidence(labels, probabilities, ETHNICITY)
    assert correct.tolist() == [True, False, False] and chance.tolist() == [0.5, 0.5, 0.5]


def test_calibration_is_measured_of_what_is_predicted(frame):
    points, errors = calibration_points(frame.assign(gender_pred=np.nan), UTKFACE_ATTRIBUTES, Bootstrap(5))
    assert list(points) == list(errors) == ["ethnicity"]
    known = frame[frame["ethnicity"].notna()]
    chance, right = known[list(ETHNICITY.columns)].max(axis=1), known["ethnicity"] == known["ethnicity_pred"]
    bins = (chance * 15).astype(int)
    gaps = (right - chance).groupby(bins).sum().abs().sum() / len(known)
    assert errors["ethnicity"].observed == pytest.approx(gaps)
    finding = calibration_finding(errors, 7)
    assert finding.n == 7 and f"{gaps:.3f}" in finding.text and "more than chance" in finding.text


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


def test_what_was_not_learned_is_not_scored(tables):
    faces, splits, predictions, _ = tables
    silent = predictions.assign(age_pred=np.nan, **dict.fromkeys(ETHNICITY.columns, np.nan))
    frame = evaluation_frame(faces, splits, silent, ("test",), UTKFACE_ATTRIBUTES)
    assert frame[["age_pred", "age_unrounded", "ethnicity_pred"]].isna().all(axis=None)
    found = headline_metrics(frame, UTKFACE_ATTRIBUTES, "test", Bootstrap(10))
    assert {key.split(".")[1] for key in found} == {"gender"}
    assert ranking_table(frame, UTKFACE_ATTRIBUTES, Bootstrap(10))["class"].tolist() == ["female"]
    constant = baselines(faces, frame, UTKFACE_ATTRIBUTES, Bootstrap(10))["metric"]
    assert constant.tolist() == ["gender.accuracy", "gender.accuracy_age5plus", "gender.auc"]


def test_any_attribute_is_scored_and_one_without_columns_is_missing(tables):
    faces, splits, predictions, _ = tables
    smiles = faces[["image_id"]].assign(smile=np.arange(N) % 2)
    predicted = predictions[["image_id"]].assign(p_smile_no=0.25, p_smile_yes=0.75)
    frame = evaluation_frame(smiles, splits, predicted, ("test",), [SMILE, AGE])
    assert frame["smile_name"].cat.categories.tolist() == ["no", "yes"] and (frame["smile_pred"] == 1).all()
    assert frame[["age", "age_pred", "age_band", "age_unrounded"]].isna().all(axis=None)
    assert scored(frame, SMILE).all() and not scored(frame, AGE).any()
    measured = headline_metrics(frame, [SMILE, AGE], "test", Bootstrap(5))
    assert set(measured) == {"test.smile.accuracy", "test.smile.auc"}  # no ages, none of 5 years and over
    assert measured["test.smile.accuracy"].value == (frame["smile"] == 1).mean()


# --- a run ------------------------------------------------------------------------------------------------


@pytest.fixture
def run(empty_runs, tables):
    folder = start_run("small", "smoke")
    folder.set_attributes(UTKFACE_ATTRIBUTES, (AGE, GENDER))
    for name, table in zip(("faces", "splits", "age_stages"), (*tables[:2], tables[3]), strict=True):
        folder.save_table(table, name)
    others = tables[2].assign(model="multitask", age_pred=0.0)
    folder.save_table(pd.concat([others, tables[2]]).assign(split="none"), "predictions")
    folder.notebook("04_age_two_stage").save({}, edges=EDGES)
    return folder


def test_the_frame_of_a_run_has_its_predictors_rows_and_hides_what_was_not_learned(run, frame):
    made = run_frame(run, ("test",))
    assert made["ethnicity_pred"].isna().all() and made["ethnicity"].equals(frame["ethnicity"])
    columns = ["image_id", "age_pred", "age_oracle_bin", "gender_pred", "group_id", "true_bin"]
    pd.testing.assert_frame_equal(made[columns], frame[columns])
    doubled = run_frame(run, ("test",), run.load_table("faces").assign(age=70.0))
    assert (doubled["true_bin"] == 2).all()
    (run.path / "metrics" / "04_age_two_stage.json").unlink()
    assert "true_bin" not in run_frame(run, ("train",))
    with pytest.raises(MissingFromRun, match="04_age_two_stage"):
        run_frame(run, ("test",))
    run.set_attributes(UTKFACE_ATTRIBUTES, (GENDER,))
    assert "true_bin" not in run_frame(run, ("test",)) and run_frame(run, ("test",))["age_pred"].isna().all()


def test_the_cleaned_frame_applies_decisions_and_leaves_out_contradictions(run, frame):
    faces = run.load_table("faces")
    dropped, relabelled, *_ = frame["image_id"]
    copies = faces.index[faces["image_id"] == frame["image_id"].iloc[2]][0] + np.arange(2)
    faces.loc[copies, ["age", "gender", "ethnicity"]] = [[30, 0, 1], [30, 1, 1]]
    rest = faces.index.difference(copies)
    faces.loc[rest, ["age", "gender", "ethnicity"]] = [40, 0, 1]  # all other copies agree
    run.save_table(faces, "faces")
    decided = [(dropped, "quality", "drop", "", ""), (relabelled, "label:age", "relabel", "77", "")]
    columns = ["image_id", "issue", "action", "value", "reason"]
    run.save_table(pd.DataFrame(decided, columns=columns), "decisions.csv")
    cleaned = cleaned_frame(run).set_index("image_id")
    assert set(frame["image_id"]) - set(cleaned.index) == {dropped, frame["image_id"].iloc[2]}
    assert cleaned.loc[relabelled, "age"] == 77 and (cleaned["age"].drop(relabelled) == 40).all()
    assert run_frame(run, ("test",)).set_index("image_id").loc[relabelled, "age"] == 40  # labels as given


def test_a_published_test_list_gets_a_second_number_without_copies_of_training(run, frame):
    none, finding = protocol_metrics(run, frame)
    assert none == {} and finding.key == "test.protocol" and finding.n == len(frame)
    splits = run.load_table("splits")
    copied = splits["image_id"].isin(frame["image_id"][:30])
    run.save_table(splits.assign(group_id=np.where(copied, 0, splits["group_id"]), copied=copied), "splits")
    run.update_params(protocol={"name": "lists", "path": "x", "digest": "0" * 20})
    unseen, finding = protocol_metrics(run, frame)
    rest = frame.iloc[30:]
    assert unseen["test_unseen.gender.accuracy"].n == rest["gender"].notna().sum()
    assert finding.text.startswith(f"30 of {len(frame)} test faces")
    assert faces_finding(run, frame).text.startswith(
        f"{len(frame)} faces of the test split are scored, as listed by lists"
    )


def test_age_coverage_compares_plain_intervals_with_the_predictors(run, frame):
    splits = run.load_table("splits")
    part = np.where(splits["split"] == "train", "calibration", splits["split"])
    run.save_table(splits.assign(split=part), "splits")
    coverage = age_coverage(run, frame, AgeIntervals((30.0, 60.0), (11.0,) * 3))
    assert coverage["by"].unique().tolist() == ["age_band", "predicted_age", "gender_name", "ethnicity_name"]
    aged = frame.dropna(subset=["age"])
    middle = aged[aged["age_unrounded"].between(30, 60, inclusive="left")]
    row = coverage[(coverage["group"] == "middle") & (coverage["kind"] == "by predicted age")].iloc[0]
    assert row["n"] == len(middle) and row["width"] == pytest.approx(22)
    assert row["value"] == middle["age"].between(middle["age_low"], middle["age_high"]).mean()
    plain = coverage[(coverage["by"] == "age_band") & (coverage["kind"] == "plain")]
    assert plain["n"].sum() == len(aged)
    results = headline_metrics(frame, [AGE], "test", Bootstrap(20))
    finding = interval_finding(run, coverage, results)
    assert finding.estimate == results["test.age.interval_coverage"]
    bands = coverage[(coverage["by"] == "age_band") & (coverage["kind"] == "by predicted age") & (coverage["n"] >= 3)]
    least = bands.loc[bands["value"].idxmin()]
    assert f"lowest for {least['group']}: {100 * least['value']:.1f} %" in finding.text


# --- findings ---------------------------------------------------------------------------------------------


def test_two_intervals_that_touch_cannot_tell():
    ends = [(1, 2, "better"), (2, 4, "inconclusive"), (6, 7, "inconclusive"), (8, 9, "worse")]
    for low, high, verdict in ends:
        assert compare(Estimate(0, low, high, 9), Estimate(5, 3, 7, 9), more_is_better=False) == verdict
        opposite = {"better": "worse", "worse": "better"}.get(verdict, verdict)
        assert compare(Estimate(0, low, high, 9), Estimate(5, 3, 7, 9), more_is_better=True) == opposite
    assert compare(Estimate.unknown(3), Estimate(5, 3, 7, 9), more_is_better=True) == "inconclusive"


def test_each_attribute_is_a_finding_and_the_baselines_decide(headline, frame, tables):
    constant = baselines(tables[0], frame, UTKFACE_ATTRIBUTES, Bootstrap(60))
    findings = {finding.key: finding for finding in attribute_findings(headline, constant, UTKFACE_ATTRIBUTES)}
    assert list(findings) == ["test.age", "test.gender", "test.ethnicity", "test.baselines"]
    assert findings["test.age"].estimate == headline["test.age.mae"]
    assert headline["test.age.cs5"].text in findings["test.age"].text
    assert Estimate.from_dict(constant.iloc[0].to_dict()).text in findings["test.age"].text
    # The planted ages are close to the labels; the classes are drawn at random.
    assert "better for age" in findings["test.baselines"].text
    assert "better for age and" not in findings["test.baselines"].text
    assert findings["test.baselines"].n == headline["test.age.mae"].n


def test_each_data_set_is_told_by_itself(headline, frame, tables):
    constant = baselines(tables[0], frame, UTKFACE_ATTRIBUTES, Bootstrap(20))
    values = {"a.gender.accuracy": 0.9, "b.gender.accuracy": 0.7, "b.age.cs5": 0.4, "a.age.mae": 2.5, "a.age.cs5": 0.6}
    each = {f"test_{key}": Estimate(value, value, value, 50, "share") for key, value in values.items()}
    found = {finding.key: finding.text for finding in attribute_findings(headline, constant, UTKFACE_ATTRIBUTES, each)}
    age, gender = found["test.age"], found["test.gender"]
    assert age.startswith(f"Age MAE is {headline['test.age.mae']} on a, against") and "; 60.0 % of the pred" in age
    assert age.endswith(". On b, age 40.0 % (40.0 to 40.0) of the predictions are within 5 years.")
    assert ". On a, gender accuracy is 90.0 %" in gender and "On b, gender accuracy is 70.0 %" in gender
    assert gender.startswith(f"Gender accuracy is {headline['test.gender.accuracy']}, against")
    assert " on " not in found["test.ethnicity"].partition("for always")[0]


def test_results_stand_by_title_beside_another_set(headline):
    cleaned = {"test_cleaned.age.mae": Estimate(1.5, 1, 2, 40, "years")}
    table = results_table(headline | cleaned, UTKFACE_ATTRIBUTES, beside="test_cleaned")
    assert len(table) == len(KEYS) and table.loc[0, ["test_cleaned", "n test_cleaned"]].tolist() == [1.5, 40]
    assert table["value"].tolist() == [headline[f"test.{key}"].value for key in KEYS]
    assert results_table({}, UTKFACE_ATTRIBUTES).empty


def test_the_rarest_class_is_the_finding(frame):
    table = ranking_table(frame, UTKFACE_ATTRIBUTES, Bootstrap(20))
    rarest = table.set_index("class")["base_rate"].idxmin()
    finding = ranking_finding(table)
    assert finding.text.startswith(f"The class with the fewest faces among those ranked is {rarest} (")
    assert finding.estimate.value == table.set_index("class").loc[rarest, "average_precision"]
    assert ranking_finding(table[:0]).n == 0
