"""Planted label errors found again: how well the label scores rank them, on any labelled faces.

Before any network is trained, classes are replaced by others (3 % of the labels of two classes, 5 % of more) and ages
moved by 20 years (3 %). The test split is left out. Errors that came with the data count as false alarms, so precision
is a lower bound. Writes label_errors.json, label_errors.csv (precision and recall at each cut) and label_errors.svg.
Predictions of each image are stored in runs/label_errors.parquet, so that the scores can be measured again without
training.

usage: python -m studies.label_errors DATA [--profile full] [--out DIR] [--set KEY=VALUE ...]
       python -m studies.label_errors --scored runs/label_errors.parquet [--out DIR]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import decisions, duplicates, label_issues, planting
from facelib.config import Settings, resolve
from facelib.data.pixels import FaceImages, cache_faces
from facelib.data.readers import read_faces
from facelib.data.splits import split_faces
from facelib.formats import write_json
from facelib.models.out_of_fold import score_out_of_fold
from facelib.plots.audit import ranking_curves
from facelib.plots.style import use_style
from facelib.runs import cache_root, runs_root
from facelib.schema import UTKFACE_ATTRIBUTES, Attribute, named
from facelib.statistics import Bootstrap
from facelib.storage import atomic_path
from studies import AUDIT_RESULTS
from studies.pages import interval


def outside_test(data: str, settings: Settings) -> tuple[pd.DataFrame, FaceImages, pd.DataFrame, tuple[Attribute, ...]]:
    """The faces, images (64 px) and splits of all rows outside the test split, and their attributes."""
    source = read_faces(data).sample(settings.data.images, settings.seed)
    images, faces, _ = cache_faces(source, 64, cache_root())
    group_id = duplicates.group_copies(len(faces), duplicates.find_copies(faces, images))
    split = split_faces(faces, group_id, source.attributes, settings.seed)
    rows = np.flatnonzero(split["split"] != "test")
    faces, split = (table.iloc[rows].reset_index(drop=True) for table in (faces, split))
    return faces, images.take(rows), split, source.attributes


def planted_scores(data: str, settings: Settings) -> pd.DataFrame:
    """Labels with planted errors, which of them were planted, and predictions of networks that never saw the row."""
    faces, images, split, attributes = outside_test(data, settings)
    faces, planted = planting.plant_errors(faces, attributes, settings.seed)
    agreed = faces.assign(**decisions.agreed_labels(faces, split["group_id"].to_numpy(), attributes))
    scores = score_out_of_fold(agreed, images, split, attributes, settings)
    given = faces[["image_id", *planted]].assign(group_id=split["group_id"])
    return pd.concat([given, planted.add_prefix("planted_"), scores], axis=1)


def main() -> None:
    """Plant, train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--scored", type=Path, help="predictions of an earlier call")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.scored is None:
        settings = resolve(options.profile, dict(pair.split("=", 1) for pair in options.set))
        start = time.perf_counter()
        scored = planted_scores(options.data, settings)
        minutes = (time.perf_counter() - start) / 60
        with atomic_path(runs_root() / "label_errors.parquet") as partial:
            scored.to_parquet(partial, index=False)
        print(f"{settings.audit.label_folds} folds, {settings.audit.label_epochs} epochs, {minutes:.1f} min")
    else:
        scored = pd.read_parquet(options.scored)
    planted = scored.filter(like="planted_").rename(columns=lambda name: name.removeprefix("planted_"))
    issues = label_issues.find_issues(scored, scored, named(UTKFACE_ATTRIBUTES, planted))
    groups = scored["group_id"].to_numpy()
    results, curves = planting.measure_ranking(issues, scored, planted, groups, Bootstrap(300))
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "label_errors.json", results)
    curves.to_csv(options.out / "label_errors.csv", index=False, float_format="%.4f")
    use_style()
    ranking_curves(curves, results).savefig(options.out / "label_errors.svg", metadata={"Date": None})
    for key, estimate in results.items():
        print(f"{key:32} {interval(estimate.to_dict(), '.3f')}, n = {estimate.n:,}")


if __name__ == "__main__":
    main()
