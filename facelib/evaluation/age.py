"""Which way to predict age is better, for whom, and how far predictions shrink towards the middle."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib import metrics, statistics
from facelib.evaluation.headline import OLD_YEARS
from facelib.models.age_heads import fit_stage_heads
from facelib.models.age_stages import age_bin_edges, bin_medians, no_image_oracle_ages, oracle_ages, route, to_bin

MIN_SLOPE = 0.2  # years that a prediction has to grow with a year of age for it to be straightened


def compare_errors(estimates: dict[str, np.ndarray], y_true: np.ndarray, **options) -> pd.DataFrame:
    """Age error of several estimates of the same faces, in whole years.

    Parameters
    ----------
    estimates : dict of float arrays (n,)
        Years, by name.
    y_true : float array (n,), years
    **options
        groups, resamples and seed of the bootstrap.

    Returns
    -------
    DataFrame
        method, mae, low, high, n, and mae_le45, mae_gt45 (years; nan where there is no such face) and bias_gt45.
    """
    rows, old = [], y_true > OLD_YEARS
    for name, smooth in estimates.items():
        estimate = metrics.whole_years(smooth)
        mae = statistics.bootstrap(metrics.mae, y_true, estimate, **options)
        parts = {"mae_le45": (metrics.mae, ~old), "mae_gt45": (metrics.mae, old), "bias_gt45": (metrics.bias, old)}
        values = {
            key: measure(y_true[rows_], estimate[rows_]) if rows_.any() else np.nan
            for key, (measure, rows_) in parts.items()
        }
        rows.append({"method": name, "mae": mae.value, "low": mae.low, "high": mae.high, "n": mae.n, **values})
    return pd.DataFrame(rows)


def paired_differences(estimates: dict[str, np.ndarray], reference: str, y_true: np.ndarray, **options) -> pd.DataFrame:
    """Absolute error of each estimate minus that of one of them, on the same faces and in whole years.

    Returns
    -------
    DataFrame
        method, difference, low, high (years), n, answer: better or worse where the interval excludes zero, else cannot
        tell.
    """
    error = {name: np.abs(metrics.whole_years(estimate) - y_true) for name, estimate in estimates.items()}
    own, rows = error.pop(reference), []
    for name, other in error.items():
        gain = statistics.bootstrap(np.mean, other - own, **options)
        row = {"method": name, "difference": gain.value, "low": gain.low, "high": gain.high}
        rows.append(row | {"n": gain.n, "answer": gain.against(0, "better", "worse")})
    return pd.DataFrame(rows, columns=["method", "difference", "low", "high", "n", "answer"])


def compare_bins(
    features: np.ndarray,
    ages: np.ndarray,
    new: np.ndarray,
    y_true: np.ndarray,
    wanted: Iterable[int],
    seed: int,
) -> pd.DataFrame:
    """Two-stage models with several numbers of bins, trained on saved features.

    Parameters
    ----------
    features, ages
        Of changed training images; see `facelib.models.age_heads.fit_age_heads`.
    new : float array (m, width)
        Features of the faces that are predicted.
    y_true : float array (m,), years
    wanted : iterable of int
        Numbers of bins; those that ties in the ages cut down to an earlier number are left out.
    seed : int

    Returns
    -------
    DataFrame
        bins, bin_accuracy, and MAE in years, of ages in whole years, of each way: routed, soft, routed_overlap,
        soft_overlap, oracle_bin (told the true bin) and no_image (told the true bin, answers with its median training
        age).
    """
    rows: list[dict] = []
    for bins in wanted:
        edges = age_bin_edges(ages, bins)
        if any(row["bins"] == len(edges) + 1 for row in rows):
            continue
        outputs, overlapping = (fit_stage_heads(features, ages, edges, overlap, seed)(new) for overlap in (False, True))
        staged = route(outputs)
        overlapping = route(overlapping)
        estimates = {
            "routed": staged["age_routed"],
            "soft": staged["age_soft"],
            "routed_overlap": overlapping["age_routed"],
            "soft_overlap": overlapping["age_soft"],
            "oracle_bin": oracle_ages(outputs["bin_ages"], y_true, edges),
            "no_image": no_image_oracle_ages(y_true, edges, bin_medians(ages, edges)),
        }
        right = metrics.accuracy(to_bin(y_true, edges), staged["predicted_bin"])
        values = {name: metrics.mae(y_true, metrics.whole_years(estimate)) for name, estimate in estimates.items()}
        rows.append({"bins": len(edges) + 1, "bin_accuracy": right, **values})
    return pd.DataFrame(rows)


def straighten(y_true: np.ndarray, age_pred: np.ndarray) -> tuple[float, float]:
    """Intercept and slope that undo the shrinkage of predictions: years, and years a year.

    The line of the predictions over the labels, inverted. It takes the average error out of every age, and widens the
    others: what it gains in bias it loses in absolute error. Predictions that grow by less than `MIN_SLOPE` are left.

    Examples
    --------
    >>> y_true = np.array([10.0, 30.0, 50.0])
    >>> intercept, slope = straighten(y_true, 10 + 0.5 * y_true)
    >>> round(intercept, 6), round(slope, 6)
    (-20.0, 2.0)
    """
    slope, intercept = np.polyfit(y_true, age_pred, 1)
    if slope < MIN_SLOPE:  # predictions that hardly follow the age have nothing to straighten
        return 0.0, 1.0
    return float(-intercept / slope), float(1 / slope)


def balanced_weights(ages: np.ndarray, width: float = 10.0) -> np.ndarray:
    """How much more often each row is drawn so that every age decade counts the same: float (n,), 1 on average."""
    decade = (np.asarray(ages) // width).astype(int)
    weights = 1 / np.bincount(decade)[decade]
    return weights / weights.mean()


def shrinkage(frame: pd.DataFrame, by: str, min_rows: int, **options) -> pd.DataFrame:
    """How many years the prediction grows with a year of age, by group: 1 where nothing shrinks.

    Parameters
    ----------
    frame : DataFrame
        age, age_pred and group_id, with known ages.
    by : str
        A column; rows where it is missing are left out.
    min_rows : int
        Groups with fewer rows, or with one age alone, are left out.
    **options
        resamples and seed of the bootstrap over copy groups.

    Returns
    -------
    DataFrame
        group, slope, low, high, n, bias_le45 and bias_gt45 (years).
    """

    def slope(age: np.ndarray, age_pred: np.ndarray) -> float:
        return float(np.polyfit(age, age_pred, 1)[0]) if np.ptp(age) > 0 else float("nan")

    rows = []
    for name, part in frame.groupby(by, observed=True):
        if len(part) < max(2, min_rows) or part["age"].nunique() < 2:
            continue
        found = statistics.bootstrap(slope, part["age"], part["age_pred"], groups=part["group_id"], **options)
        error, old = part["age_pred"] - part["age"], part["age"] > OLD_YEARS
        biases = {"bias_le45": error[~old].mean(), "bias_gt45": error[old].mean()}
        rows.append({"group": name, "slope": found.value, "low": found.low, "high": found.high, "n": found.n} | biases)
    return pd.DataFrame(rows, columns=["group", "slope", "low", "high", "n", "bias_le45", "bias_gt45"])
