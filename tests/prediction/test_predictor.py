"""The predictor of a run: saved, loaded, and the same."""

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.errors import MissingFromRun
from facelib.models.age_stages import AgeStagesNet, route
from facelib.models.network import predict_outputs, save_network
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import fit_familiarity, save_familiarity
from facelib.prediction.predictor import (
    AGE_METHODS,
    Predictor,
    Temperatures,
    class_probabilities,
    load_predictor,
    save_predictor,
)
from facelib.schema import P_ETHNICITY

INTERVALS = AgeIntervals((30.0,), (4.5, 9.0))


def saved_predictor(folder, network, age_method: str) -> Predictor:
    """A predictor, and the same one below `folder`/checkpoints."""
    torch.manual_seed(2)
    stages = AgeStagesNet({"architecture": "tiny"}, (20.0, 50.0), (10.0, 30.0, 65.0)).eval()
    temperatures = Temperatures(gender=1.7, ethnicity=0.8)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    save_network(network, checkpoints / "model.safetensors", image_px=32)
    if age_method != "direct":
        save_network(stages, checkpoints / "age_stages.safetensors")
    save_predictor(checkpoints / "predictor.json", age_method, temperatures, INTERVALS, synthetic=True)
    features = np.random.default_rng(4).normal(size=(30, network.backbone.width))
    familiarity = fit_familiarity(features[:20], features[20:], seed=0)
    save_familiarity(familiarity, checkpoints / "familiar.safetensors")
    return Predictor(network, stages, age_method, temperatures, INTERVALS, familiarity, 32, True)


@pytest.mark.parametrize("age_method", AGE_METHODS)
def test_a_saved_predictor_predicts_the_same(age_method, tiny_network, noise_images, tmp_path):
    made = saved_predictor(tmp_path, tiny_network, age_method)
    loaded = load_predictor(tmp_path)
    pd.testing.assert_frame_equal(loaded(noise_images), made(noise_images))
    assert loaded.temperatures == made.temperatures and loaded.intervals == made.intervals
    assert (loaded.familiarity.reference == made.familiarity.reference).all()
    assert (loaded.familiarity.usual == made.familiarity.usual).all()
    assert (loaded.age_method, loaded.image_px, loaded.synthetic) == (age_method, 32, True)


@pytest.mark.parametrize("age_method", AGE_METHODS)
def test_the_age_comes_from_the_chosen_method_and_carries_its_interval(
    age_method, tiny_network, noise_images, tmp_path
):
    predictor = saved_predictor(tmp_path, tiny_network, age_method)
    table = predictor(noise_images)
    assert list(table) == ["age_pred", "age_low", "age_high", "p_female", *P_ETHNICITY]
    direct, staged = (
        predict_outputs(tiny_network, noise_images)["age"],
        route(predict_outputs(predictor.stages, noise_images)),
    )
    by_hand = {
        "direct": direct,
        "routed": staged["age_routed"],
        "soft": staged["age_soft"],
        "mean": (direct + staged["age_soft"]) / 2,
    }
    expected = by_hand[age_method]
    np.testing.assert_allclose(table["age_pred"], expected, rtol=1e-6)
    half = np.where(table["age_pred"] < 30, 4.5, 9.0)
    np.testing.assert_allclose(table["age_low"], np.clip(table["age_pred"] - half, 0, 116))
    np.testing.assert_allclose(table["age_high"], np.clip(table["age_pred"] + half, 0, 116))


def test_temperatures_divide_the_logits_by_hand():
    outputs = {"gender": np.array([2 * np.log(3)], np.float32), "ethnicity": 0.5 * np.log([[1.0, 1.0, 2.0, 3.0, 1.0]])}
    table = class_probabilities(outputs, Temperatures(gender=2.0, ethnicity=0.5))
    assert table["p_female"].tolist() == pytest.approx([0.75])
    assert table[list(P_ETHNICITY)].to_numpy()[0] == pytest.approx([0.125, 0.125, 0.25, 0.375, 0.125])


def test_a_run_that_is_older_than_the_flag_says_how_to_make_it(tiny_network, tmp_path):
    saved_predictor(tmp_path, tiny_network, "direct")
    (tmp_path / "checkpoints" / "familiar.safetensors").unlink()
    with pytest.raises(MissingFromRun, match=r"familiar\.safetensors is missing.*--from 03 makes it"):
        load_predictor(tmp_path)


def test_a_run_that_has_not_got_so_far_says_which_notebooks_are_missing(tmp_path):
    with pytest.raises(MissingFromRun, match="no trained predictor: run notebooks 01 to 03 first"):
        load_predictor(tmp_path)


def test_what_was_not_learned_is_not_said(tiny_network, noise_images, tmp_path):
    saved_predictor(tmp_path, tiny_network, "direct")
    everything = load_predictor(tmp_path)(noise_images)
    assert everything.notna().all(axis=None)  # weights without a word on it learned all three
    save_network(tiny_network, tmp_path / "checkpoints" / "model.safetensors", image_px=32, learned=["gender"])
    table = load_predictor(tmp_path)(noise_images)
    assert list(table) == list(everything)
    assert table.columns[table.notna().all()].tolist() == ["p_female"]
    assert (table["p_female"] == everything["p_female"]).all()
    assert table.drop(columns="p_female").isna().all(axis=None)
