"""The audit of any labelled faces as a folder of CSV files, without a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import contradictions, decisions, duplicates, quality
from facelib.audit.label_issues import find_issues, suspicion
from facelib.audit.leaks import PERSON, leaks_table
from facelib.audit.out_of_fold import score_out_of_fold
from facelib.data.cluster import on_cluster
from facelib.data.ingest import MIN_FACES, chosen, read_data_sets
from facelib.data.pixels import cache_faces
from facelib.data.protocols import read_protocol
from facelib.data.readers import FaceSource
from facelib.data.splits import joined, representatives, split_measures, undivided
from facelib.embedding.features import embed_faces
from facelib.embedding.outliers import face_scores
from facelib.embedding.persons import find_persons, persons_table
from facelib.errors import UnreadableData
from facelib.formats import write_csv
from facelib.runs import DataSet, cache_root
from facelib.schema import labelled
from facelib.statistics import Bootstrap, Estimate, count, rate
from facelib.storage import check_writable

AUDIT_PX = 64  # edge of the images that are hashed, compared and scored, pixels
SEED = 0  # of folds


def summarise(
    faces: pd.DataFrame,
    rejected: pd.DataFrame,
    group_id: np.ndarray,
    conflicts: pd.DataFrame,
    noise: pd.DataFrame,
    scored: pd.DataFrame,
    issues: pd.DataFrame | None = None,
    leaks: tuple[int, int, int] | None = None,
    persons: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The whole audit as one table for a data card: topic, measure, value, low, high (95 %), n, unit.

    `conflicts` and `noise` are from `contradictions`, `scored` from `quality.score_quality`, `issues` from
    `label_issues.find_issues`; `leaks` are the numbers of test images with a copy in training, with only another
    photograph of a recognised person there, and of all; `persons` is from `embedding.persons.persons_table`.
    """
    rows, n = [], len(faces)

    def add(topic: str, measure: str, estimate: Estimate) -> None:
        rows.append({"topic": topic, "measure": measure, **estimate.to_dict()})

    add("data", "images used", count(n, "images"))
    add("data", "files or rows rejected", count(len(rejected), "items"))
    add("copies", "groups of byte-identical images", count(duplicates.exact_groups(faces), "groups"))
    add("copies", "groups of copies, near ones included", count(len(conflicts), "groups"))
    add("copies", "images that repeat another one", rate(n - len(np.unique(group_id)), n))
    if persons is not None:
        add("persons", "recognised on several images", count(persons["person_id"].nunique(), "persons"))
        add("persons", "images of such persons", rate(len(persons), n))
    if leaks is not None:
        copied, recognised, tested = leaks
        add("leaks", "test images with a copy in training", rate(copied, tested))
        if persons is not None:
            add("leaks", "test images with only another photograph of the person", rate(recognised, tested))
    if len(conflicts):
        contradicting = rate(int(conflicts["contradicts"].sum()), len(conflicts))
        add("labels", "groups of copies that contradict themselves", contradicting)
    for row in noise.itertuples():
        given = "" if row.assumption == contradictions.NONE else f", if {row.assumption}"
        estimate = Estimate(row.value, row.low, row.high, row.n, row.unit)
        add("label noise", f"{row.attribute}: {row.quantity}{given}", estimate)
    if issues is not None:
        for attribute, part in issues.groupby("attribute", sort=False):
            add("labels", f"{attribute} labels doubted", rate(int(part["is_issue"].sum()), len(part)))
    for flag, name in quality.flag_names(scored).items():
        add("quality", f"flagged: {name}", rate(int(scored[flag].sum()), n))
    return pd.DataFrame(rows)


def readable(summary: pd.DataFrame) -> pd.DataFrame:
    """`summarise`'s table for people: topic, measure, value with its interval, n."""
    estimates = [Estimate(*row) for row in summary[["value", "low", "high", "n", "unit"]].itertuples(index=False)]
    texts = [str(estimate) if estimate.high > estimate.low else estimate.text for estimate in estimates]
    return summary[["topic", "measure"]].assign(**{"value (95 %)": texts, "n": summary["n"].map("{:,}".format)})


def headline(
    faces: pd.DataFrame,
    pairs: pd.DataFrame,
    group_id: np.ndarray,
    conflicts: pd.DataFrame,
    splits: pd.DataFrame,
    issues: pd.DataFrame,
    ranking: dict[str, Estimate],
) -> dict[str, Estimate]:
    """A run's headline metrics of its audit and its split; arguments are named as in notebook 02."""
    measured = {
        "audit.duplicates.exact_groups": count(duplicates.exact_groups(faces), "groups"),
        "audit.duplicates.near_groups": count(duplicates.near_groups(pairs, group_id), "groups"),
        "audit.contradicting_groups": rate(int(conflicts["contradicts"].sum()), len(conflicts)),
    }
    for attribute, part in issues.groupby("attribute"):
        measured[f"audit.label_issues.{attribute}"] = count(int(part["is_issue"].sum()), "labels")
        measured[f"audit.planted.{attribute}.auroc"] = ranking[f"{attribute}.auroc"]
    return measured | split_measures(splits)


@dataclass
class _Audit:
    """One audit under way; each part writes its tables and yields a line per result."""

    out: Path
    source: FaceSource
    align: bool = False

    def read(self, names: Sequence[str]) -> None:
        wanted = chosen(self.source.attributes, names)
        self.images, self.faces, self.rejected = cache_faces(self.source, AUDIT_PX, cache_root(), self.align)
        self.attributes = labelled(self.faces, wanted)
        self.edited = decisions.read(self.out / "decisions.csv", self.faces, self.attributes)
        self.issues = self.leaks = self.embedding = self.persons = self.person_id = self.matches = None

    def save(self, table: pd.DataFrame, name: str) -> str:
        write_csv(table, self.out / name)
        return f"{self.out / name}: {len(table):,} rows"

    def copies(self) -> Iterator[str]:
        faces = self.faces
        self.pairs = duplicates.find_copies(faces, self.images)
        self.group_id = duplicates.group_copies(len(faces), self.pairs)
        self.conflicts = contradictions.contradictions(faces, self.group_id, self.attributes)
        copies = duplicates.duplicates_table(faces, self.group_id, self.pairs).merge(self.conflicts, on="group_id")
        chosen = faces["image_id"][representatives(faces, self.group_id)]
        yield self.save(copies.assign(representative=copies["image_id"].isin(chosen)), "duplicates.csv")
        contradicting = self.conflicts["contradicts"].sum()
        yield f"groups of copies: {len(self.conflicts):,}, with contradicting labels: {contradicting:,}"
        self.noise = contradictions.label_noise(faces, self.group_id, self.attributes, Bootstrap())
        yield self.save(self.noise, "label_noise.csv")

    def network(self) -> Iterator[str]:
        """Persons; a person holds all copies of a photograph."""
        self.embedding = embed_faces(self.faces, lambda: self.source, cache_root(), self.align)
        found, self.matches = find_persons(self.embedding.descriptors)
        self.persons = persons_table(self.faces["image_id"].to_numpy(), found, self.matches)
        self.person_id = joined(self.group_id, found)
        yield self.save(self.persons, "persons.csv")
        yield f"persons on several images: {self.persons['person_id'].nunique():,}, copies included"

    def split(self, part: pd.Series, unmatched: pd.DataFrame) -> Iterator[str]:
        table = leaks_table(self.faces, part, self.group_id, self.pairs, self.person_id, self.matches)
        recognised, tested = int(table["kind"].str.startswith(PERSON).sum()), int(part.isin(["test", "both"]).sum())
        self.leaks = len(table) - recognised, recognised, tested
        yield self.save(table, "leaks.csv")
        yield self.save(unmatched, "unmatched.csv")
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in table["kind"].value_counts().items()) or "none"
        what = "a copy" if self.person_id is None else "a copy or a recognised person"
        yield f"test images with {what} in training: {len(table):,} of {tested:,} ({kinds})"
        yield f"names of the split that match no single file: {len(unmatched):,}"

    def quality(self, find_faces: bool) -> Iterator[str]:
        upright = None if self.embedding is None else face_scores(self.embedding)
        self.scored = quality.score_quality(self.faces, self.images, find_faces, upright)
        yield self.save(self.scored, "quality.csv")

    def labels(self) -> Iterator[str]:
        groups = len(np.unique(self.group_id))
        if groups < MIN_FACES:
            yield f"labels are not scored: models need {MIN_FACES} different photographs, and there are {groups:,}"
            return
        faces, attributes = self.faces, self.attributes
        agreed = faces.assign(**decisions.agreed_labels(faces, self.group_id, attributes))
        parts = undivided(faces, self.group_id, self.person_id)
        scores = score_out_of_fold(self.embedding.features, agreed, parts, attributes, SEED)
        issues = find_issues(faces, scores, attributes)
        self.issues = issues.iloc[np.argsort(suspicion(issues), kind="stable")]
        yield self.save(self.issues, "label_issues.csv")
        flagged = issues.groupby("attribute", sort=False)["is_issue"].sum()
        yield "doubted labels: " + ", ".join(f"{name} {n:,}" for name, n in flagged.items())

    def propose(self) -> Iterator[str]:
        proposals = decisions.propose(self.faces, self.group_id, self.attributes, self.scored, self.issues)
        table, stale = decisions.merge(proposals, self.edited)
        decisions.write(table, self.out / "decisions.csv")
        decided = int((table["action"] != "").sum())
        counts = f"decided by a person: {decided:,} (stale: {len(stale):,}), proposals: {len(table) - decided:,}"
        yield f"{self.out / 'decisions.csv'}: {counts}"

    def summary(self) -> Iterator[str]:
        absent = ["label_issues.csv"] * (self.issues is None) + ["leaks.csv", "unmatched.csv"] * (self.leaks is None)
        absent += ["persons.csv"] * (self.persons is None)
        for name in absent:
            if (self.out / name).exists():
                yield f"{self.out / name} is left from an earlier audit and not part of this one"
        table = summarise(self.faces, self.rejected, self.group_id, self.conflicts, self.noise, self.scored,
                          self.issues, self.leaks, self.persons)  # fmt: skip
        yield self.save(table, "audit.csv")


def audit_data(
    data: str | Sequence[DataSet],
    out: Path,
    split: Path | None = None,
    network: bool = True,
    find_faces: bool = False,
    cluster: str = "",
    attributes: Sequence[str] = (),
    align: bool = False,
) -> Iterator[str]:
    """Audit labelled faces into a folder of CSV files; yields a line per result.

    Parameters
    ----------
    data : str or sequence of DataSet
        See `ingest.read_data_sets`.
    out : Path
        Folder for audit.csv (the whole in one table), rejected, duplicates, label_noise, quality, decisions and, where
        requested, persons, label_issues, leaks and unmatched .csv.
    split : Path, optional
        A folder with train.csv and test.csv.
    network, find_faces : bool
        Compute face features, which persons, pictures without an upright face and doubted labels come from; search
        every image for a frontal face.
    cluster : str
        See `cluster.on_cluster`.
    attributes : sequence of str
        Names of those that are audited; all without a name.
    align : bool
        Find and align the largest face of each image.

    Raises
    ------
    UnreadableData
        If the data, the split or the folder cannot be used.
    WeightsError
        If the weights of the face network are missing or damaged.
    InvalidDecision
        If the folder holds a decisions.csv with a line that cannot be carried out.
    """
    if out.exists() and not out.is_dir():
        raise UnreadableData(f"--out {out} is a file: give a folder")
    check_writable(out)  # before the work
    if split is not None and not split.is_dir():
        raise UnreadableData(f"there is no folder {split}: --split takes one with train.csv and test.csv")
    with on_cluster(cluster):
        data = [DataSet(data)] if isinstance(data, str) else data
        audit = _Audit(out, read_data_sets(data, attributes), align)
        yield from audit.source.about()
        audit.read(attributes)
        parts = None if split is None else read_protocol(split, audit.faces)  # refused before the work
        yield f"faces: {len(audit.faces):,}, rejected: {len(audit.rejected):,}"
        yield audit.save(audit.rejected, "rejected.csv")
        yield audit.save(audit.source.unusable, "unusable_labels.csv")
        yield from audit.copies()
        if network:
            yield from audit.network()
        if parts is not None:
            yield from audit.split(*parts)
        yield from audit.quality(find_faces)
    known = [attribute.name for attribute in audit.attributes]
    if absent := ", ".join(a.name for a in chosen(audit.source.attributes, attributes) if a.name not in known):
        yield f"no labels of {absent}: they are left out"
    if network and known:
        yield from audit.labels()
    yield from audit.propose()
    yield from audit.summary()
