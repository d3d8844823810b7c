"""Downloads go through kagglehub, and a failed one says how to go on."""

import kagglehub
import pytest

from facelib.data.fetch import DATASETS, FetchFailed, fetch_dataset


def test_a_download_is_copied_into_place_and_kept(tmp_path, monkeypatch):
    downloaded = tmp_path / "kaggle"
    (downloaded / "UTKFace").mkdir(parents=True)
    (downloaded / "UTKFace" / "1_0_0_1.jpg").write_bytes(b"x")
    (downloaded / "crop_part1").mkdir()
    asked = []
    monkeypatch.setattr(kagglehub, "dataset_download", lambda name: asked.append(name) or str(downloaded))
    for _ in range(2):
        target = fetch_dataset("utkface", tmp_path / "raw")
        assert [path.name for path in target.iterdir()] == ["1_0_0_1.jpg"]
    assert asked == [DATASETS["utkface"][0]]


def test_a_failed_download_says_how_to_go_on(tmp_path, monkeypatch):
    def fail(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(kagglehub, "dataset_download", fail)
    with pytest.raises(FetchFailed, match="download it in a browser") as caught:
        fetch_dataset("utkface", tmp_path)
    assert DATASETS["utkface"][0] in str(caught.value) and "no route" not in str(caught.value)


def test_a_download_without_the_wanted_part_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kagglehub, "dataset_download", lambda name: str(tmp_path / "kaggle"))
    with pytest.raises(FetchFailed, match=r"holds no age_gender\.csv"):
        fetch_dataset("utkface-csv", tmp_path)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(FetchFailed, match="utkface or utkface-csv"):
        fetch_dataset("faces", tmp_path)
