"""Figures of what decides in use: the numbers they were given, lines labelled, drawn the same twice."""

import numpy as np
import pandas as pd
import pytest

from facelib.plots.deployment import odds, passing, withheld
from facelib.schema import AGE, GENDER


def rates() -> pd.DataFrame:
    table = pd.DataFrame({"threshold": [18] * 3 + [25] * 3, "year": [10, 18, 30] * 2, "n": 20})
    return table.assign(value=[0.0, 0.5, 1, 0, 0.2, 0.9], low=0.0, high=1.0)


def groups() -> pd.DataFrame:
    table = pd.DataFrame({"attribute": "gender", "by": "age band", "group": ["0-4", "18-29"], "n": [20, 60]})
    for name, value in (("true_positive", 0.9), ("false_positive", 0.2), ("answered", 0.7)):
        table = table.assign(**{name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1})
    return table.assign(n_true_positive=12, n_false_positive=8)


def faces() -> pd.DataFrame:
    sure = np.linspace(0.5, 1, 80)
    return pd.DataFrame(
        {"gender": 0.0, "gender_pred": (sure < 0.6) * 1.0, "p_gender_male": sure, "p_gender_female": 1 - sure}
    )


def test_each_threshold_is_a_labelled_line(texts):
    figure = passing(rates())
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines[::2]] == [[0, 0.5, 1], [0, 0.2, 0.9]]
    assert "predicted 18 or older" in texts(figure) and "predicted 25 or older" in texts(figure)
    assert "Who passes an age limit, n = 60, 95 % intervals" in texts(figure)


def test_misses_and_false_alarms_of_each_group_stand_side_by_side(texts):
    figure = odds(groups(), (AGE, GENDER))
    alarms, misses = (container.lines[0].get_xdata().tolist() for container in figure.axes[0].containers)
    assert misses == pytest.approx([0.1, 0.1]) and alarms == [0.2, 0.2]
    assert all(text in texts(figure) for text in ("female called male", "male called female", "0-4  (n = 20)"))


def test_accuracy_falls_to_that_of_all_answers(texts):
    figure = withheld(faces(), groups(), (AGE, GENDER))
    answered, right = figure.axes[0].lines[0].get_data()
    assert answered[-1] == 1 and right[-1] == (faces()["gender_pred"] == 0).mean() and right[0] == 1
    assert all(text in texts(figure) for text in ("Gender", "Selective prediction, n = 80", "answered if 80% are"))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: passing(rates()),
        lambda: odds(groups(), (GENDER,)),
        lambda: withheld(faces(), groups(), (GENDER,)),
    ],
)
def test_a_figure_is_drawn_the_same_twice(draw, assert_drawn_the_same_twice):
    assert_drawn_the_same_twice(draw)
