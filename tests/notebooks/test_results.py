"""What the smoke run of the notebooks left behind; `make smoke` runs them first."""

import json
import math
import os
import shutil
from itertools import combinations

import numpy as np
import pytest

from facelib import runs, schema
from facelib.evaluation.headline import expected_keys
from facelib.formats import write_json
from facelib.pipeline import notebook_path
from facelib.prediction import Predictor
from facelib.prediction.photos import example_file
from facelib.publication.publish import publish
from facelib.reporting import slides
from facelib.reporting.findings import headline_rows, markdown_summary
from facelib.reporting.site import build_report
from facelib.reporting.slides import build_slides

RUN = os.environ.get("FACELIB_RUN", "smoke")


@pytest.fixture(scope="module")
def folder():
    if not (runs.runs_root() / RUN / "params.yaml").exists():
        pytest.skip(f"there is no run {RUN!r}: `make smoke` makes it")
    return runs.open_run(RUN)


def test_a_fourth_attribute_goes_through_the_whole_run(folder):
    """Drawn faces smile or not; nothing but the setting names the attribute, whose table entry is in `synthetic`."""
    smile, results = folder.learned[-1], folder.results()
    assert [attribute.name for attribute in folder.learned] == ["age", "gender", "ethnicity", "expression"]
    assert results["test.expression.accuracy"].n > 10 and "audit.label_issues.expression" in results
    groups = folder.details("06_groups")["groups"]
    assert {row["expression_name"] for row in groups["expression_name"]} == set(smile.classes)
    assert "expression_accuracy" in groups["age_band"][0] and "gender_name x expression_name" in groups
    explained = folder.load_table("attributions")
    assert {"layer_cam", "lime"} <= set(explained.loc[explained["head"] == "expression", "method"])
    assert "Expression" in build_report(folder, []).read_text() and "test.expression" in folder.findings()


@pytest.mark.parametrize("key", expected_keys(schema.UTKFACE_ATTRIBUTES))
def test_every_headline_key_is_there_and_finite(folder, key):
    estimate = folder.results()[key]
    assert estimate.n >= 0 and all(map(math.isfinite, (estimate.value, estimate.low, estimate.high)))
    assert estimate.low <= estimate.value <= estimate.high


def test_every_finding_is_a_sentence_with_its_n(folder):
    findings = folder.findings()
    assert len(findings) > 25
    for key, finding in findings.items():
        assert key == finding.key and finding.text.endswith(".") and "nan" not in finding.text.split()
        assert finding.estimate is not None or finding.n is not None, key


def test_no_pair_of_copies_crosses_the_split(folder):
    assert folder.results()["splits.leaking_pairs"].value == 0
    splits = folder.load_table("splits")
    assert splits.groupby("group_id")["split"].nunique().max() == 1


def test_every_promised_file_is_there(folder):
    missing = [name for name in schema.MADE_BY if not (folder.path / name).exists()]
    assert not missing


def test_only_notebooks_05_and_06_read_the_test_split(folder):
    lines = (folder.path / "test_reads.csv").read_text().splitlines()[1:]
    assert lines and {line.split(",")[1] for line in lines} == {"05_evaluate", "06_groups"}


def test_the_two_stage_errors_are_ordered(folder):
    values = {key: estimate.value for key, estimate in folder.results().items()}
    assert values["test.age_stages.mae_oracle_bin"] < values["test.age_stages.mae_routed"]


def test_metrics_are_valid_json_without_nan(folder):
    for path in (folder.path / "metrics").glob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in a metrics file"))


def test_groups_are_compared_with_chance_and_at_one_age_mix(folder):
    details = folder.details("06_groups")
    gaps = [row for row in details["gaps"] if row["difference"] is not None]
    assert gaps and all(row["difference"] >= 0 and row["groups"] >= 2 for row in gaps)
    assert all(0 < row["p_adjusted"] <= 1 and 0 <= row["low"] <= row["high"] for row in gaps)
    rates = details["standardised"]
    singles = ("gender", "ethnicity", "expression")
    assert {row["by"] for row in rates} == {*singles, *map(" x ".join, combinations(singles, 2))}
    raw = {(row["group"], row["metric"]): row["raw"] for row in rates}
    by_gender = details["groups"]["gender_name"]
    for row in by_gender:
        assert math.isclose(raw[row["gender_name"], "age_mae"], row["age_mae"])
    standardised = {row["claim"] for row in details["claims_standardised"]}
    assert len(standardised) == 2 and standardised < {row["claim"] for row in details["claims"]}
    ranking = folder.details("05_evaluate")["ranking"]
    assert ranking and all(row["average_precision_low"] <= row["average_precision"] for row in ranking)


def test_every_cluster_of_errors_has_a_fault_and_numbers(folder):
    details = folder.details("07_error_clusters")
    sizes = folder.load_table("error_clusters")["cluster"].value_counts().drop(-1, errors="ignore").to_dict()
    assert {row["cluster"]: row["n"] for row in details["faults"]} == sizes
    assert {row["fault"] for row in details["faults"]} <= {"the labels", "the model", "inconclusive"}
    assert all(0 <= row["really wrong"] <= 1 for row in details["faults"])  # the truth about drawn faces
    assert {row["cluster"] for row in details["measured"]} == set(sizes)
    methods = details["clustering"]["methods"]
    assert [row["method"] for row in methods] == ["HDBSCAN", "k-means"] and sum(row["used"] for row in methods) == 1


def test_the_slides_are_the_same_bytes_twice(folder, tmp_path):
    first, second = (build_slides(folder, tmp_path / name).read_bytes() for name in ("one.pdf", "two.pdf"))
    assert first.startswith(b"%PDF") and first == second


def test_every_slide_is_one_page_and_has_its_own_message(folder, tmp_path):
    deck = slides.deck(folder, tmp_path)
    titles = [slide["title"] for slide in deck["slides"]]
    assert 12 <= len(titles) + 1 <= 16 and len(set(titles)) == len(titles)
    assert len(slides.typeset(folder, deck, tmp_path, format="png", ppi=10.0)) == len(titles) + 1  # with the title page
    assert "synthetic faces" in deck["footer"] and deck["synthetic"]


def test_the_numbers_of_the_slides_are_the_run_s(folder, tmp_path):
    copy = runs.RunFolder(shutil.copytree(folder.path, tmp_path / "copy", ignore=shutil.ignore_patterns("tables")))
    path = copy.path / "metrics" / "05_evaluate.json"
    text = path.read_text()
    (finding,) = (finding for finding in folder.findings().values() if finding.key == "test.age")
    path.write_text(text.replace(json.dumps(finding.text, ensure_ascii=False)[1:-1], "Age is off by 76.54 y."))
    assert "76.54 y" in json.dumps(slides.deck(copy, tmp_path))
    assert "76.54 y" not in json.dumps(slides.deck(folder, tmp_path))


def test_the_report_can_be_built_without_executed_notebooks(folder):
    front = build_report(folder, []).read_text()
    assert "Gender" in front and "Synthetic faces" in front


@pytest.fixture(scope="module")
def published(folder, tmp_path_factory):
    """The run's copy, published; nbval keeps no executed notebooks, so their sources stand in."""
    root = tmp_path_factory.mktemp("published")
    copy = shutil.copytree(folder.path, root / "runs" / folder.name)
    (copy / "notebooks").mkdir(exist_ok=True)
    for name in schema.NOTEBOOKS:
        shutil.copy(notebook_path(name), copy / "notebooks")
    done = {"package": runs.package_fingerprint(), "parameters": {"run": folder.name}, "cells": 1, "seconds": 1.0}
    write_json(copy / "progress.json", dict.fromkeys(schema.NOTEBOOKS, done))
    return publish(runs.RunFolder(copy), root / "reports" / "utkface").parent


def test_published_weights_are_half_as_large_and_predict_the_same(folder, published):
    rounding = json.loads((published / "rounding.json").read_text())
    assert rounding["faces"] > 10 and rounding["age_pred"]["max"] < 0.1
    assert all(rounding[label.columns[0]]["max"] < 0.01 for label in folder.learned if not label.unit)
    names = ["model", "age_stages"]  # notebook 08 explains both, whichever predicts
    written = sorted(path.stem for path in (published / "checkpoints").glob("*.safetensors"))
    assert written == sorted([*names, "ood"])
    for name in names:
        sizes = [(path / "checkpoints" / f"{name}.safetensors").stat().st_size for path in (folder.path, published)]
        assert 0.49 < sizes[1] / sizes[0] < 0.52


def test_predict_finds_the_published_weights(published, facelib, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "project_root", lambda: published.parent.parent)
    code, out, err = facelib("predict", example_file(), "--json", "--ethnicity")
    assert code == 0 and "predictions for photographs mean nothing" in err
    assert "test faces" in err and "not measured" not in err  # how often the sensitive label is predicted right
    (direct,) = Predictor.load(published).photos([example_file()])
    assert json.loads(out)["age_years"] == pytest.approx(direct.to_dict()["age_years"], abs=1)


def test_upright_faces_are_flagged_as_often_as_promised_and_noise_is(folder):
    assert folder.results()["validation.out_of_distribution"].low < 0.2
    predictor = Predictor.load(folder)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (8, predictor.crop_px, predictor.crop_px, 3), np.uint8)
    assert predictor(noise)["out_of_distribution"].all()


def test_published_pages_say_what_the_run_measured_and_that_it_is_synthetic(folder, published):
    results = folder.results()
    for name in ("README.md", "model_card.md", "data_card.md"):
        text = (published / name).read_text()
        assert "ynthetic" in text and folder.params["data"]["fingerprint"] in text
        assert "{{" not in text and str(runs.project_root()) not in text
    summary = markdown_summary(headline_rows(folder))
    assert summary in (published / "README.md").read_text()
    assert f"{results['test.age.mae'].n:,} for testing" in (published / "model_card.md").read_text()
    assert runs.RunFolder(published).results() == results


def test_slides_can_be_made_from_what_is_published(folder, published, tmp_path):
    copy = runs.RunFolder(shutil.copytree(published, tmp_path / folder.name))
    assert build_slides(copy, tmp_path / "a.pdf").read_bytes() == build_slides(folder, tmp_path / "b.pdf").read_bytes()


def test_a_restored_run_is_evaluated_to_the_published_numbers(folder, published, facelib, monkeypatch):
    monkeypatch.delenv("FACELIB_CACHE")  # the faces that are drawn already
    code, _, err = facelib("restore", published, "--run", "again")
    assert code == 0, err
    again = runs.open_run("again")
    embeddings, before = (run.load_array("embeddings").astype(float) for run in (again, folder))
    assert np.abs(embeddings - before).max() < 0.02 * np.abs(before).max()
    code, said, err = facelib("run", "--run", "again", "--to", "07")
    assert code == 0 and "04_age_two_stage  finished earlier" in said, err
    measured, expected = again.results(), folder.results()
    assert {key: measured[key] for key in expected if key.startswith("test")} == {
        key: value for key, value in expected.items() if key.startswith("test")
    }
    assert measured["errors.share"] == expected["errors.share"]
    assert len((again.path / "test_reads.csv").read_text().splitlines()) == 2 + len(
        (folder.path / "test_reads.csv").read_text().splitlines()
    )  # notebooks 05 and 06 each read it once more
