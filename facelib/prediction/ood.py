"""Out-of-distribution score: how unlike the training faces a face is, by the features of the face network.

It is the sum of two measures, each in units of its spread among calibration faces, which were not trained on (from
their median to their 99th percentile). The Mahalanobis distance from the training faces in the directions in which
they vary least (the residual of Wang et al., ViM, CVPR 2022) notices blur and drawings; a classifier that tells them
from spoiled copies of themselves (`embedding.outliers`) notices what is no upright face. The sum is given as a
percentile of those of the calibration faces. `python -m benchmarks.unlike` compares it with others.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from facelib.embedding.features import Embedding
from facelib.embedding.weights import FEATURES
from facelib.errors import MissingFromRun
from facelib.formats import as_written

OOD_PERCENTILE = 99.0  # from here on a face is flagged as out of distribution
RESIDUAL = 5 / 8  # of the directions of the features; with all, or with half, drawings or blur are noticed less


@dataclass(frozen=True)
class OodScore:
    """The score of features x (n, width): |(x - centre) whitening|^2 + x direction + offset."""

    centre: np.ndarray  # float32 (width,), mean of the training faces
    whitening: np.ndarray  # float32 (width, k)
    direction: np.ndarray  # float32 (width,)
    offset: np.ndarray  # float32 (1,)
    calibration: np.ndarray  # float32 (m,), scores of calibration faces, ascending

    def scores(self, features: np.ndarray) -> np.ndarray:
        """The sum of both measures of features (n, width): float (n,), the higher the less like the training faces."""
        features = np.asarray(features, np.float32)
        far = ((features - self.centre) @ self.whitening) ** 2
        return far.sum(axis=1) + features @ self.direction + self.offset

    @property
    def expected_share(self) -> float:
        """The share flagged of faces like the calibration faces: their ranks among these are equally likely."""
        m = len(self.calibration)
        return (m - math.ceil(OOD_PERCENTILE / 100 * m) + 1) / (m + 1)

    def __call__(self, features: np.ndarray) -> pd.DataFrame:
        """ood_percentile, the percentage of calibration faces that score less than features (n, width), and
        out_of_distribution, whether that is at least `OOD_PERCENTILE`.
        """
        less = np.searchsorted(self.calibration, self.scores(features), side="left")
        percentile = 100 * less / len(self.calibration)
        return pd.DataFrame({"ood_percentile": percentile, "out_of_distribution": percentile >= OOD_PERCENTILE})


def unknown_ood(n: int) -> pd.DataFrame:
    """The columns of `OodScore` of n faces without features: nan, and not flagged."""
    return pd.DataFrame({"ood_percentile": np.full(n, np.nan), "out_of_distribution": False})


def fit_ood(embedding: Embedding, train: np.ndarray, calibration: np.ndarray) -> OodScore:
    """The score from an embedding and the rows of its training and its calibration faces; ValueError without either."""
    from sklearn.covariance import ledoit_wolf  # a second to load, which predictions do not need

    from facelib.embedding.outliers import fit_upright

    if not len(train) or not len(calibration):
        raise ValueError(f"needs training and calibration faces, and there are {len(train)} and {len(calibration)}")
    features = embedding.features.astype(float)
    centre, middle = features[train].mean(axis=0), features[calibration]
    variances, directions = np.linalg.eigh(ledoit_wolf(features[train])[0])  # ascending
    least = max(1, round(RESIDUAL * len(variances)))
    whitening = directions[:, :least] / variances[:least] ** 0.5
    learned = np.isin(embedding.spoiled_row, train)
    scaler, classifier = fit_upright(features[embedding.spoiled_row[learned]], embedding.spoiled[learned])
    direction = -classifier.coef_[0] / scaler.scale_  # of the log odds that a picture is spoiled
    (near, width), (upright, breadth) = (
        _median_and_spread(measure)
        for measure in ((((middle - centre) @ whitening) ** 2).sum(axis=1), middle @ direction)
    )
    offset = [-near / width - upright / breadth]
    arrays = centre, whitening / width**0.5, direction / breadth, offset, []
    score = OodScore(*(np.asarray(array, np.float32) for array in arrays))
    return replace(score, calibration=np.sort(score.scores(middle)))


def _median_and_spread(values: np.ndarray) -> tuple[float, float]:
    """The median, and how far the 99th percentile lies above it; 1 where all are equal."""
    median, high = np.percentile(values, [50, 99])
    return median, (high - median) or 1.0


def save_ood(score: OodScore, path: Path) -> None:
    """Write the score's arrays as safetensors."""
    save_file(asdict(score), path)


def load_ood(path: Path) -> OodScore:
    """What `save_ood` wrote; MissingFromRun without it, DamagedRun if it is invalid, or of an earlier version."""
    if not path.exists():
        raise MissingFromRun(f"{path} is missing: `facelib run` with --from 03 makes it")
    with as_written(path):
        try:
            stored = load_file(path)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        score = OodScore(**{field.name: stored[field.name].astype(np.float32) for field in fields(OodScore)})
        shapes = [array.shape for array in asdict(score).values()]
        expected = [(FEATURES,), (FEATURES, round(RESIDUAL * FEATURES)), (FEATURES,), (1,)]
        if shapes[:4] != expected or len(shapes[4]) != 1:
            raise ValueError(f"arrays of shapes {shapes}")
        if not all(len(values) and np.isfinite(values).all() for values in asdict(score).values()):
            raise ValueError("its arrays are empty or not finite")
        return replace(score, calibration=np.sort(score.calibration))
