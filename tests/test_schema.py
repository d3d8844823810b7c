"""Age bands at their edges, shares that add up, and a maker for every file that is asked for."""

import numpy as np
import pytest

from facelib import schema


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


def test_headline_keys_come_once_and_in_pairs_for_the_cleaned_test_set():
    assert len(set(schema.HEADLINE_KEYS)) == len(schema.HEADLINE_KEYS)
    as_given = {key.removeprefix("test.") for key in schema.HEADLINE_KEYS if key.startswith("test.")}
    cleaned = {key.removeprefix("test_cleaned.") for key in schema.HEADLINE_KEYS if key.startswith("test_cleaned.")}
    assert as_given == cleaned and "age.mae" in as_given


def test_one_probability_column_for_each_ethnicity_code():
    assert list(schema.P_ETHNICITY) == [f"p_ethnicity_{code}" for code in range(len(schema.ETHNICITIES))]
    assert len(schema.ETHNICITIES) == 5 and schema.GENDERS == ("male", "female")


@pytest.mark.parametrize(
    ("text", "band"),
    [("0-2", (0, 2)), ("20 - 29", (20, 29)), ("(60, 100)", (60, 100)), ("70+", (70, 116)), ("70 and over", (70, 116)),
     ("More than 70", (70, 116))],
)  # fmt: skip
def test_a_band_of_ages_holds_its_first_and_last_year(text, band):
    assert schema.parse_age_band(text) == band


@pytest.mark.parametrize("text", ["", "30", "young", "30-20", "100-117", "-5", "1-2-3", "3.5"])
def test_what_is_no_band_of_ages_is_refused(text):
    with pytest.raises(ValueError, match="age band"):
        schema.parse_age_band(text)
