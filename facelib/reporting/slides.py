"""The slides: typeset with typst from a run's findings and figures, the same bytes for the same run."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
import typst

from facelib.evaluation.groups import group_metrics
from facelib.evaluation.headline import metrics_of
from facelib.finding import Finding
from facelib.formats import as_written, read_json
from facelib.reporting import figures, findings
from facelib.reporting.site import TEMPLATES
from facelib.runs import REFERENCE, RunFolder, project_root
from facelib.schema import AGE, NOTEBOOKS
from facelib.statistics import Estimate
from facelib.storage import atomic_path, write_text


def _number(estimate: Estimate | None, name: str, note: str = "") -> list[dict]:
    """A number of a slide; none where it is not measured. A note on what has an interval begins with it."""
    if estimate is None or np.isnan(estimate.value):
        return []
    interval = f"{estimate.interval_text} (95 %)\nn = {estimate.n:,}" if estimate.low < estimate.high else ""
    return [{"value": estimate.text, "name": name, "note": "\n".join(filter(None, (interval, note)))}]


def copies_numbers(run: RunFolder) -> list[dict]:
    """Copies, and how many of them disagree."""
    results = run.results()
    exact, near = (results.get(f"audit.duplicates.{kind}_groups") for kind in ("exact", "near"))
    differ = results.get("audit.contradicting_groups")
    numbers = _number(exact, "groups of byte-identical copies") + _number(near, "groups with a near copy")
    return numbers + _number(differ, "of all groups of copies have labels that differ", "one year of age counts")


def headline_numbers(run: RunFolder) -> list[dict]:
    """The first metric of each attribute, beside its baselines."""
    rows, numbers = {row["key"]: row for row in reversed(findings.headline_rows(run))}, []  # the first of each key
    keys = (metrics_of(attribute)[0].key for attribute in run.learned)
    for row in (rows[key] for key in keys if key in rows):
        beside = [f"{row['interval']} (95 %)", f"n = {row['n']}"]
        beside += [f"without an image {row['baseline']}"] * bool(row["baseline"])
        beside += [f"collection time only {row['by_time']}"] * bool(row["by_time"])
        numbers.append({"value": row["value"], "name": row["name"], "note": "\n".join(beside)})
    return numbers


def trust_numbers(run: RunFolder) -> list[dict]:
    """What speaks for the numbers: no leaks, coverage of the intervals."""
    results = run.results()
    numbers = _number(results.get("splits.leaking_pairs"), "pairs of detected copies across the split")
    numbers += _number(
        results.get("splits.recognised_test_images"), "test images showing a person who was recognised in another split"
    )
    return numbers + _number(results.get(f"test.{AGE.name}.interval_coverage"), "coverage of the 90 % age intervals")


def elsewhere_numbers(run: RunFolder) -> list[dict]:
    """What the published run predicts of photographs unlike its test faces; none of another run.

    `studies.crossfit_page` and `studies.cross_data` measured them and keep them beside the published run.
    """
    reference = project_root() / REFERENCE
    sessions, others = (reference.parent / name / "results.json" for name in ("crossfit", "cross_data"))
    if not all(path.exists() for path in (sessions, others, reference / "params.yaml")):
        return []
    if RunFolder(reference).params["created"] != run.params["created"]:
        return []
    held, numbers = read_json(sessions)["sessions"], []
    matrix = read_json(others)["test"]["matrix"]
    tested, joint = (
        next(found["fairface"] for name, found in matrix.items() if name.startswith(f"{network} "))
        for network in (reference.name, "faces")
    )
    for metric in (group_metrics([attribute])[0] for attribute in run.learned if not attribute.sensitive):
        known, unseen = (Estimate.from_dict(held[metric.key][which]) for which in ("usual", "held out"))
        change = Estimate.from_dict(held[metric.key]["difference"]).change_text(metric.unit)
        beside = f"known sessions {known.text}\ndifference {change}"
        numbers += _number(unseen, f"{metric.title}, unseen collection sessions", beside)
    for metric in (metrics_of(attribute)[0] for attribute in run.learned):
        if metric.key in tested and metric.more_is_better:
            beside = f"own test split {run.results()[f'test.{metric.key}'].text}"
            beside += f"\njoint network, trained on FairFace too, {Estimate.from_dict(joint[metric.key]).text}"
            numbers += _number(Estimate.from_dict(tested[metric.key]), f"{metric.title}, FairFace", beside)
    return numbers


def claims_table(run: RunFolder) -> list[list[str]]:
    """The tested claims: claim, answer, value with interval, and what that is."""
    table = []
    for row in findings.claim_rows(run):
        changed = row["same_ages"] not in ("", row["answer"])
        measure = row["measure"] + (f"; {row['same_ages']} at equal ages" if changed else "")
        table.append(
            [findings.without_brackets(row["claim"]), row["answer"], f"{row['value']} ({row['interval']})", measure]
        )
    return table


@dataclass(frozen=True)
class Slide:
    """One slide, titled with the first sentence of a finding; without the finding there is none.

    Attributes
    ----------
    figure : str
        Its name in `figures.SHOWN`; where the run cannot show it there is no slide.
    lead : str
        The finding's key, or the sentence itself; the figure's own key unless said otherwise.
    points : tuple of str
        Keys of findings whose first sentences stand beside the figure.
    notes : tuple of str
        Sentences, or keys of findings, that the speaker's notes quote; `{attribute}` stands for each learned one.
    numbers, table : callable, optional
        What is shown in place of a figure.
    """

    figure: str = ""
    lead: str = ""
    points: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    numbers: Callable[[RunFolder], list[dict]] = lambda run: []
    table: Callable[[RunFolder], list[list[str]]] = lambda run: []


METHOD = (
    "Splits precede all training. Choices are made on validation; intervals are fitted on calibration.",
    "Intervals are 95 %, by a bootstrap over groups of copies or Wilson's.",
)
SLIDES = (
    Slide("labels", notes=("data.ages", "data.imbalance")),
    Slide(lead="copies.groups", numbers=copies_numbers, notes=("persons.matches", "labels.doubted")),
    Slide("copies", notes=("split.random", "labels.planted")),
    Slide(lead="test.baselines", numbers=headline_numbers, notes=("test.{attribute}", "training.gap")),
    Slide("scatter", points=("age.shrinkage",)),
    Slide("two_stages", notes=("age.heads",)),
    Slide("age_error", notes=("groups.age_bias",)),
    Slide("two_by_age"),
    Slide(
        "worse",
        "Age error by age band and class.",
        ("groups.age_bias",),
        ("groups.worst", "groups.same_age_gaps", "groups.same_ages"),
    ),
    Slide(lead="claims.answers", table=claims_table, notes=("Intervals are widened for the number of claims.",)),
    Slide("intervals", notes=("test.calibration",)),
    Slide("clusters", points=("errors.causes",)),
    Slide("maps", notes=("explain.background", "explain.faithful", "explain.random_weights")),
    Slide(
        lead="Unseen collection sessions, and FairFace.",
        numbers=elsewhere_numbers,
        notes=(
            "Cross-fitted networks that saw no face of a photograph's collection session, beside those that did.",
            "FairFace is a source that the network has never seen.",
        ),
    ),
    Slide(lead="split.leaks", numbers=trust_numbers, notes=("test.faces", "prediction.ood", *METHOD)),
)


def build_slides(run: RunFolder, out: Path) -> Path:
    """Typeset the slides of a finished run into a PDF, `out`, with the speaker's notes beside it in Markdown.

    MissingFromRun if a notebook has not run; DamagedRun if a file of the run is not what facelib writes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        with as_written(run.path):
            pages = deck(run, Path(scratch))
        with atomic_path(out) as partial:
            typeset(run, pages, Path(scratch), output=partial, format="pdf")
    write_text(out.with_suffix(".notes.md"), notes(pages))
    return out


def typeset(run: RunFolder, pages: dict, root: Path, **options):
    """Let typst set a deck whose figures lie in `root`; what it returns for options such as `format="png"`."""
    shutil.copy(TEMPLATES / "slides.typ", root)
    return typst.compile(
        root / "slides.typ",
        root=root,
        # matplotlib's own font alone, so that every machine sets the same lines
        font_paths=[Path(mpl.get_data_path()) / "fonts" / "ttf"],
        ignore_system_fonts=True,
        sys_inputs={"deck": json.dumps(pages)},
        timestamp=datetime.fromisoformat(run.params["created"]),
        **options,
    )


def deck(run: RunFolder, root: Path) -> dict:
    """Titles, figures, numbers, tables and notes of all slides; figures are made in `root`."""
    for name in NOTEBOOKS:
        run.load_metrics(name)  # raises where the notebook has not run
    measured, params = run.findings(), run.params
    drawn = figures.shown(run, ["faces", *filter(None, (slide.figure for slide in SLIDES))], root)
    filled = [_filled(run, slide, measured, drawn) for slide in SLIDES]
    return {
        "title": findings.title(run),
        "subtitle": f"{run.results()['data.images'].text} {findings.faces(run)}, profile {run.settings.profile}",
        "picture": drawn["faces"].name if "faces" in drawn else None,
        "synthetic": run.is_synthetic,
        "data_sets": findings.data_sets_text(run),
        "footer": f"run {run.name}, commit {params['commit']}, data {params['data']['fingerprint']}{run.note}",
        "slides": [slide for slide in filled if slide],
    }


def _filled(run: RunFolder, slide: Slide, measured: dict[str, Finding], drawn: dict[str, Path]) -> dict | None:
    """A slide with the run's texts, numbers and files; None where the run has not found or kept what it shows.

    A figure that may show a reader's own face is not kept.
    """
    lead = slide.lead or figures.SHOWN[slide.figure].key(run)
    filled = {"numbers": slide.numbers(run), "table": slide.table(run), "figure": None}
    if slide.figure in drawn:
        filled["figure"] = drawn[slide.figure].name
    said_by_itself = lead.endswith(".")
    if not (said_by_itself or lead in measured) or not any(filled.values()):
        return None
    keys = (lead, *slide.points, *slide.notes)
    said = [[key] if key.endswith(".") else findings.chosen(measured, (key,), run.learned) for key in keys]
    points = [findings.sentence(finding.text) + "." for finding in findings.chosen(measured, slide.points, run.learned)]
    texts = [str(text) for group in said for text in group]
    title = findings.sentence(lead if said_by_itself else measured[lead].text)
    return filled | {"title": title, "points": points, "notes": texts}


def notes(pages: dict) -> str:
    """What the speaker can say to each slide, in Markdown: the findings in full."""
    text = f"# Notes for the speaker: {findings.plain(pages['title'])}\n"
    for number, slide in enumerate(pages["slides"], 2):  # the title is the first
        said = "\n\n".join(map(findings.plain, slide["notes"]))
        text += f"\n## {number}. {findings.plain(slide['title'])}\n\n{said}\n"
    return text
