"""The slides: typeset with typst from a run's findings and figures, the same bytes for the same run."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import matplotlib as mpl
import typst

from facelib.finding import Finding
from facelib.formats import as_written
from facelib.reporting import findings
from facelib.reporting.site import TEMPLATES
from facelib.runs import RunFolder
from facelib.schema import NOTEBOOKS
from facelib.statistics import Estimate
from facelib.storage import atomic_path

# The metrics of the slide, of which `TABLE_ROWS` fit.
MEASURES = ("mae", "cs5", "mae_le45", "mae_gt45", "interval_coverage", "accuracy", "accuracy_age5plus", "macro_f1")
TABLE_ROWS = 11


def _table(rows: list[dict], **titles: str) -> list[list[str]]:
    """A header and the rows' values as text, by column."""
    return [list(titles.values()), *([row[column] for column in titles] for row in rows)]


def headline_table(run: RunFolder) -> list[list[str]]:
    """The headline metrics."""
    titles = {"name": "Metric, test split", "value": "Value", "interval": "95 % interval", "n": "n"}
    rows, titles = findings.headline_rows(run, MEASURES)[:TABLE_ROWS], titles | {"baseline": "No-image baseline"}
    return _table(rows, **titles, **({"by_time": "Time alone"} if any(row["by_time"] for row in rows) else {}))


def data_table(run: RunFolder) -> list[list[str]]:
    """What was wrong with the data."""
    return _table(findings.data_rows(run), name="What", value="Found")


def claims_table(run: RunFolder) -> list[list[str]]:
    """The tested claims."""
    titles = {"claim": "Claim of an earlier analysis", "answer": "Answer", "same_ages": "Same ages"}
    return _table(findings.claim_rows(run), **titles, value="Value", interval="Interval")


def coverage_table(run: RunFolder) -> list[list[str]]:
    """The share of age labels within the 90 % intervals, by age band and kind of interval."""
    bands: dict[str, dict[str, str]] = {}
    for row in run.details("05_evaluate").get("coverage_by_age", []):
        share = Estimate.from_dict(row | {"unit": "share"})
        band = bands.setdefault(row["group"], {"group": row["group"], "n": f"{share.n:,}"})
        band[row["kind"]] = str(share)
    kinds = {kind: f"within, {kind}" for band in bands.values() for kind in band if kind not in ("group", "n")}
    return _table(list(bands.values()), group="Age label", **kinds, n="n")


@dataclass(frozen=True)
class Slide:
    """One slide, titled with the first sentence of a finding; without the finding there is none.

    Attributes
    ----------
    lead : str
        The finding's key.
    points : tuple of str
        Sentences, or keys of findings, in which `{attribute}` stands for each learned attribute.
    figures : tuple of str
        Patterns of files; the first match of each is shown. Where none matches there is no slide.
    table : callable, optional
    beside : bool
        Whether points stand beside the figure.
    """

    lead: str
    points: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    table: Callable[[RunFolder], list[list[str]]] | None = None
    beside: bool = False


METHOD = (
    "Splits precede all training. Choices are made on validation; intervals are fitted on calibration.",
    "Intervals are 95 %, by a bootstrap over groups of copies or Wilson's.",
)
SLIDES = (
    Slide("data.faces", ("data.ages", "data.imbalance"), ("01_labels.svg", "01_joint_imbalance.svg")),
    Slide("copies.groups", ("labels.doubted",), table=data_table),
    Slide("copies.labels_differ", ("split.random",), ("02_copies_disagree.svg",)),
    Slide("training.gap", ("training.curve",), ("03_training_curves.svg",)),
    Slide("test.baselines", table=headline_table),
    Slide("test.age", figures=("05_age_scatter.svg",)),
    Slide("age.chosen", ("age.heads",), ("04_two_stage_errors.svg",)),
    Slide("groups.worst", ("groups.age_bias", "groups.same_age_gaps"), ("06_*_by_age.svg",), beside=True),
    Slide("groups.same_ages", ("groups.beyond_chance",), ("06_standardised.svg",)),
    Slide("claims.answers", ("Intervals are widened for the number of claims.",), table=claims_table),
    Slide("test.intervals", table=coverage_table),
    Slide("errors.causes", ("errors.clusters",), ("07_error_map.svg",)),
    Slide("explain.regions", ("explain.background", "explain.faithful"), ("08_mean_maps.png",)),
    Slide("photos.misalignment", figures=("09_misalignment.svg",)),
    Slide("photos.crop_scale", figures=("09_crop_scale.svg",)),  # of runs before the study of misalignment
    Slide("split.leaks", ("test.faces", "test.calibration", "prediction.ood", *METHOD)),
)


def build_slides(run: RunFolder, out: Path) -> Path:
    """Typeset the slides of a finished run into a PDF, `out`.

    MissingFromRun if a notebook has not run; DamagedRun if a file of the run is not what facelib writes.
    """
    with as_written(run.path):
        pages = deck(run)
    with atomic_path(out) as partial:
        typeset(run, pages, output=partial, format="pdf")
    return out


def typeset(run: RunFolder, pages: dict, **options):
    """Let typst set a deck; what it returns for the options given, such as `format="png"`."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        shutil.copy(TEMPLATES / "slides.typ", root)
        for figure in (figure for slide in pages["slides"] for figure in slide["figures"]):
            shutil.copy(run.require(f"figures/{figure}"), root)
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


def deck(run: RunFolder) -> dict:
    """Titles, points, tables and figures of all slides."""
    for name in NOTEBOOKS:
        run.load_metrics(name)  # raises where the notebook has not run
    measured, params = run.findings(), run.params
    filled = [_filled(run, slide, measured) for slide in SLIDES if slide.lead in measured]
    return {
        "title": findings.title(run),
        "subtitle": f"{run.results()['data.images'].text} {findings.faces(run)}, profile {run.settings.profile}",
        "synthetic": run.is_synthetic,
        "data_sets": findings.data_sets_text(run),
        "footer": f"run {run.name}, commit {params['commit']}, data {params['data']['fingerprint']}{run.note}",
        "slides": [slide for slide in filled if slide],
    }


def _filled(run: RunFolder, slide: Slide, measured: dict[str, Finding]) -> dict | None:
    """A slide with the run's texts, rows and files; None where the run has not kept its figures.

    A figure that may show a reader's own face is not kept.
    """
    matches = [sorted((run.path / "figures").glob(pattern)) for pattern in slide.figures]
    figures = [paths[0].name for paths in matches if paths]
    if slide.figures and not figures:
        return None
    title, _, rest = measured[slide.lead].text.partition(". ")
    points = [rest] if rest else []
    for point in slide.points:
        quoted = [finding.text for finding in findings.chosen(measured, (point,), run.learned)]
        points += [point] if point.endswith(".") else quoted
    rows = slide.table(run) if slide.table else []
    filled = {"title": title.removesuffix("."), "points": points, "figures": figures, "table": rows}
    return filled | {"beside": slide.beside}
