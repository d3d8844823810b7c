"""The audit of any labelled faces as a folder of CSV files, without a run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from facelib import statistics
from facelib.audit import contradictions, decisions, duplicates, quality
from facelib.audit.leaks import leaks_table
from facelib.config import Profile, resolve_profile
from facelib.data.cluster import on_cluster
from facelib.data.ingest import MIN_FACES
from facelib.data.pixels import cache_faces
from facelib.data.protocols import read_protocol
from facelib.data.readers import read_faces
from facelib.data.splits import keep_one, split_faces
from facelib.errors import UnreadableData
from facelib.runs import cache_root, write_csv
from facelib.schema import ATTRIBUTES, labelled
from facelib.storage import check_writable

AUDIT_PX = 64  # edge of the images that are hashed, compared and scored, pixels


def _save(table: pd.DataFrame, path: Path) -> str:
    write_csv(table, path)
    return f"{path}: {len(table):,} rows"


def summarise(
    faces: pd.DataFrame,
    rejected: pd.DataFrame,
    group_id: np.ndarray,
    conflicts: pd.DataFrame,
    noise: pd.DataFrame,
    scored: pd.DataFrame,
    issues: pd.DataFrame | None = None,
    leaks: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """The whole audit as one table, which a data card could take over.

    Parameters
    ----------
    faces, rejected : DataFrame
        From `facelib.data.cache_faces`.
    group_id : int array of shape (n,)
    conflicts, noise : DataFrame
        From `contradictions.contradictions` and `contradictions.label_noise`.
    scored : DataFrame
        From `quality.score_quality`.
    issues : DataFrame, optional
        From `label_issues.find_issues`.
    leaks : tuple of int, optional
        Test images with a copy in training, and test images.

    Returns
    -------
    DataFrame
        topic, measure, value, low, high (95 %), n, unit.
    """
    rows: list[dict] = []

    def add(topic: str, measure: str, estimate: statistics.Estimate) -> None:
        rows.append({"topic": topic, "measure": measure, **estimate.to_dict()})

    n = len(faces)
    add("data", "images used", statistics.count(n, "images"))
    add("data", "files or rows rejected", statistics.count(len(rejected), "items"))
    add("copies", "groups of byte-identical images", statistics.count(duplicates.exact_groups(faces), "groups"))
    add("copies", "groups of copies, near ones included", statistics.count(len(conflicts), "groups"))
    surplus = n - len(np.unique(group_id))
    add("copies", "images that repeat another one", statistics.rate(surplus, n, "share"))
    if leaks is not None:
        add("leaks", "test images with a copy in training", statistics.rate(*leaks, "share"))
    if len(conflicts):
        contradict = int(conflicts["contradicts"].sum())
        add("labels", "groups of copies that contradict themselves", statistics.rate(contradict, len(conflicts), "share"))
    for row in noise.itertuples():
        given = "" if row.assumption == "none" else f", if {row.assumption}"
        estimate = statistics.Estimate(row.value, row.low, row.high, row.n, row.unit)
        add("label noise", f"{row.attribute}: {row.quantity}{given}", estimate)
    if issues is not None:
        for attribute, part in issues.groupby("attribute", sort=False):
            add("labels", f"{attribute} labels doubted", statistics.rate(int(part["is_issue"].sum()), len(part), "share"))
    for flag, name in quality.flag_names(scored).items():
        add("quality", f"flagged: {name}", statistics.rate(int(scored[flag].sum()), n, "share"))
    return pd.DataFrame(rows)


def readable(summary: pd.DataFrame) -> pd.DataFrame:
    """`summarise`'s table for people: topic, measure, value with its interval, n."""

    def text(row) -> str:
        if row.unit not in ("share", "years"):
            return f"{row.value:,.0f}"
        shown, unit = ("{:.1%}", "") if row.unit == "share" else ("{:.2f}", " years")
        interval = f" ({shown} to {shown})".format(row.low, row.high) if row.high > row.low else ""
        return shown.format(row.value) + unit + interval

    texts = [text(row) for row in summary.itertuples()]
    return summary[["topic", "measure"]].assign(**{"value (95 %)": texts, "n": summary["n"].map("{:,}".format)})


def _find_issues(faces: pd.DataFrame, images, group_id: np.ndarray, setting: Profile) -> pd.DataFrame:
    # The networks are a heavy import, which an audit without labels is spared.
    from facelib.audit.label_issues import find_issues, suspicion
    from facelib.models.out_of_fold import score_out_of_fold

    agreed = faces.assign(**decisions.agreed_labels(faces, group_id))
    issues = find_issues(faces, score_out_of_fold(agreed, images, split_faces(faces, group_id, setting.seed), setting))
    return issues.iloc[np.argsort(suspicion(issues), kind="stable")]


def audit_data(
    data: str,
    out: Path,
    images: str = "",
    split: Path | None = None,
    profile: str = "full",
    labels: bool = True,
    find_faces: bool = True,
    cluster: str = "",
) -> Iterator[str]:
    """Audit labelled faces into a folder of CSV files; yields a line per finding.

    Parameters
    ----------
    data, images : str
        See `facelib.data.read_faces`.
    out : Path
        Folder for audit.csv (the whole in one table), rejected, duplicates, label_noise, quality, decisions and, where
        asked for, label_issues, leaks and unmatched .csv.
    split : Path, optional
        A folder with train.csv and test.csv.
    profile : str
        Whose settings the label-scoring networks take.
    labels : bool
        Score labels, which trains networks.
    find_faces : bool
        Search every image for a frontal face.
    cluster : str
        Address of a dask scheduler for the work on single images; empty for this machine.

    Raises
    ------
    UnreadableData
        If the data, the split or the folder cannot be used.
    InvalidDecision
        If the folder holds a decisions.csv with a line that cannot be carried out.
    """
    setting = resolve_profile(profile)
    if out.exists() and not out.is_dir():
        raise UnreadableData(f"--out {out} is a file: give a folder")
    check_writable(out)  # before the work
    if split is not None and not split.is_dir():
        raise UnreadableData(f"there is no folder {split}: --split takes one with train.csv and test.csv")
    with on_cluster(cluster):
        pictures, faces, rejected = cache_faces(read_faces(data, images or None), AUDIT_PX, cache_root())
        edited = decisions.read(out / "decisions.csv", faces)  # refused before the work
        part, unmatched = (None, None) if split is None else read_protocol(split, faces)
        yield f"faces: {len(faces):,}, rejected: {len(rejected):,}"
        yield _save(rejected, out / "rejected.csv")
        pairs = duplicates.find_copies(faces, pictures)
        group_id = duplicates.group_copies(len(faces), pairs)
        conflicts = contradictions.contradictions(faces, group_id)
        copies = duplicates.duplicates_table(faces, group_id, pairs).merge(conflicts, on="group_id")
        copies["kept"] = copies["image_id"].isin(faces["image_id"][keep_one(faces, group_id)])
        yield _save(copies, out / "duplicates.csv")
        yield f"groups of copies: {len(conflicts):,}, with contradicting labels: {conflicts['contradicts'].sum():,}"
        noise = contradictions.label_noise(faces, group_id)
        yield _save(noise, out / "label_noise.csv")
        leaking = None
        if split is not None:
            leaks = leaks_table(faces, part, group_id, pairs)
            leaking = len(leaks), int(part.isin(["test", "both"]).sum())
            yield _save(leaks, out / "leaks.csv")
            yield _save(unmatched, out / "unmatched.csv")
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in leaks["kind"].value_counts().items())
            yield f"test images with a copy in training: {leaking[0]:,} of {leaking[1]:,} ({kinds or 'none'})"
            yield f"names of the split that match no single file: {len(unmatched):,}"
        scored = quality.score_quality(faces, pictures, find_faces)
        yield _save(scored, out / "quality.csv")
    issues, groups = None, len(np.unique(group_id))
    known = list(labelled(faces))
    if absent := ", ".join(name for name in ATTRIBUTES if name not in known):
        yield f"no labels of {absent}: nothing is said of them"
    if labels and groups < MIN_FACES:
        yield f"labels are not scored: networks want {MIN_FACES} different photographs, and there are {groups:,}"
    elif labels and known:
        issues = _find_issues(faces, pictures, group_id, setting)
        yield _save(issues, out / "label_issues.csv")
        flagged = issues.groupby("attribute", sort=False)["is_issue"].sum()[known]
        yield "doubted labels: " + ", ".join(f"{attribute} {count:,}" for attribute, count in flagged.items())
    table, stale = decisions.merge(decisions.propose(faces, group_id, scored, issues), edited)
    decisions.write(table, out / "decisions.csv")
    decided = int((table["action"] != "").sum())
    yield (
        f"{out / 'decisions.csv'}: decided by a person: {decided:,} (stale: {len(stale):,}), "
        f"proposals: {len(table) - decided:,}"
    )
    absent = ["label_issues.csv"] * (issues is None) + ["leaks.csv", "unmatched.csv"] * (split is None)
    for name in (name for name in absent if (out / name).exists()):
        yield f"{out / name} is left from an earlier audit and no part of this one"
    yield _save(summarise(faces, rejected, group_id, conflicts, noise, scored, issues, leaking), out / "audit.csv")
