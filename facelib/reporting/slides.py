"""The slides: typeset with typst from a run's results and figures, the same bytes for the same run."""

import json
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import matplotlib as mpl
import typst

from facelib.reporting.html import DATA_ROWS, HEADLINE, TEMPLATES, claim_rows, shown
from facelib.runs import RunFolder, as_written, atomic_path

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
        If a notebook whose results are shown has not run.
    DamagedRun
        If a file of the run is not what facelib writes.
    """
    with as_written(run.path):
        deck = _deck(run)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        shutil.copy(TEMPLATES / "slides.typ", root)
        for slide in deck["slides"]:
            for figure in slide["figures"]:
                shutil.copy(run.require(f"figures/{figure}"), root)
        with atomic_path(out) as partial:
            typst.compile(
                root / "slides.typ",
                output=partial,
                root=root,
                # matplotlib's own font and no other, so that every machine sets the same lines.
                font_paths=[Path(mpl.get_data_path()) / "fonts" / "ttf"],
                ignore_system_fonts=True,
                format="pdf",
                sys_inputs={"deck": json.dumps(deck)},
                timestamp=datetime.fromisoformat(run.params["created"]),
            )
    return out


def _slide(title: str, points=(), figures=(), table=(), height: float = 8.4, stacked: bool = False) -> dict:
    """One slide; `height` of each figure is in centimetres, `stacked` sets several below each other."""
    return {
        "title": title,
        "points": list(points),
        "figures": list(figures),
        "table": [list(row) for row in table],
        "height": height,
        "stacked": stacked,
    }


def _with_figures(run: RunFolder, slides: list[dict]) -> list[dict]:
    """The slides whose figures the run has kept: a picture that might show a reader's own face is not."""
    present = {path.name for path in (run.path / "figures").iterdir()}
    kept = [slide for slide in slides if not slide["figures"] or present & set(slide["figures"])]
    return [{**slide, "figures": [name for name in slide["figures"] if name in present]} for slide in kept]


def _deck(run: RunFolder) -> dict:
    """Titles, points, tables and figures of all slides."""
    results = run.results()
    text = {key: shown(estimate) for key, estimate in results.items()}
    notebooks = ("02_clean", "03_train_multitask", "04_age_two_stage", "05_evaluate_bias", "06_error_clusters")
    clean, train, stages, bias, clusters = (run.load_metrics(name)["details"] for name in notebooks)
    value = {key: shown_["value"] for key, shown_ in text.items()}
    baseline = {row["metric"]: shown(row)["value"] for row in bias["baselines"]}
    headline = [["Measure, test split", "Value", "95 % interval", "n", "Without looking"]]
    headline += [
        [HEADLINE[key][0], *(text[f"test.{key}"][part] for part in ("value", "interval", "n")), baseline.get(key, "")]
        for key in SLIDE_KEYS
        if f"test.{key}" in text
    ]
    claims = [["Claim of an earlier analysis", "Answer", "Measured", "Interval"]]
    claims += [[row["claim"], row["answer"], row["value"], row["interval"]] for row in claim_rows(bias["claims"])]
    wrong = [["What", "Found"]] + [[name, value[key]] for key, name in DATA_ROWS.items() if key in value]
    start = "random" if run.profile.start_weights == "none" else run.profile.start_weights
    kind = "synthetic faces drawn by the package" if run.is_synthetic else "labelled photographs"
    slides = [
        _slide(
            "What this is not for",
            [
                "Not for deciding about a person, and not for guessing a sensitive trait of someone.",
                "Labels are what annotators saw, not what people are.",
                "The numbers describe one model on one data set; other photographs are another matter.",
            ],
        ),
        _slide(
            f"The data: {value['data.images']} {kind}",
            figures=["01_labels.svg", "01_joint_imbalance.svg"],
            height=4.7,
            stacked=True,
        ),
        _slide("What was wrong with the data", table=wrong),
        _slide(
            "One photograph, labelled more than once",
            [
                f"{value['audit.contradicting_groups']} of the groups of copies contradict themselves on a label.",
                f"A random split lets {clean['random_split_pairs']:.0f} pairs of copies cross; this one lets 0.",
            ],
            ["02_copies_disagree.svg"],
            height=6.6,
        ),
        _slide(
            "How it is measured",
            [
                "Copies stay on one side of the split; the split is fixed before any network is trained.",
                "Choices on validation, temperatures and intervals on calibration; one notebook reads the test set.",
                "Every number has an interval (bootstrap over groups of copies) and a baseline that looks at no face.",
            ],
        ),
        _slide(
            f"One network, three outputs: {train['epochs']} epochs from {start} weights",
            [
                f"Age error on its own training images {train['train_mae']:.1f} y, "
                f"on validation {value['validation.age.mae']}."
            ],
            ["03_training_curves.svg"],
            height=5.2,
        ),
        _slide("How good is it?", table=headline),
        _slide(
            f"Two stages: {stages['chosen']} wins on validation",
            [
                f"Told the true bin, the error is {value['test.age_stages.mae_oracle_bin']}; with the bin that the "
                f"network finds, {value['test.age_stages.mae_routed']}. Only the second can be used."
            ],
            ["04_two_stage_errors.svg"],
            height=6.2,
        ),
        _slide("For whom is it worse?", figures=["05_gender_by_age.svg", "05_age_bias.svg"], height=4.7, stacked=True),
        _slide("Five claims, tested", table=claims),
        _slide(
            f"Which errors are alike: {clusters['clustering']['clusters']} clusters",
            [
                f"{100 * results['errors.label_doubted']['value']:.0f} % of the errors carry a label that other "
                "networks doubt too."
            ],
            ["06_error_map.svg"],
            height=8.0,
        ),
        _slide("What does it look at?", figures=["07_mean_maps.png", "07_region_shares.svg"], height=8.0),
        _slide("Other photographs", figures=["08_photo.png", "08_crop_width.svg"], height=8.0),
    ]
    warning = "Synthetic faces: these numbers say nothing about people." if run.is_synthetic else "For research only."
    return {
        "title": "Age, gender and ethnicity from faces",
        "subtitle": f"{value['data.images']} {kind}, profile {run.profile.name}",
        "warning": warning,
        "footer": f"run {run.name}, commit {run.params['commit']}, data {run.params['data']['fingerprint']}",
        "slides": _with_figures(run, slides),
    }
