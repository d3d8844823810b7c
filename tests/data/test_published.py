"""Published forms: each is read in its names or its tables, and published cases give what they should."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from skimage.data import astronaut

from facelib.data.detection import find_faces
from facelib.data.ingest import read_data_sets
from facelib.data.pixels import cache_faces
from facelib.data.published import ALL_FORMS, FIVE_CLASSES, FORMS
from facelib.data.readers import read_faces
from facelib.errors import UnreadableData
from facelib.prediction.photos import UnreadablePhoto, list_photos, read_photo
from facelib.runs import DataSet
from facelib.schema import AGE, ETHNICITY, GENDER

SHARED = Path(__file__).resolve().parents[3] / "shared"
FAIRFACE = SHARED / "data" / "fairface"
needs_fairface = pytest.mark.skipif(not FAIRFACE.is_dir(), reason="the photographs are not beside the project")
needs_cases = pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the published cases are not here")
EXAMPLES = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def draw(path: Path) -> None:
    """A picture of its own colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = tuple(sum(map(ord, str(path))) * step % 256 for step in (1, 3, 7))
    Image.new("RGB", (8, 8), colour).save(path, "JPEG")


def faces_of(folder: Path, **options) -> pd.DataFrame:
    return read_faces(folder, **options).faces


# --- the cases that people published ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, SHARED / "cases" / "build_cases.py", folder], check=True)
    return folder


@pytest.fixture
def case(cases):
    """Read one of the cases."""
    return lambda name, **options: read_faces(cases / name, cases / "img", **options)


@needs_cases
def test_names_with_a_label_left_out_keep_the_others(case):
    faces = case("utkface").faces.set_index("image_id")
    assert faces.loc["61_1_20170109142408075.jpg.chip.jpg", ["age", "gender", "ethnicity"]].tolist() == [61, 1, -1]
    assert faces.loc["53__0_20170116184028385.jpg.chip.jpg", ["age", "gender", "ethnicity"]].tolist() == [53, -1, 0]


@needs_cases
def test_fairface_is_read_from_its_authors_table(case):
    source = case("fairface.csv")
    assert [attribute.name for attribute in source.attributes] == ["age", "gender", "race"]
    assert len(source.attributes[2].classes) == 7 and source.attributes[2].sensitive
    assert source.faces["age_from"].tolist() == [50, 3, 70, 0] and source.faces["age_to"].tolist() == [59, 9, 116, 2]
    assert source.faces["race"].tolist() == [3, 1, 2, 6]
    assert source.notes == ("columns that are not read: service_test",)
    five = case("fairface.csv", labels=FIVE_CLASSES)
    assert ETHNICITY in five.attributes and five.faces["ethnicity"].tolist() == [2, 1, 4, 4]
    assert any("with classes merged" in note for note in five.notes)


@needs_cases
def test_what_a_spreadsheet_made_of_bands_is_read_with_one_warning(case):
    source = case("fairface_mangled.csv")
    assert source.faces["age_from"].tolist() == [3, 10, 20] and source.rejected.empty
    assert sum("2 ages are dates" in note for note in source.notes) == 1


@needs_cases
def test_codes_need_a_map_that_is_shown(case):
    assert "gender" not in case("one_is_male.csv").faces
    (note,) = case("one_is_male.csv").notes
    assert note.startswith("WARNING: gender is left out") and "{0: male, 1: female}" in note
    assert case("one_is_male.csv", labels="gender: {0: female, 1: male}").faces["gender"].tolist() == [0, 1, 0]
    shown = "path: image_id, gender: {column: male, -1: female, 1: male}"
    with pytest.raises(UnreadableData, match=shown):
        case("minus_one.csv")
    assert case("minus_one.csv", labels=shown).faces["gender"].tolist() == [1, 0]


@needs_cases
def test_words_and_single_bad_labels_lose_no_row(case):
    assert case("gender_words.csv").faces["gender"].tolist() == [0, 1, 0, 1, 0, 1, -1]
    source = case("one_bad_label.csv")
    assert len(source.faces) == 4 and source.rejected.empty
    assert source.unusable[["label", "value"]].to_numpy().tolist() == [["age", "150"], ["ethnicity", "Martian"]]
    assert source.faces["gender"].tolist() == [0, 0, 1, 1]


@needs_cases
def test_of_two_ages_the_user_chooses(case):
    with pytest.raises(UnreadableData, match='"age: real_age" or --labels "age: apparent_age_avg"'):
        case("appa_real.csv")
    assert case("appa_real.csv", labels="age: real_age").faces["age"].tolist() == [4, 33]
    assert case("appa_real.csv", labels="age: apparent_age_avg").faces["age"].tolist() == [5.05, 29.4]


@needs_cases
def test_separators_decimal_commas_and_windows_paths_are_read(case):
    assert case("semicolon.csv").faces["age"].tolist() == [4, 31.5]
    assert case("tabs.tsv").faces["age"].tolist() == [4, 31]
    source = case("windows.csv")
    assert source.faces["path"].tolist() == ["train/1.jpg", "train/2.jpg"]
    assert "there is train/3.jpg" in source.rejected["reason"].iloc[0]


@needs_cases
def test_classes_of_ones_own_are_an_attribute_on_request(case):
    source = case("expression.csv", attributes=["expression"])
    assert source.attributes[-1].classes == ("happy", "neutral", "sad")
    assert source.faces["expression"].tolist() == [1, 0, 2, 1, 0, 2, 1, 0]
    assert "expression" in case("expression.csv").notes[0]  # named as not read


@needs_cases
def test_two_faces_of_one_photograph_are_cropped_by_their_boxes(case, cases, tmp_path):
    source = case("boxes.csv")
    assert source.faces["image_id"].tolist() == ["train/1.jpg#1", "train/1.jpg#2"]
    assert source.faces["sha256"].nunique() == 2 and source.faces["gender"].tolist() == [0, 1]
    images, faces, _ = cache_faces(source, 30, tmp_path)
    with Image.open(cases / "img/train/1.jpg") as opened:
        photo = np.asarray(opened.convert("RGB"))
    # The first box is 30 wide and 64 high: its middle square needs no resizing.
    np.testing.assert_array_equal(images[0], photo[17:47, 0:30])
    assert faces["width"].tolist() == [64, 64]


@needs_cases
def test_of_photographs_all_are_read_or_named(cases):
    files, left_out = list_photos([cases / "predict"])
    assert {path.suffix for path in files} >= {".jfif", ".heic", ".JPG"}
    assert len(left_out) == 1 and "notes.txt is not an image file" in left_out[0]
    reasons = {}
    for path in files:
        try:
            read_photo(path)
        except UnreadablePhoto as error:
            reasons[path.name] = str(error)
    assert list(reasons) == ["phone.heic"]


def test_a_copy_of_a_portrait_for_print_has_its_one_face(tmp_path):
    pytest.importorskip("dlib")
    Image.fromarray(astronaut()).convert("CMYK").save(tmp_path / "print.jpg")
    assert len(find_faces(read_photo(tmp_path / "print.jpg")[0]).faces) == 1


# --- tables in other spellings ----------------------------------------------------------------------------


@given(
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    case=st.sampled_from([str.lower, str.upper, str.title]),
)
@EXAMPLES
def test_a_table_is_read_in_any_separator_and_encoding(tmp_path, separator, encoding, ending, case):
    draw(tmp_path / "é.jpg")
    age = "31.5" if separator == "," else "31,5"
    lines = [separator.join(map(case, ("path", "age", "gender"))), separator.join(("é.jpg", age, "Male"))]
    (tmp_path / "t.csv").write_bytes(ending.join([*lines, ""]).encode(encoding))
    faces = faces_of(tmp_path / "t.csv")
    assert faces["age"].tolist() == [31.5] and faces["gender"].tolist() == [0]


def test_ages_that_contradict_the_names_beside_them_warn(tmp_path):
    for age in range(20, 60):
        draw(tmp_path / f"{age}_0_0_20170109142408075.jpg")
    names = sorted(path.name for path in tmp_path.iterdir())
    table = pd.DataFrame({"path": names, "age": [int(name[:2]) - 14 for name in names]})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert read_faces(tmp_path / "t.csv").notes == (
        "WARNING: ages differ from those in the file names for 100% of the rows, -14 years in 100% of them",
    )
    table.assign(age=table["age"] + 14).to_csv(tmp_path / "t.csv", index=False)
    assert read_faces(tmp_path / "t.csv").notes == ()


# --- names and folders ------------------------------------------------------------------------------------

NAMES = {
    "agedb": ("{n}_LeonardoDiCaprio_{age}_{g}.jpg", True),
    "cacd": ("{age}_Robin_Williams_{n:04}.jpg", False),
    "fg-net": ("{n:03}A{age:02}a.JPG", False),
    "morph": ("{n:06}_1{G}{age}.JPG", True),
    "utkface": ("{age}_{code}_0_20170109142408{n:03}.jpg", True),
    "imdb-wiki": ("nm{n:07}_rm1_{born}-1-3_2000.jpg", False),
}


@pytest.mark.parametrize("form", NAMES)
@given(ages=st.lists(st.integers(14, 62), min_size=2, max_size=3), female=st.booleans())
@EXAMPLES
def test_names_of_a_published_set_hold_its_labels(tmp_path_factory, form, ages, female):
    folder, (template, has_gender) = tmp_path_factory.mktemp("names"), NAMES[form]
    for n, age in enumerate(ages):
        facts = {"g": "mf"[female], "G": "MF"[female], "code": int(female), "born": 2000 - age}
        draw(folder / template.format(n=n, age=age, **facts))
    draw(folder / "portrait.jpg")
    source = read_faces(folder)
    assert sorted(source.faces["age"]) == sorted(ages) and set(source.faces["source"]) == {form}
    assert source.rejected["item"].tolist() == ["portrait.jpg"]
    assert ("gender" in source.faces) == has_gender
    if has_gender:
        assert (source.faces["gender"] == female).all()


def test_folders_named_for_classes_are_labels(tmp_path):
    for name in ("0-2/female/a.jpg", "60+/male/b.jpg", "31/c.jpg", "rest/d.jpg"):
        draw(tmp_path / name)
    source = read_faces(tmp_path)
    faces = source.faces.set_index("path")
    assert faces.loc["0-2/female/a.jpg", ["age_from", "age_to", "gender"]].tolist() == [0, 2, 1]
    assert (
        faces.loc["60+/male/b.jpg", ["age_from", "gender"]].tolist() == [60, 0] and faces.loc["31/c.jpg", "age"] == 31
    )
    assert source.rejected["item"].tolist() == ["rest/d.jpg"]


def test_a_map_reads_names_of_ones_own(tmp_path):
    draw(tmp_path / "x-f-31.jpg")
    faces = faces_of(tmp_path, labels=r"name: 'x-(?P<gender>[mf])-(?P<age>\d+)\.jpg'")
    assert faces[["age", "gender"]].to_numpy().tolist() == [[31, 1]]


# --- tables of published sets -----------------------------------------------------------------------------


def test_adience_is_read_from_its_folds(tmp_path):
    for face, name in ((1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg")):
        draw(tmp_path / f"faces/30601258@N03/coarse_tilt_aligned_face.{face}.{name}")
    header = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\n"
    rows = ["a.jpg\t1\t(25, 32)\tf\t0\t0\t5\t5", "b.jpg\t2\tNone\tu\t0\t0\t5\t5", "c.jpg\t3\t35\tm\t0\t0\t5\t5"]
    for fold in (0, 1):
        content = header + "".join(f"30601258@N03\t{row}\n" for row in rows[2 * fold : 2 * fold + 2])
        (tmp_path / f"fold_{fold}_data.txt").write_text(content)
    source = read_faces(tmp_path)
    np.testing.assert_array_equal(source.faces["age_from"], [25, np.nan, np.nan])
    np.testing.assert_array_equal(source.faces["age"], [np.nan, np.nan, 35])
    assert source.faces["gender"].tolist() == [1, -1, 0] and source.rejected.empty


def test_imdb_wiki_is_read_from_its_struct(tmp_path):
    for name in ("17/a.jpg", "17/b.jpg"):
        draw(tmp_path / name)
    days = [723671.0, 703186.0]  # Matlab's 1981-05-05 and 1925-04-04
    names = np.empty((1, 2), object)
    names[0, 0], names[0, 1] = "17/a.jpg", "17/b.jpg"
    wiki = {"dob": [days], "photo_taken": [[2009.0, 1964.0]], "full_path": names, "gender": [[1.0, np.nan]]}
    savemat(tmp_path / "wiki.mat", {"wiki": wiki})
    faces = faces_of(tmp_path)
    assert faces["age"].tolist() == [28, 39] and faces["gender"].tolist() == [0, -1]


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_celeba_is_read_from_its_attribute_list(tmp_path, suffix):
    for name in ("000001.jpg", "000002.jpg"):
        draw(tmp_path / "img_align_celeba" / name)
    names, rows = ["5_o_Clock_Shadow", "Male", "Smiling", "Young"], [[-1, 1, 1, -1], [-1, -1, -1, 1]]
    if suffix == "txt":
        lines = ["2", " ".join(names), *(f"00000{n}.jpg  " + "  ".join(map(str, row)) for n, row in enumerate(rows, 1))]
    else:
        lines = [
            ",".join(["image_id", *names]),
            *(f"00000{n}.jpg,{','.join(map(str, row))}" for n, row in enumerate(rows, 1)),
        ]
    (tmp_path / f"list_attr_celeba.{suffix}").write_text("\n".join(lines) + "\n")
    source = read_faces(tmp_path, attributes=["Smiling"])
    assert source.faces["gender"].tolist() == [0, 1] and source.faces["smiling"].tolist() == [1, 0]
    assert source.attributes[-1].classes == ("-1", "1")


def test_lfw_is_read_from_its_attribute_scores(tmp_path):
    draw(tmp_path / "Aaron_Eckhart" / "Aaron_Eckhart_0001.jpg")
    (tmp_path / "lfw_attributes.txt").write_text(
        "# LFW attributes\n#\tperson\timagenum\tMale\tAsian\nAaron Eckhart\t1\t1.57\t-1.9\n"
    )
    assert faces_of(tmp_path)["gender"].tolist() == [0]


def test_appa_real_is_read_from_its_folder(tmp_path):
    draw(tmp_path / "train/000000.jpg_face.jpg")
    (tmp_path / "gt_avg_train.csv").write_text(
        "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n000000.jpg,36,5.05,1.2,4\n"
    )
    assert faces_of(tmp_path, labels="age: real_age")["path"].tolist() == ["train/000000.jpg_face.jpg"]


def test_every_form_says_how_it_is_recognised_and_where_its_terms_stand():
    assert all(form.recognised and form.terms and form.map is not None for form in ALL_FORMS)
    assert {"fairface", "adience", "imdb-wiki", "agedb", "cacd", "fg-net", "morph", "appa-real", "lfw", "celeba",
            "folders", "utkface", "grey-csv", "table"} == {form.name for form in ALL_FORMS}  # fmt: skip


# --- several data sets ------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path) -> list[DataSet]:
    """A UTKFace folder and a FairFace folder, and a table with an expression."""
    for name in ("31_1_2_20170109142408075.jpg", "4_0_0_20170109142408076.jpg"):
        draw(tmp_path / "utk" / name)
    for number in (1, 2):
        draw(tmp_path / "fair" / f"train/{number}.jpg")
    pd.DataFrame(
        {"file": ["train/1.jpg", "train/2.jpg"], "age": ["20-29", "more than 70"], "gender": ["Male", "Female"],
         "race": ["Indian", "Black"], "service_test": [True, False]}
    ).to_csv(tmp_path / "fair/fairface_label_train.csv", index=False)  # fmt: skip
    return [DataSet(str(tmp_path / "utk")), DataSet(str(tmp_path / "fair"))]


def test_data_sets_are_read_as_one_and_each_row_knows_its_source(two, tmp_path):
    source = read_data_sets(two)
    faces = source.faces
    assert [attribute.name for attribute in source.attributes] == ["age", "gender", "ethnicity", "race"]
    assert faces["source"].tolist() == ["utkface", "utkface", "fairface", "fairface"]
    assert faces["image_id"].str.startswith(("utkface/", "fairface/")).all() and faces["image_id"].is_unique
    assert faces["gender"].tolist() == [1, 0, 0, 1] and faces["ethnicity"].tolist() == [2, 0, -1, -1]
    assert faces["race"].tolist() == [-1, -1, 5, 1]
    np.testing.assert_array_equal(faces["age_from"], [np.nan, np.nan, 20, 70])
    assert [path.name for path in source.items([3, 0])] == ["2.jpg", "31_1_2_20170109142408075.jpg"]
    images, decoded, _ = cache_faces(source.sample(3), 32, tmp_path / "cache")
    assert len(images) == len(decoded) == 3


def test_a_map_gives_two_data_sets_one_attribute(two):
    source = read_data_sets([two[0], dataclasses.replace(two[1], labels=FIVE_CLASSES)])
    assert source.faces["ethnicity"].tolist() == [2, 0, 3, 1] and ETHNICITY in source.attributes


def test_classes_of_one_name_are_united(tmp_path):
    for name, texts in (("one", ["happy", "sad"]), ("two", ["angry", "Happy"])):
        draw(tmp_path / name / "a.jpg")
        draw(tmp_path / name / "b.jpg")
        table = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "expression": texts})
        table.to_csv(tmp_path / name / "t.csv", index=False)
    source = read_data_sets([DataSet(str(tmp_path / name / "t.csv")) for name in ("one", "two")], ["expression"])
    assert source.attributes[0].classes == ("happy", "sad", "angry")
    assert source.faces["expression"].tolist() == [0, 1, 2, 0]
    assert source.faces["source"].tolist() == ["one", "one", "two", "two"]


# --- FairFace in the original -----------------------------------------------------------------------------


@pytest.mark.slow
@needs_fairface
def test_the_real_fairface_is_read_whole():
    source = read_faces(FAIRFACE)
    assert len(source.faces) == 39_994 and source.rejected.empty and source.unusable.empty
    assert source.faces["race"].nunique() == 7 and (source.faces["race"] >= 0).all()
    assert len(source.faces[["age_from", "age_to"]].drop_duplicates()) == 9 and source.faces["age_from"].notna().all()
    assert (AGE.labelled_in(source.faces).exact, GENDER in source.attributes) == (False, True)


def test_there_is_one_list_of_forms():
    assert set(FORMS) < set(ALL_FORMS)
