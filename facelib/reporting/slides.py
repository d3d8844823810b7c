"""The slides: typeset with typst from a run's results and figures, the same bytes for the same run."""

import json
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import matplotlib as mpl
import typst

from facelib.errors import MissingFromRun
from facelib.reporting import findings
from facelib.reporting.site import TEMPLATES
from facelib.runs import RunFolder, as_written, atomic_path
from facelib.schema import ATTRIBUTES

# The headline rows that fit on one slide.
SLIDE_KEYS = (
    "age.mae", "age.cs5", "age.mae_le45", "age.mae_gt45", "age.interval_coverage", "gender.accuracy",
    "gender.accuracy_age5plus", "ethnicity.accuracy", "ethnicity.macro_f1",
)  # fmt: skip


def build_slides(run: RunFolder, out: Path) -> Path:
    """Typeset the slides of a finished run.

    Parameters
    ----------
    run : RunFolder
        With all notebooks done.
    out : Path
        The PDF to write.

    Raises
    ------
    MissingFromRun
        If a notebook whose results are shown has not run, or the run does not learn all attributes.
    DamagedRun
        If a file of the run is not what facelib writes.
    """
    with as_written(run.path):
        if absent := findings.absent_attributes(run):
            raise MissingFromRun(
                f"the slides speak of {', '.join(ATTRIBUTES)}, and run {run.name!r} has no results for "
                f"{' and '.join(absent)}: read its report"
            )
        pages = deck(run)
    with atomic_path(out) as partial:
        typeset(run, pages, output=partial, format="pdf")
    return out


def typeset(run: RunFolder, pages: dict, **options):
    """Let typst set a deck; what it returns for the options given, such as `format="png"`."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        shutil.copy(TEMPLATES / "slides.typ", root)
        for slide in pages["slides"]:
            for figure in slide["figures"]:
                shutil.copy(run.require(f"figures/{figure}"), root)
        return typst.compile(
            root / "slides.typ",
            root=root,
            # matplotlib's own font and no other, so that every machine sets the same lines.
            font_paths=[Path(mpl.get_data_path()) / "fonts" / "ttf"],
            ignore_system_fonts=True,
            sys_inputs={"deck": json.dumps(pages)},
            timestamp=datetime.fromisoformat(run.params["created"]),
            **options,
        )


def _slide(title: str, points=(), figures=(), table=(), stacked: bool = False, beside: bool = False) -> dict:
    """One slide; `stacked` sets several figures below each other, `beside` many points, smaller, beside one figure."""
    return {
        "title": title,
        "points": list(points),
        "figures": list(figures),
        "table": [list(row) for row in table],
        "stacked": stacked,
        "beside": beside,
    }


def _with_figures(run: RunFolder, slides: list[dict]) -> list[dict]:
    """The slides whose figures the run has kept: a picture that might show a reader's own face is not."""
    present = {path.name for path in (run.path / "figures").iterdir()}
    kept = [slide for slide in slides if not slide["figures"] or present & set(slide["figures"])]
    return [{**slide, "figures": [name for name in slide["figures"] if name in present]} for slide in kept]


def deck(run: RunFolder) -> dict:
    """Titles, points, tables and figures of all slides: each title one message that the run's numbers support."""
    notebooks = ("01_explore", "02_clean", "03_train_multitask", "04_age_two_stage", "05_evaluate_bias")
    for name in (*notebooks, "06_error_clusters", "07_explain", "08_external_photos"):
        run.load_metrics(name)  # or else one sentence says which notebook is missing
    slides = [*_data_slides(run), *_model_slides(run), *_group_slides(run), *_closing_slides(run)]
    synthetic = "Synthetic faces: these numbers say nothing about people."
    images = findings.shown(run.results()["data.images"])["value"]
    return {
        "title": "Age, gender and ethnicity from faces",
        "subtitle": f"{images} {findings.kind_of_faces(run)}, profile {run.profile.name}",
        "warning": synthetic if run.is_synthetic else "For research only.",
        "footer": f"run {run.name}, commit {run.params['commit']}, data {run.params['data']['fingerprint']}"
        + (f", {run.label}" if run.label else ""),
        "slides": _with_figures(run, slides),
    }


def _data_slides(run: RunFolder) -> list[dict]:
    """The purpose, the data, and what was wrong with them."""
    told = {answer.notebook: answer for answer in findings.answers(run)[:2]}
    explored, clean = findings.details_of(run, "01_explore"), findings.details_of(run, "02_clean")
    leaks = run.results()["splits.leaking_pairs"]["value"]
    return [
        _slide(
            "For research on data sets and models, not for deciding about a person",
            [
                "Not for guessing a sensitive trait of someone either.",
                "Labels are what annotators saw, not what people are.",
                "The numbers describe one model on one data set; other photographs are another matter.",
            ],
        ),
        _slide(
            f"{told['01_explore'].finding[:-1]}; {explored['thin_cells']} cells of the labels hold fewer than 30 faces",
            figures=["01_labels.svg", "01_joint_imbalance.svg"],
            stacked=True,
        ),
        _slide(
            told["02_clean"].finding[:-1],
            table=[["What", "Found"], *([row["name"], row["value"]] for row in findings.data_rows(run))],
        ),
        _slide(
            "How far two labels of one photograph lie apart",
            [f"A random split lets {clean['random_split_pairs']:.0f} pairs of copies cross; this one lets {leaks}."],
            figures=["02_copies_disagree.svg"],
        ),
    ]


def _model_slides(run: RunFolder) -> list[dict]:
    """How it was trained, how good it is, and what two stages bring."""
    results = run.results()
    value = {key: findings.shown(estimate)["value"] for key, estimate in results.items()}
    train = findings.details_of(run, "03_train_multitask")
    baseline = {row["metric"]: findings.shown(row)["value"] for row in
                findings.details_of(run, "05_evaluate_bias")["baselines"]}  # fmt: skip
    start = "random" if run.profile.start_weights == "none" else run.profile.start_weights
    good = next(answer for answer in findings.answers(run) if answer.notebook == "05_evaluate_bias")
    rows = [["Measure, test split", "Value", "95 % interval", "n", "Without looking"]]
    for key in SLIDE_KEYS:
        if f"test.{key}" in results:
            text = findings.shown(results[f"test.{key}"])
            rows.append([findings.HEADLINE[key][0], text["value"], text["interval"], text["n"], baseline.get(key, "")])
    chosen = findings.details_of(run, "04_age_two_stage")["chosen"]
    return [
        _slide(
            f"After {train['epochs']} epochs from {start} weights, the age error is {train['train_mae']:.1f} y in "
            f"training and {value['validation.age.mae']} on validation",
            [
                "The curves are of ages not yet rounded, and that of training is measured while learning, on changed "
                "pictures; the title is of the finished network, in whole years, on the pictures as they are."
            ],
            ["03_training_curves.svg"],
        ),
        _slide(good.finding[:-1], table=rows),
        _slide(f"{value['test.age.cs5']} of the ages are met within five years", figures=["05_age_scatter.svg"]),
        _slide(
            f"Two stages: {value['test.age_stages.mae_oracle_bin']} when told the true bin, "
            f"{value['test.age_stages.mae_routed']} when the network has to find it",
            [
                "Only the second can be used: the first looks at the label. Both are of the test split.",
                f"The figure is of validation, where “{chosen}” won: the age of all other slides.",
            ],
            ["04_two_stage_errors.svg"],
        ),
    ]


def _group_slides(run: RunFolder) -> list[dict]:
    """For whom it is worse, and how sure it is."""
    measured, results = findings.details_of(run, "05_evaluate_bias"), run.results()
    worse = next(answer for answer in findings.answers(run) if answer.question == "For whom is it worse?")
    claims = [["Claim of an earlier analysis", "Answer", "Same ages", "Value", "Interval"]]
    claims += [
        [row["claim"], row["answer"], row["same_ages"], row["value"], row["interval"]]
        for row in findings.claim_rows(run)
    ]
    kinds = list(dict.fromkeys(row["kind"] for row in measured["coverage_by_age"]))
    held = [["Age label", *(f"held, {kind}" for kind in kinds), "n"]]
    for group in dict.fromkeys(row["group"] for row in measured["coverage_by_age"]):
        rows = {row["kind"]: row for row in measured["coverage_by_age"] if row["group"] == group}
        texts = [findings.with_interval({**rows[kind], "unit": "share"}) if kind in rows else "" for kind in kinds]
        held.append([group, *texts, f"{next(iter(rows.values()))['n']:,}"])
    coverage, width = (findings.shown(results[f"test.age.interval_{name}"])["value"] for name in ("coverage", "width"))
    return [
        _slide(worse.finding[:-1], worse.details[:-1], ["05_gender_by_age.svg"], beside=True),
        _slide(
            f"Claims of an earlier analysis, tested: {findings.claim_counts(run).partition(';')[0]}",
            ["Differences or a ratio of error rates, or years: the report says which. Intervals for all at once."],
            table=claims,
        ),
        _slide(
            f"The 90 % age intervals hold {coverage} of the labels and are {width} wide",
            [
                "Over all faces 90 % is promised; within one age it is not. "
                "Plain: one width for all; by predicted age: a width for each third."
            ],
            table=held,
        ),
    ]


def _closing_slides(run: RunFolder) -> list[dict]:
    """The errors, the maps, other photographs, and what the numbers rest on."""
    results = run.results()
    told = {answer.question: answer for answer in findings.answers(run)}
    trust, looks = told["Can I trust these numbers?"], told["What does it look at?"]
    doubted = 100 * results["errors.label_doubted"]["value"]
    wider = findings.shown(results["validation.crop_1.4.age.mae_change"])["value"]
    return [
        _slide(
            f"{doubted:.0f} % of the {results['errors.label_doubted']['n']:,} errors carry a label that other networks "
            "doubt too",
            ["Errors: a wrong gender or ethnicity, or among the largest in age; of validation and calibration."],
            figures=["06_error_map.svg"],
        ),
        _slide(
            f"What it looks at: {looks.finding[0].lower()}{looks.finding[1:-1]}",
            looks.details[:2],
            ["07_mean_maps.png"],
        ),
        _slide(
            f"A crop 1.4 times as wide as in training adds {wider} to the age error",
            ["The same validation faces, cropped tighter and wider; black where the chip ends."],
            figures=["08_margin.svg"],
        ),
        _slide(
            trust.finding[:-1],
            [
                *trust.details,
                "Splits are made before any training; all choices on validation, intervals fitted on calibration.",
                "95 % intervals: bootstrap over groups of copies, or Wilson's.",
            ],
        ),
    ]
