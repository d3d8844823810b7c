"""The figures of the front page and the slides: drawn from what a run measured, or those that its notebooks drew."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from facelib.audit.contradictions import contradictions, disagreements
from facelib.evaluation import headline
from facelib.evaluation.groups import group_metrics
from facelib.finding import Finding
from facelib.plots import age, audit, evaluate, explore, groups, photos, style
from facelib.runs import RunFolder
from facelib.schema import AGE


def _two(run: RunFolder) -> str:
    """The name of the first learned attribute of two classes; empty without one."""
    attribute = explore.first_of_two(run.learned)
    return attribute.name if attribute else ""


def _by_age(name: str) -> Callable[[RunFolder], Figure | None]:
    """Draws one of the figures of `groups.age_figures`; `{two}` and `{first}` in its name are filled."""

    def draw(run: RunFolder) -> Figure | None:
        first = next((metric.key for metric in group_metrics(run.learned) if metric.more_is_better is not None), "")
        stored = run.details("06_groups").get("groups", {})
        tables = {key: pd.DataFrame(rows) for key, rows in stored.items()}
        wanted = name.format(two=_two(run), first=first)
        return groups.age_figures({"": tables}, run.learned, run.note, wanted).get(wanted)

    return draw


def _two_stages(run: RunFolder) -> Figure | None:
    measured = {method: run.results().get(f"validation.age_stages.mae_{method}") for method in headline.AGE_WAYS}
    rows = [
        {"way": headline.AGE_WAYS[method], **estimate.to_dict()}
        for method, estimate in measured.items()
        if estimate and method != "median"
    ]
    heading = f"Age error on validation, 95 % intervals{run.note}"
    return style.intervals(pd.DataFrame(rows), "way", "value", "MAE (years)", heading) if rows else None


def _scatter(run: RunFolder) -> Figure | None:
    if AGE not in run.learned or not run.table_path("predictions").exists():
        return None
    test = headline.run_frame(run, ("test",), stages=False).dropna(subset=[AGE.name])
    return age.age_scatter(test, f"Age, test split, n = {len(test):,}{run.note}")


def _coverage(run: RunFolder) -> Figure | None:
    rows = run.details("05_evaluate").get("coverage_by_age")
    return evaluate.coverage_by_age(pd.DataFrame(rows).assign(by="age_band"), run.note) if rows else None


def _misalignment(run: RunFolder) -> Figure | None:
    rows = run.details("09_external_photos").get("misalignment")
    heading = f"By alignment, validation faces, 95 % intervals{run.note}"
    return photos.misalignment_curves(pd.DataFrame(rows), run.learned, heading) if rows else None


def _labels(run: RunFolder) -> Figure | None:
    faces = run.load_table("faces") if run.table_path("faces").exists() else None
    return None if faces is None else explore.label_distributions(faces, run.attributes, run.note)


def _copies(run: RunFolder) -> Figure | None:
    if not run.table_path("splits").exists():
        return None
    faces, groups_of = run.load_table("faces"), run.load_table("splits")["group_id"].to_numpy()
    tables = (of(faces, groups_of, run.attributes) for of in (contradictions, disagreements))
    return audit.copies_disagree(*tables, run.bootstrap)


@dataclass(frozen=True)
class Shown:
    """A figure: what it shows, for readers who cannot see it, the key of its finding, and how it is made.

    `draw` draws it from a run's numbers; where it gives None, the first of the run's figures that match `file` is
    shown. `{two}` stands for the first learned attribute of two classes, `{first}` for the first learned one.
    """

    alt: str
    finding: str
    file: str
    draw: Callable[[RunFolder], Figure | None] = lambda run: None

    def key(self, run: RunFolder) -> str:
        """The key of its finding."""
        return self.finding.format(two=_two(run), first=run.learned[0].name)

    def found(self, run: RunFolder) -> Finding | None:
        """Its finding; None where the run has not made it."""
        return run.findings().get(self.key(run))


SHOWN = {
    "faces": Shown("Average faces by age and class, each over many people", "data.faces", "01_average_faces.png"),
    "age_error": Shown(
        "Age error by age, with its interval", "groups.{first}", "06_age_error.svg", _by_age("age_error")
    ),
    "two_by_age": Shown(
        "Accuracy by age and class, with intervals", "groups.{two}", "06_*_by_age.svg", _by_age("{two}_by_age")
    ),
    "worse": Shown(
        "Map of who is predicted worse, by age and class", "groups.worst", "06_worse_*.svg", _by_age("worse_{first}")
    ),
    "two_stages": Shown(
        "Age error of direct and two-stage prediction", "age.chosen", "04_two_stage_errors.svg", _two_stages
    ),
    "intervals": Shown(
        "Coverage of the 90 % age intervals, by age", "test.intervals", "05_coverage_by_age.svg", _coverage
    ),
    "limits": Shown(
        "Who passes an age limit of 18 or 25 years, by labelled age", "deployment.age_limits", "06_age_limits.svg"
    ),
    "selective": Shown(
        "Accuracy against the share answered, and whose faces are answered", "deployment.selective", "05_selective.svg"
    ),
    "copies": Shown(
        "Copies, and how often their labels differ", "copies.labels_differ", "02_copies_disagree.svg", _copies
    ),
    "maps": Shown("Mean attribution maps over an average face", "explain.regions", "08_mean_maps.png"),
    "scatter": Shown("Predicted against labelled age", "test.{first}", "05_age_scatter.svg", _scatter),
    "labels": Shown("Ages, and counts of each class", "data.faces", "01_labels.svg", _labels),
    "clusters": Shown("A map of the errors, coloured by cluster", "errors.clusters", "07_error_map.svg"),
    "alignment": Shown(
        "Errors by the alignment of the face", "photos.misalignment", "09_misalignment.svg", _misalignment
    ),
}
# In the order of the page; the first two open it.
FRONT = (
    "faces",
    "age_error",
    "two_by_age",
    "worse",
    "two_stages",
    "intervals",
    "limits",
    "selective",
    "copies",
    "maps",
)


def stored(run: RunFolder, name: str) -> Path | None:
    """The file of a figure of `SHOWN` that a run's notebooks have drawn."""
    return next(iter(sorted((run.path / "figures").glob(SHOWN[name].file))), None)


def shown(run: RunFolder, names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Make some figures of `SHOWN` in a folder: their files by name. Those that a run cannot show are left out."""
    made = {}
    style.use_style()
    for name in names:
        figure = SHOWN[name].draw(run)
        number, drawn = SHOWN[name].file[:3], stored(run, name)
        if figure is not None:
            made[name] = style.save(figure, folder / f"{number}{name}.svg")
        elif drawn:
            made[name] = Path(shutil.copy(drawn, folder / f"{number}{name}{drawn.suffix}"))
    return made
