"""The predictor of a run: saved, loaded, and the same."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from facelib.data.dlib_files import WeightsError
from facelib.data.pixels import FaceImages, square
from facelib.embedding.features import embed
from facelib.errors import DamagedRun, MissingFromRun
from facelib.formats import read_json, write_json
from facelib.models.age_stages import AgeStagesNet, route
from facelib.models.network import FaceNet, predict_outputs, save_network
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import OodScore, save_ood
from facelib.prediction.predictor import AGE_METHODS, Predictor, age_estimates, save_predictor, scaled
from facelib.schema import AGE, ETHNICITY, GENDER, ClassAttribute, class_attributes

INTERVALS = AgeIntervals((30.0,), (4.5, 9.0))
OOD_COLUMNS = ["ood_percentile", "out_of_distribution"]


def saved_predictor(folder, network, age_method: str) -> Predictor:
    """A predictor, and the same one below `folder`/checkpoints."""
    torch.manual_seed(2)
    stages = AgeStagesNet({"architecture": "tiny"}, (20.0, 50.0), (10.0, 30.0, 65.0)).eval()
    temperatures = {attribute.name: 0.8 for attribute in class_attributes(network.attributes)}
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    save_network(network, checkpoints / "model.safetensors", image_px=32)
    if age_method != "direct":
        save_network(stages, checkpoints / "age_stages.safetensors")
    save_predictor(checkpoints / "predictor.json", age_method, temperatures, INTERVALS, synthetic=True)
    arrays = (
        np.random.default_rng(4).normal(size=256),
        np.eye(256)[:, :160],
        np.zeros(256),
        np.zeros(1),
        np.arange(50.0),
    )
    score = OodScore(*(array.astype(np.float32) for array in arrays))
    save_ood(score, checkpoints / "ood.safetensors")
    return Predictor(network, stages, age_method, temperatures, INTERVALS, score, 32, True)


@pytest.mark.parametrize("age_method", AGE_METHODS)
def test_a_saved_predictor_predicts_the_same(age_method, tiny_network, noise_images, tmp_path):
    made = saved_predictor(tmp_path, tiny_network, age_method)
    loaded = Predictor.load(tmp_path)
    pd.testing.assert_frame_equal(loaded(noise_images), made(noise_images))
    assert loaded.temperatures == made.temperatures and loaded.intervals == made.intervals
    assert (loaded.ood.centre == made.ood.centre).all()
    assert (loaded.age_method, loaded.image_px, loaded.synthetic) == (age_method, 32, True)


@pytest.mark.parametrize("age_method", AGE_METHODS)
def test_the_age_comes_from_the_chosen_method_and_carries_its_interval(
    age_method, tiny_network, noise_images, tmp_path
):
    predictor = saved_predictor(tmp_path, tiny_network, age_method)
    table = predictor(noise_images)
    assert list(table) == [*AGE.columns, *GENDER.columns, *ETHNICITY.columns, *OOD_COLUMNS]
    outputs = predict_outputs(tiny_network, noise_images)
    staged = route(predict_outputs(predictor.stages, noise_images))
    by_hand = {
        "direct": outputs["age"],
        "routed": staged["age_routed"],
        "soft": staged["age_soft"],
        "mean": (outputs["age"] + staged["age_soft"]) / 2,
    }
    np.testing.assert_allclose(table["age_pred"], by_hand[age_method], rtol=1e-6)
    half = np.where(table["age_pred"] < 30, 4.5, 9.0)
    np.testing.assert_allclose(table["age_low"], np.clip(table["age_pred"] - half, 0, 116))
    np.testing.assert_allclose(table["age_high"], np.clip(table["age_pred"] + half, 0, 116))
    # The spread is that of the network's own distribution, which no other method answers from.
    spread = outputs["age_spread"] if age_method == "direct" else np.full(len(table), np.nan)
    np.testing.assert_allclose(table["age_spread"], spread, rtol=1e-6)


def test_temperatures_divide_the_logits(tiny_network, noise_images, tmp_path):
    predictor = saved_predictor(tmp_path, tiny_network, "direct")
    logits = predict_outputs(tiny_network, noise_images)["ethnicity"].astype(float) / 0.8
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictor(noise_images)[list(ETHNICITY.columns)], expected, rtol=1e-6)


def test_the_out_of_distribution_score_is_that_of_the_face_networks_features(installed, tiny_predictor, noise_images):
    features, _ = embed(FaceImages(scaled(noise_images, 150), np.arange(10)))
    table = tiny_predictor(noise_images)
    pd.testing.assert_frame_equal(table[OOD_COLUMNS], tiny_predictor.ood(features))


def test_without_the_face_network_the_score_is_unknown(tiny_predictor, noise_images, monkeypatch):
    monkeypatch.setattr("facelib.embedding.network._shared_network", _missing)
    table = tiny_predictor(noise_images)
    assert table["ood_percentile"].isna().all() and not table["out_of_distribution"].any()
    assert table["age_pred"].notna().all()


def _missing():
    raise WeightsError("not installed")


def test_faces_of_any_size_are_scaled_as_photographs_are_decoded(tiny_predictor, noise_images):
    large = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 3), np.uint8)
    assert (scaled(large, 32)[1] == square(Image.fromarray(large[1]), 32)).all()
    assert scaled(noise_images, 32).shape == (10, 32, 32, 3) and (scaled(noise_images, 32) == noise_images).all()
    assert scaled([], 32).shape == (0, 32, 32, 3) and len(tiny_predictor(noise_images[:0])) == 0
    assert (scaled([large[0], noise_images[0]], 32)[1] == noise_images[0]).all()


def test_ages_by_each_method_by_hand():
    staged = pd.DataFrame({"age_routed": [10.0], "age_soft": [20.0]})
    ways = age_estimates(np.array([30.0], np.float32), staged)
    assert list(ways) == list(AGE_METHODS)
    assert [age.item() for age in ways.values()] == [30, 10, 20, 25]


def test_a_run_older_than_the_out_of_distribution_score_tells_how_to_make_it(tiny_network, tmp_path):
    saved_predictor(tmp_path, tiny_network, "direct")
    (tmp_path / "checkpoints" / "ood.safetensors").unlink()
    with pytest.raises(MissingFromRun, match=r"ood\.safetensors is missing.*--from 03 makes it"):
        Predictor.load(tmp_path)


def test_an_unfinished_run_names_the_missing_notebooks(tmp_path):
    with pytest.raises(MissingFromRun, match="no trained predictor: run notebooks 01 to 03 first"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [{"age_method": "guess"}, {"temperatures": {"gender": "warm"}}, {"intervals": {"edges": []}}, {"temperatures": 2}],
)
def test_a_damaged_predictor_is_refused(damage, tiny_network, tmp_path):
    saved_predictor(tmp_path, tiny_network, "direct")
    path = tmp_path / "checkpoints" / "predictor.json"
    write_json(path, read_json(path) | damage)
    with pytest.raises(DamagedRun, match=r"predictor\.json is not what facelib writes"):
        Predictor.load(tmp_path)


def test_the_columns_are_those_of_the_networks_attributes(tiny, noise_images, tmp_path):
    expression = ClassAttribute("expression", classes=("calm", "glad", "sad"))
    torch.manual_seed(0)
    network = FaceNet((expression,), tiny).eval()
    predictor = saved_predictor(tmp_path, network, "direct")
    table = predictor(noise_images)
    assert predictor.attributes == (expression,) and Predictor.load(tmp_path).attributes == (expression,)
    assert list(table) == [*expression.columns, *OOD_COLUMNS]
    assert table[list(expression.columns)].sum(axis=1).to_numpy() == pytest.approx(np.ones(10))


@pytest.mark.slow
def test_the_room_loads_torch_only_with_the_predictor_and_never_the_training():
    code = (
        "import sys, facelib.prediction.ood, facelib.prediction.photos; before = 'torch' in sys.modules\n"
        "from facelib.prediction import Predictor; print(before, 'torch' in sys.modules, Predictor.__name__)\n"
        "Predictor.load()\n"
        "unwanted = ['lightning', 'torch._dynamo', 'matplotlib', 'torchvision', 'sklearn', 'scipy.stats']\n"
        "unwanted += ['facelib.models.training']\n"
        "print([name for name in unwanted if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "Predictor", "[]"]


def test_the_room_has_no_other_lazy_names():
    import facelib.prediction

    with pytest.raises(AttributeError, match="nothing"):
        _ = facelib.prediction.nothing
