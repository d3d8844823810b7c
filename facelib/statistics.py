"""Estimates with intervals: the bootstrap, proportions, permutations and corrections for many tests.

No other module resamples. Rows that belong together (copies of one photograph) are resampled together.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from facelib.metrics import expected_calibration_error

CONFIDENCE = 0.95
PERMUTATIONS = 1000
SHARE, YEARS = "share", "years"


@dataclass(frozen=True)
class Estimate:
    """A measured number with its interval (95 % unless said otherwise), the rows behind it, and its unit.

    Numbers are nan where they cannot be computed; the unit is `years`, `share` (0 to 1), a counted thing, or empty.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = ""

    @classmethod
    def from_dict(cls, stored: dict) -> "Estimate":
        """An estimate as JSON holds it, where nan is null; other keys are ignored."""
        numbers = [np.nan if stored[name] is None else stored[name] for name in ("value", "low", "high")]
        return cls(*numbers, stored["n"], stored.get("unit", ""))

    @classmethod
    def unknown(cls, n: int, unit: str = "") -> "Estimate":
        """Nothing can be estimated from these n rows."""
        return cls(np.nan, np.nan, np.nan, n, unit)

    def __str__(self) -> str:
        """Value and interval, with the same number of decimals.

        Examples
        --------
        >>> print(Estimate(4.69, 4.49, 4.91, 2713, "years"), Estimate(0.9416, 0.93, 0.95, 2713, "share"), sep="; ")
        4.69 y (4.49 to 4.91); 94.2 % (93.0 to 95.0)
        """
        return f"{self.text} ({self.interval_text})" if np.isfinite(self.value) else "not measured"

    @property
    def text(self) -> str:
        """The value alone: shares in per cent, years as `y`."""
        return self._texts()[0]

    @property
    def interval_text(self) -> str:
        """The interval without a unit."""
        return " to ".join(end.removesuffix(" %").removesuffix(" y") for end in self._texts()[1:])

    def _texts(self) -> list[str]:
        numbers = self.value, self.low, self.high
        return [_fixed(number, self.unit, _decimals(self.unit, *numbers)) for number in numbers]

    def to_dict(self) -> dict:
        """The same as a plain dictionary, for JSON."""
        return asdict(self)

    def columns(self, name: str) -> dict[str, float]:
        """The columns of a table that hold this estimate: name, name_low, name_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def change_text(self, unit: str) -> str:
        """A difference of numbers of a unit with its sign and its interval, of shares in percentage points.

        Examples
        --------
        >>> Estimate(-0.03, -0.05, -0.01, 40).change_text("share"), Estimate(0.36, 0.22, 0.63, 40).change_text("years")
        ('-3.0 points (-5.0 to -1.0)', '+0.36 y (+0.22 to +0.63)')
        """
        factor, form, name = (100, "+.1f", "points") if unit == SHARE else (1, "+.2f", "y")
        value, low, high = (f"{factor * number:{form}}" for number in (self.value, self.low, self.high))
        return f"{value} {name} ({low} to {high})"

    def against(self, reference: float, below: str, above: str) -> str:
        """`below` or `above` where the whole interval lies on one side of a number, else `inconclusive`.

        Examples
        --------
        >>> Estimate(-0.3, -0.5, -0.1, 40).against(0, "better", "worse")
        'better'
        """
        return below if self.high < reference else above if self.low > reference else "inconclusive"


def format_value(value: float, unit: str = "") -> str:
    """A number as text: shares in per cent, years with two decimals; others with two from 1 on and three below.

    Whole numbers, and those from 100 on, have no decimals.

    Examples
    --------
    >>> format_value(4.857, "years"), format_value(0.7214, "years"), format_value(-0.001, "years")
    ('4.86 y', '0.72 y', '0.00 y')
    >>> format_value(2316.0), format_value(0.0), format_value(0.7214), format_value(0.5, "share")
    ('2,316', '0', '0.721', '50.0 %')
    """
    return _fixed(value, unit, _decimals(unit, value))


def _decimals(unit: str, value: float, *ends: float) -> int:
    whole = all(float(number).is_integer() for number in (value, *ends) if np.isfinite(number))
    return 0 if whole or abs(value) >= 100 else 2 if abs(value) >= 1 or unit == YEARS else 3


def _fixed(value: float, unit: str, decimals: int) -> str:
    if not np.isfinite(value):
        return "n/a"
    # z: no minus before what rounds to 0.
    return f"{100 * value:z.1f} %" if unit == SHARE else f"{value:z,.{decimals}f}{' y' * (unit == YEARS)}"


def count(n: int, unit: str = "") -> Estimate:
    """A count, which has no interval: all of it was counted."""
    return Estimate(int(n), int(n), int(n), int(n), unit)


def rate(successes: int, n: int, unit: str = SHARE, confidence: float = CONFIDENCE) -> Estimate:
    """A proportion with its Wilson interval, which is reliable at 0, at 1 and for few rows.

    Examples
    --------
    >>> rate(0, 20).high < 0.17
    True
    """
    from scipy import stats  # a second to load, which predictions do not need

    successes, n = int(successes), int(n)
    if n == 0:
        return Estimate.unknown(0, unit)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n, unit)


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
    return Estimate(value, float(low), float(high), a.n + b.n)


@dataclass(frozen=True)
class Bootstrap:
    """Percentile bootstrap over groups of rows.

    Each call draws the same samples anew, so that statistics of the same rows can be compared.
    """

    resamples: int = 1000
    seed: int = 0
    confidence: float = CONFIDENCE

    def __call__(self, statistic: Callable[..., float], *arrays, groups=None, unit: str = "") -> Estimate:
        """A statistic of some arrays (n, ...) with its interval, which leaves out resamples where it is nan.

        Rows of one group are drawn together; `groups` has shape (n,), and by default each row is its own.

        Examples
        --------
        >>> Bootstrap()(np.mean, [1.0, 1.0, 1.0], unit="years")
        Estimate(value=1.0, low=1.0, high=1.0, n=3, unit='years')
        """
        arrays = [np.asarray(array) for array in arrays]
        n = len(arrays[0])
        if n == 0:
            return Estimate.unknown(0, unit)
        groups = np.arange(n) if groups is None else np.asarray(groups)
        order = np.argsort(groups, kind="stable")
        _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
        value, rng, drawn = float(statistic(*arrays)), np.random.default_rng(self.seed), []
        for _ in range(self.resamples if len(starts) > 1 else 0):
            chosen = rng.integers(0, len(starts), len(starts))
            taken = sizes[chosen]
            # Positions of the drawn groups' rows in `order`: from each group's start on, as many as it has.
            positions = np.arange(taken.sum()) + np.repeat(starts[chosen] - (np.cumsum(taken) - taken), taken)
            rows = order[positions]
            drawn.append(statistic(*(array[rows] for array in arrays)))
        return self._estimate(value, np.array(drawn, float), n, unit)

    def weights(self, groups) -> np.ndarray:
        """How often each row is drawn: float (resamples + 1, n), the sample itself first.

        For statistics that are sums over rows and can be computed for all samples at once.
        """
        group = np.unique(np.asarray(groups), return_inverse=True)[1]
        n_groups, rng = group.max(initial=-1) + 1, np.random.default_rng(self.seed)
        if not n_groups:
            return np.ones((self.resamples + 1, 0))
        taken = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=self.resamples)
        return np.vstack([np.ones(n_groups), taken])[:, group]

    def of_draws(self, draws: np.ndarray, n: int, unit: str = "") -> Estimate:
        """The estimate from a statistic of the sample (first) and of its resamples, computed elsewhere.

        The interval is nan where nothing varies: a group without errors has none in any resample, which does not show
        that it is free of them.
        """
        others = draws[1:][np.isfinite(draws[1:])]
        varies = np.isfinite(draws[0]) and len(others) > 1 and np.ptp(others) > 1e-12
        return self._estimate(float(draws[0]), others if varies else others[:0], n, unit)

    def _estimate(self, value: float, drawn: np.ndarray, n: int, unit: str) -> Estimate:
        if np.isnan(drawn).all():
            return Estimate(value, np.nan, np.nan, n, unit)
        tail = 50 * (1 - self.confidence)
        low, high = np.nanpercentile(drawn, [tail, 100 - tail])
        return Estimate(value, float(low), float(high), n, unit)


def adjusted(p_values) -> np.ndarray:
    """P values adjusted for their number by Benjamini and Hochberg (1995); nan values stay and do not count.

    Examples
    --------
    >>> adjusted([0.01, float("nan"), 0.04]).round(3).tolist()
    [0.02, nan, 0.04]
    """
    from scipy import stats

    p_values = np.array(p_values, float)
    tested = np.isfinite(p_values)
    if tested.any():
        p_values[tested] = stats.false_discovery_control(p_values[tested])
    return p_values


def mean(values, groups=None, unit: str = "", confidence: float = CONFIDENCE) -> Estimate:
    """A mean with Student's interval, which keeps its level for few rows, where a percentile bootstrap's is too narrow.

    Rows of one group, such as copies, count as one draw: the standard error is that between groups (n,).

    Examples
    --------
    >>> mean([1.0, 2.0, 3.0], unit="years").interval_text
    '-0.48 to 4.48'
    """
    from scipy import stats  # takes long to load

    values = np.asarray(values, float)
    n = len(values)
    if not n:
        return Estimate.unknown(0, unit)
    value = float(values.mean())
    sums = pd.Series(values - value).groupby(np.arange(n) if groups is None else np.asarray(groups)).sum()
    drawn = len(sums)
    if drawn < 2:
        return Estimate(value, np.nan, np.nan, n, unit)
    error = np.sqrt((sums**2).sum() * drawn / (drawn - 1)) / n
    reach = float(stats.t.ppf(0.5 + confidence / 2, drawn - 1) * error)
    return Estimate(value, value - reach, value + reach, n, unit)


@dataclass(frozen=True)
class Gap:
    """The largest difference between two of several groups, with an interval that allows for the choice of the two.

    `by_chance` is that of random groups on average, `p` how often these lie at least as far apart in standard errors;
    `smallest` is the smallest true difference of two groups that is shown with 80 % power.
    """

    estimate: Estimate
    by_chance: float
    p: float
    smallest: float


def largest_gap(
    values: np.ndarray, groups: np.ndarray, seed: int, confidence: float = CONFIDENCE, strata: np.ndarray | None = None,
    unit: str = "",
) -> Gap:  # fmt: skip
    """How far the means of the two groups lie apart that differ most.

    All pairs of groups are compared, each in units of its own standard error, as Tukey and Kramer do for ranges of
    means; the largest of these for random groups says how many standard errors chance alone gives. The intervals of all
    pairs are simultaneous, so the largest difference lies between the largest of their lower and of their upper ends,
    and groups that do not differ are found to do so at the nominal rate.

    Values, groups and strata have shape (n,). With strata, means are standardised to the strata's shares of all rows,
    and rows change their group only within their stratum: what strata explain is no difference between groups.

    Raises
    ------
    ValueError
        If a group has no row in one of the strata.

    Examples
    --------
    >>> gap = largest_gap(np.array([0.0, 1, 2, 9, 10, 11]), np.array(list("aaabbb")), seed=0)
    >>> gap.estimate.value, 0 < gap.by_chance < 9
    (9.0, True)
    """
    values = np.asarray(values, float)
    group, names = pd.factorize(np.asarray(groups))
    stratum = np.zeros(len(values), int) if strata is None else pd.factorize(np.asarray(strata))[0]
    rng = np.random.default_rng(seed)
    # The sample is first, random groups follow: means and the variances of means, (1 + PERMUTATIONS, groups).
    means, variances = np.zeros((2, 1 + PERMUTATIONS, len(names)))
    for code in range(stratum.max(initial=-1) + 1):
        inside = np.flatnonzero(stratum == code)
        inside = inside[np.argsort(group[inside], kind="stable")]
        sizes = np.bincount(group[inside], minlength=len(names))
        if not sizes.all():
            raise ValueError(f"group {names[sizes.argmin()]} has no row in one of the strata")
        starts, weight = np.cumsum(sizes) - sizes, len(inside) / len(values)
        own = values[inside] - values[inside].mean()
        for first in range(0, 1 + PERMUTATIONS, 100):  # in parts, to save memory
            part = slice(first, min(first + 100, 1 + PERMUTATIONS))
            rows, shuffled = np.tile(own, (part.stop - first, 1)), slice(int(first == 0), None)
            rows[shuffled] = rng.permuted(rows[shuffled], axis=1)
            mean_of = np.add.reduceat(rows, starts, axis=1) / sizes
            squares = np.add.reduceat(rows**2, starts, axis=1) - sizes * mean_of**2
            # One more row of the spread of all, so that a group without errors is not taken to be exact.
            variances[part] += weight**2 * (squares + own.var()) / sizes**2
            means[part] += weight * mean_of
    first, second = np.triu_indices(len(names), 1)
    apart = np.abs(means[:, first] - means[:, second])
    errors = np.sqrt(variances[:, first] + variances[:, second])
    ratios = np.divide(apart, errors, out=np.zeros_like(apart), where=errors > 0).max(axis=1)
    p = float((ratios >= ratios[0] - 1e-12).mean())
    # Exceeded by as many random groups as leave the sample's p value at 1 - confidence.
    allowed = max(1, int((1 - confidence) * len(ratios) + 1e-9))
    reach = np.sort(ratios[1:])[-allowed] * errors[0]
    low, high = max(0.0, (apart[0] - reach).max()), (apart[0] + reach).max()
    power = NormalDist().inv_cdf(0.8) * np.median(errors[0])
    estimate = Estimate(float(apart[0].max()), float(low), float(high), len(values), unit)
    return Gap(estimate, float(apart[1:].max(axis=1).mean()), p, float(np.median(reach) + power))


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error as observed, that of perfectly calibrated probabilities, and what is beyond it.

    `by_chance` is the mean error of correctness drawn by the very probabilities, `p` how often it is at least as large
    as observed. `estimate` is the error without what chance adds to it.
    """

    observed: float
    by_chance: float
    p: float
    estimate: Estimate

    def to_dict(self) -> dict:
        """The same as a plain dictionary, for JSON."""
        return asdict(self)


def calibration_error(correct, confidence, bootstrap: Bootstrap) -> CalibrationError:
    """The expected calibration error beside what chance alone gives, and without the bias that chance adds.

    Noise and miscalibration add up in the squares of the bins' gaps, so chance is taken away in squares: once of the
    sample, and twice of its resamples, which have the noise of the sample and their own.
    """
    correct, confidence = np.asarray(correct, float), np.asarray(confidence, float)
    observed, n = expected_calibration_error(correct, confidence), len(correct)
    rng = np.random.default_rng(bootstrap.seed)
    drawn = [expected_calibration_error(rng.random(n) < confidence, confidence) for _ in range(PERMUTATIONS)]
    by_chance = float(np.mean(drawn))
    p = float((1 + (np.array(drawn) >= observed - 1e-12).sum()) / (1 + PERMUTATIONS))

    def beyond(error: float, times: int) -> float:
        return float(np.sqrt(max(0.0, error**2 - times * by_chance**2)))

    resampled = bootstrap(expected_calibration_error, correct, confidence)
    low, high = (beyond(end, 2) for end in (resampled.low, resampled.high))
    value = beyond(observed, 1)
    return CalibrationError(observed, by_chance, p, Estimate(value, min(low, value), max(high, value), n))
