"""Tables of labels as files hold them: separators, encodings, comment lines and Matlab's structs, all read as text."""

import io
import re
import warnings
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from facelib.schema import is_missing

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".mat")
# What the parsers raise over files that are not tables.
PARSING_ERRORS = (ArithmeticError, LookupError, NotImplementedError, OSError, TypeError, ValueError, pa.ArrowException)
# Names of the column of pictures, the likeliest first.
PATH_COLUMNS = (
    "path", "file", "filename", "file_name", "image_id", "img_name", "image", "image_path", "img_path", "filepath",
    "full_path", "photo",
)  # fmt: skip
SEPARATORS = "\t;,|"
HEAD = 2**16  # bytes in which the separator is looked for
MATLAB_DAYS = 366  # Matlab counts days from the year 0


def one_line(name) -> str:
    """A column's name as a message can show it: one line, single blanks."""
    return " ".join(str(name).split())


def read_rows(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """A table's rows, and notes on how it had to be read. Cells are texts, or what a parquet file holds.

    Column names are as in the file, but on one line. Separators are commas, semicolons, tabs or bars, whichever the
    header has most of; where it is no comma, one between digits is a decimal point. Text that is not UTF-8 is read as
    Western European.

    Raises
    ------
    ValueError and others in `PARSING_ERRORS`
        If the file is no table.
    """
    suffix, notes = path.suffix.lower(), []
    if suffix == ".parquet":
        table = pd.read_parquet(path)
    elif suffix == ".mat":
        table = _read_matlab(path)
    else:
        table, notes = _read_text(path)
    table.columns = [one_line(column) for column in table.columns]
    return table, notes


def _read_text(path: Path) -> tuple[pd.DataFrame, list[str]]:
    notes, content = [], path.read_bytes()
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            notes = ["not UTF-8: read as Western European text"]
    else:
        raise ValueError("its bytes are no text")
    skipped, separator = _layout(text)
    if text.startswith("#") and skipped:  # LFW's header has an empty column before the others
        text, skipped = text.partition("\n")[2].lstrip("#\t "), 0
    options = {"sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""], "skiprows": skipped}
    options |= {"index_col": False} if separator in SEPARATORS else {"engine": "python"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.ParserWarning)  # of fields beyond the header
        table = pd.read_csv(io.StringIO(text), **options)
    if separator not in SEPARATORS:  # an attribute list, whose header leaves out the names of pictures
        table = table.rename_axis("image_id").reset_index() if table.index.nlevels == 1 else table
    elif separator != ",":
        table = table.apply(lambda column: column.str.replace(r"^(-?\d+),(\d+)$", r"\1.\2", regex=True))
    return table, notes


def _layout(text: str) -> tuple[int, str]:
    """How many lines precede the header, and the separator of its columns, as pandas takes it.

    Attribute lists begin with the number of pictures and separate by blanks, or with a comment.
    """
    lines = [line for line in text[:HEAD].splitlines() if line.strip()][:3]
    if len(lines) > 1 and lines[0].strip().isdigit() and len(lines[1].split()) > 1:
        return 1, r"\s+"
    skipped = int(len(lines) > 1 and lines[0].startswith("#") and lines[1].startswith("#"))
    header = re.sub(r'"[^"]*"', "", lines[skipped]) if len(lines) > skipped else ""
    separator = max(SEPARATORS, key=header.count)
    return skipped, separator if separator in header else ","


def _read_matlab(path: Path) -> pd.DataFrame:
    """The struct of IMDB-WIKI's metadata: a row per face, dates of birth as ISO dates."""
    from scipy.io import loadmat  # for one format

    content = loadmat(path, squeeze_me=False)
    name = next((name for name in content if not name.startswith("__") and content[name].dtype.names), None)
    if name is None:
        raise ValueError("it holds no struct")
    struct = content[name][0, 0]
    columns = {
        field: struct[field].ravel() for field in struct.dtype.names if struct[field].size == struct["full_path"].size
    }
    table = pd.DataFrame({field: [_matlab_text(value) for value in values] for field, values in columns.items()})
    if "dob" in table:
        table["dob"] = [_from_day(value) for value in columns["dob"]]
    return table


def _matlab_text(value) -> str:
    """A cell of a Matlab struct as text; empty for nan and for what is not one value."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if isinstance(value, np.ndarray) or is_missing(value):
        return ""
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _from_day(value) -> str:
    """Matlab's number of a day as an ISO date; empty where it is none."""
    day = int(float(value)) - MATLAB_DAYS
    return date.fromordinal(day).isoformat() if 1 <= day <= date.max.toordinal() else ""


def guess_path_column(columns: Iterable[str], table: pd.DataFrame, suffixes: tuple[str, ...]) -> str:
    """The column whose texts are names of pictures; empty if there is none."""
    for column in columns:
        texts = table[column].dropna().head(50)
        if len(texts) and all(isinstance(text, str) and text.strip().lower().endswith(suffixes) for text in texts):
            return column
    return ""


def quote(text: str) -> str:
    """A text as a label map holds it, quoted where YAML would misread it.

    Examples
    --------
    >>> quote("real_age"), quote("Age (years)"), quote("-1")
    ('real_age', "'Age (years)'", "'-1'")
    """
    plain = re.fullmatch(r"[A-Za-z_][\w .]*\w|\w", text)
    return text if plain else "'" + text.replace("'", "''") + "'"
