"""How far groups of people lie apart in each measure, beside what chance alone would show."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame
from scipy import stats

from facelib import metrics
from facelib.evaluation.headline import GROUP_METRICS, judged_rows, row_values
from facelib.statistics import CONFIDENCE, Estimate

PERMUTATIONS = 1000
GAP_COLUMNS = (
    "by", "metric", "groups", "left_out", "n", "lowest", "lowest_value", "highest", "highest_value", "difference",
    "ratio", "by_chance", "beyond_chance", "low", "high", "p_adjusted",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Largest minus smallest group mean against the same of groups drawn at random.

    Attributes
    ----------
    difference, by_chance : float
        What is seen, and the mean of what random groups of the same sizes show.
    beyond : Estimate
        Their difference.
    p : float
        How often random groups lie as far apart.
    """

    difference: float
    by_chance: float
    beyond: Estimate
    p: float


def grouping_name(by: list[str]) -> str:
    """Columns that make groups, as a reader says it.

    Examples
    --------
    >>> grouping_name(["age_band", "gender_name"])
    'age band x gender'
    """
    return " x ".join(column.removesuffix("_name").replace("_", " ") for column in by)


def large_groups(known: pd.DataFrame, by: list[str], min_rows: int) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of groups of at least `min_rows`, and the name of each row's group, such as `female, Asian`."""
    name = reduce(lambda first, second: first + ", " + second, (known[column].astype(str) for column in by))
    large = name.map(name.value_counts()) >= min_rows
    return known[large], name[large]


def spread_beyond_chance(
    values: np.ndarray, groups: np.ndarray, seed: int, confidence: float = CONFIDENCE, strata: np.ndarray | None = None
) -> Spread:
    """How far the means of groups lie apart beyond what groups drawn at random show.

    A range of noisy means is never 0. What random groups show is subtracted, and how much it varies is the error of the
    lower end: a bootstrap would add the noise of the means a second time. Where groups do differ, chance widens their
    range by less than it does that of random groups, so the upper end leaves it in.

    Parameters
    ----------
    values : float array of shape (n,)
    groups : array of shape (n,)
    seed : int
    confidence : float
        Coverage of the interval.
    strata : array of shape (n,), optional
        With it the means are standardised to the strata's shares of all rows, and rows change their group only within
        their stratum, so that what strata explain is no difference between groups.

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
    values, names = np.asarray(values, float), pd.unique(np.asarray(groups))
    group = pd.Categorical(np.asarray(groups), names).codes
    stratum = np.zeros(len(values), int) if strata is None else pd.factorize(np.asarray(strata))[0]
    rng = np.random.default_rng(seed)
    seen, drawn = np.zeros(len(names)), np.zeros((PERMUTATIONS, len(names)))
    for code in range(stratum.max(initial=-1) + 1):
        inside = np.flatnonzero(stratum == code)
        inside = inside[np.argsort(group[inside], kind="stable")]
        sizes = np.bincount(group[inside], minlength=len(names))
        if not sizes.all():
            raise ValueError(f"group {names[sizes.argmin()]} has no row in one of the strata")
        starts, weight = np.cumsum(sizes) - sizes, len(inside) / len(values)
        shuffled = rng.permuted(np.tile(values[inside], (PERMUTATIONS, 1)), axis=1)
        seen += weight * np.add.reduceat(values[inside], starts) / sizes
        drawn += weight * np.add.reduceat(shuffled, starts, axis=1) / sizes
    by_chance, difference = np.ptp(drawn, axis=1), float(np.ptp(seen))
    beyond = difference - by_chance.mean()
    reach = stats.norm.ppf(0.5 + confidence / 2) * by_chance.std()
    p = (1 + (by_chance >= difference - 1e-12).sum()) / (1 + PERMUTATIONS)
    estimate = Estimate(float(beyond), float(beyond - reach), float(difference + reach), len(values))
    return Spread(difference, float(by_chance.mean()), estimate, float(p))


def gap_table(frame: pd.DataFrame, groupings: list[list[str]], min_rows: int, seed: int) -> pd.DataFrame:
    """Difference and ratio of each measure between groups, as fairlearn defines them, with what chance would show.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation.evaluation_frame`; rows count as in `evaluation.group_table`.
    groupings : list of lists of str
        Such as `evaluation.GROUPINGS`.
    min_rows : int
        Smaller groups are left out and counted: they would set both ends of every range.
    seed : int

    Returns
    -------
    DataFrame
        by, metric, groups, left_out, n (rows of the groups compared), lowest, lowest_value, highest, highest_value,
        difference (largest minus smallest), ratio (smallest over largest; nan for bias, whose sign it would lose),
        by_chance (mean difference of random groups), beyond_chance with low and high (95 %), p_adjusted (permutation,
        Benjamini-Hochberg over all rows). Numbers are nan where fewer than two groups are left.
    """
    rows, p_values = [], []
    for by in groupings:
        judged, known = judged_rows(frame, by)
        shown, group = large_groups(known, by, min_rows)
        left_out = known[by].astype(str).drop_duplicates().shape[0] - group.nunique()
        values = row_values(shown)
        for name in (name for name, attribute in GROUP_METRICS.items() if attribute in judged):
            row = {
                "by": grouping_name(by),
                "metric": name,
                "groups": group.nunique(),
                "left_out": left_out,
                "n": len(shown),
            }
            rows.append(row)
            if group.nunique() < 2:
                p_values.append(np.nan)
                continue
            attribute = GROUP_METRICS[name]
            compared = MetricFrame(
                metrics=getattr(metrics, name) if attribute == "age" else metrics.accuracy,
                y_true=shown[attribute].to_numpy(),
                y_pred=shown[f"{attribute}_pred"].to_numpy(),
                sensitive_features=group.to_numpy(),
            )
            ends = {"lowest": compared.by_group.idxmin(), "highest": compared.by_group.idxmax()}
            spread = spread_beyond_chance(values[name].to_numpy(), group.to_numpy(), seed)
            p_values.append(spread.p)
            row |= ends | {f"{end}_value": compared.by_group[group_name] for end, group_name in ends.items()}
            row |= {"difference": compared.difference(), "ratio": np.nan if name == "bias" else compared.ratio()}
            row |= {"by_chance": spread.by_chance, "beyond_chance": spread.beyond.value}
            row |= {"low": spread.beyond.low, "high": spread.beyond.high}
    table = pd.DataFrame(rows, columns=list(GAP_COLUMNS))
    p_values = np.array(p_values, float)
    tested = np.isfinite(p_values)
    if tested.any():
        p_values[tested] = stats.false_discovery_control(p_values[tested])
    return table.assign(p_adjusted=p_values)
