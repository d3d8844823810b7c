"""Figures of training: the epoch used is marked, points and errors are those given."""

import pandas as pd
import pytest

from facelib.plots.training import reliability_diagram, training_curves
from facelib.statistics import CalibrationError, Estimate
from studies.training_summary import recipe_comparison


@pytest.fixture
def points() -> pd.DataFrame:
    return pd.DataFrame({"confidence": [0.6, 0.9], "accuracy": [0.5, 0.9], "low": [0.4, 0.8], "high": [0.6, 0.95]})


def test_training_curves_mark_the_epoch_used():
    history = pd.DataFrame(
        {
            "epoch": [0, 1, 2],
            "train_loss": [3, 2, 1.0],
            "validation_loss": [3.0, 1.5, 2.0],
            "train_age_mae": 1.0,
            "validation_age_mae": 2.0,
        }
    )
    figure = training_curves(history, {"loss": "Loss", "age_mae": "Age (years)"}, used=1)
    assert [axis.get_title() or axis.get_title("left") for axis in figure.axes] == ["Loss", "Age (years)"]
    marks = [line for line in figure.axes[0].lines if line.get_label() == "used"]
    assert list(marks[0].get_xdata()) == [2, 2]  # epochs count from 1 in a figure
    assert list(figure.axes[0].lines[1].get_ydata()) == [3.0, 1.5, 2.0]


def test_a_reliability_diagram_has_the_points_intervals_and_errors_given(points):
    error = CalibrationError(0.05, 0.02, 0.01, Estimate(0.046, 0.02, 0.06, 9))
    figure = reliability_diagram({"gender": points}, {"gender": error})
    (axis,) = figure.axes
    assert axis.lines[1].get_xydata().tolist() == [[0.6, 0.5], [0.9, 0.9]]
    segments = axis.collections[0].get_segments()
    assert [sorted(segment[:, 1].round(9)) for segment in segments] == [[0.4, 0.6], [0.8, 0.95]]
    assert "gender\nerror 0.050, by chance 0.020" in {axis.get_title(), axis.get_title("left")}


def test_recipes_are_drawn_in_one_order_and_only_where_they_were_measured():
    rows = [("ours", "age.mae", 5.0), ("a", "age.mae", 6.0), ("ours", "ethnicity.accuracy", 0.8)]
    rows += [("a", "gender.accuracy", 0.9), ("ours", "gender.accuracy", 0.95)]
    table = pd.DataFrame(rows, columns=["variant", "measure", "value"])
    figure = recipe_comparison(table.assign(low=table["value"] - 0.1, high=table["value"] + 0.1, n=100))
    points = [{tuple(point) for line in axis.lines[:1] for point in line.get_xydata()} for axis in figure.axes]
    assert points == [{(5.0, 0), (6.0, 1)}, {(0.95, 0), (0.9, 1)}, {(0.8, 0)}]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ours", "a"]


def test_a_figure_is_drawn_the_same_twice(points, assert_drawn_the_same_twice):
    error = CalibrationError(0.05, 0.02, 0.01, Estimate(0.046, 0.02, 0.06, 9))
    names = ("gender", "ethnicity")
    assert_drawn_the_same_twice(lambda: reliability_diagram(dict.fromkeys(names, points), dict.fromkeys(names, error)))
