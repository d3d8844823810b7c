"""Causes of errors: numbers compared as SciPy does; a planted cluster of wrong labels is named the labels' fault."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelib.audit.label_issues import find_issues
from facelib.evaluation.error_causes import (
    causes_finding,
    cluster_causes,
    compare_measured,
    doubted_labels,
    error_table,
    errors_with,
    examples,
    flag_chances,
    headline,
    measured_traits,
)
from facelib.evaluation.error_clusters import cluster, find_errors
from facelib.schema import ETHNICITY, GENDER, UTKFACE_ATTRIBUTES
from facelib.statistics import rate


def predicted(n: int, seed: int = 0) -> pd.DataFrame:
    """Faces that a network predicts rather well, with unsure probabilities for a tenth of them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image_id": [f"face {k}" for k in range(n)], "age": rng.integers(1, 90, n).astype(float)})
    frame["gender"], frame["ethnicity"] = rng.integers(0, 2, n).astype(float), rng.integers(0, 5, n).astype(float)
    right = np.where(rng.random(n) < 0.1, 0.6, 0.97)
    for attribute in (GENDER, ETHNICITY):
        k = len(attribute.classes)
        frame[list(attribute.columns)] = np.repeat((1 - right[:, None]) / (k - 1), k, axis=1)
        for code, name in enumerate(attribute.columns):
            frame.loc[frame[attribute.name] == code, name] = right[frame[attribute.name] == code]
    frame["age_pred"] = frame["age_unrounded"] = frame["age"] + rng.normal(0, 4, n)
    frame["age_low"], frame["age_high"] = frame["age_pred"] - 8, frame["age_pred"] + 8
    return frame


def decide(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{attribute.prediction: attribute.decode(frame) for attribute in (GENDER, ETHNICITY)})


# --- numbers ----------------------------------------------------------------------------------------------


def test_scores_and_confidences_come_by_image():
    frame = predicted(3).assign(p_gender_male=[0.8, 0.5, 0.1], p_gender_female=[0.2, 0.5, 0.9])
    issues = pd.DataFrame(
        {"image_id": ["face 2", "face 0"], "attribute": ["gender", "gender"], "score": [0.1, 0.7], "is_issue": False}
    )
    table = measured_traits(frame, UTKFACE_ATTRIBUTES, issues)
    assert table["gender label score"].tolist()[::2] == [0.7, 0.1] and np.isnan(table["gender label score"][1])
    assert table["gender confidence"].tolist() == [0.8, 0.5, 0.9]
    assert table["ethnicity confidence"].tolist() == frame[list(ETHNICITY.columns)].max(axis=1).tolist()
    assert table["age interval width"].tolist() == pytest.approx([16, 16, 16])
    assert list(measured_traits(frame, (GENDER,), issues)) == ["gender label score", "gender confidence"]
    bare = measured_traits(frame.assign(age_low=np.nan), UTKFACE_ATTRIBUTES, issues.iloc[:0])
    assert list(bare) == ["gender confidence", "ethnicity confidence"]


def test_clusters_are_compared_as_scipy_does():
    rng = np.random.default_rng(0)
    is_error, labels = np.arange(300) < 90, np.repeat([0, 1, -1], 30)
    measured = pd.DataFrame({"shifted": rng.normal(size=300), "even": rng.normal(size=300)})
    measured.loc[30:59, "shifted"] += 2
    measured.loc[5, "even"] = np.nan
    table = compare_measured(labels, is_error, measured).set_index(["cluster", "measure"])
    assert (
        len(table) == 4 and table.loc[(0, "even"), "n"] == 29
    )  # noise is no cluster, and a missing number counts nowhere
    row, others = table.loc[(1, "shifted")], measured.loc[[*range(30), *range(60, 90)], "shifted"]
    members = measured["shifted"][30:60]
    assert (row["median"], row["median_others"]) == (members.median(), others.median())
    assert row["median_correct"] == measured["shifted"][90:].median()
    pairs = (members.to_numpy()[:, None] > others.to_numpy()).mean()
    assert row["chance_higher"] == pytest.approx(pairs) and pairs > 0.8
    tests = [
        stats.mannwhitneyu(measured.loc[at, name].dropna(), measured.loc[:89, name].drop(at).dropna()).pvalue
        for at in (range(30), range(30, 60)) for name in ("shifted", "even")
    ]  # fmt: skip
    assert table["p_adjusted"].tolist() == pytest.approx(stats.false_discovery_control(tests))
    assert table["p_adjusted"].idxmin() == (1, "shifted")


def test_without_clusters_or_other_errors_nothing_is_compared():
    measured = pd.DataFrame({"a": np.arange(4.0)})
    assert compare_measured(np.array([-1, -1]), np.array([True, True, False, False]), measured).empty
    assert compare_measured(np.zeros(4, int), np.ones(4, bool), measured).empty
    assert compare_measured(np.array([], int), np.zeros(4, bool), measured).empty


# --- labels or model --------------------------------------------------------------------------------------


@pytest.fixture
def kinds() -> pd.DataFrame:
    """Errors of age, gender, age and of nothing, of four faces."""
    wrong = {"large_age_error": [True, False, True, False], "wrong_gender": [False, True, False, False]}
    table = pd.DataFrame(wrong).assign(wrong_ethnicity=False)
    return table.assign(any_error=table.any(axis=1))


def test_an_error_counts_only_where_the_mispredicted_label_is_doubted(kinds):
    flags = [("face 0", "gender", True), ("face 1", "gender", True), ("face 2", "age", False), ("face 3", "age", True)]
    issues = pd.DataFrame(flags, columns=["image_id", "attribute", "is_issue"])
    doubted = doubted_labels(predicted(4), issues)
    assert doubted["gender"].tolist() == [True, True, False, False] and doubted["age"].tolist() == [False] * 3 + [True]
    assert errors_with(kinds, UTKFACE_ATTRIBUTES, doubted).tolist() == [False, True, False]
    none = doubted_labels(predicted(4), issues.iloc[:0])
    assert errors_with(kinds, UTKFACE_ATTRIBUTES, none).tolist() == [False] * 3
    wrong = pd.DataFrame({"age": [True, True, False, False], "gender": [False] * 4}, index=predicted(4)["image_id"])
    assert errors_with(kinds, UTKFACE_ATTRIBUTES, wrong).tolist() == [True, False, False]
    assert errors_with(kinds, UTKFACE_ATTRIBUTES, None) is None


def chances_of(n: int, recall: float, false_flags: float = 0.02) -> pd.DataFrame:
    ends = {"recall": recall, "recall_low": recall - 0.1, "recall_high": recall + 0.1, "false_flags": false_flags}
    return pd.DataFrame(ends, index=range(n))


def test_causes_by_hand():
    labels = np.repeat([0, 1, 2, -1], [40, 40, 6, 14])
    doubted = np.zeros(100, bool)
    doubted[:24], doubted[40:44], doubted[80:83] = True, True, True
    table = cluster_causes(labels, doubted, chances_of(100, 0.7), wrong=np.arange(100) < 50)
    assert table["fault"].tolist() == ["the labels", "the model", "inconclusive"]
    assert table["doubted"].tolist() == [0.6, 0.1, 0.5] and table["n"].tolist() == [40, 40, 6]
    assert table["wrong labels"].tolist() == pytest.approx([0.58 / 0.68, 0.08 / 0.68, 0.48 / 0.68])
    assert table["really wrong"].tolist() == [1, 0.25, 0]
    assert "really wrong" not in cluster_causes(labels, doubted, chances_of(100, 0.7))
    assert table["others"].tolist() == pytest.approx([7 / 60, 27 / 60, 28 / 94])
    interval = stats.binomtest(24, 40).proportion_ci(1 - 0.05 / 3, method="wilson")
    ends = (interval.low - 0.02) / (0.8 - 0.02), min(1, (interval.high - 0.02) / (0.6 - 0.02))
    assert (table["low"][0], table["high"][0]) == pytest.approx(ends)
    tests = [stats.fisher_exact(pair).pvalue for pair in ([[24, 16], [7, 53]], [[4, 36], [27, 33]], [[3, 3], [28, 66]])]
    assert table["p_adjusted"].tolist() == pytest.approx(stats.false_discovery_control(tests))


def test_few_flags_are_no_proof_where_few_wrong_labels_would_be_flagged():
    labels, doubted = np.zeros(60, int), np.arange(60) < 2
    assert cluster_causes(labels, doubted, chances_of(60, 0.8))["fault"].tolist() == ["the model"]
    assert cluster_causes(labels, doubted, chances_of(60, 0.2))["fault"].tolist() == ["inconclusive"]
    table = cluster_causes(labels, np.zeros(60, bool), chances_of(60, 0.05, 0.06))  # flags say nothing at all
    assert table["wrong labels"].tolist() == [1] and table["fault"].tolist() == ["inconclusive"]


@pytest.mark.parametrize(("wrong", "recall"), [(0.9, 0.4), (0.1, 0.6), (0.0, 0.4)])
def test_the_share_of_wrong_labels_is_recovered(wrong, recall):
    rng = np.random.default_rng(0)
    is_wrong = rng.random(3000) < wrong
    doubted = rng.random(3000) < np.where(is_wrong, recall, 0.02)
    table = cluster_causes(np.zeros(3000, int), doubted, chances_of(3000, recall), is_wrong)
    assert table["wrong labels"][0] == pytest.approx(is_wrong.mean(), abs=0.05)
    assert table["low"][0] <= is_wrong.mean() <= table["high"][0]


def test_chances_are_those_of_what_was_missed_at_the_age(kinds):
    frame = predicted(4).assign(age_band=["0-4", "0-4", "75+", "0-4"])
    rows = [
        ("age", "all", "recall", 0.4, 0.3, 0.5, 90), ("age", "all", "false flags", 0.01, 0, 0, 900),
        ("age", "0-4", "recall", 0.6, 0.5, 0.7, 40), ("age", "0-4", "false flags", 0.02, 0, 0, 300),
        ("age", "75+", "recall", 0.1, 0.0, 0.2, 5), ("age", "75+", "false flags", 0.03, 0, 0, 100),
        ("gender", "all", "recall", 0.7, 0.6, 0.8, 90), ("gender", "all", "false flags", 0.1, 0, 0, 900),
    ]  # fmt: skip
    rates = pd.DataFrame(rows, columns=["attribute", "group", "measure", "value", "low", "high", "n"])
    kinds = kinds.assign(wrong_gender=[True, True, False, False])
    chances = flag_chances(frame, kinds, UTKFACE_ATTRIBUTES, rates)
    assert chances["recall"].tolist() == [0.7, 0.7, 0.4]  # the largest; too few were planted at 75+
    assert chances["recall_low"].tolist() == [0.6, 0.6, 0.3]
    assert chances["false_flags"].tolist() == pytest.approx([1 - 0.98 * 0.9, 0.1, 0.03])


def test_one_cluster_of_all_errors_has_nothing_to_compare_with():
    table = cluster_causes(np.zeros(30, int), np.ones(30, bool), chances_of(30, 0.8))
    assert table["fault"].tolist() == ["the labels"] and table[["others", "p_adjusted"]].isna().all(axis=None)
    assert cluster_causes(np.full(5, -1), np.ones(5, bool), chances_of(5, 0.8)).empty
    assert cluster_causes(np.array([], int), np.array([], bool), chances_of(0, 0.8)).empty


@pytest.mark.slow
def test_a_cluster_of_wrong_labels_points_to_the_labels_and_a_cluster_of_hard_faces_to_the_model():
    # The first 40 faces are alike and carry the other gender's label; the network is sure of what it sees. The next 40
    # are alike and hard: their labels are right, and the network is wrong without being sure.
    frame = predicted(1000)
    for at, chance in ((slice(0, 39), 0.03), (slice(40, 79), 0.45)):
        right = frame.loc[at, list(GENDER.columns)].to_numpy() > 0.5
        frame.loc[at, list(GENDER.columns)] = np.where(right, chance, 1 - chance)
    frame = decide(frame)
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(1000, 32)) * 0.1
    embeddings[:40, 0], embeddings[40:80, 1] = embeddings[:40, 0] + 1, embeddings[40:80, 1] + 1
    kinds = find_errors(frame.assign(age_unrounded=frame["age"]), UTKFACE_ATTRIBUTES)  # the ages are all right
    is_error = kinds["any_error"].to_numpy()
    assert is_error.sum() == 80
    labels, facts = cluster(embeddings[is_error], seed=0)
    flags = doubted_labels(frame, find_issues(frame, frame, UTKFACE_ATTRIBUTES))
    doubted = errors_with(kinds, UTKFACE_ATTRIBUTES, flags)
    causes = cluster_causes(labels, doubted, chances_of(80, 0.8))
    assert facts["clusters"] == 2
    fault = causes.set_index("cluster")["fault"]
    assert (fault[labels[0]], fault[labels[-1]]) == ("the labels", "the model")
    assert (causes["p_adjusted"] < 1e-6).all()
    values = {key: estimate.value for key, estimate in headline(kinds, doubted, facts, causes).items()}
    assert values.pop("errors.label_doubted") == pytest.approx(0.5, abs=0.05)
    counts = {"clusters": 2, "clusters_labels_fault": 1, "clusters_model_fault": 1, "share": 0.08}
    assert values == {f"errors.{name}": value for name, value in counts.items()}


def test_the_finding_compares_errors_with_correct_predictions():
    kinds = pd.DataFrame({"wrong_gender": [True] * 4 + [False] * 6, "any_error": [True] * 4 + [False] * 6})
    flags = pd.DataFrame({"gender": [True, True, True] + [False] * 7, "age": [False] * 4 + [True] + [False] * 5})
    doubted = errors_with(kinds, (GENDER,), flags)
    causes = pd.DataFrame({"fault": ["the labels", "the labels", "the model", "inconclusive"]})
    finding = causes_finding(kinds, flags, doubted, causes, None)
    assert finding.key == "errors.causes" and finding.estimate == rate(3, 4)
    assert "of the other faces, 16.7 % have" in finding.text and "Of 4 clusters, 2 point" in finding.text
    assert "1 to the model, and 1 cannot be decided" in finding.text and "drawn" not in finding.text
    known = causes_finding(kinds, flags, doubted, causes, np.array([True, False, False, False]))
    assert "25.0 % of the errors have a wrong label" in known.text


# --- the table of errors ----------------------------------------------------------------------------------


def test_the_table_names_labels_predictions_and_what_was_missed():
    frame = decide(predicted(4).assign(age=[20.0, np.nan, 40, 50], age_pred=[26.0, 30, 40, 50]))
    frame.loc[0, "gender_pred"] = 1 - frame.loc[0, "gender"]
    frame.loc[1, "ethnicity"] = np.nan
    kinds = pd.DataFrame(
        {
            "wrong_gender": [True, False, False, False],
            "wrong_ethnicity": [False, True, False, False],
            "large_age_error": [True, False, False, False],
            "any_error": [True, True, False, False],
        }
    )
    measured = pd.DataFrame({"gender confidence": [0.1, 0.2, 0.3, 0.4]})
    table = error_table(frame, UTKFACE_ATTRIBUTES, kinds, np.array([3, -1]), measured)
    assert table["image_id"].tolist() == ["face 0", "face 1"] and table["cluster"].tolist() == [3, -1]
    assert table["missed"].tolist() == ["age, gender", "ethnicity"]
    assert table["age"].tolist() == ["20", "unknown"] and table["age predicted"].tolist() == ["26", "30"]
    assert table["ethnicity"][1] == "unknown" and table["gender"][0] != table["gender predicted"][0]
    assert table["age error"][0] == 6 and table["gender confidence"].tolist() == [0.1, 0.2]
    none = kinds.assign(any_error=False)
    assert error_table(frame, UTKFACE_ATTRIBUTES, none, np.array([], int), pd.DataFrame(index=range(4))).empty


def test_examples_are_the_largest_errors_of_each_cluster():
    errors = pd.DataFrame({"cluster": [1, 0, 0, 0, 0, -1], "age error": [3.0, 1.0, np.nan, 9.0, 5.0, 2.0]})
    assert examples(errors).index.tolist() == [5, 3, 4, 1, 0]
    assert examples(errors[["cluster"]]).index.tolist() == [5, 1, 2, 3, 0]
