"""Figures of age: drawn the same twice, and with the numbers they were given."""

import numpy as np
import pandas as pd
import pytest

from facelib.plots.age import age_scatter, bin_study

WAYS = ("routed", "soft", "routed_overlap", "soft_overlap", "oracle_bin", "no_image")


def bins_tried() -> pd.DataFrame:
    errors = {way: [6.0 + k, 5.0, 5.5] for k, way in enumerate(WAYS)}
    return pd.DataFrame({"bins": [2, 6, 12], "bin_accuracy": [0.9, 0.6, 0.4]} | errors)


def predicted() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    age = rng.integers(1, 90, 200).astype(float)
    return pd.DataFrame({"age": age, "age_pred": age + rng.normal(0, 5, 200)})


def test_each_way_has_its_line_and_the_bins_their_accuracy():
    errors, accuracy = bin_study(bins_tried(), "Bins").axes
    assert [line.get_ydata()[0] for line in errors.lines] == [6, 7, 8, 9, 10, 11]
    assert accuracy.lines[0].get_ydata().tolist() == [0.9, 0.6, 0.4] and errors.get_title(loc="left") == "Bins"


def test_the_median_by_decade_is_that_of_its_predictions():
    frame = predicted()
    (axis,) = age_scatter(frame, "Ages").axes
    thirties = frame[frame["age"].between(30, 39)]
    line = next(line for line in axis.lines if line.get_label() == "median by decade")
    assert thirties["age_pred"].median() in line.get_ydata() and thirties["age"].median() in line.get_xdata()


@pytest.mark.parametrize("draw", [lambda: bin_study(bins_tried(), "Bins"), lambda: age_scatter(predicted(), "Ages")])
def test_a_figure_is_drawn_the_same_twice(draw, assert_drawn_the_same_twice):
    assert_drawn_the_same_twice(draw)
