"""What is published shows no person, names no machine, and says what the run measured."""

import re

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbformat import v4
from safetensors.torch import load_file

from facelib import runs
from facelib.errors import MissingFromRun
from facelib.finding import Finding
from facelib.formats import read_json, write_json
from facelib.models.age_stages import AgeStagesNet
from facelib.models.network import FaceNet, load_network, predict_outputs, save_network
from facelib.pipeline import notebook_path
from facelib.prediction import Predictor
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import save_ood
from facelib.prediction.predictor import save_predictor
from facelib.publication.publish import (
    PRIVATE,
    TABLES,
    UnfitToPublish,
    add_version,
    blocks,
    check_notebook,
    course,
    digest_of_test_faces,
    halve,
    limits_of,
    main,
    publish,
    publish_notebook,
    update_page,
    versions,
)
from facelib.runs import start_run
from facelib.schema import AGE, NOTEBOOKS, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Estimate, count
from facelib.storage import write_text

SMILE = ClassAttribute("smile", classes=("no", "yes"))


def written(path, *cells, **metadata):
    nbformat.write(v4.new_notebook(cells=list(cells), metadata=metadata), path)
    return path


def code(source: str, outputs=(), count: int | None = 1):
    return v4.new_code_cell(source, outputs=list(outputs), execution_count=count)


@pytest.fixture
def page(tmp_path):
    return tmp_path / "01_explore.ipynb"


def test_a_notebook_without_single_faces_passes(page):
    cells = [code("run = 'x'  # name\nshow_faces = False"), code("shown = may_show(run, show_faces)"), code("")]
    check_notebook(written(page, *cells, v4.new_markdown_cell("`show_faces = True` shows them")))


@pytest.mark.parametrize(
    "source",
    [
        "show_faces = True",
        "show_faces = 1 == 1",
        "run = show_faces = True",
        "show_faces, x = True, 1",
        "if (show_faces := True): pass",
        "for show_faces in [True]: pass",
        "show_faces: bool = True",
        "photos = 'mine'",
        "%matplotlib inline",
    ],
)
def test_a_notebook_that_could_show_single_faces_is_refused(page, source):
    with pytest.raises(UnfitToPublish, match=r"single faces|not plain Python"):
        check_notebook(written(page, code("show_faces = False\nphotos = ''"), code(source)))


def test_a_notebook_that_did_not_end_or_carries_a_picture_is_refused(page):
    with pytest.raises(UnfitToPublish, match="cell 2, did not run"):
        check_notebook(written(page, code("x = 1"), code("x = 2", count=None)))
    failed = v4.new_output("error", ename="ValueError", evalue="x", traceback=[])
    with pytest.raises(UnfitToPublish, match="cell 1, did not run"):
        check_notebook(written(page, code("x = 1", [failed])))
    attached = v4.new_markdown_cell("![x](attachment:x.png)", attachments={"x.png": {"image/png": "eA=="}})
    with pytest.raises(UnfitToPublish, match="picture attached"):
        check_notebook(written(page, attached))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebooks_as_shipped_are_fit_once_they_have_run(name, tmp_path):
    notebook = nbformat.read(notebook_path(name), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 1
    nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    check_notebook(tmp_path / f"{name}.ipynb")


def test_the_private_parameters_are_ones_that_notebooks_have():
    sources = "".join(notebook_path(name).read_text() for name in NOTEBOOKS)
    assert all(f'"{name} = ' in sources for name in PRIVATE)


def test_a_published_notebook_names_no_machine_and_no_time(page, tmp_path):
    stderr = v4.new_output("stream", name="stderr", text="/home/me/env/lib/x.py: odd\n/data/Faces/1.jpg\n")
    cell = code("1", [stderr])
    cell.metadata = {"papermill": {"start_time": "2020-01-01"}, "tags": ["parameters"]}
    written(page, cell, papermill={"parameters": {"run": "mine"}, "input_path": "/home/me/x.ipynb"}, widgets={"a": 1})
    publish_notebook(page, tmp_path / "out.ipynb", {"/home/me/env": ".venv", "/data/Faces": "Faces", "/home/me": "~"})
    text = (tmp_path / "out.ipynb").read_text()
    assert "/home" not in text and "/data" not in text and "2020" not in text and "widgets" not in text
    notebook = nbformat.reads(text, as_version=4)
    assert notebook.cells[0].outputs[0].text == ".venv/lib/x.py: odd\nFaces/1.jpg\n"
    assert notebook.metadata["parameters"] == {"run": "mine"} and notebook.cells[0].metadata["tags"] == ["parameters"]


def test_half_precision_keeps_facts_and_predictions(tiny_network, noise_images, tmp_path):
    save_network(tiny_network, tmp_path / "whole.safetensors", image_px=32)
    halve(tmp_path / "whole.safetensors", tmp_path / "half.safetensors")
    kinds = {value.dtype for value in load_file(tmp_path / "half.safetensors").values()}
    assert kinds == {torch.float16, torch.int64}  # int64: batches counted
    network, facts = load_network(tmp_path / "half.safetensors")
    assert facts == {"image_px": 32} and network.attributes == tiny_network.attributes
    before, after = (predict_outputs(made, noise_images)["age"] for made in (tiny_network, network))
    assert 0 < abs(before - after).max() < 0.1


def test_weights_beyond_half_precision_are_refused(tiny_network, tmp_path):
    with torch.no_grad():
        next(tiny_network.parameters()).view(-1)[0] = 1e6
    save_network(tiny_network, tmp_path / "whole.safetensors", image_px=32)
    with pytest.raises(UnfitToPublish, match="too large for half precision"):
        halve(tmp_path / "whole.safetensors", tmp_path / "half.safetensors")
    assert not (tmp_path / "half.safetensors").exists()


def test_an_unfinished_run_and_one_on_synthetic_faces_are_refused(empty_runs, tmp_path):
    run = start_run("begun", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    with pytest.raises(UnfitToPublish, match=r"has not measured data\.images"):
        publish(run, tmp_path / "out")
    with pytest.raises(UnfitToPublish, match="synthetic faces"):
        main("begun")
    assert not (tmp_path / "out").exists()


def test_the_course_of_a_run_names_its_time_and_its_last_notebook(empty_runs):
    run = start_run("ahead", "smoke")
    done = {"package": "0" * 16, "parameters": {}, "cells": 3, "seconds": 90.0}
    write_json(run.path / "progress.json", dict.fromkeys(NOTEBOOKS[:6], done))
    seconds = {"03.training": 150.0, "03.prediction": 900.0, "04.training": 90.0}
    write_json(run.path / "timings.json", {name: {"seconds": s} for name, s in seconds.items()})
    assert course(run) == {
        "Time": "9 min for the notebooks, of which two may have run at once; "
        "4 min of training, in these or earlier calls",
        "Code": "one state of the package ran notebooks 01, 02, 03, 04, 05 and 06",
    }
    write_json(run.path / "progress.json", {NOTEBOOKS[0]: done, NOTEBOOKS[1]: {**done, "package": "1" * 16}})
    assert course(run)["Code"] == f"{'0' * 16}: 01; {'1' * 16}: 02"


def test_the_table_of_a_page_is_replaced_between_its_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    update_page(page, "results", "new\n")
    assert page.read_text() == "before\n<!-- results -->\nnew\n<!-- end of results -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(UnfitToPublish, match="no place for the results"):
        update_page(page, "results", "new\n")
    assert page.read_text() == "no marks"


@pytest.fixture
def tested(empty_runs):
    """A run of age and smile on UTKFace whose notebook 05 measured an age error of 4.8 years on 200 faces."""
    run = start_run("real", "smoke", "UTKFace")
    run.set_attributes((AGE, SMILE), (AGE, SMILE))
    faces = pd.DataFrame({"image_id": list("abc"), "split": ["train", "test", "test"]})
    run.save_table(faces.assign(representative=[True, True, False]), "splits")
    measure(run, 4.8, "2026-02-02")
    return run


def measure(run, mae: float, date: str, headline: dict | None = None) -> None:
    results = {"test.age.mae": Estimate(mae, 4.5, 5.0, 200, "years")}
    results["test.smile.accuracy"] = Estimate(0.94, 0.93, 0.95, 190, "share")
    covered = [{"group": group, "kind": "by predicted age", "value": value, "low": 0.5, "high": 0.99, "n": n}
               for group, value, n in (("30-45", 0.92, 90), ("75+", 0.78, 40), ("60-74", 0.1, 2))]  # fmt: skip
    run.notebook("05_evaluate").save(results | (headline or {}), coverage_by_age=covered)
    readings = f"date,notebook,faces,n\n2026-01-01,05,{digest_of_test_faces(run)},1\n"
    (run.path / "test_reads.csv").write_text(f"{readings}{date},05,{digest_of_test_faces(run)},1\n")


def test_each_version_of_the_model_that_was_tested_is_listed_once(tested, tmp_path):
    def again(mae: float, date: str) -> list[dict]:
        measure(tested, mae, date)
        add_version(tested, tmp_path)
        return versions(tmp_path)

    assert versions(tmp_path) == []
    assert len(again(4.8, "2026-02-02")) == 1
    assert len(again(4.7, "2026-03-03")) == 2
    both = again(4.7, "2026-04-04")  # the same model, tested again
    assert [(version["tested"], version["age.mae"], version["smile.accuracy"], version["n"]) for version in both] == [
        ("2026-02-02", "4.80 y", "94.0 %", "200"),
        ("2026-03-03", "4.70 y", "94.0 %", "200"),
    ]
    assert len(again(4.8, "2026-05-05")) == 3  # as good as the first, but another one
    digest = digest_of_test_faces(tested)
    assert len(versions(tmp_path, digest)) == 3
    tested.save_table(tested.load_table("splits").assign(representative=True), "splits")
    assert versions(tmp_path, digest_of_test_faces(tested)) == [] and digest_of_test_faces(tested) != digest


def test_the_limits_name_who_made_the_labels_who_may_repeat_and_what_was_scored_before(tested):
    (limits,) = limits_of(tested, scored=3)
    assert "algorithm" in limits.text and "one person" in limits.text and "2 earlier versions were" in limits.text
    assert "1 earlier version was" in limits_of(tested, scored=2)[0].text
    assert "earlier" not in limits_of(tested)[0].text
    sessions = Finding("split.sessions", "Of known sessions: all.", n=200)
    tested.notebook("02_clean").save({}, [Finding("split.other", "Elsewhere.", n=9), sessions])
    assert limits_of(tested)[1:] == [sessions]


def test_the_limits_of_synthetic_faces_name_no_people(empty_runs):
    run = start_run("drawn", "smoke")
    run.set_attributes((SMILE,), (SMILE,))
    run.notebook("05_evaluate").save({"test.smile.accuracy": Estimate(0.94, 0.93, 0.95, 190, "share")})
    (limits,) = limits_of(run)
    assert limits.text == "One training with one seed on one data set."


def test_blocks_hold_six_rows_at_most_and_all_numbers(tested, tmp_path):
    others = (".cs5", ".bias", ".r2", ".interval_coverage", ".interval_width", "_stages.mae_routed")
    stages = {f"test.age{key}": Estimate(0.5, 0.4, 0.6, 200, "share") for key in others}
    measure(tested, 4.8, "2026-02-02", stages)
    add_version(tested, tmp_path)
    written = {(page, name): text for page, name, text in blocks(tested, tmp_path)}
    blocks_of_readme = [("README.md", name) for name in ("limits", "results")]
    assert list(written) == [*blocks_of_readme, ("docs/method.md", "comparison")]
    rows = written["README.md", "results"].splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["4.80 y", "50.0 %", "50.0 %", "50.0 %", "94.0 %"]
    assert "**4.80 y (4.50 to 5.00)**" in written["docs/method.md", "comparison"]
    assert written["README.md", "limits"].startswith("- One training") and "earlier version" not in str(written)


def test_names_from_data_are_no_markup_in_the_readme(tested, tmp_path):
    tested.notebook("06_groups").save({}, [Finding("groups.worst", "Worse for <b>x</b> and *y*.", n=9)])
    text = blocks(tested, tmp_path)[0][2]
    assert "<b>" not in text and "*y*" not in text


# --- a whole publication ----------------------------------------------------------------------------------


@pytest.fixture
def finished(tested, tiny_network, ood_score, monkeypatch):
    """A run with every file that publication takes; its images are noise, and no cache holds them."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr("facelib.publication.publish.load_images", lambda run, faces: images)
    monkeypatch.setattr("facelib.publication.publish.expected_keys", lambda attributes: ["test.age.mae"])
    network = FaceNet((AGE, SMILE), tiny_network.backbone.architecture)
    stages = AgeStagesNet({"architecture": tiny_network.backbone.architecture})
    tested.save_checkpoint(lambda path: save_network(network, path, image_px=32), "model.safetensors")
    tested.save_checkpoint(lambda path: save_network(stages, path, image_px=32), "age_stages.safetensors")
    tested.save_checkpoint(lambda path: save_ood(ood_score, path), "ood.safetensors")
    facts = "direct", {"smile": 1.25}, AgeIntervals((), (5.0,)), False
    tested.save_checkpoint(lambda path: save_predictor(path, *facts), "predictor.json")
    splits = tested.load_table("splits").assign(split=["train", "test", "validation"], representative=True)
    for name in TABLES:
        tested.save_table(splits, name)
    predicted = Predictor.load(tested)(images)
    predicted.loc[2, "age_pred"] += 0.05  # as if the run's own weights predicted it so
    tested.save_table(splits[["image_id"]].assign(model="predictor").join(predicted), "predictions")
    (tested.path / "notebooks").mkdir(exist_ok=True)
    for name in NOTEBOOKS:
        written(tested.path / "notebooks" / f"{name}.ipynb", code("x = 1"))
    tested.notebook("02_clean").save({"splits.leaking_pairs": count(0)})
    groups = [Finding("groups.worst", "Worse for <i>some</i>.", n=9), Finding("groups.smile", "By smile.", n=9)]
    tested.notebook("06_groups").save({}, groups)
    write_text(tested.path / "figures" / "05_selective.svg", "<svg/>")
    write_json(tested.path / "timings.json", {"03.training": {"seconds": 5.0}})
    done = {"package": "0" * 16, "parameters": {}, "cells": 3, "seconds": 90.0}
    write_json(tested.path / "progress.json", dict.fromkeys(NOTEBOOKS, done))
    tested.update_params(data={"fingerprint": "0" * 20}, remark="Trained in a special way.")
    return tested


def test_a_published_run_of_other_attributes_has_its_own_cards(finished, tmp_path):
    page = publish(finished, tmp_path / "out")
    model, data, readme = ((page.parent / name).read_text() for name in ("model_card.md", "data_card.md", "README.md"))
    assert "age, smile" in model and "1.25 for smile" in model and "no, yes" in model and "| Smile: accuracy |" in model
    assert "Trained in a special way." in model and "By smile." in model
    assert "&lt;i>" in model and "<i>" not in model + data + readme
    assert "Smile (no, yes)" in data and "figures/05_selective.svg" in readme
    assert not re.search("gender|ethnicity", model + data + readme, re.IGNORECASE)
    rounding = read_json(page.parent / "rounding.json")
    assert rounding["faces"] == 1 and rounding["age_pred"]["mean"] == pytest.approx(0.05, abs=0.02)
    assert Predictor.load(page.parent).attributes == (AGE, SMILE)
    files = sorted(path.name for path in (page.parent / "checkpoints").iterdir())
    assert files == ["age_stages.safetensors", "model.safetensors", "ood.safetensors", "predictor.json"]


def test_a_predictor_is_published_with_its_numbers_and_without_tables_or_notebooks(finished, tmp_path):
    publish(finished, tmp_path / "out")  # of which nothing stays
    for name in NOTEBOOKS[6:]:  # which need not be run
        (finished.path / "notebooks" / f"{name}.ipynb").unlink()
    with pytest.raises(MissingFromRun, match="07_error_clusters"):
        publish(finished, tmp_path / "whole")
    sixth = finished.path / "notebooks" / f"{NOTEBOOKS[5]}.ipynb"
    written(sixth, code("show_faces = True"))
    with pytest.raises(UnfitToPublish, match="show_faces"):
        publish(finished, tmp_path / "out", restorable=False)
    sixth.unlink()
    with pytest.raises(MissingFromRun, match="06_groups"):
        publish(finished, tmp_path / "out", restorable=False)
    written(sixth, code("x = 1"))
    page = publish(finished, tmp_path / "out", restorable=False)
    assert not {"tables", "notebooks", "croissant.json"} & {path.name for path in page.parent.iterdir()}
    files = {path.name for path in (page.parent / "checkpoints").iterdir()}
    routed = {"age_stages.safetensors"} if Predictor.load(finished).stages else set()
    assert files == {"model.safetensors", "ood.safetensors", "predictor.json"} | routed
    assert Predictor.load(page.parent).attributes == (AGE, SMILE)
    text, card = page.read_text(), (page.parent / "model_card.md").read_text()
    assert "`make predictor`" in text and "facelib restore" not in text and "`tables/`" not in text
    assert "by file name" not in card and "| Smile: accuracy |" in card


def test_photographs_are_predicted_by_the_predictor_or_else_by_the_reference(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "project_root", lambda: tmp_path)
    with pytest.raises(MissingFromRun, match="no reference run is published"):
        runs.published_predictor()
    for folder in (runs.REFERENCE, runs.JOINT):
        write_text(tmp_path / folder / "checkpoints" / "predictor.json", "{}")
        assert runs.published_predictor() == tmp_path / folder


def test_a_second_publication_replaces_the_first(finished, tmp_path):
    publish(finished, tmp_path / "out")
    (tmp_path / "out" / "tables" / "old.parquet").touch()
    publish(finished, tmp_path / "out")
    assert not (tmp_path / "out" / "tables" / "old.parquet").exists() and len(versions(tmp_path / "out")) == 1


def test_a_publication_continues_the_log_of_the_one_before_and_keeps_its_versions_apart(finished, tmp_path):
    publish(finished, tmp_path / "out")
    log = (tmp_path / "out" / "test_reads.csv").read_text().splitlines()
    assert len(log) == 3
    splits = finished.load_table("splits").assign(split=["test", "train", "validation"])
    finished.save_table(splits, "splits")
    measure(finished, 4.5, "2026-06-06")
    page = publish(finished, tmp_path / "out").read_text()
    after = (tmp_path / "out" / "test_reads.csv").read_text().splitlines()
    assert set(log) < set(after) and len(after) == 5 and after[-1].startswith("2026-06-06")
    assert "2 evaluations on these test faces" in page
    other = page.partition("### Earlier versions, on other test faces")[2].partition("## ")[0]
    assert "| 4.80 y |" in other and "4.50 y" not in other


def test_half_precision_that_moves_predictions_is_refused(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("facelib.publication.publish.MOST_ROUNDING", -1.0)
    with pytest.raises(UnfitToPublish, match="half precision moves age_pred by"):
        publish(finished, tmp_path / "out")
