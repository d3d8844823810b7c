"""reports/audit/README.md from what the audit's benchmarks have measured: `python -m studies.audit_summary`."""

import json

import pandas as pd

from facelib.audit.quality import NAMES
from facelib.audit.report import readable
from facelib.runs import project_root
from facelib.statistics import Estimate
from facelib.storage import write_text
from studies import AUDIT_RESULTS
from studies.pages import interval, table

FOLDER = project_root() / AUDIT_RESULTS
OPENING = """# How good is the audit?

Measured on UTKFace (23,704 photographs) by the commands below, which write their results into this folder.
`python -m studies.audit_summary` makes this page from them. Intervals are 95 %. The numbers differ a little from those
of the reference run: three photographs whose names lack a label were rejected when these were measured, and stay in a
run with that label unknown; descriptors were in bfloat16, and are in single precision now; and the audit at the end
leaves out the face network, which finds more copies.
"""
COPIES = """
## Copies planted among 3,000 photographs

`python -m studies.copies path/to/UTKFace --imagededup PYTHON`. Of 3,000 random photographs, no two byte-identical,
250 get a copy of each kind. Copies among the photographs themselves count against the share of planted pairs, which
is a lower bound of precision. imagededup is its PHash at the default radius, which finds no mirror images.
"""
ALTERED = """
Altered copies, planted likewise: cropped (85 to 96 % of the edge), rotated (3 to 10 degrees), one of eight heavy
filters (sepia, contrast, posterised, blurred, grain, dark, yellow, dark corners), and all of these together.
"""
ADDED = """
In the whole of UTKFace the face network adds {altered} pairs, and {images} more images repeat another one. All of these
pairs were looked at: each shows one photograph.
"""
LABELS = """
## Planted label errors

`python -m studies.label_errors path/to/UTKFace --networks FOLDER/reports/utkface`, where FOLDER holds the run that was
published before, from random weights: `git archive 898b7eb reports/utkface | tar -x -C FOLDER`. AUROC is
the chance that a planted error
scores below another label. Errors that UTKFace came with count as false alarms, so precision is a lower bound. The
models are cross-fitted on the features of the face network and learn from the planted labels.

![Precision and recall on planted label errors](label_errors.svg)
"""
SIDE_BY_SIDE = """
The same labels and errors, planted after the models had learned from the labels as given, for these models and for the
networks of that run, which took 23 minutes where the models take half a minute. *Contradicted* are labels
that a copy contradicts (ages by 20 years or more); about half of them are wrong.
"""
FLAGS = """
Share of planted errors that are flagged (recall), and of all other labels (false flags), by given age. The models
learned from the planted labels, as they would from real errors. Notebook 02 and `facelib audit` plant after the models
have learned: they find more errors of gender and ethnicity, about as many of age, and flag more other labels.
"""
PERSONS = """
## Recognised persons

`python -m studies.persons path/to/UTKFace --run FOLDER/reports/utkface --split path/to/coral_21_60`, with the FOLDER
of the planted label errors. Random pairs with the
same labels that are taken for one person bound the false matches from above, since some are of one person. Two
photographs of one recognised person agree in gender and ethnicity about as often as copies of one photograph do, so
most matches are right. *Matched* test faces of that run have another photograph of a recognised person in its
other splits; their errors are compared with those of other test faces of the same age band and gender. A negative
difference would mean that the run profits from having seen the person. The face network may have been trained on some
of the same people, by identity, never by these labels. Its descriptors, which could identify people, are never
published.
"""
ABLATIONS = """
## What cleaning is worth, and what a random split hides

Networks of an earlier recipe (64 px, ten epochs, one seed), trained on faces outside the test split with an earlier
search for copies. The numbers are kept in ablations.json; the study is no longer part of the code. *Cleaned* training
rows have one image per photograph, with the labels that its copies agree on.
"""
RANDOM = """
Held-out faces with a copy in training are other photographs than those without one, and their labels contradict
themselves more often, so the last line does not isolate the gain from a seen copy.
"""
QUALITY = """
## Poor images

`python -m studies.quality path/to/UTKFace`: a thousand photographs as they are, and two hundred of them degraded.
Untouched photographs that are flagged may be truly poor. *No face found* (photographs upside down) and *oddly framed*
(from further away) come from dlib's detector, which `--faces` asks for. *No upright face* is of another kind: all
photographs, and 840 pictures planted among them (540 patches of other pictures, 300 turned photographs).
"""
BY_NEIGHBOURS = """
The AUROC of *no upright face* is {area}. By the distance to the tenth nearest of 2,000 photographs, the usual measure
of an outlier, it is {neighbours}.
"""
UPRIGHT_AREAS = {"area": "interval", "neighbours": "by neighbours"}
FAIRFACE = """
## The audit of FairFace's photographs

`facelib audit --data path/to/FairFace --out OUT --no-network`, whose audit.csv is kept here as fairface.csv, for the
39,994 photographs that were at hand of the 86,744 for training, at 144 px. It took 2:16 minutes on two cores beside
other work. Copies are compared by gender and race, not by age band.
"""
FIGURES = """
![Copies and how they disagree](copies_disagree.svg)

![Quality scores](quality.svg)
"""
FOUND = """
## The audit of UTKFace

`python -m studies.audit path/to/UTKFace --split path/to/coral_21_60`: all without the face network. The split is a
published one for ages 21 to 60.
"""


def copies() -> str:
    """Recall by kind, precision and time of each program."""
    results = json.loads((FOLDER / "copies.json").read_text())
    programs = results["programs"]
    keys = [key for key in programs["facelib"] if key not in ("pairs", "seconds")]
    rows = [[key.replace(".", ", "), *(interval(found[key], ".3f") for found in programs.values())] for key in keys]
    rows.append(["pairs", *(f"{found['pairs']:,}" for found in programs.values())])
    rows.append(["seconds, in each round", *(", ".join(map(str, found["seconds"])) for found in programs.values())])
    text = table(["", *programs], rows) + ALTERED
    ways, pairs = results["altered"], results["added"]
    keys = [key for key in ways["hash alone"] if key != "pairs"]
    rows = [[key.replace(".", ", "), *(interval(found[key], ".3f") for found in ways.values())] for key in keys]
    text += table(["", *ways], [*rows, ["pairs", *(f"{found['pairs']:,}" for found in ways.values())]])
    return text + ADDED.format(**{key.partition(" ")[0]: value for key, value in pairs.items()})


def labels() -> str:
    """AUROC, average precision and precision at k of each attribute; the same side by side; recall and false flags."""
    results = json.loads((FOLDER / "label_errors.json").read_text())
    measures, planted = ("auroc", "average_precision", "precision_at_k"), results["planted"]
    names, rows = list(dict.fromkeys(key.partition(".")[0] for key in planted)), []
    for name in names:
        found = [interval(planted[f"{name}.{measure}"], ".3f") for measure in measures]
        rows.append([name, f"{planted[f'{name}.precision_at_k']['n']:,}", *found])
    text = table(["", "planted", "AUROC", "average precision", "precision at that number"], rows) + SIDE_BY_SIDE
    rows = []
    for name in names:
        for scorer, found in results["side_by_side"].items():
            shares = [interval(found[f"{name}.{part}.flagged"], ".1%") for part in ("contradicted", "others")]
            contradicted = f"{found[f'{name}.contradicted.auroc']:.3f}"
            rows.append([f"{name}, {scorer}", interval(found[f"{name}.auroc"], ".3f"), contradicted, *shares])
    header = ["", "AUROC, planted", "AUROC, contradicted", "contradicted, flagged", "others, flagged"]
    return text + table(header, rows) + FLAGS + _flags(results["flags"], names)


def _flags(rates: list[dict], names: list[str]) -> str:
    """Recall and false flags of each attribute by group."""
    columns = [(name, measure) for name in names for measure in ("recall", "false flags")]
    found = {(row["attribute"], row["measure"], row["group"]): row for row in rates}
    groups = dict.fromkeys(row["group"] for row in rates)
    rows = [[group, *(f"{found[(*column, group)]['value']:.1%}" for column in columns)] for group in groups]
    return table(["given age", *(", ".join(column) for column in columns)], rows)


def persons() -> str:
    """How many persons are recognised, how reliably, and what they mean for a split."""
    rows = []
    for name, value in json.loads((FOLDER / "persons.json").read_text()).items():
        if isinstance(value, dict):
            estimate = Estimate.from_dict(value)
            form = (
                f"{10_000 * value['value']:.2f} in 10,000 ({10_000 * value['low']:.2f} to {10_000 * value['high']:.2f})"
            )
            rows.append([name, form if name.startswith("random") else str(estimate), f"{value['n']:,}"])
        else:
            rows.append([name, f"{value:,}", ""])
    return table(["", "value", "n"], rows)


def ablations() -> str:
    """Each training's measures."""
    results = json.loads((FOLDER / "ablations.json").read_text())
    trainings = dict.fromkeys(key.rsplit(".", 2)[0] for key in results)
    rows = []
    measures = dict.fromkeys(key.removeprefix(f"{next(iter(trainings))}.") for key in list(results)[:3])
    for training in trainings:
        found = {name: results[f"{training}.{name}"] for name in measures}
        row = [interval(value, ".2f" if name.endswith("mae") else ".3f") for name, value in found.items()]
        rows.append([training, *row, f"{next(iter(found.values()))['n']:,}"])
    names = (name.replace("mae", "error (years)").replace(".", " ") for name in measures)
    return table(["", *names, "n"], rows) + RANDOM


def quality() -> str:
    """What is flagged as it is and spoilt on purpose."""
    results = json.loads((FOLDER / "quality.json").read_text())
    rows = [
        [
            NAMES.get(name, name),
            interval(found["plain"], ".1%"),
            interval(found["spoilt"], ".1%"),
            f"{found['auroc']:.3f}",
        ]
        for name, found in results.items()
    ]
    found = {name: interval(results["upright"][key], ".4f") for name, key in UPRIGHT_AREAS.items()}
    return table(["", "flagged as they are", "flagged when degraded", "AUROC"], rows) + BY_NEIGHBOURS.format(**found)


def found(file: str = "audit.csv") -> str:
    """An audit in one table."""
    shown = readable(pd.read_csv(FOLDER / file))
    return table(list(shown.columns), shown.to_numpy().tolist())


if __name__ == "__main__":
    write_text(
        FOLDER / "README.md",
        OPENING
        + COPIES
        + copies()
        + LABELS
        + labels()
        + PERSONS
        + persons()
        + ABLATIONS
        + ablations()
        + QUALITY
        + quality()
        + FOUND
        + found()
        + FIGURES
        + FAIRFACE
        + found("fairface.csv"),
    )
