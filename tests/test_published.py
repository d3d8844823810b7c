"""README, docs, figures, slides and reports/utkface hold the same numbers, and show no person."""

import re

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmarks import ROBUSTNESS_RESULTS
from facelib.config import SECTION_OF, resolve
from facelib.formats import read_json
from facelib.prediction.predictor import Predictor
from facelib.publication.publish import TABLES, blocks, check_notebook, digest_of_test_faces, lead_results, versions
from facelib.publication.restore import check_published, published_files
from facelib.reporting import slides
from facelib.reporting.findings import headline_rows, markdown_summary
from facelib.runs import RunFolder, project_root, published_predictor
from facelib.schema import NOTEBOOKS
from facelib.statistics import Estimate
from studies import (
    CROSS_DATA_RESULTS,
    CROSSFIT_RESULTS,
    PROTOCOL_RESULTS,
    cross_data,
    crossfit_page,
    docs_tables,
    protocols,
)

ROOT = project_root()
REFERENCE = ROOT / "reports" / "utkface"
pytestmark = pytest.mark.skipif(
    not (REFERENCE / "results.json").exists(), reason="no reference run is published yet: `make reference` does"
)


@pytest.fixture
def run() -> RunFolder:
    return RunFolder(REFERENCE)


def block(page: str, name: str) -> str:
    """What stands between the marks of a name on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (found,) = re.findall(rf"(?s)<!-- {name} -->\n(.*?)<!-- end of {name} -->", text)
    return found


def test_the_pages_hold_what_publication_writes(run):
    written = {(path, name): text for path, name, text in blocks(run, REFERENCE)}
    assert {name for _, name in written} == {"limits", "results", "comparison"}
    assert {key: block(*key) for key in written} == written


def test_the_readme_has_at_most_six_results_and_the_runs_page_all(run):
    assert 0 < block("README.md", "results").count("\n") - 2 <= 6
    assert markdown_summary(headline_rows(run)) in (REFERENCE / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "name"), docs_tables.BLOCKS)
def test_the_tables_of_the_docs_are_of_what_was_measured(page, name):
    assert block(page, name) == docs_tables.BLOCKS[page, name]()


def test_no_measured_run_differed_or_left_anything_behind():
    files = [ROOT / ROBUSTNESS_RESULTS / f"kills_{profile}.json" for profile in ("smoke", "demo")]
    kills = [read_json(file) for file in files]
    assert all(done["survived"] == done["kills"] and not done["leftovers"] + done["differing"] for done in kills)
    repeated = read_json(ROOT / ROBUSTNESS_RESULTS / "repeated_smoke.json")
    assert repeated["results_json_same"] and not repeated["differing"]
    images = read_json(ROOT / ROBUSTNESS_RESULTS / "fuzz_images.json")
    assert images["used"] + images["rejected"] == images["files"] and not images["opened_outside"] + images["lost"]


def test_the_published_version_is_one_of_those_listed(run):
    """Not always the last: validation may prefer an older one."""
    dates = set(pd.read_csv(REFERENCE / "test_reads.csv")["date"])
    values = {key: estimate.text for key, estimate in lead_results(run).items()}
    (version,) = (each for each in versions(REFERENCE) if values.items() <= each.items())
    assert version["faces"] == digest_of_test_faces(run) and version["tested"] in dates


@pytest.mark.parametrize(("target", "folder"), [("reference", "utkface"), ("predictor", "faces")])
def test_a_published_run_is_of_the_settings_of_its_command(target, folder):
    if not (ROOT / "reports" / folder).exists():
        pytest.skip(f"reports/{folder} is not published yet: `make {target}` does")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    seed = re.search(r"^SPLIT_SEED := (\d+)$", makefile, re.MULTILINE)[1]
    command = re.search(rf"(?s)^{target}:.*?--profile (\w+)(.*?)\$\(ARGS\)", makefile, re.MULTILINE)
    given = dict(re.findall(r"-p (\w+) (\S+)", command[2].replace("$(SPLIT_SEED)", seed)))
    assert given
    given = {name: yaml.safe_load(value) for name, value in given.items() if name in SECTION_OF}
    settings = resolve(command[1], given, photographs=True)
    assert RunFolder(ROOT / "reports" / folder).settings == settings


def test_the_predictor_is_published_without_tables_and_judged_on_both_test_splits():
    folder = ROOT / "reports" / "faces"
    if not folder.exists():
        pytest.skip("no network of both data sets is published yet: `make predictor` does")
    assert published_predictor() == folder
    assert not {path.name for path in folder.iterdir()} & {"tables", "notebooks", "croissant.json"}
    keys = " ".join(read_json(folder / "results.json"))
    assert "test_utkface." in keys and "test_fairface." in keys


def test_the_page_of_several_data_sets_is_of_the_measured_results():
    found = read_json(ROOT / CROSS_DATA_RESULTS / "results.json")
    assert (ROOT / CROSS_DATA_RESULTS / "README.md").read_text(encoding="utf-8") == cross_data.page(found)


def test_the_readme_says_what_unseen_sessions_change(run):
    found = read_json(ROOT / CROSSFIT_RESULTS / "results.json")
    for ends in found["sessions"].values():
        ends |= {key: Estimate.from_dict(value) for key, value in ends.items()}
    assert block("README.md", "crossfit") == crossfit_page.front(run, found)
    recipes = {each["settings"]["recipe"] for each in found["trainings"].values()}
    assert recipes == {run.settings.recipe}, "`studies.crossfit` trains by today's recipe"


def test_the_protocols_page_and_table_are_of_the_measured_results():
    published = read_json(ROOT / PROTOCOL_RESULTS / "published.json")
    assert (ROOT / PROTOCOL_RESULTS / "README.md").read_text(encoding="utf-8") == protocols.page(published)
    assert block("docs/method.md", "published split") == protocols.published_table(published)
    error = published["face"]["results"]["test.age.mae"]
    assert error["low"] <= 4.23 <= error["high"] < 4.37  # as docs/method.md says of the published errors
    text = f"{Estimate.from_dict(error).text} ({error['low']:.2f} to {error['high']:.2f})"
    assert text in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_slides_are_of_the_published_results(run, tmp_path):
    made = slides.build_slides(run, tmp_path / "slides.pdf").read_bytes()
    assert made == (ROOT / "presentation.pdf").read_bytes(), "`make slides RUN=utkface` makes them again"
    said = (tmp_path / "slides.notes.md").read_text(encoding="utf-8")
    assert said == (ROOT / "presentation.notes.md").read_text(encoding="utf-8")
    assert 12 <= said.count("\n## ") + 1 <= 16  # with the title page


def test_the_results_are_what_the_notebooks_measured(run):
    measured = {}
    for path in sorted((REFERENCE / "metrics").glob("*.json")):
        measured |= run.load_metrics(path.stem)["headline"]
    assert read_json(REFERENCE / "results.json") == measured


def test_the_figures_are_those_of_the_published_run():
    shared = [path for path in (ROOT / "figures").iterdir() if (REFERENCE / "figures" / path.name).exists()]
    assert shared
    assert [path.name for path in shared if path.read_bytes() != (REFERENCE / "figures" / path.name).read_bytes()] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_published_notebook_could_show_a_person(name):
    check_notebook(REFERENCE / "notebooks" / f"{name}.ipynb")


@pytest.mark.slow
def test_the_published_run_can_be_restored(run):
    assert published_files(REFERENCE)
    check_published(run)
    assert set(NOTEBOOKS) <= set(read_json(REFERENCE / "progress.json"))


@pytest.mark.slow
def test_the_tables_are_small_and_hold_numbers_and_names_alone(run):
    assert sorted(path.name for path in (REFERENCE / "tables").iterdir()) == sorted(
        run.table_path(name).name for name in TABLES
    )
    assert sum(path.stat().st_size for path in (REFERENCE / "tables").iterdir()) < 15e6
    for name in TABLES:
        table = run.load_table(name)
        for column in table.select_dtypes(exclude=["number", "bool"]):
            texts = table[column].dropna()
            assert texts.map(lambda text: isinstance(text, str)).all(), (name, column)
            assert not texts.str.contains(r"^/|^[A-Za-z]:\\|/home/|/root/|/Users/").any(), (name, column)


def test_the_weights_are_in_half_precision_and_not_synthetic():
    assert not Predictor.load(published_predictor()).synthetic
    paths = list((ROOT / "reports").glob("*/checkpoints/*.safetensors"))
    assert paths
    for path in paths:
        kinds = {value.dtype for value in load_file(path).values()}
        # The score of unfamiliar faces is no network: it divides by small variances.
        assert kinds <= ({torch.float32} if path.stem == "ood" else {torch.float16, torch.int64})
        assert path.stat().st_size < 30e6
