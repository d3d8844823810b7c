"""Known label errors planted among given labels, and how well a score finds them again.

Of real photographs the wrong labels are unknown. Planted ones are known, so a ranking can be measured; the errors that
the data came with count as false alarms, which makes precision a lower bound.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve

from facelib.audit.label_issues import find_issues
from facelib.data.pixels import chunks
from facelib.finding import Finding, Findings, listed
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import Bootstrap, Estimate, rate

ALL = "all"  # the group of all faces
SAMPLES_AT_ONCE = 100  # resamples: 16 MB for 20,000 labels


def plant_errors(faces: pd.DataFrame, attributes: Iterable[Attribute], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A copy of the faces with wrong labels (`Attribute.wrong`) in place of a share of the known ones.

    Each attribute on its own, `Attribute.planted_share` of it. Also returns which labels were replaced: bool, a column
    per attribute.
    """
    rng, faces, planted = np.random.default_rng(seed), faces.copy(), {}
    for attribute in attributes:
        known = np.flatnonzero(attribute.is_known(faces[attribute.name]))
        rows = rng.choice(known, round(attribute.planted_share * len(known)), replace=False)
        labels = faces[attribute.name].to_numpy().copy()
        labels[rows] = attribute.wrong(labels[rows], rng)
        faces[attribute.name] = labels
        planted[attribute.name] = np.isin(np.arange(len(faces)), rows)
    return faces, pd.DataFrame(planted, index=faces.index)


def _areas(wrong: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision of low scores (n,) for wrong labels, for each row of weights (samples, n)."""
    order = np.argsort(score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=np.inf))  # of equal scores
    area, precision = np.full((2, len(weights)), np.nan)
    for rows in chunks(len(weights), SAMPLES_AT_ONCE):
        weight = weights[rows][:, order]
        hits = (weight * wrong[order]).cumsum(axis=1)[:, last]
        lower = weight.cumsum(axis=1)[:, last]
        found, misses = np.diff(hits, prepend=0), lower - hits
        above = misses[:, -1:] - misses + np.diff(misses, prepend=0) / 2  # right labels that score higher, ties by half
        with np.errstate(invalid="ignore", divide="ignore"):  # nan where a resample lacks one kind
            area[rows] = (found * above).sum(axis=1) / (hits[:, -1] * misses[:, -1])
            precision[rows] = np.nansum(found * hits / lower, axis=1) / hits[:, -1]
    return area, precision


def score_ranking(
    score: np.ndarray, wrong: np.ndarray, bootstrap: Bootstrap, groups: np.ndarray | None = None
) -> dict[str, Estimate]:
    """How well low scores (n,), 0 worst to 1 best, point at wrong labels (n,); `groups` are resampled together.

    Returns
    -------
    dict of Estimate
        `auroc`: the chance that a wrong label scores below a right one; `average_precision`; `precision_at_k`: share of
        wrong labels among the k lowest scores, k being the number of wrong ones.
    """
    k, n = int(wrong.sum()), len(score)
    lowest = np.argsort(score, kind="stable")[:k]
    area, precision = _areas(wrong, score, bootstrap.weights(np.arange(n) if groups is None else groups))
    return {
        "auroc": bootstrap.of_draws(area, n),
        "average_precision": bootstrap.of_draws(precision, n),
        "precision_at_k": rate(int(wrong[lowest].sum()), k),
    }


def ranking_curve(score: np.ndarray, wrong: np.ndarray, points: int = 200) -> pd.DataFrame:
    """Precision and recall at up to `points` cuts of a ranking, lowest scores first."""
    precision, recall, _ = precision_recall_curve(wrong, -score)
    cuts = np.unique(np.linspace(0, len(recall) - 2, points).astype(int))  # the last point has no threshold
    return pd.DataFrame({"recall": recall[cuts], "precision": precision[cuts]})


def measure_ranking(
    issues: pd.DataFrame, faces: pd.DataFrame, planted: pd.DataFrame, group_id: np.ndarray, bootstrap: Bootstrap
) -> tuple[dict[str, Estimate], pd.DataFrame]:
    """`score_ranking` and `ranking_curve` of each attribute.

    `issues` is from `label_issues.find_issues` on `faces` with planted errors; `group_id` is by row of `faces`.

    Returns
    -------
    results : dict of Estimate
        By `<attribute>.<measure>`.
    curves : DataFrame
        attribute, recall, precision.
    """
    row_of = pd.Series(np.arange(len(faces)), index=faces["image_id"])
    results, curves = {}, [pd.DataFrame(columns=["attribute", "recall", "precision"])]
    for attribute, part in issues.groupby("attribute", sort=False):
        rows, score = row_of.loc[part["image_id"]].to_numpy(), part["score"].to_numpy()
        wrong = planted[attribute].to_numpy()[rows]
        measured = score_ranking(score, wrong, bootstrap, group_id[rows])
        results |= {f"{attribute}.{name}": value for name, value in measured.items()}
        curves.append(ranking_curve(score, wrong).assign(attribute=attribute))
    return results, pd.concat(curves, ignore_index=True)


def flag_rates(
    issues: pd.DataFrame, faces: pd.DataFrame, planted: pd.DataFrame, attributes: Iterable[Attribute]
) -> pd.DataFrame:
    """How many planted errors are flagged, and how many other labels are, by attribute and by group of years.

    Groups are those of the given ages, planted errors included, since the true ones are unknown elsewhere. `issues` is
    from `label_issues.find_issues` on `faces` with planted errors.

    Returns
    -------
    DataFrame
        attribute, group (`ALL`, then the groups of the first attribute in years), measure (recall | false flags),
        value, low, high, n.
    """
    attributes = tuple(attributes)
    years = next((a for a in attributes if not isinstance(a, ClassAttribute)), None)
    group = None if years is None else years.groups_of(faces).astype(str).to_numpy()
    row_of, rows = pd.Series(np.arange(len(faces)), index=faces["image_id"]), []
    for attribute, part in issues.groupby("attribute", sort=False):
        place = row_of.loc[part["image_id"]].to_numpy()
        wrong, flagged = planted[attribute].to_numpy()[place], part["is_issue"].to_numpy()
        for name in (ALL, *(() if years is None else years.group_names)):
            inside = np.ones(len(part), bool) if name == ALL else group[place] == name
            for measure, of in (("recall", inside & wrong), ("false flags", inside & ~wrong)):
                share = rate(int(flagged[of].sum()), int(of.sum()))
                rows.append((attribute, name, measure, share.value, share.low, share.high, share.n))
    return pd.DataFrame(rows, columns=["attribute", "group", "measure", "value", "low", "high", "n"])


def planted_flag_rates(
    faces: pd.DataFrame, splits: pd.DataFrame, scores: pd.DataFrame, attributes: Iterable[Attribute], seed: int
) -> pd.DataFrame:
    """`flag_rates` of errors planted outside the test split of a run, among labels that `scores` were predicted for.

    Faces, splits and scores, the out-of-fold predictions, have the same rows.
    """
    attributes, outside = tuple(attributes), (splits["split"] != "test").to_numpy()
    spoilt, planted = plant_errors(faces[outside], attributes, seed)
    return flag_rates(find_issues(spoilt, scores[outside], attributes), spoilt, planted, attributes)


def planted_findings(results: dict[str, Estimate]) -> Findings:
    """How many planted errors the scores rank lowest, by attribute; none where nothing was scored."""
    lowest = {key.split(".")[0]: value for key, value in results.items() if key.endswith("precision_at_k")}
    if not lowest:
        return Findings()
    shares = [f"{value.text} of {value.n:,} {name} labels" for name, value in lowest.items() if value.n]
    text = "No error was planted."
    if shares:
        text = "Of the labels with the lowest scores, as many as errors were planted, planted errors are "
        text += f"{listed(shares)}. Errors that came with the data count as false alarms."
    n = sum(value.n for value in lowest.values())
    hits = round(sum(value.value * value.n for value in lowest.values() if value.n))
    return Findings([Finding("labels.planted", text, rate(hits, n))])
