"""README, figures, slides and reports/utkface say the same, and show no person."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import EXTERNAL_RESULTS, PROTOCOL_RESULTS, ROBUSTNESS_RESULTS, protocols
from facelib.config import PROFILES
from facelib.prediction.predictor import load_predictor
from facelib.publication.publish import TABLES, VERSIONED, check_notebook, digest_of_test_faces, in_short, versions
from facelib.publication.published_numbers import comparison_table
from facelib.publication.restore import check_published, published_files
from facelib.reporting import slides
from facelib.reporting.findings import headline_rows, markdown_summary, shown
from facelib.runs import RunFolder, project_root, published_run, read_json
from facelib.schema import NOTEBOOKS

ROOT = project_root()
REFERENCE = ROOT / "reports" / "utkface"
SPREAD = ("age.mae", "gender.accuracy")  # the README says how far apart seeds lie
pytestmark = pytest.mark.skipif(
    not (REFERENCE / "results.json").exists(), reason="no reference run is published yet: `make reference` does"
)


@pytest.fixture
def run() -> RunFolder:
    return RunFolder(REFERENCE)


def test_the_readme_says_in_short_what_was_found(run):
    assert in_short(run, REFERENCE) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_published_version_is_one_of_those_listed(run):
    """Not always the last: validation may prefer an older one."""
    dates = set(pd.read_csv(REFERENCE / "test_reads.csv")["date"])
    values = {key: shown(run.results()[f"test.{key}"])["value"] for key in VERSIONED}
    (version,) = (each for each in versions(REFERENCE) if values.items() <= each.items())
    assert version["faces"] == digest_of_test_faces(run) and version["tested"] in dates


def test_the_published_run_is_of_the_profile_as_it_is(run):
    assert vars(run.profile) == vars(PROFILES["full"])


def test_the_comparison_is_of_the_published_results(run):
    assert comparison_table(run) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "reports/utkface/README.md"])
def test_the_tables_are_of_the_published_results(run, page):
    assert markdown_summary(headline_rows(run)) in (ROOT / page).read_text(encoding="utf-8")


def test_the_numbers_in_prose_are_the_measured_ones(run):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    no_image = run.results()["validation.age_stages.mae_no_image"]["value"]
    assert readme.count(f"{no_image:.1f} years") == 2
    audit = pd.read_csv(ROOT / "reports" / "audit" / "audit.csv").set_index("measure")
    share, low, high = 100 * audit.loc["test images with a copy in training", ["value", "low", "high"]].astype(float)
    assert f"{share:.1f} % ({low:.1f} to {high:.1f}) of the test images have a copy in training" in readme
    seeds = [found["results"] for found in json.loads((ROOT / PROTOCOL_RESULTS / "seeds.json").read_text())]
    ages, genders = (sorted(each[f"test.{key}"]["value"] for each in seeds) for key in SPREAD)
    said = " ".join(readme.split())
    assert f"age errors of {ages[0]:.2f} to {ages[-1]:.2f} years" in said
    assert f"gender accuracies of {100 * genders[0]:.1f} to {100 * genders[-1]:.1f} %" in said
    published = read_json(ROOT / PROTOCOL_RESULTS / "published.json")
    assert f"rounded it is {published['results']['test.age.cs5']['value']:.1%}" in said


def test_what_the_readme_says_of_speed_and_reliability_was_measured(run):
    said = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    seconds = sum(notebook["seconds"] for notebook in read_json(run.require("progress.json")).values())
    assert f"| {seconds / 60:.0f} min for UTKFace |" in said
    files = [ROOT / ROBUSTNESS_RESULTS / f"kills_{profile}.json" for profile in ("smoke", "demo")]
    kills = [read_json(file) for file in files]
    counts = [f"{found['survived']} of {found['kills']} (`{found['profile']}`)" for found in kills]
    assert f"| {', '.join(counts)} |" in said and not any(found["leftovers"] for found in kills)
    repeated = read_json(ROOT / ROBUSTNESS_RESULTS / "repeated_smoke.json")
    assert f"all {repeated['files']} files of tables" in said and repeated["results_json_same"]
    assert not repeated["differing"]
    images = read_json(ROOT / ROBUSTNESS_RESULTS / "fuzz_images.json")
    judged = images["used"] + images["rejected"]
    assert f"{judged:,} of {images['files']:,}; none opened outside" in said and not images["opened_outside"]
    assert f"| {images['wall_s']:.2f} s |" in said and f"| {images['peak_gb']:.2f} GB |" in said
    measured = read_json(ROOT / EXTERNAL_RESULTS / "predict_folder.json")
    folder = measured["calls"][-1]
    minutes, seconds = divmod(round(folder["seconds"]), 60)
    assert f"{folder['photographs']:,} photographs of 640 x 480 pixels took {minutes}:{seconds:02d} min" in said
    assert f"and {folder['peak memory (MB)'] / 1000:.1f} GB on two cores" in said and measured["cores used"] == 2


def test_the_protocols_page_and_table_are_of_the_measured_results():
    assert (ROOT / PROTOCOL_RESULTS / "README.md").read_text(encoding="utf-8") == protocols.page()
    published = json.loads((ROOT / PROTOCOL_RESULTS / "published.json").read_text())
    assert protocols.published_table(published) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_slides_are_of_the_published_results(run, tmp_path):
    deck = slides.deck(run)
    assert len(slides.typeset(run, deck, format="png", ppi=10.0)) == len(deck["slides"]) + 1  # with the title page
    made = slides.build_slides(run, tmp_path / "slides.pdf").read_bytes()
    assert made == (ROOT / "presentation.pdf").read_bytes(), "`make slides RUN=utkface` makes them again"


def test_the_results_are_what_the_notebooks_measured(run):
    measured = {}
    for path in sorted((REFERENCE / "metrics").glob("*.json")):
        measured |= run.load_metrics(path.stem)["headline"]
    assert run.results() == measured


def test_the_figures_are_those_of_the_published_run():
    shared = [path for path in (ROOT / "figures").iterdir() if (REFERENCE / "figures" / path.name).exists()]
    assert shared
    assert [path.name for path in shared if path.read_bytes() != (REFERENCE / "figures" / path.name).read_bytes()] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_published_notebook_could_show_a_person(name):
    check_notebook(REFERENCE / "notebooks" / f"{name}.ipynb")


def test_the_published_run_can_be_restored(run):
    assert published_files(REFERENCE)
    check_published(run)
    assert set(NOTEBOOKS) <= set(read_json(REFERENCE / "progress.json"))


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
    assert not load_predictor(published_run()).synthetic
    for path in (REFERENCE / "checkpoints").glob("*.safetensors"):
        kinds = {value.dtype for name, value in load_file(path).items() if name != "usual"}  # distances, no weights
        assert kinds <= {torch.float16, torch.int64}
        assert path.stat().st_size < 30e6
