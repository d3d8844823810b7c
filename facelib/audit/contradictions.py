"""Copies whose labels disagree, and what that says about the noise of labels."""

import numpy as np
import pandas as pd

from facelib import statistics
from facelib.schema import ATTRIBUTES, CLASS_NAMES, is_known
from facelib.statistics import Estimate


def contradictions(faces: pd.DataFrame, group_id: np.ndarray) -> pd.DataFrame:
    """Groups of copies whose labels disagree.

    Returns
    -------
    DataFrame
        group_id, size, age_range (years between the lowest and highest label), gender_disagrees, ethnicity_disagrees,
        contradicts (any of them); one row per group of two and more, unknown labels left out.
    """
    groups = faces.assign(group_id=group_id).groupby("group_id").filter(lambda members: len(members) > 1)
    known = groups.assign(**{name: groups[name].where(is_known(groups[name])) for name in ATTRIBUTES})
    by_group = known.groupby("group_id")
    table = pd.DataFrame(
        {
            "size": by_group.size(),
            "age_range": by_group["age"].max() - by_group["age"].min(),
            "gender_disagrees": by_group["gender"].max() > by_group["gender"].min(),
            "ethnicity_disagrees": by_group["ethnicity"].max() > by_group["ethnicity"].min(),
        }
    )
    table["contradicts"] = (table["age_range"] > 0) | table["gender_disagrees"] | table["ethnicity_disagrees"]
    return table.reset_index()


def disagreements(faces: pd.DataFrame, group_id: np.ndarray) -> pd.DataFrame:
    """How two labels of one photograph differ, on average over the pairs of each group of copies.

    Pairs are summed up, not listed: a photograph that is there ten thousand times has fifty million of them.

    Returns
    -------
    DataFrame
        group_id, attribute, labels (known ones), differ (share of its pairs with different labels), difference (years
        for age; the same as `differ` for classes); one row per attribute and group with two known labels and more.
    """
    tables = []
    for attribute in ATTRIBUTES:
        known = is_known(faces[attribute])
        labels = pd.DataFrame({"group_id": group_id[known], "label": faces[attribute].to_numpy(float)[known]})
        labels = labels.sort_values(["group_id", "label"], ignore_index=True)
        by_group = labels.groupby("group_id")["label"]
        size = by_group.transform("size")
        # In the sum of all differences the label at place p of k is added p times and subtracted k - 1 - p times.
        labels["signed"] = (2 * by_group.cumcount() - size + 1) * labels["label"]
        counts = labels.groupby(["group_id", "label"]).size()
        n = by_group.size()
        pairs = n * (n - 1) / 2
        same = (counts * (counts - 1) / 2).groupby("group_id").sum()
        table = pd.DataFrame({"labels": n, "differ": 1 - same / pairs})[n > 1]
        years = labels.groupby("group_id")["signed"].sum() / pairs
        table["difference"] = years[n > 1] if attribute == "age" else table["differ"]
        table.insert(0, "attribute", attribute)
        tables.append(table.reset_index())
    return pd.concat(tables, ignore_index=True)


def independent_error_rate(disagreeing: float, classes: int) -> float:
    """Error rate of labels if two labels of one photograph disagree this often and err independently.

    Errors are taken to fall on each wrong class alike. With error rate e, two labels disagree with probability
    2e - e^2 K / (K - 1) for K classes, which is solved for e.

    Examples
    --------
    >>> round(independent_error_rate(0.18, 2), 3)  # 2 * 0.1 * 0.9
    0.1
    """
    share = (classes - 1) / classes
    return share * (1 - max(0.0, 1 - disagreeing / share) ** 0.5)


def label_noise(faces: pd.DataFrame, group_id: np.ndarray, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """A range for the noise of each attribute's labels, from copies that were labelled more than once.

    Each photograph counts once, however many copies it has. The low end assumes that of two labels that disagree one is
    right, the high end that both err independently (for ages, with normal errors). Both assume that photographs
    collected twice are labelled like the rest, which nobody knows: copies are not a random sample, copies with equal
    labels may have been removed more often, and where one label was taken over from the other the noise is higher than
    they say. The last estimate assumes nothing of the kind: it counts the labels that must be wrong because copies
    contradict them.

    Returns
    -------
    DataFrame
        attribute; quantity; assumption; value, low, high (95 %, resampling groups), n (groups; all labels for the
        last), unit. Empty without copies.
    """
    pairs = disagreements(faces, group_id)
    rows = []

    def add(attribute: str, quantity: str, assumption: str, estimate: Estimate) -> None:
        rows.append({"attribute": attribute, "quantity": quantity, "assumption": assumption, **estimate.to_dict()})

    for attribute, part in pairs.groupby("attribute", sort=False):
        difference, unit = part["difference"].to_numpy(), "years" if attribute == "age" else "share"

        def estimate(statistic, difference=difference, unit=unit) -> Estimate:
            return statistics.bootstrap(statistic, difference, resamples=resamples, seed=seed, unit=unit)

        if attribute == "age":
            add(attribute, "difference of two labels", "none", estimate(np.mean))
            add(attribute, "mean error of a label", "one of two is right", estimate(lambda d: d.mean() / 2))
            add(attribute, "mean error of a label", "both err independently", estimate(lambda d: d.mean() / 2**0.5))
        else:
            classes = len(CLASS_NAMES[attribute])
            add(attribute, "two labels disagree", "none", estimate(np.mean))
            add(attribute, "wrong labels", "one of two is right", estimate(lambda d: d.mean() / 2))
            independent = estimate(lambda d, k=classes: independent_error_rate(d.mean(), k))
            add(attribute, "wrong labels", "both err independently", independent)
            add(attribute, "wrong labels", "all others are right", _counted_wrong(faces[attribute], group_id))
    return pd.DataFrame(rows, columns=["attribute", "quantity", "assumption", "value", "low", "high", "n", "unit"])


def _counted_wrong(labels: pd.Series, group_id: np.ndarray) -> Estimate:
    """Share of all labels that must be wrong: in each group, all but those of its most frequent class."""
    known = is_known(labels)
    counts = pd.crosstab(group_id[known], labels.to_numpy()[known])
    share = float((counts.sum(axis=1) - counts.max(axis=1)).sum() / known.sum())
    return Estimate(share, share, share, int(known.sum()), "share")
