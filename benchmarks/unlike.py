"""How well the features of the face network tell other pictures from faces, as the model's own features do.

The pictures of `studies.out_of_distribution` at 150 px against the validation faces of a published run. Compared are
the distance to the tenth nearest of 2,000 training faces, the Mahalanobis distance to the training faces, the
classifier of `facelib.embedding.outliers` fitted on training faces, and the sum of the last two, each in units of its
own spread among calibration faces (from their median to their 99th percentile). AUROC, and the share beyond the 99th
percentile of the calibration faces. The classifier has seen turned and shuffled pictures, though not these. Writes
reports/external/unlike.json, with the published row of the model's own features.

usage: python -m benchmarks.unlike UTKFACE [--run reports/utkface]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import EXTERNAL_RESULTS
from facelib.data.pixels import FaceImages, decode
from facelib.data.readers import read_faces
from facelib.embedding.features import Embedding, embed, embed_faces
from facelib.embedding.outliers import STRENGTH
from facelib.embedding.weights import INPUT_PX
from facelib.formats import read_json, write_json
from facelib.metrics import auc
from facelib.prediction.ood import MOST_REFERENCES, NEIGHBOUR, neighbour_distance, unit_length
from facelib.runs import cache_root
from facelib.statistics import Bootstrap, rate
from studies import out_of_distribution

MOST = 250  # pictures of each kind


def scores(embedding: Embedding, train: np.ndarray, calibration: np.ndarray) -> dict:
    """Functions of features (n, 256) by name; the higher, the less like a face."""
    features = embedding.features.astype(float)
    known, middle = features[train], features[calibration]
    sample = unit_length(known[np.random.default_rng(0).permutation(len(known))[:MOST_REFERENCES]])
    mean, precision = known.mean(axis=0), np.linalg.inv(ledoit_wolf(known)[0])
    learned = np.isin(embedding.spoiled_row, train)
    pictures = np.vstack([features[embedding.spoiled_row[learned]], embedding.spoiled[learned].astype(float)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
    model.fit(pictures, np.repeat([0, 1], learned.sum()))
    ways = {
        f"neighbour {NEIGHBOUR}": lambda points: neighbour_distance(sample, unit_length(points), NEIGHBOUR),
        "Mahalanobis": lambda points: out_of_distribution.mahalanobis(points, mean, precision),
        "classifier": model.decision_function,
    }
    ends = {name: np.percentile(way(middle), [50, 99]) for name, way in ways.items()}

    def both(points: np.ndarray) -> np.ndarray:
        return sum((ways[name](points) - ends[name][0]) / np.ptp(ends[name]) for name in ("Mahalanobis", "classifier"))

    return ways | {"Mahalanobis + classifier": both}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--run", type=Path, default=Path("reports/utkface"))
    options = parser.parse_args()
    source, split = read_faces(options.data), pd.read_parquet(options.run / "tables" / "splits.parquet")
    faces = source.faces.set_index("image_id").loc[split["image_id"]].reset_index()
    embedding = embed_faces(faces, lambda: source, cache_root())
    rows = {
        part: np.flatnonzero(split["representative"] & (split["split"] == part))
        for part in ("train", "calibration", "validation")
    }
    chosen = np.random.default_rng(0).permutation(rows["validation"])[:MOST]
    chips = np.stack([decode((source.root / faces["path"][row]).read_bytes(), INPUT_PX)[0] for row in chosen])
    out_of_distribution.MOST = MOST
    kinds = out_of_distribution.other_pictures(chips)
    kinds = {kind: embed(FaceImages(part, np.arange(len(part))))[0].astype(float) for kind, part in kinds.items()}
    features, table = embedding.features.astype(float), []
    for name, way in scores(embedding, rows["train"], rows["calibration"]).items():
        own, limit = way(features[rows["validation"]]), np.percentile(way(features[rows["calibration"]]), 99)
        result = {"method": name, "validation_flagged": rate(int((own > limit).sum()), len(own))}
        for kind, points in kinds.items():
            far = way(points)
            values, is_other = np.concatenate([own, far]), np.repeat([0, 1], [len(own), len(far)])
            area = Bootstrap(300)(auc, is_other, values)
            result[kind] = {"auroc": area, "flagged": rate(int((far > limit).sum()), len(far))}
        table.append(result)
    published = read_json(EXTERNAL_RESULTS / "out_of_distribution.json")["methods"]
    used = next(row for row in published if row["method"] == f"neighbour {NEIGHBOUR}")
    write_json(EXTERNAL_RESULTS / "unlike.json", {"model's own features": used, "face features": table})
    for result in table:
        print(result["method"], {kind: f"{result[kind]['auroc'].value:.3f}" for kind in kinds})


if __name__ == "__main__":
    main()
