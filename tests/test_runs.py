"""The run folder: files whole or absent, results gathered, missing files asked for by their notebook's name."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import yaml

from facelib import runs, schema
from facelib.errors import DamagedRun, MissingFromRun, RunConflict
from facelib.finding import Finding
from facelib.runs import DataSet, digest_of_faces, found_before, open_run, processor, start_run
from facelib.statistics import Estimate
from facelib.storage import atomic_path, write_text

HALF = Estimate(0.5, 0.4, 0.6, 10)


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    """An empty folder of runs, and no run or profile named by the environment."""
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    for name in ("FACELIB_RUN", "FACELIB_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "runs"


def files(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- whole or not at all ----------------------------------------------------------------------------------


def test_a_writer_that_raises_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="midway"), atomic_path(tmp_path / "deep" / "new.txt") as partial:
        partial.write_text("half")
        raise RuntimeError("midway")
    assert files(tmp_path) == []


def test_a_writer_that_raises_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "old.txt", "whole")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "old.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert files(tmp_path) == ["old.txt"] and (tmp_path / "old.txt").read_text() == "whole"


def test_tables_figures_and_checkpoints_are_whole_or_absent():
    run = start_run("r", "smoke")
    before = files(run.path)

    def stop_midway(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.save_checkpoint(stop_midway, "model.safetensors")
    with pytest.raises(Exception, match="mixed"):  # a column that parquet cannot hold
        run.save_table(pd.DataFrame({"mixed": [1, "text", {2}]}), "faces")
    with pytest.raises(AttributeError):
        run.notebook("01_explore").show(None, "ages")
    assert files(run.path) == before


def test_written_files_are_readable_as_the_umask_allows(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "atomic", "")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


# --- what goes in comes out -------------------------------------------------------------------------------


def test_tables_arrays_and_checkpoints_round_trip():
    run = start_run("r", "smoke")
    table = pd.DataFrame({"image_id": ["a", "b"], "age": [1.5, np.nan], "gender": np.array([0, -1], "int8")})
    assert not run.table_path("faces").exists()
    run.save_table(table, "faces")
    run.save_table(table[["image_id"]], "rejected.csv")
    run.save_array(np.arange(6.0).reshape(2, 3), "embeddings")
    run.save_checkpoint(lambda path: path.write_bytes(b"weights"), "model.safetensors")
    pd.testing.assert_frame_equal(run.load_table("faces"), table)
    assert run.load_table("rejected.csv")["image_id"].tolist() == ["a", "b"]
    assert run.load_array("embeddings").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert run.require("checkpoints/model.safetensors").read_bytes() == b"weights"
    assert run.table_path("faces").exists() and run.table_path("rejected.csv").name == "rejected.csv"


def test_a_figure_is_named_by_its_notebook_and_repeats_bit_for_bit():
    run = start_run("r", "smoke")
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    figure.subplots().imshow(np.eye(3))
    written = []
    for _ in range(2):
        assert run.notebook("01_explore").show(figure, "pixels", raster=True) is figure
        written.append((run.path / "figures" / "01_pixels.png").read_bytes())
    assert written[0] == written[1]


def test_results_gather_every_notebooks_headline_and_take_the_latest():
    run = start_run("r", "smoke")
    assert run.results() == {}
    pairs = Finding("split.leaks", "No pair of copies crosses the split.", n=300)
    run.notebook("02_clean").save({"splits.leaking_pairs": Estimate(0, 0, 0, 300)}, [pairs], by_kind={"exact": 4})
    evaluation, estimate = run.notebook("05_evaluate"), Estimate(5.0, 4.0, 6.0, 36, "years")
    evaluation.save({"test.age.mae": HALF, "test.gender.auc": HALF})
    age = Finding("test.age", "Age is off by 5 years.", estimate)
    evaluation.save({"test.age.mae": estimate}, [age])
    assert run.results() == {"splits.leaking_pairs": Estimate(0, 0, 0, 300), "test.age.mae": estimate}
    assert run.findings() == {"split.leaks": pairs, "test.age": age}
    assert run.details("02_clean") == {"by_kind": {"exact": 4}} and run.details("08_explain") == {}


def test_results_of_a_notebook_that_does_not_exist_are_refused():
    with pytest.raises(ValueError, match="05_bias"):
        start_run("r", "smoke").notebook("05_bias")


def test_attributes_come_from_the_data_and_stand_in_the_parameters():
    run = start_run("r", "smoke")
    with pytest.raises(MissingFromRun, match="'r' has no faces yet: run notebook 01_explore"):
        run.attributes  # noqa: B018
    smile = schema.ClassAttribute("expression", classes=("neutral", "smiling"))
    run.set_attributes((schema.AGE, smile), (smile,))
    assert open_run("r").attributes == (schema.AGE, smile) and open_run("r").learned == (smile,)
    path = run.path / "params.yaml"
    path.write_text(path.read_text().replace("kind: years", "kind: minutes"))
    with pytest.raises(DamagedRun, match="is not an attribute"):
        open_run("r")


def test_results_hold_no_time_so_that_they_repeat_bit_for_bit():
    run = start_run("r", "smoke")
    run.notebook("02_clean").save({"data.images": HALF})
    before = (run.path / "results.json").read_bytes()
    with run.timed("training", images=100):
        pass
    run.notebook("02_clean").save({"data.images": HALF})
    assert (run.path / "results.json").read_bytes() == before
    timing = json.loads((run.path / "timings.json").read_text())["training"]
    assert timing["seconds"] >= 0 and timing["images_per_second"] > 100


def test_notebooks_that_run_at_once_lose_nothing_that_another_wrote():
    name = start_run("small", "smoke").name
    keys = [f"{notebook}.{part}" for notebook in schema.BRANCHES for part in range(5)]

    def note(notebook: str) -> None:
        run = open_run(name)
        for part in range(5):
            run.record_time(f"{notebook}.{part}", 1.0)
            run.log_test_read(notebook, [f"{notebook}{part}.jpg"])
        run.notebook(notebook).save({f"{notebook}.half": HALF})

    with ThreadPoolExecutor(len(schema.BRANCHES)) as pool:
        list(pool.map(note, schema.BRANCHES))
    run = open_run(name)
    assert sorted(json.loads((run.path / "timings.json").read_text())) == sorted(keys)
    assert len(runs.read_readings(run.path / runs.READINGS)) == len(keys)
    assert run.results() == {f"{notebook}.half": HALF for notebook in sorted(schema.BRANCHES)}
    assert not list(run.path.glob(".*"))


def test_each_reading_of_the_test_split_is_logged():
    run = start_run("r", "smoke")
    (run.path / "test_reads.csv").write_text("date,notebook,commit,profile\n2020-01-01T00:00:00+00:00,05,abc,full\n")
    run.log_test_read("05_evaluate", ["b.jpg", "a.jpg"])
    run.log_test_read("06_groups", ["a.jpg", "b.jpg"])
    log = pd.read_csv(run.path / "test_reads.csv", dtype=str, keep_default_na=False)
    assert log["notebook"].tolist() == ["05", "05_evaluate", "06_groups"]  # a log of before is continued
    assert log["n"].tolist() == ["", "2", "2"] and log["faces"][1] == log["faces"][2] == digest_of_faces(
        ["a.jpg", "b.jpg"]
    )
    log = log[1:]
    assert log["profile"].tolist() == ["smoke"] * 2 and log["commit"].notna().all()
    assert pd.to_datetime(log["date"]).dt.tz is not None


# --- what is missing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "notebook"), schema.MADE_BY.items())
def test_a_missing_file_is_asked_for_by_the_notebook_that_makes_it(name, notebook):
    with pytest.raises(MissingFromRun, match=f"'r' has no {name} yet: run notebook {notebook} first"):
        start_run("r", "smoke").require(name)


def test_loading_what_is_missing_says_so():
    run = start_run("r", "smoke")
    with pytest.raises(MissingFromRun, match=r"splits\.parquet.*02_clean"):
        run.load_table("splits")
    with pytest.raises(MissingFromRun, match=r"embeddings\.npy.*03_train"):
        run.load_array("embeddings")
    with pytest.raises(MissingFromRun, match="05_evaluate"):
        run.load_metrics("05_evaluate")


def test_opening_a_run_that_is_not_there_names_the_first_notebook(runs_folder):
    with pytest.raises(MissingFromRun, match=r"no run 'nowhere'.*01_explore"):
        open_run("nowhere")
    assert not runs_folder.exists()


# --- parameters -------------------------------------------------------------------------------------------


def test_runs_live_where_the_environment_says(runs_folder, tmp_path, monkeypatch):
    assert start_run("here", "smoke").path == runs_folder / "here"
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "elsewhere"))
    assert start_run("there", "smoke").path == tmp_path / "elsewhere" / "there"
    monkeypatch.setenv("FACELIB_RUNS", "")
    assert runs.runs_root() == runs.project_root() / "runs"


def test_run_and_profile_come_from_the_call_then_the_environment_then_demo(monkeypatch):
    assert runs.run_name() == ("demo", "demo")
    monkeypatch.setenv("FACELIB_PROFILE", "smoke")
    assert runs.run_name() == ("smoke", "smoke")
    monkeypatch.setenv("FACELIB_RUN", "trial")
    assert runs.run_name() == ("trial", "smoke")
    assert runs.run_name("mine", "full") == ("mine", "full")


def test_the_commit_is_marked_where_a_tracked_file_differs(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "project_root", lambda: tmp_path)
    assert runs.git_commit() == "unknown"
    (tmp_path / "tracked").write_text("one")
    git = ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for command in (["init", "-q"], ["add", "tracked"], ["commit", "-qm", "first"], ["tag", "-am", "first", "v1"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    (tmp_path / "untracked").touch()
    assert runs.git_commit() == head[:12]
    (tmp_path / "tracked").write_text("two")
    assert runs.git_commit() == f"{head[:12]}+"


def test_a_run_remembers_its_resolved_parameters(tmp_path):
    run = start_run("r", "smoke", str(tmp_path / "faces"), {"epochs": "3", "learning_rate": "1e-5"})
    stored = yaml.safe_load((run.path / "params.yaml").read_text())
    assert stored["settings"]["training"]["epochs"] == 3 and stored["settings"]["profile"] == "smoke"
    assert stored["data"]["path"] == str((tmp_path / "faces").resolve())
    assert set(stored["versions"]) == {"python", *runs.VERSIONED}
    assert open_run("r").settings == run.settings and open_run("r").settings.training.learning_rate == 1e-5
    assert not run.is_synthetic and run.label == ""
    assert start_run("drawn", "smoke").label == "synthetic faces"


def test_parameters_are_merged_one_level_deep():
    run = start_run("r", "smoke")
    before = run.params["data"] | {}
    run.update_params(data={"fingerprint": 20 * "a"}, remark="kept")
    stored = open_run("r").params
    assert stored["data"] == before | {"fingerprint": 20 * "a"} and stored["remark"] == "kept"


def test_the_same_call_opens_the_same_run(tmp_path):
    made = start_run("r", "smoke", str(tmp_path), {"epochs": 3})
    again = start_run("r", "smoke", str(tmp_path), {"epochs": "3"})
    assert again.params == made.params
    assert start_run("r").params == made.params  # nothing asked, nothing to conflict with


@pytest.mark.parametrize(
    ("profile", "data", "overrides", "what"),
    [
        ("demo", "", None, r"profile \(smoke\).*"),
        ("smoke", "", {"epochs": 5}, r"epochs \(3\)"),
        ("smoke", "other", {"epochs": 3}, "data"),
        ("demo", "other", None, r"data, profile \(smoke\)"),
    ],
)
def test_other_parameters_conflict_with_an_existing_run(tmp_path, profile, data, overrides, what):
    made = start_run("r", "smoke", str(tmp_path), {"epochs": 3})
    with pytest.raises(RunConflict, match=f"'r' exists with other {what}: .*--fresh"):
        start_run("r", profile, data, overrides)
    assert open_run("r").params == made.params


CORAL = {"name": "coral", "path": "/lists/coral", "digest": "0" * 20}


def test_a_run_cannot_be_resumed_with_different_lists():
    start_run("r", "smoke", protocol=CORAL)
    assert start_run("r", "smoke").protocol == CORAL  # as with other settings, saying nothing asks for nothing
    assert start_run("r", "smoke", protocol=CORAL | {"path": "/moved"}).protocol == CORAL
    with pytest.raises(RunConflict, match=r"'r' exists with other protocol \(coral\)"):
        start_run("r", "smoke", protocol=CORAL | {"digest": "1" * 20})
    start_run("own", "smoke")
    with pytest.raises(RunConflict, match=r"'own' exists with other protocol \(none\)"):
        start_run("own", "smoke", protocol=CORAL)


def test_a_run_of_an_unknown_setting_is_refused():
    path = start_run("r", "smoke").path / "params.yaml"
    path.write_text(path.read_text().replace("dropout:", "dropped:"))
    with pytest.raises(DamagedRun, match=r"setting dropped.*--fresh"):
        open_run("r")


def test_a_protocol_in_params_that_is_none_is_refused():
    path = start_run("r", "smoke", protocol=CORAL).path / "params.yaml"
    path.write_text(path.read_text().replace("0" * 20, "../elsewhere"))
    with pytest.raises(DamagedRun, match=r"digest is .\.\./elsewhere"):
        open_run("r")


def test_fewer_or_other_data_sets_conflict(tmp_path):
    both = [DataSet(str(tmp_path / name)) for name in ("a", "b")]
    start_run("two", "smoke", both)
    assert start_run("two", "smoke", both).name == start_run("two").name == "two"
    for given in (both[:1], [both[0], DataSet(str(tmp_path / "c"))], both[::-1]):
        with pytest.raises(RunConflict, match="exists with other data"):
            start_run("two", "smoke", given)


def test_a_profile_from_the_environment_does_not_conflict(monkeypatch):
    start_run("r", "smoke", overrides={"epochs": 3})
    monkeypatch.setenv("FACELIB_PROFILE", "demo")
    assert start_run("r").settings.profile == "smoke"
    assert start_run("r", "smoke").settings.training.epochs == 3  # the settings of the run, not the profile's defaults


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "/tmp/x"])
def test_a_run_cannot_lie_outside_the_folder_of_all_runs(name):
    with pytest.raises(RunConflict, match="one word without slashes"):
        start_run(name, "smoke")


def test_a_notebook_says_at_its_top_what_it_found_before():
    assert found_before("05_evaluate", "none") == []
    start_run("small", "smoke").notebook("05_evaluate").save({}, [Finding("test.age", "Age is off.", n=9)])
    assert found_before("05_evaluate", "small") == [Finding("test.age", "Age is off.", n=9)]
    assert found_before("06_groups", "small") == []


def test_the_device_names_the_threads_that_were_chosen(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "threads" not in processor()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert processor().endswith("cores, threads: 1")


@pytest.mark.parametrize(("given", "kept"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_asleep_unless_a_user_says_otherwise(given, kept):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    code = "import os, facelib; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kept
