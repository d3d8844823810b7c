"""What cleaning is worth, and what a split without regard to copies hides: the same training three times.

The project's test split is left out. Of the rest 15 % of the groups of copies are held out, one image of each,
labels as given. Compared are training rows as they come (raw) with copies reduced to one and contradictions resolved
(cleaned), on the same held-out faces; and, for a random split of all rows (15 % held out), held-out faces that have a
copy in training with those that have none.

usage: python -m studies.ablations DATA [--only rows|split] [--profile full] [--out DIR] [--set KEY=VALUE ...]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from facelib import metrics
from facelib.audit import decisions
from facelib.config import Settings, resolve
from facelib.data.pixels import FaceImages
from facelib.formats import write_json
from facelib.models.heads import predictions_table
from facelib.models.network import predict_outputs
from facelib.models.training import train_scorer
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import Bootstrap, Estimate
from studies import AUDIT_RESULTS
from studies.label_errors import outside_test
from studies.pages import interval

HELD_OUT = 0.15


def errors_of(
    faces: pd.DataFrame,
    labels: pd.DataFrame,
    images: FaceImages,
    rows: tuple[np.ndarray, np.ndarray],
    attributes: tuple[Attribute, ...],
    settings: Settings,
) -> pd.DataFrame:
    """Train on the first rows with some labels; measures of each of the second rows against its label as given.

    A column per measure, such as `age.mae`: errors in years, or 1 where the class is right.
    """
    train, held = rows
    network = train_scorer(images, labels, train, attributes, settings)
    predicted = predictions_table(predict_outputs(network, images.take(held)), attributes)
    given, columns = faces.iloc[held].reset_index(drop=True), {}
    for attribute in attributes:
        decoded = attribute.decode(predicted)
        if isinstance(attribute, ClassAttribute):
            columns[f"{attribute.name}.accuracy"] = (decoded == given[attribute.name]).astype(float)
        else:
            columns[f"{attribute.name}.mae"] = (metrics.whole_years(decoded) - given[attribute.name]).abs()
    return pd.DataFrame(columns)


def difference(first: np.ndarray, second: np.ndarray, seed: int) -> Estimate:
    """Mean of `first` minus mean of `second`, two different sets of faces, with its bootstrap interval."""
    side = np.repeat([1, 0], [len(first), len(second)])

    def statistic(values: np.ndarray, which: np.ndarray) -> float:
        return values[which == 1].mean() - values[which == 0].mean()

    return Bootstrap(seed=seed)(statistic, np.concatenate([first, second]), side)


def measure(errors: pd.DataFrame, statistic: Callable, prefix: str) -> dict[str, dict]:
    """`statistic` of each measure's column as a dictionary."""
    return {f"{prefix}.{name}": statistic(errors[name].to_numpy()).to_dict() for name in errors}


def compare(data: str, settings: Settings, only: str = "") -> Iterator[dict[str, dict]]:
    """Train three times and compare; yields results by <training>.<measure> as they come.

    `only` names one of the two comparisons: rows (two trainings) or split (one).
    """
    seed = settings.seed
    faces, images, split, attributes = outside_test(data, settings)
    group_id, chosen = split["group_id"].to_numpy(), split["representative"].to_numpy()
    rng, everything = np.random.default_rng(seed), np.arange(len(faces))
    groups = np.unique(group_id)
    held = np.isin(group_id, rng.choice(groups, round(HELD_OUT * len(groups)), replace=False))
    agreed = decisions.agreed_labels(faces, group_id, attributes)
    how = attributes, settings

    def mean(values: np.ndarray) -> Estimate:
        return Bootstrap(seed=seed)(np.mean, values)

    def apart(values: np.ndarray) -> Estimate:
        return difference(values[copied], values[~copied], seed)

    if only != "split":
        scored = everything[held & chosen]
        cleaned = errors_of(faces, agreed, images, (everything[~held & chosen], scored), *how)
        yield measure(cleaned, mean, "cleaned")
        raw = errors_of(faces, faces, images, (everything[~held], scored), *how)
        yield measure(raw, mean, "raw") | measure(cleaned - raw, mean, "cleaned minus raw, paired")
    if only == "rows":
        return
    at_random = rng.permutation(everything)
    cut = round(HELD_OUT * len(everything))
    leaky = errors_of(faces, faces, images, (np.sort(at_random[cut:]), at_random[:cut]), *how)
    copied = np.isin(group_id[at_random[:cut]], group_id[at_random[cut:]])
    yield {
        **measure(leaky, mean, "random split"),
        **measure(leaky[copied], mean, "random split, with a copy in training"),
        **measure(leaky[~copied], mean, "random split, without a copy in training"),
        **measure(leaky, apart, "random split, with minus without a copy"),
    }


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--only", choices=("rows", "split"), default="", help="one of the two comparisons")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = resolve(options.profile, dict(pair.split("=", 1) for pair in options.set))
    start = time.perf_counter()
    path = options.out / "ablations.json"
    results: dict[str, dict] = json.loads(path.read_text("utf-8")) if options.only and path.exists() else {}
    for measured in compare(options.data, settings, options.only):
        results |= measured
        write_json(path, results)
    print(f"{settings.training.epochs} epochs, {(time.perf_counter() - start) / 60:.1f} min")
    for key, value in results.items():
        print(f"{key:60} {interval(value, '.3f')}, n = {value['n']:,}")


if __name__ == "__main__":
    main()
