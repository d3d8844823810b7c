"""Collection sessions: read from names or a column, dealt whole, held out without leaks; the nearest in time."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facelib.data.readers import read_faces
from facelib.data.sessions import SESSION_GAP, collection_times, has_sessions, nearest_in_time, sessions_of
from facelib.data.sources import join
from facelib.data.splits import deal_sessions, hold_out, session_finding, split_faces, split_run, split_sessions
from facelib.errors import MissingFromRun, UnknownSetting
from facelib.runs import start_run
from facelib.schema import AGE, SPLITS, UTKFACE_ATTRIBUTES


def test_times_of_unusual_names_are_read_and_others_are_empty():
    names = ["1_0_0_2017011617402465.jpg", "9_1_20170109142408075.jpg", "9_1_2_201701161840246624.jpg", "7_1_1_a.jpg"]
    expected = ["2017-01-16T17:40:24.650", "2017-01-09T14:24:08.075", "2017-01-16T18:40:24.662", ""]
    assert collection_times(pd.Series([*names, "1_1_1_99999999999999.jpg"])).tolist() == [*expected, ""]


def test_a_session_ends_after_the_gap_whatever_the_order_of_rows():
    begin = pd.Timestamp("2017-01-01T00:00:00")
    times = begin + pd.to_timedelta([0, SESSION_GAP, 2 * SESSION_GAP + 1, 2 * SESSION_GAP + 2], unit="s")
    collected = pd.Series([time.isoformat(timespec="milliseconds") for time in times] + [""])
    sessions = sessions_of(collected[::-1])[::-1]
    assert sessions.tolist() == [*["2017-01-01T00:00:00"] * 2, *["2017-01-01T01:00:01"] * 2, ""]


def write_image(path):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (len(path.name), 3, 9)).save(path)


def stamped(folder, days=(16, 17)):
    for day in days:
        for second in range(3):
            write_image(folder / f"{day}_0_1_201701{day}0000{second:02d}000.jpg")
    return folder


def test_a_folder_of_stamped_names_has_sessions_and_other_names_have_none(tmp_path):
    faces = read_faces(stamped(tmp_path)).faces
    assert faces["session"].tolist() == [*["2017-01-16T00:00:00"] * 3, *["2017-01-17T00:00:00"] * 3]
    assert faces["collected"].iloc[1] == "2017-01-16T00:00:01.000" and has_sessions(faces)
    other = tmp_path / "other"
    write_image(other / "31_0_1_portrait.jpg")
    plain = read_faces(other).faces
    assert "session" not in plain and not has_sessions(plain)


def test_a_column_of_a_table_gives_sessions_and_joined_sources_keep_theirs_apart(tmp_path):
    for name in "abc":
        write_image(tmp_path / f"{name}.png")
    table = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "age": [1, 2, 3], "batch": ["x", "y", None]})
    table.to_csv(tmp_path / "faces.csv", index=False)
    source = read_faces(tmp_path / "faces.csv", labels="session: batch")
    assert source.faces["session"].tolist() == ["x", "y", ""] and "collected" not in source.faces
    assert not any("batch" in note for note in source.notes)  # a column that is read
    folder = stamped(tmp_path / "utk")
    joined = join([source, read_faces(folder)]).faces
    assert joined["session"].nunique() == 5 and (joined["collected"] != "").sum() == 6  # x, y, two days, none


def test_the_nearest_in_time_are_those_of_a_full_search():
    rng = np.random.default_rng(0)
    known, asked = rng.integers(0, 500, 60).astype(float), rng.integers(-50, 550, 40).astype(float)
    found = nearest_in_time(known, asked, 7)
    assert all(len(set(row)) == 7 for row in found.tolist())
    distances = np.sort(np.abs(known[:, None] - asked), axis=0)[:7].T
    assert (np.abs(known[found] - asked[:, None]) == distances).all()
    assert nearest_in_time(known[:3], asked, 7).shape == (40, 3)


# --- splits by session ------------------------------------------------------------------------------------


def session_faces(n: int = 3000, sessions: int = 40) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Faces whose ages depend on their session, copies and persons that cross sessions."""
    rng = np.random.default_rng(0)
    number = rng.integers(0, sessions, n)
    ages = (number * 7 + rng.integers(0, 10, n)) % 90
    columns = {"image_id": [f"{row}.jpg" for row in range(n)], "age": ages.astype(float)}
    columns |= {"gender": rng.integers(0, 2, n), "ethnicity": rng.integers(0, 5, n), "width": 10, "height": 10}
    group_id, person_id = np.arange(n), np.arange(n)
    group_id[rng.choice(n, 60, replace=False)] = np.repeat(np.arange(30), 2)
    person_id[rng.choice(n, 200, replace=False)] = np.repeat(np.arange(100), 2)
    return pd.DataFrame(columns).assign(session=[f"s{k}" for k in number]), group_id, person_id


def test_whole_sessions_are_tested_and_nothing_of_theirs_is_trained_on():
    faces, group_id, person_id = session_faces()
    splits = split_sessions(faces, group_id, UTKFACE_ATTRIBUTES, 0, person_id)
    tested = (splits["split"] == "test").to_numpy()
    scored = tested & splits["representative"].to_numpy()
    held = set(faces["session"][scored])
    assert tested[faces["session"].isin(held)].all()
    assert (tested & ~faces["session"].isin(held)).sum() > 5  # planted: their persons in other sessions, not scored
    assert scored.mean() == pytest.approx(SPLITS["test"], abs=0.02)
    assert splits["split"].groupby(splits["person_id"]).nunique().max() == 1
    usual = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, 0, person_id=person_id)
    assert session_finding(faces, usual).estimate.value == 1 and session_finding(faces, splits).estimate.value == 0
    assert session_finding(faces.drop(columns="session"), usual).estimate is None
    mixed = faces.assign(session=faces["session"].where(np.arange(len(faces)) % 2 == 0))  # the others name none
    tested = (usual["split"] == "test") & usual["representative"] & mixed["session"].notna()
    assert session_finding(mixed, usual).estimate.n == tested.sum() > 0


def test_a_copy_within_the_held_out_rows_represents_its_group():
    faces = pd.DataFrame({"image_id": list("abcd"), "age": 3.0, "gender": 0, "ethnicity": 0, "height": 9})
    faces["width"] = [50, 10, 10, 10]  # of the two copies the one that is not tested has more pixels
    splits = hold_out(faces, np.array([False, True, False, False]), np.array([0, 0, 1, 2]), UTKFACE_ATTRIBUTES, 0)
    assert splits["split"].tolist()[:2] == ["test", "test"] and "test" not in splits["split"].tolist()[2:]
    assert splits["representative"].tolist()[:2] == [False, True]


def test_sessions_are_dealt_whole_in_proportion_and_evenly():
    faces, _, _ = session_faces(6000, 100)
    part = deal_sessions(faces, [0.2] * 5, [AGE], 0)
    assert pd.Series(part).groupby(faces["session"]).nunique().max() == 1
    assert np.bincount(part) / len(part) == pytest.approx([0.2] * 5, abs=0.02)
    young = [(faces["age"][part == number] < 30).mean() for number in range(5)]
    assert np.ptp(young) < 0.2
    some = faces.assign(session=faces["session"].where(faces.index >= 100, ""))
    assert (deal_sessions(some, [0.5, 0.5], [AGE], 0)[:100] == -1).all()


def test_a_run_by_sessions_needs_sessions_and_has_a_seed_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path))
    faces, group_id, person_id = session_faces(600)
    run = start_run("own", "smoke", overrides={"split": "sessions", "split_seed": "7", "seed": "1"})
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    splits = split_run(run, faces, group_id, person_id)
    assert splits.equals(split_sessions(faces, group_id, UTKFACE_ATTRIBUTES, 7, person_id))
    with pytest.raises(UnknownSetting, match="do not tell two sessions apart"):
        split_run(run, faces.drop(columns="session"), group_id, person_id)
    usual = start_run("usual", "smoke", overrides={"seed": "1"})
    usual.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    expected = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, 1, person_id=person_id)
    assert split_run(usual, faces, group_id, person_id).equals(expected)


def test_a_run_keeps_another_runs_split_if_there_is_one_and_nothing_else_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path))
    faces, group_id, person_id = session_faces(600)
    faces = faces.assign(sha256=[f"content {k}" for k in range(len(faces))])
    with pytest.raises(MissingFromRun, match="no run 'usual' yet"):
        start_run("like", "smoke", overrides={"split_of": "usual"})
    usual = start_run("usual", "smoke", overrides={"seed": "1"})
    usual.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    usual.save_table(faces, "faces")
    usual.save_table(splits := split_run(usual, faces, group_id, person_id), "splits")
    like = start_run("like", "smoke", overrides={"split_of": "usual", "seed": "2"})
    like.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    kept = split_run(like, faces, group_id, person_id)
    assert kept[["split", "representative"]].equals(splits[["split", "representative"]])
    both = start_run("both", "smoke", overrides={"split_of": "usual", "split": "sessions"})
    with pytest.raises(UnknownSetting, match="leave out --protocol and split sessions"):
        split_run(both, faces, group_id, person_id)
