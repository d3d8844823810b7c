"""Splits that keep copies and persons together and hold age bands and classes in proportion; by session; published."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facelib import schema
from facelib.data.sessions import has_sessions
from facelib.errors import UnknownSetting
from facelib.finding import Finding, Findings
from facelib.runs import RunFolder, open_run
from facelib.schema import Attribute
from facelib.statistics import Estimate, count, format_value, rate

SESSION_DRAWS = 1000  # assignments of sessions of which the one with the most even strata is taken


def stratum(faces: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.Series:
    """Source, age band and classes of each face as one text, the unit of stratification: splits lie within sources."""
    strata = [attribute.strata(faces).astype(object) for attribute in attributes]
    if "source" in faces and len(faces["source"].unique()) > 1:
        strata.append(faces["source"].astype(object))
    first, *others = strata
    return first.str.cat(others, sep="|") if others else first


def representatives(faces: pd.DataFrame, group_id: np.ndarray) -> np.ndarray:
    """Which row represents its group, bool (n,): the one with most original pixels, then by a digest of the image_id.

    Not by the image_id itself: UTKFace's names open with the age, so the first would be the youngest label.
    """
    digest = [hashlib.sha256(image_id.encode()).hexdigest() for image_id in faces["image_id"]]
    order = pd.DataFrame(
        {"group": group_id, "pixels": -(faces["width"] * faces["height"]).to_numpy(), "digest": digest}
    ).sort_values(["group", "pixels", "digest"])
    chosen = np.zeros(len(faces), bool)
    chosen[order.drop_duplicates("group").index] = True
    return chosen


def joined(group_id: np.ndarray, person_id: np.ndarray) -> np.ndarray:
    """Persons who hold all copies of their photographs: int (n,), each the lowest `group_id` of its faces.

    Examples
    --------
    >>> joined(np.array([0, 1, 1, 2]), np.array([5, 5, 6, 7])).tolist()
    [0, 0, 0, 2]
    """
    rows, n = np.arange(len(group_id)), len(group_id)
    first = [pd.Series(rows).groupby(np.asarray(ids)).transform("first").to_numpy() for ids in (group_id, person_id)]
    links = coo_array((np.ones(2 * n), (np.tile(rows, 2), np.concatenate(first))), shape=(n, n))
    component = connected_components(links, directed=False)[1]
    return pd.Series(group_id).groupby(component).transform("min").to_numpy()


def split_faces(
    faces: pd.DataFrame,
    group_id: np.ndarray,
    attributes: Iterable[Attribute],
    seed: int,
    shares: dict[str, float] = schema.SPLITS,
    person_id: np.ndarray | None = None,
) -> pd.DataFrame:
    """Assign every face to train, validation, calibration or test, all faces of a person at a time.

    Within each stratum (of the person's representative) persons are put in a random order and cut at the fractions of
    `shares` by systematic sampling with a random start, so that each stratum is in proportion to within one person.
    The order is that of a keyed digest of the representative's image_id, and the start one of the stratum's name: one
    person more, or two taken for one, moves few others. With one seed, overlapping data are divided much alike.

    Parameters
    ----------
    faces : DataFrame
    group_id : int array of shape (n,)
        Equal for copies of one photograph.
    attributes : iterable of Attribute
        What the split is stratified by.
    seed : int
    shares : dict of float
        Of each split; their order is that of the cut.
    person_id : int array of shape (n,), optional
        Equal for faces of one person; without it every group of copies is a person.

    Returns
    -------
    DataFrame
        image_id, split, group_id, representative (of its copies), person_id, in the order of `faces`.
    """
    person_id = joined(group_id, group_id if person_id is None else person_id)
    leads = representatives(faces, person_id)
    groups = pd.DataFrame({"group": person_id[leads], "stratum": stratum(faces, attributes)[leads].to_numpy()})
    groups = groups.iloc[np.argsort(_drawn(seed, faces["image_id"][leads]))]
    grouped = groups.groupby("stratum")
    quantile = (grouped.cumcount() + _drawn(seed, groups["stratum"])) / grouped["group"].transform("size")
    edges = np.cumsum(list(shares.values()))
    names = np.array(list(shares))[np.searchsorted(edges[:-1] / edges[-1], quantile, side="right")]
    split = pd.Series(names, index=groups["group"]).loc[person_id].to_numpy()
    return _splits_table(faces, split, group_id, representatives(faces, group_id), person_id)


def _drawn(seed: int, names: Iterable[str]) -> np.ndarray:
    """A number in [0, 1) for each name, uniform over seeds, whatever the other names are."""
    digests = (hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:6]) / 2**48 for digest in digests])


def _splits_table(faces: pd.DataFrame, split, group_id, representative, person_id) -> pd.DataFrame:
    columns = {"image_id": faces["image_id"], "split": split, "group_id": group_id, "representative": representative}
    return pd.DataFrame(columns | {"person_id": person_id})


def undivided(faces: pd.DataFrame, group_id: np.ndarray, person_id: np.ndarray) -> pd.DataFrame:
    """The table of `split_faces` for faces that are not split: all are training faces."""
    return _splits_table(faces, "train", group_id, representatives(faces, group_id), person_id)


def split_run(run: RunFolder, faces: pd.DataFrame, group_id: np.ndarray, person_id: np.ndarray) -> pd.DataFrame:
    """The split that a run's settings ask for: as another run's, by its published lists, by whole sessions, by persons.

    Raises
    ------
    UnknownSetting
        If sessions are to be held out of a published split, or the data name fewer than two; if another run's split is
        to be kept beside one of these, or holds none of the images.
    """
    by_sessions, seed = run.settings.data.split == "sessions", run.settings.split_seed
    if earlier := run.settings.data.split_of:
        if run.protocol or by_sessions:
            raise UnknownSetting("setting split_of keeps another run's split: leave out --protocol and split sessions")
        return split_like(open_run(earlier), faces, group_id, run.attributes, seed, person_id)
    if by_sessions and (run.protocol or not has_sessions(faces)):
        reason = "--protocol says what is tested" if run.protocol else "the data do not tell two sessions apart"
        raise UnknownSetting(f"setting split is 'sessions', and {reason}: leave out one, or name a column of sessions")
    divide = split_listed if run.protocol else split_sessions if by_sessions else split_faces
    return divide(faces, group_id, run.attributes, seed, person_id=person_id)


def split_like(
    earlier: RunFolder, faces: pd.DataFrame, group_id: np.ndarray, attributes: Iterable[Attribute], seed: int,
    person_id: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """Split the faces of an earlier run as it did, and assign the persons of all others by `split_faces`.

    Images are matched by content, identical ones in their order; they keep their representatives, so that both runs
    test the same images. A new face of an earlier person lies where that person does. Left out are new faces that link
    persons of several splits, and earlier ones that were not tested but are copies of a tested face by both runs'
    groups together: each has an id of its own, is not representative, and counts as tested. All other earlier faces
    stay where they were: `split_measures` counts the copies and persons among them that cross the split. Returns the
    table of `split_faces`.

    Raises
    ------
    UnknownSetting
        If the earlier run has none of the images, or its split is not of its faces.
    """
    before, divided = earlier.load_table("faces"), earlier.load_table("splits")
    if not before["image_id"].equals(divided["image_id"]):
        raise UnknownSetting(f"setting split_of: run {earlier.name} read its data again: run its notebook 02 first")
    theirs = _numbered(before[["sha256"]]).join(divided[["split", "representative", "group_id"]])
    theirs = _numbered(faces[["sha256"]]).merge(theirs, how="left", on=["sha256", "number"])
    known, person_id = theirs["split"].notna().to_numpy(), joined(group_id, person_id)
    if not known.any():
        raise UnknownSetting(f"setting split_of names the run {earlier.name}, none of whose images are in this data")
    split, representative = (
        theirs["split"].to_numpy(object, copy=True),
        theirs["representative"].eq(True).to_numpy(copy=True),
    )
    persons = theirs[known].groupby(person_id[known])["split"].agg(["first", "nunique"])
    met = ~known & np.isin(person_id, persons.index)
    split[met] = persons.loc[person_id[met], "first"]
    out = met.copy()
    out[met] = persons.loc[person_id[met], "nunique"] > 1
    earlier_group = np.where(known, theirs["group_id"] + len(faces), group_id).astype(int)
    copies = joined(group_id, earlier_group)
    out |= known & (split != "test") & np.isin(copies, copies[known & (split == "test")])
    group, person = group_id.copy(), person_id.copy()
    split[out], group[out], person[out] = "test", *2 * [-1 - np.arange(out.sum())]
    representative[out] = False
    rest = ~known & ~met
    new = split_faces(faces[rest].reset_index(drop=True), group_id[rest], attributes, seed, person_id=person_id[rest])
    split[rest] = new["split"]
    # Groups of new faces, and earlier ones whose representative is not here or is left out.
    represented = np.isin(earlier_group, earlier_group[representative]) | np.isin(group, group[representative])
    missing = ~out & ~represented
    representative[missing] = representatives(faces[missing].reset_index(drop=True), earlier_group[missing])
    return _splits_table(faces, split, group, representative, person)


def _numbered(images: pd.DataFrame) -> pd.DataFrame:
    """Number identical images among themselves, column `number`."""
    return images.assign(number=images.groupby("sha256").cumcount())


def _carved(
    faces: pd.DataFrame, tested: np.ndarray, representative: np.ndarray, group_id: np.ndarray,
    attributes: Iterable[Attribute], seed: int, person_id: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """Test some rows, represented as given, and assign the persons of all others to train, validation, calibration."""
    shares = {name: share for name, share in schema.SPLITS.items() if name != "test"}
    rest = faces[~tested].reset_index(drop=True)
    carved = split_faces(rest, group_id[~tested], attributes, seed, shares, person_id[~tested])
    split, chosen = np.full(len(faces), "test", dtype=object), representative.copy()
    split[~tested], chosen[~tested] = carved["split"], carved["representative"]
    return _splits_table(faces, split, group_id, chosen, person_id)


def split_listed(
    faces: pd.DataFrame,
    group_id: np.ndarray,
    attributes: Iterable[Attribute],
    seed: int,
    person_id: np.ndarray | None = None,
) -> pd.DataFrame:
    """Test what a published split tests (column `part`), and carve validation and calibration out of its training list.

    Published splits let copies and persons cross from training to test, and nothing is removed from them here: see
    `shared_with_training`. Within the training list whole persons are assigned, as by `split_faces`, whose table this
    returns. A face that both lists name is tested and not trained on. Every tested face is a representative.
    """
    tested = (faces["part"] != "train").to_numpy()
    person_id = joined(group_id, group_id if person_id is None else person_id)
    return _carved(faces, tested, np.ones(len(faces), bool), group_id, attributes, seed, person_id)


def hold_out(
    faces: pd.DataFrame,
    tested: np.ndarray,
    group_id: np.ndarray,
    attributes: Iterable[Attribute],
    seed: int,
    person_id: np.ndarray | None = None,
) -> pd.DataFrame:
    """Test the rows `tested`, bool (n,), and carve validation and calibration out of the others; no person crosses.

    The other photographs of a tested person are neither trained on nor scored: they are in the test split, and none of
    them is a representative. Returns the table of `split_faces`.
    """
    person_id = joined(group_id, group_id if person_id is None else person_id)
    representative = np.zeros(len(faces), bool)
    representative[tested] = representatives(faces[tested].reset_index(drop=True), group_id[tested])
    out = np.isin(person_id, person_id[tested])
    return _carved(faces, out, representative, group_id, attributes, seed, person_id)


def deal_sessions(
    faces: pd.DataFrame,
    shares: Iterable[float],
    attributes: Iterable[Attribute],
    seed: int,
    draws: int = SESSION_DRAWS,
) -> np.ndarray:
    """Part of each row, int (n,): whole sessions dealt to parts of about these shares; -1 where no session is known.

    In each draw sessions come in a random order, each to the part that lacks most. The draw is
    taken whose parts differ least from their shares of each stratum.
    """
    known, shares = (faces["session"] != "").to_numpy(), np.array(list(shares))
    session = np.unique(faces["session"][known], return_inverse=True)[1]
    counts = pd.crosstab(session, stratum(faces[known], attributes).to_numpy()).to_numpy()
    wanted, sizes, rng = shares[:, None] * counts.sum(axis=0), counts.sum(axis=1), np.random.default_rng(seed)
    best, least = np.zeros(len(sizes), int), np.inf
    for _ in range(draws):
        part, lacking = np.zeros(len(sizes), int), shares * sizes.sum()
        for number in rng.permutation(len(sizes)):
            part[number] = lacking.argmax()
            lacking[part[number]] -= sizes[number]
        dealt = np.stack([counts[part == number].sum(axis=0) for number in range(len(shares))])
        # In units of each part: a small one may not pay for the evenness of a large one.
        uneven = (np.abs(dealt - wanted).sum(axis=1) / wanted.sum(axis=1)).sum()
        if uneven < least:
            best, least = part, uneven
    dealt = np.full(len(faces), -1)
    dealt[known] = best[session]
    return dealt


def split_sessions(
    faces: pd.DataFrame,
    group_id: np.ndarray,
    attributes: Iterable[Attribute],
    seed: int,
    person_id: np.ndarray | None = None,
) -> pd.DataFrame:
    """Test whole collection sessions, of about the share in `schema.SPLITS`; see `deal_sessions` and `hold_out`.

    Images collected together answer one query, and their labels and errors are alike. Faces without a session are not
    tested.
    """
    share = schema.SPLITS["test"]
    tested = deal_sessions(faces, (share, 1 - share), attributes, seed) == 0
    return hold_out(faces, tested, group_id, attributes, seed, person_id)


def leaking_pairs(splits: pd.DataFrame) -> int:
    """Number of pairs of copies that lie in different splits; only a published split may have any."""
    return int(_pairs(splits["group_id"].value_counts()) - _pairs(splits[["group_id", "split"]].value_counts()))


def random_split_pairs(splits: pd.DataFrame) -> float:
    """Pairs of copies that a split of single images lets cross: the mean over all splits with the same sizes."""
    apart = 1 - _pairs(splits["split"].value_counts()) / max(_pairs(pd.Series([len(splits)])), 1)
    return float(_pairs(splits["group_id"].value_counts()) * apart)


def _pairs(sizes: pd.Series) -> int:
    """Number of pairs within groups of some sizes."""
    return int((sizes * (sizes - 1) // 2).sum())


def shared_with_training(splits: pd.DataFrame, group: str = "group_id") -> np.ndarray:
    """Which test images have a copy, or by `person_id` the same person, in another split: bool (n,).

    Only a published split has any. A copy in validation or calibration counts too: it comes from the training list, and
    something was chosen or fitted on it.

    Examples
    --------
    >>> splits = pd.DataFrame({"split": ["train", "test", "test", "validation", "test"], "group_id": [0, 0, 1, 2, 2]})
    >>> shared_with_training(splits).tolist()
    [False, True, False, False, True]
    """
    tested = (splits["split"] == "test").to_numpy()
    return tested & splits[group].isin(splits.loc[~tested, group]).to_numpy()


def split_measures(splits: pd.DataFrame) -> dict[str, Estimate]:
    """Headline metrics: copies that cross the split, within what is trained on, into the test split; and persons."""
    tested = splits["split"] == "test"
    return {
        "splits.leaking_pairs": count(leaking_pairs(splits), "pairs"),
        "splits.leaking_pairs_within_training": count(leaking_pairs(splits[~tested]), "pairs"),
        "splits.copied_test_images": rate(int(shared_with_training(splits).sum()), int(tested.sum())),
        "splits.recognised_test_images": rate(int(shared_with_training(splits, "person_id").sum()), int(tested.sum())),
    }


def split_findings(faces: pd.DataFrame, splits: pd.DataFrame, random_pairs: float, protocol: dict) -> Findings:
    """Copies that cross the split, and that a random split would let cross; and the published lists it follows, if any.

    `random_pairs` is from `random_split_pairs`, `protocol` the run's.
    """
    measured, tested = split_measures(splits), (splits["split"] == "test").to_numpy()
    leaks, within, copied, recognised = measured.values()
    crossing = (
        f"{leaks.text} pair{'s' * (leaks.value != 1)} of copies cross{'es' * (leaks.value == 1)} the split, "
        f"{within.text} between training, validation and calibration."
    )
    text = crossing if leaks.value else "No pair of detected copies crosses the split."
    text += f" The test split contains {format_value(tested.mean(), 'share')} of the images."
    findings = [
        Finding("split.leaks", text, leaks),
        Finding(
            "split.random",
            f"A random split of the same faces lets {random_pairs:.0f} pairs of copies cross on average.",
            Estimate(random_pairs, np.nan, np.nan, len(splits), "pairs"),
        ),
    ]
    persons = splits.groupby("person_id")["group_id"].nunique()
    several = count(int((persons > 1).sum()), "persons")
    text = (
        f"The face network recognises {several.text} persons on several photographs, "
        f"{int(persons[persons > 1].sum()):,} in all. {round(recognised.value * recognised.n):,} of "
        f"{recognised.n:,} test images show one who is also outside the test split; copies count."
    )
    findings.append(Finding("split.persons", text, recognised))
    findings.append(session_finding(faces, splits))
    if protocol:
        identical = int(faces.loc[tested, "sha256"].isin(faces.loc[~tested, "sha256"]).sum())
        text = (
            f"The split follows the lists of {protocol['name']} (digest {protocol['digest']}): {(~tested).sum():,} "
            f"faces to train on and {tested.sum():,} to test. {round(copied.value * copied.n):,} test images have a "
            f"copy in the training list, {identical:,} of them byte-identical. They are tested as published and marked."
        )
        findings.append(Finding("split.protocol", text, copied))
    return Findings(findings)


def session_finding(faces: pd.DataFrame, splits: pd.DataFrame) -> Finding:
    """How many of the scored test faces were collected in a session with training faces."""
    tested = ((splits["split"] == "test") & splits["representative"]).to_numpy()
    if not has_sessions(faces):
        text = "The data do not say which images were collected together: no collection session can be held out."
        return Finding("split.sessions", text, n=int(tested.sum()))
    sessions = faces["session"].where(faces["session"] != "")
    tested = tested & sessions.notna().to_numpy()  # of several data sets, not all may name sessions
    shared = rate(int(sessions[tested].isin(sessions[splits["split"] == "train"]).sum()), int(tested.sum()))
    text = (
        f"The images fall into {sessions.nunique():,} collection sessions, and no test face is of a known one."
        if not shared.n
        else f"The images fall into {sessions.nunique():,} collection sessions. {shared.text} of the test faces of a "
        "known session share it with training faces; labels within a session may be alike."
        if shared.value
        else f"The test faces are from {sessions[tested].nunique():,} of {sessions.nunique():,} collection sessions; "
        "these have no training faces."
    )
    return Finding("split.sessions", text, shared)


def fold_of_groups(group_id: np.ndarray, strata: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row for out-of-fold prediction, int (n,) from 0; copies share a fold, strata are spread evenly."""
    rng = np.random.default_rng(seed)
    groups = pd.DataFrame({"group": group_id, "stratum": strata}).drop_duplicates("group")
    groups = groups.sample(frac=1, random_state=rng).sort_values("stratum", kind="stable")
    fold = pd.Series(np.arange(len(groups)) % folds, index=groups["group"])
    return fold.loc[group_id].to_numpy(int)
