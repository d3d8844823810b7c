"""Label maps: columns, values, units, names; what cannot be used is unknown and counted; refusals show the map."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facelib.data.label_maps import (
    Field,
    UnreadableMap,
    age_between,
    map_text,
    parse_map,
    read_labels,
    suggest,
)
from facelib.data.readers import read_faces
from facelib.errors import UnreadableData
from facelib.schema import AGE, ETHNICITY, GENDER, MONTHS, ClassAttribute, band_from_date, parse_age_band

FEW = settings(max_examples=25, deadline=None)


def labels_of(text: str, **columns):
    """The labels that a map reads from some columns."""
    return read_labels(pd.DataFrame(columns, dtype=object), parse_map(text).fields, "t.csv")


# --- maps -------------------------------------------------------------------------------------------------


def test_a_map_is_one_line_or_a_file(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("path: image_id\ngender:\n  column: Male\n  -1: female\n  1: male\n")
    line = "path: image_id, gender: {column: Male, -1: female, 1: male}"
    assert parse_map(map_text(str(path))) == parse_map(line)
    assert parse_map(line).fields["gender"] == Field("Male", {"-1": "female", "1": "male"})


def test_values_that_yaml_would_take_for_truth_stay_words():
    assert parse_map("smile: {yes: smiling, no: neutral}").fields["smile"].meanings == {
        "yes": "smiling",
        "no": "neutral",
    }


@pytest.mark.parametrize(
    "text",
    ["gender: [a, b]", "gender: {0: [a]}", "path: {a: b}", "name: '('", "age: {unit: weeks}", "box: [a, b]",
     "gender: {0: female", "age: {born: dob}", "a: &x b, c: *x", "gender: {classes: male}", "- a\n- b"],
)  # fmt: skip
def test_what_is_no_map_is_refused_with_an_example(text):
    with pytest.raises(UnreadableMap, match=r"write it as \"gender: \{0: female, 1: male\}\""):
        parse_map(text)


def test_a_map_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnreadableMap, match=r"none\.yaml cannot be read"):
        map_text(str(tmp_path / "none.yaml"))


@given(st.text(max_size=40))
@FEW
def test_any_text_is_a_map_or_refused_in_one_line(text):
    try:
        parse_map(text)
    except UnreadableMap as error:
        assert len(str(error).splitlines()) == 1


# --- values -----------------------------------------------------------------------------------------------


def test_mapped_values_are_classes_and_others_are_counted():
    read = labels_of("gender: {0: female, 1: male, 9: unknown}", gender=["1", 0, "1.0", 9, "2", "", "female"])
    assert read.columns["gender"].tolist() == [0, 1, 0, -1, -1, -1, 1]
    assert read.attributes == (GENDER,)
    assert read.unusable[["row", "label", "value"]].to_numpy().tolist() == [[4, "gender", "2"]]


@given(
    st.sampled_from(["M", "F", "man", "Woman", "boy", "girl", "male", "FEMALE", "w"]), st.sampled_from(["", " ", "  "])
)
@FEW
def test_words_for_gender_are_read_in_any_case_with_blanks(word, blank):
    read = labels_of("gender: gender", gender=[blank + word.swapcase() + blank, "x"])
    assert read.columns["gender"].tolist() == [int(word.lower() in ("f", "woman", "girl", "female", "w")), -1]


@pytest.mark.parametrize("word", ["", "u", "U", "None", "unknown", "nan", "?", "-", None, float("nan")])
def test_words_for_nothing_are_unknown_and_not_counted(word):
    read = labels_of("gender: gender, age: age", gender=[word, "m"], age=[word, "3"])
    assert read.columns["gender"].tolist() == [-1, 0] and np.isnan(read.columns["age"][0])
    assert read.unusable.empty


@pytest.mark.parametrize("codes", [["0", "1"], ["-1", "1"], ["1", "2"], [0.0, 1.0], [0, 1]])
def test_bare_numbers_are_left_out_with_the_map_that_reads_them_or_refused_where_nothing_else_is_there(codes):
    left = labels_of("gender: gender, age: age", gender=codes, age=["3", "4"])
    assert [attribute.name for attribute in left.attributes] == ["age"]
    (note,) = left.notes
    shown = note[note.index('"') + 1 : note.rindex('"')]
    assert set(labels_of(shown, gender=codes).columns["gender"]) == {0, 1}  # the map that the message shows reads it
    with pytest.raises(UnreadableData, match="does not say which is which"):
        labels_of("gender: gender", gender=codes)
    table = pd.DataFrame({"gender": codes, "age": ["3", "4"]}, dtype=object)
    with pytest.raises(UnreadableData, match="does not say which is which"):
        read_labels(table, parse_map("gender: gender, age: age").fields, "t.csv", wanted=["gender"])


def test_a_number_among_words_is_counted_and_no_code():
    read = labels_of("gender: gender", gender=["male", "1", "female"])
    assert read.columns["gender"].tolist() == [0, -1, 1] and read.unusable["value"].tolist() == ["1"]


def test_classes_come_from_the_data_and_from_a_map():
    read = labels_of("expression: expression", expression=["happy", "Sad", " HAPPY", "neutral", ""])
    assert read.attributes == (ClassAttribute("expression", classes=("happy", "neutral", "Sad")),)
    assert read.columns["expression"].tolist() == [0, 2, 0, 1, -1]
    counted = labels_of("stars: stars", stars=["10", "9", "2"])
    assert counted.attributes[0].classes == ("2", "9", "10")
    mapped = labels_of("mood: {column: expression, sad: low, neutral: low, happy: high}", expression=["sad", "happy"])
    assert mapped.attributes == (ClassAttribute("mood", classes=("low", "high")),)
    assert mapped.columns["mood"].tolist() == [0, 1]
    assert mapped.notes == ["mood is read from expression with classes merged: sad and neutral are low"]


def test_a_column_of_many_texts_holds_no_classes():
    with pytest.raises(UnreadableData, match="has 60 different values"):
        labels_of("person: person", person=[f"p{k}" for k in range(60)])


def test_classes_that_are_all_unknown_show_the_map_to_fill_in():
    read = labels_of("ethnicity: ethnicity, age: age", ethnicity=["Caucasian", "Hispanic"], age=["3", "4"])
    assert read.attributes == (ETHNICITY, AGE) and (read.columns["ethnicity"] == -1).all()
    assert read.notes[0].endswith('--labels "ethnicity: {Caucasian: CLASS, Hispanic: CLASS}" maps them')


# --- ages -------------------------------------------------------------------------------------------------


@given(st.integers(0, 116), st.sampled_from(["{}", "{} years", "{}y", "{}.0", " {} "]))
@FEW
def test_ages_are_read_in_many_spellings(age, form):
    assert labels_of("age: age", age=[form.format(age)]).columns["age"].tolist() == [age]


@given(st.integers(0, 60), st.integers(1, 50), st.sampled_from(["{}-{}", "({}, {})", "{} to {}", "{} - {}", "({},{})"]))
@FEW
def test_bands_are_read_in_many_spellings(first, more, form):
    read = labels_of("age: age", age=[form.format(first, first + more), "7"])
    assert read.columns.loc[0, ["age_from", "age_to"]].tolist() == [first, first + more]
    np.testing.assert_array_equal(read.columns["age"], [np.nan, 7])


@pytest.mark.parametrize(
    ("text", "band"), [(">70", (70, 116)), ("70 or older", (70, 116)), ("under 3", (0, 2)), ("over 60", (60, 116))]
)
def test_open_bands_have_words(text, band):
    assert parse_age_band(text) == band


@given(st.integers(1, 12), st.integers(1, 31), st.booleans(), st.sampled_from("- ."))
@FEW
def test_dates_that_a_spreadsheet_made_of_bands_are_bands_again(month, day, day_first, between):
    name = MONTHS[month - 1].capitalize()
    text = f"{day:02d}{between}{name}" if day_first else f"{name}{between}{day:02d}"
    first, last = sorted((day, month))
    assert band_from_date(text) == (first, last)
    read = labels_of("age: age", age=[text, "20-29", text])
    assert read.columns["age_from"].tolist() == [first, 20, first] and len(read.notes) == 1
    assert read.notes[0].startswith("2 ages are dates, which a spreadsheet made of bands")


def test_ages_in_months_and_from_two_dates():
    read = labels_of("age: {column: months, unit: months}", months=["18", "120", "6-11"])
    np.testing.assert_array_equal(read.columns["age"], [1.5, 10, np.nan])
    dates = labels_of("age: {born: dob, taken: photo}", dob=["1981-05-05", "1981-09-05", "", "x"], photo=[2009] * 4)
    np.testing.assert_array_equal(dates.columns["age"], [28, 27, np.nan, np.nan])
    assert dates.unusable["value"].tolist() == ["x to 2009"]


@given(st.dates(), st.integers(1, 9999))
@FEW
def test_the_age_in_a_year_is_that_at_its_middle(born, year):
    years = age_between(born.isoformat(), str(year))
    assert years == year - born.year - (born.month >= 7 and (born.month, born.day) > (7, 1))


# --- rows and suggestions ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["3", "150", "old", ""]), st.sampled_from(["m", "x", ""])), max_size=8))
@FEW
def test_a_row_is_unusable_only_if_a_label_is_wrong_and_none_is_right(rows):
    ages, genders = zip(*rows, strict=True) if rows else ((), ())
    read = labels_of("age: age, gender: gender", age=list(ages), gender=list(genders))
    wanted = [not (age in ("150", "old") or gender == "x") or age == "3" or gender == "m" for age, gender in rows]
    assert read.usable().tolist() == wanted
    assert len(read.unusable) == sum((age in ("150", "old")) + (gender == "x") for age, gender in rows)


@pytest.mark.parametrize(
    "content",
    [
        "photo_name,Sex\na.jpg,1\nb.jpg,2\n",
        "image_id,Male\na.jpg,-1\nb.jpg,1\n",
        "file,age_years,sex\na.jpg,3,f\nb.jpg,4,m\n",
    ],
)
def test_the_suggested_map_reads_the_table(content):
    table = pd.read_csv(io.StringIO(content), dtype=str).rename(columns=str.lower)
    found = parse_map(suggest(table, table.columns[0])[0])
    assert found.path == table.columns[0]
    read = read_labels(table, found.fields, "t.csv")
    assert read.unusable.empty and set(read.columns["gender"]) == {0, 1}


def test_a_column_named_for_a_class_is_that_class_where_it_is_larger():
    table = pd.DataFrame({"male": ["-1", "1"], "is_female": ["0", "1"]})
    assert suggest(table[["male"]], "") == ("gender: {column: male, -1: female, 1: male}", [])
    assert suggest(table[["is_female"]], "") == ("gender: {column: is_female, 0: male, 1: female}", [])


def test_a_map_that_guesses_what_numbers_mean_says_so(tmp_path):
    (tmp_path / "t.csv").write_text("photo,sex\na.png,0\nb.png,1\n")
    with pytest.raises(UnreadableData, match=r"would read it, if that is what the numbers of gender mean$"):
        read_faces(tmp_path / "t.csv")
