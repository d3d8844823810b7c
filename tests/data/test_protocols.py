"""Published splits matched to files."""

import pandas as pd
import pytest

from facelib.data.protocols import bare_name, read_protocol
from facelib.data.readers import read_utkface
from facelib.errors import UnreadableData
from facelib.runs import project_root

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
    assert unmatched == ["99_0_0_1.jpg"]


def test_a_missing_file_or_column_is_said(tmp_path):
    with pytest.raises(UnreadableData, match=r"no train\.csv"):
        read_protocol(tmp_path, FACES)
    write_split(tmp_path, ["a.jpg"], ["b.jpg"], column="picture")
    with pytest.raises(UnreadableData, match="no column of file names"):
        read_protocol(tmp_path, FACES)


@pytest.mark.skipif(not (SHARED / "protocols").exists(), reason="the published split is not here")
def test_the_published_split_matches_all_but_one_file():
    faces = read_utkface(SHARED / "utkface" / "UTKFace").faces
    part, unmatched = read_protocol(SHARED / "protocols" / "coral_21_60", faces)
    assert len(unmatched) == 1
    assert (part == "test").sum() == 3287 and (part == "train").sum() == 13_145
    # Byte-identical images on both sides, as published with the data.
    train, test = (set(faces.loc[part == name, "sha256"]) for name in ("train", "test"))
    assert faces.loc[part == "test", "sha256"].isin(train & test).sum() == 84
