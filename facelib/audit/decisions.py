"""Decisions about single images, proposed by rule and confirmed by a person in a hand-editable CSV.

Nothing is deleted. A row is a person's decision once its action is keep, drop or relabel; a proposal has an empty
action and changes nothing.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit.label_issues import joint_suspicion, suspicion
from facelib.audit.quality import flag_names
from facelib.errors import InvalidDecision
from facelib.finding import Finding
from facelib.formats import write_csv
from facelib.runs import RunFolder
from facelib.schema import UNKNOWN, Attribute, label_columns
from facelib.spreadsheets import unguard
from facelib.statistics import count

ACTIONS = ("keep", "drop", "relabel")
COLUMNS = ["image_id", "issue", "action", "value", "reason"]
KEYS = ["image_id", "issue"]
QUALITY, COPY = "quality", "copy"  # issues that are no labels
LABEL = "label:"  # how the issue of an attribute's label begins
LISTED = 4  # copies named in a reason
UNSURE = 0.15  # distance of two copies from which on a person is asked whether they are
GAPS = {"years": 10, "classes": 1}  # between labels of copies, from which on one is proposed for a new label


def _proposals(rows: pd.DataFrame, value, reason) -> pd.DataFrame:
    """Rows (image_id, attribute) as proposals to relabel."""
    issue = LABEL + rows["attribute"]
    table = pd.DataFrame({"image_id": rows["image_id"], "issue": issue, "action": "", "value": value, "reason": reason})
    return table.astype(object)


def _known(faces: pd.DataFrame, group_id: np.ndarray, attribute: Attribute) -> pd.DataFrame:
    """The known labels of an attribute: image_id, group, attribute, given (a band's middle), text, gap (see `GAPS`)."""
    first, last = attribute.ends(faces)
    table = pd.DataFrame({"image_id": faces["image_id"], "group": group_id, "attribute": attribute.name})
    table = table.assign(given=(first + last) / 2, text=attribute.label_names(faces), gap=GAPS[attribute.kind])
    return table[attribute.has_label(faces)]


def _of_copies(
    faces: pd.DataFrame, group_id: np.ndarray, attributes: tuple[Attribute, ...], issues: pd.DataFrame | None
) -> pd.DataFrame:
    """For copies that contradict each other: the label of the copy whose label the networks find most plausible.

    Without networks every copy is proposed, with no label: a person has to look.
    """
    members = pd.concat([_known(faces, group_id, attribute) for attribute in attributes], ignore_index=True)
    if issues is not None:
        members = members.merge(issues[["image_id", "attribute", "score"]], how="left")
        members = members.sort_values("score", ascending=False, kind="stable")
    by_group = members.groupby(["group", "attribute"])
    best = by_group[["given", "text", "image_id"]].transform("first").add_prefix("best_")
    spread = by_group["given"].transform("max") - by_group["given"].transform("min")
    gap = spread if issues is None else (members["given"] - best["best_given"]).abs()
    wrong = members.join(best)[gap >= members["gap"]].iloc[::-1]
    if issues is None:
        few = wrong.assign(named=wrong["text"] + " (" + wrong["image_id"] + ")").groupby(["group", "attribute"])
        copies = few.tail(LISTED).iloc[::-1].groupby(["group", "attribute"])["named"].agg(", ".join).rename("copies")
        copies = wrong.join(copies, on=["group", "attribute"])["copies"]
        return _proposals(wrong, "", "labelled " + wrong["text"] + "; copies: " + copies)
    reasons = [
        f"labelled {row.text} (score {row.score:.4f}), and its copy {row.best_image_id} {row.best_text}"
        for row in wrong.itertuples()
    ]
    return _proposals(wrong, wrong["best_text"], reasons)


def _of_pairs(copies: pd.DataFrame) -> pd.DataFrame:
    """For copies that share less detail than most: the least alike first, each pair once."""
    unsure = copies[copies["distance"] >= UNSURE].sort_values(["distance", "image_id"], ascending=[False, True])
    unsure = unsure[~unsure[["image_id", "copy"]].apply(frozenset, axis=1).duplicated()]
    reasons = [f"{row.kind} copy of {row.copy}, distance {row.distance:.2f}" for row in unsure.itertuples()]
    table = pd.DataFrame({"image_id": unsure["image_id"], "issue": COPY, "action": "", "value": "", "reason": reasons})
    return table.astype(object)


def confirmed(pairs: pd.DataFrame, faces: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    """The pairs of `duplicates.find_copies` without those of images that a person keeps as no copy of another."""
    rejected = decided.loc[(decided["issue"] == COPY) & (decided["action"] == "keep"), "image_id"]
    rows = np.flatnonzero(faces["image_id"].isin(rejected))
    dismissed = (pairs["kind"] != "exact") & (pairs["first"].isin(rows) | pairs["second"].isin(rows))
    return pairs[~dismissed].reset_index(drop=True)


def _of_labels(issues: pd.DataFrame, attributes: tuple[Attribute, ...]) -> pd.DataFrame:
    """For doubted labels: the photographs doubted in most attributes first, then the most doubted ones."""
    doubted = issues.assign(own=suspicion(issues))[issues["is_issue"]].merge(joint_suspicion(issues), on="image_id")
    doubted = doubted.sort_values(["doubted", "rank", "image_id", "own"], ascending=[False, True, True, True])
    label_name = {attribute.name: attribute.label_name for attribute in attributes}
    values = [label_name[row.attribute](row.suggested) for row in doubted.itertuples()]
    reasons = [
        f"{label_name[row.attribute](row.given)} given, {value} predicted (score {row.score:.4f})"
        + (f"; {row.doubted} labels of this image are flagged" if row.doubted > 1 else "")
        for row, value in zip(doubted.itertuples(), values, strict=True)
    ]
    return _proposals(doubted, values, reasons)


def _of_quality(quality: pd.DataFrame) -> pd.DataFrame:
    """For poor images: the ones with most flags first."""
    # A flag on most images is a property of the source (48 px, grey), not to be decided image by image.
    names = {flag: name for flag, name in flag_names(quality).items() if quality[flag].mean() <= 0.5}
    flags = list(names)
    poor = quality.assign(flagged=quality[flags].sum(axis=1)).query("flagged > 0")
    poor = poor.sort_values("flagged", ascending=False, kind="stable")
    reasons = [", ".join(name for flag, name in names.items() if row[flag]) for row in poor[flags].to_dict("records")]
    table = pd.DataFrame({"image_id": poor["image_id"], "issue": QUALITY, "action": "", "value": "", "reason": reasons})
    return table.astype(object)


def propose(
    faces: pd.DataFrame,
    group_id: np.ndarray,
    attributes: tuple[Attribute, ...],
    quality: pd.DataFrame,
    issues: pd.DataFrame | None = None,
    copies: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Rows for a person to look at: contradicting copies, doubted labels, poor images, then copies that may be none.

    `quality` is from `quality.score_quality`, `issues` from `label_issues.find_issues`, `copies` from
    `duplicates.duplicates_table`. Columns: image_id, issue, action (empty), value (the suggested label), reason, sort
    (copies | labels | quality | pairs); one row per image and issue.
    """
    judged = tuple(attribute for attribute in attributes if attribute.exact)
    ways = (judged, issues), (tuple(attribute for attribute in attributes if not attribute.exact), None)  # no scores
    parts = [_of_copies(faces, group_id, some, by).assign(sort="copies") for some, by in ways if some]
    if issues is not None:
        parts.append(_of_labels(issues, attributes).assign(sort="labels"))
    parts.append(_of_quality(quality).assign(sort="quality"))
    if copies is not None:
        parts.append(_of_pairs(copies).assign(sort="pairs"))
    return pd.concat(parts, ignore_index=True).drop_duplicates(KEYS, ignore_index=True)


def _check(row: dict, known: set[str], attributes: dict[str, Attribute]) -> None:
    """Refuse a decision that cannot be carried out; a ValueError says why."""
    issues = [*attributes, QUALITY, COPY]
    if row["action"] not in ACTIONS:
        raise ValueError(f"has action {row['action']!r}: allowed are {', '.join(ACTIONS)}, or nothing")
    if row["image_id"] not in known:
        raise ValueError(f"decides about {row['image_id']!r}, which is not among the faces: remove the line")
    if row["issue"] not in issues:
        raise ValueError(f"has issue {row['issue']!r}: allowed are {', '.join(issues)}")
    if row["action"] == "relabel":
        if row["issue"] not in attributes:
            raise ValueError(f"relabels for {row['issue']}: name the label, for example {issues[0]}")
        new_label(attributes[row["issue"]], row["value"])


def by_issue(attributes: Iterable[Attribute]) -> dict[str, Attribute]:
    """The attributes by the issue that decisions about their labels have, such as `label:age`."""
    return {LABEL + attribute.name: attribute for attribute in attributes}


def new_label(attribute: Attribute, value: str) -> float:
    """The label that a relabel sets, which may be `unknown`; a ValueError says why a value is impossible."""
    if value.strip().lower() in ("unknown", str(UNKNOWN)):
        return attribute.unknown
    if not value.strip():
        raise ValueError(f"relabels {attribute.name} and gives no value")
    return attribute.parse(value)


def read(path: Path, faces: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """The decisions file, as text: image_id, issue, action, value, reason; empty where there is no file.

    Raises
    ------
    InvalidDecision
        If the file is not such a table, or a line of it has an action, an image, an issue or a value that does not
        exist, or contradicts an earlier line. The message has the line's number.
    """
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS, dtype=object)
    rows, decided, known, issues = [], {}, set(faces["image_id"]), by_issue(attributes)
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
                    _check(row, known, issues)
                    key = row["image_id"], row["issue"]
                    if decided.setdefault(key, row) is not row:
                        raise ValueError(f"decides again about {row['image_id']!r} and {row['issue']}")
    except UnicodeDecodeError:
        raise InvalidDecision(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from None
    except (ValueError, csv.Error) as error:
        raise InvalidDecision(f"line {reader.line_num} of {path} {error}") from error
    except OSError as error:
        raise InvalidDecision(f"{path} cannot be read ({error.strerror}): fix or remove it") from error
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def write(table: pd.DataFrame, path: Path) -> None:
    """Save decisions, whole or not at all."""
    write_csv(table[COLUMNS], path)


def merge(proposed: pd.DataFrame, edited: pd.DataFrame, limit: int = 500) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A person's decisions, from `read`, with new proposals, from `propose`.

    At most `limit` proposals of each sort: the next ones come once these are decided.

    Returns
    -------
    merged : DataFrame
        A person's decisions first, then proposals about anything else.
    stale : DataFrame
        A person's decisions that no current proposal asks for; they stay in `merged` and stay in force.
    """
    decided = edited[edited["action"] != ""]
    known, current = pd.MultiIndex.from_frame(decided[KEYS]), pd.MultiIndex.from_frame(proposed[KEYS])
    waiting = proposed[~current.isin(known)].groupby("sort").head(limit)
    merged = pd.concat([decided, waiting[COLUMNS]], ignore_index=True)
    return merged.astype(object), decided[~known.isin(current)]


def rows_finding(table: pd.DataFrame, stale: pd.DataFrame) -> Finding:
    """How much of `merge`'s table a person decided."""
    decided = int((table["action"] != "").sum())
    text = (
        f"{len(table):,} rows: {decided:,} decided by a person, {len(table) - decided:,} proposals; {len(stale):,} "
        "decisions are stale (nothing asks for them any more; they stay in force)."
    )
    return Finding("decisions.rows", text, count(len(table), "rows"))


def apply(
    faces: pd.DataFrame, decisions: pd.DataFrame, attributes: Iterable[Attribute]
) -> tuple[pd.DataFrame, np.ndarray]:
    """A copy of the faces with confirmed relabels, and which rows a person did not drop, bool (n,)."""
    faces, issues = faces.copy(), by_issue(attributes)
    row_of = pd.Series(np.arange(len(faces)), index=faces["image_id"])
    used = np.ones(len(faces), bool)
    for decision in decisions[decisions["action"].isin(["drop", "relabel"])].itertuples():
        row = row_of[decision.image_id]
        if decision.action == "drop":
            used[row] = False
        else:
            attribute = issues[decision.issue]
            faces.loc[faces.index[row], attribute.name] = new_label(attribute, decision.value)
    return faces, used


def training_labels(
    faces: pd.DataFrame, splits: pd.DataFrame, decisions: pd.DataFrame, attributes: Iterable[Attribute]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Labels to train on, and the rows to use: decisions and agreement change the training split alone.

    A dropped copy has no vote in what its group agrees on, and another one represents the group in its place. The other
    splits keep their labels as given, one row per group, so that what is fitted and chosen on them holds for the test
    set. Labels have the label columns of the attributes; rows are bool (n,).
    """
    training = (splits["split"] == "train").to_numpy()
    relabelled, undropped = apply(faces, decisions, attributes)
    group_id, representative = splits["group_id"].to_numpy(), splits["representative"].to_numpy()
    voting = training & undropped
    labels = faces[label_columns(faces, attributes)].copy()
    labels[voting] = agreed_labels(relabelled[voting], group_id[voting], attributes)
    # The representative where it was not dropped, else the first of the other copies.
    voters = pd.DataFrame({"group": group_id, "row": np.arange(len(faces)), "second": ~representative})[voting]
    used = representative & ~training
    used[voters.sort_values(["group", "second", "row"]).drop_duplicates("group")["row"]] = True
    return labels, used


def load_training(run: RunFolder) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """A run's `training_labels` with their `source`, and the rows of train, validation and calibration to use."""
    faces, splits, attributes = run.load_table("faces"), run.load_table("splits"), run.attributes
    decisions = read(run.require("tables/decisions.csv"), faces, attributes)
    labels, used = training_labels(faces, splits, decisions, attributes)
    names = ("train", "validation", "calibration")
    rows = {name: np.flatnonzero((splits["split"] == name) & used) for name in names}
    return labels.assign(source=faces["source"]), rows


def agreed_labels(faces: pd.DataFrame, group_id: np.ndarray, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Labels of each group's rows replaced by what the copies agree on: the label columns of the attributes.

    Copies that disagree get their median age, or a band that holds their bands, and unknown classes.

    Examples
    --------
    >>> from facelib.schema import AGE, ClassAttribute
    >>> faces = pd.DataFrame({"age": [20.0, 30.0, 5.0], "smile": [0, 1, 1]})
    >>> attributes = AGE, ClassAttribute("smile", classes=("no", "yes"))
    >>> agreed_labels(faces, np.array([0, 0, 1]), attributes).to_numpy().tolist()
    [[25.0, -1.0], [25.0, -1.0], [5.0, 1.0]]
    """
    columns = [a.agreed_columns(faces, group_id) for a in attributes]
    return pd.DataFrame({name: labels for part in columns for name, labels in part.items()}, index=faces.index)
