"""A published run becomes a run folder on the same photographs, whole or not at all; its files are untrusted."""

import os
import pickle
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from facelib.audit import decisions, label_issues
from facelib.data import splits
from facelib.data.ingest import ingest
from facelib.errors import FacelibError, MissingFromRun, RunConflict, UnreadableData
from facelib.formats import read_json, write_json
from facelib.models.age_stages import AgeStagesNet, route
from facelib.models.heads import predictions_table
from facelib.models.network import FaceNet, predict_outputs, save_network
from facelib.prediction import Predictor
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import save_ood
from facelib.prediction.predictor import save_predictor
from facelib.publication import restore
from facelib.publication.publish import NETWORKS, TABLES, UnfitToPublish, halve, publish_table
from facelib.publication.restore import restore_run
from facelib.runs import DataSet, RunFolder, open_run, runs_root, start_run
from facelib.schema import NOTEBOOKS, UTKFACE_ATTRIBUTES, ClassAttribute

FACES = 210


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Coarse noise under UTKFace's names."""
    folder, rng = tmp_path_factory.mktemp("data") / "Faces", np.random.default_rng(0)
    folder.mkdir()
    for number in range(FACES):
        picture = rng.integers(0, 255, (8, 8, 3), np.uint8).repeat(6, 0).repeat(6, 1)
        Image.fromarray(picture).save(folder / f"{number % 90}_{number % 2}_{number % 5}_{number}.png")
    return folder


@pytest.fixture(scope="module")
def finished(tiny, photographs, ood_score, tmp_path_factory):
    """A run as notebooks 01 to 04 leave it, with the tables that 05 to 09 read."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(root / "runs"))
        patch.setenv("FACELIB_CACHE", str(root / "cache"))
        run = start_run("own", "smoke", str(photographs), {"images": None})
        images, faces, _ = ingest(run)
    torch.manual_seed(0)
    network, stages = FaceNet(run.learned, tiny), AgeStagesNet({"architecture": tiny})
    run.save_checkpoint(lambda path: save_network(network, path, image_px=images.px), "model.safetensors")
    run.save_checkpoint(lambda path: save_network(stages, path, image_px=images.px), "age_stages.safetensors")
    facts = "mean", {"gender": 1.0, "ethnicity": 2.0}, AgeIntervals((40.0,), (5.0, 9.0)), False
    run.save_checkpoint(lambda path: save_predictor(path, *facts), "predictor.json")
    outputs, names = predict_outputs(network, images), faces[["image_id"]]
    run.save_array(outputs["features"].astype(np.float16), "embeddings")
    run.save_checkpoint(lambda path: save_ood(ood_score, path), "ood.safetensors")
    split = splits.split_faces(faces, np.arange(FACES), run.attributes, 0)
    scores = predictions_table(outputs, run.learned).assign(age_spread=9.0)
    run.save_table(split, "splits")
    run.save_table(names.join(scores).assign(model="predictor", split=split["split"]), "predictions")
    run.save_table(names.join(route(predict_outputs(stages, images))), "age_stages")
    run.save_table(label_issues.find_issues(faces, scores, run.learned), "label_issues")
    run.save_table(names.assign(blur=0.5, is_blur=False), "quality")
    row = {"image_id": names["image_id"][3], "issue": "label:age", "action": "relabel", "value": "7", "reason": "=seen"}
    decisions.write(pd.DataFrame([row]), run.table_path("decisions.csv"))
    for folder in ("figures", "notebooks"):
        (run.path / folder).mkdir()
    for name in NOTEBOOKS:
        run.notebook(name).save({})
        (run.path / "notebooks" / f"{name}.ipynb").write_text("{}")
    for name in ("timings.json", "test_reads.csv"):
        (run.path / name).write_text("{}")
    done = {"package": "0" * 16, "parameters": {}, "cells": 3, "seconds": 1.5}
    write_json(run.path / "progress.json", dict.fromkeys(NOTEBOOKS, done))
    return run


@pytest.fixture
def published(finished, photographs, tmp_path):
    """What `publish` writes of it, pages left out."""
    target = tmp_path / "reports" / "utkface"
    shutil.copytree(finished.path, target, ignore=shutil.ignore_patterns("tables", "*.safetensors"))
    for name in NETWORKS:
        halve(finished.path / "checkpoints" / f"{name}.safetensors", target / "checkpoints" / f"{name}.safetensors")
    shutil.copy(finished.path / "checkpoints" / "ood.safetensors", target / "checkpoints")
    for name in TABLES:
        publish_table(finished, name, target / "tables", {str(photographs): "Faces"})
    RunFolder(target).update_params(data={"path": "Faces"})
    return target


@pytest.fixture
def call(facelib, published):
    """`facelib restore` of what is published."""
    return lambda *arguments: facelib("restore", published, *arguments)


# --- the tables that are published ------------------------------------------------------------------------


@pytest.mark.slow
def test_published_tables_are_equal_and_name_no_machine(finished, published):
    for name in TABLES:
        pd.testing.assert_frame_equal(RunFolder(published).load_table(name), finished.load_table(name))
    content = b"".join(path.read_bytes() for path in published.rglob("*.*") if path.is_file())
    assert str(finished.path).encode() not in content and not list(published.glob("tables/*.npy"))


@pytest.mark.parametrize("given", ["/home/me/x.png", "a copy of /data/Faces/x.png", b"\x89PNG", [1, 2, 3]])
def test_a_table_that_names_a_folder_or_holds_a_picture_is_not_published(empty_runs, tmp_path, given):
    run = start_run("r", "smoke")
    run.save_table(pd.DataFrame({"image_id": ["a.png", None], "note": [given, None]}), "quality")
    with pytest.raises(UnfitToPublish, match=r"quality\.parquet: note (names a folder|holds more than text)"):
        publish_table(run, "quality", tmp_path, {"/data/Faces": "Faces"})
    assert list(tmp_path.glob("*.parquet")) == []


# --- the way back -----------------------------------------------------------------------------------------


def test_a_restored_run_holds_what_the_first_did(call, finished, published, photographs):
    code, out, err = call("--data", photographs)
    assert code == 0, err
    assert f"embeddings  {FACES} of {FACES} faces" in out and "`make lab RUN=utkface`" in out
    run = open_run("utkface")
    for name in TABLES:
        pd.testing.assert_frame_equal(run.load_table(name), finished.load_table(name))
    decided = decisions.read(run.table_path("decisions.csv"), run.load_table("faces"), run.attributes)
    assert decided[["value", "reason"]].to_numpy().tolist() == [["7", "=seen"]]
    embeddings = run.load_array("embeddings")
    assert embeddings.dtype == np.float16
    # Half-precision weights and features, each right to a two-thousandth.
    np.testing.assert_allclose(embeddings, finished.load_array("embeddings"), rtol=0.02, atol=0.005)
    assert run.params["data"] == finished.params["data"] and run.params["data"]["path"] == str(photographs)
    assert run.settings == finished.settings and run.learned == finished.learned and run.results() == finished.results()
    shared = {path.name for path in (run.path / "checkpoints").iterdir()}
    assert shared == {"model.safetensors", "age_stages.safetensors", "ood.safetensors", "predictor.json"}
    assert list(read_json(run.path / "progress.json")) == list(NOTEBOOKS[:4])
    assert sorted(path.name for path in runs_root().iterdir()) == ["utkface"]


def test_a_run_resumes_with_notebook_05(call, photographs, facelib, monkeypatch):
    from facelib import pipeline
    from facelib.reporting import site

    executed = []
    monkeypatch.setattr(
        pipeline, "_execute_one", lambda run, name, *_: executed.append(name) or pipeline.Finished("", {}, 1, 1.0)
    )
    monkeypatch.setattr(pipeline, "AT_ONCE", 1)
    monkeypatch.setattr(pipeline, "timed_steps", lambda path: [])  # nothing is executed
    monkeypatch.setattr(site, "build_report", lambda *_: "report")
    assert call("--data", photographs, "--run", "mine")[0] == 0
    code, out, _ = facelib("run", "--run", "mine")
    assert code == 0 and executed == list(NOTEBOOKS[4:])
    assert re.search(r"04_age_two_stage  finished.*changed since.*--from 04", out)


def test_without_photographs_what_needs_them_says_so(call, finished):
    from facelib.data.ingest import load_images

    code, out, _ = call("--run", "bare")
    assert code == 0 and "run bare, without photographs" in out
    run = open_run("bare")
    faces = run.load_table("faces")
    assert len(run.load_table("predictions")) == FACES and not run.is_synthetic
    Predictor.load(run)
    with pytest.raises(MissingFromRun, match=r"'bare' was restored without its photographs.*restore --data PATH"):
        run.load_array("embeddings")
    with pytest.raises(MissingFromRun, match=r"`facelib restore --data PATH` with another --run name"):
        load_images(run, faces)


# --- refusals ---------------------------------------------------------------------------------------------


def refused(call, *arguments) -> str:
    """The sentence with which a call is refused; nothing is left of it."""
    before = sorted(runs_root().rglob("*"))
    code, out, err = call(*arguments)
    assert code == 2 and err.count("\n") == 1 and out == ""
    assert sorted(path for path in runs_root().rglob("*") if path != runs_root()) == before
    return err


def test_other_photographs_are_refused_and_one_is_named(call, photographs, tmp_path):
    other = shutil.copytree(photographs, tmp_path / "other")
    (other / "5_1_0_5.png").unlink()
    (other / "6_0_1_6.png").write_bytes((other / "7_1_2_7.png").read_bytes())
    sentence = refused(call, "--data", other)
    assert "other is not the data that" in sentence and "2 of 210 photographs are missing" in sentence
    assert "such as '5_1_0" in sentence
    assert "there is nothing at" in refused(call, "--data", tmp_path / "nowhere")


def test_several_data_sets_are_named_in_the_order_of_the_run(published, tmp_path):
    run, places = RunFolder(published), [DataSet(str(tmp_path / "a")), DataSet(str(tmp_path / "b.csv"), str(tmp_path))]
    run.params["data"]["further"] = [{"path": "b.csv", "images": "pictures", "labels": "path: file"}]
    found = restore.located(run, places)
    assert found["path"] == str(tmp_path / "a") and found["fingerprint"] == run.params["data"]["fingerprint"]
    assert found["further"] == [{"path": str(tmp_path / "b.csv"), "images": str(tmp_path), "labels": "path: file"}]
    with pytest.raises(UnreadableData, match=r"was made from Faces and b\.csv, and --data is given 1 times"):
        restore.located(run, places[:1])


def test_photographs_under_other_names_and_beside_others_are_the_same_data(call, photographs, tmp_path):
    faces = shutil.copytree(photographs, tmp_path / "above" / "Faces")
    Image.new("RGB", (48, 48)).save(faces / "30_0_0_x.png")
    assert call("--data", tmp_path / "above")[0] == 0


def test_a_run_that_exists_is_never_touched(call, photographs):
    run = start_run("utkface", "smoke")
    (run.path / "mine.txt").write_text("mine")
    assert "there is a run 'utkface' already: choose another --run name" in refused(call, "--data", photographs)
    assert (run.path / "mine.txt").read_text() == "mine"


def test_a_second_restore_at_the_same_time_is_refused(published, empty_runs):
    from facelib.storage import held

    with held(empty_runs / ".utkface.lock"), pytest.raises(RunConflict, match="is being restored by another process"):
        restore_run(published, empty_runs / "utkface")


@pytest.mark.parametrize("step", ["cache_faces", "embed"])
def test_a_killed_restore_leaves_nothing_that_stops_the_next(step, published, photographs, empty_runs, monkeypatch):
    path = empty_runs / "utkface"
    child = os.fork()
    if child == 0:  # ends at once, as if killed: no `finally` is run
        monkeypatch.setattr(restore, step, lambda *_: os._exit(9))
        restore_run(published, path, [DataSet(str(photographs))], say=lambda line: None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not path.exists() and (empty_runs / ".partial-utkface" / "params.yaml").exists()
    (empty_runs / ".partial-utkface" / "tables" / "stale.parquet").touch()
    restore_run(published, path, [DataSet(str(photographs))], say=lambda line: None)
    assert not (path / "tables" / "stale.parquet").exists() and (path / "tables" / "embeddings.npy").exists()
    assert [made.name for made in empty_runs.iterdir()] == ["utkface"]


# --- untrusted files --------------------------------------------------------------------------------------


class Attack:
    """Touches a file wherever it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.parametrize("file", ["checkpoints/model.safetensors", "checkpoints/age_stages.safetensors"])
def test_a_pickle_in_place_of_weights_runs_nothing(call, published, tmp_path, file):
    torch.save(Attack(tmp_path / "pwned"), published / file)
    assert "is not a network saved by facelib" in refused(call)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", TABLES)
def test_a_pickle_in_place_of_a_table_runs_nothing(call, published, tmp_path, name):
    path = RunFolder(published).table_path(name)
    path.write_bytes(pickle.dumps(Attack(tmp_path / "pwned")))
    assert f"{path.name} is not what facelib writes" in refused(call)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("column", ["image_id", "path"])
@pytest.mark.parametrize("climbing", ["../../secret.png", "/etc/passwd", "a/../../b.png"])
def test_a_path_that_leads_out_of_the_data_is_refused(call, published, column, climbing):
    run = RunFolder(published)
    faces = run.load_table("faces")
    faces.loc[2, column] = climbing
    run.save_table(faces, "faces")
    assert f"'{climbing}' leads out of the data folder" in refused(call)


@pytest.mark.parametrize("file", ["tables/faces.parquet", "checkpoints/ood.safetensors", "params.yaml", "figures"])
def test_a_link_is_not_followed(call, published, tmp_path, file):
    moved = shutil.move(published / file, tmp_path / "elsewhere")
    (published / file).symlink_to(moved)
    assert f"{file} is a link" in refused(call)


def test_what_is_never_published_is_not_taken_over(call, published):
    torch.save({}, published / "checkpoints" / "last.ckpt")
    (published / "tables" / "startup.py").write_text("1 / 0")
    assert call("--run", "clean")[0] == 0
    names = {path.name for path in open_run("clean").path.rglob("*")}
    assert "model.safetensors" in names and not names & {"last.ckpt", "startup.py"}


def test_tables_that_do_not_fit_each_other_are_refused(call, published):
    run = RunFolder(published)
    table = run.load_table("splits")
    run.save_table(table[::-1], "splits")
    assert "splits.parquet is not what facelib writes" in refused(call)
    run.save_table(table, "splits")
    run.save_table(run.load_table("faces").drop(columns="sha256"), "faces")
    assert "faces.parquet is not what facelib writes" in refused(call)


def test_half_a_published_run_is_refused(published, empty_runs, tmp_path):
    with pytest.raises(MissingFromRun, match=r"is not a published run that can be restored \(it has no tables\)"):
        shutil.rmtree(published / "tables")
        restore_run(published, empty_runs / "r")
    with pytest.raises(FacelibError, match="is not a published run"):
        restore_run(tmp_path / "nowhere", empty_runs / "r")
    assert not (empty_runs / "r").exists()


def test_a_run_without_ages_is_published_and_restored_without_age_stages(call, published):
    for name in ("tables/age_stages.parquet", "checkpoints/age_stages.safetensors"):
        (published / name).unlink()
    assert "age_stages" in refused(call)  # it is missing
    facts = read_json(published / "checkpoints" / "predictor.json")
    write_json(published / "checkpoints" / "predictor.json", facts | {"age_method": "direct"})
    RunFolder(published).set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES[1:])
    assert call()[0] == 0


def test_attributes_come_with_the_published_run(call, published):
    smile = ClassAttribute("smile", classes=("no", "yes"))
    run = RunFolder(published)
    run.save_table(run.load_table("faces").assign(smile=1), "faces")
    run.set_attributes((*UTKFACE_ATTRIBUTES, smile), UTKFACE_ATTRIBUTES)
    assert call()[0] == 0 and open_run("utkface").attributes == (*UTKFACE_ATTRIBUTES, smile)
