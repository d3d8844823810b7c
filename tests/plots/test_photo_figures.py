"""Figures of photographs and of crop scale, for any attributes, drawn the same twice and with the given numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from facelib.evaluation.crop_scale import measures
from facelib.plots.photos import crop_scale_curves, photo_with_faces, zoom_curves
from facelib.prediction.photos import FaceCrop, FaceResult
from facelib.schema import AGE, GENDER, ClassAttribute

EXPRESSION = ClassAttribute("expression", classes=("calm", "glad", "sad"))
PHOTO = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def zoomed() -> pd.DataFrame:
    table = pd.DataFrame({"zoom": [0.8, 1, 1.2], "age_pred": [30.0, 32.0, 31.0], "ood_percentile": [10.0, 20.0, 99.5]})
    table = table.assign(age_spread=3.0, age_low=25.0, age_high=40.0, out_of_distribution=table["ood_percentile"] >= 99)
    for attribute in (GENDER, EXPRESSION):
        for k, column in enumerate(attribute.columns):
            table[column] = (k + 1) / 10
    return table


def study(attributes) -> pd.DataFrame:
    table = pd.DataFrame({"zoom": [0.8, 1.0, 1.4]})
    for name in measures(attributes):
        table = table.assign(**{name: [0.3, 0.2, 0.4], f"{name}_low": [0.2, 0.1, 0.3], f"{name}_high": [0.4, 0.3, 0.5]})
    return table


def face(found: bool = True) -> FaceResult:
    return FaceResult("a.jpg", 0, FaceCrop(PHOTO[:20, :20], (5, 6, 20), found), zoomed().iloc[0], (AGE, GENDER))


def labels(figure: Figure) -> list[str]:
    return [axis.get_ylabel() for axis in figure.axes]


def test_each_face_has_its_box_and_its_predictions():
    (axis,) = photo_with_faces(PHOTO, [face(), face(found=False)]).axes
    assert [(patch.get_xy(), patch.get_width()) for patch in axis.patches] == [((5, 6), 20)] * 2
    first, second = (text.get_text() for text in axis.texts)
    assert first == "30 years (25-40), gender female (p = 0.20)" and second == f"{first}, flagged"


def test_the_zoom_figure_has_a_panel_for_each_attribute_and_the_percentile():
    figure = zoom_curves(zoomed(), (AGE, GENDER, EXPRESSION), "Zoom")
    assert labels(figure) == ["Age (years)", "Gender: probability", "Expression: probability", "OOD percentile"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [30, 32, 31]
    assert [line.get_ydata()[0] for line in figure.axes[2].lines[:3]] == [0.1, 0.2, 0.3]
    assert figure.axes[3].lines[0].get_ydata().tolist() == [10, 20, 99.5]
    assert labels(zoom_curves(zoomed(), (), "Zoom")) == ["OOD percentile"]


def test_the_crop_scale_figure_has_a_panel_for_each_measure():
    figure = crop_scale_curves(study((AGE, EXPRESSION)), (AGE, EXPRESSION), "Scale")
    titles = ["Age error (years)", "Expression accuracy", "Share out of distribution"]
    assert labels(figure) == titles and all(list(axis.lines[0].get_ydata()) == [0.3, 0.2, 0.4] for axis in figure.axes)
    assert figure.get_suptitle() == "Scale"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: photo_with_faces(PHOTO, [face()]),
        lambda: zoom_curves(zoomed(), (AGE, GENDER), "Zoom"),
        lambda: crop_scale_curves(study((AGE, GENDER)), (AGE, GENDER), "Scale"),
    ],
)
def test_a_figure_is_drawn_the_same_twice(draw, assert_drawn_the_same_twice):
    assert_drawn_the_same_twice(draw)
