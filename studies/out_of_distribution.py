"""How well distances in feature space separate other pictures from faces that the network was not trained on.

Validation faces of a run against patches of pictures of other things (scikit-image's), noise, the faces' own tiles
shuffled, faces drawn by the package, and the same validation faces upside down, heavily blurred (Gaussian, 10 of 200
px), and 1.8 times as far away. Compared are the distance to the k-th nearest of 2,000 training faces (unit-length
features; facelib's), the Mahalanobis distance to the training faces' mean, and the relative one of Ren et al. (2021):
to the nearest of the classes (crossed labels that are not sensitive, ages by band; one covariance) less that to the
mean. AUROC with 95 % intervals, and the share that each flags at the 99th percentile of the calibration faces.

usage: python -m studies.out_of_distribution RUN, which writes reports/external/out_of_distribution.json
"""

import sys

import numpy as np
from PIL import Image, ImageFilter
from sklearn.covariance import ledoit_wolf

from benchmarks import EXTERNAL_RESULTS
from facelib.data.ingest import load_images
from facelib.evaluation.misalignment import misalign
from facelib.formats import write_json
from facelib.metrics import auc
from facelib.models.network import load_network, predict_outputs
from facelib.prediction.ood import (
    MOST_REFERENCES,
    NEIGHBOUR,
    OOD_PERCENTILE,
    fit_ood,
    neighbour_distance,
    unit_length,
)
from facelib.runs import open_run
from facelib.schema import all_known
from facelib.statistics import Bootstrap, rate
from facelib.synthetic.drawing import draw_face
from studies.other_things import other_patches

MOST = 500  # pictures of each kind
NEIGHBOURS = (1, NEIGHBOUR, 50, 200)
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
    noise = rng.integers(0, 256, (MOST, px // 8, px // 8, 3), dtype=np.uint8)
    return {
        "other things": rng.permutation(other_patches(px))[:MOST],
        "noise": np.stack([enlarged(picture, px) for picture in noise]),
        "shuffled faces": np.stack([shuffled(chip, rng) for chip in chips]),
        "drawn faces": np.stack([draw_face(rng.uniform(1, 90), k % 2, k % 5, rng, px) for k in range(MOST)]),
        "upside down": chips[:, ::-1],
        "blurred": np.stack(
            [np.asarray(Image.fromarray(chip).filter(ImageFilter.GaussianBlur(10 * px / 200))) for chip in chips]
        ),
        "far away": misalign(chips, "scale", 1.8),
    }


def mahalanobis(points: np.ndarray, centre: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distance of points (n, width)."""
    offset = points - centre
    return np.einsum("ij,jk,ik->i", offset, precision, offset)


def methods(train: np.ndarray, classes: np.ndarray, seed: int) -> dict:
    """Distances by name, each a function of features (n, width)."""
    sample = fit_ood(train, train[:1], seed).reference
    train = train.astype(np.float64)
    mean, precision = train.mean(axis=0), np.linalg.inv(ledoit_wolf(train)[0])
    means = {name: train[classes == name].mean(axis=0) for name in np.unique(classes)}
    within = np.linalg.inv(ledoit_wolf(train - np.stack([means[name] for name in classes]), assume_centered=True)[0])

    def relative(points: np.ndarray) -> np.ndarray:
        nearest = np.min([mahalanobis(points, centre, within) for centre in means.values()], axis=0)
        return nearest - mahalanobis(points, mean, precision)

    ways = {
        f"neighbour {k}": lambda points, k=k: neighbour_distance(sample, unit_length(points), k) for k in NEIGHBOURS
    }
    ways["Mahalanobis"] = lambda points: mahalanobis(points, mean, precision)
    return ways | {"relative Mahalanobis": relative}


def main(name: str) -> None:
    """Measure, print and save."""
    run = open_run(name)
    faces, split, embeddings = run.load_table("faces"), run.load_table("splits"), run.load_array("embeddings")
    network, _ = load_network(run.require("checkpoints/model.safetensors"))
    labels = [attribute for attribute in run.learned if not attribute.sensitive]
    usable = split["representative"].to_numpy() & all_known(faces, labels) & np.isfinite(embeddings[:, 0])
    rows = {part: np.flatnonzero(usable & (split["split"] == part)) for part in ("train", "calibration", "validation")}
    rng = np.random.default_rng(run.settings.seed)
    chips = load_images(run, faces)[rng.permutation(rows["validation"])[:MOST]]
    features = {part: embeddings[rows[part]].astype(np.float32) for part in rows}
    kinds = {kind: predict_outputs(network, pictures)["features"] for kind, pictures in other_pictures(chips).items()}
    strata = [attribute.strata(faces).iloc[rows["train"]] for attribute in labels]
    classes = np.array(["_".join(names) for names in zip(*strata, strict=True)])
    table = []
    for method, distance in methods(features["train"], classes, run.settings.seed).items():
        own = distance(features["validation"])
        limit = np.percentile(distance(features["calibration"]), OOD_PERCENTILE)
        result = {"method": method, "validation_flagged": rate(int((own > limit).sum()), len(own)).to_dict()}
        print(f"{method:22}{'validation':16}{result['validation_flagged']['value']:.1%} flagged")
        for kind, points in kinds.items():
            far = distance(points)
            scores, is_other = np.concatenate([own, far]), np.repeat([0, 1], [len(own), len(far)])
            area = Bootstrap(500, run.settings.seed)(auc, is_other, scores)
            flagged = rate(int((far > limit).sum()), len(far))
            result[kind] = {"auroc": area.to_dict(), "flagged": flagged.to_dict()}
            print(f"{method:22}{kind:16}AUROC {area}, {flagged.value:.0%} flagged")
        table.append(result)
    facts = {"run": run.name, "references": min(MOST_REFERENCES, len(rows["train"]))}
    write_json(
        EXTERNAL_RESULTS / "out_of_distribution.json",
        facts | {part: len(rows[part]) for part in rows} | {"methods": table},
    )


if __name__ == "__main__":
    main(sys.argv[1])
