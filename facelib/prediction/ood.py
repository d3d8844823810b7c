"""Out-of-distribution score: how far a face's features lie from those of the training faces.

The distance is that of Sun et al., Out-of-distribution detection with deep nearest neighbors (ICML 2022): of
unit-length features to the k-th nearest of a sample of training faces. It is given as a percentile of the distances of
the calibration faces, which were not trained on. `python -m studies.out_of_distribution` compares it with others.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.neighbors import NearestNeighbors

from facelib.errors import MissingFromRun
from facelib.formats import as_written

MOST_REFERENCES = 2000  # training faces in the sample: 2 MB in half precision
NEIGHBOUR = 10  # the first does as well among so many; the 50th is worse, the 200th much (studies.out_of_distribution)
OOD_PERCENTILE = 99.0  # from here on a face is flagged as out of distribution


def unit_length(features: np.ndarray) -> np.ndarray:
    """Features (n, width) divided by their length, as float32; zeros stay zeros."""
    features = np.asarray(features, np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def neighbour_distance(reference: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Euclidean distance of each point (m, width) to the k-th nearest of the reference (n, width): shape (m,)."""
    return NearestNeighbors(n_neighbors=k).fit(reference).kneighbors(points)[0][:, -1]


@dataclass(frozen=True)
class OodScore:
    """The out-of-distribution score of one network's features."""

    reference: np.ndarray  # float32 (n, width), unit-length features of training faces
    calibration: np.ndarray  # float32 (m,), distances of calibration faces, ascending

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distance of features (n, width) to the `NEIGHBOUR`-th nearest reference, or the last of fewer."""
        return neighbour_distance(self.reference, unit_length(features), min(NEIGHBOUR, len(self.reference)))

    @property
    def expected_share(self) -> float:
        """The share flagged of faces like the calibration faces: their ranks among these are equally likely."""
        m = len(self.calibration)
        return (m - math.ceil(OOD_PERCENTILE / 100 * m) + 1) / (m + 1)

    def __call__(self, features: np.ndarray) -> pd.DataFrame:
        """ood_percentile, the percentage of calibration faces nearer than features (n, width), and out_of_distribution,
        whether that is at least `OOD_PERCENTILE`.
        """
        nearer = np.searchsorted(self.calibration, self.distances(features), side="left")
        percentile = 100 * nearer / len(self.calibration)
        return pd.DataFrame({"ood_percentile": percentile, "out_of_distribution": percentile >= OOD_PERCENTILE})


def fit_ood(train: np.ndarray, calibration: np.ndarray, seed: int) -> OodScore:
    """The score from features of training faces (n, width), of which a sample is kept, and of calibration faces.

    ValueError if either is empty.
    """
    if not len(train) or not len(calibration):
        raise ValueError(f"needs training and calibration faces, and there are {len(train)} and {len(calibration)}")
    sample = np.sort(np.random.default_rng(seed).permutation(len(train))[:MOST_REFERENCES])
    # In half precision, as they are loaded again.
    reference = unit_length(train[sample]).astype(np.float16).astype(np.float32)
    distances = OodScore(reference, np.empty(0)).distances(calibration)
    return OodScore(reference, np.sort(distances).astype(np.float32))


def save_ood(score: OodScore, path: Path) -> None:
    """Write the references, in half precision, and the calibration distances as safetensors."""
    save_file({"reference": score.reference.astype(np.float16), "calibration": score.calibration}, path)


def load_ood(path: Path, width: int) -> OodScore:
    """What `save_ood` wrote, for features of this width; MissingFromRun without it, DamagedRun if it is invalid."""
    if not path.exists():
        raise MissingFromRun(f"{path} is missing: `facelib run` with --from 03 makes it")
    with as_written(path):
        try:
            stored = load_file(path)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        reference, calibration = (stored[name].astype(np.float32) for name in ("reference", "calibration"))
        if reference.shape != (len(reference), width) or calibration.ndim != 1:
            shapes = f"{reference.shape} and {calibration.shape}"
            raise ValueError(f"arrays of shapes {shapes} for features of width {width}")
        if not all(len(values) and np.isfinite(values).all() for values in (reference, calibration)):
            raise ValueError("its arrays are empty or not finite")
        return OodScore(reference, np.sort(calibration))
