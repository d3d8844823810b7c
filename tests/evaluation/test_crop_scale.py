"""The width of the crop: what a wider crop shows, and errors computed by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.evaluation.crop_scale import (
    ZOOMS,
    crop_scale_results,
    measures,
    sample_faces,
    study_crop_scale,
    zoom_faces,
    zoom_finding,
    zoom_one,
)
from facelib.models.network import FaceNet, predict_outputs
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import fit_ood
from facelib.prediction.photos import FaceCrop, rezoom
from facelib.prediction.predictor import Predictor
from facelib.runs import start_run
from facelib.schema import AGE, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Bootstrap, Estimate

FEW = Bootstrap(50)
EXPRESSION = ClassAttribute("expression", classes=("calm", "glad", "sad"))


def test_the_training_crop_is_the_image_itself(noise_images):
    assert (zoom_faces(noise_images, 1.0) == noise_images).all()


def test_a_wider_crop_is_black_beyond_the_image_and_a_tighter_one_shows_its_middle():
    image = np.full((1, 40, 40, 3), 100, np.uint8)
    image[:, 10:30, 10:30] = 200
    wider, tighter = zoom_faces(image, 2.0)[0], zoom_faces(image, 0.5)[0]
    assert wider[:8].max() < 5 and wider[:, -8:].max() < 5
    assert wider[12, 12] == pytest.approx(100, abs=15) and wider[20, 20] == pytest.approx(200, abs=5)
    assert (tighter[2:-2, 2:-2] > 195).all()


@pytest.fixture
def labels() -> pd.DataFrame:
    return pd.DataFrame({"age": np.arange(10) * 8.0, "gender": [0, 1] * 5, "ethnicity": [0, 1, 2, 3, 4] * 2})


def test_errors_by_width_are_those_of_the_predictor(tiny_predictor, noise_images, labels):
    study = study_crop_scale(tiny_predictor, noise_images, labels, FEW, (0.8, 1.0, 1.4)).set_index("zoom")
    assert study["n"].tolist() == [10] * 3
    for zoom in study.index:
        table = tiny_predictor(zoom_faces(noise_images, zoom))
        errors = (table["age_pred"].round() - labels["age"]).abs()  # none of these ages ends in a half
        assert study.loc[zoom, "age_mae"] == pytest.approx(errors.mean())
        assert study.loc[zoom, "age_change"] == pytest.approx(errors.mean() - study.loc[1.0, "age_mae"], abs=1e-6)
        right = (table["p_gender_female"] >= 0.5).astype(int) == labels["gender"]
        assert study.loc[zoom, "gender_accuracy"] == pytest.approx(right.mean())
        assert study.loc[zoom, "out_of_distribution"] == table["out_of_distribution"].mean()
    assert study.loc[1.0, ["age_change", "age_change_low", "age_change_high"]].tolist() == [0, 0, 0]
    for name in ("age_change", *measures(UTKFACE_ATTRIBUTES)):
        assert (study[f"{name}_low"] <= study[name]).all() and (study[name] <= study[f"{name}_high"]).all()


def test_each_attribute_is_scored_on_the_faces_that_have_its_label(tiny_predictor, noise_images, labels):
    partly = labels.assign(
        age=labels["age"].where(np.arange(10) < 6), gender=labels["gender"].where(labels.index >= 5, -1)
    )
    study = study_crop_scale(tiny_predictor, noise_images, partly, FEW, (1.0,)).iloc[0]
    table = tiny_predictor(noise_images)
    assert study["age_mae"] == pytest.approx((table["age_pred"].round() - labels["age"]).abs()[:6].mean())
    right = (table["p_gender_female"] >= 0.5).astype(int) == labels["gender"]
    assert study["gender_accuracy"] == pytest.approx(right[5:].mean())


@pytest.fixture
def without_age(tiny, noise_images) -> Predictor:
    """A predictor of expressions alone."""
    torch.manual_seed(0)
    network = FaceNet((EXPRESSION,), tiny).eval()
    features = predict_outputs(network, noise_images)["features"]
    ood = fit_ood(features, features, 0)
    return Predictor(network, None, "direct", {"expression": 1.0}, AgeIntervals((), (116.0,)), ood, 32, True)


def test_a_network_of_classes_alone_is_studied(without_age, noise_images):
    labels = pd.DataFrame({"expression": [0, 1, 2, -1, 0, 1, 2, 0, 1, 2]})
    study = study_crop_scale(without_age, noise_images, labels, FEW)
    assert list(measures((EXPRESSION,))) == ["expression_accuracy", "out_of_distribution"]
    headline, finding = crop_scale_results(study, (EXPRESSION,))
    assert headline == {} and finding.n == 10 and "expression accuracy" in finding.text
    crop = FaceCrop(noise_images[0], (0, 0, 32), True)
    assert "expression" in zoom_finding(zoom_one(without_age, noise_images[0], crop), (EXPRESSION,)).text


def test_one_face_is_predicted_at_every_width(tiny_predictor, noise_images):
    photo = np.tile(noise_images[0], (3, 3, 1))
    crop = FaceCrop(noise_images[0], (32, 32, 32), True)
    table = zoom_one(tiny_predictor, photo, crop)
    assert table["zoom"].tolist() == list(ZOOMS)
    wide = tiny_predictor(rezoom(photo, crop, 1.8, 32)[None]).iloc[0]
    assert table.iloc[-1]["age_pred"] == pytest.approx(wide["age_pred"], rel=1e-5)


def test_the_variation_of_one_face_by_hand():
    table = pd.DataFrame({"zoom": [0.7, 1.8], "age_pred": [30.0, 34.5], "ood_percentile": [10.0, 97.0]})
    table["p_gender_male"], table["p_gender_female"] = [0.2, 0.45], [0.8, 0.55]
    finding = zoom_finding(table, (AGE, GENDER))
    assert finding.key == "photos.crop"
    for part in ("0.7 and 1.8", "4.5 years", "0.25", "87 points"):
        assert part in finding.text


def test_the_results_hold_the_changes_of_wider_crops(tiny_predictor, noise_images, labels):
    study = study_crop_scale(tiny_predictor, noise_images, labels, FEW)
    headline, finding = crop_scale_results(study, UTKFACE_ATTRIBUTES)
    assert list(headline) == [f"validation.crop_{zoom}.age.mae_change" for zoom in ("1.25", "1.4", "1.8")]
    row = study.set_index("zoom").loc[1.4]
    ends = row["age_change"], row["age_change_low"], row["age_change_high"]
    assert headline["validation.crop_1.4.age.mae_change"] == Estimate(*ends, 10, "years")
    assert finding.key == "photos.crop_scale" and finding.n == 10
    assert finding.estimate == headline["validation.crop_1.4.age.mae_change"]


def test_validation_faces_are_sampled_one_per_group_with_a_label(empty_runs):
    run = start_run("sampled", "smoke")
    faces = pd.DataFrame({"age": [1.0, np.nan, np.nan, 4.0, 5.0, 6.0], "gender": [0, 1, -1, 0, 0, -1]})
    run.save_table(faces, "faces")
    split = ["validation"] * 5 + ["test"]
    run.save_table(pd.DataFrame({"split": split, "representative": [True, True, True, False, True, True]}), "splits")
    assert sample_faces(run, (AGE, GENDER), 10).tolist() == [0, 1, 4]
    assert len(sample_faces(run, (AGE, GENDER), 2)) == 2 and sample_faces(run, (AGE,), 10).tolist() == [0, 4]
