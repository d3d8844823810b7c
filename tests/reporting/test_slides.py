"""The deck: findings as titles, a figure or numbers a slide, any attributes, the same bytes for one run."""

import shutil

import pytest

from facelib.errors import MissingFromRun
from facelib.finding import Finding
from facelib.formats import write_json
from facelib.reporting import slides
from facelib.schema import ClassAttribute
from facelib.statistics import Estimate
from facelib.storage import write_text

SMILE = ClassAttribute("smile", classes=("no", "yes"))
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"><rect width="300" height="200"/></svg>'


@pytest.fixture
def run(filled):
    filled.update_params(data={"fingerprint": "0" * 20})
    for name in ("01_labels", "02_copies_disagree", "04_two_stage_errors", "07_error_map"):
        write_text(filled.path / "figures" / f"{name}.svg", SVG)
    return filled


def by_title(run, folder) -> dict[str, dict]:
    return {slide["title"]: slide for slide in slides.deck(run, folder)["slides"]}


def test_a_slide_shows_one_thing_below_the_sentence_that_it_says(run, tmp_path):
    deck = by_title(run, tmp_path)
    assert list(deck) == [
        "Text of data.faces", "Text of copies.groups", "Text of test.baselines", "Text of age.chosen",
        "Text of groups.age", "Age error by age band and class", "Text of claims.answers", "Text of split.leaks",
    ]  # fmt: skip
    for slide in deck.values():
        assert sum(bool(slide[kind]) for kind in ("figure", "numbers", "table")) == 1
    assert deck["Text of groups.age"]["figure"] == "06_age_error.svg" and (tmp_path / "06_age_error.svg").is_file()
    assert deck["Age error by age band and class"]["points"] == ["Text of groups.age_bias."]


def test_numbers_stand_with_interval_n_and_baseline(run, tmp_path):
    numbers = by_title(run, tmp_path)["Text of test.baselines"]["numbers"]
    assert [number["value"] for number in numbers] == ["4.86 y", "91.2 %", "91.2 %"]
    assert numbers[0]["name"] == "Age: mean absolute error"
    assert numbers[0]["note"] == "4.50 to 5.20 (95 %)\nn = 1,234\nwithout an image 15.20 y"
    (claim,) = by_title(run, tmp_path)["Text of claims.answers"]["table"]
    assert claim == [
        "Babies drive the errors",
        "inconclusive",
        "0.012 (-0.020 to 0.040)",
        "error rate; not supported at equal ages",
    ]


def test_the_published_run_alone_shows_what_was_measured_elsewhere(run, tmp_path, monkeypatch):
    title = "Unseen collection sessions, and FairFace"
    monkeypatch.setattr(slides, "project_root", lambda: tmp_path)
    assert title not in by_title(run, tmp_path)
    run.notebook("05_evaluate").save({"test.gender.accuracy": Estimate(0.95, 0.94, 0.96, 9, "share")})
    both = [Estimate(value, value - 0.01, value + 0.01, 9, "share") for value in (0.94, 0.91)]
    ends = {"usual": both[0], "held out": both[1], "difference": Estimate(-0.03, -0.05, -0.01, 9)}
    years = ends | {"difference": Estimate(0.36, 0.22, 0.63, 9)}
    measured = {"age_mae": years, "gender_accuracy": ends}
    write_json(tmp_path / "reports" / "crossfit" / "results.json", {"sessions": measured})
    networks = {
        "faces (b)": {"fairface": {"gender.accuracy": both[0]}},
        "utkface (a)": {"fairface": {"gender.accuracy": both[1]}},
    }
    write_json(tmp_path / "reports" / "cross_data" / "results.json", {"test": {"matrix": networks}})
    shutil.copytree(run.path, tmp_path / "reports" / "utkface")
    shown = by_title(run, tmp_path)[title]["numbers"]
    assert [number["value"] for number in shown] == ["91.0 %"] * 3
    assert shown[0]["note"].endswith("difference +0.36 y (+0.22 to +0.63)")
    assert shown[1]["note"].endswith("known sessions 94.0 %\ndifference -3.0 points (-5.0 to -1.0)")
    assert shown[2]["note"].endswith("own test split 95.0 %\njoint network, trained on FairFace too, 94.0 %")
    run.update_params(created="2026-01-01T00:00:00+00:00")
    assert title not in by_title(run, tmp_path)


def test_the_notes_quote_the_findings_in_full(run, tmp_path):
    text = slides.notes(slides.deck(run, tmp_path))
    assert "## 2. Text of data.faces\n\nText of data.faces. More of data.faces.\n\nText of data.ages. More" in text
    assert "Intervals are 95 %" in text


def test_a_figure_that_a_run_has_not_kept_takes_its_slide_away(run, tmp_path):
    (run.path / "figures" / "01_labels.svg").unlink()
    assert "Text of data.faces" not in by_title(run, tmp_path)


def test_a_run_of_another_attribute_has_a_deck(run, fill, tmp_path):
    run.set_attributes((SMILE,), (SMILE,))
    deck = slides.deck(fill(run), tmp_path)
    assert deck["title"] == "Smile from faces" and "Text of groups.age" not in str(deck)
    assert "gender" not in str(deck) and "ethnicity" not in str(deck)
    assert slides.build_slides(run, tmp_path / "slides.pdf").read_bytes().startswith(b"%PDF")


def test_an_unfinished_run_has_no_slides(run, tmp_path):
    (run.path / "metrics" / "09_external_photos.json").unlink()
    with pytest.raises(MissingFromRun, match="09_external_photos"):
        slides.build_slides(run, tmp_path / "slides.pdf")
    assert not (tmp_path / "slides.pdf").exists()


def test_each_slide_fits_its_page_and_the_same_run_gives_the_same_bytes(run, tmp_path):
    long = " ".join(["A sentence of a finding that says much about many groups of faces"] * 4)
    run.notebook("06_groups").save({}, [Finding("claims.answers", f"{long}. {long}", n=9)], **run.details("06_groups"))
    deck = slides.deck(run, tmp_path)
    assert len(slides.typeset(run, deck, tmp_path, format="png", ppi=10.0)) == len(deck["slides"]) + 1  # with the title
    first, second = (slides.build_slides(run, tmp_path / f"{name}.pdf").read_bytes() for name in "ab")
    assert first == second and len(first) > 5000
    assert (tmp_path / "a.notes.md").read_text() == (tmp_path / "b.notes.md").read_text()


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_results_are_labelled_on_every_slide(run, synthetic, tmp_path):
    if not synthetic:
        run.update_params(data={"path": "/data/faces"})
    deck = slides.deck(run, tmp_path)
    assert deck["synthetic"] is synthetic and ("synthetic faces" in deck["footer"]) is synthetic
