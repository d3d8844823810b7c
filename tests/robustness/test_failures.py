"""Every error that a user can cause is one sentence on stderr, with the remedy; --debug shows more."""

import contextlib
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facelib as package
from facelib import errors, pipeline
from facelib.runs import RunFolder, project_root, start_run
from facelib.schema import UTKFACE_ATTRIBUTES
from facelib.storage import Unwritable, check_writable

EMPTY_NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


def kinds(kind: type = errors.FacelibError) -> set[type]:
    """All errors that the package raises on purpose."""
    for module in pkgutil.walk_packages(package.__path__, "facelib."):
        importlib.import_module(module.name)
    direct = {sub for sub in kind.__subclasses__() if sub.__module__.startswith("facelib")}
    return direct.union(*(kinds(sub) for sub in direct))


# --- how to cause each of them ----------------------------------------------------------------------------
# Name of the error: what to prepare in a folder, the command, and what the sentence says of thing, reason and remedy.


def nothing(tmp: Path) -> None:
    """Nothing has to be there."""


def a_picture(tmp: Path) -> None:
    Image.new("RGB", (60, 60)).save(tmp / "20_0_0_a.png")


def bad_decisions(tmp: Path) -> None:
    a_picture(tmp)
    (tmp / "out").mkdir()
    (tmp / "out" / "decisions.csv").write_text("image_id,issue,action\n20_0_0_a.png,quality,burn\n")


def bad_split(tmp: Path) -> None:
    a_picture(tmp)
    (tmp / "split").mkdir()
    (tmp / "split" / "train.csv").write_text("filename\nother.png\n")
    (tmp / "split" / "test.csv").write_text("filename\n")


def a_text_file(tmp: Path) -> None:
    (tmp / "notes.txt").write_text("text")


def a_damaged_run(tmp: Path) -> None:
    (start_run("r", "smoke").path / "params.yaml").write_text("settings: 3\n")


def a_run_without_notebooks(tmp: Path) -> None:
    start_run("r", "smoke")


def a_run_with_a_damaged_notebook(tmp: Path) -> None:
    (start_run("r", "smoke").path / "notebooks").mkdir()
    (tmp / "runs" / "r" / "notebooks" / "01_explore.ipynb").write_text("{}")


def a_run_with_a_damaged_network(tmp: Path) -> None:
    checkpoints = start_run("r", "smoke").path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "predictor.json").write_text('{"age_method": "direct"}')
    (checkpoints / "model.safetensors").write_bytes(b"no network")


def a_run_with_a_damaged_ood_score(tmp: Path) -> None:
    from facelib.models.network import FaceNet, save_network

    checkpoints = start_run("r", "smoke").path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "predictor.json").write_text('{"age_method": "direct"}')
    save_network(FaceNet(UTKFACE_ATTRIBUTES), checkpoints / "model.safetensors", image_px=48)
    (checkpoints / "ood.safetensors").write_bytes(b"no features")


def a_run_of_an_older_notebook(tmp: Path) -> None:
    a_run_with_a_damaged_ood_score(tmp)
    (tmp / "runs" / "r" / "checkpoints" / "ood.safetensors").unlink()


def a_foreign_folder(tmp: Path) -> None:
    (tmp / "runs" / "r").mkdir(parents=True)
    (tmp / "runs" / "r" / "thesis.doc").touch()


def start_weights(tmp: Path) -> None:
    (tmp / "w.pt").write_bytes(b"no weights")


AUDIT = ("audit", "--out", "{tmp}/out", "--no-network", "--data")
CASES = {
    "no data": (nothing, (*AUDIT, "{tmp}/gone"), r"nothing at \S+gone: give a UTKFace folder"),
    "an empty folder": (nothing, (*AUDIT, "{tmp}"), r"holds no usable face .*: give the folder of the images"),
    "a table of nothing": (
        lambda tmp: (tmp / "t.csv").write_text("path,age\n"),
        (*AUDIT, "{tmp}/t.csv"),
        r"t\.csv holds no usable face",
    ),
    "no table": (
        lambda tmp: (tmp / "t.csv").write_bytes(b"\xff\xfe\x00"),
        (*AUDIT, "{tmp}/t.csv"),
        r"cannot be read .*: save it",
    ),
    "another kind of file": (
        a_text_file,
        (*AUDIT, "{tmp}/notes.txt"),
        r"has the columns .*: it needs `path`",
    ),
    "no --images": (
        lambda tmp: (tmp / "t.csv").write_text("path,age\na,3\n"),
        (*AUDIT, "{tmp}/t.csv", "--images", "{tmp}/gone"),
        r"no folder \S+gone: --images takes",
    ),
    "--out is a file": (
        lambda tmp: (a_picture(tmp), (tmp / "out").touch()),
        (*AUDIT, "{tmp}"),
        r"--out \S+ is a file: give a folder",
    ),
    "no --split": (a_picture, (*AUDIT, "{tmp}", "--split", "{tmp}/gone"), r"no folder \S+gone: --split takes"),
    "another split": (
        bad_split,
        (*AUDIT, "{tmp}", "--split", "{tmp}/split"),
        r"not one of the 1 names .* e\.g\. 'other",
    ),
    "bad decisions": (bad_decisions, (*AUDIT, "{tmp}"), r"line 2 of \S+decisions\.csv has action 'burn': allowed are"),
    "no cluster": (
        a_picture,
        (*AUDIT, "{tmp}", "--cluster", "tcp://127.0.0.1:1"),
        r"(no dask scheduler answers|needs dask)",
    ),
    "few faces": (a_picture, ("run", "--data", "{tmp}"), r"holds 1 usable faces: four splits need 200"),
    "no profile": (nothing, ("run", "--profile", "vast"), r"no profile 'vast': choose one of smoke"),
    "no setting": (nothing, ("run", "-p", "epoch", "3"), r"no setting or notebook parameter 'epoch': choose one of"),
    "a wrong value": (
        nothing,
        ("run", "-p", "epochs", "many"),
        r"setting epochs is 'many': input should be a valid integer",
    ),
    "no value": (nothing, ("run", "-p", "epochs"), r"-p takes a key and a value"),
    "no notebook": (nothing, ("run", "--from", "10"), r"no notebook '10': choose 01 to 09"),
    "a name that leads out": (nothing, ("run", "--run", "../r"), r"one word without slashes.*: choose another --run"),
    "a name of two lines": (nothing, ("report", "--run", "a\nb"), r"'a\\nb' is not: choose another --run"),
    "a name too long": (
        nothing,
        ("run", "--profile", "smoke", "--run", "r" * 300),
        r"File name too long.*: choose a shorter",
    ),
    "other parameters": (
        a_run_without_notebooks,
        ("run", "--run", "r", "--profile", "demo"),
        r"'r' exists with other profile .*: choose another",
    ),
    "a foreign folder": (
        a_foreign_folder,
        ("run", "--run", "r", "--fresh"),
        r"is not a run folder .*: choose another",
    ),
    "no run": (nothing, ("report", "--run", "r"), r"no run 'r' yet: `facelib run --run r`"),
    "no notebooks": (a_run_without_notebooks, ("report", "--run", "r"), r"no executed notebook: run `facelib run"),
    "no results": (a_run_without_notebooks, ("slides", "--run", "r"), r"no metrics of 01_explore yet: run"),
    "nothing published": (nothing, ("restore", "{tmp}/gone"), r"gone is not a published run .*: name another"),
    "no model": (
        a_run_without_notebooks,
        ("predict", "x.jpg", "--run", "r"),
        r"no trained predictor: run notebooks 01 to 03",
    ),
    "a damaged run": (a_damaged_run, ("report", "--run", "r"), r"params\.yaml is not what facelib writes .*: run the"),
    "a damaged notebook": (
        a_run_with_a_damaged_notebook,
        ("report", "--run", "r"),
        r"01_explore\.ipynb is no executed .*: run it again",
    ),
    "a damaged network": (
        a_run_with_a_damaged_network,
        ("predict", "x.jpg", "--run", "r"),
        r"model\.safetensors is not a network",
    ),
    "a damaged OOD score": (
        a_run_with_a_damaged_ood_score,
        ("predict", "x.jpg", "--run", "r"),
        r"ood\.safetensors is not what facelib writes .*: run the notebook",
    ),
    "an older predictor": (
        a_run_of_an_older_notebook,
        ("predict", "x.jpg", "--run", "r"),
        r"ood\.safetensors is missing.*--from 03",
    ),
    "--csv is a folder": (
        nothing,
        ("predict", "x.jpg", "--csv", "{tmp}"),
        r"is a directory: see facelib predict --help",
    ),
    "no data set": (nothing, ("fetch", "faces"), r"no data set 'faces': choose utkface or utkface-csv"),
    "no archive": (
        nothing,
        ("fetch", "utkface", "--to", "{tmp}/to", "--archive", "{tmp}/a.zip"),
        r"no file \S+a\.zip: --arc",
    ),
    "text for an archive": (
        a_text_file,
        ("fetch", "utkface", "--to", "{tmp}/to", "--archive", "{tmp}/notes.txt"),
        r"neither a \.zip nor .*: give",
    ),
    "no command": (nothing, ("dance",), r"No such command 'dance': see facelib --help"),
    "no option": (nothing, ("run", "--nonsense"), r"No such option: --nonsense: see facelib run --help"),
    "a missing option": (nothing, ("audit",), r"Missing option '--data': see facelib audit --help"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_a_user_can_cause_is_one_sentence(facelib, tmp_path, case):
    prepare, command, said = CASES[case]
    prepare(tmp_path)
    code, out, err = facelib(*(word.replace("{tmp}", str(tmp_path)) for word in command))
    assert code == 2 and out == ""
    assert err.startswith("facelib: ") and err.count("\n") == 1 and err[:-1].isprintable(), err
    assert re.search(said, err), err


def test_every_error_of_the_package_is_caused_somewhere_in_the_tests():
    """A new error has to come with a test that causes it."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (project_root() / "tests").rglob("test_*.py"))
    assert len(kinds()) > 10
    assert [kind.__name__ for kind in sorted(kinds(), key=str) if f"{kind.__name__}" not in tests] == []


@pytest.mark.slow
def test_debug_shows_the_traceback_and_otherwise_there_is_none(tmp_path):
    command = [sys.executable, "-m", "facelib.cli"]
    environment = os.environ | {"PYTHONPATH": str(project_root())}
    for debug in ((), ("--debug",)):
        done = subprocess.run(
            [*command, *debug, "report", "--run", "nowhere"], env=environment, capture_output=True, text=True
        )
        assert ("Traceback" in done.stderr) == bool(debug) and "no run 'nowhere' yet" in done.stderr


# --- the disk ---------------------------------------------------------------------------------------------


def noise(folder: Path, n: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(n):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"20_0_0_{number}.png")
    return folder


def test_a_full_disk_is_one_sentence_and_what_stood_there_stays(facelib, tmp_path, small_disk, monkeypatch):
    faces = noise(tmp_path / "faces", 5)
    command = ("audit", "--data", faces, "--no-network", "--out")
    assert facelib(*command, small_disk / "out")[0] == 0
    before = {path.name: path.read_bytes() for path in (small_disk / "out").iterdir()}
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1024))
    more = noise(tmp_path / "more", 40)
    code, _, err = facelib("audit", "--data", more, "--no-network", "--out", small_disk / "out")
    assert code == 2 and err.count("\n") == 1
    assert "cannot be written (No space left on device): free some space" in err
    assert {path.name: path.read_bytes() for path in (small_disk / "out").iterdir()} == before

    monkeypatch.setenv("FACELIB_CACHE", str(small_disk / "cache"))  # a memory map would end the process here
    code, _, err = facelib("audit", "--data", more, "--no-network", "--out", tmp_path / "elsewhere")
    assert code == 2 and err.count("\n") == 1 and "No space left on device): free some space" in err
    assert not [path for path in (small_disk / "cache").rglob("*") if path.is_file()]

    monkeypatch.setenv("FACELIB_RUNS", str(small_disk / "runs"))
    code, _, err = facelib("run", "--profile", "smoke", "--run", "r")
    assert code == 2 and err.count("\n") == 1 and "No space left on device): free some space" in err


def test_a_disk_that_fills_up_while_the_cache_is_made_loses_nothing(facelib, tmp_path, small_disk, monkeypatch):
    """Two megabytes hold some 160 of 300 decoded photographs."""
    faces = noise(tmp_path / "faces", 300)
    monkeypatch.setenv("FACELIB_CACHE", str(small_disk / "cache"))
    code, _, err = facelib("audit", "--data", faces, "--no-network", "--out", tmp_path / "out")
    assert code == 2 and err.count("\n") == 1 and "No space left on device): free some space" in err
    assert [path for path in (small_disk / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_a_disk_that_fills_up_within_a_run_is_one_sentence_and_the_run_resumes(
    facelib, drawn_faces, small_disk, monkeypatch
):
    monkeypatch.setenv("FACELIB_RUNS", str(small_disk / "runs"))
    start_run("r", "smoke", overrides=drawn_faces)
    call = ("run", "--profile", "smoke", "--run", "r", "--to", "01")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 60_000))
    code, _, err = facelib(*call)
    assert code == 2 and err.count("\n") == 1 and "No space left on device): free some space" in err, err
    run = RunFolder(small_disk / "runs" / "r")
    assert not run.table_path("faces").exists() or len(run.load_table("faces")) == 200  # whole or not there
    filler.unlink()
    code, out, err = facelib(*call)
    assert code == 0 and "01_explore" in out, err
    assert len(run.load_table("faces")) == 200 and "data.images" in run.results()


def test_a_read_only_folder_is_one_sentence_and_nothing_is_begun(facelib, open_folder, ordinary_user, monkeypatch):
    faces = noise(open_folder / "faces", 3)
    shut = open_folder / "shut"
    shut.mkdir()
    shut.chmod(0o555)
    for name in ("FACELIB_RUNS", "FACELIB_CACHE"):
        monkeypatch.setenv(name, str(open_folder / name))
    call = ("audit", "--data", faces, "--no-network", "--out", shut / "out")
    with ordinary_user(), pytest.raises(Unwritable, match="Permission denied"):
        check_writable(shut / "out" / "deeper")
    with ordinary_user():
        code, out, err = facelib(*call)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert f"{shut / 'out'} cannot be written (Permission denied): choose a writable folder" in err
    assert not (open_folder / "FACELIB_CACHE").exists()  # said before the work
    monkeypatch.setenv("FACELIB_RUNS", str(shut))
    with ordinary_user():
        code, out, err = facelib("run", "--profile", "smoke", "--run", "r")
    assert code == 2 and out == "" and err.count("\n") == 1 and "(Permission denied): choose a writable folder" in err


# --- two at once ------------------------------------------------------------------------------------------


def test_a_second_run_into_one_folder_is_refused_in_one_sentence(facelib, empty_runs, monkeypatch):
    started, done = threading.Event(), threading.Event()

    def hold():
        with pipeline.locked(start_run("r", "smoke").path):
            started.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert started.wait(60)
    try:
        for fresh in ((), ("--fresh",)):
            code, out, err = facelib("run", "--profile", "smoke", "--run", "r", *fresh)
            assert code == 2 and out == "" and err.count("\n") == 1
            assert "run 'r' is being written by another process: wait, or choose another --run" in err
            assert (empty_runs / "r" / "params.yaml").exists()
    finally:
        done.set()
        holder.join()
    assert not (empty_runs / "r" / ".lock").exists()
