"""Text that a spreadsheet would run as a formula, escaped in CSV files and restored when they are read.

A file may be named `=HYPERLINK(...)`, and its name is then its image_id in every table. The tables keep it as it is; a
CSV file, which people open in a spreadsheet, gets an apostrophe before it.
"""

import csv
import re

import pandas as pd

# The beginning of a formula in a spreadsheet; a plain signed number is not one. Leading apostrophes belong to the
# pattern, so that a text that has one gets a second, and removing one always restores the text.
FORMULA = re.compile(r"'*(?:[=@\t\r\n\uff1d\uff0b\uff0d\uff20]|[+-](?!\d+(?:\.\d+)?\Z))")


def guard(text):
    """A text that no spreadsheet runs as a formula; other values are unchanged.

    Examples
    --------
    >>> guard("=1+1"), guard("face.jpg"), guard("-1"), guard("'=1+1")
    ("'=1+1", 'face.jpg', '-1', "''=1+1")
    """
    return f"'{text}" if isinstance(text, str) and FORMULA.match(text) else text


def unguard(text):
    """The text that `guard` escaped.

    Examples
    --------
    >>> unguard("'=1+1"), unguard("'tis.jpg"), unguard("=1+1")
    ('=1+1', "'tis.jpg", '=1+1')
    """
    return text[1:] if isinstance(text, str) and text.startswith("'") and FORMULA.match(text) else text


def guarded(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts no spreadsheet runs as formulas."""
    return table.assign(**{name: table[name].map(guard) for name in _texts(table)}).rename(columns=guard)


def quoting(table: pd.DataFrame) -> int:
    """How to quote a table as CSV: all texts where one holds a carriage return, which pandas leaves unquoted.

    An unquoted carriage return would end the row for every reader.
    """
    broken = any(table[name].astype(str).str.contains("\r", regex=False).any() for name in _texts(table))
    return csv.QUOTE_NONNUMERIC if broken else csv.QUOTE_MINIMAL


def unguarded(table: pd.DataFrame) -> pd.DataFrame:
    """The table that `guarded` escaped."""
    return table.assign(**{name: table[name].map(unguard) for name in _texts(table)}).rename(columns=unguard)


def _texts(table: pd.DataFrame) -> list[str]:
    return [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
