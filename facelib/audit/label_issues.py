"""Labels that models which never saw them find implausible, ranked for review and never deleted."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy import ndimage, stats

from facelib.finding import Finding, Findings, listed
from facelib.schema import Attribute, ClassAttribute, YearsAttribute
from facelib.statistics import rate

MAX_PROBABILITY = 0.05  # set by hand: a class to which the models give more chance is not an issue
AGE_WINDOW = 5.0  # years, the given age in their middle
MAX_AGE_CHANCE = 0.005  # set by hand: ages with more chance to lie in that window are not issues
ISSUE_COLUMNS = {
    "image_id": object, "attribute": object, "given": float, "suggested": float, "score": float, "is_issue": bool,
}  # fmt: skip
MIN_SPREAD = 0.5  # years
MIN_FACTOR = 0.1  # of the spread that models predict
SPREAD_ROWS = 0.1  # share of rows, neighbours by predicted age, that the spread is smoothed over


def age_spread(age_pred: np.ndarray, residual: np.ndarray, least: float = MIN_SPREAD) -> np.ndarray:
    """Standard deviation of residuals as it changes with the predicted age: float (n,), years, at least `least`.

    1.4826 times the running median absolute deviation over neighbours, a normal-consistent scale that a few wrong
    labels do not inflate.
    """
    order = np.argsort(age_pred, kind="stable")
    window = max(25, int(len(order) * SPREAD_ROWS)) | 1
    running = ndimage.median_filter(np.abs(residual[order]), size=min(window, len(order)), mode="nearest")
    spread = np.empty(len(order))
    spread[order] = np.maximum(1.4826 * running, least)
    return spread


def _years_issues(attribute: YearsAttribute, given: np.ndarray, predictions: pd.DataFrame) -> tuple:
    """The chance of an age within two and a half years of the given one, by the prediction.

    A residual in units of its spread would rank a five-year slip of a toddler before a twenty-year one of a pensioner.
    A chance weighs both: how far out the label lies, and how much the models could know. The spread is the one that
    they predict for the face, times the ratio of true to predicted spread at its age; a missing one counts as 1.
    """
    predicted, own_spread = predictions[list(attribute.columns[:2])].to_numpy(float).T
    residual = given - predicted
    residual = np.abs(residual - np.median(residual))
    own_spread = np.where(np.isfinite(own_spread), np.maximum(own_spread, MIN_SPREAD), 1.0)
    spread, half = own_spread * age_spread(predicted, residual / own_spread, MIN_FACTOR), AGE_WINDOW / 2
    # Student's t, set by hand: errors have heavier tails than a normal distribution.
    error = stats.t(df=4)
    score = error.cdf((residual + half) / spread) - error.cdf((residual - half) / spread)
    return np.round(predicted), score, score < MAX_AGE_CHANCE


def _class_issues(attribute: ClassAttribute, given: np.ndarray, predictions: pd.DataFrame) -> tuple:
    """Cleanlab's normalised margin, and its flags where the models give the label little chance.

    A network that is often unsure inflates cleanlab's estimate of the noise: what it cannot decide, it calls noise. So
    a flag also asks for a probability of the given label below `MAX_PROBABILITY`.
    """
    given, probabilities = given.astype(int), attribute.probabilities(predictions)
    score = get_label_quality_scores(given, probabilities, method="normalized_margin", adjust_pred_probs=False)
    is_issue = probabilities[np.arange(len(given)), given] < MAX_PROBABILITY
    if len(np.unique(given)) == probabilities.shape[1]:  # cleanlab wants every class among the labels
        is_issue &= find_label_issues(given, probabilities, filter_by="both", min_examples_per_class=0)
    return probabilities.argmax(axis=1), score, is_issue


# Suggested label, score and flag of known labels, by kind of attribute.
SCORING = {"years": _years_issues, "classes": _class_issues}


def find_issues(faces: pd.DataFrame, predictions: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Score every known label against predictions of models that never saw it, in the order of `faces`.

    Attributes without predictions are left out; a predicted spread of ages may be missing.

    Returns
    -------
    DataFrame
        image_id, attribute, given, suggested, score (0 worst to 1 best; not comparable between attributes), is_issue;
        one row per known label.
    """
    tables = []
    for attribute in attributes:
        known = attribute.is_known(faces[attribute.name])
        predicted = predictions.reindex(columns=list(attribute.columns))
        if not known.any() or predicted[attribute.columns[0]].isna().all():
            continue
        given = faces.loc[known, attribute.name].to_numpy(float)
        suggested, score, is_issue = SCORING[attribute.kind](attribute, given, predicted[known])
        columns = (faces.loc[known, "image_id"].to_numpy(), attribute.name, given, suggested, score, is_issue)
        tables.append(pd.DataFrame(dict(zip(ISSUE_COLUMNS, columns, strict=True))).astype({"suggested": float}))
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in ISSUE_COLUMNS.items()})
    return pd.concat(tables, ignore_index=True)


def suspicion(issues: pd.DataFrame) -> pd.Series:
    """Rank of each label's score within its attribute, 0 most suspicious to 1: scores of attributes do not compare."""
    return issues.groupby("attribute")["score"].rank(pct=True)


def joint_suspicion(issues: pd.DataFrame) -> pd.DataFrame:
    """Each photograph's doubts over all attributes, photographs doubted in several attributes first.

    Columns: image_id, doubted (number of flagged labels), attributes (their names), rank (the lowest `suspicion`).
    """
    flagged = issues.assign(rank=suspicion(issues))[issues["is_issue"]].sort_values(["image_id", "attribute"])
    by_image = flagged.groupby("image_id")
    table = pd.DataFrame({"doubted": by_image.size(), "attributes": by_image["attribute"].agg(", ".join)})
    table = table.assign(rank=by_image["rank"].min()).reset_index()
    return table.sort_values(["doubted", "rank", "image_id"], ascending=[False, True, True], ignore_index=True)


def most_doubted(issues: pd.DataFrame, photographs: int = 14) -> pd.DataFrame:
    """One flagged label of each of the most doubted photographs, as rows of `issues`."""
    doubted = issues[issues["is_issue"]].merge(joint_suspicion(issues), on="image_id")
    doubted = doubted.sort_values(["doubted", "rank"], ascending=[False, True])
    return doubted.drop_duplicates("image_id").head(photographs)


def doubted_findings(issues: pd.DataFrame) -> Findings:
    """How many labels of each attribute are doubted; none where nothing was scored."""
    if not len(issues):
        return Findings()
    parts = [
        f"{int(part['is_issue'].sum()):,} of {len(part):,} {name} labels"
        for name, part in issues.groupby("attribute", sort=False)
    ]
    several = int((joint_suspicion(issues)["doubted"] > 1).sum())
    text = f"{listed(parts)} are flagged by out-of-fold models. "
    text += f"{several:,} {'image has' if several == 1 else 'images have'} two flagged labels or more."
    return Findings([Finding("labels.doubted", text, rate(int(issues["is_issue"].sum()), len(issues)))])
