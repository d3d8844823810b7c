"""Copies whose labels disagree, and what that says about the noise of labels."""

import itertools

import numpy as np
import pandas as pd

from facelib import metrics
from facelib.metrics import Estimate
from facelib.schema import ATTRIBUTES, CLASS_NAMES, UNKNOWN


def contradictions(faces: pd.DataFrame, group_id: np.ndarray) -> pd.DataFrame:
    """Groups of copies whose labels disagree.

    Returns
    -------
    DataFrame
        group_id, size, age_range (years between the lowest and highest label), gender_disagrees, ethnicity_disagrees,
        contradicts (any of them); one row per group of two and more, unknown labels left out.
    """
    groups = faces.assign(group_id=group_id).groupby("group_id").filter(lambda members: len(members) > 1)
    known = groups.assign(**{name: groups[name].where(groups[name] != UNKNOWN) for name in ATTRIBUTES[1:]})
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
    """Every pair of copies with known labels, and whether it disagrees.

    Returns
    -------
    DataFrame
        group_id, attribute, difference (years for age; 1 for different classes, else 0).
    """
    order = np.argsort(group_id, kind="stable")
    _, starts = np.unique(group_id[order], return_index=True)
    pairs = [pair for rows in np.split(order, starts[1:]) for pair in itertools.combinations(rows, 2)]
    first, second = np.array(pairs, int).reshape(-1, 2).T
    tables = []
    for attribute in ATTRIBUTES:
        labels = faces[attribute].to_numpy(float)
        labels = np.where(labels == UNKNOWN, np.nan, labels)
        difference = np.abs(labels[first] - labels[second])
        difference = difference if attribute == "age" else np.where(np.isnan(difference), np.nan, difference > 0)
        tables.append(pd.DataFrame({"group_id": group_id[first], "attribute": attribute, "difference": difference}))
    return pd.concat(tables, ignore_index=True).dropna(ignore_index=True)


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

    The low end assumes that of two labels that disagree one is right, the high end that both err independently (for
    ages, with normal errors). Both assume that photographs collected twice are labelled like the rest, which nobody
    knows: copies are not a random sample, and copies with equal labels may have been removed more often. The third
    estimate assumes nothing of the kind: it counts the labels that must be wrong because copies contradict them.

    Returns
    -------
    DataFrame
        attribute; quantity; assumption; value, low, high (95 %, resampling groups), n, unit. Empty without copies.
    """
    pairs = disagreements(faces, group_id)
    rows = []

    def add(attribute: str, quantity: str, assumption: str, estimate: Estimate) -> None:
        rows.append({"attribute": attribute, "quantity": quantity, "assumption": assumption, **estimate.to_dict()})

    for attribute, part in pairs.groupby("attribute", sort=False):
        difference, groups = part["difference"].to_numpy(), part["group_id"].to_numpy()
        unit = "years" if attribute == "age" else "share"

        def estimate(statistic, difference=difference, groups=groups, unit=unit) -> Estimate:
            return metrics.bootstrap(statistic, difference, groups=groups, resamples=resamples, seed=seed, unit=unit)

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
    known = (labels != UNKNOWN).to_numpy()
    counts = pd.crosstab(group_id[known], labels.to_numpy()[known])
    share = float((counts.sum(axis=1) - counts.max(axis=1)).sum() / known.sum())
    return Estimate(share, share, share, int(known.sum()), "share")
