"""How well the out-of-distribution score tells other pictures from faces that nothing was trained on.

Validation faces of a published run against patches of pictures of other things (scikit-image's), noise, the faces' own
tiles shuffled, faces drawn by the package, and the same validation faces upside down, heavily blurred (Gaussian, 10 of
200 px), and 1.8 times as far away. Compared are facelib's score, its two parts, the Mahalanobis distance in all
directions, and the distance to the tenth nearest of 2,000 training faces (unit-length features; Sun et al., ICML 2022)
by the features of the face network and by those of the run's own network. AUROC, and the share beyond the 99th
percentile of the calibration faces. The classifier has seen turned and shuffled pictures, though not these.

usage: python -m benchmarks.unlike UTKFACE [--run reports/utkface], which writes reports/external/unlike.json
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from benchmarks import EXTERNAL_RESULTS
from facelib.data.alignment import CHIP_PX
from facelib.data.pixels import decode
from facelib.data.readers import read_faces
from facelib.embedding.features import embed_faces
from facelib.embedding.outliers import fit_upright
from facelib.evaluation.misalignment import misalign
from facelib.formats import write_json
from facelib.metrics import auc
from facelib.models.network import load_network
from facelib.prediction.ood import OOD_PERCENTILE, fit_ood
from facelib.prediction.predictor import Predictor
from facelib.runs import cache_root
from facelib.statistics import Bootstrap, rate
from facelib.synthetic.drawing import draw_face
from studies.other_things import other_patches

MOST = 250  # pictures of each kind
REFERENCES, NEIGHBOUR = 2000, 10
TILES = 6  # along an edge of a shuffled face


def shuffled(chip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A face cut into tiles, which change places."""
    edge = len(chip) // TILES
    rows = chip[: edge * TILES, : edge * TILES].reshape(TILES, edge, TILES, edge, 3).swapaxes(1, 2)
    mixed = rng.permutation(rows.reshape(TILES**2, edge, edge, 3)).reshape(TILES, TILES, edge, edge, 3)
    return enlarged(mixed.swapaxes(1, 2).reshape(edge * TILES, edge * TILES, 3), len(chip))


def enlarged(square: np.ndarray, px: int) -> np.ndarray:
    """A square picture with edge px."""
    return np.asarray(Image.fromarray(square).resize((px, px)))


def other_pictures(chips: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures by kind, uint8 (n, px, px, 3), of which faces are made from `chips`."""
    px, rng = chips.shape[1], np.random.default_rng(0)
    noise, blur = rng.integers(0, 256, (MOST, px // 8, px // 8, 3), np.uint8), ImageFilter.GaussianBlur(10 * px / 200)
    return {
        "other things": rng.permutation(other_patches(px))[:MOST],
        "noise": np.stack([enlarged(picture, px) for picture in noise]),
        "shuffled faces": np.stack([shuffled(chip, rng) for chip in chips]),
        "drawn faces": np.stack([draw_face(rng.uniform(1, 90), k % 2, k % 5, rng, px) for k in range(MOST)]),
        "upside down": chips[:, ::-1],
        "blurred": np.stack([np.asarray(Image.fromarray(chip).filter(blur)) for chip in chips]),
        "far away": misalign(chips, "scale", 1.8),
    }


def neighbour_distance(known: np.ndarray) -> Callable:
    """The distance to the tenth nearest of some of these features."""

    def unit(points: np.ndarray) -> np.ndarray:
        return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)

    sample = known[np.random.default_rng(0).permutation(len(known))[:REFERENCES]]
    search = NearestNeighbors(n_neighbors=NEIGHBOUR).fit(unit(sample))
    return lambda points: search.kneighbors(unit(points))[0][:, -1]


def mahalanobis(known: np.ndarray) -> Callable:
    """The squared Mahalanobis distance from these features."""
    centre, whitening = known.mean(axis=0), np.linalg.cholesky(np.linalg.inv(ledoit_wolf(known)[0]))
    return lambda points: (((points - centre) @ whitening) ** 2).sum(axis=1)


def row(name: str, way: Callable, calibration: np.ndarray, own: np.ndarray, kinds: dict[str, np.ndarray]) -> dict:
    """AUROC and flagged share of each kind by one way to score features."""
    limit, own = np.percentile(way(calibration), OOD_PERCENTILE), way(own)
    result = {"method": name, "validation_flagged": rate(int((own > limit).sum()), len(own)).to_dict()}
    for kind, points in kinds.items():
        far = way(points)
        values, is_other = np.concatenate([own, far]), np.repeat([0, 1], [len(own), len(far)])
        flagged = rate(int((far > limit).sum()), len(far))
        result[kind] = {"auroc": Bootstrap(300)(auc, is_other, values).to_dict(), "flagged": flagged.to_dict()}
    print(name, {kind: (round(result[kind]["auroc"]["value"], 3), result[kind]["flagged"]["value"]) for kind in kinds})
    return result


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--run", type=Path, default=Path("reports/utkface"))
    options = parser.parse_args()
    source, split = read_faces(options.data), pd.read_parquet(options.run / "tables" / "splits.parquet")
    faces = source.faces.set_index("image_id").loc[split["image_id"]].reset_index()
    network, facts = load_network(options.run / "checkpoints" / "model.safetensors")
    embedding, rng = embed_faces(faces, lambda: source, cache_root()), np.random.default_rng(0)
    train, middle, held = (
        np.flatnonzero(split["representative"] & (split["split"] == part))
        for part in ("train", "calibration", "validation")
    )

    def chips(rows: np.ndarray) -> np.ndarray:
        return np.stack([decode((source.root / faces["path"][k]).read_bytes(), CHIP_PX)[0] for k in rows])

    score = fit_ood(embedding, train, middle)
    predictor = Predictor(network, None, "direct", {}, None, score, facts["image_px"], False)
    kinds = other_pictures(chips(rng.permutation(held)[:MOST]))
    features = embedding.features.astype(float)
    learned = np.isin(embedding.spoiled_row, train)
    upright = fit_upright(features[embedding.spoiled_row[learned]], embedding.spoiled[learned])
    ways = {
        "facelib": score.scores,
        "residual": lambda points: (((points - score.centre) @ score.whitening) ** 2).sum(axis=1),
        "classifier": lambda points: -upright.decision_function(points),
        "Mahalanobis": mahalanobis(features[train]),
        f"neighbour {NEIGHBOUR}": neighbour_distance(features[train]),
    }
    points = {kind: predictor.features(pictures).astype(float) for kind, pictures in kinds.items()}
    table = [row(name, way, features[middle], features[held], points) for name, way in ways.items()]
    sampled = rng.permutation(train)[:REFERENCES]
    own = [predictor.outputs(chips(rows))["features"] for rows in (sampled, middle, held)]
    points = {kind: predictor.outputs(pictures)["features"] for kind, pictures in kinds.items()}
    before = row(f"own features, neighbour {NEIGHBOUR}", neighbour_distance(own[0]), *own[1:], points)
    write_json(EXTERNAL_RESULTS / "unlike.json", {"run": options.run.name, "methods": [*table, before]})


if __name__ == "__main__":
    main()
