"""Labels that a network which never saw them finds implausible, ranked for review and never deleted."""

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy import ndimage, stats

from facelib.schema import ATTRIBUTES, P_ETHNICITY, PREDICTED, is_known

MAX_PROBABILITY = 0.05  # set by hand: a gender or ethnicity label that the networks give more chance is no issue
AGE_WINDOW = 5.0  # years, the given age in their middle
MAX_AGE_CHANCE = 0.005  # set by hand: ages that have more chance to lie in that window are no issue
ISSUE_COLUMNS = {
    "image_id": object, "attribute": object, "given": float, "suggested": float, "score": float, "is_issue": bool,
}  # fmt: skip
MIN_SPREAD = 0.5  # years
MIN_FACTOR = 0.1  # of the spread that networks name themselves
SPREAD_ROWS = 0.1  # share of rows, neighbours by predicted age, that the spread is smoothed over


def age_spread(age_pred: np.ndarray, residual: np.ndarray, least: float = MIN_SPREAD) -> np.ndarray:
    """Standard deviation of residuals as it changes with the predicted age, from a running robust estimate.

    Parameters
    ----------
    age_pred, residual : float arrays of shape (n,)
        Years.
    least : float
        Years; no spread is taken to be smaller.

    Returns
    -------
    float array of shape (n,), years
        1.4826 times the running median absolute deviation over neighbours, a normal-consistent scale that a few wrong
        labels do not inflate.
    """
    order = np.argsort(age_pred, kind="stable")
    window = max(25, int(len(order) * SPREAD_ROWS)) | 1
    running = ndimage.median_filter(np.abs(residual[order]), size=min(window, len(order)), mode="nearest")
    spread = np.empty(len(order))
    spread[order] = np.maximum(1.4826 * running, least)
    return spread


def _age_issues(given: np.ndarray, age_pred: np.ndarray, own_spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score and flag of each age label: the chance of an age within two and a half years of it, given the prediction.

    A residual in units of its spread would rank a five-year slip of a toddler before a twenty-year one of a pensioner.
    A chance weighs both: how far out the label lies, and how much the networks could know. The spread is what the
    networks say of each face, times what that turns out to be worth at its age; what they do not say counts as 1.
    """
    residual = given - age_pred
    residual = np.abs(residual - np.median(residual))
    own_spread = np.where(np.isfinite(own_spread), np.maximum(own_spread, MIN_SPREAD), 1.0)
    spread, half = own_spread * age_spread(age_pred, residual / own_spread, MIN_FACTOR), AGE_WINDOW / 2
    # Student's t, set by hand: errors have heavier tails than a normal distribution.
    error = stats.t(df=4)
    score = error.cdf((residual + half) / spread) - error.cdf((residual - half) / spread)
    return score, score < MAX_AGE_CHANCE


def _class_issues(given: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cleanlab's normalised margin, and its flags where the networks give the label little chance.

    A network that is often unsure makes cleanlab's estimate of the noise large: what it cannot tell, it calls noise.
    So a flag also asks for a probability of the given label below `MAX_PROBABILITY`.
    """
    score = get_label_quality_scores(given, probabilities, method="normalized_margin", adjust_pred_probs=False)
    unlikely = probabilities[np.arange(len(given)), given] < MAX_PROBABILITY
    if len(np.unique(given)) < probabilities.shape[1]:
        return score, unlikely  # cleanlab wants every class among the labels
    return score, unlikely & find_label_issues(given, probabilities, filter_by="both", min_examples_per_class=0)


def find_issues(faces: pd.DataFrame, scoring: pd.DataFrame) -> pd.DataFrame:
    """Score every known label against predictions of networks that never saw it.

    Parameters
    ----------
    faces : DataFrame
        The faces table.
    scoring : DataFrame
        In the order of `faces`: age_pred (years), p_female, p_ethnicity_0 to 4; age_spread (years) where known.

    Returns
    -------
    DataFrame
        image_id, attribute, given, suggested, score (0 worst to 1 best; not comparable between attributes), is_issue;
        one row per known label of the attributes that the networks learned.
    """
    tables = []
    p_female = scoring["p_female"].to_numpy()
    probabilities = {
        "gender": np.column_stack([1 - p_female, p_female]),
        "ethnicity": scoring[list(P_ETHNICITY)].to_numpy(),
    }
    for attribute in ATTRIBUTES:
        known = is_known(faces[attribute])
        if not known.any() or scoring[PREDICTED[attribute][0]].isna().all():
            continue
        given = faces.loc[known, attribute].to_numpy()
        if attribute == "age":
            suggested = np.round(scoring["age_pred"].to_numpy()[known])
            own_spread = scoring.get("age_spread", pd.Series(np.nan, scoring.index)).to_numpy()[known]
            score, is_issue = _age_issues(given, scoring["age_pred"].to_numpy()[known], own_spread)
        else:
            suggested = probabilities[attribute][known].argmax(axis=1)
            score, is_issue = _class_issues(given.astype(int), probabilities[attribute][known])
        tables.append(
            pd.DataFrame(
                {
                    "image_id": faces.loc[known, "image_id"].to_numpy(),
                    "attribute": attribute,
                    "given": given.astype(float),
                    "suggested": suggested.astype(float),
                    "score": score,
                    "is_issue": is_issue,
                }
            )
        )
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in ISSUE_COLUMNS.items()})
    return pd.concat(tables, ignore_index=True)


def suspicion(issues: pd.DataFrame) -> pd.Series:
    """Rank of each label's score within its attribute, 0 most suspicious to 1: scores of attributes do not compare."""
    return issues.groupby("attribute")["score"].rank(pct=True)


def joint_suspicion(issues: pd.DataFrame) -> pd.DataFrame:
    """Each photograph's doubts over all attributes, photographs doubted in several attributes first.

    A photograph doubted twice may be a wrong row (a failed crop, another person's labels) rather than two slips.

    Returns
    -------
    DataFrame
        image_id, doubted (number of flagged labels), attributes (their names), rank (the lowest of their `suspicion`).
    """
    flagged = issues.assign(rank=suspicion(issues))[issues["is_issue"]].sort_values(["image_id", "attribute"])
    by_image = flagged.groupby("image_id")
    table = pd.DataFrame({"doubted": by_image.size(), "attributes": by_image["attribute"].agg(", ".join)})
    table = table.assign(rank=by_image["rank"].min()).reset_index()
    return table.sort_values(["doubted", "rank", "image_id"], ascending=[False, True, True], ignore_index=True)
