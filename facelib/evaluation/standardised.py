"""Rates that groups would show if all of them had the same age mix (direct standardisation).

Groups of a data set differ in age, and errors depend on age. A standardised rate is the mean of a group's rates by age
band, weighted with the bands' shares of all faces compared. Bands in which a compared group has fewer than `MIN_CELL`
faces are left out for all groups, so that all are compared over the same ages; the share of the faces that lie in the
bands kept is said beside the numbers. Raw numbers are over all ages.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from facelib.evaluation.gaps import grouping_name, large_groups
from facelib.evaluation.headline import GROUP_METRICS, judged_rows, row_values
from facelib.statistics import CONFIDENCE, Estimate

MIN_CELL = 5  # faces; a rate of fewer would enter a standardised one with the weight of its whole band
STANDARDISED = ("mae", "gender_accuracy", "ethnicity_accuracy")
WAYS = ("raw", "standardised")


@dataclass(frozen=True)
class Resampled:
    """Faces and sums of their values by group and age band, in the sample and in bootstrap samples of it.

    Attributes
    ----------
    counts : float array of shape (resamples + 1, groups, bands)
        The sample itself comes first.
    sums : float array of shape (measures, resamples + 1, groups, bands)
    groups : list of str
    common : bool array of shape (bands,)
        Bands in which every group has `MIN_CELL` faces.
    covered : float
        Share of the faces that lie in these bands.
    """

    counts: np.ndarray
    sums: np.ndarray
    groups: list[str]
    common: np.ndarray
    covered: float

    def raw(self) -> np.ndarray:
        """Means of each group over all ages: (measures, resamples + 1, groups)."""
        with np.errstate(invalid="ignore"):
            return self.sums.sum(axis=-1) / self.counts.sum(axis=-1)

    def standardised(self) -> np.ndarray:
        """Means of each group over the common bands with one age mix; nan where a sample lost all of a cell."""
        shares = self.counts[0].sum(axis=0)[self.common]
        if not self.common.any():
            return np.full(self.sums.shape[:-1], np.nan)
        with np.errstate(invalid="ignore"):
            return (self.sums / self.counts)[..., self.common] @ (shares / shares.sum())


def common_bands(groups: pd.Series, bands: pd.Series) -> list[str]:
    """Age bands in which every group has at least `MIN_CELL` faces.

    Examples
    --------
    >>> common_bands(pd.Series(list("ab" * 6)), pd.Series(["0-4"] * 10 + ["75+"] * 2))
    ['0-4']
    """
    counts = pd.crosstab(bands.astype(str), groups)
    return list(counts.index[(counts >= MIN_CELL).all(axis=1)])


def resample(
    values: np.ndarray, groups: pd.Series, bands: pd.Series, copies: np.ndarray, resamples: int, seed: int
) -> Resampled:
    """Draw groups of copies with replacement, and sum values by group and age band in each draw.

    Parameters
    ----------
    values : float array of shape (measures, n)
    groups, bands : Series of length n
    copies : array of shape (n,)
        Rows of one group of copies are drawn together.
    resamples, seed : int
    """
    names, group = np.unique(groups.to_numpy(str), return_inverse=True)
    band_names, band = np.unique(bands.to_numpy(str), return_inverse=True)
    copy_of = np.unique(copies, return_inverse=True)[1]
    n, drawn = len(group), copy_of.max(initial=-1) + 1
    rng = np.random.default_rng(seed)
    taken = rng.multinomial(drawn, np.full(drawn, 1 / drawn), size=resamples) if drawn else np.zeros((resamples, 0))
    times = np.vstack([np.ones(drawn), taken])[:, copy_of]
    cells, shape = group * len(band_names) + band, (len(times), len(names), len(band_names))

    def summed(of: np.ndarray) -> np.ndarray:
        # A row per cell and a column per face; times the draws it gives all sums at once.
        by_cell = sparse.csr_array((of, (cells, np.arange(n))), shape=(shape[1] * shape[2], n))
        return (by_cell @ times.T).T.reshape(shape)

    kept = common_bands(groups, bands) if n else []
    covered = float(np.isin(bands.to_numpy(str), kept).mean()) if n else 0.0
    sums = np.stack([summed(np.asarray(of, float)) for of in values])
    return Resampled(summed(np.ones(n)), sums, list(names), np.isin(band_names, kept), covered)


def interval(draws: np.ndarray, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """The first of some draws with the percentile interval of the others.

    The interval is nan where nothing varies: a group without errors has none in any sample, and is not known to be free
    of them.
    """
    value, others = float(draws[0]), draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(value) or len(others) < 2 or np.ptp(others) < 1e-12:
        return Estimate(value, float("nan"), float("nan"), n)
    low, high = np.percentile(others, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Estimate(value, float(low), float(high), n)


def standardise(
    frame: pd.DataFrame, by: list[str], min_rows: int, resamples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raw and standardised numbers of each group, and how much of the gap between groups their age mix explains.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation.evaluation_frame`.
    by : list of str
        Columns such as gender_name, ethnicity_name; several mean their crossings.
    min_rows : int
        Smaller groups are left out.
    resamples, seed : int
        Of the bootstrap over copy groups.

    Returns
    -------
    rates : DataFrame
        by, group, metric (mae in years, gender_accuracy, ethnicity_accuracy), n, covered, and raw and standardised,
        each with _low and _high.
    gaps : DataFrame
        by, metric, lowest and highest (the groups with the extreme raw numbers), n, covered, and for the difference of
        these two: raw, standardised and explained (raw minus standardised), each with _low and _high. `answer`, of
        what the age mix does to the gap, is `cannot tell` where the interval of explained holds 0; else `reverses it`
        where that of standardised lies below 0, `adds to it` or `hides part`. No row where fewer than two groups are
        left.
    """
    judged, known = judged_rows(frame, [*by, "age_band"])
    shown, group = large_groups(known, by, min_rows)
    names = [name for name in STANDARDISED if GROUP_METRICS[name] in judged]
    if not names or shown.empty:
        return _tables([], [])
    values = row_values(shown)[names].to_numpy().T
    drawn = resample(values, group, shown["age_band"], shown["group_id"].to_numpy(), resamples, seed)
    sizes, means = group.value_counts(), {"raw": drawn.raw(), "standardised": drawn.standardised()}
    rates, gaps = [], []
    for number, name in enumerate(names):
        for at, group_name in enumerate(drawn.groups):
            n = int(sizes[group_name])
            row = {"by": grouping_name(by), "group": group_name, "metric": name, "n": n, "covered": drawn.covered}
            rates.append(row | _columns({way: interval(means[way][number, :, at], n) for way in WAYS}))
        if len(drawn.groups) < 2:
            continue
        low, high = means["raw"][number, 0].argmin(), means["raw"][number, 0].argmax()
        apart = {way: means[way][number, :, high] - means[way][number, :, low] for way in WAYS}
        apart["explained"] = apart["raw"] - apart["standardised"]
        found = {way: interval(draws, len(shown)) for way, draws in apart.items()}
        row = {"by": grouping_name(by), "metric": name, "lowest": drawn.groups[low], "highest": drawn.groups[high]}
        row |= {"n": len(shown), "covered": drawn.covered} | _columns(found)
        answer = found["explained"].against(0, "hides part", "adds to it")
        reversed_ = answer == "adds to it" and found["standardised"].high < 0
        gaps.append(row | {"answer": "reverses it" if reversed_ else answer})
    return _tables(rates, gaps)


def _columns(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {
        f"{way}{ending}": getattr(estimate, field)
        for way, estimate in estimates.items()
        for ending, field in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def _tables(rates: list[dict], gaps: list[dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    def columns(ways: tuple[str, ...]) -> list[str]:
        return [f"{way}{ending}" for way in ways for ending in ("", "_low", "_high")]

    of_gaps = ["by", "metric", "lowest", "highest", "n", "covered", *columns((*WAYS, "explained")), "answer"]
    return (
        pd.DataFrame(rates, columns=["by", "group", "metric", "n", "covered", *columns(WAYS)]),
        pd.DataFrame(gaps, columns=of_gaps),
    )
