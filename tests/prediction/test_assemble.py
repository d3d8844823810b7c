"""Making a predictor: what is saved, which rows calibrate it, and that it predicts what the table holds."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.embedding.features import Embedding
from facelib.formats import write_json
from facelib.models.age_stages import AgeStagesNet, route
from facelib.models.heads import predictions_table
from facelib.models.network import FaceNet, predict_outputs, save_network
from facelib.prediction import assemble
from facelib.prediction.calibration import fit_age_intervals, fit_temperature
from facelib.prediction.ood import fit_ood
from facelib.prediction.predictor import Predictor
from facelib.runs import RunFolder, start_run
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES

N = 60


@pytest.fixture
def faces() -> pd.DataFrame:
    """Labels of 60 faces, some of them unknown."""
    rng = np.random.default_rng(0)
    faces = pd.DataFrame({"image_id": [f"{k}.png" for k in range(N)], "age": rng.integers(1, 90, N).astype(float)})
    faces["gender"], faces["ethnicity"] = rng.integers(0, 2, N), rng.integers(0, 5, N)
    faces.loc[40:42, "age"], faces.loc[41:44, "gender"] = np.nan, -1
    return faces


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def run(empty_runs, faces, tiny_network) -> RunFolder:
    """A run after notebook 02: 20 training, 10 validation, 20 calibration and 10 test faces."""
    run = start_run("made", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    run.save_table(faces, "faces")
    split = np.repeat(["train", "validation", "calibration", "test"], [20, 10, 20, 10])
    splits = pd.DataFrame({"image_id": faces["image_id"], "split": split, "group_id": range(N), "copied": False})
    run.save_table(splits.assign(representative=splits["group_id"] != 3), "splits")
    scores = {column: 0.25 for attribute in UTKFACE_ATTRIBUTES for column in attribute.columns[:2]}
    run.save_table(pd.DataFrame({"image_id": faces["image_id"], **scores, "fold": 0}), "label_scores")
    return run


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    return {"train": np.arange(20), "validation": np.arange(20, 30), "calibration": np.arange(30, 50)}


@pytest.fixture
def outputs(tiny_network, images) -> dict[str, np.ndarray]:
    return predict_outputs(tiny_network, images)


@pytest.fixture
def embedding(monkeypatch) -> Embedding:
    """What stands in for the face network's features: the run has no photographs."""
    features, spoiled = np.random.default_rng(5).normal(size=(2, N, 256))
    made = Embedding(features, None, spoiled, np.arange(N))
    monkeypatch.setattr(assemble, "load_embedding", lambda run, faces: made)
    return made


@pytest.fixture
def assembled(run, embedding, tiny_network, images, outputs, faces, rows) -> tuple[Predictor, pd.DataFrame]:
    checkpoint = run.path / "checkpoints" / "model.safetensors"
    checkpoint.parent.mkdir()
    save_network(tiny_network, checkpoint, image_px=32)
    temperatures = {"gender": 2.0, "ethnicity": 0.5}
    return assemble.from_network(run, outputs, faces, rows, temperatures)


def test_labelled_rows_by_hand(faces, rows):
    assert assemble.labelled_rows(faces, np.arange(39, 46), AGE).tolist() == [39, 43, 44, 45]
    assert assemble.labelled_rows(faces, np.arange(39, 46), GENDER).tolist() == [39, 40, 45]


def test_temperatures_are_fitted_on_labelled_calibration_rows(outputs, faces, rows):
    found = assemble.fit_temperatures(outputs, faces, rows, UTKFACE_ATTRIBUTES)
    known = [k for k in range(30, 50) if k not in (41, 42, 43, 44)]
    assert found == {
        "gender": fit_temperature(outputs["gender"][known], faces["gender"].to_numpy()[known]),
        "ethnicity": fit_temperature(outputs["ethnicity"][30:50], faces["ethnicity"].to_numpy()[30:50]),
    }


def test_outputs_model_and_embeddings_are_saved(run, tiny_network, images, outputs):
    saved = assemble.predict_run(run, tiny_network, _AsFaces(images))
    assert all((saved[name] == outputs[name]).all() for name in outputs)
    assert (run.load_array("embeddings") == outputs["features"].astype(np.float16)).all()
    assert (run.path / "checkpoints" / "model.safetensors").exists()
    assert json.loads((run.path / "timings.json").read_text())["03.prediction"]["images_per_second"] > 0


class _AsFaces(np.ndarray):
    """An array of images with the edge that `FaceImages` has."""

    px = 32

    def __new__(cls, images):
        return images.view(cls)


def test_the_predictions_table_holds_three_models(assembled, run, outputs, faces):
    _, table = assembled
    pd.testing.assert_frame_equal(table, run.load_table("predictions"))
    columns = [column for attribute in UTKFACE_ATTRIBUTES for column in attribute.columns]
    assert list(table) == ["image_id", "split", "model", "out_of_fold", *columns]
    assert table["model"].unique().tolist() == ["multitask", "label_scorer", "predictor"]
    for model, part in table.groupby("model"):
        assert part["image_id"].tolist() == faces["image_id"].tolist()
        assert part["out_of_fold"].tolist() == [model == "label_scorer" or k >= 20 for k in range(N)]
    temperatures = {"gender": 2.0, "ethnicity": 0.5}
    by_hand = predictions_table(outputs, UTKFACE_ATTRIBUTES, temperatures)
    multitask = table[table["model"] == "multitask"].reset_index(drop=True)
    classes = [*GENDER.columns, *ETHNICITY.columns]
    pd.testing.assert_frame_equal(multitask[classes], by_hand[classes])
    assert multitask[["age_low", "age_high"]].isna().all(axis=None)


def test_the_saved_predictor_predicts_what_the_table_holds(assembled, run, images):
    predictor, table = assembled
    columns = [column for attribute in UTKFACE_ATTRIBUTES for column in attribute.columns]
    expected = table[table["model"] == "predictor"].reset_index(drop=True)[columns]
    pd.testing.assert_frame_equal(Predictor.load(run)(images)[columns], expected)
    assert predictor.temperatures == {"gender": 2.0, "ethnicity": 0.5} and predictor.synthetic


def test_it_is_calibrated_on_calibration_rows(assembled, embedding, outputs, faces):
    predictor, _ = assembled
    known = [k for k in range(30, 50) if k not in (40, 41, 42)]
    expected = fit_age_intervals(faces["age"].to_numpy()[known], outputs["age"].astype(float)[known])
    assert predictor.intervals == expected
    # Row 3 does not represent its group of copies.
    train = np.delete(np.arange(20), 3)
    score = fit_ood(embedding, train, np.arange(30, 50))
    assert (predictor.ood.centre == score.centre).all() and (predictor.ood.calibration == score.calibration).all()


def test_results_of_another_network_are_removed(run, tiny_network, images, outputs, faces, rows, request):
    for name in ("03_train_multitask", "04_age_two_stage", "08_explain"):
        write_json(run.path / "metrics" / f"{name}.json", {"headline": {}, "findings": [], "details": {}})
    request.getfixturevalue("assembled")
    assert [path.stem for path in (run.path / "metrics").iterdir()] == ["03_train_multitask"]


def test_another_way_to_age_replaces_the_predictors_rows(assembled, run, images, outputs, faces, rows):
    torch.manual_seed(2)
    stages = AgeStagesNet({"architecture": "tiny"}, (20.0, 50.0), (10.0, 30.0, 65.0)).eval()
    save_network(stages, run.path / "checkpoints" / "age_stages.safetensors")
    soft = route(predict_outputs(stages, images))["age_soft"].to_numpy()
    before = run.load_table("predictions")
    predictor = assemble.choose_age(run, "soft", soft, faces, rows)
    after = run.load_table("predictions")
    assert predictor.age_method == "soft" and predictor.temperatures == {"gender": 2.0, "ethnicity": 0.5}
    known = [k for k in range(30, 50) if k not in (40, 41, 42)]
    assert predictor.intervals == fit_age_intervals(faces["age"].to_numpy()[known], soft[known])
    others = before[before["model"] != "predictor"].reset_index(drop=True)
    pd.testing.assert_frame_equal(after[: 2 * N], others)
    columns = [column for attribute in UTKFACE_ATTRIBUTES for column in attribute.columns]
    pd.testing.assert_frame_equal(after[2 * N :][columns].reset_index(drop=True), predictor(images)[columns])
    assert after[2 * N :]["age_pred"].tolist() == soft.tolist()


def test_a_run_without_ages_has_a_predictor_of_classes(run, embedding, tiny, images, faces, rows):
    torch.manual_seed(0)
    network = FaceNet((GENDER,), tiny).eval()
    run.set_attributes(UTKFACE_ATTRIBUTES, (GENDER,))
    checkpoint = run.path / "checkpoints" / "model.safetensors"
    checkpoint.parent.mkdir()
    save_network(network, checkpoint, image_px=32)
    outputs = predict_outputs(network, images)
    predictor, table = assemble.from_network(run, outputs, faces, rows, {"gender": 1.0})
    assert list(table) == ["image_id", "split", "model", "out_of_fold", *GENDER.columns]
    assert predictor.intervals.half_widths == (116.0,)


def test_a_training_takes_the_runs_labels_rows_and_settings(run, faces, rows, images, monkeypatch):
    calls = []
    monkeypatch.setattr(assemble, "load_images", lambda run, faces: images)
    monkeypatch.setattr(
        assemble, "train_multitask", lambda *arguments: calls.append(arguments) or ("network", "losses")
    )
    assert assemble.train_run(run, faces, rows) == ("network", "losses")
    (call,) = calls
    assert call[0] is images and call[1] is faces and call[2] is rows["train"] and call[3] is rows["validation"]
    assert call[4:6] == (UTKFACE_ATTRIBUTES, run.settings)
    assert call[6] == run.path / "checkpoints" / "multitask" and call[7].tolist() == faces["image_id"].tolist()
