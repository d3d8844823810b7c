"""What speaks for the labels and what for the model in each cluster of errors."""

import numpy as np
import pandas as pd
from scipy import stats

from facelib import statistics
from facelib.schema import ATTRIBUTES, P_ETHNICITY, label_name
from facelib.statistics import CONFIDENCE

HALF = 0.5  # of a cluster's errors
MISSED = {"age": "large_age_error", "gender": "wrong_gender", "ethnicity": "wrong_ethnicity"}
ANSWERS = {"below": "the model", "above": "the labels"}


def measured_traits(frame: pd.DataFrame, issues: pd.DataFrame) -> pd.DataFrame:
    """Label score and confidence of every output for each row.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation.evaluation_frame`.
    issues : DataFrame
        The table label_issues of the run.

    Returns
    -------
    DataFrame of float
        In the order of `frame`: age, gender and ethnicity label score (0 worst to 1 best), gender and ethnicity
        confidence (probability of the likeliest class), age interval width (years). Columns without a number are left
        out.
    """
    scores = issues.pivot(index="image_id", columns="attribute", values="score").reindex(frame["image_id"])
    columns = {f"{name} label score": scores[name].to_numpy(float) for name in ATTRIBUTES if name in scores}
    columns["gender confidence"] = np.maximum(frame["p_female"], 1 - frame["p_female"]).to_numpy()
    columns["ethnicity confidence"] = frame[list(P_ETHNICITY)].to_numpy().max(axis=1, initial=0)
    columns["age interval width"] = (frame["age_high"] - frame["age_low"]).to_numpy(float)
    return pd.DataFrame(columns).dropna(axis="columns", how="all")


def compare_measured(labels: np.ndarray, is_error: np.ndarray, measured: pd.DataFrame) -> pd.DataFrame:
    """Medians of each cluster against the rows that are no error.

    Parameters
    ----------
    labels : int array of shape (e,)
        Cluster of each error; -1 for none.
    is_error : bool array of shape (n,)
    measured : DataFrame of float, n rows
        From `measured_traits`.

    Returns
    -------
    DataFrame
        cluster, n, measure, median, median_correct, chance_higher (that a row of the cluster has more than a correct
        one: the Mann-Whitney statistic over its largest value), p_adjusted (of the Mann-Whitney test, two-sided,
        Benjamini-Hochberg over all rows).
    """
    rows = []
    inside = measured[is_error].reset_index(drop=True)
    for number in sorted(set(labels) - {-1}):
        for name in measured:
            members, correct = inside.loc[labels == number, name].dropna(), measured.loc[~is_error, name].dropna()
            if members.empty or correct.empty:
                continue
            test = stats.mannwhitneyu(members, correct)
            row = {"cluster": number, "n": len(members), "measure": name, "median": members.median()}
            row |= {"median_correct": correct.median(), "chance_higher": test.statistic / len(members) / len(correct)}
            rows.append(row | {"p_adjusted": test.pvalue})
    columns = ["cluster", "n", "measure", "median", "median_correct", "chance_higher", "p_adjusted"]
    table = pd.DataFrame(rows, columns=columns)
    return table if table.empty else table.assign(p_adjusted=stats.false_discovery_control(table["p_adjusted"]))


def doubted_where_missed(frame: pd.DataFrame, kinds: pd.DataFrame, issues: pd.DataFrame) -> np.ndarray:
    """Errors of which a label that the model missed is doubted: bool (n,).

    Parameters
    ----------
    frame, kinds : DataFrame
        From `evaluation.evaluation_frame` and `error_clusters.find_errors`.
    issues : DataFrame
        The table label_issues of the run.
    """
    return _missed_and(frame, kinds, {name: rows["image_id"] for name, rows in _flagged(issues).groupby("attribute")})


def wrong_where_missed(frame: pd.DataFrame, kinds: pd.DataFrame, wrong: pd.DataFrame) -> np.ndarray:
    """Errors of which a label that the model missed is really wrong: bool (n,).

    Parameters
    ----------
    frame, kinds : DataFrame
    wrong : DataFrame of bool
        By image_id, a column per attribute; from `audit.truth.wrong_labels`.
    """
    return _missed_and(frame, kinds, {name: wrong.index[wrong[name]] for name in wrong})


def _flagged(issues: pd.DataFrame) -> pd.DataFrame:
    return issues[issues["is_issue"].astype(bool)]


def _missed_and(frame: pd.DataFrame, kinds: pd.DataFrame, images: dict) -> np.ndarray:
    found = np.zeros(len(frame), bool)
    for name, column in MISSED.items():
        found |= kinds[column].to_numpy(bool) & frame["image_id"].isin(images.get(name, [])).to_numpy()
    return found


def judge_clusters(labels: np.ndarray, doubted: np.ndarray) -> pd.DataFrame:
    """Whose fault each cluster of errors is: the labels', the model's, or cannot tell.

    The labels' where more than half of the cluster's errors are of a label that networks which never saw it doubt too,
    the model's where fewer are, and neither where the interval of the share, widened for the number of clusters
    (Bonferroni), holds one half.

    Parameters
    ----------
    labels : int array of shape (e,)
        Cluster of each error; -1 for none.
    doubted : bool array of shape (e,)
        From `doubted_where_missed`.

    Returns
    -------
    DataFrame
        cluster, n, doubted (share), low, high (Wilson), others (share of all other errors), p_adjusted (Fisher's exact
        test of these two, two-sided, Benjamini-Hochberg; nan without other errors), fault.

    Examples
    --------
    >>> judge_clusters(np.repeat([0, 1], 40), np.arange(80) < 36)["fault"].tolist()
    ['the labels', 'the model']
    """
    numbers = sorted(set(labels) - {-1})
    rows = []
    for number in numbers:
        inside = labels == number
        hits, other_hits = int(doubted[inside].sum()), int(doubted[~inside].sum())
        n, others = int(inside.sum()), int((~inside).sum())
        share = statistics.rate(hits, n, confidence=1 - (1 - CONFIDENCE) / len(numbers))
        row = {"cluster": number, "n": n, "doubted": share.value, "low": share.low, "high": share.high}
        p_value = stats.fisher_exact([[hits, n - hits], [other_hits, others - other_hits]]).pvalue
        row |= {"others": other_hits / others if others else np.nan, "p_adjusted": p_value if others else np.nan}
        rows.append(row | {"fault": share.against(HALF, **ANSWERS)})
    columns = ["cluster", "n", "doubted", "low", "high", "others", "p_adjusted", "fault"]
    table = pd.DataFrame(rows, columns=columns)
    if table["p_adjusted"].notna().any():
        table["p_adjusted"] = stats.false_discovery_control(table["p_adjusted"])
    return table


def error_table(frame: pd.DataFrame, kinds: pd.DataFrame, labels: np.ndarray, measured: pd.DataFrame) -> pd.DataFrame:
    """Labels, predictions, label scores and confidences of each error, as a reader goes through them.

    Parameters
    ----------
    frame, kinds : DataFrame
        From `evaluation.evaluation_frame` and `error_clusters.find_errors`.
    labels : int array of shape (e,)
        Cluster of each error.
    measured : DataFrame
        From `measured_traits`.

    Returns
    -------
    DataFrame
        image_id, cluster, missed (attributes), age, gender and ethnicity as labelled and as predicted, age error
        (years), and the columns of `measured`; one row per error, in the order of `frame`.
    """
    is_error = kinds["any_error"].to_numpy(bool)
    errors, missed = frame[is_error], kinds[is_error]
    names = [", ".join(name for name, column in MISSED.items() if row[column]) for _, row in missed.iterrows()]
    table = pd.DataFrame({"image_id": errors["image_id"].to_numpy(), "cluster": labels, "missed": names})
    for name in ATTRIBUTES:
        table[name] = [label_name(name, value) for value in errors[name]]
        predicted = errors[f"{name}_pred"].round() if name == "age" else errors[f"{name}_pred"]
        table[f"{name} predicted"] = [label_name(name, value) for value in predicted]
    table["age error"] = (errors["age_pred"] - errors["age"]).abs().to_numpy()
    return pd.concat([table, measured[is_error].reset_index(drop=True)], axis=1)
