"""Label maps: which columns, or parts of a file's name, hold which labels, and what their values mean.

A map is YAML, in a file or in one line: `path: image_id, gender: {column: Male, -1: female, 1: male}`. The table of
published formats (`data.published`) is made of the same maps.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from facelib.data.tables import quote
from facelib.errors import UnreadableData
from facelib.schema import (
    AGE,
    UTKFACE_ATTRIBUTES,
    Attribute,
    ClassAttribute,
    band_from_date,
    is_missing,
    parse_age_band,
)

KNOWN = {attribute.name: attribute for attribute in UTKFACE_ATTRIBUTES}  # read from columns of these names
# Column names that mean a known attribute: shown in the map that a refusal suggests, never read unasked.
ALIKE = {
    "age": ("age_years", "years", "real_age", "apparent_age", "age_group", "agegroup", "age_range"),
    "gender": ("sex", "male", "is_male", "female", "is_female", "gender_label"),
    "ethnicity": ("race", "ethnic", "ethnic_group", "race_label"),
}
UNITS = {"years": 1.0, "months": 12.0, "days": 365.25}
SIGN = "sign"  # a unit of scores: below zero -1, above 1
MISSING = {"", "nan", "null", "n/a", "na", "unknown", "?"}
NO_CLASS = MISSING | {"none", "u", "unk", "-"}  # of an attribute whose classes are known beforehand
NOT_ONE_VALUE = "<not one value>"  # a cell that holds a list or a record
TO = " to "  # between two dates
MOST_CLASSES = 40  # a column with more different texts holds no classes
SHOWN = 8  # values that a suggested map lists
YEARS_WORD = re.compile(r"\s*(years?( old)?|yrs?|y)$", re.IGNORECASE)
RESERVED = ("column", "unit", "classes", "sensitive", "born", "taken")  # keys of a field that are no values
BAND_COLUMN = f"{AGE.name}_band"


class UnreadableMap(UnreadableData):
    """A label map that cannot be used."""


@dataclass(frozen=True)
class Field:
    """Where the labels of one attribute stand, and what their values mean.

    Attributes
    ----------
    column : str
        The column, or the group of the expression for names.
    meanings : dict of str
        Class by value, in lower case; an empty class is unknown. Empty: values are the classes' own names.
    classes : tuple of str
        All classes, in order; empty: those of `meanings`, of the known attribute of this name, or of the data.
    unit : str
        Of ages; or `sign` of scores.
    born, taken : str
        Columns of the dates, or years, of birth and of the photograph, whose difference is the age.
    """

    column: str
    meanings: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    unit: str = "years"
    sensitive: bool = False
    born: str = ""
    taken: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it needs, in lower case."""
        return tuple(name.lower() for name in ((self.born, self.taken) if self.born else (self.column,)))


@dataclass(frozen=True)
class LabelMap:
    """A field by attribute; columns of paths, boxes (four) and collection sessions; an expression for file names.

    A template such as `{person}/{person}_{number:04}.jpg` makes a path of several columns.
    """

    fields: Mapping[str, Field] = field(default_factory=dict)
    path: str = ""
    name: re.Pattern | None = None
    box: tuple[str, ...] = ()
    session: str = ""

    def over(self, base: "LabelMap") -> "LabelMap":
        """The map, and what it leaves open from another one."""
        rest = {name: getattr(self, name) or getattr(base, name) for name in ("path", "name", "box", "session")}
        return LabelMap({**base.fields, **self.fields}, **rest)


def map_text(given: str) -> str:
    """The text of a map given as `--labels`: the content of a file, or the argument itself.

    Raises
    ------
    UnreadableMap
        If it names a file that cannot be read.
    """
    if not given.lower().endswith((".yaml", ".yml")):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableMap(
            f"--labels {given} cannot be read ({error}): give a YAML file or a map in one line"
        ) from None


def parse_map(text: str) -> LabelMap:
    """A label map from its text.

    Raises
    ------
    UnreadableMap
        If the text is no map.

    Examples
    --------
    >>> parse_map("gender: {0: female, 1: male}").fields["gender"].meanings
    {'0': 'female', '1': 'male'}
    >>> parse_map("path: image_id, age: {column: months, unit: months}").fields["age"].columns
    ('months',)
    """
    try:
        inline = text if "\n" in text.strip() else f"{{{text}}}"
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(inline, yaml.BaseLoader)):
            raise ValueError("it holds aliases")
        content = yaml.load(inline, yaml.BaseLoader)  # all scalars stay text: no is a class, not a truth value
        if not isinstance(content, dict):
            raise ValueError("it names no attribute")
        path, name, session, box = (content.pop(key, "") for key in ("path", "name", "session", "box"))
        if not all(isinstance(text, str) for text in (path, name, session)):
            raise ValueError("path, name and session take one text each")
        box = tuple(box.split() if isinstance(box, str) else box)
        if box and (len(box) != 4 or not all(isinstance(column, str) for column in box)):
            raise ValueError("box takes four columns: left, top, right and bottom")
        fields = {attribute.strip().lower(): _field(attribute, spec) for attribute, spec in content.items()}
        return LabelMap(fields, path, re.compile(name, re.DOTALL | re.IGNORECASE) if name else None, box, session)
    except (yaml.YAMLError, re.error, ValueError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableMap(
            f'the label map {text[:80]!r} cannot be used ({reason}): write it as "gender: {{0: female, 1: male}}"'
        ) from None


def _field(attribute: str, spec) -> Field:
    """One entry of a map; a ValueError says what is wrong with it."""
    if isinstance(spec, str):
        return Field(spec.strip() or attribute)
    if not isinstance(spec, dict):
        raise ValueError(f"{attribute} takes a column or a map of values")
    known = {key: spec[key] for key in RESERVED if key in spec}
    values = {key.strip().lower(): value for key, value in spec.items() if key not in RESERVED}
    if any(not isinstance(value, str) for value in values.values()):
        raise ValueError(f"{attribute} takes one class for each value")
    values = {key: "" if value.strip().lower() in MISSING else value.strip() for key, value in values.items()}
    classes = known.get("classes", ())
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes of {attribute} are a list of names")
    unit = known.get("unit", "years")
    if unit not in (*UNITS, SIGN):
        raise ValueError(f"the unit of {attribute} is {unit!r}: it can be {', '.join((*UNITS, SIGN))}")
    if ("born" in known) != ("taken" in known):
        raise ValueError(f"{attribute} needs both born and taken")
    sensitive = known.get("sensitive", "") in ("true", "yes")
    ends = known.get("born", ""), known.get("taken", "")
    return Field(known.get("column", attribute), values, tuple(classes), unit, sensitive, *ends)


# --- labels by a map --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """The labels of some rows, as a map reads them.

    Attributes
    ----------
    columns : DataFrame
        The label columns of a faces table, by row; `<age>_from` and `_to` only where a band is among them.
    attributes : tuple of Attribute
    unusable : DataFrame
        row, label (the attribute), value, reason: of labels that are given and cannot be used.
    notes : list of str
        What a reader should know: dates that were read as bands, classes that were merged.
    """

    columns: pd.DataFrame
    attributes: tuple[Attribute, ...]
    unusable: pd.DataFrame
    notes: list[str]

    def usable(self) -> np.ndarray:
        """Which rows have a label that can be used, or none that cannot: bool (n,)."""
        spoilt = np.zeros(len(self.columns), bool)
        spoilt[self.unusable["row"].to_numpy(int)] = True
        labelled = [attribute.has_label(self.columns) for attribute in self.attributes]
        return ~spoilt | np.any([np.zeros(len(spoilt), bool), *labelled], axis=0)


def cell_text(value) -> str:
    """A cell as text, blanks around it removed; empty where it is missing, `NOT_ONE_VALUE` for lists and records."""
    if isinstance(value, str):
        return value.strip()
    if is_missing(value):
        return ""
    if not pd.api.types.is_scalar(value):
        return NOT_ONE_VALUE
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def read_labels(table: pd.DataFrame, fields: Mapping[str, Field], what: str, wanted: Iterable[str] = ()) -> Labels:
    """The labels of a table's rows; its columns have lower-case names.

    Parameters
    ----------
    table : DataFrame
    fields : dict of Field
        By attribute; columns that the table lacks are ignored.
    what : str
        What the table is called in messages.
    wanted : iterable of str
        Attributes that a user asked for.

    Raises
    ------
    UnreadableData
        If an attribute that is wanted, or every one, is given by numbers alone and nothing says which is which.
    """
    columns, attributes, unusable, notes = pd.DataFrame(index=table.index), [], [], []
    given = {name: each for name, each in fields.items() if set(each.columns) <= set(table)}
    bare = {name: text for name, each in given.items() if (text := _which_is_which(name, each, table, what))}
    if bare and (set(bare) & set(wanted) or set(bare) == set(given)):
        raise UnreadableData("; ".join(bare.values()))
    short = Path(what).name  # a note is kept in the run, which may be published: it names no folder
    notes += [f"WARNING: {name} is left out: {text.replace(what, short)}" for name, text in bare.items()]
    for name, each in given.items():
        if name in bare:
            continue
        texts = [pd.Series([cell_text(value) for value in table[column]], dtype=object) for column in each.columns]
        if name == AGE.name:
            attribute, parse = AGE, _age_parser(each)
            labels = {AGE.name: AGE.unknown, **dict.fromkeys(AGE.band_columns, AGE.unknown)}
            noted = _date_note(texts[0])
        else:
            attribute, noted = _class_attribute(name, each, texts[0], what)
            parse, labels = _class_parser(attribute, each), {name: attribute.unknown}
        keys = texts[0] if len(texts) == 1 else texts[0].str.cat(texts[1], sep=TO)
        parsed, reasons = {}, {}
        for key in keys.unique():
            try:
                parsed[key] = parse(key)
            except ValueError as error:
                parsed[key], reasons[key] = tuple(labels.values()), str(error)
        for place, column in enumerate(labels):
            values = keys.map({key: values[place] for key, values in parsed.items()})
            columns[column] = values.to_numpy(dtype=attribute.dtype)
        rows = np.flatnonzero(keys.isin(reasons.keys()))
        unusable.append(
            pd.DataFrame({"row": rows, "label": name, "value": keys[rows], "reason": keys[rows].map(reasons)})
        )
        attributes.append(attribute)
        notes += [*noted, *_none_usable(attribute, keys, reasons)]
    if AGE.band_columns[0] in columns and columns[AGE.band_columns[0]].isna().all():
        columns = columns.drop(columns=list(AGE.band_columns))
    empty = pd.DataFrame({"row": [], "label": [], "value": [], "reason": []}, dtype=object)
    spoilt = pd.concat([empty, *unusable], ignore_index=True)
    return Labels(columns.reset_index(drop=True), tuple(attributes), spoilt, notes)


def _age_parser(each: Field):
    """A function from text to age, first and last year of a band; it raises a ValueError for what is neither."""
    nan = AGE.unknown

    def years(text: str) -> float:
        return AGE.parse(text) if each.unit == "years" else AGE.parse(float(text) / UNITS[each.unit])

    def parse(text: str) -> tuple[float, float, float]:
        if text == NOT_ONE_VALUE:
            raise ValueError(f"{AGE.name} is not a single value")
        if text.lower() in NO_CLASS:
            return nan, nan, nan
        if (band := band_from_date(text)) and each.unit == "years":
            return nan, *map(float, band)
        text = YEARS_WORD.sub("", text)
        try:
            first, last = parse_age_band(text)
        except ValueError:
            return years(text), nan, nan
        factor = UNITS[each.unit]
        return nan, float(first // factor), float(last // factor)

    def between(text: str) -> tuple[float, float, float]:
        born, _, taken = text.partition(TO)
        if born.lower() in NO_CLASS or taken.lower() in NO_CLASS:
            return nan, nan, nan
        return AGE.parse(age_between(born, taken)), nan, nan

    return between if each.born else parse


def age_between(born: str, taken: str) -> int:
    """Years from birth to a photograph; of one whose year alone is known, at the middle of the year.

    Examples
    --------
    >>> age_between("1981-05-05", "2009"), age_between("1981-9-5", "2009"), age_between("1980", "1999-12-31")
    (28, 27, 19)
    """
    try:
        birth, photo = ([int(part) for part in text.split("-")] for text in (born, taken))
        photo = photo if len(photo) == 3 else [photo[0], 7, 1]
        birth = birth if len(birth) == 3 else [birth[0], 1, 1]
        if not all(date.min.year <= parts[0] <= date.max.year for parts in (birth, photo)):
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(f"{born!r} and {taken!r} are not dates such as 1981-05-05 or 2009") from None
    return photo[0] - birth[0] - (photo[1:] < birth[1:])


def _date_note(texts: pd.Series) -> list[str]:
    counts = texts.value_counts()
    dates = {text: (band, count) for text, count in counts.items() if (band := band_from_date(text))}
    if not dates:
        return []
    total = sum(count for _, count in dates.values())
    examples = ", ".join(f"{text} as {band[0]}-{band[1]}" for text, (band, _) in list(dates.items())[:2])
    return [f"{total:,} ages are dates, which a spreadsheet made of bands: read as bands ({examples})"]


def _class_attribute(name: str, each: Field, texts: pd.Series, what: str) -> tuple[ClassAttribute, list[str]]:
    """The attribute of a column of classes, and notes."""
    present = [text for text in texts.value_counts().index if text.lower() not in NO_CLASS]
    given = {value.lower(): value for value in each.meanings.values() if value}
    known = KNOWN.get(name)
    if isinstance(known, ClassAttribute) and not each.classes:
        if not given:
            return known, []
        if all(value in {*map(str.lower, known.classes), *known.synonyms} for value in given):
            return known, _merged_note(name, each)
    classes = each.classes or tuple(given.values()) or _classes_of(present)
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise UnreadableData(
            f"{what}: the column {each.column} has {len(classes):,} different values, and an attribute has 2 to "
            f"{MOST_CLASSES} classes: name another, or merge values with --labels"
        )
    try:
        return ClassAttribute(name, each.sensitive, classes=classes), _merged_note(name, each)
    except ValueError as error:
        raise UnreadableData(f"{what}: {error}: name the classes with --labels") from None


def _classes_of(present: list[str]) -> tuple[str, ...]:
    """Class names that a column holds, one spelling each, numbers by size and texts by the alphabet."""
    spellings = {}
    for text in present:
        if text.lower() not in MISSING and text != NOT_ONE_VALUE:
            spellings.setdefault(" ".join(text.lower().split()), " ".join(text.split()))
    names = spellings.values()
    if all(re.fullmatch(r"-?\d{1,9}", text) for text in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names, key=str.lower))


def _merged_note(name: str, each: Field) -> list[str]:
    """Which values a map takes for one class."""
    merged: dict[str, list[str]] = {}
    for value, cls in each.meanings.items():
        if cls:
            merged.setdefault(cls, []).append(value)
    parts = [f"{' and '.join(values)} are {cls}" for cls, values in merged.items() if len(values) > 1]
    return [f"{name} is read from {each.column} with classes merged: {'; '.join(parts)}"] if parts else []


def _class_parser(attribute: ClassAttribute, each: Field):
    """A function from text to a class code, in a tuple; a ValueError says what the attribute can be."""
    numbers = {str(code) for code in range(len(attribute.classes))} - set(attribute.classes)

    def parse(text: str) -> tuple[int]:
        if text == NOT_ONE_VALUE:
            raise ValueError(f"{attribute.name} is not a single value")
        if each.unit == SIGN and text:
            text = "1" if float(text) > 0 else "-1"
        key = re.sub(r"^(-?\d+)\.0$", r"\1", text.lower())
        if each.meanings and key in each.meanings:
            return (attribute.parse(each.meanings[key]),)
        names = {name.lower() for name in attribute.classes} | set(attribute.synonyms)
        if key in (MISSING if key in names else NO_CLASS):
            return (attribute.unknown,)
        if key in numbers:
            raise ValueError(f"{attribute.name} {text!r} is a bare number: map it to a class with --labels")
        return (attribute.parse(text),)

    return parse


def _none_usable(attribute: Attribute, keys: pd.Series, reasons: dict) -> list[str]:
    """A note with the map to fill in, where not one of an attribute's labels can be used."""
    given = set(keys) - {""}
    if not isinstance(attribute, ClassAttribute) or len(given) < 2 or not given <= set(reasons):
        return []
    pairs = ", ".join(f"{quote(key)}: CLASS" for key in list(reasons)[:SHOWN])
    allowed = ", ".join(attribute.classes)
    return [f'no {attribute.name} label is one of {allowed}: --labels "{attribute.name}: {{{pairs}}}" maps them']


def _which_is_which(name: str, each: Field, table: pd.DataFrame, what: str) -> str:
    """Why the classes of a column cannot be told, with the map that would tell them; empty where they can."""
    known = KNOWN.get(name)
    if not isinstance(known, ClassAttribute) or each.meanings or each.classes or each.unit == SIGN:
        return ""
    present = {text for text in map(cell_text, table[each.columns[0]]) if text.lower() not in NO_CLASS}
    if not present or not all(re.fullmatch(r"-?\d{1,9}", text) for text in present):
        return ""
    order = sorted(present, key=int)[:SHOWN]
    pairs = ", ".join(f"{text}: {cls}" for text, cls in zip(order, known.classes, strict=False))
    column = "" if each.column.lower() == name else f"column: {quote(each.column)}, "
    swapped = "or the other way round" if len(known.classes) == 2 else "in the order of its own codes"
    return (
        f"{what} gives {name} by the numbers {', '.join(order)} and does not say which is which; "
        f'--labels "{name}: {{{column}{pairs}}}", {swapped}, says it'
    )


def suggest(table: pd.DataFrame, path_column: str) -> tuple[str, list[str]]:
    """The inline map that would read a table, as far as its columns show it, and whose codes it had to guess.

    Columns have lower-case names.
    """
    parts, guessed = [] if path_column in ("", "path") else [f"path: {quote(path_column)}"], []
    for name, alike in ALIKE.items():
        column = name if name in table else next((column for column in alike if column in table), "")
        if not column:
            continue
        values = [text for text in table[column].map(cell_text).value_counts().index if text.lower() not in NO_CLASS]
        known = KNOWN[name]
        if isinstance(known, ClassAttribute) and all(re.fullmatch(r"-?\d+(\.0)?", value) for value in values):
            classes = list(known.classes)
            if column in known.classes or column.removeprefix("is_") in known.classes:  # a column named for one class
                classes = [*(c for c in classes if c != column.removeprefix("is_")), column.removeprefix("is_")]
            else:
                guessed.append(name)
            order = sorted(values, key=float)[: len(classes)]
            pairs = [f"{value}: {cls}" for value, cls in zip(order, classes, strict=False)]
            parts.append(f"{name}: {{{', '.join([f'column: {quote(column)}', *pairs])}}}")
        elif column != name:
            parts.append(f"{name}: {quote(column)}")
    return ", ".join(parts), guessed
