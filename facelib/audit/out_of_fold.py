"""Out-of-fold predictions of labels from face features: every row by models that saw neither it nor its person.

The face network never saw a label, so that linear models alone have to be cross-fitted. An age is a class here, one of
28 bins that widen from one year to 15 %: on UTKFace this ranks planted errors better than ridge regression (AUROC 0.958
against 0.920), and its error is 5.0 years against 7.2 (`python -m studies.label_errors`).
"""

import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facelib.data.splits import fold_of_groups, stratum
from facelib.schema import MAX_AGE, Attribute, ClassAttribute, YearsAttribute, labelled

FOLDS = 5
STRENGTH = 0.02  # inverse of the penalty; AUROC differs by 0.002 from 0.01 to 0.3
STEPS = 50  # of the solver; AUROC is the same after 30
BIN_GROWTH = 0.15  # width of an age bin, as a share of the age, at least one year


def age_edges() -> np.ndarray:
    """Ends of the age bins in years, from -0.5 on: one more than there are bins.

    Examples
    --------
    >>> age_edges()[:3].tolist(), len(age_edges())
    ([-0.5, 0.5, 1.5], 29)
    """
    edges = [0.0]
    while edges[-1] <= MAX_AGE:
        edges.append(edges[-1] + max(1.0, BIN_GROWTH * edges[-1]))
    return np.array(edges) - 0.5


def _bins(attribute: YearsAttribute, labels: np.ndarray) -> np.ndarray:
    return np.searchsorted(age_edges(), labels, side="right") - 1


def _years(attribute: YearsAttribute, probabilities: np.ndarray) -> list[np.ndarray]:
    """Median age and half the width of the middle 68 % in years, each bin's probability spread evenly over it."""
    share = np.pad(probabilities.cumsum(axis=1), ((0, 0), (1, 0)))
    edges = age_edges()
    low, middle, high = (np.array([np.interp(part, row, edges) for row in share]) for part in (0.16, 0.5, 0.84))
    unknown = np.full(len(middle), np.nan)
    return [np.maximum(middle, 0), (high - low) / 2, unknown, unknown]


def _codes(attribute: ClassAttribute, labels: np.ndarray) -> np.ndarray:
    return labels.astype(int)


def _shares(attribute: ClassAttribute, probabilities: np.ndarray) -> list[np.ndarray]:
    return list(probabilities.T)


# By kind of attribute: classes of labels, the number of classes, and the `columns` from their probabilities.
MODELS = {
    "years": (_bins, lambda attribute: len(age_edges()) - 1, _years),
    "classes": (_codes, lambda attribute: len(attribute.classes), _shares),
}


def score_out_of_fold(
    features: np.ndarray, faces: pd.DataFrame, splits: pd.DataFrame, attributes: tuple[Attribute, ...], seed: int
) -> pd.DataFrame:
    """Predict every label by logistic regression that was fitted without the row's person and all copies.

    Persons are assigned to `FOLDS` folds. Each row is predicted by the model of the other folds, trained on one
    representative of each photograph outside the test split.

    Parameters
    ----------
    features : float array (n, width)
        See `facelib.embedding.features.Embedding`.
    faces : DataFrame
        With the labels to learn.
    splits : DataFrame
        From `facelib.data.splits.split_faces`.
    attributes : tuple of Attribute
    seed : int
        Of the folds.

    Returns
    -------
    DataFrame
        `columns` of the attributes, nan where a model has no label to learn; fold. Rows as in `faces`.
    """
    features, strata = np.asarray(features, np.float32), stratum(faces, attributes).to_numpy()
    fold = fold_of_groups(splits["person_id"].to_numpy(), strata, FOLDS, seed)
    learns = (splits["representative"] & (splits["split"] != "test")).to_numpy()
    table = {}
    for attribute in labelled(faces[learns], attributes):
        classes_of, number_of, columns_of = MODELS[attribute.kind]
        known = learns & attribute.is_known(faces[attribute.name])
        y_true = np.where(known, classes_of(attribute, faces[attribute.name].to_numpy(float)), -1)
        probabilities = np.full((len(faces), number_of(attribute)), np.nan)
        for number in range(FOLDS):
            rows, scored = known & (fold != number), np.flatnonzero(fold == number)
            probabilities[scored] = _predicted(features, y_true, rows, scored, number_of(attribute))
        table |= dict(zip(attribute.columns, columns_of(attribute, probabilities), strict=True))
    columns = [column for attribute in attributes for column in attribute.columns]
    return pd.DataFrame(table, index=range(len(faces))).reindex(columns=columns).assign(fold=fold)


def _predicted(features: np.ndarray, y_true: np.ndarray, rows: np.ndarray, scored: np.ndarray, classes: int):
    """Probability of each class (len(scored), classes) by a model of some rows; nan where they have no label."""
    probabilities, present = np.zeros((len(scored), classes)), np.unique(y_true[rows])
    if len(present) < 2:  # nothing to tell apart
        probabilities[:, present] = 1
        return probabilities if len(present) else np.full_like(probabilities, np.nan)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=STEPS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose
        model.fit(features[rows], y_true[rows])
    probabilities[:, present] = model.predict_proba(features[scored])
    return probabilities
