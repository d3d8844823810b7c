"""Planted label errors: the share asked for, always wrong, and scored as found or not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from facelib.audit.planting import (
    ALL,
    _areas,
    flag_rates,
    measure_ranking,
    plant_errors,
    planted_findings,
    planted_flag_rates,
    ranking_curve,
    score_ranking,
)
from facelib.schema import PLANTED_AGE_ERROR, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Bootstrap, rate

N = 2000


@pytest.fixture
def faces() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "image_id": [f"{k}.jpg" for k in range(N)],
            "age": rng.integers(0, 117, N).astype(float),
            "gender": rng.integers(0, 2, N).astype("int8"),
            "ethnicity": rng.integers(0, 5, N).astype("int8"),
        },
        index=range(7, N + 7),
    )


def test_the_share_asked_for_is_wrong_and_nothing_else_changes(faces):
    before = faces.copy()
    spoilt, planted = plant_errors(faces, UTKFACE_ATTRIBUTES, seed=1)
    assert planted.sum().to_dict() == {"age": 60, "gender": 60, "ethnicity": 100}
    for name in planted:
        assert ((spoilt[name] != faces[name]) == planted[name]).all() and spoilt[name].dtype == faces[name].dtype
    assert (spoilt["age"] - faces["age"])[planted["age"]].abs().eq(PLANTED_AGE_ERROR).all()
    assert spoilt["age"].between(0, 116).all() and spoilt["ethnicity"].between(0, 4).all()
    assert len(np.unique((spoilt["ethnicity"] - faces["ethnicity"])[planted["ethnicity"]] % 5)) == 4
    pd.testing.assert_frame_equal(faces, before)


def test_unknown_labels_are_never_planted(faces):
    faces.loc[faces.index[:1500], ["gender", "ethnicity"]] = -1
    faces.loc[faces.index[:1500], "age"] = np.nan
    spoilt, planted = plant_errors(faces, UTKFACE_ATTRIBUTES, seed=1)
    assert planted.sum().to_list() == [15, 15, 25] and not planted[:1500].any(axis=None)
    assert (spoilt["gender"][:1500] == -1).all() and spoilt["age"][:1500].isna().all()


def test_the_seed_decides(faces):
    assert plant_errors(faces, UTKFACE_ATTRIBUTES, 3)[1].equals(plant_errors(faces, UTKFACE_ATTRIBUTES, 3)[1])
    assert not plant_errors(faces, UTKFACE_ATTRIBUTES, 3)[1].equals(plant_errors(faces, UTKFACE_ATTRIBUTES, 4)[1])


def test_rankings_by_hand():
    wrong = np.array([True, False, True, False, False])
    found = score_ranking(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), wrong, Bootstrap(50))
    assert found["auroc"].value == pytest.approx(5 / 6)  # of six pairs of a wrong and a right label one is swapped
    assert found["average_precision"].value == pytest.approx((1 + 2 / 3) / 2)
    assert found["precision_at_k"].value == 0.5 and found["precision_at_k"].n == 2


def test_areas_of_equal_scores_and_of_resamples_are_those_of_scikit_learn():
    rng = np.random.default_rng(2)
    score, wrong = rng.integers(0, 12, 300) / 12, rng.random(300) < 0.2
    weights = np.vstack([np.ones(300), rng.poisson(1, (3, 300)), 1.0 - wrong])
    area, precision = _areas(wrong, score, weights)
    for row in range(4):
        how = {"y_true": wrong, "y_score": -score, "sample_weight": weights[row]}
        assert area[row] == pytest.approx(roc_auc_score(**how))
        assert precision[row] == pytest.approx(average_precision_score(**how))
    assert np.isnan([area[4], precision[4]]).all()  # no wrong label is drawn


@pytest.mark.slow
def test_the_interval_resamples_copies_together():
    rng = np.random.default_rng(0)
    score, wrong = rng.random(40).repeat(25), (rng.random(40) < 0.3).repeat(25)
    sides = (None, np.arange(40).repeat(25))
    alone, together = (score_ranking(score, wrong, Bootstrap(300), groups)["auroc"] for groups in sides)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_curve_starts_with_all_rows_and_never_has_more_points_than_asked():
    rng = np.random.default_rng(1)
    wrong = rng.random(5000) < 0.1
    curve = ranking_curve(rng.random(5000), wrong, points=50)
    assert len(curve) <= 50 and curve["recall"].iloc[0] == 1
    assert curve["precision"].iloc[0] == pytest.approx(wrong.mean())


def test_each_attribute_is_measured_against_its_own_planted_errors(faces):
    spoilt, planted = plant_errors(faces, UTKFACE_ATTRIBUTES, seed=1)
    rows = [
        pd.DataFrame({"image_id": faces["image_id"], "attribute": name, "score": 1.0 - planted[name]})
        for name in ("gender", "age")
    ]
    issues = pd.concat(rows).sample(frac=1, random_state=0)  # in any order
    results, curves = measure_ranking(issues, spoilt, planted, np.arange(N), Bootstrap(20))
    assert {key: value.value for key, value in results.items() if "auroc" in key} == {
        "age.auroc": 1, "gender.auroc": 1,
    }  # fmt: skip
    assert set(curves["attribute"]) == {"age", "gender"}
    (finding,) = planted_findings(results)
    assert (finding.key, finding.estimate.value, finding.estimate.n) == ("labels.planted", 1, 120)
    assert planted_findings({}) == []
    assert planted_findings({"age.precision_at_k": rate(0, 0)})[0].text == "No error was planted."


def test_an_attribute_of_more_classes_gets_errors_of_its_own():
    parity = ClassAttribute("parity", classes=("even", "odd", "neither"))
    faces = pd.DataFrame({"parity": np.arange(300, dtype="int16") % 3})
    spoilt, planted = plant_errors(faces, [parity], seed=0)
    assert planted["parity"].sum() == round(parity.planted_share * 300)
    assert ((spoilt["parity"] != faces["parity"]) == planted["parity"]).all() and spoilt["parity"].between(0, 2).all()


def test_recall_and_false_flags_by_attribute_and_age_band(faces):
    few = faces.iloc[:4].assign(age=[1.0, 3.0, 80.0, 80.0])
    planted = pd.DataFrame({"age": [True, False, True, True], "gender": [False] * 3 + [True]}, index=few.index)
    issues = pd.DataFrame({"image_id": np.tile(few["image_id"], 2), "attribute": np.repeat(["age", "gender"], 4)})
    issues["is_issue"] = [True, True, True, False, False, True, False, True]
    table = flag_rates(issues, few, planted, UTKFACE_ATTRIBUTES).set_index(["attribute", "group", "measure"])
    value, n = table["value"], table["n"]
    assert value["age", ALL, "recall"] == 2 / 3 and value["age", ALL, "false flags"] == 1
    assert value["age", "75+", "recall"] == 0.5 and n["age", "75+", "false flags"] == 0
    assert value["gender", "0-4", "false flags"] == 0.5 and value["gender", "75+", "recall"] == 1


def test_rates_of_a_run_are_those_of_errors_outside_its_test_split(faces):
    """Predictions that know every label flag each planted error and nothing else."""
    scores = {"age_pred": faces["age"], "age_spread": 0.5}
    for attribute in UTKFACE_ATTRIBUTES[1:]:
        given = faces[attribute.name].to_numpy()[:, None] == np.arange(len(attribute.classes))
        scores |= dict(zip(attribute.columns, np.where(given, 1.0, 0.0).T, strict=True))
    splits = pd.DataFrame({"split": np.where(np.arange(N) % 2, "train", "test")}, index=faces.index)
    table = planted_flag_rates(faces, splits, pd.DataFrame(scores, index=faces.index), UTKFACE_ATTRIBUTES, 0)
    found = table[table["group"] == ALL].set_index(["attribute", "measure"])
    assert found.loc[("gender", "recall"), ["value", "n"]].tolist() == [1, 30]
    assert found.loc["ethnicity"].loc["recall", "value"] == 1
    assert found.loc["age"].loc["recall", "value"] == 1
    assert found.xs("false flags", level=1)["value"].eq(0).all()
