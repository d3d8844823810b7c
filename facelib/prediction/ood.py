"""How far a face lies from those that a network learned from, by its features.

The distance is that of Sun et al., Out-of-distribution detection with deep nearest neighbors (ICML 2022): of
unit-length features to the k-th nearest of a sample of training faces. What distance is usual, faces say that no
training saw: those of the calibration split. `python -m studies.unlike` compares it with others.
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
from facelib.runs import as_written

MOST_REFERENCES = 2000  # training faces that are kept: 2 MB in half precision
NEIGHBOUR = 10  # the first does as well among so many; the 50th is worse, the 200th much (studies.unlike)
UNUSUAL_PERCENT = 99.0  # of calibration faces that are nearer than a face which is called unlike them


def unit_length(features: np.ndarray) -> np.ndarray:
    """Features (n, width) divided by their length, as float32; zeros stay zeros."""
    features = np.asarray(features, np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def neighbour_distance(reference: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Euclidean distance of each point (m, width) to the k-th nearest of the reference (n, width): shape (m,)."""
    return NearestNeighbors(n_neighbors=k).fit(reference).kneighbors(points)[0][:, -1]


@dataclass(frozen=True)
class Familiarity:
    """Reference features and usual distances of one network.

    Attributes
    ----------
    reference : float32 array (n, width)
        Unit-length features of training faces.
    usual : float32 array (m,)
        Distances of the calibration faces, ascending.
    """

    reference: np.ndarray
    usual: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distance of features (n, width) to the `NEIGHBOUR`-th nearest reference, or the last of fewer."""
        return neighbour_distance(self.reference, unit_length(features), min(NEIGHBOUR, len(self.reference)))

    @property
    def expected_share(self) -> float:
        """The share flagged of faces like the calibration faces: their ranks among these are equally likely."""
        m = len(self.usual)
        return (m - math.ceil(UNUSUAL_PERCENT / 100 * m) + 1) / (m + 1)

    def __call__(self, features: np.ndarray) -> pd.DataFrame:
        """Judge features (n, width) of `predict_outputs`.

        Returns
        -------
        DataFrame
            distance_percentile, the percentage of calibration faces that are nearer, 0 to 100; unlike_training, whether
            that is at least `UNUSUAL_PERCENT`.
        """
        nearer = np.searchsorted(self.usual, self.distances(features), side="left")
        percentile = 100 * nearer / len(self.usual)
        return pd.DataFrame({"distance_percentile": percentile, "unlike_training": percentile >= UNUSUAL_PERCENT})


def fit_familiarity(train: np.ndarray, calibration: np.ndarray, seed: int) -> Familiarity:
    """The familiarity of a network's features.

    Parameters
    ----------
    train, calibration : float arrays (n, width) and (m, width)
        Features of training faces, of which a sample is kept, and of calibration faces.
    seed : int
        Of the sample.

    Raises
    ------
    ValueError
        If either is empty.
    """
    if not len(train) or not len(calibration):
        raise ValueError(f"familiarity takes faces of both kinds, and there are {len(train)} and {len(calibration)}")
    sample = np.sort(np.random.default_rng(seed).permutation(len(train))[:MOST_REFERENCES])
    # As they are read again, in half precision.
    reference = unit_length(train[sample]).astype(np.float16).astype(np.float32)
    usual = Familiarity(reference, np.empty(0)).distances(calibration)
    return Familiarity(reference, np.sort(usual).astype(np.float32))


def save_familiarity(familiarity: Familiarity, path: Path) -> None:
    """Write the references in half precision, and the usual distances, as safetensors."""
    save_file({"reference": familiarity.reference.astype(np.float16), "usual": familiarity.usual}, path)


def load_familiarity(path: Path, width: int) -> Familiarity:
    """What `save_familiarity` wrote, for features of some width.

    Raises
    ------
    MissingFromRun
        If there is no such file.
    DamagedRun
        If it is not what `save_familiarity` wrote.
    """
    if not path.exists():
        raise MissingFromRun(
            f"{path} is missing, by which photographs unlike the training faces are told: `facelib run` with --from 03 "
            "makes it"
        )
    with as_written(path):
        try:
            stored = load_file(path)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        reference, usual = stored["reference"].astype(np.float32), stored["usual"].astype(np.float32)
        if reference.ndim != 2 or reference.shape[1] != width or not len(reference):
            raise ValueError(f"references of shape {reference.shape} for features of width {width}")
        if usual.ndim != 1 or not len(usual) or not (np.isfinite(usual).all() and np.isfinite(reference).all()):
            raise ValueError("its distances are no numbers")
        return Familiarity(reference, np.sort(usual))
