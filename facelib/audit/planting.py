"""Known label errors planted among given labels, and how well a score finds them again.

For real photographs nobody knows which labels are wrong. Planted ones are known, so a ranking can be measured; the
errors that the data came with count as false alarms, which makes precision a lower bound.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve

from facelib import metrics, statistics
from facelib.schema import ATTRIBUTES, ETHNICITIES, MAX_AGE, is_known
from facelib.statistics import Estimate

PLANTED_SHARES = {"age": 0.03, "gender": 0.03, "ethnicity": 0.05}
AGE_ERROR = 20  # years, up or down


def _wrong(attribute: str, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A wrong label for each given one."""
    if attribute == "gender":
        return 1 - labels
    if attribute == "ethnicity":
        return (labels + rng.integers(1, len(ETHNICITIES), len(labels))) % len(ETHNICITIES)
    sign = rng.choice([-1, 1], len(labels))
    sign = np.where((labels + sign * AGE_ERROR < 0) | (labels + sign * AGE_ERROR > MAX_AGE), -sign, sign)
    return labels + sign * AGE_ERROR


def plant_errors(faces: pd.DataFrame, seed: int, shares: dict[str, float] | None = None) -> tuple:
    """Replace a share of the known labels of each attribute by wrong ones, each attribute on its own.

    Parameters
    ----------
    faces : DataFrame
        age, gender, ethnicity.
    seed : int
    shares : dict of float, optional
        Share of wrong labels by attribute; `PLANTED_SHARES` without it.

    Returns
    -------
    faces : DataFrame
        A copy with wrong labels: a gender flipped, another ethnicity, an age 20 years off.
    planted : DataFrame of bool
        age, gender, ethnicity: which labels were replaced.
    """
    rng = np.random.default_rng(seed)
    faces, planted = faces.copy(), pd.DataFrame(False, index=faces.index, columns=list(ATTRIBUTES))
    for attribute, share in (shares or PLANTED_SHARES).items():
        known = np.flatnonzero(is_known(faces[attribute]))
        rows = rng.choice(known, round(share * len(known)), replace=False)
        labels = faces[attribute].to_numpy().copy()
        labels[rows] = _wrong(attribute, labels[rows], rng)
        faces[attribute] = labels
        planted.iloc[rows, planted.columns.get_loc(attribute)] = True
    return faces, planted


def average_precision(wrong: np.ndarray, score: np.ndarray) -> float:
    """Average precision of a score for wrong labels; nan where there is none, as in a resample of few."""
    return float(average_precision_score(wrong, score)) if wrong.any() else float("nan")


def score_ranking(
    score: np.ndarray, wrong: np.ndarray, groups: np.ndarray | None = None, seed: int = 0, resamples: int = 300
) -> dict[str, Estimate]:
    """How well low scores point at wrong labels.

    Parameters
    ----------
    score : float array of shape (n,)
        0 worst to 1 best.
    wrong : bool array of shape (n,)
    groups : array of shape (n,), optional
        Copies, which intervals resample together.

    Returns
    -------
    dict of Estimate
        `auroc`: the chance that a wrong label scores below a right one; `average_precision`; `precision_at_k`: share of
        wrong labels among the k lowest scores, k being the number of wrong ones.
    """
    how = {"groups": groups, "resamples": resamples, "seed": seed}
    k = int(wrong.sum())
    lowest = np.argsort(score, kind="stable")[:k]
    return {
        "auroc": statistics.bootstrap(metrics.auc, wrong, -score, **how),
        "average_precision": statistics.bootstrap(average_precision, wrong, -score, **how),
        "precision_at_k": statistics.rate(int(wrong[lowest].sum()), k, "share"),
    }


def ranking_curve(score: np.ndarray, wrong: np.ndarray, points: int = 200) -> pd.DataFrame:
    """Precision and recall at up to `points` cuts of a ranking, lowest scores first."""
    precision, recall, _ = precision_recall_curve(wrong, -score)
    shown = np.unique(np.linspace(0, len(recall) - 2, points).astype(int))  # the last point has no threshold
    return pd.DataFrame({"recall": recall[shown], "precision": precision[shown]})


def measure_ranking(
    issues: pd.DataFrame, faces: pd.DataFrame, planted: pd.DataFrame, group_id: np.ndarray, resamples: int = 300
) -> tuple[dict, pd.DataFrame]:
    """`score_ranking` and `ranking_curve` of each attribute.

    Parameters
    ----------
    issues : DataFrame
        From `label_issues.find_issues` on faces with planted errors.
    faces, planted : DataFrame
        From `plant_errors`.
    group_id : int array of shape (n,)
        Copies of one photograph, by row of `faces`.

    Returns
    -------
    results : dict
        Estimates as dictionaries, by `<attribute>.<measure>`.
    curves : DataFrame
        attribute, recall, precision.
    """
    row_of = pd.Series(np.arange(len(faces)), index=faces["image_id"])
    results, curves = {}, []
    for attribute, part in issues.groupby("attribute", sort=False):
        rows, score = row_of.loc[part["image_id"]].to_numpy(), part["score"].to_numpy()
        wrong = planted[attribute].to_numpy()[rows]
        measured = score_ranking(score, wrong, group_id[rows], resamples=resamples)
        results |= {f"{attribute}.{name}": value.to_dict() for name, value in measured.items()}
        curves.append(ranking_curve(score, wrong).assign(attribute=attribute))
    return results, pd.concat(curves, ignore_index=True)[["attribute", "recall", "precision"]]
