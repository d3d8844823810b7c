"""Figures of photographs and of misalignment, for any attributes, drawn the same twice and with the given numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from facelib.data.alignment import Frame
from facelib.evaluation.misalignment import measures
from facelib.plots.photos import misalignment_curves, one_face_curves, photo_with_faces
from facelib.prediction.answers import FaceCrop, FaceResult, draw_faces
from facelib.schema import AGE, GENDER, ClassAttribute

EXPRESSION = ClassAttribute("expression", classes=("calm", "glad", "sad"))
PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8))


def moved() -> pd.DataFrame:
    table = pd.DataFrame({"kind": ["scale"] * 3 + ["shift"], "amount": [0.8, 1, 1.2, 0.1]})
    table = table.assign(age_pred=[30.0, 32.0, 31.0, 33.0], ood_percentile=[10.0, 20.0, 99.5, 5.0])
    table = table.assign(age_spread=3.0, age_low=25.0, age_high=40.0, out_of_distribution=table["ood_percentile"] >= 99)
    for attribute in (GENDER, EXPRESSION):
        for k, column in enumerate(attribute.columns):
            table[column] = (k + 1) / 10
    return table


def study(attributes) -> pd.DataFrame:
    table = pd.DataFrame({"kind": ["scale"] * 2 + ["rotation"], "amount": [0.8, 1.0, 5.0]})
    for name in measures(attributes):
        table = table.assign(**{name: [0.3, 0.2, 0.4], f"{name}_low": [0.2, 0.1, 0.3], f"{name}_high": [0.4, 0.3, 0.5]})
    return table


def face() -> FaceResult:
    crop = FaceCrop(np.zeros((20, 20, 3), np.uint8), Frame(200, 100, 80, 20), 1.0, "hog")
    return FaceResult("a.jpg", 0, crop, moved().iloc[0], (AGE, GENDER))


def labels(figure: Figure) -> list[str]:
    return [axis.get_ylabel() for axis in figure.axes]


def test_a_drawn_photograph_has_a_line_along_each_frame_and_text_below():
    drawn = np.asarray(draw_faces(PHOTO, [face()])).astype(int)
    changed = np.abs(drawn - np.asarray(PHOTO)).sum(axis=2) > 0
    corner = face().crop.frame.places(np.array([[0.0, 0.0]]))[0].astype(int)
    assert changed[corner[1] - 2 : corner[1] + 3, corner[0] - 2 : corner[0] + 3].any()
    assert not changed[90:110, 190:210].any()  # the face itself
    assert changed[160:190, 150:220].mean() > 0.3
    assert (np.asarray(draw_faces(PHOTO, [])) == np.asarray(PHOTO)).all()


def test_a_large_photograph_is_drawn_smaller():
    assert draw_faces(PHOTO.resize((4000, 3000)), [face()]).size == (1600, 1200)


def test_the_figure_of_a_photograph_shows_it_drawn():
    (axis,) = photo_with_faces(PHOTO, [face()]).axes
    assert (np.asarray(axis.images[0].get_array()) == np.asarray(draw_faces(PHOTO, [face()]))).all()


def test_the_figure_of_one_face_has_a_row_for_each_kind_and_a_panel_for_each_attribute_and_the_percentile():
    figure = one_face_curves(moved(), (AGE, GENDER, EXPRESSION), "One face")
    names = ["Age (years)", "Gender: probability", "Expression: probability", "OOD percentile"]
    assert labels(figure) == names * 2
    ages = [[line.get_ydata().tolist() for line in axis.lines if len(line.get_ydata()) == 3] for axis in figure.axes]
    assert ages[0] == [[30, 32, 31]] and ages[3][0] == [10, 20, 99.5]
    assert [rows[0] for rows in ages[2]] == [0.1, 0.2, 0.3]
    assert figure.axes[4].get_xlabel() == "Shift, share of the edge"
    assert labels(one_face_curves(moved(), (), "One face")) == ["OOD percentile"] * 2


def test_the_misalignment_figure_has_a_panel_for_each_measure():
    figure = misalignment_curves(study((AGE, EXPRESSION)), (AGE, EXPRESSION), "Alignment")
    wrapped = ["Age mean\nabsolute error\n(years)", "Expression\naccuracy", "Share out of\ndistribution"]
    assert labels(figure) == wrapped * 2
    assert all(list(axis.lines[-1].get_ydata()) == [0.3, 0.2] for axis in figure.axes[:3])
    assert figure.get_suptitle() == "Alignment"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: photo_with_faces(PHOTO, [face()]),
        lambda: one_face_curves(moved(), (AGE, GENDER), "One face"),
        lambda: misalignment_curves(study((AGE, GENDER)), (AGE, GENDER), "Alignment"),
    ],
)
def test_a_figure_is_drawn_the_same_twice(draw, assert_drawn_the_same_twice):
    assert_drawn_the_same_twice(draw)
