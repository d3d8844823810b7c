"""Decisions about single images, proposed by rule and confirmed by a person in a hand-editable CSV.

Nothing is deleted. A row counts as a person's decision once its action is keep, drop or relabel; a proposal waits with
the action empty and is applied by nobody.
"""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit.label_issues import joint_suspicion, suspicion
from facelib.audit.quality import flag_names
from facelib.errors import InvalidDecision
from facelib.runs import RunFolder, write_csv
from facelib.schema import ATTRIBUTES, UNKNOWN, is_known, label_name, parse_label
from facelib.spreadsheets import unguard

ACTIONS = ("keep", "drop", "relabel")
COLUMNS = ["image_id", "issue", "action", "value", "reason"]
KEYS = ["image_id", "issue"]
QUALITY = "quality"
ISSUES = (*(f"label:{attribute}" for attribute in ATTRIBUTES), QUALITY)
LISTED = 4  # copies named in a reason
AGE_GAP = 10  # years between the age labels of copies from which one is proposed for a new label


def _proposals(rows: pd.DataFrame, value, reason) -> pd.DataFrame:
    """Rows (image_id, attribute) as proposals to relabel."""
    issue = "label:" + rows["attribute"]
    table = pd.DataFrame({"image_id": rows["image_id"], "issue": issue, "action": "", "value": value, "reason": reason})
    return table.astype(object)


def _of_copies(faces: pd.DataFrame, group_id: np.ndarray, issues: pd.DataFrame | None) -> pd.DataFrame:
    """For copies that contradict each other: the label of the copy whose label the networks find most plausible.

    Without networks every copy is proposed, with no label: somebody has to look.
    """
    labels = faces[["image_id", *ATTRIBUTES]].astype({name: float for name in ATTRIBUTES}).assign(group=group_id)
    members = labels.melt(["image_id", "group"], list(ATTRIBUTES), "attribute", "given")
    members = members[is_known(members["given"])]
    if issues is not None:
        members = members.merge(issues[["image_id", "attribute", "score"]], how="left")
        members = members.sort_values("score", ascending=False, kind="stable")
    by_group = members.groupby(["group", "attribute"])
    members = members.assign(best=by_group["given"].transform("first"), copy=by_group["image_id"].transform("first"))
    members["spread"] = by_group["given"].transform("max") - by_group["given"].transform("min")
    gap = members["spread"] if issues is None else (members["given"] - members["best"]).abs()
    wrong = members[gap >= np.where(members["attribute"] == "age", AGE_GAP, 1)].iloc[::-1]
    own = [label_name(row.attribute, row.given) for row in wrong.itertuples()]
    best = [label_name(row.attribute, row.best) for row in wrong.itertuples()]
    if issues is None:
        named = [f"{name} ({image})" for name, image in zip(own, wrong["image_id"], strict=True)]
        few = wrong.assign(named=named).groupby(["group", "attribute"]).tail(LISTED).iloc[::-1]
        copies = few.groupby(["group", "attribute"])["named"].agg(", ".join).rename("copies")
        others = wrong.join(copies, on=["group", "attribute"])["copies"]
        return _proposals(wrong, "", [f"labelled {a}; copies: {b}" for a, b in zip(own, others, strict=True)])
    reasons = [
        f"labelled {name} (score {row.score:.4f}), and its copy {row.copy} {other}"
        for row, name, other in zip(wrong.itertuples(), own, best, strict=True)
    ]
    return _proposals(wrong, best, reasons)


def _of_labels(issues: pd.DataFrame) -> pd.DataFrame:
    """For doubted labels: the photographs doubted in most attributes first, then the most doubted ones."""
    doubted = issues.assign(own=suspicion(issues))[issues["is_issue"]].merge(joint_suspicion(issues), on="image_id")
    doubted = doubted.sort_values(["doubted", "rank", "image_id", "own"], ascending=[False, True, True, True])
    values = [label_name(row.attribute, row.suggested) for row in doubted.itertuples()]
    reasons = [
        f"{label_name(row.attribute, row.given)} given, {value} predicted (score {row.score:.4f})"
        + (f"; {row.doubted} labels of this image are doubted" if row.doubted > 1 else "")
        for row, value in zip(doubted.itertuples(), values, strict=True)
    ]
    return _proposals(doubted, values, reasons)


def _of_quality(quality: pd.DataFrame) -> pd.DataFrame:
    """For poor images: the ones with most flags first."""
    # A flag on most images is a property of the source (48 px, grey) and nothing to decide about image by image.
    names = {flag: name for flag, name in flag_names(quality).items() if quality[flag].mean() <= 0.5}
    flags = list(names)
    poor = quality.assign(flagged=quality[flags].sum(axis=1)).query("flagged > 0")
    poor = poor.sort_values("flagged", ascending=False, kind="stable")
    reasons = [", ".join(name for flag, name in names.items() if row[flag]) for row in poor[flags].to_dict("records")]
    table = pd.DataFrame({"image_id": poor["image_id"], "issue": QUALITY, "action": "", "value": "", "reason": reasons})
    return table.astype(object)


def propose(
    faces: pd.DataFrame, group_id: np.ndarray, quality: pd.DataFrame, issues: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Rows for a person to look at: contradicting copies, then doubted labels, then poor images.

    Parameters
    ----------
    faces : DataFrame
        The faces table.
    group_id : int array of shape (n,)
        Copies of one photograph.
    quality : DataFrame
        From `quality.score_quality`.
    issues : DataFrame, optional
        From `label_issues.find_issues`.

    Returns
    -------
    DataFrame
        image_id, issue, action (empty), value (the suggested label), reason, sort (copies | labels | quality); one row
        per image and issue.
    """
    parts = [_of_copies(faces, group_id, issues).assign(sort="copies"), _of_quality(quality).assign(sort="quality")]
    if issues is not None:
        parts.insert(1, _of_labels(issues).assign(sort="labels"))
    table = pd.concat(parts, ignore_index=True)
    return table.drop_duplicates(KEYS, ignore_index=True)


def _check(row: dict, known: set[str]) -> None:
    """Refuse a decision that cannot be carried out; a ValueError says why."""
    if row["action"] not in ACTIONS:
        raise ValueError(f"has action {row['action']!r}: allowed are {', '.join(ACTIONS)}, or nothing")
    if row["image_id"] not in known:
        raise ValueError(f"decides about {row['image_id']!r}, which is not among the faces: remove the line")
    if row["issue"] not in ISSUES:
        raise ValueError(f"has issue {row['issue']!r}: allowed are {', '.join(ISSUES)}")
    if row["action"] == "relabel":
        if row["issue"] == QUALITY:
            raise ValueError("relabels for quality: name the label, for example label:age")
        new_label(row["issue"], row["value"])


def new_label(issue: str, value: str) -> float:
    """The label that a relabel sets: years for an age, a class by code or name, `unknown` for none.

    Raises
    ------
    ValueError
        If the label cannot have that value.
    """
    attribute = issue.removeprefix("label:")
    if value.strip().lower() in ("unknown", str(UNKNOWN)):
        return float("nan") if attribute == "age" else UNKNOWN
    if not value.strip():
        raise ValueError(f"relabels {attribute} and gives no value")
    return parse_label(attribute, value)


def read(path: Path, faces: pd.DataFrame) -> pd.DataFrame:
    """The decisions file: proposals and a person's decisions, as text.

    Parameters
    ----------
    path : Path
        Need not exist.
    faces : DataFrame
        The faces table, whose image_ids decisions may be about.

    Returns
    -------
    DataFrame
        image_id, issue, action, value, reason.

    Raises
    ------
    InvalidDecision
        If the file is no such table, or a line of it has an action, an image, an issue or a value that does not exist
        or contradicts an earlier line. The message has the line's number.
    """
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS, dtype=object)
    rows, decided, known = [], {}, set(faces["image_id"])
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:  # spreadsheets write a byte order mark
            reader = csv.DictReader(opened)
            missing = {*KEYS, "action"} - set(reader.fieldnames or [])
            if missing:
                raise InvalidDecision(f"{path} has no column {', '.join(sorted(missing))}")
            for record in reader:
                row = {name: unguard((record.get(name) or "").strip()) for name in COLUMNS}
                row["image_id"], row["action"] = unguard(record["image_id"] or ""), row["action"].lower()
                rows.append(row)
                if row["action"]:
                    _check(row, known)
                    key = row["image_id"], row["issue"]
                    if decided.setdefault(key, row) is not row:
                        raise ValueError(f"decides again about {row['image_id']!r} and {row['issue']}")
    except UnicodeDecodeError:
        raise InvalidDecision(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from None
    except (ValueError, csv.Error) as error:
        raise InvalidDecision(f"line {reader.line_num} of {path} {error}") from error
    except OSError as error:
        raise InvalidDecision(f"{path} cannot be read ({error.strerror}): mend that, or take the file away") from error
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def write(table: pd.DataFrame, path: Path) -> None:
    """Save decisions, whole or not at all."""
    write_csv(table[COLUMNS], path)


def merge(proposed: pd.DataFrame, edited: pd.DataFrame, limit: int = 500) -> tuple[pd.DataFrame, pd.DataFrame]:
    """New proposals with a person's earlier decisions kept.

    Parameters
    ----------
    proposed : DataFrame
        From `propose`.
    edited : DataFrame
        From `read`.
    limit : int
        Undecided proposals of each sort, at most: the next ones come once these are decided.

    Returns
    -------
    merged : DataFrame
        A person's decisions first, then proposals about anything else.
    stale : DataFrame
        A person's decisions that no current proposal asks for; they stay in `merged` and stay in force.
    """
    decided = edited[edited["action"] != ""]
    known, asked = pd.MultiIndex.from_frame(decided[KEYS]), pd.MultiIndex.from_frame(proposed[KEYS])
    waiting = proposed[~asked.isin(known)].groupby("sort").head(limit)
    merged = pd.concat([decided, waiting[COLUMNS]], ignore_index=True)
    return merged.astype(object), decided[~known.isin(asked)]


def apply(faces: pd.DataFrame, decisions: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Faces with confirmed relabels, and which of them a person did not drop.

    Parameters
    ----------
    faces : DataFrame
        The faces table.
    decisions : DataFrame
        From `read`.

    Returns
    -------
    faces : DataFrame
        A copy with relabelled attributes.
    used : bool array of shape (n,)
    """
    faces = faces.copy()
    row_of = pd.Series(np.arange(len(faces)), index=faces["image_id"])
    used = np.ones(len(faces), bool)
    for decision in decisions[decisions["action"].isin(["drop", "relabel"])].itertuples():
        row = row_of[decision.image_id]
        if decision.action == "drop":
            used[row] = False
        else:
            attribute = decision.issue.removeprefix("label:")
            faces.loc[faces.index[row], attribute] = new_label(decision.issue, decision.value)
    return faces, used


def training_labels(
    faces: pd.DataFrame, splits: pd.DataFrame, decisions: pd.DataFrame
) -> tuple[pd.DataFrame, np.ndarray]:
    """Labels to train on, and the rows to use: decisions and agreement change the training split alone.

    A dropped copy has no say in what its group agrees on, and another one stands for the group where it did. The other
    splits keep their labels as given, one row per group, so that what is fitted and chosen on them holds for the test
    set.

    Returns
    -------
    labels : DataFrame
        age, gender, ethnicity.
    used : bool array of shape (n,)
    """
    training = (splits["split"] == "train").to_numpy()
    relabelled, undropped = apply(faces, decisions)
    group_id, kept = splits["group_id"].to_numpy(), splits["kept"].to_numpy()
    voting = training & undropped
    labels = faces[list(ATTRIBUTES)].copy()
    labels[voting] = agreed_labels(relabelled[voting], group_id[voting])
    # The kept copy where it was not dropped, else the first of the others.
    heads = pd.DataFrame({"group": group_id, "row": np.arange(len(faces)), "second": ~kept})[voting]
    heads = heads.sort_values(["group", "second", "row"]).drop_duplicates("group")["row"]
    used = kept & ~training
    used[heads] = True
    return labels, used


def load_training(run: RunFolder) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """A run's labels to train on, and the rows to train, choose and calibrate with.

    Returns
    -------
    labels : DataFrame
        From `training_labels`.
    rows : dict of int arrays
        train, validation and calibration.
    """
    faces, splits = run.load_table("faces"), run.load_table("splits")
    labels, used = training_labels(faces, splits, read(run.require("tables/decisions.csv"), faces))
    names = ("train", "validation", "calibration")
    return labels, {name: np.flatnonzero((splits["split"] == name) & used) for name in names}


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
