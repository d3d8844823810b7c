"""Estimates with intervals: the bootstrap, proportions, permutations and corrections for many tests.

No other module resamples. Rows that belong together (copies of one photograph) are resampled together.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
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
        return [_fixed(number, self.unit, _decimals(*numbers)) for number in numbers]

    def to_dict(self) -> dict:
        """The same as a plain dictionary, for JSON."""
        return asdict(self)

    def columns(self, name: str) -> dict[str, float]:
        """The columns of a table that hold this estimate: name, name_low, name_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def against(self, reference: float, below: str, above: str) -> str:
        """`below` or `above` where the whole interval lies on one side of a number, else `cannot tell`.

        Examples
        --------
        >>> Estimate(-0.3, -0.5, -0.1, 40).against(0, "better", "worse")
        'better'
        """
        return below if self.high < reference else above if self.low > reference else "cannot tell"


def format_value(value: float, unit: str = "") -> str:
    """A number as text: shares in per cent; else two decimals from 1 on, three below, none from 100 on or where whole.

    Examples
    --------
    >>> format_value(4.857, "years"), format_value(2316.0), format_value(0.0), format_value(0.5, "share")
    ('4.86 y', '2,316', '0', '50.0 %')
    """
    return _fixed(value, unit, _decimals(value))


def _decimals(value: float, *ends: float) -> int:
    whole = all(float(number).is_integer() for number in (value, *ends) if np.isfinite(number))
    return 0 if whole or abs(value) >= 100 else 2 if abs(value) >= 1 else 3


def _fixed(value: float, unit: str, decimals: int) -> str:
    if not np.isfinite(value):
        return "n/a"
    return f"{100 * value:.1f} %" if unit == SHARE else f"{value:,.{decimals}f}{' y' * (unit == YEARS)}"


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


@dataclass(frozen=True)
class Spread:
    """Largest minus smallest group mean, as observed and of random groups of the same sizes on average.

    `beyond` is the difference of the two, `p` how often random groups lie at least as far apart.
    """

    difference: float
    by_chance: float
    beyond: Estimate
    p: float


def spread_beyond_chance(
    values: np.ndarray, groups: np.ndarray, seed: int, confidence: float = CONFIDENCE, strata: np.ndarray | None = None
) -> Spread:
    """How far the means of groups lie apart beyond what groups drawn at random show.

    A range of noisy means is never 0. The range of random groups is subtracted, and its variation is the error of the
    lower end: a bootstrap would add the noise of the means a second time. Where groups do differ, chance widens their
    range by less than it does that of random groups, so the upper end leaves it in.

    Values, groups and strata have shape (n,). With strata, means are standardised to the strata's shares of all rows,
    and rows change their group only within their stratum: what strata explain is no difference between groups.

    Raises
    ------
    ValueError
        If a group has no row in one of the strata.

    Examples
    --------
    >>> spread = spread_beyond_chance(np.array([0.0, 0, 0, 9, 9, 9]), np.array(list("aaabbb")), seed=0)
    >>> spread.difference, 0 < spread.by_chance < 9
    (9.0, True)
    """
    values = np.asarray(values, float)
    group, names = pd.factorize(np.asarray(groups))
    stratum = np.zeros(len(values), int) if strata is None else pd.factorize(np.asarray(strata))[0]
    rng = np.random.default_rng(seed)
    observed, drawn = np.zeros(len(names)), np.zeros((PERMUTATIONS, len(names)))
    for code in range(stratum.max(initial=-1) + 1):
        inside = np.flatnonzero(stratum == code)
        inside = inside[np.argsort(group[inside], kind="stable")]
        sizes = np.bincount(group[inside], minlength=len(names))
        if not sizes.all():
            raise ValueError(f"group {names[sizes.argmin()]} has no row in one of the strata")
        starts, weight = np.cumsum(sizes) - sizes, len(inside) / len(values)
        shuffled = rng.permuted(np.tile(values[inside], (PERMUTATIONS, 1)), axis=1)
        observed += weight * np.add.reduceat(values[inside], starts) / sizes
        drawn += weight * np.add.reduceat(shuffled, starts, axis=1) / sizes
    by_chance, difference = np.ptp(drawn, axis=1), float(np.ptp(observed))
    beyond = difference - by_chance.mean()
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * by_chance.std()
    p = (1 + (by_chance >= difference - 1e-12).sum()) / (1 + PERMUTATIONS)
    estimate = Estimate(float(beyond), float(beyond - reach), float(difference + reach), len(values))
    return Spread(difference, float(by_chance.mean()), estimate, float(p))


def calibration_error(correct, confidence, bootstrap: Bootstrap) -> Estimate:
    """The expected calibration error with its bootstrap interval.

    Resampling adds noise to every bin, which raises this error, so resamples lie above it where it is small. The
    interval is therefore widened to hold the value.
    """
    estimate = bootstrap(expected_calibration_error, correct, confidence)
    return replace(estimate, low=min(estimate.low, estimate.value))
