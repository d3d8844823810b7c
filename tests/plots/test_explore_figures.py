"""Figures of notebook 01: they count the labels that there are, whatever the attributes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from facelib.data.overview import cells
from facelib.data.pixels import FaceImages
from facelib.plots import explore
from facelib.runs import start_run
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute, all_known

MOOD = ClassAttribute("mood", classes=("calm", "glad", "sad"))


@pytest.fixture
def faces() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    faces = pd.DataFrame({"age": rng.integers(1, 90, 60).astype(float), "sha256": [str(k) for k in range(60)]})
    faces["gender"], faces["ethnicity"] = rng.integers(-1, 2, 60), rng.integers(-1, 5, 60)
    faces["mood"] = rng.integers(0, 3, 60)
    faces.loc[0, "age"] = np.nan
    return faces


def counted(figure: Figure) -> int:
    """The sum of a heat map's numbers."""
    return sum(int(text.get_text().replace(",", "")) for text in figure.axes[0].texts)


def test_distributions_count_the_known_labels(faces, texts):
    figure = explore.label_distributions(faces, UTKFACE_ATTRIBUTES, "; synthetic faces")
    assert "n = 59; synthetic faces" in texts(figure) and len(figure.axes) == 2
    bars = sum(bar.get_width() for bar in figure.axes[1].patches)
    assert bars == all_known(faces, (GENDER, ETHNICITY)).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "attributes",
    [(AGE,), (GENDER,), (ETHNICITY,), (AGE, ETHNICITY), (GENDER, ETHNICITY), (*UTKFACE_ATTRIBUTES, MOOD)],
    ids=lambda attributes: "-".join(attribute.name for attribute in attributes),
)
def test_label_figures_show_the_attributes_that_there_are(faces, attributes, texts):
    figure = explore.label_distributions(faces, attributes)
    others = [attribute for attribute in attributes if attribute not in (AGE, GENDER)]
    assert len(figure.axes) == (AGE in attributes) + (len(others) or GENDER in attributes)
    heat = explore.joint_imbalance(cells(faces, attributes))
    assert counted(heat) == all_known(faces, attributes).sum() > 0
    assert ("Age band (years)" in texts(heat)) == (AGE in attributes)
    assert len(explore.average_faces(images(), faces, attributes).axes) == (2 if GENDER in attributes else 1) * (
        7 if AGE in attributes else 1)  # fmt: skip


def test_labels_of_two_sets_of_faces_are_drawn_one_by_one(faces):
    half = np.arange(len(faces)) < len(faces) // 2
    apart = faces.assign(gender=faces["gender"].where(half, -1), ethnicity=faces["ethnicity"].mask(half, -1))
    bars = explore.label_distributions(apart, (GENDER, ETHNICITY)).axes[0].patches
    assert sum(bar.get_width() for bar in bars) == (apart["ethnicity"] >= 0).sum()
    assert counted(explore.joint_imbalance(cells(apart, (GENDER, ETHNICITY)))) == (apart["gender"] >= 0).sum()


def images(n: int = 60, px: int = 8) -> FaceImages:
    return FaceImages(np.random.default_rng(1).integers(0, 256, (n, px, px, 3), dtype=np.uint8), np.arange(n))


def test_an_average_face_takes_fifty_different_images(faces):
    known = faces.assign(gender=[0] * 50 + [1] * 10, age=30.0)
    drawn = [len(axis.images) for axis in explore.average_faces(images(), known, (GENDER,)).axes]
    assert drawn == [1, 0]
    copied = known.assign(sha256=["0", "0", *known["sha256"][2:]])
    assert [len(axis.images) for axis in explore.average_faces(images(), copied, (GENDER,)).axes] == [0, 0]


def test_single_faces_are_named_by_their_labels_and_shown_only_where_allowed(faces, empty_runs, tmp_path, texts):
    drawn, real = start_run("drawn", "smoke"), start_run("real", "smoke", str(tmp_path))
    for run in (drawn, real):
        run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    two = pd.DataFrame({"age": [26.0, 4.0], "gender": [1, -1], "ethnicity": [2, -1]})
    words = texts(explore.random_faces(drawn, images(2), two, False))
    assert "26, female\nAsian" in words and "4, unknown\nunknown" in words
    assert explore.random_faces(real, images(2), two, False) is None
    assert explore.random_faces(real, images(2), two, True) is not None
