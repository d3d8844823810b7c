"""Published splits matched to files."""

import pandas as pd
import pytest

from facelib.data.protocols import UNLISTED, bare_name, follow, identify, read_protocol
from facelib.data.readers import FaceSource, read_utkface
from facelib.data.splits import leaking_pairs, shared_with_training, split_listed
from facelib.errors import UnreadableData
from facelib.runs import project_root
from facelib.schema import UTKFACE_ATTRIBUTES

FACES = pd.DataFrame({"path": ["a/30_0_1_2017.jpg.chip.jpg", "31_1_0_2018 .jpg.chip.jpg", "32_1_0_2019jpg.chip.jpg"]})
SHARED = project_root().parent / "shared" / "data"


def write_split(folder, train, test, column="filename"):
    for name, files in (("train", train), ("test", test)):
        pd.DataFrame({column: files}).to_csv(folder / f"{name}.csv")


@pytest.mark.parametrize(
    "name", ["x/5_1_2_9.jpg.chip.jpg", "5_1_2_9 .jpg", "5_1_2_9jpg.chip.jpg", "5_1_2_9.PNG", "5_1_2_9"]
)
def test_spellings_of_one_name_are_one(name):
    assert bare_name(name) == "5_1_2_9"


def test_rows_are_matched_and_strangers_listed(tmp_path):
    write_split(tmp_path, ["30_0_1_2017.jpg", "99_0_0_1.jpg"], ["31_1_0_2018.jpg"])
    part, unmatched = read_protocol(tmp_path, FACES)
    assert part.tolist() == ["train", "test", ""]
    assert unmatched.to_numpy().tolist() == [["train", "99_0_0_1.jpg", "no file bears this name"]]


def test_a_face_that_both_lists_name_is_in_both(tmp_path):
    write_split(tmp_path, ["30_0_1_2017.jpg", "31_1_0_2018.jpg"], ["31_1_0_2018.jpg"])
    assert read_protocol(tmp_path, FACES)[0].tolist() == ["train", "both", ""]


def test_a_name_that_several_files_bear_matches_by_its_whole_path_only(tmp_path):
    faces = pd.DataFrame({"path": ["a/1.jpg", "b/1.jpg", "b/2.jpg"]})
    write_split(tmp_path, ["a/1.jpg", "2.jpg"], ["1.jpg"])
    part, unmatched = read_protocol(tmp_path, faces)
    assert part.tolist() == ["train", "", "train"]
    assert unmatched.to_numpy().tolist() == [["test", "1.jpg", "several files bear this name"]]


def test_a_split_that_names_no_file_at_hand_is_refused(tmp_path):
    write_split(tmp_path, ["x.jpg"], ["y.jpg"])
    with pytest.raises(UnreadableData, match=r"not one of the 2 names in .* e\.g\. 'x\.jpg'"):
        read_protocol(tmp_path, FACES)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b'filename\n"unclosed'])
def test_an_unreadable_list_is_refused(tmp_path, content):
    write_split(tmp_path, ["a.jpg"], ["b.jpg"])
    (tmp_path / "test.csv").write_bytes(content)
    with pytest.raises(UnreadableData, match=r"test\.csv cannot be read as a table"):
        read_protocol(tmp_path, FACES)


def test_a_missing_file_or_column_is_said(tmp_path):
    with pytest.raises(UnreadableData, match=r"no train\.csv"):
        read_protocol(tmp_path, FACES)
    write_split(tmp_path, ["a.jpg"], ["b.jpg"], column="picture")
    with pytest.raises(UnreadableData, match="no column of file names"):
        read_protocol(tmp_path, FACES)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "protocols").exists(), reason="the published split is not here")
def test_the_published_split_matches_all_files():
    faces = read_utkface(SHARED / "utkface" / "UTKFace").faces
    part, unmatched = read_protocol(SHARED / "protocols" / "coral_21_60", faces)
    assert unmatched.empty
    assert (part == "test").sum() == 3287 and (part == "train").sum() == 13_146
    # Byte-identical images on both sides, as published with the data.
    train, test = (set(faces.loc[part == name, "sha256"]) for name in ("train", "test"))
    assert faces.loc[part == "test", "sha256"].isin(train & test).sum() == 84


# --- following one ----------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path) -> FaceSource:
    faces = FACES.assign(image_id=FACES["path"], sha256=["aa", "bb", "cc"])
    return FaceSource(
        faces, pd.DataFrame({"item": ["broken.jpg"], "reason": ["is empty"]}), tmp_path, UTKFACE_ATTRIBUTES
    )


def test_the_listed_faces_are_followed_and_all_else_is_rejected_with_a_reason(tmp_path, source):
    write_split(tmp_path, ["30_0_1_2017.jpg", "99_0_0_1.jpg"], ["31_1_0_2018.jpg"])
    followed = follow(source, tmp_path)
    assert followed.faces["part"].tolist() == ["train", "test"]
    assert followed.rejected.to_numpy().tolist() == [
        ["broken.jpg", "is empty"],
        ["train.csv: 99_0_0_1.jpg", "no file bears this name"],
        ["32_1_0_2019jpg.chip.jpg", UNLISTED],
    ]


@pytest.mark.parametrize(("train", "test"), [(["x.jpg"], ["31_1_0_2018.jpg"]), (["31_1_0_2018.jpg"], ["x.jpg"])])
def test_a_list_without_one_face_of_the_data_is_refused(tmp_path, source, train, test):
    write_split(tmp_path, train, test)
    with pytest.raises(UnreadableData, match=r"not one name in .*(train|test)\.csv is a file of this data"):
        follow(source, tmp_path)


def test_the_digest_of_a_split_is_that_of_its_names(tmp_path):
    write_split(tmp_path, ["a.jpg", "b.jpg"], ["c.jpg"])
    first = identify(tmp_path)
    assert first["name"] == tmp_path.name and first["path"] == str(tmp_path.resolve())
    write_split(tmp_path, ["b.jpg", "a.jpg"], ["c.jpg"], column="image_id")
    assert identify(tmp_path) == first
    digests = {first["digest"]}
    for train, test in (
        (["a.jpg"], ["b.jpg", "c.jpg"]),
        (["a.jpg", "b.jpg"], ["d.jpg"]),
        (["c.jpg"], ["a.jpg", "b.jpg"]),
    ):
        write_split(tmp_path, train, test)
        digests.add(identify(tmp_path)["digest"])
    assert len(digests) == 4


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "protocols").exists(), reason="the published split is not here")
def test_the_published_split_is_followed_with_its_leaks_and_none_within_training():
    published = follow(read_utkface(SHARED / "utkface" / "UTKFace"), SHARED / "protocols" / "coral_21_60")
    faces = published.faces.reset_index(drop=True).assign(width=200, height=200)
    group_id = faces.groupby("sha256").ngroup().to_numpy()
    splits = split_listed(faces, group_id, UTKFACE_ATTRIBUTES, 0)
    assert (splits["split"] == "test").sum() == 3287 and len(splits) == 3287 + 13_146
    assert shared_with_training(splits).sum() == 84
    assert leaking_pairs(splits) >= 84 and leaking_pairs(splits[splits["split"] != "test"]) == 0
    assert (splits["split"] == "calibration").sum() == pytest.approx(13_146 * 0.05 / 0.88, rel=0.02)
