"""The deck: findings as titles, figures that exist, any attributes, one page a slide, the same bytes for one run."""

import pytest

from facelib.errors import MissingFromRun
from facelib.evaluation.headline import expected_keys
from facelib.finding import Finding
from facelib.reporting import slides
from facelib.schema import ClassAttribute
from facelib.statistics import Estimate
from facelib.storage import write_text

SMILE = ClassAttribute("smile", classes=("no", "yes"))
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"><rect width="300" height="200"/></svg>'
FIGURES = ("01_labels", "01_joint_imbalance", "03_training_curves", "04_two_stage_errors", "05_age_scatter")


@pytest.fixture
def run(filled):
    filled.update_params(data={"fingerprint": "0" * 20})
    for name in (*FIGURES, "06_smile_by_age", "06_gender_by_age"):
        write_text(filled.path / "figures" / f"{name}.svg", SVG)
    return filled


def by_title(run) -> dict[str, dict]:
    return {slide["title"]: slide for slide in slides.deck(run)["slides"]}


def test_a_slide_is_titled_with_the_first_sentence_of_its_finding(run):
    deck = by_title(run)
    assert deck["Text of training.gap"]["points"] == [
        "More of training.gap.",
        "Text of training.curve. More of training.curve.",
    ]
    run.notebook("03_train_multitask").save({}, [Finding("training.gap", "4.5 y apart, 3 % of all.", n=9)])
    assert by_title(run)["4.5 y apart, 3 % of all"]["points"] == []


def test_slides_keep_their_order_and_leave_out_what_was_not_found(run):
    measured = run.findings()
    titles = [slide["title"] for slide in slides.deck(run)["slides"]]
    leads = [slide.lead for slide in slides.SLIDES if slide.lead in measured and slide.lead != "explain.regions"]
    assert titles == [f"Text of {lead}" for lead in leads]  # explain.regions lacks its figure
    assert "test.intervals" not in leads and "groups.same_ages" not in leads


def test_a_figure_that_a_run_has_not_kept_takes_its_slide_away(run):
    (run.path / "figures" / "04_two_stage_errors.svg").unlink()
    assert "Text of age.chosen" not in by_title(run)
    (run.path / "figures" / "01_labels.svg").unlink()
    assert by_title(run)["Text of data.faces"]["figures"] == ["01_joint_imbalance.svg"]


def test_the_first_figure_of_a_pattern_is_shown(run):
    assert by_title(run)["Text of groups.worst"]["figures"] == ["06_gender_by_age.svg"]
    (run.path / "figures" / "06_gender_by_age.svg").unlink()
    assert by_title(run)["Text of groups.worst"]["figures"] == ["06_smile_by_age.svg"]


def test_tables_hold_the_run_s_rows(run):
    deck = by_title(run)
    header, age, *_ = deck["Text of test.baselines"]["table"]
    assert age == ["Age: mean absolute error", "4.86 y", "4.50 to 5.20", "1,234", "15.20 y"] and len(header) == 5
    assert deck["Text of claims.answers"]["table"][1][1:] == ["cannot tell", "not found", "0.012", "-0.020 to 0.040"]
    stored = run.load_metrics("05_evaluate")
    found = [*run.findings().values(), Finding("test.intervals", "Held.", n=9)]
    run.notebook("05_evaluate").save(run.results(), found, **stored["details"])
    rows = by_title(run)["Held"]["table"]
    assert rows[0] == ["Age label", "within, plain", "within, by predicted age", "n"]
    assert rows[1] == ["30-45", "90.0 % (70.0 to 95.0)", "90.0 % (70.0 to 95.0)", "60"]


def test_the_slide_of_metrics_holds_every_attribute(run):
    keys = [key for key in expected_keys(run.learned) if key.startswith("test.")]
    run.notebook("06_groups").save({key: Estimate(0.5, 0.4, 0.6, 9, "share") for key in keys})
    names = [row[0] for row in by_title(run)["Text of test.baselines"]["table"]]
    assert {"Age: mean absolute error", "Gender: accuracy", "Ethnicity: macro F1"} <= set(names) and len(names) <= 12


def test_a_run_of_another_attribute_has_a_deck(run, fill, tmp_path):
    run.set_attributes((SMILE,), (SMILE,))
    (run.path / "figures" / "06_gender_by_age.svg").unlink()
    deck = slides.deck(fill(run))
    assert deck["title"] == "Smile from faces" and "Text of test.age" not in by_title(run)
    assert "gender" not in str(deck) and "ethnicity" not in str(deck)
    assert slides.build_slides(run, tmp_path / "slides.pdf").read_bytes().startswith(b"%PDF")


def test_an_unfinished_run_has_no_slides(run, tmp_path):
    (run.path / "metrics" / "09_external_photos.json").unlink()
    with pytest.raises(MissingFromRun, match="09_external_photos"):
        slides.build_slides(run, tmp_path / "slides.pdf")
    assert not (tmp_path / "slides.pdf").exists()


def test_each_slide_fits_its_page_and_the_same_run_gives_the_same_bytes(run, tmp_path):
    long = " ".join(["A sentence of a finding that says much about many groups of faces."] * 9)
    run.notebook("06_groups").save({}, [Finding("groups.worst", f"{'Worse for ' + 'ages 75+, ' * 20}. {long}", n=9)])
    deck = slides.deck(run)
    assert len(slides.typeset(run, deck, format="png", ppi=10.0)) == len(deck["slides"]) + 1  # with the title page
    first, second = (slides.build_slides(run, tmp_path / f"{name}.pdf").read_bytes() for name in "ab")
    assert first == second and len(first) > 5000


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_results_are_labelled_on_every_slide(run, synthetic):
    if not synthetic:
        run.update_params(data={"path": "/data/faces"})
    deck = slides.deck(run)
    assert deck["synthetic"] is synthetic and ("synthetic faces" in deck["footer"]) is synthetic
