"""Figures of the evaluation: drawn the same twice, and with the numbers they were given."""

import numpy as np
import pandas as pd
import pytest

from facelib.plots.evaluate import (
    class_curves,
    confusion,
    confusions,
    coverage_by_age,
    label_disagreement,
    noise_bias,
)
from facelib.schema import ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute

MANY = ClassAttribute("gender", classes=("female", *(f"class {k}" for k in range(1, 9))))


def labelled() -> pd.DataFrame:
    frame = pd.DataFrame({"gender": [0.0] * 10 + [np.nan, 1.0], "gender_pred": [0.0] * 8 + [1.0] * 3 + [np.nan]})
    return frame.assign(ethnicity=2.0, ethnicity_pred=4.0)


def curves(n: int = 1) -> tuple[dict, pd.DataFrame]:
    """Some classes' labels and scores, and the table of their ranking."""
    labels = np.array([0, 1, 0, 1]), np.array([0.2, 0.8, 0.4, 0.3]), None
    names = ["female", *(f"class {k}" for k in range(1, n))]
    row = {"attribute": "gender", "base_rate": 0.5, "auc": 0.75, "average_precision": 0.8333}
    return {("gender", name): labels for name in names}, pd.DataFrame([{"class": name} | row for name in names])


def coverage() -> pd.DataFrame:
    rows = [("age_band", band, kind, value) for kind, value in (("plain", 0.95), ("by predicted age", 0.85))
            for band in ("0-4", "5-17")]  # fmt: skip
    rows.append(("gender_name", "male", "plain", 0.5))
    return pd.DataFrame(rows, columns=["by", "group", "kind", "value"]).assign(low=0.4, high=1.0, n=20)


def test_a_confusion_matrix_shows_row_shares_and_counts_of_what_is_known(texts):
    figure = confusion(labelled(), GENDER, "; drawn")
    assert [text.get_text() for text in figure.axes[0].texts] == ["80%\n8", "20%\n2", "0%\n0", "0%\n0"]
    assert "Gender, n = 10; drawn" in texts(figure)
    figures = confusions(labelled(), UTKFACE_ATTRIBUTES)
    assert list(figures) == ["confusion_gender", "confusion_ethnicity"]
    assert len(figures["confusion_ethnicity"].axes[0].texts) == len(ETHNICITY.classes) ** 2


def test_curves_of_classes_show_what_a_guess_reaches(texts):
    figure = class_curves(*curves(), "Classes", [MANY])
    assert "female: 0.750" in texts(figure) and "female: 0.833 (base rate 0.50)" in texts(figure)
    assert [0.5, 0.5] in [list(line.get_ydata()) for line in figure.axes[1].lines]
    left = class_curves(*curves(8), "Classes", [MANY]).axes[0]
    assert len(left.lines) == 9  # eight classes, and the diagonal


def test_coverage_stands_by_age_with_both_kinds_side_by_side():
    (axis,) = coverage_by_age(coverage(), "; drawn").axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0-4\nn = 20", "5-17\nn = 20"]
    assert [kind.lines[0].get_ydata().tolist() for kind in axis.containers] == [[0.95] * 2, [0.85] * 2]
    assert [text.get_text() for text in axis.texts] == ["by predicted age", "90 % nominal", "plain"]
    assert axis.get_title(loc="left").endswith("n = 40, 95 % intervals; drawn")


def test_the_label_disagreement_has_a_panel_an_attribute_and_noise_a_line_of_its_own():
    quantities = {"two labels": 0.3, "model and label": 0.4, "model and label minus two labels": 9}
    rows = [
        (name, quantity, value, value - 0.1, value + 0.1, 9, unit)
        for name, unit in (("age", "years"), ("gender", "share"))
        for quantity, value in quantities.items()
    ]
    measured = pd.DataFrame(rows, columns=["attribute", "quantity", "value", "low", "high", "n", "unit"])
    figure = label_disagreement(measured)
    assert [axis.containers[0].lines[0].get_xdata().tolist() for axis in figure.axes] == [[0.3, 0.4]] * 2
    bands = pd.DataFrame({"age_band": ["60-74", "75+"], "n": [30, 9]})
    for name, values in (("bias", [-1.0, -6.0]), ("noise", [-0.5, -3.0])):
        bands = bands.assign(**{name: values, f"{name}_low": [-8.0] * 2, f"{name}_high": [0.0] * 2})
    (axis,) = noise_bias(bands).axes
    assert [kind.lines[0].get_ydata().tolist() for kind in axis.containers] == [[-1.0, -6.0], [-0.5, -3.0]]
    assert {text.get_text() for text in axis.texts} == {"the model", "label noise alone"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda: confusion(labelled(), GENDER),
        lambda: class_curves(*curves(2), "ROC", [MANY]),
        lambda: coverage_by_age(coverage()),
    ],
)
def test_a_figure_is_drawn_the_same_twice(draw, assert_drawn_the_same_twice):
    assert_drawn_the_same_twice(draw)
