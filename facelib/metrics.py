"""Error measures and their intervals: plain functions of y_true and y_pred.

Ages are in years. Class labels are integer codes. Every array has shape (n,) unless a docstring says otherwise.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import stats
from sklearn import metrics as sk

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval, the rows behind it, and its unit."""

    value: float
    low: float
    high: float
    n: int
    unit: str = ""

    def __str__(self) -> str:
        """Value and interval, for one line of prose."""
        return f"{format_value(self.value, self.unit)} ({format_value(self.low)} to {format_value(self.high)})"

    def to_dict(self) -> dict:
        """The same as a plain dictionary, for JSON."""
        return asdict(self)

    def against(self, reference: float, below: str, above: str) -> str:
        """`below` or `above` where the whole interval lies on one side of a number, else `cannot tell`.

        Examples
        --------
        >>> Estimate(-0.3, -0.5, -0.1, 40).against(0, "better", "worse")
        'better'
        """
        return below if self.high < reference else above if self.low > reference else "cannot tell"


def format_value(value: float, unit: str = "") -> str:
    """A number as text: two decimals from 1 on, three below, none from 100 on or where it is whole.

    Examples
    --------
    >>> format_value(4.857, "years"), format_value(2316.0), format_value(0.0)
    ('4.86 years', '2,316', '0')
    """
    if not np.isfinite(value):
        text = "n/a"
    elif value == int(value) or abs(value) >= 100:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
    return f"{text} {unit}".strip()


def count(n: int, unit: str = "") -> Estimate:
    """A count, which has no interval: all of it was counted."""
    return Estimate(int(n), int(n), int(n), int(n), unit)


def whole_years(age) -> np.ndarray:
    """Ages in whole years, halves upward: what labels are given in, and predictions scored in.

    Of the median of a distribution over whole years that was spread evenly over each year (`age_quantile`), it is the
    median of the distribution itself.

    Examples
    --------
    >>> whole_years([24.4, 24.5, 25.0]).tolist()
    [24.0, 25.0, 25.0]
    """
    return np.floor(np.asarray(age, float) + 0.5)


def mae(y_true, y_pred) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(np.asarray(y_pred) - y_true)))


def bias(y_true, y_pred) -> float:
    """Mean of predicted minus true: negative where people are under-predicted."""
    return float(np.mean(np.asarray(y_pred) - y_true))


def cs(y_true, y_pred, k: float = 5) -> float:
    """Cumulative score CS@k: the share of absolute errors of at most k years.

    Examples
    --------
    >>> cs([20, 30, 40], [25, 36, 40], k=5)
    0.6666666666666666
    """
    return float(np.mean(np.abs(np.asarray(y_pred) - y_true) <= k))


def cs5(y_true, y_pred) -> float:
    """Cumulative score at 5 years."""
    return cs(y_true, y_pred, 5)


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
    return float(sk.f1_score(y_true, y_pred, average="macro", zero_division=0))


def expected_calibration_error(correct, confidence, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their counts.

    Parameters
    ----------
    correct : array of bool, shape (n,)
        Whether the predicted class was right.
    confidence : array of float in [0, 1], shape (n,)
        Probability that the model gave to the predicted class.
    """
    correct, confidence = np.asarray(correct, float), np.asarray(confidence, float)
    which = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(which, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(correct))


def bootstrap(
    statistic: Callable[..., float],
    *arrays,
    groups=None,
    resamples: int = 1000,
    seed: int = 0,
    unit: str = "",
    confidence: float = CONFIDENCE,
) -> Estimate:
    """A statistic of some arrays with its percentile bootstrap interval, resampling whole groups.

    Parameters
    ----------
    statistic : callable
        Called with resampled `arrays`; its nan values (an absent class, say) are left out of the interval.
    *arrays : array-like, each of length n
        Rows belong together across arrays.
    groups : array-like of shape (n,), optional
        Rows of one group (copies of one photograph) are drawn together; without it each row is its own group.
    resamples : int
        Number of bootstrap samples.
    confidence : float
        Coverage of the interval.

    Examples
    --------
    >>> bootstrap(mae, [1.0, 2.0, 3.0], [2.0, 3.0, 4.0], unit="years")
    Estimate(value=1.0, low=1.0, high=1.0, n=3, unit='years')
    """
    arrays = [np.asarray(array) for array in arrays]
    n = len(arrays[0])
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, unit)
    value = statistic(*arrays)
    groups = np.arange(n) if groups is None else np.asarray(groups)
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    if len(starts) < 2:
        return Estimate(value, float("nan"), float("nan"), n, unit)

    def resampled(drawn: np.ndarray) -> float:
        taken = sizes[drawn]
        # Places of the drawn groups' rows in `order`: from each group's start on, as many as it has.
        places = np.arange(taken.sum()) + np.repeat(starts[drawn] - (np.cumsum(taken) - taken), taken)
        rows = order[places]
        return statistic(*(array[rows] for array in arrays))

    with warnings.catch_warnings():
        # A statistic that no sample changes has an interval of no width; SciPy warns of a method not used here.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (np.arange(len(starts)),),
            resampled,
            vectorized=False,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Estimate(float(value), float(low), float(high), n, unit)


def calibration_error(correct, confidence, resamples: int, seed: int) -> Estimate:
    """The expected calibration error with its bootstrap interval.

    Resampling adds noise to every bin, and noise adds to this error: resamples lie above it where it is small. So the
    interval is widened to hold the value.
    """
    found = bootstrap(expected_calibration_error, correct, confidence, resamples=resamples, seed=seed)
    return replace(found, low=min(found.low, found.value))


def rate(successes: int, n: int, unit: str = "", confidence: float = CONFIDENCE) -> Estimate:
    """A proportion with its Wilson interval, which behaves at 0, at 1 and for few rows.

    Examples
    --------
    >>> rate(0, 20).high < 0.17
    True
    """
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, unit)
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), int(n), unit)


def rate_difference(successes_a: int, n_a: int, successes_b: int, n_b: int, confidence: float = CONFIDENCE) -> Estimate:
    """Proportion a minus proportion b with Newcombe's hybrid score interval (method 10, Stat. Med. 1998).

    Examples
    --------
    >>> d = rate_difference(56, 70, 48, 80)
    >>> round(d.value, 3), round(d.low, 3), round(d.high, 3)
    (0.2, 0.052, 0.334)
    """
    a, b = rate(successes_a, n_a, confidence=confidence), rate(successes_b, n_b, confidence=confidence)
    value = a.value - b.value
    low = value - np.hypot(a.value - a.low, b.high - b.value)
    high = value + np.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, float(low), float(high), int(n_a + n_b))
