"""Rates that groups would show if all of them had the same age mix (direct standardisation).

Groups of a data set differ in age, and errors depend on age. A standardised rate is the mean of a group's rates by age
band, weighted with the bands' shares of all faces compared. Bands in which a compared group has fewer than `MIN_CELL`
faces are left out for all groups, so that all are compared over the same ages; the share of the faces in the bands
used is given beside the numbers. Raw numbers are over all ages.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from facelib.evaluation.gaps import SIGNIFICANT
from facelib.evaluation.groups import (
    AGE_ERRORS,
    by_source,
    compared_rows,
    comparisons,
    grouping_name,
    groupings,
    large_groups,
    row_values,
)
from facelib.finding import Finding, listed
from facelib.schema import AGE, Attribute
from facelib.statistics import Bootstrap

MIN_CELL = 5  # faces; a rate of fewer would enter a standardised one with the weight of its whole band
EFFECTS = {  # of the answers of `standardise`, in words
    "adds to it": "widen", "hides part": "narrow", "reverses it": "reverse", "inconclusive": "have no clear effect on",
}  # fmt: skip
COLUMNS = [f"{way}{end}" for way in ("raw", "standardised", "explained") for end in ("", "_low", "_high")]


@dataclass(frozen=True)
class Resampled:
    """Faces and sums of their values by group and age band, in the sample (first) and in bootstrap samples of it.

    `counts` are (resamples + 1, groups, bands), `sums` (measures, resamples + 1, groups, bands). `common` marks the
    bands in which every group has `MIN_CELL` faces; `covered` is the share of the faces that lie in these.
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
        """Means of each group over the common bands at equal ages; nan where a sample lost all of a cell."""
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
    values: np.ndarray, groups: pd.Series, bands: pd.Series, copies: pd.Series, bootstrap: Bootstrap
) -> Resampled:
    """Draw groups of copies with replacement, and sum values (measures, n) by group and age band in each draw."""
    names, group = np.unique(groups.to_numpy(str), return_inverse=True)
    band_names, band = np.unique(bands.to_numpy(str), return_inverse=True)
    times, cells, n = bootstrap.weights(copies), group * len(band_names) + band, len(group)
    shape = len(times), len(names), len(band_names)

    def summed(of: np.ndarray) -> np.ndarray:
        # A row per cell and a column per face; times the draws it gives all sums at once.
        by_cell = sparse.csr_array((of.astype(float), (cells, np.arange(n))), shape=(shape[1] * shape[2], n))
        return (by_cell @ times.T).T.reshape(shape)

    common = common_bands(groups, bands) if n else []
    covered = float(np.isin(bands.to_numpy(str), common).mean()) if n else 0.0
    sums = np.stack([summed(of) for of in values])
    return Resampled(summed(np.ones(n)), sums, list(names), np.isin(band_names, common), covered)


def source_comparisons(
    frame: pd.DataFrame, attributes: Iterable[Attribute], parts: dict[str, dict[str, pd.DataFrame]],
    bootstrap: Bootstrap, min_group: int,
) -> pd.DataFrame:  # fmt: skip
    """`groups.comparisons` of the `groups.source_tables` of a frame, below each other."""
    found = []
    for source, (part, own) in by_source(frame, attributes).items():
        explained = None
        if AGE.name in (attribute.name for attribute in own):
            explained = standardise(part, groupings(part, own), own, bootstrap, min_group)[1]
        found.append(comparisons(parts[source], own, explained, source))
    return pd.concat(found, ignore_index=True)


def standardise(
    frame: pd.DataFrame, groupings: Iterable[list[str]], attributes: Iterable[Attribute], bootstrap: Bootstrap,
    min_group: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Raw and standardised numbers of each group, and how much of the gap between groups their age mix explains.

    Groupings by age band are left out, and so are groups below `min_group`; bias is not standardised. Columns of the
    rates: by, group, metric, n, covered, and raw and standardised, each with _low and _high. Of the gaps, a row for two
    groups or more: by, metric, lowest and highest (the groups with the extreme raw numbers), n, covered, and for the
    difference of these two raw, standardised and explained (raw minus standardised), each with _low and _high.
    `answer`, of what the age mix does to the gap, is `inconclusive` where the interval of explained contains 0; else
    `reverses it` where that of standardised lies below 0, `adds to it` or `hides part`.
    """
    rates, gaps, attributes = [], [], tuple(attributes)
    for by in (by for by in groupings if AGE.group_column not in by):
        metrics, known = compared_rows(frame, [*by, AGE.group_column], attributes)
        metrics = [metric for metric in metrics if metric.more_is_better is not None]
        compared, group = large_groups(known, by, min_group)
        if compared.empty or not metrics:
            continue
        values = row_values(compared, metrics).to_numpy().T
        sample = resample(values, group, compared[AGE.group_column], compared["group_id"], bootstrap)
        sizes, raw, standardised = group.value_counts(), sample.raw(), sample.standardised()
        for number, metric in enumerate(metrics):
            facts = {"by": grouping_name(by), "metric": metric.key, "covered": sample.covered}
            draws = {"raw": raw[number], "standardised": standardised[number]}
            for at, name in enumerate(sample.groups):
                row = facts | {"group": name, "n": int(sizes[name])}
                for way, means in draws.items():
                    row |= bootstrap.of_draws(means[:, at], row["n"]).columns(way)
                rates.append(row)
            if len(sample.groups) > 1:
                gaps.append(facts | _gap(draws, sample.groups, len(compared), bootstrap))
    return (
        pd.DataFrame(rates, columns=["by", "group", "metric", "n", "covered", *COLUMNS[:6]]),
        pd.DataFrame(gaps, columns=["by", "metric", "lowest", "highest", "n", "covered", *COLUMNS, "answer"]),
    )


def _gap(draws: dict[str, np.ndarray], groups: list[str], n: int, bootstrap: Bootstrap) -> dict:
    """The raw, standardised and explained difference of the two groups whose raw numbers are extreme."""
    low, high = draws["raw"][0].argmin(), draws["raw"][0].argmax()
    apart = {way: means[:, high] - means[:, low] for way, means in draws.items()}
    apart["explained"] = apart["raw"] - apart["standardised"]
    row, estimates = {"lowest": groups[low], "highest": groups[high], "n": n}, {}
    for way, differences in apart.items():
        estimates[way] = bootstrap.of_draws(differences, n)
        row |= estimates[way].columns(way)
    answer = estimates["explained"].against(0, "hides part", "adds to it")
    reverses = answer == "adds to it" and estimates["standardised"].high < 0
    return row | {"answer": "reverses it" if reverses else answer}


def same_ages_finding(explained: pd.DataFrame, gaps: pd.DataFrame) -> Finding:
    """What the age mix does to the gaps of `standardise` that exceed chance, and the widest such gap in age error.

    A pair chosen for lying furthest apart always does: the p values of `gaps.gap_table` decide which count.
    """
    if explained.empty:
        return Finding("groups.same_ages", "No grouping by class has two groups large enough to compare.", n=0)
    p_values = gaps.set_index(["by", "metric"])["p_adjusted"]
    clear = p_values.reindex(pd.MultiIndex.from_frame(explained[["by", "metric"]])).to_numpy() < SIGNIFICANT
    answers = listed(f"{EFFECTS[answer]} {n}" for answer, n in explained.loc[clear, "answer"].value_counts().items())
    text = f"{clear.sum()} of {len(explained)} gaps between classes exceed chance"
    text += f". The groups' ages {answers} of these." if clear.any() else "."
    in_years = explained[clear & explained["metric"].isin(AGE_ERRORS) & explained["explained_low"].notna()]
    for row in in_years.nlargest(1, "raw").assign(covered=100 * in_years["covered"]).to_dict("records"):
        text += (
            " The age error of the group {highest} is {raw:.2f} y above that of {lowest}; their ages explain "
            "{explained:.2f} y ({explained_low:.2f} to {explained_high:.2f}), and {standardised:.2f} y "
            "({standardised_low:.2f} to {standardised_high:.2f}) remain at equal ages, in bands with {covered:.0f} % "
            "of the faces.".format(**row)
        )
    return Finding("groups.same_ages", text, n=int(explained["n"].max()))
