"""What notebook 03 reports: numbers of the findings by hand, calibration before and after, recipes in the table."""

import numpy as np
import pandas as pd
import pytest
import torch

from facelib import metrics
from facelib.config import RECIPES, TrainingSettings, resolve
from facelib.evaluation import training
from facelib.evaluation.headline import baselines, evaluation_frame
from facelib.formats import read_json
from facelib.models.training import MULTITASK_FOLDER
from facelib.runs import RunFolder, start_run
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap, format_value


@pytest.fixture
def run(empty_runs) -> RunFolder:
    run = start_run("trained", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    return run


def test_the_time_of_a_training_is_that_of_its_epochs(run):
    folder = run.path / MULTITASK_FOLDER
    folder.mkdir(parents=True)
    torch.save({"weights": {}, "epochs": [], "seconds": 12.5}, folder / "finished.ckpt")
    training.record_time(run)
    assert read_json(run.path / "timings.json")["03.training"]["seconds"] == 12.5


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_table_shows_every_setting_of_every_recipe(recipe):
    settings = resolve("smoke", {"recipe": recipe})
    table = training.recipe_table(settings.training)
    assert set(table) >= {name for other in RECIPES.values() for name in other.settings}
    for name, value in RECIPES[recipe].settings.items():
        assert table.loc[0, name] == str(value)
    assert RECIPES[recipe].about in training.recipe_finding(settings).text


def test_curves_are_drawn_of_what_is_learned():
    assert list(training.curve_titles((AGE, ETHNICITY))) == ["loss", "age_mae", "ethnicity"]


@pytest.mark.parametrize(("patience", "epoch", "loss"), [(0, 3, "2.5"), (5, 2, "1.5")])
def test_the_curve_names_the_epoch_whose_weights_are_used(patience, epoch, loss):
    history = pd.DataFrame({"train_loss": [4.0, 3.0, 2.0], "validation_loss": [3.5, 1.5, 2.5]})
    finding = training.curve_finding(history, TrainingSettings(patience=patience))
    assert f"epoch {epoch} of 3" in finding.text and f"loss is {loss} on validation" in finding.text
    assert finding.key == "training.curve" and finding.n == 3


def test_calibration_is_scored_on_the_rows_given_before_and_after_dividing(run):
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"age": 30.0, "gender": rng.integers(0, 2, 400), "ethnicity": rng.integers(0, 5, 400)})
    # Twice as sure as it should be: the label is right in 75 % where a probability of 90 % is given.
    right = np.where(rng.random(400) < 0.75, labels["gender"], 1 - labels["gender"])
    outputs = {"gender": np.where(np.arange(2) == right[:, None], np.log(9) / 2, -np.log(9) / 2)}
    outputs["ethnicity"] = np.log(np.eye(5)[labels["ethnicity"]] * 0.6 + 0.08)
    rows = np.arange(100, 400)
    temperatures = {"gender": 2.0, "ethnicity": 1.0}
    results, points, errors = training.calibration_gaps(run, outputs, labels, rows, temperatures)
    correct = (right == labels["gender"])[rows].mean()
    before, after = (results[f"validation.gender.calibration_error_{kind}"] for kind in ("before", "after"))
    assert errors["gender, before dividing"].observed == pytest.approx(abs(correct - 0.9)) and before.n == 300
    assert errors["gender, after dividing"].observed == pytest.approx(abs(correct - 0.75))
    assert before.value < abs(correct - 0.9) and before.low > 0.05 and after.low == 0
    same = [errors[f"ethnicity, {kind} dividing"].observed for kind in ("before", "after")]
    assert same == pytest.approx([1 - 0.68] * 2) and errors["gender, after dividing"].estimate == after
    assert (
        list(points)
        == list(errors)
        == [f"{n}, {k} dividing" for n in ("gender", "ethnicity") for k in ("before", "after")]
    )


@pytest.fixture
def frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Evaluation frames of 40 training and 20 validation faces, and the baselines of validation."""
    rng = np.random.default_rng(1)
    faces = pd.DataFrame({"image_id": [f"{k}" for k in range(60)], "age": rng.integers(10, 80, 60).astype(float)})
    faces["gender"] = rng.integers(0, 2, 60)
    split = np.repeat(["train", "validation"], [40, 20])
    splits = faces[["image_id"]].assign(split=split, group_id=range(60), representative=True)
    off = np.where(split == "train", 2.0, 5.0)
    wrong = np.where(split == "train", 0, np.arange(60) % 4 == 0)
    predictions = faces[["image_id"]].assign(age_pred=faces["age"] + off)
    predictions["p_gender_female"] = np.where(wrong, 1 - faces["gender"], faces["gender"]).astype(float)
    predictions["p_gender_male"] = 1 - predictions["p_gender_female"]
    attributes = (AGE, GENDER)
    trained, frame = (
        evaluation_frame(faces, splits, predictions, (part,), attributes) for part in ("train", "validation")
    )
    return trained, frame, baselines(faces[:40], frame, attributes, Bootstrap(20))


def test_the_gap_names_training_validation_and_baseline_of_each_attribute(frames):
    trained, frame, constant = frames
    details, finding = training.training_gap(trained, frame, constant, (AGE, GENDER))
    assert details == {"train_mae": 2.0}
    none = constant.set_index("metric")["value"]
    median = np.median(trained["age"])
    assert none["age.mae"] == pytest.approx(metrics.mae(frame["age"], np.full(20, median)))
    age, gender = (format_value(none[key], unit) for key, unit in (("age.mae", "years"), ("gender.accuracy", "share")))
    assert f"age mean absolute error: 2 y, 5 y and {age}" in finding.text
    assert f"gender accuracy: 100.0 %, 75.0 % and {gender}" in finding.text
    assert finding.key == "training.gap" and finding.n == 20
    assert training.training_gap(trained, frame, constant, (GENDER,))[0] == {}


def test_flagged_faces_are_counted_beside_the_share_expected():
    flagged, finding = training.ood_finding(pd.Series([True] * 3 + [False] * 97), 0.0125, 400)
    assert (flagged.value, flagged.n) == (0.03, 100)
    assert finding.estimate == flagged and finding.key == "prediction.ood"
    assert "1.2 %" in finding.text and "400" in finding.text
