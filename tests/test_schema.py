"""Age bands at their edges, shares that add up, and a maker for every file that is asked for."""

import numpy as np
import pandas as pd
import pytest

from facelib import schema
from facelib.schema import AGE, GENDER, ClassAttribute


@pytest.mark.parametrize(
    ("age_years", "band"),
    [(0, "0-4"), (4.99, "0-4"), (5, "5-17"), (17.5, "5-17"), (18, "18-29"), (29, "18-29"), (30, "30-45"),
     (45.9, "30-45"), (46, "46-59"), (60, "60-74"), (74, "60-74"), (75, "75+"), (116, "75+")],
)  # fmt: skip
def test_an_age_belongs_to_the_band_whose_name_spans_it(age_years, band):
    assert list(schema.age_band([age_years])) == [band]


def test_bands_are_ordered_and_a_missing_age_has_none():
    bands = schema.age_band([80, np.nan, 3])
    assert bands.ordered and tuple(bands.categories) == schema.AGE_BANDS
    assert bands.codes.tolist() == [6, -1, 0]


def test_band_names_say_their_edges():
    lower = [int(name.split("-")[0].rstrip("+")) for name in schema.AGE_BANDS]
    assert lower == list(schema.AGE_BAND_EDGES)
    upper = [int(name.split("-")[1]) for name in schema.AGE_BANDS[:-1]]
    assert upper == [edge - 1 for edge in lower[1:]]


def test_split_shares_add_up_to_all_faces():
    assert list(schema.SPLITS) == ["train", "validation", "calibration", "test"]
    assert sum(schema.SPLITS.values()) == pytest.approx(1)


def test_every_file_of_a_run_is_made_by_a_notebook_that_exists():
    assert set(schema.MADE_BY.values()) <= set(schema.NOTEBOOKS)
    assert list(schema.NOTEBOOKS) == sorted(schema.NOTEBOOKS)


# --- attributes -------------------------------------------------------------------------------------------

SHAPE = ClassAttribute("shape", classes=("Round", "Long face", "Heart"))


@pytest.mark.parametrize("attribute", [*schema.UTKFACE_ATTRIBUTES, SHAPE], ids=lambda attribute: attribute.name)
def test_an_attribute_survives_its_stored_form(attribute):
    assert schema.attribute_from_dict(attribute.to_dict()) == attribute


@pytest.mark.parametrize(
    "stored",
    [{}, "age", {"name": "age", "kind": "other"}, {"kind": "years"}, {"name": "x", "kind": "classes", "classes": ["a"]},
     {"name": "x", "kind": "classes", "classes": ["a", 3]}, {"name": "x", "kind": "classes", "classes": ["a", "A"]}],
)  # fmt: skip
def test_what_is_not_an_attribute_is_refused(stored):
    with pytest.raises(ValueError, match=r"attribute|classes"):
        schema.attribute_from_dict(stored)


def test_every_class_has_a_column_of_its_own():
    assert SHAPE.columns == ("p_shape_round", "p_shape_long_face", "p_shape_heart")
    assert GENDER.columns == ("p_gender_male", "p_gender_female")


def test_predicted_classes_are_the_likeliest_and_missing_where_nothing_was_predicted():
    table = pd.DataFrame([[0.2, 0.5, 0.3], [np.nan] * 3, [0.6, 0.2, 0.2]], columns=list(SHAPE.columns))
    np.testing.assert_array_equal(SHAPE.decode(table), [1, np.nan, 0])
    np.testing.assert_array_equal(SHAPE.confidence(table), [0.5, np.nan, 0.6])


@pytest.mark.parametrize(
    ("attribute", "value", "label"),
    [(AGE, "31", 31.0), (AGE, " 0 ", 0.0), (GENDER, "FEMALE", 1), (GENDER, 0, 0), (GENDER, "1.0", 1),
     (SHAPE, "heart", 2),
     (SHAPE, "", -1), (GENDER, None, -1), (GENDER, float("nan"), -1)],
)  # fmt: skip
def test_labels_are_read_from_text(attribute, value, label):
    assert attribute.parse(value) == label


@pytest.mark.parametrize(
    ("attribute", "value"),
    [(AGE, "old"), (AGE, -1), (AGE, 117), (GENDER, 2), (SHAPE, "square"), (GENDER, [1]), (AGE, {})],
)
def test_labels_that_an_attribute_cannot_have_are_refused_by_name(attribute, value):
    with pytest.raises(ValueError, match=attribute.name):
        attribute.parse(value)


def test_missing_ages_stay_missing():
    assert np.isnan(AGE.parse("")) and AGE.label_name(float("nan")) == "unknown" == GENDER.label_name(-1)


def test_groups_are_ordered_and_missing_where_the_label_is_unknown():
    groups = SHAPE.groups(pd.Series([2, -1, np.nan, 0], index=list("abcd")))
    assert groups.tolist()[0] == "Heart" and groups.isna().tolist() == [False, True, True, False]
    assert list(groups.cat.categories) == list(SHAPE.classes) and groups.cat.ordered
    assert AGE.groups(pd.Series([3.0, np.nan])).tolist()[0] == "0-4"


def test_copies_agree_on_their_median_age_and_on_a_common_class_alone():
    group_id = np.array([0, 0, 1, 1])
    assert AGE.agreed(pd.Series([20.0, 30.0, 5.0, 5.0]), group_id).tolist() == [25, 25, 5, 5]
    assert SHAPE.agreed(pd.Series([0, 1, 2, 2]), group_id).tolist() == [-1, -1, 2, 2]


def test_wrong_labels_are_wrong_and_allowed():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 500)
    wrong = SHAPE.wrong(codes, rng)
    assert (wrong != codes).all() and set(wrong) == {0, 1, 2}
    ages = np.array([0.0, 10.0, 50.0, 110.0, 116.0])
    off = AGE.wrong(np.repeat(ages, 50), rng) - np.repeat(ages, 50)
    assert set(np.abs(off)) == {schema.PLANTED_AGE_ERROR}
    assert set(off[:100]) == {20.0} and set(off[150:]) == {-20.0}  # ages stay within 0 to 116


def test_the_best_constant_is_the_median_or_the_most_frequent_class():
    assert AGE.constant(pd.Series([1.0, 2.0, 30.0])) == 2
    assert SHAPE.constant(pd.Series([1, 1, 2])) == 1


def test_rows_count_as_known_only_with_all_labels():
    faces = pd.DataFrame({"age": [1.0, np.nan, 3.0], "gender": [0, 1, -1]})
    assert schema.all_known(faces, (AGE, GENDER)).tolist() == [True, False, False]
    assert schema.labelled(faces.assign(gender=-1), (AGE, GENDER)) == (AGE,)


# --- bands of ages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "band"),
    [("0-2", (0, 2)), ("20 - 29", (20, 29)), ("(60, 100)", (60, 100)), ("70+", (70, 116)), ("70 and over", (70, 116)),
     ("More than 70", (70, 116))],
)  # fmt: skip
def test_a_band_of_ages_holds_its_first_and_last_year(text, band):
    assert schema.parse_age_band(text) == band


@pytest.mark.parametrize("text", ["", "30", "young", "30-20", "100-117", "-5", "1-2-3", "3.5"])
def test_what_is_not_a_band_of_ages_is_refused(text):
    with pytest.raises(ValueError, match="age band"):
        schema.parse_age_band(text)


BANDED = pd.DataFrame({"age": [3.0, np.nan, np.nan], "age_from": [np.nan, 20, np.nan], "age_to": [np.nan, 29, np.nan]})


def test_a_band_is_a_label_and_no_age():
    assert AGE.has_label(BANDED).tolist() == [True, True, False] and AGE.has_band(BANDED).tolist() == [
        False,
        True,
        False,
    ]
    assert AGE.is_known(BANDED["age"]).tolist() == [True, False, False]
    np.testing.assert_array_equal(AGE.middles(BANDED), [3, 24.5, np.nan])
    assert AGE.strata(BANDED).tolist() == ["0-4", "18-29", "unknown"]


def test_ages_known_by_bands_alone_are_another_attribute():
    (banded,) = schema.labelled(BANDED[1:], (AGE,))
    assert banded.name == "age" and banded != AGE and schema.labelled(BANDED, (AGE,)) == (AGE,)
    assert schema.attribute_from_dict(banded.to_dict()) == banded


def test_a_band_belongs_to_a_group_only_if_it_lies_within_one():
    ends = pd.DataFrame({"age": [np.nan] * 3, "age_from": [20, 40, 70], "age_to": [29, 49, 116]})
    groups = AGE.groups_of(ends)
    assert groups.tolist()[0] == "18-29" and groups.isna().tolist() == [False, True, True]


def test_copies_agree_on_their_age_or_on_a_band_that_holds_theirs():
    copies = pd.DataFrame(
        {"age": [np.nan] * 3 + [30.0], "age_from": [20, 30, 40, np.nan], "age_to": [29, 39, 49, np.nan]}
    )
    agreed = pd.DataFrame(AGE.agreed_columns(copies, np.array([0, 0, 1, 1])))
    assert agreed["age_from"].fillna(-1).tolist() == [20, 20, -1, -1]
    assert agreed["age_to"].fillna(-1).tolist() == [39, 39, -1, -1] and agreed["age"].tolist()[2:] == [30, 30]


def test_attributes_of_different_faces_are_told_apart():
    faces = pd.DataFrame({"age": [1.0, np.nan], "gender": [0, 1], "ethnicity": [-1, 2]})
    assert schema.known_together(faces, schema.UTKFACE_ATTRIBUTES) == (AGE, GENDER)


def test_columns_of_signed_classes_differ():
    assert ClassAttribute("smiling", classes=("-1", "1")).columns == ("p_smiling_minus_1", "p_smiling_1")
    assert ClassAttribute("band", classes=("0-2", "3-9")).columns == ("p_band_0_2", "p_band_3_9")
