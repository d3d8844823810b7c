"""Readers of a UTKFace folder, of the 48 x 48 grey CSV and of a generic table, to one faces table.

Every file or row ends either as a row of the faces table or as a row of the rejected table with a reason.
"""

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa

from facelib.data.files import is_text, printable, read_below, regular_files
from facelib.errors import UnreadableData
from facelib.schema import ATTRIBUTES, MAX_AGE, is_missing, parse_age_band, parse_label

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# [age]_[gender]_[ethnicity]_[anything].jpg: a few published names have a blank, a missing dot or an odd timestamp.
UTKFACE_NAME = re.compile(r"^(\d{1,3})_([01])_([0-4])_.+$", re.DOTALL)
CHUNK = 256  # files a task
# What pandas and pyarrow raise over files that are no tables.
PARSING_ERRORS = (ArithmeticError, LookupError, NotImplementedError, OSError, TypeError, ValueError, pa.ArrowException)
CSV_EDGE = 48  # pixels
CSV_COLUMNS = {"age", "gender", "ethnicity", "pixels"}


@dataclass(frozen=True)
class FaceSource:
    """Labelled faces as read, before decoding.

    Attributes
    ----------
    faces : DataFrame
        image_id, path (below `root`), age (years, nan where missing), gender and ethnicity (codes, -1 where missing),
        source, sha256. The index is the position in the source. Of a table with age bands also age_from and age_to,
        the first and last whole year, nan where the age itself is known or nothing is.
    rejected : DataFrame
        item, reason.
    root : Path
        The folder that paths are relative to.
    grey : uint8 array of shape (n, 48, 48), optional
        Pixels by position, where the source holds them itself.
    """

    faces: pd.DataFrame
    rejected: pd.DataFrame
    root: Path
    grey: np.ndarray | None = None

    def items(self, positions) -> list[Path | np.ndarray]:
        """The image files, or the grey pixels, of some rows."""
        if self.grey is not None:
            return list(self.grey[positions])
        root = self.root.resolve()  # workers of a cluster have another working directory
        return [root / path for path in self.faces.loc[positions, "path"]]

    def sample(self, n: int | None, seed: int = 0) -> "FaceSource":
        """About n faces drawn by their content, so that copies of one file stay together.

        The draw depends on the content and the seed alone, not on names, labels or the order of files.
        """
        if n is None or n >= len(self.faces):
            return self
        salted = [hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest() for digest in self.faces["sha256"]]
        limit = sorted(salted)[n - 1]
        return FaceSource(self.faces[[digest <= limit for digest in salted]], self.rejected, self.root, self.grey)


def _rejections(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame([(printable(item), reason) for item, reason in rows], columns=["item", "reason"], dtype=str)


def _faces(rows: list[dict], source: str) -> pd.DataFrame:
    columns = ["image_id", "path", "age", "gender", "ethnicity", "sha256"]
    banded = any("age_from" in row for row in rows)
    faces = pd.DataFrame(rows, columns=[*columns, *(["age_from", "age_to"] if banded else [])])
    faces.insert(5, "source", source)
    return faces.astype({"age": "float64", "gender": "int8", "ethnicity": "int8"})


def _digest(root: Path, path: str) -> tuple[str, str]:
    """SHA-256 of a file below the resolved `root`, or why it cannot be used."""
    try:
        return hashlib.sha256(read_below(root, path)).hexdigest(), ""
    except ValueError as error:
        return "", str(error)


def _digests(root: Path, paths: list[str]) -> list[tuple[str, str]]:
    return [_digest(root, path) for path in paths]


def _with_digests(rows: list[dict], root: Path, rejected: list[tuple[str, str]]) -> list[dict]:
    """The rows whose file can be read, with sha256; the others go to `rejected`."""
    resolved, paths = root.resolve(), [row["path"] for row in rows]
    # Reading and hashing let go of the interpreter's lock.
    chunks = joblib.Parallel(n_jobs=-1, prefer="threads")(
        joblib.delayed(_digests)(resolved, paths[at : at + CHUNK]) for at in range(0, len(paths), CHUNK)
    )
    digests, usable = [digest for chunk in chunks for digest in chunk], []
    for row, (digest, reason) in zip(rows, digests, strict=True):
        if reason:
            rejected.append((row["path"], reason))
        else:
            usable.append({**row, "sha256": digest})
    return usable


def parse_utkface_name(name: str) -> tuple[int, int, int]:
    """Age in years, gender code and ethnicity code from a UTKFace file name.

    Raises
    ------
    ValueError
        If the name does not open with three labels, or the age is out of range.

    Examples
    --------
    >>> parse_utkface_name("26_1_2_20170116184024662.jpg.chip.jpg")
    (26, 1, 2)
    """
    match = UTKFACE_NAME.match(name)
    if not match:
        raise ValueError("name does not open with age_gender_ethnicity_")
    age, gender, ethnicity = map(int, match.groups())
    if age > MAX_AGE:
        raise ValueError(f"age {age} is over {MAX_AGE} years")
    return age, gender, ethnicity


def read_utkface(folder: Path, source: str = "utkface") -> FaceSource:
    """Read a folder of images with UTKFace's file names, at any depth."""
    rows, (paths, rejected) = [], regular_files(folder)
    for path in paths:
        if not is_text(path):
            rejected.append((path, "has a name that is not UTF-8: rename it"))
            continue
        if not path.lower().endswith(IMAGE_SUFFIXES):
            rejected.append((path, "is not an image file by its name"))
            continue
        try:
            age, gender, ethnicity = parse_utkface_name(os.path.basename(path))
        except ValueError as error:
            rejected.append((path, str(error)))
            continue
        rows.append({"image_id": path, "path": path, "age": age, "gender": gender, "ethnicity": ethnicity})
    rows = _with_digests(rows, folder, rejected)
    return FaceSource(_faces(rows, source), _rejections(rejected), folder)


def _parse_pixels(text) -> np.ndarray:
    """48 x 48 grey values from their text; a ValueError says what is wrong."""
    try:
        values = np.array(str(text).split(), dtype=np.int32)
    except (ValueError, OverflowError):
        raise ValueError("pixels are not whole numbers") from None
    if values.size != CSV_EDGE**2:
        raise ValueError(f"has {values.size} pixels instead of {CSV_EDGE**2}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError("pixels are outside 0-255")
    return values.astype(np.uint8).reshape(CSV_EDGE, CSV_EDGE)


def read_grey_csv(path: Path) -> FaceSource:
    """Read the 48 x 48 grey CSV: age, ethnicity, gender, img_name, pixels. Timestamps repeat; rows do not."""
    rows, rejected, grey = [], [], []
    position = 0
    for chunk in pd.read_csv(path, chunksize=2000, dtype=str):
        for record in chunk.to_dict("records"):
            item = f"{position:06d}_{record.get('img_name', '')}"
            position += 1
            try:
                labels = _parse_labels(record)
                pixels = _parse_pixels(record["pixels"])
            except ValueError as error:
                rejected.append((item, str(error)))
                continue
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            rows.append({"image_id": item, "path": item, **labels, "sha256": digest})
            grey.append(pixels)
    pixels = np.stack(grey) if grey else None
    return FaceSource(_faces(rows, "grey-csv"), _rejections(rejected), path.parent, pixels)


def _parse_labels(record: dict) -> dict:
    """Age, gender and ethnicity of one row; a ValueError names the label that is wrong."""
    return {attribute: parse_label(attribute, record.get(attribute)) for attribute in ATTRIBUTES}


def _parse_table_labels(record: dict) -> dict:
    """The labels of a table's row, with age_from and age_to where only a band of its age is known."""
    age, band = record.get("age"), record.get("age_band")
    if isinstance(age, str):
        with contextlib.suppress(ValueError):  # what is no band is a number, or refused as one
            parse_age_band(age)
            age, band = None, age
    labels = _parse_labels(record | {"age": age})
    if np.isfinite(labels["age"]) or is_missing(band) or str(band).strip() == "":
        return labels
    first, last = parse_age_band(band)
    return labels | {"age_from": float(first), "age_to": float(last)}


def _path_below(root: Path, path: str) -> str:
    """A table's path relative to `root`; a ValueError if it leaves the folder or is no local path."""
    if "://" in path:
        raise ValueError("path is a URL; only local files are read")
    if "\0" in path:
        raise ValueError("path holds a null character")
    relative = os.path.relpath(os.path.join(root, path), root)
    if relative.split(os.sep)[0] == "..":
        raise ValueError("path leads out of the image folder")
    return relative


def read_table(path: Path, images: Path | None = None) -> FaceSource:
    """Read a CSV or parquet table with a column `path` and any of age, gender and ethnicity.

    Where ages are known in bands alone, a column `age_band` or `age` itself may hold them: see `schema.parse_age_band`.

    Parameters
    ----------
    path : Path
        The table. Genders and ethnicities are codes or names of `schema`; empty labels are unknown.
    images : Path, optional
        The folder that paths are relative to and have to stay below; the table's own folder without it.

    Raises
    ------
    UnreadableData
        If the table has no column `path` or none of the label columns.
    """
    table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path, dtype=str)
    table.columns = [" ".join(str(column).split()).lower() for column in table.columns]  # one line, where it is said
    labelled = (*ATTRIBUTES, "age_band")
    for name in ("path", *labelled):
        if list(table.columns).count(name) > 1:
            raise UnreadableData(f"{path} has {list(table.columns).count(name)} columns {name}: leave one of them")
    if "path" not in table or not set(labelled) & set(table.columns):
        raise UnreadableData(
            f"{path} has the columns {', '.join(table.columns)}: it needs `path` and at least one of "
            f"{', '.join(labelled)}"
        )
    root = Path(images) if images else path.parent
    if not root.is_dir():
        raise UnreadableData(f"there is no folder {root}: --images takes the one that the table's paths begin in")
    rows, rejected, seen = [], [], set()
    for number, record in enumerate(table.to_dict("records")):
        item = f"row {number}: {record['path']}"
        try:
            if is_missing(record["path"]) or record["path"] == "":
                raise ValueError("path is empty")
            if not isinstance(record["path"], str):
                raise ValueError("path is no text")
            below = _path_below(root, record["path"])
            if below in seen:
                raise ValueError("path was listed before")
            labels = _parse_table_labels(record)
        except ValueError as error:
            rejected.append((item, str(error)))
            continue
        seen.add(below)
        rows.append({"image_id": below, "path": below, **labels})
    rows = _with_digests(rows, root, rejected)
    return FaceSource(_faces(rows, "table"), _rejections(rejected), root)


def read_faces(path: Path | str, images: Path | str | None = None) -> FaceSource:
    """Read whatever `path` is: a UTKFace folder, the 48 x 48 grey CSV, or a table.

    Raises
    ------
    UnreadableData
        If nothing is there, or not one face in it can be used.
    """
    path = Path(path)
    if not path.exists():
        raise UnreadableData(f"there is nothing at {path}: give a UTKFace folder, a CSV or a parquet table")
    kind = path.suffix.lower()
    if not path.is_dir() and not (
        path.is_file() and kind in (".csv", ".parquet")
    ):  # reading a pipe would wait for ever
        raise UnreadableData(f"{path} is neither a folder nor a .csv or .parquet table: give one of them")
    try:
        if path.is_dir():
            source = read_utkface(path)
        elif kind == ".csv" and set(pd.read_csv(path, nrows=0).columns) >= CSV_COLUMNS:
            source = read_grey_csv(path)
        else:
            source = read_table(path, Path(images) if images else None)
    except PARSING_ERRORS as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnreadableData(f"{path} cannot be read as a table ({reason}): save it anew as CSV or parquet") from error
    if source.faces.empty:
        hint = (
            f", e.g. {source.rejected.item.iloc[0]!r} {source.rejected.reason.iloc[0]}" if len(source.rejected) else ""
        )
        remedy = (
            "give the folder that holds the images" if path.is_dir() else f"paths begin in {source.root}, or --images"
        )
        raise UnreadableData(f"{path} holds no usable face ({len(source.rejected)} rejected{hint}): {remedy}")
    return source
