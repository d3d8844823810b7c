"""Attribute clusters of errors to label noise or to the model."""

import numpy as np
import pandas as pd
from scipy import stats

from facelib.audit.planting import ALL
from facelib.evaluation.error_clusters import error_column
from facelib.finding import Finding
from facelib.schema import Attribute, ClassAttribute, class_attributes
from facelib.statistics import CONFIDENCE, Estimate, adjusted, count, rate

HALF = 0.5  # of a cluster's errors
LABELS, MODEL = "the labels", "the model"
UNTOLD = "inconclusive"
# Columns of `cluster_causes` that are shares.
SHARES = ("doubted", "others", "recall", "false flags", "wrong labels", "low", "high", "really wrong")
MIN_RECALL = 0.3  # of wrong labels that are flagged; with less, few flags say nothing
MIN_PLANTED = 20  # errors in a group of years, from which on its own recall is used
EXAMPLES = 3  # errors of each cluster that are listed


def measured_traits(frame: pd.DataFrame, attributes: tuple[Attribute, ...], issues: pd.DataFrame) -> pd.DataFrame:
    """Label scores (0 worst to 1 best), confidences (0 to 1) and interval widths (years) of each row of a frame.

    Columns <attribute> label score, <class attribute> confidence, <years> interval width; those without a number are
    left out. `issues` is the table label_issues.
    """
    scores = issues.pivot(index="image_id", columns="attribute", values="score").reindex(frame["image_id"])
    columns = {f"{a.name} label score": scores[a.name].to_numpy(float) for a in attributes if a.name in scores}
    columns |= {f"{a.name} confidence": a.confidence(frame) for a in class_attributes(attributes)}
    for attribute in attributes:
        if not isinstance(attribute, ClassAttribute):
            low, high = frame[f"{attribute.name}_low"], frame[f"{attribute.name}_high"]
            columns[f"{attribute.name} interval width"] = (high - low).to_numpy(float)
    return pd.DataFrame(columns).dropna(axis="columns", how="all")


def compare_measured(labels: np.ndarray, is_error: np.ndarray, measured: pd.DataFrame) -> pd.DataFrame:
    """Medians of `measured_traits` in each cluster (e,) against all other errors, among rows (n,).

    Columns: cluster, n, measure, median, median_others, median_correct (of the rows that are not errors), chance_higher
    (that a row of the cluster has more than another error: the Mann-Whitney statistic over its largest value),
    p_adjusted (two-sided test, adjusted for all rows).
    """
    rows, errors, correct = [], measured[is_error], measured[~is_error].median()
    for number in sorted(set(labels) - {-1}):
        for name in measured:
            members, others = (errors.loc[part, name].dropna() for part in (labels == number, labels != number))
            if members.empty or others.empty:
                continue
            test = stats.mannwhitneyu(members, others)
            higher = test.statistic / len(members) / len(others)
            medians = members.median(), others.median(), correct[name]
            rows.append((number, len(members), name, *medians, higher, test.pvalue))
    columns = ["cluster", "n", "measure", "median", "median_others", "median_correct", "chance_higher", "p_adjusted"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_adjusted=adjusted(table["p_adjusted"]))


def doubted_labels(frame: pd.DataFrame, issues: pd.DataFrame) -> pd.DataFrame:
    """Which labels of a frame's rows the table label_issues flags: bool, a column per attribute."""
    flags = issues.pivot(index="image_id", columns="attribute", values="is_issue")
    return flags.reindex(frame["image_id"]).eq(True).reset_index(drop=True)


def errors_with(
    kinds: pd.DataFrame, attributes: tuple[Attribute, ...], marked: pd.DataFrame | None
) -> np.ndarray | None:
    """Of which errors a mispredicted label is marked: bool (e,); None where nothing is known.

    `kinds` is from `error_clusters.find_errors`; `marked` has n rows and a bool column per attribute, from
    `doubted_labels` or `audit.truth.wrong_labels`.
    """
    if marked is None:
        return None
    both = np.zeros(len(kinds), bool)
    for attribute in (attribute for attribute in attributes if attribute.name in marked):
        both |= kinds[error_column(attribute)].to_numpy(bool) & marked[attribute.name].to_numpy(bool)
    return both[kinds["any_error"]]


def flag_chances(
    frame: pd.DataFrame, kinds: pd.DataFrame, attributes: tuple[Attribute, ...], rates: pd.DataFrame
) -> pd.DataFrame:
    """How often the label of each error would be flagged: recall (were it wrong) and false_flags (were it right).

    The rates are those of the mispredicted attribute and of the face's group of years, or of all ages where fewer than
    `MIN_PLANTED` errors were planted in the group. Of several mispredicted labels any may be flagged: the recall is the
    largest, and false flags add up.

    Parameters
    ----------
    frame, kinds
        Of `error_clusters.find_errors`, n rows.
    attributes : tuple of Attribute
    rates : DataFrame
        From `audit.planting.flag_rates`.

    Returns
    -------
    DataFrame
        A row per error: recall, recall_low, recall_high, false_flags.
    """
    table = rates.set_index(["attribute", "group", "measure"])
    years = next((a for a in attributes if not isinstance(a, ClassAttribute)), None)
    groups = np.full(len(frame), ALL) if years is None else frame[years.group_column].astype(object).fillna(ALL)
    chances = pd.DataFrame({"recall": 0.0, "recall_low": 0.0, "recall_high": 0.0, "right": 1.0}, index=frame.index)
    for attribute in attributes:
        if (attribute.name, ALL, "recall") not in table.index:
            continue
        for group in set(groups):
            known = (attribute.name, group, "recall") in table.index
            enough = known and table.loc[(attribute.name, group, "recall"), "n"] >= MIN_PLANTED
            recall = table.loc[(attribute.name, group if enough else ALL, "recall")]
            false = table.loc[(attribute.name, group if known else ALL, "false flags")]
            missed = kinds[error_column(attribute)] & (groups == group)
            for name, value in (("recall", "value"), ("recall_low", "low"), ("recall_high", "high")):
                chances.loc[missed, name] = np.maximum(chances.loc[missed, name], recall[value])
            chances.loc[missed, "right"] *= 1 - (false["value"] if false["n"] else 0.0)
    chances = chances[kinds["any_error"]].reset_index(drop=True)
    return chances.assign(false_flags=1 - chances.pop("right"))


def cluster_causes(
    labels: np.ndarray, doubted: np.ndarray, chances: pd.DataFrame, wrong: np.ndarray | None = None
) -> pd.DataFrame:
    """Which share of each cluster's errors has a wrong label, and whether labels or model account for the cluster.

    A share w of wrong labels is flagged at a rate of w * recall + (1 - w) * false flags, which is solved for w. Its
    interval combines that of the flag rate (Wilson, widened for the number of clusters: Bonferroni) with that of the
    recall. The labels account for a cluster where more than half of its errors have a wrong one, the model where fewer
    have; nothing can be told where the interval contains one half, or where the recall is below `MIN_RECALL`.

    Planted errors are easier to find than real ones, which makes the share too low; faces that the model mispredicts
    are flagged more often than others though their labels are right, which makes it too high.

    Parameters
    ----------
    labels : int array (e,)
        Cluster of each error, -1 for none.
    doubted : bool array (e,)
        From `errors_with`.
    chances : DataFrame
        From `flag_chances`.
    wrong : bool array (e,), optional
        From `errors_with`, where the truth is known.

    Returns
    -------
    DataFrame
        cluster, n, doubted (share), others (share of all other errors), p_adjusted (Fisher's exact test of these two,
        two-sided; nan without other errors), recall, false flags, wrong labels (share), low, high, fault, and
        really wrong (share) where that is known.

    Examples
    --------
    >>> chances = pd.DataFrame({"recall": [0.9] * 80, "recall_low": 0.85, "recall_high": 0.95, "false_flags": 0.02})
    >>> cluster_causes(np.repeat([0, 1], 40), np.arange(80) < 36, chances)["fault"].tolist()
    ['the labels', 'the model']
    """
    numbers, rows = sorted(set(labels) - {-1}), []
    for number in numbers:
        inside = labels == number
        hits, n, other_hits, others = (int(part.sum()) for part in (doubted[inside], inside, doubted[~inside], ~inside))
        share = rate(hits, n, confidence=1 - (1 - CONFIDENCE) / len(numbers))
        p_value = stats.fisher_exact([[hits, n - hits], [other_hits, others - other_hits]]).pvalue
        compared = (other_hits / others, p_value) if others else (np.nan, np.nan)
        chance = chances[inside].mean()
        ends = (share.value, chance["recall"]), (share.low, chance["recall_high"]), (share.high, chance["recall_low"])
        estimate = Estimate(*(_wrong_share(flags, recall, chance["false_flags"]) for flags, recall in ends), n, "share")
        told = chance["recall"] >= MIN_RECALL
        fault = estimate.against(HALF, MODEL, LABELS) if told else UNTOLD
        known = (chance["recall"], chance["false_flags"], estimate.value, estimate.low, estimate.high)
        rows.append((number, n, share.value, *compared, *known, fault))
    columns = ["cluster", "n", "doubted", "others", "p_adjusted", "recall", "false flags"]
    table = pd.DataFrame(rows, columns=[*columns, "wrong labels", "low", "high", "fault"])
    if wrong is not None:
        table["really wrong"] = [wrong[labels == number].mean() for number in numbers]
    return table.assign(p_adjusted=adjusted(table["p_adjusted"]))


def _wrong_share(flagged: float, recall: float, false_flags: float) -> float:
    """The share of wrong labels that explains a share of flags, 0 to 1; 1 where flags cannot tell wrong from right."""
    if recall <= false_flags:
        return 1.0
    return float(np.clip((flagged - false_flags) / (recall - false_flags), 0, 1))


def headline(kinds: pd.DataFrame, doubted: np.ndarray, facts: dict, causes: pd.DataFrame) -> dict[str, Estimate]:
    """The notebook's keys for results.json."""
    return {
        "errors.share": rate(kinds["any_error"].sum(), len(kinds)),
        "errors.clusters": count(facts["clusters"], "clusters"),
        "errors.label_doubted": rate(doubted.sum(), len(doubted)),
        "errors.clusters_labels_fault": count((causes["fault"] == LABELS).sum(), "clusters"),
        "errors.clusters_model_fault": count((causes["fault"] == MODEL).sum(), "clusters"),
    }


def causes_finding(
    kinds: pd.DataFrame, flags: pd.DataFrame, doubted: np.ndarray, causes: pd.DataFrame, wrong: np.ndarray | None
) -> Finding:
    """How many errors have a flagged label, and which clusters point to the labels or to the model.

    `flags` are from `doubted_labels`, `doubted` and `wrong` from `errors_with`, `causes` from `cluster_causes`.
    """
    correct = ~kinds["any_error"].to_numpy(bool)
    share, others = rate(doubted.sum(), len(doubted)), rate(flags[correct].any(axis=1).sum(), correct.sum())
    if not len(doubted):
        return Finding("errors.causes", "There are no errors.", share)
    clusters = causes["fault"].value_counts()
    text = (
        f"In {share} of the errors the mispredicted label is flagged; of the other faces, {others.text} have a flagged "
        "label. A part of this is expected: a flag, like an error, means that a model disagrees with the label. "
        f"Of {len(causes)} clusters, {clusters.get(LABELS, 0)} point to the labels, "
        f"{clusters.get(MODEL, 0)} to the model, and {clusters.get(UNTOLD, 0)} cannot be decided. "
        "Real errors are probably harder to flag than planted ones: this is a hint, not proof."
    )
    if wrong is not None:
        known = rate(wrong.sum(), len(wrong)).text
        text += f" These faces are drawn, so the truth is known: {known} of the errors have a wrong label."
    return Finding("errors.causes", text, share)


def error_table(
    frame: pd.DataFrame, attributes: tuple[Attribute, ...], kinds: pd.DataFrame, labels: np.ndarray,
    measured: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """Each error of an evaluation frame, for reading, from `find_errors`, `cluster` and `measured_traits`.

    image_id, cluster, missed (names of attributes), each attribute as labelled and as predicted, errors in years, and
    the columns of `measured`.
    """
    is_error = kinds["any_error"].to_numpy(bool)
    errors, columns = frame[is_error], {}
    missed = [", ".join(a.name for a in attributes if row[error_column(a)]) for _, row in kinds[is_error].iterrows()]
    for attribute in attributes:
        columns[attribute.name] = attribute.label_names(errors)
        columns[f"{attribute.name} predicted"] = [attribute.label_name(value) for value in errors[attribute.prediction]]
    for attribute in attributes:
        if not isinstance(attribute, ClassAttribute):
            error = attribute.errors(errors, errors[attribute.prediction]).abs()
            columns[f"{attribute.name} error"] = error.to_numpy()
    table = pd.DataFrame({"image_id": errors["image_id"].to_numpy(), "cluster": labels, "missed": missed, **columns})
    return pd.concat([table, measured[is_error].reset_index(drop=True)], axis=1)


def examples(errors: pd.DataFrame) -> pd.DataFrame:
    """`EXAMPLES` errors of each cluster of an `error_table`, the largest in years first."""
    by = [column for column in errors if column.endswith(" error")]
    first = errors.sort_values(by, ascending=False) if by else errors
    return first.groupby("cluster").head(EXAMPLES).sort_values("cluster", kind="stable")
