"""Figures of groups: drawn the same twice, and with the numbers they were given."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from facelib.plots.groups import age_figures, bias_figure, children_figure, group_errors, raw_and_standardised
from facelib.plots.style import class_colours
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES


def by_gender() -> pd.DataFrame:
    """Age errors by age band and gender; one group is masked."""
    table = pd.DataFrame({"age_band": ["0-4", "0-4", "75+", "75+"], "gender_name": ["female", "male"] * 2})
    table = table.assign(n=[20, 40, 30, 3], age_mae=[3.0, 4.0, 8.0, np.nan], gender_accuracy=0.9)
    ends = {f"{name}{end}": table[name] + way for name in ("age_mae", "gender_accuracy")
            for end, way in (("_low", -1), ("_high", 1))}  # fmt: skip
    return table.assign(**ends)


def rates() -> pd.DataFrame:
    rows = [("male", "age_mae", 5.0, 6.0), ("female", "age_mae", 7.0, np.nan), ("male", "gender_accuracy", 0.9, 0.8)]
    rows += [("female", "gender_accuracy", 0.7, 0.75)]
    table = pd.DataFrame(rows, columns=["group", "metric", "raw", "standardised"]).assign(n=40, by="gender")
    for way in ("raw", "standardised"):
        table = table.assign(**{f"{way}_low": table[way] - 0.1, f"{way}_high": np.nan})
    return table


def test_errors_of_groups_stand_at_their_age_band(texts):
    figure = group_errors(by_gender(), "age_mae", "MAE (years)", "Errors", GENDER)
    male, female = (container.lines[0] for container in figure.axes[0].containers)  # in the order of the classes
    assert [line.get_color() for line in (male, female)] == list(class_colours(GENDER).values())
    assert list(female.get_ydata()) == [3.0, 8.0] and list(male.get_ydata()) == [4.0]
    assert [round(float(x)) for x in female.get_xdata()] == [0, 1]
    assert "male" in texts(figure) and "75+\nn = 33" in texts(figure)
    (alone,) = group_errors(by_gender()[::2].drop(columns="gender_name"), "age_mae", "MAE", "Errors").axes
    assert not alone.texts and alone.containers[0].lines[0].get_ydata().tolist() == [3.0, 8.0]


def test_each_class_attribute_has_its_figures_by_age(texts):
    crossed = by_gender()
    races = crossed.rename(columns={"gender_name": "ethnicity_name", "gender_accuracy": "ethnicity_accuracy"})
    races = races.replace({"ethnicity_name": {"female": "Asian", "male": "White"}})
    tables = {"age_band x gender_name": crossed, "age_band x ethnicity_name": races}
    figures = age_figures({"": tables}, UTKFACE_ATTRIBUTES, "; drawn")
    # Accuracy by age is drawn where classes are two.
    assert list(figures) == ["age_error_by_gender", "age_error_by_ethnicity", "gender_by_age"]
    assert "Gender accuracy, test split, 95 % intervals; drawn, n = 93" in texts(figures["gender_by_age"])
    assert age_figures({}, (AGE, ETHNICITY)) == {}


def test_the_map_of_who_is_worse_has_a_row_a_class_and_masks_small_groups(texts):
    tables = {"age_band": by_gender()[::2].drop(columns="gender_name"), "age_band x gender_name": by_gender()}
    figures = age_figures({"": tables}, (AGE, GENDER))
    assert list(figures) == [
        "age_error",
        "age_error_by_gender",
        "gender_by_age",
        "worse_age_mae",
        "worse_gender_accuracy",
    ]
    (axis,) = figures["worse_age_mae"].axes
    values = axis.images[0].get_array()
    assert values.filled(-1).tolist() == [[3, 8], [3, 8], [4, -1]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["all\nn = 50", "female\nn = 50", "male\nn = 43"]
    shown = [text.get_text() for text in axis.texts]
    assert shown == ["3.0", "2.0 to 4.0", "8.0", "7.0 to 9.0"] * 2 + ["4.0", "3.0 to 5.0", "n = 3"]
    for name, darkest in (("worse_age_mae", 1.0), ("worse_gender_accuracy", 0.0)):  # darker is worse
        shades = figures[name].axes[0].images[0].get_cmap()
        dark, light = (contrast(shades(value), "#222222") for value in (darkest, 1 - darkest))
        assert 4.5 < dark < light  # and light enough for dark text


def contrast(one, other) -> float:
    """The contrast of two colours by WCAG 2."""

    def luminance(colour) -> float:
        parts = np.asarray(mpl.colors.to_rgb(colour))
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def directions() -> pd.DataFrame:
    table = pd.DataFrame({"grouped_by": ["label"] * 2 + ["prediction"] * 2, "age_band": ["0-4", "75+"] * 2, "n": 30})
    return table.assign(bias=[1.0, -7, 0, 4], bias_low=-8.0, bias_high=8.0, regression_alone=[0.5, -4, 0, 3])


def test_both_directions_of_bias_stand_beside_regression_alone(texts):
    (axis,) = bias_figure(directions(), "; drawn").axes
    label, prediction = (container.lines[0].get_ydata().tolist() for container in axis.containers)
    assert (label, prediction) == ([1, -7], [0, 4])
    alone = [line.get_ydata().tolist() for line in axis.lines if line.get_linestyle() == ":"]
    assert alone == [[0.5, -4], [0, 3]]
    assert "Age bias by label and by prediction, n = 60; drawn" in texts(axis.figure)


def test_children_have_a_panel_for_each_measure(texts):
    table = pd.DataFrame({"single_year": ["0", "3", "17"], "n": [9, 40, 2], "gender_accuracy": [0.6, 0.9, np.nan]})
    table = table.assign(gender_accuracy_low=0.5, gender_accuracy_high=0.95)
    figure = children_figure(table, (AGE, GENDER))
    assert figure.axes[0].containers[0].lines[0].get_xydata().tolist() == [[0, 0.6], [3, 0.9]]
    assert len(figure.axes) == 1 and "Children by single years, n = 51, 95 % intervals" in texts(figure)
    nothing = children_figure(table[["single_year", "n"]][:0], ())
    assert "Children by single years, n = 0, 95 % intervals" in texts(nothing)


def test_raw_and_standardised_numbers_stand_side_by_side(texts):
    figure = raw_and_standardised(rates(), UTKFACE_ATTRIBUTES, "Same ages")
    raw, standardised = (container.lines[0] for container in figure.axes[0].containers)
    assert list(raw.get_xdata()) == [5, 7] and standardised.get_xdata().item(0) == 6
    assert "male  (n = 40)" in texts(figure) and "Gender accuracy" in texts(figure) and "Same ages" in texts(figure)
    assert "Age error (years)" in texts(figure) and len(figure.axes) == 2
    assert "Same ages" in texts(raw_and_standardised(rates()[:0], UTKFACE_ATTRIBUTES, "Same ages"))


def test_groups_of_one_name_in_two_groupings_keep_their_own_numbers():
    both = pd.concat([rates(), rates().assign(by="smile", raw=rates()["raw"] / 2)])
    figure = raw_and_standardised(both, (AGE, GENDER), "Same ages")
    assert figure.axes[0].containers[0].lines[0].get_xdata().tolist() == [5, 7, 2.5, 3.5]
    assert len(figure.axes[0].get_yticks()) == 4


@pytest.mark.parametrize(
    "draw",
    [
        lambda: group_errors(by_gender(), "age_mae", "MAE (years)", "Errors", GENDER),
        lambda: raw_and_standardised(rates(), UTKFACE_ATTRIBUTES, "Same ages"),
        lambda: bias_figure(directions()),
    ],
)
def test_a_figure_is_drawn_the_same_twice(draw, assert_drawn_the_same_twice):
    assert_drawn_the_same_twice(draw)
