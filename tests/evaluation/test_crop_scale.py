"""The width of the crop: what a wider crop shows, and errors computed by hand."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation.crop_scale import study_margin, zoom_chips
from facelib.models.network import predict_outputs
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.predictor import Predictor, Temperatures


@pytest.fixture
def predictor(tiny_network, familiarity) -> Predictor:
    return Predictor(tiny_network, None, "direct", Temperatures(), AgeIntervals((), (5.0,)), familiarity, 32, True)


def test_the_training_crop_is_the_chip_itself(noise_images):
    assert (zoom_chips(noise_images, 1.0) == noise_images).all()


def test_a_wider_crop_is_black_beyond_the_chip_and_a_tighter_one_shows_its_middle():
    chip = np.full((1, 40, 40, 3), 100, np.uint8)
    chip[:, 10:30, 10:30] = 200
    wider, tighter = zoom_chips(chip, 2.0)[0], zoom_chips(chip, 0.5)[0]
    assert wider[:8].max() < 5 and wider[:, -8:].max() < 5
    assert wider[12, 12] == pytest.approx(100, abs=15) and wider[20, 20] == pytest.approx(200, abs=5)
    assert (tighter[2:-2, 2:-2] > 195).all()


def test_errors_by_width_are_those_of_the_predictor(predictor, noise_images):
    labels = pd.DataFrame({"age": np.arange(10) * 8.0, "gender": [0, 1] * 5})
    study = study_margin(predictor, noise_images, labels, 50, 0, (0.8, 1.0, 1.4)).set_index("zoom")
    assert study["n"].tolist() == [10] * 3
    for zoom in study.index:
        cropped = zoom_chips(noise_images, zoom)
        table, features = predictor(cropped), predict_outputs(predictor.network, cropped)["features"]
        errors = (table["age_pred"].round() - labels["age"]).abs()  # no age of these ends in a half
        assert study.loc[zoom, "mae"] == pytest.approx(errors.mean())
        assert study.loc[zoom, "change"] == pytest.approx(errors.mean() - study.loc[1.0, "mae"], abs=1e-6)
        right = (table["p_female"] >= 0.5).astype(int) == labels["gender"]
        assert study.loc[zoom, "gender_accuracy"] == pytest.approx(right.mean())
        assert study.loc[zoom, "unlike_training"] == predictor.familiarity(features)["unlike_training"].mean()
    assert study.loc[1.0, ["change", "change_low", "change_high"]].tolist() == [0, 0, 0]
    for name in ("mae", "change", "gender_accuracy", "unlike_training"):
        assert (study[f"{name}_low"] <= study[name]).all() and (study[name] <= study[f"{name}_high"]).all()
