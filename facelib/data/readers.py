"""Readers of labelled faces: a UTKFace folder, the 48 x 48 grey CSV, and a table of one's own.

Every file or row ends either as a row of the faces table or as a row of the rejected table with a reason.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa

from facelib.data.files import is_text, printable, read_below, regular_files
from facelib.errors import UnreadableData
from facelib.schema import AGE, MAX_AGE, UTKFACE_ATTRIBUTES, Attribute, is_missing, parse_age_band

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif")
# [age]_[gender]_[ethnicity]_[anything].jpg: a few published names have a blank, a missing dot or an odd timestamp.
UTKFACE_NAME = re.compile(r"^(\d{1,3})_([01])_([0-4])_.+$", re.DOTALL)
CHUNK = 256  # files a task
# What pandas and pyarrow raise over files that are not tables.
PARSING_ERRORS = (ArithmeticError, LookupError, NotImplementedError, OSError, TypeError, ValueError, pa.ArrowException)
CSV_EDGE = 48  # pixels
CSV_COLUMNS = {"age", "gender", "ethnicity", "pixels"}
BAND_COLUMN = f"{AGE.name}_band"
TABLE_ATTRIBUTES = UTKFACE_ATTRIBUTES  # whose labels a table may have


@dataclass(frozen=True)
class FaceSource:
    """Labelled faces as read, before decoding.

    Attributes
    ----------
    faces : DataFrame
        image_id, path (below `root`), a column of labels per attribute, source, sha256. The index is the position in
        the source. Of a table with age bands also age_from and age_to, the first and last whole year, nan where the
        age itself is known or nothing is.
    rejected : DataFrame
        item, reason.
    root : Path
        The folder that paths are relative to.
    attributes : tuple of Attribute
        Those that `faces` has a column of.
    grey : uint8 array of shape (n, 48, 48), optional
        Pixels by position, where the source holds them itself.
    """

    faces: pd.DataFrame
    rejected: pd.DataFrame
    root: Path
    attributes: tuple[Attribute, ...]
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
        return dataclasses.replace(self, faces=self.faces[[digest <= limit for digest in salted]])


def _source(
    rows: list[dict],
    rejected: Iterable[tuple[str, str]],
    root: Path,
    name: str,
    attributes: tuple[Attribute, ...] = UTKFACE_ATTRIBUTES,
    grey: np.ndarray | None = None,
) -> FaceSource:
    columns = ["image_id", "path", *(attribute.name for attribute in attributes), "source", "sha256"]
    columns += ["age_from", "age_to"] if any("age_from" in row for row in rows) else []
    faces = pd.DataFrame(rows, columns=columns).assign(source=name)
    faces = faces.astype({attribute.name: attribute.dtype for attribute in attributes})
    reasons = [(printable(item), reason) for item, reason in rejected]
    return FaceSource(faces, pd.DataFrame(reasons, columns=["item", "reason"], dtype=str), root, attributes, grey)


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
    # Reading and hashing release the interpreter's lock.
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
        try:
            if not is_text(path):
                raise ValueError("has a name that is not UTF-8: rename it")
            if not path.lower().endswith(IMAGE_SUFFIXES):
                raise ValueError("is not an image file by its name")
            labels = dict(zip(("age", "gender", "ethnicity"), parse_utkface_name(os.path.basename(path)), strict=True))
            rows.append({"image_id": path, "path": path, **labels})
        except ValueError as error:
            rejected.append((path, str(error)))
    return _source(_with_digests(rows, folder, rejected), rejected, folder, source)


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
                labels = _parse_labels(record, UTKFACE_ATTRIBUTES)
                pixels = _parse_pixels(record["pixels"])
            except ValueError as error:
                rejected.append((item, str(error)))
                continue
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            rows.append({"image_id": item, "path": item, **labels, "sha256": digest})
            grey.append(pixels)
    return _source(rows, rejected, path.parent, "grey-csv", grey=np.stack(grey) if grey else None)


def _parse_labels(record: dict, attributes: Iterable[Attribute]) -> dict:
    """The labels of one row; a ValueError names the one that is wrong."""
    return {attribute.name: attribute.parse(record.get(attribute.name)) for attribute in attributes}


def _parse_table_labels(record: dict, attributes: tuple[Attribute, ...]) -> dict:
    """The labels of a table's row, with age_from and age_to where only a band of its age is known."""
    age, band = record.get(AGE.name), record.get(BAND_COLUMN)
    if isinstance(age, str):
        with contextlib.suppress(ValueError):  # what is not a band is a number, or refused as one
            parse_age_band(age)
            age, band = None, age
    labels = _parse_labels(record | {AGE.name: age}, attributes)
    if AGE not in attributes or np.isfinite(labels[AGE.name]) or is_missing(band) or str(band).strip() == "":
        return labels
    first, last = parse_age_band(band)
    return labels | {"age_from": float(first), "age_to": float(last)}


def _path_below(root: Path, path) -> str:
    """A table's path relative to `root`; a ValueError if it is not text, leaves the folder or is not a local path."""
    if is_missing(path) or path == "":
        raise ValueError("path is empty")
    if not isinstance(path, str):
        raise ValueError("path is not text")
    if "://" in path:
        raise ValueError("path is a URL; only local files are read")
    if "\0" in path:
        raise ValueError("path holds a null character")
    relative = os.path.relpath(os.path.join(root, path), root)
    if relative.split(os.sep)[0] == "..":
        raise ValueError("path leads out of the image folder")
    return relative


def read_table(path: Path, images: Path | None = None) -> FaceSource:
    """Read a CSV or parquet table with a column `path` and one or more label columns.

    Classes are codes or names of `TABLE_ATTRIBUTES`; empty labels are unknown. Bands of ages may stand in a
    column `age_band` or in `age` itself: see `schema.parse_age_band`. Paths are relative to `images`, else to the
    table's own folder, and have to stay below it.

    Raises
    ------
    UnreadableData
        If the table has no column `path` or none of the label columns.
    """
    table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path, dtype=str)
    table.columns = [" ".join(str(column).split()).lower() for column in table.columns]  # one line in a message
    columns = list(table.columns)
    label_columns = [*(attribute.name for attribute in TABLE_ATTRIBUTES), BAND_COLUMN]
    for name in ("path", *label_columns):
        if columns.count(name) > 1:
            raise UnreadableData(f"{path} has {columns.count(name)} columns {name}: leave one of them")
    if "path" not in columns or not set(label_columns) & set(columns):
        raise UnreadableData(
            f"{path} has the columns {', '.join(columns)}: it needs `path` and at least one of "
            f"{', '.join(label_columns)}"
        )
    root = Path(images) if images else path.parent
    if not root.is_dir():
        raise UnreadableData(f"there is no folder {root}: --images takes the one that the table's paths begin in")
    of_bands = {AGE} if BAND_COLUMN in columns else set()
    attributes = tuple(a for a in TABLE_ATTRIBUTES if a.name in columns or a in of_bands)
    rows, rejected, seen = [], [], set()
    for number, record in enumerate(table.to_dict("records")):
        try:
            below = _path_below(root, record["path"])
            if below in seen:
                raise ValueError("path was listed before")
            labels = _parse_table_labels(record, attributes)
        except ValueError as error:
            rejected.append((f"row {number}: {record['path']}", str(error)))
            continue
        seen.add(below)
        rows.append({"image_id": below, "path": below, **labels})
    return _source(_with_digests(rows, root, rejected), rejected, root, "table", attributes)


def _is_grey_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and set(pd.read_csv(path, nrows=0).columns) >= CSV_COLUMNS


@dataclass(frozen=True)
class Reader:
    """One form of data that `--data` takes."""

    about: str  # for help texts and messages
    matches: Callable[[Path], bool]  # whether a folder, or a .csv or .parquet file, is of this form
    read: Callable[[Path, Path | None], FaceSource]  # the path, and the folder of `--images` or None


# Every form of data; the first one that matches reads it.
READERS = (
    Reader("a UTKFace folder", Path.is_dir, lambda path, images: read_utkface(path)),
    Reader("the 48 x 48 CSV", _is_grey_csv, lambda path, images: read_grey_csv(path)),
    Reader("a table (.csv or .parquet)", lambda path: True, read_table),
)
FORMS = ", ".join(reader.about for reader in READERS[:-1]) + f" or {READERS[-1].about}"


def read_faces(path: Path | str, images: Path | str | None = None) -> FaceSource:
    """Read labelled faces of any form in `READERS`.

    Raises
    ------
    UnreadableData
        If nothing is there, or not one face in it can be used.
    """
    path = Path(path)
    if not path.exists():
        raise UnreadableData(f"there is nothing at {path}: give {FORMS}")
    # Reading a pipe would wait for ever.
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in (".csv", ".parquet")):
        raise UnreadableData(f"{path} is neither a folder nor a .csv or .parquet file: give {FORMS}")
    try:
        reader = next(reader for reader in READERS if reader.matches(path))
        source = reader.read(path, Path(images) if images else None)
    except PARSING_ERRORS as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnreadableData(f"{path} cannot be read as a table ({reason}): save it again as CSV or parquet") from error
    if source.faces.empty:
        first = source.rejected.head(1).itertuples(index=False)
        example = "".join(f", e.g. {row.item!r} {row.reason}" for row in first)
        remedy = "give the folder of the images" if path.is_dir() else f"paths begin in {source.root}, or --images"
        raise UnreadableData(f"{path} holds no usable face ({len(source.rejected)} rejected{example}): {remedy}")
    return source
