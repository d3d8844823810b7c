"""Misaligned faces: what a wrong crop shows, and errors computed by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from facelib.data.alignment import Frame, cut
from facelib.evaluation.misalignment import (
    MISALIGNMENTS,
    measures,
    misalign,
    misalign_one,
    misalignment_results,
    sample_faces,
    study_misalignment,
    variation,
)
from facelib.models.network import FaceNet
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.predictor import Predictor
from facelib.runs import start_run
from facelib.schema import AGE, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Bootstrap, Estimate

FEW = Bootstrap(50)
EXPRESSION = ClassAttribute("expression", classes=("calm", "glad", "sad"))


@pytest.mark.parametrize("kind", MISALIGNMENTS)
def test_the_aligned_face_is_the_image_itself_and_is_among_the_amounts(kind, noise_images):
    way = MISALIGNMENTS[kind]
    assert misalign(noise_images, kind, way.aligned) is noise_images
    assert way.aligned in way.amounts and way.reported in way.amounts


def square() -> np.ndarray:
    """Two pictures of a bright square in the middle."""
    image = np.zeros((2, 40, 40, 3), np.uint8)
    image[:, 10:30, 10:30] = 200
    return image


def test_a_wider_crop_is_black_beyond_the_image_and_a_tighter_one_shows_its_middle():
    wider, tighter = misalign(square(), "scale", 2.0)[0], misalign(square(), "scale", 0.5)[0]
    assert wider[:14].max() < 5 and wider[:, -14:].max() < 5 and wider[16:24, 16:24].min() > 190
    assert (tighter[2:-2, 2:-2] > 195).all()


def test_every_second_face_is_shifted_to_the_other_side():
    right, left = misalign(square(), "shift", 0.2)  # of 40 px; half of it down
    assert right[16, [0, 4, 20, 24]].mean(axis=1) == pytest.approx([0, 200, 200, 0], abs=15)
    assert left[24, [15, 19, 35, 39]].mean(axis=1) == pytest.approx([0, 200, 200, 0], abs=15)


def test_every_second_face_is_turned_to_the_other_side(noise_images):
    first, second = misalign(noise_images[[0, 0]], "rotation", 15.0)
    frames = Frame(16, 16, 32, 15), Frame(16, 16, 32, -15)
    assert (first == cut(Image.fromarray(noise_images[0]), frames[0], 32)).all()
    assert (second == cut(Image.fromarray(noise_images[0]), frames[1], 32)).all()


@pytest.fixture
def labels() -> pd.DataFrame:
    return pd.DataFrame({"age": np.arange(10) * 8.0, "gender": [0, 1] * 5, "ethnicity": [0, 1, 2, 3, 4] * 2})


def test_errors_by_amount_are_those_of_the_predictor(tiny_predictor, noise_images, labels):
    study = study_misalignment(tiny_predictor, noise_images, labels, FEW, ["shift"]).set_index("amount")
    assert study.index.tolist() == list(MISALIGNMENTS["shift"].amounts) and study["n"].tolist() == [10] * len(study)
    for amount in study.index:
        table = tiny_predictor(misalign(noise_images, "shift", amount))
        errors = (table["age_pred"].round() - labels["age"]).abs()  # none of these ages ends in a half
        assert study.loc[amount, "age_mae"] == pytest.approx(errors.mean())
        assert study.loc[amount, "age_change"] == pytest.approx(errors.mean() - study.loc[0.0, "age_mae"], abs=1e-6)
        right = (table["p_gender_female"] >= 0.5).astype(int) == labels["gender"]
        assert study.loc[amount, "gender_accuracy"] == pytest.approx(right.mean())
        assert study.loc[amount, "out_of_distribution"] == table["out_of_distribution"].mean()
    assert study.loc[0.0, ["age_change", "age_change_low", "age_change_high"]].tolist() == [0, 0, 0]
    for name in ("age_change", *measures(UTKFACE_ATTRIBUTES)):
        assert (study[f"{name}_low"] <= study[name]).all() and (study[name] <= study[f"{name}_high"]).all()


def test_each_attribute_is_scored_on_the_faces_that_have_its_label(tiny_predictor, noise_images, labels):
    partly = labels.assign(
        age=labels["age"].where(np.arange(10) < 6), gender=labels["gender"].where(labels.index >= 5, -1)
    )
    study = study_misalignment(tiny_predictor, noise_images, partly, FEW, ["shift"]).iloc[0]
    table = tiny_predictor(noise_images)
    assert study["age_mae"] == pytest.approx((table["age_pred"].round() - labels["age"]).abs()[:6].mean())
    right = (table["p_gender_female"] >= 0.5).astype(int) == labels["gender"]
    assert study["gender_accuracy"] == pytest.approx(right[5:].mean())


@pytest.fixture
def without_age(tiny, ood_score) -> Predictor:
    """A predictor of expressions alone."""
    torch.manual_seed(0)
    network = FaceNet((EXPRESSION,), tiny).eval()
    return Predictor(network, None, "direct", {"expression": 1.0}, AgeIntervals((), (116.0,)), ood_score, 32, True)


def test_a_network_of_classes_alone_is_studied(without_age, noise_images):
    labels = pd.DataFrame({"expression": [0, 1, 2, -1, 0, 1, 2, 0, 1, 2]})
    study = study_misalignment(without_age, noise_images, labels, FEW)
    assert list(measures((EXPRESSION,))) == ["expression_accuracy", "out_of_distribution"]
    headline, finding = misalignment_results(study, (EXPRESSION,))
    assert headline == {} and finding.n == 10 and "expression accuracy" in finding.text
    one = misalign_one(without_age, Image.fromarray(noise_images[0]), Frame(16, 16, 32))
    assert "expression" in variation(one, (EXPRESSION,)).text


def test_one_face_is_predicted_with_every_misalignment(tiny_predictor, noise_images):
    photo, frame = Image.fromarray(np.tile(noise_images[0], (3, 3, 1))), Frame(48, 48, 32, 5)
    table = misalign_one(tiny_predictor, photo, frame)
    assert table["kind"].unique().tolist() == list(MISALIGNMENTS)
    turned = tiny_predictor(cut(photo, Frame(48, 48, 32, 45), 200)[None]).iloc[0]
    assert table.query("kind == 'rotation' and amount == 40")["age_pred"].item() == pytest.approx(turned["age_pred"])


def test_the_variation_of_one_face_by_hand():
    table = pd.DataFrame({"kind": "scale", "amount": [0.7, 1.8], "age_pred": [30.0, 34.5]})
    table["p_gender_male"], table["p_gender_female"] = [0.2, 0.45], [0.8, 0.55]
    finding = variation(table.assign(ood_percentile=[10.0, 97.0]), (AGE, GENDER))
    assert finding.key == "photos.crop"
    for part in ("scale from 0.7 to 1.8", "4.5 years", "0.25", "87 points"):
        assert part in finding.text


def test_the_results_hold_the_reported_changes(tiny_predictor, noise_images, labels):
    study = study_misalignment(tiny_predictor, noise_images, labels, FEW)
    headline, finding = misalignment_results(study, UTKFACE_ATTRIBUTES)
    names = ("scale_1.4", "shift_0.1", "rotation_15")
    assert list(headline) == [f"validation.{name}.age.mae_change" for name in names]
    row = study.set_index(["kind", "amount"]).loc[("shift", 0.1)]
    ends = row["age_change"], row["age_change_low"], row["age_change_high"]
    assert headline["validation.shift_0.1.age.mae_change"] == Estimate(*ends, 10, "years")
    assert finding.key == "photos.misalignment" and finding.n == 10
    assert finding.estimate == headline["validation.scale_1.4.age.mae_change"]
    for phrase in ("As aligned: ", "Cropped 1.4 times as wide: ", "Shifted by 0.1 of", "Rotated by 15 degrees: "):
        assert phrase in finding.text


def test_ages_known_by_bands_alone_are_scored_by_their_bands(tiny, ood_score, noise_images):
    bands = (replace(AGE, bands=((0, 9), (20, 29), (40, 49))),)
    torch.manual_seed(0)
    predictor = Predictor(
        FaceNet(bands, tiny).eval(), None, "direct", {}, AgeIntervals((), (116.0,)), ood_score, 32, True
    )
    labels = pd.DataFrame({"age": np.nan, "age_from": [20] * 5 + [np.nan] * 5, "age_to": [29] * 5 + [np.nan] * 5})
    study = study_misalignment(predictor, noise_images, labels, FEW, ["shift"])
    inside = np.floor(predictor(noise_images)["age_pred"][:5] + 0.5).between(20, 29)
    assert study.loc[0, "age_band_accuracy"] == pytest.approx(inside.mean()) and "age_change" not in study
    headline, finding = misalignment_results(study, bands)
    assert headline == {} and "within the labelled band" in finding.text


def test_validation_faces_are_sampled_one_per_group_with_a_label(empty_runs):
    run = start_run("sampled", "smoke")
    faces = pd.DataFrame({"age": [1.0, np.nan, np.nan, 4.0, 5.0, 6.0], "gender": [0, 1, -1, 0, 0, -1]})
    run.save_table(faces, "faces")
    split = ["validation"] * 5 + ["test"]
    run.save_table(pd.DataFrame({"split": split, "representative": [True, True, True, False, True, True]}), "splits")
    assert sample_faces(run, (AGE, GENDER), 10).tolist() == [0, 1, 4]
    assert len(sample_faces(run, (AGE, GENDER), 2)) == 2 and sample_faces(run, (AGE,), 10).tolist() == [0, 4]
    run.save_table(faces.assign(age_from=[np.nan, 20, *[np.nan] * 4], age_to=[np.nan, 29, *[np.nan] * 4]), "faces")
    assert sample_faces(run, (AGE,), 10).tolist() == [0, 1, 4]
