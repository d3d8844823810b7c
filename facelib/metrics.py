"""Error measures: plain functions of y_true and y_pred.

Ages are in years. Class labels are integer codes. Every array has shape (n,) unless a docstring says otherwise.
"""

import numpy as np


def whole_years(age) -> np.ndarray:
    """Ages in whole years, halves rounded up: the resolution of the labels, at which predictions are scored.

    For a median taken from a distribution spread evenly over each year (`age_quantile`), this is the median of the
    distribution over whole years.

    Examples
    --------
    >>> whole_years([24.4, 24.5, 25.0]).tolist()
    [24.0, 25.0, 25.0]
    """
    return np.floor(np.asarray(age, float) + 0.5)


def mae(y_true, y_pred) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(np.asarray(y_pred) - y_true)))


def mae_over_cells(y_true, y_pred, cell) -> float:
    """Mean over cells of their mean absolute errors, so that every cell weighs the same; `cell` is an int code.

    Examples
    --------
    >>> mae_over_cells([0, 0, 0, 9], [3, 3, 3, 10], [0, 0, 0, 1])
    2.0
    """
    cell = np.asarray(cell)
    sums, counts = np.bincount(cell, np.abs(np.asarray(y_pred) - y_true)), np.bincount(cell)
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))


def band_accuracy(first, last, y_pred) -> float:
    """Share of predictions, in whole years, that lie in a band; `first` and `last` are years within it.

    Examples
    --------
    >>> band_accuracy([20, 20, 20], [29, 29, 29], [20, 29, 30])
    0.6666666666666666
    """
    return float(np.mean(years_outside(first, last, y_pred) == 0))


def band_mae_least(first, last, y_pred) -> float:
    """Mean of the years by which predictions miss a band, which the mean absolute error is at least."""
    return float(np.mean(years_outside(first, last, y_pred)))


def years_outside(first, last, y_pred) -> np.ndarray:
    """Years from each prediction to the nearer end of a band, 0 within it: float (n,)."""
    first, last, y_pred = (np.asarray(values, float) for values in (first, last, y_pred))
    return np.maximum(np.maximum(first - y_pred, y_pred - last), 0)


def bias(y_true, y_pred) -> float:
    """Mean of predicted minus true: negative where people are under-predicted."""
    return float(np.mean(np.asarray(y_pred) - y_true))


def cs5(y_true, y_pred) -> float:
    """Cumulative score at 5 years: the share of absolute errors of at most 5 years.

    Examples
    --------
    >>> cs5([20, 30, 40], [25, 36, 40])
    0.6666666666666666
    """
    return float(np.mean(np.abs(np.asarray(y_pred) - y_true) <= 5))


def r2(y_true, y_pred) -> float:
    """Coefficient of determination; nan where all true values are equal."""
    y_true = np.asarray(y_true, float)
    spread = np.sum((y_true - y_true.mean()) ** 2)
    return float(1 - np.sum((y_true - y_pred) ** 2) / spread) if spread else float("nan")


def accuracy(y_true, y_pred) -> float:
    """Share of labels that agree."""
    return float(np.mean(np.asarray(y_true) == y_pred))


def auc(y_true, score) -> float:
    """Area under the ROC curve of a score for class 1; nan where one class is absent."""
    from scipy import stats  # libraries that take a second to load, which predictions do not need

    y_true = np.asarray(y_true)
    if len(np.unique(y_true)) < 2:
        return float("nan")
    # The rank-sum form: many times faster than tracing the curve, which matters inside a bootstrap.
    ranks = stats.rankdata(score)
    positives = y_true == 1
    n_pos, n_neg = positives.sum(), (~positives).sum()
    return float((ranks[positives].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def average_precision(y_true, score) -> float:
    """Area under the precision-recall curve as a step function; nan where one class is absent.

    A score that knows nothing reaches the share of class 1, not 0.5.
    """
    y_true, score = np.asarray(y_true), np.asarray(score)
    order = np.argsort(-score, kind="stable")
    positives = y_true[order] == 1
    total = positives.sum()
    if total in (0, len(positives)):
        return float("nan")
    # As scikit-learn's, many times faster, which matters inside a bootstrap: equal scores are one threshold.
    last = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(positives)[last]
    return float(np.sum(np.diff(found, prepend=0) * found / (np.flatnonzero(last) + 1)) / total)


def macro_f1(y_true, y_pred) -> float:
    """Unweighted mean of the F1 of the classes that occur among the labels or the predictions."""
    y_true, y_pred = np.asarray(y_true, int), np.asarray(y_pred, int)
    # As scikit-learn's, many times faster, which matters inside a bootstrap.
    occurring = np.bincount(np.concatenate([y_true, y_pred]))
    hits, present = np.bincount(y_true[y_true == y_pred], minlength=len(occurring)), occurring > 0
    return float(np.mean(2 * hits[present] / occurring[present]))


def expected_calibration_error(correct, confidence, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their counts.

    `correct` (bool) says whether the predicted class was right, `confidence` is its probability, 0 to 1.
    """
    correct, confidence = np.asarray(correct, float), np.asarray(confidence, float)
    which = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(which, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(correct))
