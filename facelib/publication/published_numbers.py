"""A run beside published numbers of UTKFace, each with its protocol; the numbers are in `published_numbers.csv`."""

from pathlib import Path

import pandas as pd

from facelib.evaluation.headline import metrics_of
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute
from facelib.statistics import Estimate

ALL_AGES, CORAL_21_60 = "all_ages", "coral_21_60"
COLUMNS = {"who": "", "protocol": "protocol", "start": "pretraining"}
# Further columns are attributes, by name, and these two measures of age.
TITLES = {AGE.name: "age error (years)", "cs5": "within 5 years", "bins": "six age bins"}


def published(table: str) -> pd.DataFrame:
    """What others report, all as text, empty where they do not.

    Parameters
    ----------
    table : str
        `ALL_AGES`, or `CORAL_21_60`: published lists of the ages 21 to 60.

    Returns
    -------
    DataFrame
        who, protocol (faces, split, image size), start (its pretraining), age (mean absolute error
        in years), cs5 (share within 5 years), bins (accuracy of six age bins) and a column per class attribute
        (accuracy).
    """
    path = Path(__file__).with_suffix(".csv")
    numbers = pd.read_csv(path, dtype=str, keep_default_na=False)
    return numbers[numbers["table"] == table].drop(columns="table")


def ours(run: RunFolder) -> dict[str, str]:
    """A run's test results as a row of the comparison."""
    results = run.results()
    cells = {attribute.name: _cell(results, attribute) for attribute in run.learned}
    if bins := results.get(f"test.{AGE.name}_stages.bin_accuracy"):
        cells["bins"] = f"**{bins}**"
    n = max(estimate.n for key, estimate in results.items() if key.startswith("test."))
    split = f"lists of {run.protocol['name']}" if run.protocol else "one test face per group of copies"
    protocol = f"{run.settings.data.image_px} px, {split}, n = {n:,}"
    start = run.settings.training.start_weights
    learned_before = "face recognition" if start == "face" else start
    return {"who": "**This project**", "protocol": protocol, "start": learned_before, **cells}


def _cell(results: dict[str, Estimate], attribute: Attribute) -> str:
    """An attribute's first metric, and those of a range of ages."""
    lead, *others = metrics_of(attribute)
    parts = [f"**{results[f'test.{lead.key}']}**"]
    for metric in others:
        if metric.ages is not None and (estimate := results.get(f"test.{metric.key}")):
            parts.append(f"{metric.title.partition(': ')[2]}: {estimate}")
    return "; ".join(parts)


def comparison_table(run: RunFolder) -> str:
    """A run and `ALL_AGES` in Markdown."""
    rows = pd.concat([pd.DataFrame([ours(run)]), published(ALL_AGES)]).fillna("")
    columns = [column for column in rows if (rows[column] != "").any()]
    titles = [(COLUMNS | TITLES).get(column, column) for column in columns]
    lines = [titles, ["---"] * len(columns), *rows[columns].to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
