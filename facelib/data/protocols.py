"""Published splits: train.csv and test.csv that name files, matched to the faces at hand."""

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.data.files import printable
from facelib.data.readers import FaceSource
from facelib.data.tables import PARSING_ERRORS, PATH_COLUMNS
from facelib.errors import UnreadableData
from facelib.formats import read_csv

LISTS = ("train", "test")
UNLISTED = "is in neither list of the protocol"


def bare_name(name: str) -> str:
    """A file name without folder, blanks and image suffixes, which published lists spell differently.

    Examples
    --------
    >>> bare_name("UTKFace/24_0_1_20170116220224657 .jpg.chip.jpg")
    '24_0_1_20170116220224657'
    """
    return re.sub(
        r"(\.?(jpe?g|png|chip))+$", "", name.replace("\\", "/").rsplit("/", 1)[-1].replace(" ", ""), flags=re.I
    )


def _named_files(path: Path) -> pd.Series:
    """The file names that a list of a split gives."""
    if not path.is_file():  # reading a pipe would never return
        raise UnreadableData(f"{path.parent} holds no {path.name}: a split is a folder with train.csv and test.csv")
    try:
        table = read_csv(path, dtype=str)
    except PARSING_ERRORS as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnreadableData(f"{path} cannot be read as a table ({reason}): save it again as CSV") from error
    column = next((name for name in PATH_COLUMNS if name in table), None)
    if column is None:
        raise UnreadableData(f"{path} has no column of file names: name it one of {', '.join(PATH_COLUMNS)}")
    return table[column].dropna()


def read_protocol(folder: Path, faces: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """The part of a published split that each face belongs to, by the names in `folder`'s train.csv and test.csv.

    A name matches the face with that path, or else the only face whose bare name it is.

    Returns
    -------
    part : Series of str
        `train`, `test`, `both` for a face that both lists name, or empty; indexed as `faces`.
    unmatched : DataFrame
        split, name, reason: names of the split that match no face, or several.

    Raises
    ------
    UnreadableData
        If a file or its column of names cannot be read, or not one name matches.
    """
    by_path = pd.Series(faces.index, index=faces["path"].to_numpy())
    by_name = pd.Series(faces.index, index=[bare_name(path) for path in faces["path"]])
    shared = set(by_name.index[by_name.index.duplicated()])
    by_name = by_name[~by_name.index.duplicated(keep=False)]
    part, unmatched = pd.Series("", index=faces.index), []
    for split in LISTS:
        named = _named_files(folder / f"{split}.csv")
        bare = named.map(bare_name)
        row = named.map(by_path).fillna(bare.map(by_name))
        reason = np.where(bare[row.isna()].isin(shared), "several files bear this name", "no file bears this name")
        unmatched.append(pd.DataFrame({"split": split, "name": named[row.isna()], "reason": reason}))
        matched = pd.Index(row.dropna().unique().astype(int))
        part.loc[matched] = np.where(part.loc[matched] == "", split, "both")
    unmatched = pd.concat(unmatched, ignore_index=True)
    if not part.any():
        example = f", e.g. {unmatched['name'].iloc[0]!r}" if len(unmatched) else ""
        raise UnreadableData(f"not one of the {len(unmatched)} names in {folder} is a file of this data{example}")
    return part, unmatched


def identify(folder: Path) -> dict[str, str]:
    """Name and path of a published split's folder, and a digest of the names in its lists, in any order.

    Raises
    ------
    UnreadableData
        If a list cannot be read.
    """
    digest = hashlib.sha256()
    for split in LISTS:
        digest.update("\n".join([f"{split}:", *sorted(set(_named_files(folder / f"{split}.csv"))), ""]).encode())
    resolved = folder.resolve()
    return {"name": resolved.name, "path": str(resolved), "digest": digest.hexdigest()[:20]}


def follow(source: FaceSource, folder: Path) -> FaceSource:
    """The faces that a published split names, with a column `part`: train, test, or both.

    Names that match no single face, and faces that no list names, are among the rejected.

    Raises
    ------
    UnreadableData
        If the lists cannot be read, or one of them names no face at all.
    """
    part, unmatched = read_protocol(folder, source.faces)
    for split in LISTS:
        if not part.isin([split, "both"]).any():
            raise UnreadableData(f"not one name in {folder / split}.csv is a file of this data: is it the right data?")
    items = [printable(f"{row.split}.csv: {row.name}") for row in unmatched.itertuples(index=False)]
    names = pd.DataFrame({"item": items, "reason": unmatched["reason"]})
    listed = part != ""
    unlisted = pd.DataFrame({"item": source.faces.loc[~listed, "image_id"], "reason": UNLISTED})
    rejected = pd.concat([source.rejected, names, unlisted], ignore_index=True)
    return dataclasses.replace(source, faces=source.faces[listed].assign(part=part[listed]), rejected=rejected)
