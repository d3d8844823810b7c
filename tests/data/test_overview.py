"""What a faces table holds: counts, ages and thin cells by hand, for any attributes."""

import numpy as np
import pandas as pd
import pytest

from facelib.data.overview import cells, details, faces_findings, images_finding, imbalance_finding
from facelib.data.pixels import FaceImages
from facelib.schema import AGE, ETHNICITY, GENDER, ClassAttribute

MOOD = ClassAttribute("mood", classes=("calm", "glad", "sad"))


@pytest.fixture
def faces() -> pd.DataFrame:
    return pd.DataFrame({"age": [2.0, 3.0, 20.0, np.nan], "gender": [0, 0, 1, 1], "mood": [2, 2, 0, 0]})


def test_faces_and_ages_are_counted(faces):
    used, ages = faces_findings(faces, faces[:1], (AGE, GENDER), "synthetic faces")
    assert (used.key, used.estimate.value) == ("data.faces", 4) and "4 synthetic faces" in used.text
    assert "age and gender" in used.text and "1 items" in used.text
    assert (ages.key, ages.estimate.value, ages.estimate.n) == ("data.ages", 3, 3) and "2 to 20 years" in ages.text
    assert [finding.key for finding in faces_findings(faces, faces[:0], (GENDER,))] == ["data.faces"]


def test_cells_are_all_combinations_with_empty_ones(faces):
    counts = cells(faces, (AGE, GENDER, MOOD))
    assert len(counts) == 7 * 2 * 3 and counts.sum() == 3
    assert counts["0-4", "male", "sad"] == 2 and counts["18-29", "female", "calm"] == 1
    assert details(counts, faces) == {"thin_cells": 42, "ages": faces["age"].describe().to_dict()}


def test_where_no_face_has_all_labels_the_first_attribute_is_counted_alone(faces):
    counts = cells(faces.assign(gender=-1), (AGE, GENDER))
    assert counts.index.names == ["Age"] and counts.sum() == 3


def test_the_imbalance_is_that_of_the_attribute_with_most_classes(faces):
    many = pd.concat([faces] * 20)
    finding = imbalance_finding(cells(many, (GENDER, MOOD)), many.assign(mood=[2, 2, 2, 0] * 20), (GENDER, MOOD))
    assert (finding.key, finding.estimate.n, finding.estimate.value) == ("data.imbalance", 6, 4 / 6)  # 40, 40, 4 x 0
    assert "largest mood label, sad, has 3.0 times" in finding.text and "calm" in finding.text
    assert ETHNICITY.name not in finding.text


def test_grey_images_are_counted():
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    pixels[0, ..., 0] = 200
    finding = images_finding(FaceImages(pixels, np.arange(4)))
    assert (finding.key, finding.estimate.value, finding.estimate.n) == ("data.images", 0.75, 4)
    assert "2 x 2 RGB" in finding.text
