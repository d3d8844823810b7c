"""Copies whose labels disagree, and what that says about the noise of labels."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib.finding import Finding, Findings
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import Bootstrap, Estimate, rate

NOISE_COLUMNS = ["attribute", "quantity", "assumption", "value", "low", "high", "n", "unit"]
YEARS_QUANTITIES = ("difference of two labels", "mean error of a label")
CLASS_QUANTITIES = ("two labels disagree", "wrong labels")
NONE, ONE_RIGHT, INDEPENDENT = "none", "one of two is right", "both err independently"
OTHERS_RIGHT = "all others are right"


def contradictions(faces: pd.DataFrame, group_id: np.ndarray, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Groups of two copies or more and whether their labels disagree, unknown ones left out.

    Columns: group_id; size; for an attribute with classes <name>_disagrees, else <name>_range (the years that the ages
    of two labels lie apart at least: bands that overlap do not disagree); contradicts (any of them).
    """
    groups = faces.assign(group_id=group_id).groupby("group_id").filter(lambda members: len(members) > 1)
    by_group = groups.groupby("group_id")
    table = pd.DataFrame({"size": by_group.size()}).assign(contradicts=False)
    for attribute in attributes:
        first, last = (labels.groupby(groups["group_id"]) for labels in attribute.ends(groups))
        spread = (first.max() - last.min()).clip(lower=0)
        if isinstance(attribute, ClassAttribute):
            table[f"{attribute.name}_disagrees"] = spread > 0
        else:
            table[f"{attribute.name}_range"] = spread
        table["contradicts"] |= spread > 0
    return table[[*table.columns.drop("contradicts"), "contradicts"]].reset_index()


def disagreements(faces: pd.DataFrame, group_id: np.ndarray, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """How two labels of one photograph differ, on average over the pairs of each group of copies.

    Pairs are summed up, not listed: ten thousand copies of one photograph make fifty million of them. A band of ages
    counts as its middle.

    Returns
    -------
    DataFrame
        group_id, attribute, labels (known ones), differ (share of its pairs with different labels), difference (in
        years for ages; the same as `differ` for classes); one row per attribute and group with two known labels or
        more.
    """
    tables = []
    for attribute in attributes:
        known, (first, last) = attribute.has_label(faces), attribute.ends(faces)
        labels = pd.DataFrame({"group_id": group_id, "label": ((first + last) / 2).to_numpy(float)})[known]
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
        years = (labels.groupby("group_id")["signed"].sum() / pairs)[n > 1]
        table["difference"] = table["differ"] if isinstance(attribute, ClassAttribute) else years
        table.insert(0, "attribute", attribute.name)
        tables.append(table.reset_index())
    columns = ["group_id", "attribute", "labels", "differ", "difference"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


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


def _if_independent(attribute: Attribute, difference: float) -> float:
    """Error rate, or mean error in years, of labels that err independently; ages normally."""
    if isinstance(attribute, ClassAttribute):
        return independent_error_rate(difference, len(attribute.classes))
    return difference / 2**0.5


def label_noise(
    faces: pd.DataFrame, group_id: np.ndarray, attributes: Iterable[Attribute], bootstrap: Bootstrap
) -> pd.DataFrame:
    """A range for the noise of each attribute's labels, from copies that were labelled more than once.

    Each photograph counts once, however many copies it has. The low end assumes that of two labels that disagree one is
    right, the high end that both err independently (for ages, with normal errors). Both assume that photographs
    collected twice are labelled like the rest, which is unknown: copies are not a random sample, copies with equal
    labels may have been removed more often, and where one label was taken from the other the noise is higher. The last
    estimate needs no such assumption: it counts the labels that must be wrong because copies contradict them.

    Returns
    -------
    DataFrame
        attribute; quantity; assumption; value, low, high (95 %, resampling groups), n (groups; all labels for the
        last), unit. Empty without copies.
    """
    pairs = disagreements(faces, group_id, attributes)
    rows = []
    for attribute in attributes:
        difference = pairs.loc[pairs["attribute"] == attribute.name, "difference"].to_numpy()
        if not len(difference):
            continue
        has_classes = isinstance(attribute, ClassAttribute)
        differ, wrong = CLASS_QUANTITIES if has_classes else YEARS_QUANTITIES
        how = {"unit": "share" if has_classes else attribute.unit}
        estimates = {
            (differ, NONE): bootstrap(np.mean, difference, **how),
            (wrong, ONE_RIGHT): bootstrap(lambda d: d.mean() / 2, difference, **how),
            (wrong, INDEPENDENT): bootstrap(lambda d, a=attribute: _if_independent(a, d.mean()), difference, **how),
        }
        if has_classes:
            estimates[wrong, OTHERS_RIGHT] = _counted_wrong(attribute, faces[attribute.name], group_id)
        rows += [(attribute.name, *key, *estimate.to_dict().values()) for key, estimate in estimates.items()]
    return pd.DataFrame(rows, columns=NOISE_COLUMNS)


def _counted_wrong(attribute: Attribute, labels: pd.Series, group_id: np.ndarray) -> Estimate:
    """Share of all labels that must be wrong: in each group, all but those of its most frequent class."""
    known = attribute.is_known(labels)
    counts = pd.crosstab(group_id[known], labels.to_numpy()[known])
    share = float((counts.sum(axis=1) - counts.max(axis=1)).sum() / known.sum())
    return Estimate(share, share, share, int(known.sum()), "share")


def labels_findings(conflicts: pd.DataFrame, pairs: pd.DataFrame, attributes: Iterable[Attribute]) -> Findings:
    """In how many of `contradictions` a label differs, and how far ages lie apart, by `disagreements`."""
    contradicting = int(conflicts["contradicts"].sum())
    exact = {
        attribute.name for attribute in attributes if not isinstance(attribute, ClassAttribute) and attribute.exact
    }
    if conflicts.empty:
        text = "There are no copies whose labels could differ."
        return Findings([Finding("copies.labels_differ", text, rate(0, 0))])
    text = f"In {contradicting:,} of {len(conflicts):,} groups of copies at least one label differs"
    text += ", even if only by one year of age." if exact else "."
    for attribute in attributes:
        years = pairs.loc[pairs["attribute"] == attribute.name, "difference"].mean()
        if attribute.name in exact and years > 0:
            text += f" Two {attribute.name} labels of one photograph differ by {years:.1f} years on average."
    return Findings([Finding("copies.labels_differ", text, rate(contradicting, len(conflicts)))])
