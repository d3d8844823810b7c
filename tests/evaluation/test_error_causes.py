"""Causes of errors: numbers compared as SciPy does; a planted cluster of wrong labels is named the labels' fault."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelib.audit.label_issues import find_issues
from facelib.evaluation.error_causes import (
    compare_measured,
    doubted_where_missed,
    error_table,
    judge_clusters,
    measured_traits,
    wrong_where_missed,
)
from facelib.evaluation.error_clusters import cluster, find_errors
from facelib.schema import P_ETHNICITY


def predicted(n: int, seed: int = 0) -> pd.DataFrame:
    """Faces that a network predicts rather well, with unsure probabilities for a tenth of them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image_id": [f"face {k}" for k in range(n)], "age": rng.integers(1, 90, n).astype(float)})
    frame["gender"], frame["ethnicity"] = rng.integers(0, 2, n).astype(float), rng.integers(0, 5, n).astype(float)
    right = np.where(rng.random(n) < 0.1, 0.6, 0.97)
    frame["p_female"] = np.where(frame["gender"] == 1, right, 1 - right)
    frame[list(P_ETHNICITY)] = np.repeat((1 - right[:, None]) / 4, 5, axis=1)
    for code, name in enumerate(P_ETHNICITY):
        frame.loc[frame["ethnicity"] == code, name] = right[frame["ethnicity"] == code]
    frame["age_pred"] = frame["age_smooth"] = frame["age"] + rng.normal(0, 4, n)
    frame["age_low"], frame["age_high"] = frame["age_pred"] - 8, frame["age_pred"] + 8
    return frame


def decide(frame: pd.DataFrame) -> pd.DataFrame:
    frame["gender_pred"] = (frame["p_female"] >= 0.5).astype(float)
    frame["ethnicity_pred"] = frame[list(P_ETHNICITY)].to_numpy().argmax(axis=1).astype(float)
    return frame


# --- numbers ----------------------------------------------------------------------------------------------


def test_scores_and_confidences_come_by_image():
    frame = predicted(3).assign(p_female=[0.2, 0.5, 0.9])
    issues = pd.DataFrame(
        {"image_id": ["face 2", "face 0"], "attribute": ["gender", "gender"], "score": [0.1, 0.7], "is_issue": False}
    )
    table = measured_traits(frame, issues)
    assert table["gender label score"].tolist()[::2] == [0.7, 0.1] and np.isnan(table["gender label score"][1])
    assert table["gender confidence"].tolist() == [0.8, 0.5, 0.9]
    assert table["ethnicity confidence"].tolist() == frame[list(P_ETHNICITY)].max(axis=1).tolist()
    assert table["age interval width"].tolist() == pytest.approx([16, 16, 16])
    bare = measured_traits(frame.assign(age_low=np.nan), issues.iloc[:0])
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
    row, correct = table.loc[(1, "shifted")], measured["shifted"][90:]
    members = measured["shifted"][30:60]
    assert (row["median"], row["median_correct"]) == (members.median(), correct.median())
    pairs = (members.to_numpy()[:, None] > correct.to_numpy()).mean()
    assert row["chance_higher"] == pytest.approx(pairs) and pairs > 0.8
    tests = [
        stats.mannwhitneyu(measured.loc[at, name].dropna(), measured.loc[90:, name]).pvalue
        for at in (slice(0, 29), slice(30, 59)) for name in ("shifted", "even")
    ]  # fmt: skip
    assert table["p_adjusted"].tolist() == pytest.approx(stats.false_discovery_control(tests))
    assert (table["p_adjusted"] < 0.01).tolist() == [False, False, True, False]


def test_without_clusters_or_correct_rows_nothing_is_compared():
    measured = pd.DataFrame({"a": np.arange(4.0)})
    assert compare_measured(np.array([-1, -1]), np.array([True, True, False, False]), measured).empty
    assert compare_measured(np.zeros(4, int), np.ones(4, bool), measured).empty
    assert compare_measured(np.array([], int), np.zeros(4, bool), measured).empty


# --- whose fault ------------------------------------------------------------------------------------------


def test_an_error_counts_only_where_the_missed_label_is_doubted():
    frame = decide(predicted(4))
    kinds = pd.DataFrame(
        {
            "large_age_error": [True, False, True, False],
            "wrong_gender": [False, True, False, False],
            "wrong_ethnicity": False,
        }
    )
    flags = [("face 0", "gender", True), ("face 1", "gender", True), ("face 2", "age", False), ("face 3", "age", True)]
    issues = pd.DataFrame(flags, columns=["image_id", "attribute", "is_issue"])
    assert doubted_where_missed(frame, kinds, issues).tolist() == [False, True, False, False]
    assert not doubted_where_missed(frame, kinds, issues.iloc[:0]).any()
    wrong = pd.DataFrame({"age": [True, True, False, False], "gender": [False] * 4}, index=frame["image_id"])
    assert wrong_where_missed(frame, kinds, wrong).tolist() == [True, False, False, False]


def test_faults_by_hand():
    labels = np.repeat([0, 1, 2, -1], [40, 40, 6, 14])
    doubted = np.zeros(100, bool)
    doubted[:36], doubted[40:44], doubted[80:83] = True, True, True
    table = judge_clusters(labels, doubted)
    assert table["fault"].tolist() == ["the labels", "the model", "cannot tell"]
    assert table["doubted"].tolist() == [0.9, 0.1, 0.5] and table["n"].tolist() == [40, 40, 6]
    assert table["others"].tolist() == pytest.approx([7 / 60, 39 / 60, 40 / 94])
    interval = stats.binomtest(36, 40).proportion_ci(1 - 0.05 / 3, method="wilson")
    assert (table["low"][0], table["high"][0]) == pytest.approx((interval.low, interval.high))
    tests = [stats.fisher_exact(pair).pvalue for pair in ([[36, 4], [7, 53]], [[4, 36], [39, 21]], [[3, 3], [40, 54]])]
    assert table["p_adjusted"].tolist() == pytest.approx(stats.false_discovery_control(tests))


def test_one_cluster_of_all_errors_has_nothing_to_compare_with():
    table = judge_clusters(np.zeros(30, int), np.ones(30, bool))
    assert table["fault"].tolist() == ["the labels"] and table[["others", "p_adjusted"]].isna().all(axis=None)
    assert judge_clusters(np.full(5, -1), np.ones(5, bool)).empty
    assert judge_clusters(np.array([], int), np.array([], bool)).empty


def test_a_cluster_of_wrong_labels_is_the_labels_fault_and_a_cluster_of_hard_faces_the_models():
    # The first 40 faces are alike and carry the other gender's label; the network is sure of what it sees. The next 40
    # are alike and hard: their labels are right, and the network is wrong without being sure.
    frame = predicted(1000)
    for at, chance in ((slice(0, 39), 0.03), (slice(40, 79), 0.45)):
        female = frame.loc[at, "gender"] == 1
        frame.loc[at, "p_female"] = np.where(female, chance, 1 - chance)
    frame = decide(frame)
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(1000, 32)) * 0.1
    embeddings[:40, 0], embeddings[40:80, 1] = embeddings[:40, 0] + 1, embeddings[40:80, 1] + 1
    kinds = find_errors(frame.assign(age_smooth=frame["age"]))  # the ages are all right
    is_error = kinds["any_error"].to_numpy()
    assert is_error.sum() == 80
    labels, facts = cluster(embeddings[is_error], seed=0)
    issues = find_issues(frame, frame)
    judged = judge_clusters(labels, doubted_where_missed(frame, kinds, issues)[is_error])
    assert facts["clusters"] == 2
    fault = judged.set_index("cluster")["fault"]
    assert (fault[labels[0]], fault[labels[-1]]) == ("the labels", "the model")
    assert (judged["p_adjusted"] < 1e-6).all()
    compared = compare_measured(labels, is_error, measured_traits(frame, issues)).set_index(["cluster", "measure"])
    scores = [compared.loc[(labels[at], "gender label score"), "median"] for at in (0, -1)]
    assert scores[0] < 0.1 < scores[1]


# --- the table of errors ----------------------------------------------------------------------------------


def test_the_table_names_labels_predictions_and_what_was_missed():
    frame = decide(predicted(4).assign(age=[20.0, np.nan, 40, 50], age_pred=[26.4, 30, 40, 50]))
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
    table = error_table(frame, kinds, np.array([3, -1]), pd.DataFrame({"gender confidence": [0.1, 0.2, 0.3, 0.4]}))
    assert table["image_id"].tolist() == ["face 0", "face 1"] and table["cluster"].tolist() == [3, -1]
    assert table["missed"].tolist() == ["age, gender", "ethnicity"]
    assert table["age"].tolist() == ["20", "unknown"] and table["age predicted"].tolist() == ["26", "30"]
    assert table["ethnicity"][1] == "unknown" and table["gender"][0] != table["gender predicted"][0]
    assert table["age error"][0] == pytest.approx(6.4) and table["gender confidence"].tolist() == [0.1, 0.2]
    assert error_table(frame, kinds.assign(any_error=False), np.array([], int), pd.DataFrame(index=range(4))).empty
