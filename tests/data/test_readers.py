"""Readers: every file or row becomes a face or a rejection with a reason, and none is lost."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facelib.data import published
from facelib.data.readers import read_faces
from facelib.errors import UnreadableData

SHARED = Path(__file__).resolve().parents[3] / "shared"
UTKFACE = SHARED / "data" / "utkface" / "UTKFace"
needs_utkface = pytest.mark.skipif(not UTKFACE.is_dir(), reason="the photographs are not beside the project")


def write_image(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 90, 40)).save(path, "JPEG")
    return path


def reasons(source) -> dict[str, str]:
    assert source.rejected["item"].is_unique
    return dict(zip(source.rejected["item"], source.rejected["reason"], strict=True))


# --- UTKFace's names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("26_1_2_20170116184024662.jpg.chip.jpg", (26, 1, 2)),
        ("116_0_4_20170117135032275.jpg.chip.jpg", (116, 0, 4)),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", (24, 0, 1)),  # a blank
        ("55_0_0_20170116232725357jpg.chip.jpg", (55, 0, 0)),  # a missing dot
        ("14_0_0_2017011022340900.jpg.chip.jpg", (14, 0, 0)),  # a short time
        ("28_1_2_201701161846515488.jpg.chip.jpg", (28, 1, 2)),  # a long one
        ("1_0_3_x.png", (1, 0, 3)),
        ("39_1_20170116174525125.jpg.chip.jpg", (39, 1, -1)),  # no ethnicity
        ("61_1_20170109150557335.jpg.chip.jpg", (61, 1, -1)),
        ("53__0_20170116184028385.jpg.chip.jpg", (53, -1, 0)),  # no gender
        ("53___20170116184028385.jpg.chip.jpg", (53, -1, -1)),
    ],
)
def test_labels_are_read_off_a_name(tmp_path, name, labels):
    faces = read_faces(write_image(tmp_path / name).parent).faces
    assert tuple(faces.loc[0, ["age", "gender", "ethnicity"]]) == labels


@pytest.mark.parametrize(
    "name",
    [
        "-5_1_0_20170116174525125.jpg",
        "IMG_1_0_20170116174525125.jpg",
        "20_1.jpg",
        "20_1_0.jpg",
        "portrait.jpg",
    ],
)
def test_a_name_that_does_not_open_with_labels_is_rejected(tmp_path, name):
    for each in (name, "1_0_3_x.png"):
        write_image(tmp_path / each)
    assert reasons(read_faces(tmp_path))[name].startswith("name is not of the form of a UTKFace folder")


def test_an_impossible_age_is_unknown_and_named(tmp_path):
    write_image(tmp_path / "117_0_0_20170116174525125.jpg")
    source = read_faces(tmp_path)
    assert source.faces["age"].isna().all() and source.faces["gender"].tolist() == [0]
    assert source.unusable["reason"].tolist() == ["age 117 is outside 0-116 years"]


# --- a folder ---------------------------------------------------------------------------------------------


def test_a_folder_is_read_at_any_depth_in_sorted_order(tmp_path):
    write_image(tmp_path / "part2" / "30_1_4_b.jpg", 1)
    write_image(tmp_path / "part1" / "7_0_2_a.JPG", 2)
    write_image(tmp_path / ".hidden" / "9_0_0_c.jpg", 3)
    write_image(tmp_path / ".5_0_0_d.jpg", 4)
    source = read_faces(tmp_path)
    faces = source.faces
    assert faces["image_id"].tolist() == ["part1/7_0_2_a.JPG", "part2/30_1_4_b.jpg"]
    assert faces[["age", "gender", "ethnicity"]].to_numpy().tolist() == [[7, 0, 2], [30, 1, 4]]
    assert faces["sha256"].tolist() == [
        hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() for path in faces["path"]
    ]
    assert source.items([1]) == [tmp_path / "part2" / "30_1_4_b.jpg"]
    assert source.rejected.empty


def test_every_unusable_file_is_rejected_with_its_reason(tmp_path):
    folder = tmp_path / "faces"
    write_image(folder / "30_1_4_good.jpg")
    write_image(folder / "portrait.jpg")
    write_image(folder / "200___20170116174525125.jpg")
    (folder / "30_1_0_empty.jpg").touch()
    (folder / "notes.txt").write_text("about these faces")
    (folder / "30_1_0_gone.jpg").symlink_to("nowhere.jpg")
    (folder / "30_1_0_loop.jpg").symlink_to("30_1_0_loop.jpg")
    (folder / "30_1_0_outside.jpg").symlink_to(write_image(tmp_path / "elsewhere.jpg"))
    (folder / "31_1_0_inside.jpg").symlink_to("30_1_4_good.jpg")
    os.mkfifo(folder / "30_1_0_pipe.jpg")
    source = read_faces(folder)
    assert source.faces["image_id"].tolist() == ["30_1_4_good.jpg", "31_1_0_inside.jpg"]
    found = reasons(source)
    assert found.pop("30_1_0_loop.jpg").startswith("cannot be read")
    assert found == {
        "portrait.jpg": published.UTKFACE.unlike,
        "200___20170116174525125.jpg": "age 200 is outside 0-116 years",
        "30_1_0_empty.jpg": "is empty",
        "notes.txt": "is not an image file by its name",
        "30_1_0_gone.jpg": "does not exist",
        "30_1_0_outside.jpg": "is a link that leads out of the data folder",
        "30_1_0_pipe.jpg": "is not a regular file",
    }


def test_a_file_without_read_permission_is_rejected(tmp_path):
    write_image(tmp_path / "30_1_4_good.jpg")
    locked = write_image(tmp_path / "30_1_4_locked.jpg")
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read every file")
    assert reasons(read_faces(tmp_path)) == {"30_1_4_locked.jpg": "cannot be read: Permission denied"}


def test_a_missing_or_faceless_source_says_what_to_give(tmp_path):
    with pytest.raises(UnreadableData, match=r"nothing at .*absent: give a UTKFace folder"):
        read_faces(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableData, match=r"no usable face \(0 rejected\)"):
        read_faces(tmp_path / "empty")
    write_image(tmp_path / "named" / "portrait.jpg")
    with pytest.raises(UnreadableData, match=r"\(1 rejected, e.g. 'portrait.jpg' name is not of the form"):
        read_faces(tmp_path / "named")


@pytest.mark.parametrize(("name", "content"), [("a.csv", b""), ("b.csv", b"\xff\xfe\x00"), ("c.parquet", b"PAR0"),
                                               ("d.doc", b"path,age\n"), ("e.csv", b'path,age\n"x,1\n')])  # fmt: skip
def test_a_file_that_is_no_table_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableData, match=name):
        read_faces(tmp_path / name)


# --- the 48 x 48 grey CSV ---------------------------------------------------------------------------------


def pixel_text(value: int = 7, count: int = 48 * 48, last: int | str = 9) -> str:
    return " ".join([str(value)] * (count - 1) + [str(last)])


@pytest.fixture
def grey_csv(tmp_path) -> Path:
    rows = [  # age, ethnicity, gender, img_name, pixels
        (20, 2, 1, "20170101.jpg.chip.jpg", pixel_text(7)),
        (30, 0, 0, "20170101.jpg.chip.jpg", pixel_text(8)),  # the same time, another face
        (40, 0, 0, "20170102.jpg.chip.jpg", pixel_text(count=2303)),
        (41, 0, 0, "20170103.jpg.chip.jpg", pixel_text(last=256)),
        (42, 0, 0, "20170104.jpg.chip.jpg", pixel_text(last=-1)),
        (43, 0, 0, "20170105.jpg.chip.jpg", pixel_text(last="x")),
        (200, 0, 0, "20170106.jpg.chip.jpg", pixel_text()),
        (44, 0, 2, "20170107.jpg.chip.jpg", pixel_text()),
        (45, 4, 0, "20170108.jpg.chip.jpg", ""),
        (50, 4, 0, "20170109.jpg.chip.jpg", pixel_text(255, last=0)),
    ]
    path = tmp_path / "age_gender.csv"
    pd.DataFrame(rows, columns=["age", "ethnicity", "gender", "img_name", "pixels"]).to_csv(path, index=False)
    return path


def test_rows_of_the_grey_csv_keep_their_labels_and_pixels(grey_csv):
    source = read_faces(grey_csv)
    faces = source.faces
    assert faces["image_id"].tolist() == [
        "000000_20170101.jpg.chip.jpg", "000001_20170101.jpg.chip.jpg", "000006_20170106.jpg.chip.jpg",
        "000007_20170107.jpg.chip.jpg", "000009_20170109.jpg.chip.jpg",
    ]  # fmt: skip
    labels = faces[["age", "gender", "ethnicity"]].fillna(-9).to_numpy().tolist()
    assert labels == [[20, 1, 2], [30, 0, 0], [-9, 0, 0], [44, -1, 0], [50, 0, 4]]
    for position, (value, last) in zip((0, 1, 4), [(7, 9), (8, 9), (255, 0)], strict=True):
        pixels = source.items([position])[0]
        assert pixels.shape == (48, 48) and pixels.dtype == np.uint8
        assert pixels[-1, -1] == last and (pixels.ravel()[:-1] == value).all()


def test_bad_rows_of_the_grey_csv_are_rejected_with_their_reason(grey_csv):
    found = {item[:6]: reason for item, reason in reasons(read_faces(grey_csv)).items()}
    assert found == {
        "000002": "has 2303 pixels instead of 2304",
        "000003": "pixels are outside 0-255",
        "000004": "pixels are outside 0-255",
        "000005": "pixels are not whole numbers",
        "000008": "pixels are not whole numbers",
    }


def test_a_wrong_label_of_the_grey_csv_is_unknown_and_named(grey_csv):
    unusable = read_faces(grey_csv).unusable
    assert unusable[["label", "value"]].to_numpy().tolist() == [["age", "200"], ["gender", "2"]]
    assert unusable["item"].str[:6].tolist() == ["000006", "000007"]


# --- tables -----------------------------------------------------------------------------------------------


def write_table(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


@pytest.fixture(params=["faces.csv", "faces.parquet"])
def table_path(request, tmp_path) -> Path:
    for shade in range(4):
        write_image(tmp_path / "photos" / f"{shade}.jpg", 50 * shade)
    return tmp_path / request.param


def test_a_table_may_name_classes_or_code_them_and_leave_labels_empty(table_path):
    table = pd.DataFrame(
        {
            "Path": [f"photos/{k}.jpg" for k in range(4)],
            "age": [0, 20.5, None, 116],
            "gender": ["female", "Male ", "F", None],
            "ethnicity": ["Indian", "white", "black", "Other"],
        }
    )
    faces = read_faces(write_table(table, table_path)).faces
    assert faces["age"].fillna(-9).tolist() == [0, 20.5, -9, 116]
    assert faces["gender"].tolist() == [1, 0, 1, -1]
    assert faces["ethnicity"].tolist() == [3, 0, 1, 4]


def test_codes_of_a_column_with_gaps_are_read_although_they_became_floats(table_path):
    table = pd.DataFrame({"path": ["photos/0.jpg", "photos/1.jpg"], "gender": [1.0, None]})
    faces = read_faces(write_table(table, table_path), labels="gender: {0: male, 1: female}").faces
    assert faces["gender"].tolist() == [1, -1]


@pytest.mark.parametrize(("column", "value"), [("age", 1), ("gender", "female"), ("ethnicity", "Black")])
def test_one_label_column_is_enough(table_path, column, value):
    source = read_faces(write_table(pd.DataFrame({"path": ["photos/1.jpg"], column: [value]}), table_path))
    assert [attribute.name for attribute in source.attributes] == [column]
    assert list(source.faces.columns) == ["image_id", "path", column, "source", "sha256"]
    assert source.faces[column].tolist() == [1] and source.faces[column].dtype == source.attributes[0].dtype


@pytest.mark.parametrize("columns", [["path"], ["age", "gender"], ["path", "smile"]])
def test_a_table_without_paths_or_labels_is_refused_with_its_columns(table_path, columns):
    table = pd.DataFrame({name: ["photos/1.jpg"] for name in columns})
    with pytest.raises(UnreadableData, match=f"columns {', '.join(columns)}: it needs `path`"):
        read_faces(write_table(table, table_path))


def test_paths_stay_below_the_image_folder_and_come_once(table_path, tmp_path):
    write_image(tmp_path.parent / "outside.jpg")
    (tmp_path / "photos" / "link.jpg").symlink_to(tmp_path.parent / "outside.jpg")
    paths = [
        "photos/1.jpg",
        "photos/../photos/1.jpg",  # the same file again
        "../outside.jpg",
        "photos/../../outside.jpg",
        str(tmp_path.parent / "outside.jpg"),
        str(tmp_path / "photos" / "2.jpg"),
        "https://example.org/face.jpg",
        "file:///etc/hosts",
        "photos/link.jpg",
        "photos/none.jpg",
        "photos",
        None,
    ]
    source = read_faces(write_table(pd.DataFrame({"path": paths, "age": 30}), table_path))
    assert source.faces["image_id"].tolist() == ["photos/1.jpg", "photos/2.jpg"]
    found = [reason for _, reason in sorted(source.rejected.itertuples(index=False), key=lambda row: row[0])]
    assert sorted(found) == sorted(
        ["path was listed before"]
        + ["path leads out of the image folder"] * 3
        + ["path is a URL; only local files are read"] * 2
        + ["is a link that leads out of the data folder", "does not exist", "is not a regular file", "path is empty"]
    )
    assert len(source.faces) + len(source.rejected) == len(paths)


def test_paths_may_be_relative_to_another_folder(tmp_path):
    write_image(tmp_path / "photos" / "a.jpg")
    (tmp_path / "tables").mkdir()
    table = write_table(pd.DataFrame({"path": ["a.jpg", "../b.jpg"], "age": [3, 4]}), tmp_path / "tables" / "t.csv")
    source = read_faces(table, images=tmp_path / "photos")
    assert source.faces["image_id"].tolist() == ["a.jpg"]
    assert source.items([0]) == [tmp_path / "photos" / "a.jpg"]
    assert reasons(source) == {"row 1: ../b.jpg": "path leads out of the image folder"}


def test_rows_in_which_no_label_can_be_used_are_rejected(table_path):
    table = pd.DataFrame(
        {
            "path": [f"photos/{k}.jpg" for k in range(4)],
            "age": ["old", "130", "-1", ""],
            "gender": ["", "other", "u", ""],
            "ethnicity": ["", "", "", "Martian"],
        }
    )
    with pytest.raises(UnreadableData, match=r"\(4 rejected, e.g. 'row 0: photos/0.jpg' age 'old' is not a number"):
        read_faces(write_table(table, table_path))


def test_bands_of_ages_are_read_from_either_column_where_the_age_is_not_known(table_path):
    table = pd.DataFrame(
        {
            "path": [f"photos/{k}.jpg" for k in range(5)],
            "age": ["20-29", "31", "", "more than 70", "40-30"],
            "age_band": ["", "30-39", "(4, 6)", "", ""],
        }
    )
    source = read_faces(write_table(table, table_path))
    assert reasons(source) == {"row 4: photos/4.jpg": "age '40-30' is not a number"}
    faces = source.faces
    np.testing.assert_array_equal(faces["age"], [np.nan, 31, np.nan, np.nan])
    np.testing.assert_array_equal(faces["age_from"], [20, np.nan, 4, 70])
    np.testing.assert_array_equal(faces["age_to"], [29, np.nan, 6, 116])


def test_a_column_of_bands_alone_makes_ages_an_attribute(table_path):
    table = pd.DataFrame({"path": ["photos/0.jpg"], "age_band": ["20-29"]})
    source = read_faces(write_table(table, table_path))
    assert [attribute.name for attribute in source.attributes] == ["age"] and source.faces["age"].isna().all()
    assert source.faces[["age_from", "age_to"]].to_numpy().tolist() == [[20, 29]]


def test_a_table_of_exact_ages_has_no_bands(table_path):
    source = read_faces(write_table(pd.DataFrame({"path": ["photos/0.jpg"], "age": [31]}), table_path))
    assert "age_from" not in source.faces


def test_a_path_with_a_null_character_is_rejected(tmp_path):
    write_image(tmp_path / "a.jpg")
    table = write_table(pd.DataFrame({"path": ["a.jpg", "a\0.jpg"], "age": [3, 4]}), tmp_path / "t.parquet")
    assert reasons(read_faces(table)) == {"row 1: a\\x00.jpg": "path holds a null character"}


# --- samples ----------------------------------------------------------------------------------------------


def test_a_sample_keeps_copies_together_and_goes_by_content_alone(tmp_path):
    for k in range(40):
        write_image(tmp_path / "one" / f"20_0_0_{k:02d}.jpg", 6 * (k // 2))  # each picture twice
        write_image(tmp_path / "two" / f"{k + 1}_1_3_{39 - k:02d}.jpg", 6 * (k // 2))  # other names and labels
    one, two = read_faces(tmp_path / "one"), read_faces(tmp_path / "two")
    sample = one.sample(10, seed=1)
    assert len(sample.faces) == 10 and (sample.faces["sha256"].value_counts() == 2).all()
    assert set(sample.faces["sha256"]) == set(two.sample(10, seed=1).faces["sha256"])
    assert set(sample.faces["sha256"]) != set(one.sample(10, seed=2).faces["sha256"])
    assert len(one.sample(9).faces) == 10 and one.sample(None) is one and one.sample(40) is one
    position = sample.faces.index[3]  # rows keep their positions in the source
    assert hashlib.sha256(sample.items([position])[0].read_bytes()).hexdigest() == sample.faces["sha256"].loc[position]


# --- the real photographs ---------------------------------------------------------------------------------


@pytest.mark.slow
@needs_utkface
def test_the_real_folder_has_23707_faces_3_of_them_without_ethnicity():
    source = read_faces(UTKFACE)
    assert len(source.faces) == 23_707 and source.rejected.empty
    assert set(source.faces.loc[source.faces["ethnicity"] == -1, "image_id"]) == {
        "39_1_20170116174525125.jpg.chip.jpg",
        "61_1_20170109142408075.jpg.chip.jpg",
        "61_1_20170109150557335.jpg.chip.jpg",
    }
    assert source.faces["image_id"].is_unique
    copies = source.faces["sha256"][source.faces["sha256"].duplicated(keep=False)]
    assert (copies.nunique(), len(copies)) == (375, 765)
    assert (source.faces["age"].min(), source.faces["age"].max()) == (1, 116)


@pytest.mark.slow
@needs_utkface
def test_the_grey_csv_of_the_real_folder_is_read_back(tmp_path):
    tool, path = SHARED / "tools" / "kaggle_csv.py", tmp_path / "grey.csv"
    subprocess.run([sys.executable, tool, UTKFACE, path, "--limit", "500"], check=True)
    source = read_faces(path)
    assert len(source.faces) == 500 and source.rejected.empty
    written = pd.read_csv(path)
    assert source.faces["age"].tolist() == written["age"].tolist()
    assert source.faces["ethnicity"].tolist() == written["ethnicity"].tolist()
    assert " ".join(map(str, source.items([499])[0].ravel())) == written["pixels"].iloc[499]
