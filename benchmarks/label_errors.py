"""Planted label errors found again: how well the label scores rank them, on any labelled faces.

Genders are flipped (3 % of the labels), ethnicities replaced by another class (5 %) and ages moved by 20 years (3 %)
before any network is trained. The test split takes no part. Real data hold errors of their own, which count here as
false alarms: precision is a lower bound. Writes label_errors.json, label_errors.csv (precision and recall at each cut)
and, for a second look at the same networks, label_scores.parquet, which names images and stays local.

usage: python -m benchmarks.label_errors DATA [--profile full] [--out DIR] [--set KEY=VALUE ...]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import decisions, duplicates, label_issues, planting
from facelib.config import resolve_profile
from facelib.data import cache_faces, read_faces
from facelib.data.splits import split_faces
from facelib.models.out_of_fold import score_out_of_fold
from facelib.runs import cache_root, write_json


def planted_scores(data: str, profile) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Faces with planted errors, which labels were planted, and what networks that never saw a row say of it."""
    images, faces, _ = cache_faces(read_faces(data).sample(profile.images, profile.seed), 64, cache_root())
    group_id = duplicates.group_copies(len(faces), duplicates.find_copies(faces, images))
    split = split_faces(faces, group_id, profile.seed)
    rows = np.flatnonzero(split["split"] != "test")
    faces, images, split = faces.iloc[rows].reset_index(drop=True), images.take(rows), split.iloc[rows]
    faces, planted = planting.plant_errors(faces, profile.seed)
    agreed = faces.assign(**decisions.agreed_labels(faces, split["group_id"].to_numpy()))
    return faces, planted, score_out_of_fold(agreed, images, split.reset_index(drop=True), profile)


def main() -> None:
    """Plant, train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--out", type=Path, default=Path("reports/audit"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    profile = resolve_profile(options.profile, dict(pair.split("=", 1) for pair in options.set))
    start = time.perf_counter()
    faces, planted, scores = planted_scores(options.data, profile)
    minutes = (time.perf_counter() - start) / 60
    kept = pd.concat([faces[["image_id", *planted]], planted.add_prefix("planted_"), scores], axis=1)
    options.out.mkdir(parents=True, exist_ok=True)
    kept.to_parquet(options.out / "label_scores.parquet", index=False)
    results, curves = planting.measure_ranking(label_issues.find_issues(faces, scores), faces, planted)
    write_json(options.out / "label_errors.json", results)
    curves.to_csv(options.out / "label_errors.csv", index=False, float_format="%.4f")
    print(f"{len(faces):,} faces, {profile.label_folds} folds, {profile.label_epochs} epochs, {minutes:.1f} min")
    for key, estimate in results.items():
        print(
            f"{key:32} {estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f}), n = {estimate['n']:,}"
        )


if __name__ == "__main__":
    main()
