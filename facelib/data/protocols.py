"""Published splits: train.csv and test.csv that name files, matched to the faces at hand."""

import re
from pathlib import Path

import pandas as pd

from facelib.errors import UnreadableData

NAME_COLUMNS = ("filename", "image_id", "path", "file", "img_name")


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


def read_protocol(folder: Path, faces: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """The part of a published split that each face belongs to.

    Parameters
    ----------
    folder : Path
        Holds train.csv and test.csv with a column of file names.
    faces : DataFrame
        The faces table.

    Returns
    -------
    part : Series of str
        `train`, `test`, or empty for a face that the split does not name; indexed as `faces`.
    unmatched : list of str
        Names of the split that no face bears.

    Raises
    ------
    UnreadableData
        If a file or its column of names is missing.
    """
    by_name = pd.Series(faces.index, index=[bare_name(path) for path in faces["path"]])
    by_name = by_name[~by_name.index.duplicated()]
    part, unmatched = pd.Series("", index=faces.index), []
    for split in ("train", "test"):
        path = folder / f"{split}.csv"
        if not path.exists():
            raise UnreadableData(f"{folder} holds no {split}.csv: a split is a folder with train.csv and test.csv")
        table = pd.read_csv(path, dtype=str)
        column = next((name for name in NAME_COLUMNS if name in table), None)
        if column is None:
            raise UnreadableData(f"{path} has no column of file names: name it one of {', '.join(NAME_COLUMNS)}")
        named = table[column].dropna()
        found = named.map(bare_name).isin(by_name.index)
        unmatched += named[~found].tolist()
        part.loc[by_name.loc[named[found].map(bare_name)].to_numpy()] = split
    return part, unmatched
