"""How far groups of people lie apart in each measure, beside what chance alone would show."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib.evaluation.groups import AGE_ERRORS, compared_rows, grouping_name, large_groups, row_values
from facelib.finding import Finding
from facelib.schema import Attribute
from facelib.statistics import SHARE, adjusted, largest_gap

FACTS = ["by", "metric", "groups", "left_out", "n", "lowest", "highest"]
NUMBERS = ["lowest_value", "highest_value", "difference", "ratio", "by_chance", "low", "high"]
SIGNIFICANT = 0.05


def gap_table(
    frame: pd.DataFrame, groupings: Iterable[list[str]], attributes: Iterable[Attribute], min_group: int, seed: int
) -> pd.DataFrame:
    """Difference and ratio of each group metric between groups, with what chance would show.

    Rows count as in `groups.group_table`. Groups below `min_group` are left out and counted: they would set both ends
    of every range. Columns: `FACTS` (n: rows of the groups compared) and `NUMBERS`: difference is largest minus
    smallest with its 95 % interval (low, high; see `statistics.largest_gap`), ratio smallest over largest (nan for
    bias, whose sign it would lose), by_chance the mean difference of random groups; and p_adjusted (permutation,
    Benjamini-Hochberg over all rows). Numbers are nan where fewer than two groups are left.
    """
    rows, p_values, attributes = [], [], tuple(attributes)
    for by in groupings:
        metrics, known = compared_rows(frame, by, attributes)
        compared, group = large_groups(known, by, min_group)
        left_out = len(known[by].astype(str).drop_duplicates()) - group.nunique()
        facts = {"by": grouping_name(by), "groups": group.nunique(), "left_out": left_out, "n": len(compared)}
        for metric, (key, values) in zip(metrics, row_values(compared, metrics).items(), strict=True):
            rows.append(facts | {"metric": key})
            p_values.append(np.nan)
            if facts["groups"] > 1:
                means, gap = values.groupby(group).mean(), largest_gap(values, group, seed)
                low, high, p_values[-1] = means.min(), means.max(), gap.p
                rows[-1] |= {"lowest": means.idxmin(), "lowest_value": low, "highest": means.idxmax()}
                rows[-1] |= {"highest_value": high, "difference": high - low, "by_chance": gap.by_chance}
                rows[-1] |= {"ratio": low / high if high and metric.more_is_better is not None else np.nan}
                furthest = 1 if metric.unit == SHARE else np.inf
                rows[-1] |= {"low": gap.estimate.low, "high": min(gap.estimate.high, furthest)}
    table = pd.DataFrame(rows, columns=[*FACTS, *NUMBERS]).astype(dict.fromkeys(NUMBERS, float))
    return table.assign(p_adjusted=adjusted(p_values))


def gap_finding(gaps: pd.DataFrame) -> Finding:
    """How many gaps of a `gap_table` exceed chance, and the widest of them in age error."""
    beyond, tested = gaps[gaps["p_adjusted"] < SIGNIFICANT], int((gaps["groups"] > 1).sum())
    if not tested:
        return Finding("groups.beyond_chance", "No grouping has two groups large enough to compare.", n=0)
    text = (
        f"In {len(beyond)} of {tested} comparisons groups differ by more than chance (adjusted p below {SIGNIFICANT})."
    )
    for row in beyond[beyond["metric"].isin(AGE_ERRORS)].nlargest(1, "difference").to_dict("records"):
        text += (
            " The widest range of age error is by {by}, from {lowest_value:.1f} y ({lowest}) to {highest_value:.1f} y "
            "({highest}); random groups of these sizes differ by {by_chance:.1f} y on average.".format(**row)
        )
    return Finding("groups.beyond_chance", text, n=int(gaps["n"].max()) if len(gaps) else 0)
