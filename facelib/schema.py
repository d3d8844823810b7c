"""The attributes of a face, age bands, splits and the files of a run: each constant once.

Labels are judgements of appearance, not what people are. The attributes below are those of the UTKFace data set; a
run's own come from its data and stand in its params.yaml.
"""

import re
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pandas as pd

MAX_AGE = 116  # the oldest label in UTKFace, years
UNKNOWN = -1  # class code of a missing label

# Lower edges of the age bands, in years; the last band is open. Children are split finely because gender errors
# concentrate there, and 45 is where source A's age error changes.
AGE_BAND_EDGES = (0, 5, 18, 30, 46, 60, 75)
AGE_BANDS = ("0-4", "5-17", "18-29", "30-45", "46-59", "60-74", "75+")
OLD_YEARS = 45  # source A reports the error above and up to this age

SPLITS = {"train": 0.75, "validation": 0.08, "calibration": 0.05, "test": 0.12}

PLANTED_AGE_ERROR = 20  # years, up or down


# Columns of tables, entries of batches and of results that an attribute of the same name would overwrite.
RESERVED_NAMES = {"image_id", "path", "source", "sha256", "box", "age_from", "age_to"}  # a faces table
RESERVED_NAMES |= {"collected", "session"}  # and when each was collected
RESERVED_NAMES |= {"image", "row", "strength", "features", "loss"}  # a training
RESERVED_NAMES |= {"photo", "face", "face_found", "ood_percentile", "out_of_distribution", "warnings"}  # a photograph
RESERVED_NAMES |= {"rotation", "detector", "detection_score", "age_distribution", "such_faces"}


def _slug(name: str) -> str:
    """A class name as part of a column's name: lower case, everything but letters and digits as `_`."""
    signed = re.sub(r"(?<!\w)-(?=\d)", "minus_", name.lower())
    return re.sub(r"\W+", "_", signed).strip("_")


def _single_text(name: str, value) -> str:
    """A cell of a table as text; empty where it is missing."""
    if not (value is None or pd.api.types.is_scalar(value)):
        raise ValueError(f"{name} is a {type(value).__name__}, not a single value")
    return "" if is_missing(value) else str(value).strip()


def is_missing(value) -> bool:
    """Whether a cell of a table holds no value.

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing([None])
    (True, True, False, False)
    """
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


@dataclass(frozen=True)
class Attribute(ABC):
    """One thing that faces are labelled with: its values, its columns, and how labels and predictions are compared.

    Attributes
    ----------
    name : str
        The column of its labels in a faces table.
    sensitive : bool
        Predicted for single photographs only where a reader asks for it.
    """

    name: str
    sensitive: bool = False

    kind: ClassVar[str]
    unknown: ClassVar[float]  # the label of a face that has none
    dtype: ClassVar[str]  # of the labels
    unit: ClassVar[str] = ""
    exact: ClassVar[bool] = True  # False where labels are known by bands of years alone
    planted_share: ClassVar[float] = 0.03  # of labels replaced by wrong ones to measure how many are found

    def __post_init__(self) -> None:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"an attribute cannot be called {self.name}: tables and results hold something else there")

    @property
    def title(self) -> str:
        """The name as the first word of a title."""
        return self.name.replace("_", " ").capitalize()

    @property
    def prediction(self) -> str:
        """The column of predicted labels in an evaluation frame."""
        return f"{self.name}_pred"

    def is_known(self, labels: pd.Series) -> np.ndarray:
        """Which labels are known: bool (n,).

        Examples
        --------
        >>> AGE.is_known(pd.Series([3, UNKNOWN, float("nan")])).tolist()
        [True, False, False]
        """
        return (labels.notna() & (labels != UNKNOWN)).to_numpy()

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of a faces table that its labels may stand in."""
        return (self.name,)

    def has_label(self, faces: pd.DataFrame) -> np.ndarray:
        """Which rows of a faces table are labelled with it, if only by a band: bool (n,)."""
        return self.is_known(faces[self.name])

    def labelled_in(self, faces: pd.DataFrame) -> "Attribute | None":
        """The attribute as some rows of a faces table are labelled with it; None where no row is."""
        return self if self.name in faces and self.has_label(faces).any() else None

    def ends(self, faces: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        """The lowest and the highest value that each row's label allows: float (n,) each, nan where it is unknown."""
        labels = faces[self.name].astype(float).where(self.is_known(faces[self.name]))
        return labels, labels

    @property
    @abstractmethod
    def group_column(self) -> str:
        """The column of an evaluation frame that holds each face's group."""

    @property
    @abstractmethod
    def group_names(self) -> tuple[str, ...]:
        """The groups by which results are reported: age bands, or the classes."""

    @abstractmethod
    def groups(self, labels: pd.Series) -> pd.Series:
        """Group of each label, as an ordered categorical; missing where the label is unknown."""

    def groups_of(self, faces: pd.DataFrame) -> pd.Series:
        """Group of each row of a faces table, as `groups` gives them."""
        return self.groups(faces[self.name])

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns of a predictions table: predicted age, its spread and interval; or a probability for each class.

        The spread is half the width of the middle 68 % of the predicted distribution.
        """

    @abstractmethod
    def decode(self, predictions: pd.DataFrame) -> pd.Series:
        """Predicted label of each row: years, not rounded, or the likeliest class; nan where nothing was predicted."""

    @abstractmethod
    def parse(self, value) -> float | int:
        """A label from text or a number: years, or a class by its code or name; `unknown` where it is missing.

        Raises
        ------
        ValueError
            If the attribute cannot have this value; the message says what it can have.
        """

    @abstractmethod
    def label_name(self, value: float) -> str:
        """A label as text: years, or the name of a class."""

    def label_names(self, faces: pd.DataFrame) -> list[str]:
        """The label of each row of a faces table as text."""
        return [self.label_name(value) for value in faces[self.name]]

    @abstractmethod
    def errors(self, faces: pd.DataFrame, predicted: pd.Series) -> pd.Series:
        """The error of each prediction: predicted minus labelled years, or 1 for a wrong class and 0 for the right one.

        float (n,), nan where the label or the prediction is unknown.
        """

    @abstractmethod
    def strata(self, faces: pd.DataFrame) -> pd.Series:
        """Age band or class code of each row, by which splits are stratified: str (n,)."""

    @abstractmethod
    def agreed(self, labels: pd.Series, group_id: np.ndarray) -> pd.Series:
        """The label that the copies of each group agree on: their median age, or their common class, else unknown."""

    def agreed_columns(self, faces: pd.DataFrame, group_id: np.ndarray) -> dict[str, pd.Series]:
        """`agreed` of each of the `label_columns` that a faces table has."""
        return {self.name: self.agreed(faces[self.name], group_id)}

    @abstractmethod
    def constant(self, labels: pd.Series) -> float:
        """The no-image baseline fitted on known training labels: their median, or the most frequent class."""

    def training_labels(self, faces: pd.DataFrame) -> pd.Series:
        """The labels that a no-image baseline is fitted on: those that are known."""
        return faces[self.name][self.is_known(faces[self.name])] if self.name in faces else pd.Series(dtype=float)

    @abstractmethod
    def constant_answers(self, labels: pd.Series) -> dict[str, float]:
        """What a no-image baseline answers in each predicted column of an evaluation frame, from training labels."""

    @abstractmethod
    def wrong(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A wrong label for each known one: an age `PLANTED_AGE_ERROR` years off, or another class."""

    def to_dict(self) -> dict:
        """The attribute as params.yaml and a network's header hold it."""
        return {"name": self.name, "kind": self.kind, "sensitive": self.sensitive}


@dataclass(frozen=True)
class YearsAttribute(Attribute):
    """An age in years, or where only that is known the band of ages that it lies in.

    A faces table holds bands in the columns `<name>_from` and `<name>_to`, the first and last whole year. Where no age
    is known but by its band, the attribute has the `bands` that occur: nothing that needs an age in years applies to
    it, and they are the groups by which results are reported.

    Examples
    --------
    >>> AGE.parse("31"), AGE.label_name(31.0), AGE.columns
    (31.0, '31', ('age_pred', 'age_spread', 'age_low', 'age_high'))
    >>> banded = YearsAttribute("age", bands=((0, 2), (3, 9), (70, 116)))
    >>> banded.exact, banded.group_names, list(banded.groups(pd.Series([2.5, 9, 50])))
    (False, ('0-2', '3-9', '70+'), ['0-2', '3-9', nan])
    """

    kind: ClassVar[str] = "years"
    unknown: ClassVar[float] = float("nan")
    dtype: ClassVar[str] = "float64"
    unit: ClassVar[str] = "years"

    bands: tuple[tuple[int, int], ...] = ()

    @property
    def exact(self) -> bool:
        """Whether any age is known in years."""
        return not self.bands

    @property
    def band_columns(self) -> tuple[str, str]:
        """The columns of the first and the last whole year of a band."""
        return f"{self.name}_from", f"{self.name}_to"

    @property
    def label_columns(self) -> tuple[str, ...]:
        return self.name, *self.band_columns

    def has_band(self, faces: pd.DataFrame) -> np.ndarray:
        """Which rows of a faces table have a band in place of an age: bool (n,).

        Examples
        --------
        >>> faces = pd.DataFrame({"age": [3, float("nan")], "age_from": [float("nan"), 20], "age_to": [4, 29]})
        >>> AGE.has_band(faces).tolist()
        [False, True]
        """
        first, last = self.band_columns
        if first not in faces:
            return np.zeros(len(faces), bool)
        return (faces[first].notna() & faces[last].notna()).to_numpy() & ~self.is_known(faces[self.name])

    def has_label(self, faces: pd.DataFrame) -> np.ndarray:
        return self.is_known(faces[self.name]) | self.has_band(faces)

    def labelled_in(self, faces: pd.DataFrame) -> "YearsAttribute | None":
        found = super().labelled_in(faces)
        exact = found is None or self.is_known(faces[self.name]).any()
        return found and replace(self, bands=() if exact else tuple(sorted(set(self._pairs(faces)))))

    def _pairs(self, faces: pd.DataFrame) -> list[tuple[int, int]]:
        """The band of each row that has one."""
        if not (banded := self.has_band(faces)).any():
            return []
        return [tuple(map(int, pair)) for pair in faces.loc[banded, list(self.band_columns)].to_numpy()]

    def ends(self, faces: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        """The age, or the first and the last whole year of its band."""
        (ages, _), (first, last), banded = super().ends(faces), self.band_columns, self.has_band(faces)
        return (ages.mask(banded, faces[first]), ages.mask(banded, faces[last])) if banded.any() else (ages, ages)

    def middles(self, faces: pd.DataFrame) -> pd.Series:
        """The age of each row, or the middle of its band: float (n,), nan where neither is known."""
        first, last = self.ends(faces)
        return (first + last) / 2

    def with_next(self, faces: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        """First year of the band before each row's band, and last year of the one after it, among those of its source.

        Examples
        --------
        >>> faces = pd.DataFrame({"age": float("nan"), "age_from": [0, 3, 10, 3], "age_to": [2, 9, 19, 9]})
        >>> [years.tolist() for years in AGE.with_next(faces)]
        [[0.0, 0.0, 3.0, 0.0], [9.0, 19.0, 19.0, 19.0]]
        """
        near = pd.DataFrame(np.nan, faces.index, ["first", "last"])
        banded = faces[self.has_band(faces)]
        for _, part in banded.groupby(banded.get("source", pd.Series("", banded.index))):
            pairs = self._pairs(part)
            around = {}
            for band in set(pairs):
                before = max((other for other in pairs if other[1] < band[0]), default=band)
                after = min((other for other in pairs if other[0] > band[1]), default=band)
                around[band] = before[0], after[1]
            near.loc[part.index] = [around[band] for band in pairs]
        return near["first"], near["last"]

    @property
    def group_column(self) -> str:
        return f"{self.name}_band"

    @property
    def group_names(self) -> tuple[str, ...]:
        return tuple(map(band_name, self.bands)) or AGE_BANDS

    def groups(self, labels: pd.Series) -> pd.Series:
        if self.exact:
            return pd.Series(age_band(labels), index=labels.index)
        codes = pd.Series(UNKNOWN, labels.index)
        for code, (first, last) in reversed([*enumerate(self.bands)]):
            codes[(labels >= first) & (labels < last + 1)] = code
        return pd.Series(pd.Categorical.from_codes(codes, list(self.group_names), ordered=True), labels.index)

    def groups_of(self, faces: pd.DataFrame) -> pd.Series:
        """The group of each age, or of each band that lies within one group; of bands alone each is a group."""
        if self.exact:
            first, last = (self.groups(years) for years in self.ends(faces))
            return first.where(first.cat.codes == last.cat.codes)
        code = {band: number for number, band in enumerate(self.bands)}
        codes = self.groups(faces[self.name]).cat.codes.astype(int)
        if (banded := self.has_band(faces)).any():
            codes[banded] = [code.get(band, UNKNOWN) for band in self._pairs(faces)]
        return pd.Series(pd.Categorical.from_codes(codes, list(self.group_names), ordered=True), faces.index)

    def label_names(self, faces: pd.DataFrame) -> list[str]:
        return [
            self.label_name(first) if first == last or pd.isna(first) else band_name((int(first), int(last)))
            for first, last in zip(*self.ends(faces), strict=True)
        ]

    def errors(self, faces: pd.DataFrame, predicted: pd.Series) -> pd.Series:
        """Years; of a band those that the prediction lies outside it."""
        first, last = self.ends(faces)
        return predicted - predicted.clip(first, last).where(first.notna())

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{part}" for part in ("pred", "spread", "low", "high"))

    def decode(self, predictions: pd.DataFrame) -> pd.Series:
        return predictions[self.columns[0]]

    def parse(self, value) -> float:
        text = _single_text(self.name, value)
        try:
            age = float(text or "nan")
        except ValueError:
            raise ValueError(f"{self.name} {reprlib.repr(value)} is not a number") from None
        if age < 0 or age > MAX_AGE:
            raise ValueError(f"{self.name} {age:g} is outside 0-{MAX_AGE} years")
        return age

    def label_name(self, value: float) -> str:
        return "unknown" if pd.isna(value) or value < 0 else f"{value:g}"

    def strata(self, faces: pd.DataFrame) -> pd.Series:
        groups = self.groups(self.middles(faces)) if self.exact else self.groups_of(faces)
        return groups.astype(object).fillna("unknown")

    def agreed(self, labels: pd.Series, group_id: np.ndarray) -> pd.Series:
        return labels.groupby(group_id).transform("median")

    def agreed_columns(self, faces: pd.DataFrame, group_id: np.ndarray) -> dict[str, pd.Series]:
        """The median age, else the narrowest band that holds all bands of the group."""
        columns = super().agreed_columns(faces, group_id)
        for column, end in zip(self.band_columns, ("min", "max"), strict=True):
            if column in faces:
                columns[column] = faces[column].groupby(group_id).transform(end).where(columns[self.name].isna())
        return columns

    def constant(self, labels: pd.Series) -> float:
        return float(labels.median())

    def training_labels(self, faces: pd.DataFrame) -> pd.Series:
        """The ages, and the middles of bands."""
        return self.middles(faces).dropna() if self.name in faces else pd.Series(dtype=float)

    def constant_answers(self, labels: pd.Series) -> dict[str, float]:
        constant, (low, high) = self.constant(labels), labels.quantile([0.05, 0.95])
        ends = {f"{self.name}_low": float(low), f"{self.name}_high": float(high)}
        return dict.fromkeys((self.prediction, f"{self.name}_unrounded"), constant) | ends

    def wrong(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sign = rng.choice([-1, 1], len(labels))
        shifted = labels + sign * PLANTED_AGE_ERROR
        return np.where((shifted < 0) | (shifted > MAX_AGE), labels - sign * PLANTED_AGE_ERROR, shifted)

    def to_dict(self) -> dict:
        return super().to_dict() | ({} if self.exact else {"bands": [list(band) for band in self.bands]})


@dataclass(frozen=True)
class ClassAttribute(Attribute):
    """One of several classes; labels are their codes, 0 to k - 1, and `UNKNOWN`.

    Examples
    --------
    >>> GENDER.parse("Female"), GENDER.parse("1.0"), GENDER.label_name(1), GENDER.columns
    (1, 1, 'female', ('p_gender_male', 'p_gender_female'))
    """

    kind: ClassVar[str] = "classes"
    unknown: ClassVar[float] = UNKNOWN
    dtype: ClassVar[str] = "int16"

    classes: tuple[str, ...] = ()
    # Other words for its classes, in lower case; no part of what the attribute is.
    synonyms: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        slugs = [_slug(name) for name in self.classes]
        if len(self.classes) < 2 or len(set(slugs)) < len(slugs):
            raise ValueError(f"{self.name} needs two classes or more with different names, not {self.classes}")

    @property
    def planted_share(self) -> float:
        return 0.03 if len(self.classes) == 2 else 0.05

    @property
    def group_column(self) -> str:
        return f"{self.name}_name"

    @property
    def group_names(self) -> tuple[str, ...]:
        return self.classes

    def groups(self, labels: pd.Series) -> pd.Series:
        codes = labels.where(self.is_known(labels), UNKNOWN).astype(int)
        return pd.Series(pd.Categorical.from_codes(codes, list(self.classes), ordered=True), index=labels.index)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"p_{self.name}_{_slug(name)}" for name in self.classes)

    def probabilities(self, predictions: pd.DataFrame) -> np.ndarray:
        """Probability of each class: float (n, k)."""
        return predictions[list(self.columns)].to_numpy(float)

    def confidence(self, predictions: pd.DataFrame) -> np.ndarray:
        """Probability of the likeliest class: float (n,)."""
        return self.probabilities(predictions).max(axis=1, initial=0)

    def decode(self, predictions: pd.DataFrame) -> pd.Series:
        probabilities = self.probabilities(predictions)
        codes = np.where(np.isfinite(probabilities).all(axis=1), probabilities.argmax(axis=1), np.nan)
        return pd.Series(codes, index=predictions.index)

    def parse(self, value) -> int:
        text = " ".join(_single_text(self.name, value).lower().split())
        text = self.synonyms.get(text, text)
        by_name = {name.lower(): code for code, name in enumerate(self.classes)}
        by_code = {form: code for code in range(len(self.classes)) for form in (str(code), f"{code}.0")}
        known = by_name | by_code | {"": UNKNOWN}
        if text not in known:
            allowed = ", ".join(f"{code} {name}" for code, name in enumerate(self.classes))
            raise ValueError(f"{self.name} {reprlib.repr(value)} is none of {allowed}")
        return known[text]

    def label_name(self, value: float) -> str:
        return "unknown" if pd.isna(value) or value < 0 else self.classes[int(value)]

    def errors(self, faces: pd.DataFrame, predicted: pd.Series) -> pd.Series:
        labels, _ = self.ends(faces)
        return (labels != predicted).astype(float).where(labels.notna() & predicted.notna())

    def strata(self, faces: pd.DataFrame) -> pd.Series:
        return faces[self.name].astype(str)

    def agreed(self, labels: pd.Series, group_id: np.ndarray) -> pd.Series:
        return labels.where(labels.groupby(group_id).transform("nunique") == 1, UNKNOWN)

    def constant(self, labels: pd.Series) -> float:
        return float(labels.mode().iloc[0])

    def constant_answers(self, labels: pd.Series) -> dict[str, float]:
        shares = labels.value_counts(normalize=True)
        probabilities = {column: float(shares.get(code, 0.0)) for code, column in enumerate(self.columns)}
        return {self.prediction: self.constant(labels), **probabilities}

    def wrong(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (labels + rng.integers(1, len(self.classes), len(labels))) % len(self.classes)

    def to_dict(self) -> dict:
        return {**super().to_dict(), "classes": list(self.classes)}


AGE = YearsAttribute("age")
_WORDS = dict.fromkeys(("m", "man", "boy"), "male") | dict.fromkeys(("f", "w", "woman", "girl"), "female")
GENDER = ClassAttribute("gender", classes=("male", "female"), synonyms=_WORDS)
ETHNICITY = ClassAttribute("ethnicity", sensitive=True, classes=("White", "Black", "Asian", "Indian", "Other"))
UTKFACE_ATTRIBUTES = (AGE, GENDER, ETHNICITY)


def attribute_from_dict(stored: dict) -> Attribute:
    """The attribute that `Attribute.to_dict` stored.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> attribute_from_dict(GENDER.to_dict()) == GENDER
    True
    """
    kinds = {"years": YearsAttribute, "classes": ClassAttribute}
    if not isinstance(stored, dict) or stored.get("kind") not in kinds or not isinstance(stored.get("name"), str):
        raise ValueError(f"{reprlib.repr(stored)} is not an attribute")
    names = tuple(stored.get("classes", ()))
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes of {stored['name']} are not names: {reprlib.repr(names)}")
    bands = tuple(tuple(band) for band in stored.get("bands", ()))
    if not all(len(band) == 2 and all(isinstance(year, int) for year in band) for band in bands):
        raise ValueError(f"bands of {stored['name']} are not pairs of years: {reprlib.repr(bands)}")
    options = {"classes": names} if stored["kind"] == "classes" else {"bands": bands}
    return kinds[stored["kind"]](stored["name"], bool(stored.get("sensitive", False)), **options)


def named(attributes: Iterable[Attribute], names: Iterable[str]) -> tuple[Attribute, ...]:
    """The attributes of these names, in the order of `attributes`."""
    wanted = set(names)
    return tuple(attribute for attribute in attributes if attribute.name in wanted)


def class_attributes(attributes: Iterable[Attribute]) -> tuple[ClassAttribute, ...]:
    """Those with classes."""
    return tuple(attribute for attribute in attributes if isinstance(attribute, ClassAttribute))


def labelled(faces: pd.DataFrame, attributes: Iterable[Attribute]) -> tuple[Attribute, ...]:
    """The attributes that any row of a faces table is labelled with; see `Attribute.labelled_in`.

    Examples
    --------
    >>> faces = pd.DataFrame({"age": [31.0, float("nan")], "gender": [UNKNOWN, UNKNOWN]})
    >>> [attribute.name for attribute in labelled(faces, UTKFACE_ATTRIBUTES)]
    ['age']
    """
    return tuple(found for attribute in attributes if (found := attribute.labelled_in(faces)))


def label_columns(faces: pd.DataFrame, attributes: Iterable[Attribute]) -> list[str]:
    """The columns of a faces table in which labels of some attributes stand."""
    return [column for attribute in attributes for column in attribute.label_columns if column in faces]


def all_known(faces: pd.DataFrame, attributes: Iterable[Attribute]) -> np.ndarray:
    """Which rows of a faces table have labels of all these attributes: bool (n,)."""
    known = np.ones(len(faces), bool)
    for attribute in attributes:
        known &= attribute.has_label(faces)
    return known


def known_together(faces: pd.DataFrame, attributes: Iterable[Attribute]) -> tuple[Attribute, ...]:
    """The attributes, in order, without those that no face has a label of beside labels of all before.

    Data sets that are trained on together may each lack what another has.

    Examples
    --------
    >>> faces = pd.DataFrame({"age": [31.0, 9], "gender": [0, UNKNOWN], "ethnicity": [UNKNOWN, 2]})
    >>> [attribute.name for attribute in known_together(faces, UTKFACE_ATTRIBUTES)]
    ['age', 'gender']
    """
    together: tuple[Attribute, ...] = ()
    for attribute in attributes:
        if all_known(faces, (*together, attribute)).any():
            together = (*together, attribute)
    return together


def mask_untrained(
    predictions: pd.DataFrame, attributes: Iterable[Attribute], trained: Iterable[Attribute]
) -> pd.DataFrame:
    """Predictions with nan for attributes that a network was not trained on: its outputs for them are noise.

    Examples
    --------
    >>> table = pd.DataFrame({"age_pred": [31.0], "p_gender_male": [0.8], "p_gender_female": [0.2]})
    >>> mask_untrained(table, (AGE, GENDER), (AGE,)).to_dict("list")
    {'age_pred': [31.0], 'p_gender_male': [nan], 'p_gender_female': [nan]}
    """
    trained = set(trained)
    noise = [name for attribute in attributes if attribute not in trained for name in attribute.columns]
    return predictions.assign(**dict.fromkeys(set(noise) & set(predictions), np.nan))


AGE_RANGE = re.compile(r"\(?(\d{1,3}) ?(?:-|–|to|,) ?(\d{1,3})\)?(?: years)?")  # noqa: RUF001, an en dash is one of them
AGE_FROM = re.compile(r"(?:(?:more than|over|>=?|≥) ?)?(\d{1,3})(?: ?\+| and over| (?:or|and) older)?")
AGE_BELOW = re.compile(r"(?:under|less than|below|<) ?(\d{1,3})")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SPREADSHEET_DATE = re.compile(rf"(\d{{1,2}})[- .]+({'|'.join(MONTHS)})|({'|'.join(MONTHS)})[- .]+(\d{{1,2}})")


def band_from_date(value: str) -> tuple[int, int] | None:
    """The band of ages that a spreadsheet took for a day and a month; None if the text is no such date.

    Examples
    --------
    >>> band_from_date("03-Sep"), band_from_date("Oct-19"), band_from_date("20-29")
    ((3, 9), (10, 19), None)
    """
    match = SPREADSHEET_DATE.fullmatch(str(value).strip().lower())
    if not match:
        return None
    month = MONTHS.index(match[2] or match[3]) + 1
    first, last = sorted((month, int(match[1] or match[4])))
    return first, last


def parse_age_band(value: str) -> tuple[int, int]:
    """First and last whole year of a band of ages, both included; the last is `MAX_AGE` where it is open.

    *More than 70* begins at 70, as in data sets whose next band ends with 69.

    Raises
    ------
    ValueError
        If the text is not a band.

    Examples
    --------
    >>> parse_age_band("20-29"), parse_age_band("(25, 32)"), parse_age_band("more than 70"), parse_age_band("70+")
    ((20, 29), (25, 32), (70, 116), (70, 116))
    """
    text = str(value).strip().lower()
    if match := AGE_RANGE.fullmatch(text):
        first, last = map(int, match.groups())
    elif (match := AGE_FROM.fullmatch(text)) and not text.isdigit():
        first, last = int(match[1]), MAX_AGE
    elif match := AGE_BELOW.fullmatch(text):
        first, last = 0, int(match[1]) - 1
    else:
        raise ValueError(f"age band {reprlib.repr(value)} is not of the form 20-29 or 70+")
    if not first <= last <= MAX_AGE:
        raise ValueError(f"age band {first}-{last} is not within 0-{MAX_AGE} years")
    return first, last


def band_name(band: tuple[int, int]) -> str:
    """A band as text, which `parse_age_band` reads.

    Examples
    --------
    >>> band_name((20, 29)), band_name((70, MAX_AGE))
    ('20-29', '70+')
    """
    first, last = band
    return f"{first}+" if last == MAX_AGE else f"{first}-{last}"


def age_band(age_years) -> pd.Categorical:
    """Age band of each age, as an ordered categorical.

    Parameters
    ----------
    age_years : array-like of float, shape (n,)
        Ages in years; missing ages give a missing band.

    Examples
    --------
    >>> list(age_band([0, 4.9, 5, 45, 46, 116]))
    ['0-4', '0-4', '5-17', '30-45', '46-59', '75+']
    """
    edges = [*AGE_BAND_EDGES, float("inf")]
    return pd.cut(pd.Series(age_years, dtype=float), edges, right=False, labels=list(AGE_BANDS)).array


# The notebooks, in the order in which they run, and the files of a run folder that each writes.
# fmt: off
WRITES = {
    "01_explore": ("tables/faces.parquet", "tables/rejected.csv", "tables/unusable_labels.csv"),
    "02_clean": (
        "tables/duplicates.parquet", "tables/persons.parquet", "tables/splits.parquet", "tables/label_scores.parquet",
        "tables/label_issues.parquet", "tables/quality.parquet", "tables/decisions.csv",
    ),
    "03_train_multitask": (
        "tables/predictions.parquet", "tables/embeddings.npy",
        "checkpoints/model.safetensors", "checkpoints/predictor.json", "checkpoints/ood.safetensors",
    ),
    "04_age_two_stage": ("tables/age_stages.parquet", "checkpoints/age_stages.safetensors"),
    "05_evaluate": (),
    "06_groups": (),
    "07_error_clusters": ("tables/error_clusters.parquet",),
    "08_explain": ("tables/attributions.parquet",),
    "09_external_photos": ("tables/external_photos.parquet",),
}
# fmt: on
NOTEBOOKS = tuple(WRITES)
MADE_BY = {file: notebook for notebook, files in WRITES.items() for file in files}
# After the first four these can run at once, begun in this order; each needs those that are named beside it.
BRANCHES: dict[str, tuple[str, ...]] = {
    "08_explain": (),
    "05_evaluate": (),
    "06_groups": ("05_evaluate",),  # which counts the readings of the test split
    "09_external_photos": ("05_evaluate", "06_groups"),
    "07_error_clusters": (),
}
