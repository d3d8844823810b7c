"""Readers of labelled faces: folders, tables and published data sets, by the forms in `data.published`.

Every file or row ends either as a row of the faces table or as a row of the rejected table with a reason. A row is
rejected only if nothing in it can be used; single labels that cannot be used are unknown, and counted with their value.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from facelib.data.files import is_text, printable, read_below, regular_files
from facelib.data.label_maps import (
    BAND_COLUMN,
    KNOWN,
    Field,
    LabelMap,
    Labels,
    cell_text,
    parse_map,
    read_labels,
    suggest,
)
from facelib.data.published import FOLDERS, FORMS, GREY, KINDS, TABLE, UTKFACE, Form
from facelib.data.sessions import collection_times, sessions_of
from facelib.data.tables import PARSING_ERRORS, PATH_COLUMNS, SUFFIXES, guess_path_column, one_line, read_rows
from facelib.errors import UnreadableData
from facelib.schema import AGE, UTKFACE_ATTRIBUTES, Attribute, ClassAttribute, is_missing, parse_age_band

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif")
CHUNK = 256  # files a task
CSV_EDGE = 48  # pixels
REJECTED, UNUSABLE = ["item", "reason"], ["item", "label", "value", "reason"]  # columns
COMPARED_NAMES = 20  # rows whose names and labels both say an age, from which on the two are compared
BOX_COLUMNS = ("left", "top", "right", "bottom")
LISTED_NAMES = 2000  # file names by which a folder's form is recognised


@dataclass(frozen=True)
class Crop:
    """A face in a photograph: its file, and its box (left, top, right, bottom) in pixels of the upright picture."""

    path: Path
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class FaceSource:
    """Labelled faces as read, before decoding.

    Attributes
    ----------
    faces : DataFrame
        image_id, path (below `root`), a column of labels per attribute, source, sha256. The index is the position in
        the source. Where bands of ages are known also age_from and age_to, the first and last whole year, nan where
        the age itself is known or nothing is. Where faces were given by boxes also box, `left top right bottom` in
        pixels; their sha256 is that of the file and the box. Where it is known also collected, the time of collection
        (`sessions.collection_times`), and session; both empty where a row has none.
    rejected : DataFrame
        item, reason.
    root : Path
        The folder that paths are relative to.
    attributes : tuple of Attribute
        Those that `faces` has a column of.
    grey : uint8 array of shape (n, 48, 48), optional
        Pixels by position, where the source holds them itself.
    unusable : DataFrame
        item, label, value, reason: labels that were given and could not be used, of faces that are kept.
    notes : tuple of str
        What a reader should know of how the labels were read.
    """

    faces: pd.DataFrame
    rejected: pd.DataFrame
    root: Path
    attributes: tuple[Attribute, ...]
    grey: np.ndarray | None = None
    unusable: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=UNUSABLE, dtype=str))
    notes: tuple[str, ...] = ()

    def items(self, positions) -> list[Path | Crop | np.ndarray]:
        """The image files, the faces within them, or the grey pixels, of some rows."""
        if self.grey is not None:
            return list(self.grey[positions])
        root = self.root.resolve()  # workers of a cluster have another working directory
        rows = self.faces.loc[positions]
        files = [root / path for path in rows["path"]]
        if "box" not in rows:
            return files
        boxes = [tuple(map(int, box.split())) for box in rows["box"]]
        return [Crop(file, box) if box else file for file, box in zip(files, boxes, strict=True)]

    def sample(self, n: int | None, seed: int = 0) -> "FaceSource":
        """About n faces drawn by their content, so that copies of one file stay together.

        The draw depends on the content and the seed alone, not on names, labels or the order of files.
        """
        if n is None or n >= len(self.faces):
            return self
        salted = [hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest() for digest in self.faces["sha256"]]
        limit = sorted(salted)[n - 1]
        return dataclasses.replace(self, faces=self.faces[[digest <= limit for digest in salted]])

    def about(self) -> list[str]:
        """One line for each kind of label that could not be used, and each note, for people."""
        lines = []
        for (label, reason), rows in self.unusable.groupby(["label", "reason"], sort=False):
            lines.append(f"{len(rows):,} {label} label{'s' if len(rows) > 1 else ''} unknown: {reason}")
        return [*lines, *self.notes]


@dataclass
class _Rows:
    """Rows on their way to a `FaceSource`: what each is called, its file, and where it was refused, why."""

    items: list[str]
    paths: list[str]
    reasons: list[str]

    def refuse(self, row: int, reason: str) -> None:
        self.reasons[row] = self.reasons[row] or reason


def _finish(
    rows: _Rows, labels: Labels, root: Path, form: Form, refused: Sequence[tuple[str, str]] = (),
    grey: np.ndarray | None = None, digests: list[str] | None = None, boxes: list[str] | None = None,
    notes: Iterable[str] = (), session: Sequence[str] | None = None,
) -> FaceSource:  # fmt: skip
    """The source of some rows; rows without a usable label, or whose file cannot be read, are rejected."""
    first = labels.unusable.drop_duplicates("row").set_index("row")["reason"]
    for row in np.flatnonzero(~labels.usable()):
        rows.refuse(row, first[row])
    if digests is None:
        digests = _digests_of(rows, root)
    kept = [row for row, reason in enumerate(rows.reasons) if not reason]
    ids = [rows.paths[row] for row in kept]
    columns = {"image_id": ids, "path": ids}
    faces = pd.DataFrame(columns).join(labels.columns.iloc[kept].reset_index(drop=True))
    faces = faces.assign(source=form.name, sha256=[digests[row] for row in kept])
    ordered = ["image_id", "path", *(attribute.name for attribute in labels.attributes), "source", "sha256"]
    faces = faces[[*ordered, *faces.columns.drop(ordered)]]
    if boxes is not None:
        faces = _with_boxes(faces, [boxes[row] for row in kept])
    if session is not None:
        faces["session"] = [printable(session[row]) for row in kept]
    elif form.stamped and (collected := collection_times(faces["path"])).ne("").any():
        faces = faces.assign(collected=collected, session=sessions_of(collected))
    rejected = [*refused, *((rows.items[row], reason) for row, reason in enumerate(rows.reasons) if reason)]
    rejected = pd.DataFrame([(printable(item), reason) for item, reason in rejected], columns=REJECTED, dtype=str)
    places = {row: place for place, row in enumerate(kept)}
    unusable = labels.unusable[labels.unusable["row"].isin(places)]
    items = [faces["image_id"].iloc[places[row]] for row in unusable["row"]]
    unusable = unusable.assign(item=items, value=[printable(str(value)) for value in unusable["value"]])[UNUSABLE]
    grey = None if grey is None else grey[kept]
    unusable = unusable.reset_index(drop=True).astype(str)
    return FaceSource(faces, rejected, root, labels.attributes, grey, unusable, (*notes, *labels.notes))


def digest_of_crop(digest: str, box: tuple[int, int, int, int]) -> str:
    """What identifies the pixels of a face: a digest of its photograph's digest and its box."""
    return hashlib.sha256(f"{digest}:{box}".encode()).hexdigest()


def _with_boxes(faces: pd.DataFrame, boxes: list[str]) -> pd.DataFrame:
    """Faces with their boxes: photographs with several get `#k` in the image_id, and each face a digest of its own."""
    faces = faces.assign(box=boxes)
    several = faces["path"].duplicated(keep=False)
    number = (faces.groupby("path").cumcount() + 1).astype(str)
    ids = faces["image_id"].where(~several, faces["image_id"] + "#" + number)
    digests = [
        digest_of_crop(digest, tuple(map(int, box.split()))) if box else digest
        for digest, box in zip(faces["sha256"], boxes, strict=True)
    ]
    return faces.assign(image_id=ids, sha256=digests)


def _digest(root: Path, path: str) -> tuple[str, str]:
    """SHA-256 of a file below the resolved `root`, or why it cannot be used."""
    try:
        return hashlib.sha256(read_below(root, path)).hexdigest(), ""
    except ValueError as error:
        return "", str(error)


def _digests(root: Path, paths: list[str]) -> list[tuple[str, str]]:
    return [_digest(root, path) for path in paths]


def _digests_of(rows: _Rows, root: Path) -> list[str]:
    """Digests of the files of the rows that are not refused; those that cannot be read are refused."""
    resolved = root.resolve()
    paths = list(dict.fromkeys(path for path, reason in zip(rows.paths, rows.reasons, strict=True) if not reason))
    # Reading and hashing release the interpreter's lock.
    chunks = joblib.Parallel(n_jobs=-1, prefer="threads")(
        joblib.delayed(_digests)(resolved, paths[at : at + CHUNK]) for at in range(0, len(paths), CHUNK)
    )
    found = dict(zip(paths, (digest for chunk in chunks for digest in chunk), strict=True))
    hints = _Hints(resolved)
    for row, path in enumerate(rows.paths):
        if not rows.reasons[row] and found[path][1]:
            reason = found[path][1]
            rows.refuse(row, reason + (hints.other_case(path) if reason == "does not exist" else ""))
    return [found[path][0] if path in found else "" for path in rows.paths]


class _Hints:
    """Files whose names differ from a missing one in upper and lower case alone."""

    def __init__(self, root: Path):
        self.root, self.folders = root, {}

    def other_case(self, path: str) -> str:
        """` (there is ...)` for a missing file that has another one of its name; empty for others."""
        folder, name = os.path.split(path)
        if folder not in self.folders:
            place = self.root / folder
            inside = place.resolve().is_relative_to(self.root) and place.is_dir()
            self.folders[folder] = {other.lower(): other for other in os.listdir(place)} if inside else {}
        other = self.folders[folder].get(name.lower(), name)
        there = printable(os.path.join(folder, other))
        return f" (there is {there}: mind upper and lower case)" if other != name else ""


# --- folders ----------------------------------------------------------------------------------------------


def read_utkface(folder: Path, source: str = "utkface") -> FaceSource:
    """Read a folder of images with UTKFace's file names, at any depth."""
    return _read_names(folder, regular_files(folder), UTKFACE.map, dataclasses.replace(UTKFACE, name=source), ())


def _picture_rows(paths: list[str]) -> _Rows:
    """The files of a folder as rows; those that are no pictures by their names are refused."""
    rows = _Rows(paths, paths, [""] * len(paths))
    for row, path in enumerate(paths):
        if not is_text(path):
            rows.refuse(row, "has a name that is not UTF-8: rename it")
        elif not path.lower().endswith(IMAGE_SUFFIXES):
            rows.refuse(row, "is not an image file by its name")
    return rows


def _read_names(
    folder: Path, found: tuple, labels: LabelMap, form: Form, wanted: Sequence[str | ClassAttribute]
) -> FaceSource:
    """Read the files of a folder, whose names hold labels as a map says."""
    paths, refused = found
    rows, groups = _picture_rows(paths), {name: [""] * len(paths) for name in labels.name.groupindex}
    for row, path in enumerate(paths):
        if not (match := labels.name.fullmatch(os.path.basename(path))):
            rows.refuse(row, form.unlike)
        elif not rows.reasons[row]:
            for name, text in match.groupdict(default="").items():
                groups[name][row] = text
    table = pd.DataFrame(groups, dtype=object)
    fields = {name: Field(name) for name in groups if name not in ("born", "taken")} | dict(labels.fields)
    found_labels = read_labels(table, _chosen(fields, wanted), str(folder), wanted)
    # A name without any of the labels says nothing; a row of a table without labels may be wanted for its picture.
    labelled = [attribute.has_label(found_labels.columns) for attribute in found_labels.attributes]
    nothing = ~np.any([np.zeros(len(paths), bool), *labelled], axis=0)
    for row in np.flatnonzero(nothing):
        first = found_labels.unusable.loc[found_labels.unusable["row"] == row, "reason"]
        rows.refuse(row, first.iloc[0] if len(first) else "name holds no label")
    return _finish(rows, found_labels, folder, form, refused)


def _read_class_folders(folder: Path, found: tuple) -> FaceSource | None:
    """Read pictures in folders named for ages, bands or classes; None where no folder is."""
    paths, refused = found
    known = [attribute for attribute in KNOWN.values() if not attribute.sensitive]
    table = {attribute.name: [""] * len(paths) for attribute in known}
    for row, path in enumerate(paths):
        for part in Path(path).parts[:-1]:
            if (attribute := next((a for a in known if _names_label(a, part)), None)) is not None:
                table[attribute.name][row] = part
    used = {name: texts for name, texts in table.items() if any(texts)}
    if not used:
        return None
    rows = _picture_rows(paths)
    for row in range(len(paths)):
        if not any(texts[row] for texts in used.values()):
            rows.refuse(row, "lies in no folder named for a class")
    labels = read_labels(pd.DataFrame(used, dtype=object), {name: Field(name) for name in used}, str(folder))
    return _finish(rows, labels, folder, FOLDERS, refused)


def _names_label(attribute: Attribute, name: str) -> bool:
    """Whether a folder's name is a class by its name, or an age or a band."""
    if isinstance(attribute, ClassAttribute):
        return name.lower() in {*map(str.lower, attribute.classes), *attribute.synonyms}
    try:
        parse_age_band(name)
    except ValueError:
        return bool(re.fullmatch(r"\d{1,3}", name)) and int(name) <= 116
    return True


def _read_folder(folder: Path, labels: LabelMap, wanted: Sequence[str | ClassAttribute]) -> FaceSource:
    """Read a folder by a map for names, by a published table in it, or by its file or folder names."""
    found = regular_files(folder)
    if labels.name:
        return _read_names(folder, found, labels, TABLE, wanted)
    for form in FORMS:
        tables = [path for path in found[0] if form.files and form.files.fullmatch(os.path.basename(path))]
        if tables:
            return _read_published(folder, tables, form, labels, wanted)
    names = [os.path.basename(path) for path in found[0] if path.lower().endswith(IMAGE_SUFFIXES)][:LISTED_NAMES]
    by_name = [form for form in FORMS if form.map.name]
    matched = {form.about: sum(bool(form.map.name.fullmatch(name)) for name in names) for form in by_name}
    best = max(by_name, key=lambda form: matched[form.about])
    if matched[best.about] == 0 and (source := _read_class_folders(folder, found)):
        return source
    best = best if matched[best.about] else UTKFACE
    return _read_names(folder, found, labels.over(best.map), best, wanted)


def _read_published(
    folder: Path, tables: list[str], form: Form, labels: LabelMap, wanted: Sequence[str | ClassAttribute]
) -> FaceSource:
    """Read the tables of a published data set in its folder, as one."""
    parts = []
    for name in tables:
        rows, notes = read_rows(folder / name)
        part = form.files.fullmatch(os.path.basename(name)).groupdict()
        parts.append(rows.assign(**part))
    table = pd.concat(parts, ignore_index=True)
    path = labels.path or form.folder_path or form.map.path
    return _read_table(table, notes, folder, folder, form, dataclasses.replace(labels, path=path), wanted)


# --- the 48 x 48 grey CSV ---------------------------------------------------------------------------------


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


def read_grey_csv(path: Path, labels: LabelMap, wanted: Sequence[str | ClassAttribute] = ()) -> FaceSource:
    """Read the 48 x 48 grey CSV: age, ethnicity, gender, img_name, pixels. Timestamps repeat; rows do not."""
    rows, grey, digests, tables = _Rows([], [], []), [], [], []
    for chunk in pd.read_csv(path, chunksize=2000, dtype=str):
        for record in chunk.to_dict("records"):
            item = f"{len(rows.items):06d}_{record.get('img_name', '')}"
            pixels, reason = np.zeros((CSV_EDGE, CSV_EDGE), np.uint8), ""
            try:
                pixels = _parse_pixels(record["pixels"])
            except ValueError as error:
                reason = str(error)
            for known, value in ((rows.items, item), (rows.paths, item), (rows.reasons, reason), (grey, pixels)):
                known.append(value)
            digests.append(hashlib.sha256(pixels.tobytes()).hexdigest())
        tables.append(chunk.drop(columns="pixels"))
    table = pd.concat(tables, ignore_index=True).rename(columns=str.lower)
    fields = {attribute.name: Field(attribute.name) for attribute in UTKFACE_ATTRIBUTES}
    fields |= dict(labels.over(GREY.map).fields)
    found = read_labels(table, _chosen(fields, wanted), str(path))
    pixels = np.stack(grey) if grey else np.zeros((0, CSV_EDGE, CSV_EDGE), np.uint8)
    return _finish(rows, found, path.parent, GREY, grey=pixels, digests=digests)


def _is_grey_csv(path: Path) -> bool:
    return (
        path.suffix.lower() == ".csv"
        and set(pd.read_csv(path, nrows=0, encoding_errors="replace").columns) >= GREY.columns
    )


# --- tables -----------------------------------------------------------------------------------------------


def _chosen(fields: dict[str, Field], wanted: Sequence[str | ClassAttribute]) -> dict[str, Field]:
    """Fields, and columns that are requested by their names, or by attributes whose classes they are to have."""
    chosen = dict(fields)
    for each in wanted:
        name, classes = (each, ()) if isinstance(each, str) else (each.name, each.classes)
        field = chosen.setdefault(name.lower(), Field(name))
        chosen[name.lower()] = dataclasses.replace(field, classes=field.classes or classes)
    return chosen


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
    inside = not os.path.isabs(path) and ".." not in path  # as most are, and quicker told
    relative = os.path.normpath(path) if inside else os.path.relpath(os.path.join(root, path), root)
    if relative.split(os.sep)[0] == "..":
        raise ValueError("path leads out of the image folder")
    if "\\" in path and os.sep == "/" and not os.path.lexists(os.path.join(root, path)):  # as Windows writes it
        if re.match(r"[A-Za-z]:", path):
            raise ValueError("path begins with a drive of Windows: make it relative to the image folder")
        return _path_below(root, path.replace("\\", "/"))
    return relative


def _paths_of(table: pd.DataFrame, path: str) -> list:
    """The path of each row: a column, or a template filled from several, blanks in them as `_`."""
    if "{" not in path:
        return table[path.lower()].tolist()
    columns = {name: [cell_text(value).replace(" ", "_") for value in table[name]] for name in table}
    filled = []
    for row in range(len(table)):
        named = {name: _Padded(values[row]) for name, values in columns.items()}
        filled.append(path.format_map(named))
    return filled


class _Padded(str):
    """A text whose format `04` fills it with zeros, as that of a number does."""

    def __format__(self, spec: str) -> str:
        return self.zfill(int(spec)) if spec.isdigit() else str(self)


def _boxes_of(table: pd.DataFrame, columns: tuple[str, ...]) -> tuple[list[str], dict[int, str]]:
    """The box of each row as `left top right bottom`, empty where there is none; and why some cannot be used."""
    boxes, refused = [""] * len(table), {}
    texts = zip(*([cell_text(value) for value in table[column.lower()]] for column in columns), strict=True)
    for row, ends in enumerate(texts):
        if not any(ends):
            continue
        try:
            left, top, right, bottom = (round(float(end)) for end in ends)
        except (ValueError, OverflowError):
            refused[row] = f"box {' '.join(ends)!r} is not four numbers"
            continue
        if left < 0 or top < 0 or right - left < 2 or bottom - top < 2:
            refused[row] = f"box {left} {top} {right} {bottom} is not left, top, right and bottom within a picture"
        else:
            boxes[row] = f"{left} {top} {right} {bottom}"
    return boxes, refused


def _read_table(
    table: pd.DataFrame,
    notes: list[str],
    path: Path,
    root: Path,
    form: Form,
    given: LabelMap,
    wanted: Sequence[str | ClassAttribute],
) -> FaceSource:
    """Read the rows of a table of some form; `given` is the user's map, which stands above the form's."""
    table = table.rename(columns=str.lower)
    columns, labels = list(table), given.over(form.map)
    fields = _chosen({name: Field(name) for name in KNOWN} | dict(labels.fields), wanted)
    if AGE.name not in columns and AGE.name in fields and fields[AGE.name] == Field(AGE.name):
        fields[AGE.name] = Field(BAND_COLUMN)
    path_column = labels.path or next((name for name in PATH_COLUMNS if name in columns), "")
    box = labels.box or (BOX_COLUMNS if set(BOX_COLUMNS) <= set(columns) else ())
    parts = re.findall(r"{(\w+)", path_column) or [path_column]
    needed = {name.lower() for name in (*parts, *box, labels.session)} - {""}
    used = {name for each in fields.values() for name in each.columns} | needed | {BAND_COLUMN}
    for name in sorted(used):
        if columns.count(name) > 1:
            raise UnreadableData(f"{path} has {columns.count(name)} columns {name}: leave one of them")
    if absent := sorted(needed - set(columns)):
        raise UnreadableData(f"{path} has no column {', '.join(absent)}: its columns are {', '.join(columns)}")
    for name, each in given.fields.items():
        if not set(each.columns) <= set(columns):
            lacking = ", ".join(column for column in each.columns if column not in columns)
            raise UnreadableData(f"{path} has no column {lacking} for {name}: its columns are {', '.join(columns)}")
    if form.choices and AGE.name not in given.fields:
        choices = " or ".join(f'--labels "{choice}"' for choice in form.choices)
        raise UnreadableData(f"{path} gives several ages: choose one with {choices}")
    unlabelled = not any(set(each.columns) <= set(columns) for each in fields.values())
    if not path_column or unlabelled:
        guessed = path_column or guess_path_column(columns, table, IMAGE_SUFFIXES)
        proposed, coded = suggest(table, guessed)
        read_by = f'; --labels "{proposed}" would read it' if proposed else ""
        read_by += f", if that is what the numbers of {' and '.join(coded)} mean" if coded else ""
        raise UnreadableData(
            f"{path} has the columns {', '.join(columns)}: it needs `path` and at least one of "
            f"{', '.join((*KNOWN, BAND_COLUMN))}{read_by}"
        )
    if not root.is_dir():
        raise UnreadableData(f"there is no folder {root}: --images takes the one that the table's paths begin in")
    given_paths = _paths_of(table, path_column)
    rows = _Rows([f"row {row}: {text}" for row, text in enumerate(given_paths)], [""] * len(table), [""] * len(table))
    boxes, refused = _boxes_of(table, box) if box else ([""] * len(table), {})
    seen = set()
    for row, text in enumerate(given_paths):
        try:
            below = _path_below(root, text)
            if (below, boxes[row]) in seen:
                raise ValueError("path was listed before" if not box else "face was listed before")
            seen.add((below, boxes[row]))
            rows.paths[row] = below
        except ValueError as error:
            rows.refuse(row, str(error))
        if row in refused:
            rows.refuse(row, refused[row])
    found = read_labels(_banded(table, fields), fields, str(path), wanted)
    unread = [name for name in columns if name not in used]
    notes = [*notes, *([f"columns that are not read: {', '.join(unread[:12])}"] if unread else [])]
    session = [cell_text(value) for value in table[labels.session.lower()]] if labels.session else None
    source = _finish(rows, found, root, form, boxes=boxes if box else None, notes=notes, session=session)
    return dataclasses.replace(source, notes=(*source.notes, *_against_names(source)))


def _banded(table: pd.DataFrame, fields: dict[str, Field]) -> pd.DataFrame:
    """A table whose empty ages are filled from its column of bands."""
    age = fields.get(AGE.name)
    if age is None or BAND_COLUMN not in table or age.column == BAND_COLUMN or age.column.lower() not in table:
        return table
    column = age.column.lower()
    empty = [cell_text(value) == "" for value in table[column]]
    return table.assign(**{column: table[column].astype(object).where(~np.array(empty, bool), table[BAND_COLUMN])})


def _against_names(source: FaceSource) -> list[str]:
    """A warning where ages of a table differ, most of them by one and the same number, from those in file names."""
    if AGE.name not in source.faces:
        return []
    names = [UTKFACE.map.name.fullmatch(os.path.basename(path)) for path in source.faces["path"]]
    in_name = pd.Series([float(match["age"]) if match and match["age"] else np.nan for match in names], dtype=float)
    shift = (source.faces[AGE.name].reset_index(drop=True) - in_name).dropna()
    if len(shift) < COMPARED_NAMES or (shift == 0).mean() > 0.5:
        return []
    usual = shift.mode().iloc[0]
    share = (shift == usual).mean()
    text = f"{usual:+g} years in {share:.0%} of them" if share > 0.5 else "by different numbers of years"
    return [f"WARNING: ages differ from those in the file names for {(shift != 0).mean():.0%} of the rows, {text}"]


# --- any form ---------------------------------------------------------------------------------------------


def read_faces(
    path: Path | str,
    images: Path | str | None = None,
    labels: str = "",
    attributes: Sequence[str | ClassAttribute] = (),
) -> FaceSource:
    """Read labelled faces of any form in `published.FORMS`.

    Parameters
    ----------
    path : Path
        A folder or a table.
    images : Path, optional
        The folder that a table's paths begin in.
    labels : str
        The text of a label map, which stands above that of the form.
    attributes : sequence of str or ClassAttribute
        Further attributes to read, of any columns of classes, or of those of an attribute; names that are no columns
        are ignored.

    Raises
    ------
    UnreadableData
        If nothing is there, or not one face in it can be used.
    """
    path, given = Path(path), parse_map(labels) if labels else LabelMap()
    if not path.exists():
        raise UnreadableData(f"there is nothing at {path}: give {KINDS}")
    # Reading a pipe would wait for ever.
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in SUFFIXES):
        raise UnreadableData(
            f"{path} is neither a folder nor a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file: give {KINDS}"
        )
    try:
        source = _read(path, Path(images) if images else None, given, attributes)
    except PARSING_ERRORS as error:
        reason = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise UnreadableData(f"{path} cannot be read as a table ({reason}): save it again as CSV or parquet") from error
    if source.faces.empty:
        first = source.rejected.head(1).itertuples(index=False)
        example = "".join(f", e.g. {row.item!r} {row.reason}" for row in first)
        remedy = "give the folder of the images" if path.is_dir() else f"paths begin in {source.root}, or --images"
        raise UnreadableData(f"{path} holds no usable face ({len(source.rejected)} rejected{example}): {remedy}")
    return source


def _read(path: Path, images: Path | None, given: LabelMap, attributes: Sequence[str | ClassAttribute]) -> FaceSource:
    if path.is_dir():
        return _read_folder(path, given, attributes)
    if _is_grey_csv(path):
        return read_grey_csv(path, given, attributes)
    table, notes = read_rows(path)
    columns = set(map(str.lower, table.columns))
    form = next((form for form in FORMS if form.columns and form.columns <= columns), TABLE)
    if form.files and form.folder_path and (match := form.files.fullmatch(path.name)):
        table = table.assign(**match.groupdict())
        given = dataclasses.replace(given, path=given.path or form.folder_path)
    return _read_table(table, notes, path, images or path.parent, form, given, attributes)
