"""Attribute clusters of errors to label noise or to the model."""

import numpy as np
import pandas as pd
from scipy import stats

from facelib.evaluation.error_clusters import error_column
from facelib.finding import Finding
from facelib.schema import Attribute, ClassAttribute, class_attributes
from facelib.statistics import CONFIDENCE, Estimate, adjusted, count, rate

HALF = 0.5  # of a cluster's errors
LABELS, MODEL = "the labels", "the model"
SHARES = ("doubted", "low", "high", "others", "really wrong")  # columns of `cluster_causes`
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
    """Medians of `measured_traits` in each cluster (e,) against the rows (n,) that are not errors.

    Columns: cluster, n, measure, median, median_correct, chance_higher (that a row of the cluster has more than a
    correct one: the Mann-Whitney statistic over its largest value), p_adjusted (two-sided test, adjusted for all rows).
    """
    rows, inside = [], measured[is_error]
    for number in sorted(set(labels) - {-1}):
        for name in measured:
            members, correct = inside.loc[labels == number, name].dropna(), measured.loc[~is_error, name].dropna()
            if members.empty or correct.empty:
                continue
            test = stats.mannwhitneyu(members, correct)
            higher = test.statistic / len(members) / len(correct)
            rows.append((number, len(members), name, members.median(), correct.median(), higher, test.pvalue))
    columns = ["cluster", "n", "measure", "median", "median_correct", "chance_higher", "p_adjusted"]
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


def cluster_causes(labels: np.ndarray, doubted: np.ndarray, wrong: np.ndarray | None = None) -> pd.DataFrame:
    """Whether the labels or the model account for each cluster of errors, or neither can be told.

    The labels where more than half of the cluster's errors are of a label that out-of-fold networks doubt too, the
    model where fewer are, neither where the interval of the share, widened for the number of clusters (Bonferroni),
    holds one half. Takes the cluster of each error (e,), -1 for none, and bool arrays (e,) from `errors_with`.

    Columns: cluster, n, doubted (share), low, high (Wilson), others (share of all other errors), p_adjusted (Fisher's
    exact test of these two, two-sided; nan without other errors), fault, and really wrong (share) where that is known.

    Examples
    --------
    >>> cluster_causes(np.repeat([0, 1], 40), np.arange(80) < 36)["fault"].tolist()
    ['the labels', 'the model']
    """
    numbers, rows = sorted(set(labels) - {-1}), []
    for number in numbers:
        inside = labels == number
        hits, n, other_hits, others = (int(part.sum()) for part in (doubted[inside], inside, doubted[~inside], ~inside))
        share = rate(hits, n, confidence=1 - (1 - CONFIDENCE) / len(numbers))
        p_value = stats.fisher_exact([[hits, n - hits], [other_hits, others - other_hits]]).pvalue
        compared = (other_hits / others, p_value) if others else (np.nan, np.nan)
        rows.append((number, n, share.value, share.low, share.high, *compared, share.against(HALF, MODEL, LABELS)))
    columns = ["cluster", "n", "doubted", "low", "high", "others", "p_adjusted", "fault"]
    table = pd.DataFrame(rows, columns=columns)
    if wrong is not None:
        table["really wrong"] = [wrong[labels == number].mean() for number in numbers]
    return table.assign(p_adjusted=adjusted(table["p_adjusted"]))


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
    """How many errors have a doubted label, and which clusters point to the labels or to the model.

    `flags` are from `doubted_labels`, `doubted` and `wrong` from `errors_with`, `causes` from `cluster_causes`.
    """
    correct = ~kinds["any_error"].to_numpy(bool)
    share, others = rate(doubted.sum(), len(doubted)), rate(flags[correct].any(axis=1).sum(), correct.sum())
    clusters = causes["fault"].value_counts()
    text = (
        f"{share} of the errors have a doubted label, against {others.text} of the correct predictions. Of "
        f"{len(causes)} clusters, {clusters.get(LABELS, 0)} point to the labels and {clusters.get(MODEL, 0)} to the "
        "model. Networks of one kind share blind spots, so this is a hint, not proof."
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
        columns[attribute.name] = [attribute.label_name(value) for value in errors[attribute.name]]
        columns[f"{attribute.name} predicted"] = [attribute.label_name(value) for value in errors[attribute.prediction]]
    for attribute in attributes:
        if not isinstance(attribute, ClassAttribute):
            error = (errors[attribute.prediction] - errors[attribute.name]).abs()
            columns[f"{attribute.name} error"] = error.to_numpy()
    table = pd.DataFrame({"image_id": errors["image_id"].to_numpy(), "cluster": labels, "missed": missed, **columns})
    return pd.concat([table, measured[is_error].reset_index(drop=True)], axis=1)


def examples(errors: pd.DataFrame) -> pd.DataFrame:
    """`EXAMPLES` errors of each cluster of an `error_table`, the largest in years first."""
    by = [column for column in errors if column.endswith(" error")]
    first = errors.sort_values(by, ascending=False) if by else errors
    return first.groupby("cluster").head(EXAMPLES).sort_values("cluster", kind="stable")
