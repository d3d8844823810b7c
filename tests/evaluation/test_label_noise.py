"""Label disagreement: hand-counted differences, planted noise recovered, training rows left out, noise by itself."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation import label_noise
from facelib.evaluation.label_noise import (
    copies_held_out,
    corrected_error,
    disagreement_findings,
    label_disagreement,
    noise_alone,
)
from facelib.schema import AGE, ETHNICITY, GENDER
from facelib.statistics import Bootstrap

BOOTSTRAP = Bootstrap(100)


def test_differences_are_those_of_photographs_with_two_labels_and_no_copy_in_training():
    faces = pd.DataFrame({"age": [20.0, 26, 30, 40, 50, np.nan, 7], "gender": [0, 1, 1, 1, -1, 0, 1]})
    group_id = np.array([0, 0, 1, 1, 2, 2, 3])
    held_out = np.array([True, True, True, False, True, True, True])
    predictions = pd.DataFrame({"age_pred": [21.0, 21, 0, 0, 0, 0, 0], "p_gender_male": 1.0, "p_gender_female": 0.0})
    ages = copies_held_out(faces, group_id, held_out, predictions, AGE)
    assert ages.to_numpy().tolist() == [[0, 2, 23, 6, 3]]  # 1 has a copy in training, 2 and 3 one known label each
    classes = copies_held_out(faces, group_id, held_out, predictions, GENDER)
    assert classes[["two_labels", "model"]].to_numpy().tolist() == [[1.0, 0.5]]


def planted(n: int, wrong: float, own: float, classes: int = 5, seed: int = 0) -> tuple[float, float]:
    """How often two labels, and the model and a label, differ where both err independently at these rates."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)

    def err(rate: float) -> np.ndarray:
        return np.where(rng.random(n) < rate, (truth + rng.integers(1, classes, n)) % classes, truth)

    first, second, model = err(wrong), err(wrong), err(own)
    return float((first != second).mean()), float((model != first).mean())


def test_the_model_s_own_error_is_recovered_where_the_assumptions_hold():
    assert corrected_error(ETHNICITY, *planted(200_000, 0.06, 0.11)) == pytest.approx(0.11, abs=0.005)
    rng = np.random.default_rng(0)
    first, second, model = (rng.normal(0, sd, 200_000) for sd in (4, 4, 6))
    measured = np.abs(first - second).mean(), np.abs(model - first).mean()
    assert corrected_error(AGE, *measured) == pytest.approx(np.abs(model).mean(), rel=0.01)
    assert corrected_error(AGE, 10.0, 2.0) == 0  # nearer to a label than another label


def copies(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Two labels of each photograph with normal noise of 4 years, and a model with an error of 3 years beside it."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(10, 80, n)
    faces = pd.DataFrame({"age": np.concatenate([truth + rng.normal(0, 4, n) for _ in range(2)])})
    predictions = pd.DataFrame({"age_pred": np.tile(truth + rng.normal(0, 3, n), 2)})
    return faces, np.tile(np.arange(n), 2), predictions


def test_a_model_better_than_a_second_label_is_called_so():
    faces, group_id, predictions = copies()
    held_out = np.ones(len(faces), bool)
    measured = label_disagreement(faces, group_id, held_out, predictions, [AGE], BOOTSTRAP, 1)
    values = measured.set_index("quantity")["value"]
    assert values[label_noise.LABELS] == pytest.approx(4 * 2 / np.sqrt(np.pi), rel=0.1)
    assert values[label_noise.CORRECTED] == pytest.approx(3 * np.sqrt(2 / np.pi), rel=0.25)
    assert values[label_noise.APART] == pytest.approx(values[label_noise.MODEL] - values[label_noise.LABELS])
    findings = {finding.key: finding for finding in disagreement_findings(measured, pd.DataFrame())}
    assert "the model differs less" in findings["disagreement.age"].text and (measured["n"] == 400).all()
    none = label_disagreement(faces, group_id, ~held_out, predictions, [AGE], BOOTSTRAP, 1)
    few = label_disagreement(faces, group_id, held_out, predictions, [AGE], BOOTSTRAP, minimum=401)
    assert none.empty and few.empty and "not measured" in disagreement_findings(few, pd.DataFrame())[0].text


def test_noise_alone_makes_old_labels_look_under_predicted_and_none_makes_nothing():
    faces, group_id, predictions = copies(3000)
    held_out, n = np.ones(len(faces), bool), 3000
    differences = copies_held_out(faces, group_id, held_out, predictions, AGE)
    rng = np.random.default_rng(1)
    truth = np.concatenate([rng.uniform(0, 70, n), rng.uniform(70, 90, n // 10)])  # few are old
    labels = truth + rng.normal(0, 4, len(truth))
    frame = pd.DataFrame({"age": labels.clip(0).round(), "age_pred": truth, "group_id": range(len(truth))})
    frame["age_band"] = AGE.groups(frame["age"])
    table = noise_alone(frame, differences, BOOTSTRAP, draws=20).set_index("age_band")
    old = table.loc["75+"]
    assert old["bias"] < -0.3  # the model is exact: all of it is noise
    assert old["noise"] == pytest.approx(old["bias"], abs=0.7)
    assert table.loc["30-45", "noise"] == pytest.approx(0, abs=0.3)
    exact = noise_alone(frame, differences.assign(two_labels=0.0), BOOTSTRAP, draws=5)
    assert np.abs(exact["noise"]).max() <= 0.5  # rounding alone
    assert noise_alone(frame, differences[:0], BOOTSTRAP).empty
    measured = label_disagreement(faces, group_id, held_out, predictions, [AGE], BOOTSTRAP, 1)
    keys = [
        [f.key for f in disagreement_findings(measured, part.reset_index())]
        for part in (table, table.assign(bias=1.0, bias_high=1.5))
    ]
    assert ["disagreement.old" in found for found in keys] == [
        True,
        False,
    ]  # nothing is said of people predicted too old
