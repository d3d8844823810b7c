"""Temperatures of class probabilities and conformal age intervals, both fitted on the calibration split."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from facelib.schema import MAX_AGE

MONDRIAN_BINS = 3  # categories by predicted age; each needs enough calibration rows for its own quantile
MIN_CATEGORY = 40
COVERAGE = 0.90
MIN_ROWS = 10  # of the calibration split; with fewer nothing is fitted


def fit_temperature(logits: np.ndarray, y_true: np.ndarray) -> float:
    """The temperature T that minimises the log loss of softmax(logits / T); 1 with fewer than `MIN_ROWS` rows.

    From "On Calibration of Modern Neural Networks" (ICML 2017). Logits are (n, k), y_true int (n,).
    """
    from scipy.optimize import minimize_scalar  # like crepes, a second to load, which predictions do not need
    from scipy.special import log_softmax

    if len(y_true) < MIN_ROWS:
        return 1.0

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_p[np.arange(len(y_true)), y_true].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


@dataclass(frozen=True)
class AgeIntervals:
    """Half-widths of conformal age intervals by category of predicted age, and the inner edges of these, in years."""

    edges: tuple[float, ...]
    half_widths: tuple[float, ...]

    def __call__(self, age_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends in years, clipped to 0-116."""
        half = np.array(self.half_widths)[np.searchsorted(self.edges, age_pred, side="right")]
        return np.clip(age_pred - half, 0, MAX_AGE), np.clip(age_pred + half, 0, MAX_AGE)

    def table(self) -> pd.DataFrame:
        """A row for each category: the predicted ages that it holds, and the half-width, in years.

        Examples
        --------
        >>> AgeIntervals((30.0,), (5.0, 9.0)).table().values.tolist()
        [['below 30.0', 5.0], ['30.0 and over', 9.0]]
        """
        ends = [f"{edge:.1f}" for edge in self.edges]
        names = [f"below {end}" for end in ends[:1]] + [f"{a} to {b}" for a, b in pairwise(ends)]
        names += [f"{end} and over" for end in ends[-1:]] or ["any"]
        return pd.DataFrame({"predicted age (years)": names, "half-width (years)": self.half_widths})


def fit_age_intervals(
    y_true: np.ndarray, age_pred: np.ndarray, coverage: float = COVERAGE, most: int = MONDRIAN_BINS
) -> AgeIntervals:
    """Split-conformal intervals that cover a share `coverage` of true ages, from ages (n,) of rows not trained on.

    Mondrian by predicted age where there are enough rows, in at most `most` categories; 1 gives one width for all.
    """
    from crepes import ConformalRegressor

    if len(y_true) < MIN_ROWS:
        return AgeIntervals((), (float(MAX_AGE),))  # nothing narrower can be guaranteed
    categories = max(1, min(most, len(y_true) // MIN_CATEGORY))
    edges = np.quantile(age_pred, np.arange(1, categories) / categories)
    # Tied predictions can leave a category empty, whose width would be zero.
    edges = edges[np.diff(np.searchsorted(np.sort(age_pred), edges), prepend=0) > 0]
    category = np.searchsorted(edges, age_pred, side="right")
    regressor = ConformalRegressor().fit(np.abs(y_true - age_pred), bins=category)
    present = np.arange(len(edges) + 1)
    ends = regressor.predict_int(np.zeros(len(present)), bins=present, confidence=coverage)
    half_widths = np.minimum(ends[:, 1], MAX_AGE)
    return AgeIntervals(tuple(map(float, edges)), tuple(map(float, half_widths)))
