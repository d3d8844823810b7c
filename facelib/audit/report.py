"""The audit of any labelled faces as four CSV files, without a run."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from facelib.audit import decisions, duplicates, quality
from facelib.config import resolve_profile
from facelib.data import cache_faces, read_faces
from facelib.data.protocols import read_protocol
from facelib.data.splits import split_faces
from facelib.errors import UnreadableData
from facelib.runs import atomic_path, cache_root

AUDIT_PX = 64  # edge of the images that are hashed, compared and scored, pixels


def _save(table: pd.DataFrame, path: Path) -> str:
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False)
    return f"{path}: {len(table):,} rows"


def leaks_table(faces: pd.DataFrame, part: pd.Series, group_id, pairs: pd.DataFrame) -> pd.DataFrame:
    """Test images with a copy in training.

    Parameters
    ----------
    faces : DataFrame
    part : Series of str
        `train`, `test` or empty, by row.
    group_id : int array of shape (n,)
    pairs : DataFrame
        From `duplicates.find_copies`.

    Returns
    -------
    DataFrame
        test_image, train_image, kind (exact | near | near by way of another copy), distance; the closest copy of each.
    """
    both = pd.concat([pairs, pairs.rename(columns={"first": "second", "second": "first"})])
    direct = both[(part.to_numpy()[both["first"]] == "test") & (part.to_numpy()[both["second"]] == "train")]
    # Byte-identical files count as exact whichever of their pairs the search listed.
    content = faces["sha256"].to_numpy()
    group = pd.DataFrame({"row": range(len(faces)), "group": group_id, "part": part.to_numpy()})
    joined = group[group["part"] == "test"].merge(group[group["part"] == "train"], on="group", suffixes=("", "_train"))
    joined = joined.merge(direct, how="left", left_on=["row", "row_train"], right_on=["first", "second"])
    same = content[joined["row"]] == content[joined["row_train"]]
    joined.loc[same, ["kind", "distance"]] = ["exact", 0.0]
    joined["kind"] = joined["kind"].fillna("near by way of another copy")
    closest = joined.sort_values("distance", kind="stable").drop_duplicates("row").sort_values("row")
    ids = faces["image_id"].to_numpy()
    return pd.DataFrame(
        {
            "test_image": ids[closest["row"]],
            "train_image": ids[closest["row_train"]],
            "kind": closest["kind"].to_numpy(),
            "distance": closest["distance"].to_numpy(),
        }
    )


def audit_data(
    data: str, images: str | None, out: Path, split: Path | None, profile: str, labels: bool
) -> Iterator[str]:
    """Audit labelled faces into a folder of CSV files; yields a line per finding.

    Parameters
    ----------
    data, images : str
        See `facelib.data.read_faces`.
    out : Path
        Folder for rejected.csv, duplicates.csv, label_issues.csv, quality.csv and, with a split, leaks.csv.
    split : Path, optional
        A folder with train.csv and test.csv.
    profile : str
        Whose settings the label-scoring networks take.
    labels : bool
        Score labels, which trains networks.
    """
    setting = resolve_profile(profile)
    if out.exists() and not out.is_dir():
        raise UnreadableData(f"--out {out} is a file: give a folder")
    if split is not None and not split.is_dir():
        raise UnreadableData(f"there is no folder {split}: --split takes one with train.csv and test.csv")
    pictures, faces, rejected = cache_faces(read_faces(data, images), AUDIT_PX, cache_root())
    yield f"{len(faces):,} faces, {len(rejected):,} rejected"
    yield _save(rejected, out / "rejected.csv")
    pairs = duplicates.find_copies(faces, pictures)
    group_id = duplicates.group_copies(len(faces), pairs)
    copies = duplicates.duplicates_table(faces, group_id, pairs)
    contradict = duplicates.contradictions(faces, group_id)
    yield _save(copies.merge(contradict, on="group_id"), out / "duplicates.csv")
    yield f"{len(contradict):,} groups of copies, {contradict['contradicts'].sum():,} of them contradict themselves"
    if split is not None:
        part, unmatched = read_protocol(split, faces)
        leaks = leaks_table(faces, part, group_id, pairs)
        yield _save(leaks, out / "leaks.csv")
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in leaks["kind"].value_counts().items())
        yield (
            f"{len(leaks):,} of {(part == 'test').sum():,} test images have a copy in training ({kinds or 'none'}); "
            f"{len(unmatched):,} names of the split match no file"
        )
    yield _save(quality.score_quality(faces, pictures), out / "quality.csv")
    if labels:
        # The networks are a heavy import, which an audit without labels is spared.
        from facelib.audit.label_issues import find_issues
        from facelib.models.out_of_fold import score_out_of_fold

        agreed = faces.assign(**decisions.agreed_labels(faces, group_id))
        scores = score_out_of_fold(agreed, pictures, split_faces(faces, group_id, setting.seed), setting)
        issues = find_issues(faces, scores).sort_values("score")
        yield _save(issues, out / "label_issues.csv")
        flagged = issues.groupby("attribute")["is_issue"].sum()
        yield "doubted labels: " + ", ".join(f"{attribute} {count:,}" for attribute, count in flagged.items())
