"""The audit of any labelled faces as a folder of CSV files, without a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import contradictions, decisions, duplicates, quality
from facelib.audit.label_issues import doubted_findings, find_issues, suspicion
from facelib.audit.leaks import PERSON, leaks_table
from facelib.audit.out_of_fold import score_out_of_fold
from facelib.audit.planting import planted_flag_rates
from facelib.data.cluster import on_cluster
from facelib.data.ingest import MIN_FACES, chosen, read_data_sets
from facelib.data.pixels import cache_faces
from facelib.data.protocols import read_protocol
from facelib.data.splits import joined, representatives, split_measures, stratum, undivided
from facelib.embedding.features import embed_faces
from facelib.embedding.outliers import face_scores
from facelib.embedding.persons import find_persons, match_finding, persons_table
from facelib.errors import UnreadableData
from facelib.finding import Finding, Findings
from facelib.formats import write_csv
from facelib.runs import DataSet, cache_root
from facelib.schema import labelled
from facelib.statistics import Bootstrap, Estimate, count, rate
from facelib.storage import check_writable

CORRECTED = "labels_corrected.csv"
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
        add(
            "persons", "recognised on several images, copies included", count(persons["person_id"].nunique(), "persons")
        )
        add("persons", "images of such persons", rate(len(persons), n))
    if leaks is not None:
        copied, recognised, tested = leaks
        add("leaks", "test images with a copy in training", rate(copied, tested))
        if persons is not None:
            add("leaks", "test images with only another photograph of the person", rate(recognised, tested))
    if len(conflicts):
        contradicting = rate(int(conflicts["contradicts"].sum()), len(conflicts))
        add("labels", "groups of copies with labels that differ", contradicting)
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
        "audit.duplicates.near_groups": count(duplicates.groups_of("near", pairs, group_id), "groups"),
        "audit.duplicates.altered_groups": count(duplicates.groups_of("altered", pairs, group_id), "groups"),
        "audit.contradicting_groups": rate(int(conflicts["contradicts"].sum()), len(conflicts)),
    }
    for attribute, part in issues.groupby("attribute"):
        measured[f"audit.label_issues.{attribute}"] = count(int(part["is_issue"].sum()), "labels")
        measured[f"audit.planted.{attribute}.auroc"] = ranking[f"{attribute}.auroc"]
    return measured | split_measures(splits)


@dataclass
class Audit:
    """One audit: iterate over it to write its tables and to get a line per result.

    Parameters
    ----------
    data : str or sequence of DataSet
        See `ingest.read_data_sets`.
    out : Path
        Folder for audit.csv (the whole in one table), rejected, duplicates, label_noise, quality, decisions and, where
        requested or decided, persons, label_issues, flag_rates, leaks, unmatched and labels_corrected .csv.
    split : Path, optional
        A folder with train.csv and test.csv.
    network, find_faces : bool
        Compute face features, which persons, altered copies, pictures without an upright face and flagged labels come
        from; search every image for a frontal face.
    cluster : str
        See `cluster.on_cluster`.
    names : sequence of str
        Attributes that are audited; all without a name.
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

    data: str | Sequence[DataSet]
    out: Path
    split: Path | None = None
    network: bool = True
    find_faces: bool = False
    cluster: str = ""
    names: Sequence[str] = ()
    align: bool = False
    findings: Findings = field(default_factory=Findings, init=False)

    def __iter__(self) -> Iterator[str]:
        if self.out.exists() and not self.out.is_dir():
            raise UnreadableData(f"--out {self.out} is a file: give a folder")
        check_writable(self.out)  # before the work
        if self.split is not None and not self.split.is_dir():
            raise UnreadableData(f"there is no folder {self.split}: --split takes one with train.csv and test.csv")
        with on_cluster(self.cluster):
            yield from self._read()
            parts = None if self.split is None else read_protocol(self.split, self.faces)  # refused before the work
            yield f"faces: {len(self.faces):,}, rejected: {len(self.rejected):,}"
            yield self._save(self.rejected, "rejected.csv")
            yield self._save(self.source.unusable, "unusable_labels.csv")
            if self.network:
                self.embedding = embed_faces(self.faces, lambda: self.source, cache_root(), self.align)
                self.found, self.matches = find_persons(self.embedding.descriptors)
            yield from self._copies()
            if self.network:
                yield from self._persons()
            if parts is not None:
                yield from self._leaks(*parts)
            upright = None if self.embedding is None else face_scores(self.embedding)
            self.scored = quality.score_quality(self.faces, self.images, self.find_faces, upright)
            yield self._save(self.scored, "quality.csv")
        known = [attribute.name for attribute in self.attributes]
        if absent := ", ".join(a.name for a in self.wanted if a.name not in known):
            yield f"no labels of {absent}: they are left out"
        if self.network and known:
            yield from self._labels()
        yield from self._decisions()
        yield from self._summary()

    def _read(self) -> Iterator[str]:
        data = [DataSet(self.data)] if isinstance(self.data, str) else self.data
        self.source = read_data_sets(data, self.names)
        self.wanted = chosen(self.source.attributes, self.names)
        yield from self.source.about()
        self.images, self.faces, self.rejected = cache_faces(self.source, AUDIT_PX, cache_root(), self.align)
        self.attributes = labelled(self.faces, self.wanted)
        self.edited = decisions.read(self.out / "decisions.csv", self.faces, self.attributes)
        self.issues = self.rates = self.leaks = self.embedding = None
        self.persons = self.person_id = self.matches = self.crossing = None

    def _save(self, table: pd.DataFrame, name: str) -> str:
        write_csv(table, self.out / name)
        return f"{self.out / name}: {len(table):,} rows"

    def _copies(self) -> Iterator[str]:
        faces = self.faces
        pairs = duplicates.find_copies(faces, self.images, self.matches)
        self.pairs = decisions.confirmed(pairs, faces, self.edited)
        self.group_id = duplicates.group_copies(len(faces), self.pairs)
        self.conflicts = contradictions.contradictions(faces, self.group_id, self.attributes)
        self.differing = contradictions.disagreements(faces, self.group_id, self.attributes)
        self.copies = duplicates.duplicates_table(faces, self.group_id, self.pairs).merge(self.conflicts, on="group_id")
        representative = faces["image_id"][representatives(faces, self.group_id)]
        table = self.copies.assign(representative=self.copies["image_id"].isin(representative))
        yield self._save(table, "duplicates.csv")
        self.findings += duplicates.copies_findings(faces, self.pairs, self.group_id)
        if len(self.conflicts):
            self.findings += contradictions.labels_findings(self.conflicts, self.differing, self.attributes)
        contradicting = self.conflicts["contradicts"].sum()
        yield f"groups of copies: {len(self.conflicts):,}, with contradicting labels: {contradicting:,}"
        self.noise = contradictions.label_noise(faces, self.group_id, self.attributes, Bootstrap())
        yield self._save(self.noise, "label_noise.csv")

    def _persons(self) -> Iterator[str]:
        """A person holds all copies of a photograph."""
        self.persons = persons_table(self.faces["image_id"].to_numpy(), self.found, self.matches)
        self.person_id = joined(self.group_id, self.found)
        yield self._save(self.persons, "persons.csv")
        yield f"persons on several images: {self.persons['person_id'].nunique():,}, copies included"
        strata = stratum(self.faces, self.attributes).to_numpy() if self.attributes else np.zeros(len(self.faces))
        matches = match_finding(self.embedding.descriptors, strata, self.group_id)
        self.findings += [matches] if matches.estimate.n else []

    def _leaks(self, part: pd.Series, unmatched: pd.DataFrame) -> Iterator[str]:
        table = leaks_table(self.faces, part, self.group_id, self.pairs, self.person_id, self.matches)
        recognised, tested = int(table["kind"].str.startswith(PERSON).sum()), int(part.isin(["test", "both"]).sum())
        self.crossing, self.leaks = table, (len(table) - recognised, recognised, tested)
        yield self._save(table, "leaks.csv")
        yield self._save(unmatched, "unmatched.csv")
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in table["kind"].value_counts().items()) or "none"
        what = "a copy" if self.person_id is None else "a copy or a recognised person"
        text = f"test images with {what} in training: {len(table):,} of {tested:,} ({kinds})"
        self.findings += [Finding("leaks", f"{text[0].upper()}{text[1:]}.", rate(len(table), tested))]
        yield text
        yield f"names of the split that match no single file: {len(unmatched):,}"

    def _labels(self) -> Iterator[str]:
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
        yield self._save(self.issues, "label_issues.csv")
        self.findings += doubted_findings(issues)
        flagged = issues.groupby("attribute", sort=False)["is_issue"].sum()
        yield "flagged labels: " + ", ".join(f"{name} {n:,}" for name, n in flagged.items())
        self.rates = planted_flag_rates(faces, parts, scores, attributes, SEED)
        yield self._save(self.rates, "flag_rates.csv")

    def _decisions(self) -> Iterator[str]:
        proposals = decisions.propose(self.faces, self.group_id, self.attributes, self.scored, self.issues, self.copies)
        table, stale = decisions.merge(proposals, self.edited)
        self.decisions = table.merge(proposals[[*decisions.KEYS, "sort"]], how="left")
        decisions.write(table, self.out / "decisions.csv")
        decided = int((table["action"] != "").sum())
        counts = f"decided by a person: {decided:,} (stale: {len(stale):,}), proposals: {len(table) - decided:,}"
        yield f"{self.out / 'decisions.csv'}: {counts}"
        if decided:
            relabelled, used = decisions.apply(self.faces, table, self.attributes)
            kept = relabelled[used].reset_index(drop=True)
            labels = {attribute.name: attribute.label_names(kept) for attribute in self.attributes}
            yield self._save(kept[["image_id"]].assign(**labels), CORRECTED)

    def _summary(self) -> Iterator[str]:
        absent = ["label_issues.csv", "flag_rates.csv"] * (self.issues is None)
        absent += [CORRECTED] * (not self.decisions["action"].any())
        absent += ["leaks.csv", "unmatched.csv"] * (self.leaks is None) + ["persons.csv"] * (self.persons is None)
        for name in absent:
            if (self.out / name).exists():
                yield f"{self.out / name} is left from an earlier audit and not part of this one"
        self.summary = summarise(self.faces, self.rejected, self.group_id, self.conflicts, self.noise, self.scored,
                                 self.issues, self.leaks, self.persons)  # fmt: skip
        yield self._save(self.summary, "audit.csv")
