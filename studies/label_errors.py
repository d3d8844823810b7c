"""Planted label errors found again: how well the label scores rank them, on any labelled faces.

Genders are flipped (3 % of the labels), ethnicities replaced by another class (5 %) and ages moved by 20 years (3 %)
before any network is trained. The test split takes no part. Real data hold errors of their own, which count here as
false alarms: precision is a lower bound. Writes label_errors.json, label_errors.csv (precision and recall at each cut)
and label_errors.svg. What the networks said of each image is kept in runs/label_errors.parquet, so that the scores can
be measured again without training.

usage: python -m studies.label_errors DATA [--profile full] [--out DIR] [--set KEY=VALUE ...]
       python -m studies.label_errors --scored runs/label_errors.parquet [--out DIR]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import AUDIT_RESULTS
from facelib.audit import decisions, duplicates, label_issues, planting
from facelib.config import Profile, resolve_profile
from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces
from facelib.data.splits import split_faces
from facelib.models.out_of_fold import score_out_of_fold
from facelib.plots import all as plots
from facelib.runs import cache_root, runs_root, write_json
from facelib.storage import atomic_path


def planted_scores(data: str, profile: Profile) -> pd.DataFrame:
    """Labels with planted errors, which of them were planted, and what networks that never saw a row say of it."""
    images, faces, _ = cache_faces(read_faces(data).sample(profile.images, profile.seed), 64, cache_root())
    group_id = duplicates.group_copies(len(faces), duplicates.find_copies(faces, images))
    split = split_faces(faces, group_id, profile.seed)
    rows = np.flatnonzero(split["split"] != "test")
    faces, split = faces.iloc[rows].reset_index(drop=True), split.iloc[rows].reset_index(drop=True)
    faces, planted = planting.plant_errors(faces, profile.seed)
    agreed = faces.assign(**decisions.agreed_labels(faces, split["group_id"].to_numpy()))
    scores = score_out_of_fold(agreed, images.take(rows), split, profile)
    given = faces[["image_id", *planted]].assign(group_id=split["group_id"])
    return pd.concat([given, planted.add_prefix("planted_"), scores], axis=1)


def main() -> None:
    """Plant, train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--scored", type=Path, help="what the networks of an earlier call said")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.scored is None:
        profile = resolve_profile(options.profile, dict(pair.split("=", 1) for pair in options.set))
        start = time.perf_counter()
        kept = planted_scores(options.data, profile)
        minutes = (time.perf_counter() - start) / 60
        with atomic_path(runs_root() / "label_errors.parquet") as partial:
            kept.to_parquet(partial, index=False)
        print(f"{profile.label_folds} folds, {profile.label_epochs} epochs, {minutes:.1f} min")
    else:
        kept = pd.read_parquet(options.scored)
    planted = kept.filter(like="planted_").rename(columns=lambda name: name.removeprefix("planted_"))
    issues = label_issues.find_issues(kept, kept)
    results, curves = planting.measure_ranking(issues, kept, planted, kept["group_id"].to_numpy())
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "label_errors.json", results)
    curves.to_csv(options.out / "label_errors.csv", index=False, float_format="%.4f")
    plots.use_style()
    plots.ranking_curves(curves, results).savefig(options.out / "label_errors.svg", metadata={"Date": None})
    for key, estimate in results.items():
        print(
            f"{key:32} {estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f}), n = {estimate['n']:,}"
        )


if __name__ == "__main__":
    main()
