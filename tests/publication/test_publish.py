"""What is published shows no person, names no machine, and says what the run measured."""

import nbformat
import pandas as pd
import pytest
import torch
from nbformat import v4
from safetensors.torch import load_file

from facelib.models.network import load_network, predict_outputs, save_network
from facelib.pipeline import notebook_path
from facelib.publication.publish import (
    PRIVATE,
    UnfitToPublish,
    _course,
    add_version,
    check_notebook,
    digest_of_test_faces,
    halve,
    main,
    publish,
    publish_notebook,
    update_page,
    versions,
)
from facelib.runs import start_run, write_json
from facelib.schema import NOTEBOOKS
from facelib.statistics import Estimate


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
    with pytest.raises(UnfitToPublish, match=r"single faces|no plain Python"):
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
    assert facts == {"image_px": 32}
    before, after = (predict_outputs(made, noise_images)["age"] for made in (tiny_network, network))
    assert 0 < abs(before - after).max() < 0.1


def test_weights_beyond_half_precision_are_refused(tiny_network, tmp_path):
    with torch.no_grad():
        next(tiny_network.parameters()).view(-1)[0] = 1e6
    save_network(tiny_network, tmp_path / "whole.safetensors", image_px=32)
    with pytest.raises(UnfitToPublish, match="too large for half precision"):
        halve(tmp_path / "whole.safetensors", tmp_path / "half.safetensors")
    assert not (tmp_path / "half.safetensors").exists()


def test_an_unfinished_run_and_one_on_synthetic_faces_are_no_reference(empty_runs, tmp_path):
    run = start_run("begun", "smoke")
    with pytest.raises(UnfitToPublish, match=r"has not measured data\.images"):
        publish(run, tmp_path / "out")
    with pytest.raises(UnfitToPublish, match="synthetic faces"):
        main("begun")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("seconds", "ahead"), [(150.0, True), (60.0, False)])
def test_a_training_that_ran_ahead_of_the_notebooks_is_said(empty_runs, seconds, ahead):
    run = start_run("ahead", "smoke")
    done = {"package": "0" * 16, "parameters": {}, "cells": 3, "seconds": 90.0}
    write_json(run.path / "progress.json", dict.fromkeys(NOTEBOOKS, done))
    write_json(run.path / "timings.json", {"03.training": {"seconds": seconds}})
    time = _course(run)["Time"]
    assert time.startswith("12 min for the notebooks") and ("and 2 min for the training" in time) == ahead


def test_the_table_of_a_page_is_replaced_between_its_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    update_page(page, "results", "new\n")
    assert page.read_text() == "before\n<!-- results -->\nnew\n<!-- end of results -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(UnfitToPublish, match="no place for the results"):
        update_page(page, "results", "new\n")
    assert page.read_text() == "no marks"


def test_each_version_of_the_model_that_was_tested_is_listed_once(empty_runs, tmp_path):
    run = start_run("real", "smoke", "photos")

    def tested(mae: float, date: str) -> list[dict]:
        shares = {f"test.{name}.accuracy": Estimate(0.94, 0.93, 0.95, 200, "share") for name in ("gender", "ethnicity")}
        run.save_metrics("05_evaluate_bias", {"test.age.mae": Estimate(mae, 4.5, 5.0, 200, "years")} | shares)
        (run.path / "test_reads.csv").write_text(f"date,notebook\n2026-01-01,05\n{date},05\n")
        add_version(run, tmp_path)
        return versions(tmp_path)

    faces = pd.DataFrame({"image_id": list("abc"), "split": ["train", "test", "test"], "kept": [True, True, False]})
    run.save_table(faces, "splits")
    assert versions(tmp_path) == []
    assert len(tested(4.8, "2026-02-02")) == 1
    assert len(tested(4.7, "2026-03-03")) == 2
    both = tested(4.7, "2026-04-04")  # the same model, tested again
    assert [(version["tested"], version["age.mae"]) for version in both] == [
        ("2026-02-02", "4.80 y"),
        ("2026-03-03", "4.70 y"),
    ]
    assert len(tested(4.8, "2026-05-05")) == 3  # as good as the first, but another one
    run.save_table(faces.assign(kept=True), "splits")
    assert versions(tmp_path)[-1]["faces"] != digest_of_test_faces(run)
