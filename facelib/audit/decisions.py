"""Decisions about single images, proposed by rule and confirmed by a person in a hand-editable CSV.

Nothing is deleted. A row counts as a person's decision once its action is keep, drop or relabel; a proposal waits with
the action empty and is applied by nobody.
"""

import numpy as np
import pandas as pd

from facelib.errors import InvalidDecision
from facelib.schema import ATTRIBUTES, ETHNICITIES, GENDERS, MAX_AGE, UNKNOWN

ACTIONS = ("keep", "drop", "relabel")
COLUMNS = ["image_id", "issue", "action", "value", "reason"]


def propose(label_issues: pd.DataFrame, quality: pd.DataFrame, limit: int = 500) -> pd.DataFrame:
    """Rows for a person to look at: flagged labels, most suspicious first, and flagged images.

    Returns
    -------
    DataFrame
        image_id, issue, action (empty), value (the suggested label), reason.
    """
    flagged = label_issues[label_issues["is_issue"]].sort_values("score").head(limit)
    labels = pd.DataFrame(
        {
            "image_id": flagged["image_id"],
            "issue": "label:" + flagged["attribute"],
            "action": "",
            "value": flagged["suggested"].map("{:g}".format),
            "reason": [
                f"{row.attribute} {row.given:g} given, {row.suggested:g} predicted, score {row.score:.4f}"
                for row in flagged.itertuples()
            ],
        }
    )
    flags = [column for column in quality if column.startswith("is_")]
    # A flag on most images is a property of the source (48 px, grey) and nothing to decide about image by image.
    flags = [flag for flag in flags if quality[flag].mean() <= 0.5]
    poor = quality[quality[flags].any(axis=1)].head(limit)
    images = pd.DataFrame(
        {
            "image_id": poor["image_id"],
            "issue": "quality",
            "action": "",
            "value": "",
            "reason": [
                ", ".join(f.removeprefix("is_") for f in flags if row[f]) for row in poor[flags].to_dict("records")
            ],
        }
    )
    return pd.concat([labels, images], ignore_index=True)[COLUMNS].astype(object)


def merge(proposed: pd.DataFrame, edited: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """New proposals with a person's earlier decisions kept.

    Returns
    -------
    merged : DataFrame
        A person's decisions first, then proposals about anything else.
    stale : DataFrame
        A person's decisions that no current proposal asks for; they stay in `merged` and stay in force.

    Raises
    ------
    InvalidDecision
        If an action is neither empty nor one of `ACTIONS`.
    """
    if edited is None:
        return proposed, proposed.iloc[:0]
    for row in edited[edited["action"].notna() & ~edited["action"].isin(["", *ACTIONS])].itertuples():
        raise InvalidDecision(
            f"decisions.csv has action {row.action!r} for {row.image_id}: allowed are {', '.join(ACTIONS)}, or nothing"
        )
    decided = edited[edited["action"].isin(ACTIONS)].reindex(columns=COLUMNS).fillna("")
    keys = ["image_id", "issue"]
    known = pd.MultiIndex.from_frame(decided[keys])
    asked = pd.MultiIndex.from_frame(proposed[keys])
    merged = pd.concat([decided, proposed[~asked.isin(known)]], ignore_index=True)
    return merged.astype(object), decided[~known.isin(asked)]


def _new_label(decision, attribute: str) -> float:
    """The value of a relabel: years for an age; for a class a code, or -1 for unknown."""
    low, high = {
        "age": (0, MAX_AGE),
        "gender": (UNKNOWN, len(GENDERS) - 1),
        "ethnicity": (UNKNOWN, len(ETHNICITIES) - 1),
    }[attribute]
    try:
        value = float(decision.value)
    except (TypeError, ValueError):
        value = float("nan")
    if not low <= value <= high or (attribute != "age" and value % 1):
        raise InvalidDecision(
            f"decisions.csv relabels {attribute} of {decision.image_id} to {decision.value!r}: "
            f"allowed are {low} to {high}"
        )
    return value


def apply(faces: pd.DataFrame, decisions: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Faces with confirmed relabels, and which of them a person did not drop.

    Returns
    -------
    faces : DataFrame
        A copy with relabelled attributes.
    used : bool array of shape (n,)

    Raises
    ------
    InvalidDecision
        If a label is changed to a value that it cannot have.
    """
    faces = faces.copy()
    row_of = pd.Series(np.arange(len(faces)), index=faces["image_id"])
    used = np.ones(len(faces), bool)
    for decision in decisions[decisions["image_id"].isin(row_of.index)].itertuples():
        row = row_of[decision.image_id]
        attribute = str(decision.issue).removeprefix("label:")
        if decision.action == "drop":
            used[row] = False
        elif decision.action == "relabel" and attribute in ATTRIBUTES:
            faces.loc[faces.index[row], attribute] = _new_label(decision, attribute)
    return faces, used


def training_labels(
    faces: pd.DataFrame, splits: pd.DataFrame, decisions: pd.DataFrame
) -> tuple[pd.DataFrame, np.ndarray]:
    """Labels to train on, and the rows to use: decisions and agreement change the training split alone.

    The other splits keep their labels as given, one row per group, so that what is fitted and chosen on them holds for
    the test set.

    Returns
    -------
    labels : DataFrame
        age, gender, ethnicity.
    used : bool array of shape (n,)
    """
    training = (splits["split"] == "train").to_numpy()
    relabelled, undropped = apply(faces, decisions)
    agreed = agreed_labels(relabelled, splits["group_id"].to_numpy())
    labels = faces[list(ATTRIBUTES)].copy()
    labels.loc[training] = agreed.loc[training]
    return labels, splits["kept"].to_numpy() & (undropped | ~training)


def agreed_labels(faces: pd.DataFrame, group_id: np.ndarray) -> pd.DataFrame:
    """Labels of each group's rows replaced by what the copies agree on.

    Copies that disagree get their median age, and an unknown gender or ethnicity.

    Examples
    --------
    >>> faces = pd.DataFrame({"age": [20.0, 30.0, 5.0], "gender": [0, 1, 1], "ethnicity": [2, 2, 3]})
    >>> agreed_labels(faces, np.array([0, 0, 1])).to_numpy().tolist()
    [[25.0, -1.0, 2.0], [25.0, -1.0, 2.0], [5.0, 1.0, 3.0]]
    """
    labels = faces[list(ATTRIBUTES)].copy()
    grouped = labels.groupby(group_id)
    labels["age"] = grouped["age"].transform("median")
    for attribute in ATTRIBUTES[1:]:
        agree = grouped[attribute].transform("nunique") == 1
        labels[attribute] = labels[attribute].where(agree, UNKNOWN)
    return labels
