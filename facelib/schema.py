"""Label tables, column names and age bands: each constant once.

Labels are what annotators saw, not what people are. The names below are those of the UTKFace data set.
"""

import re
import reprlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

GENDERS = ("male", "female")
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
ATTRIBUTES = ("age", "gender", "ethnicity")
CLASS_NAMES = {"gender": GENDERS, "ethnicity": ETHNICITIES}
MAX_AGE = 116  # the oldest label in UTKFace
UNKNOWN = -1  # an integer code for a label that is missing

# Lower edges of the age bands, in years; the last band is open. Children are split finely because gender errors
# concentrate there, and 45 is where source A's age error changes.
AGE_BAND_EDGES = (0, 5, 18, 30, 46, 60, 75)
AGE_BANDS = ("0-4", "5-17", "18-29", "30-45", "46-59", "60-74", "75+")

SPLITS = {"train": 0.75, "validation": 0.08, "calibration": 0.05, "test": 0.12}

FACES_COLUMNS = ("image_id", "path", "age", "gender", "ethnicity", "source", "sha256", "width", "height", "mode")
P_ETHNICITY = tuple(f"p_ethnicity_{code}" for code in range(len(ETHNICITIES)))
# Columns of predictions by the attribute that they speak of.
PREDICTED = {
    "age": ("age_pred", "age_spread", "age_low", "age_high"),
    "gender": ("p_female",),
    "ethnicity": P_ETHNICITY,
}

# The notebooks, in the order in which they run.
NOTEBOOKS = (
    "01_explore",
    "02_clean",
    "03_train_multitask",
    "04_age_two_stage",
    "05_evaluate_bias",
    "06_error_clusters",
    "07_explain",
    "08_external_photos",
)

# Which notebook writes which file of a run folder, so that a missing one can be asked for by name.
MADE_BY = {
    "tables/faces.parquet": "01_explore",
    "tables/rejected.csv": "01_explore",
    "tables/duplicates.parquet": "02_clean",
    "tables/splits.parquet": "02_clean",
    "tables/label_issues.parquet": "02_clean",
    "tables/quality.parquet": "02_clean",
    "tables/decisions.csv": "02_clean",
    "tables/predictions.parquet": "03_train_multitask",
    "tables/embeddings.npy": "03_train_multitask",
    "checkpoints/model.safetensors": "03_train_multitask",
    "checkpoints/predictor.json": "03_train_multitask",
    "checkpoints/familiar.safetensors": "03_train_multitask",
    "tables/age_stages.parquet": "04_age_two_stage",
    "checkpoints/age_stages.safetensors": "04_age_two_stage",
    "tables/error_clusters.parquet": "06_error_clusters",
    "tables/attributions.parquet": "07_explain",
}

# Keys that the results of every complete run hold (tests check that each is there and finite).
HEADLINE_KEYS = (
    "data.images",
    "data.rejected",
    "audit.duplicates.exact_groups",
    "audit.duplicates.near_groups",
    "audit.label_issues.age",
    "audit.label_issues.gender",
    "audit.label_issues.ethnicity",
    "splits.leaking_pairs",
)
TEST_KEYS = (
    "gender.accuracy",
    "gender.accuracy_age5plus",
    "gender.auc",
    "ethnicity.accuracy",
    "ethnicity.macro_f1",
    "age.mae",
    "age.cs5",
    "age.cs5_unrounded",
    "age.bias",
    "age.mae_le45",
    "age.mae_gt45",
    "age.r2",
    "age_stages.bin_accuracy",
    "age_stages.mae_routed",
    "age_stages.mae_soft",
    "age_stages.mae_oracle_bin",
    "age.interval_coverage",
    "age.interval_width",
)
HEADLINE_KEYS += tuple(f"{test}.{key}" for test in ("test", "test_cleaned") for key in TEST_KEYS)


def is_known(labels: pd.Series) -> np.ndarray:
    """Which labels of an attribute are known: bool (n,).

    Examples
    --------
    >>> is_known(pd.Series([3, UNKNOWN, float("nan")])).tolist()
    [True, False, False]
    """
    return (labels.notna() & (labels != UNKNOWN)).to_numpy()


def labelled(faces: pd.DataFrame) -> tuple[str, ...]:
    """The attributes that any row of a faces table is labelled with.

    Examples
    --------
    >>> labelled(pd.DataFrame({"age": [31.0, float("nan")], "gender": [UNKNOWN, UNKNOWN], "ethnicity": [0, 1]}))
    ('age', 'ethnicity')
    """
    return tuple(name for name in ATTRIBUTES if is_known(faces[name]).any())


def without_unlearned(predictions: pd.DataFrame, learned: Iterable[str]) -> pd.DataFrame:
    """Predictions with nan for attributes that the network did not learn: its outputs for them are noise.

    Examples
    --------
    >>> without_unlearned(pd.DataFrame({"age_pred": [31.0], "p_female": [0.2]}), ["age"]).to_dict("list")
    {'age_pred': [31.0], 'p_female': [nan]}
    """
    noise = [name for attribute in set(ATTRIBUTES) - set(learned) for name in PREDICTED[attribute]]
    return predictions.assign(**dict.fromkeys(set(noise) & set(predictions), np.nan))


def is_missing(value) -> bool:
    """Whether a cell of a table holds no value.

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing([None])
    (True, True, False, False)
    """
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def parse_label(attribute: str, value) -> float | int:
    """A label from text: an age in years (nan where missing), a class by its code or name (`UNKNOWN` where missing).

    Raises
    ------
    ValueError
        If the value is none that the attribute can have.

    Examples
    --------
    >>> parse_label("gender", "Female"), parse_label("ethnicity", "2.0"), parse_label("age", "31")
    (1, 2, 31.0)
    """
    if not (value is None or pd.api.types.is_scalar(value)):
        raise ValueError(f"{attribute} is a {type(value).__name__} and no single value")
    text, shown = "" if is_missing(value) else str(value).strip(), reprlib.repr(value)
    if attribute == "age":
        try:
            age = float(text or "nan")
        except ValueError:
            raise ValueError(f"age {shown} is not a number") from None
        if age < 0 or age > MAX_AGE:
            raise ValueError(f"age {age:g} is outside 0-{MAX_AGE} years")
        return age
    names = CLASS_NAMES[attribute]
    by_name = {name.lower(): code for code, name in enumerate(names)}
    by_code = {form: code for code in range(len(names)) for form in (str(code), f"{code}.0")}
    known = by_name | by_code | {"": UNKNOWN}
    if text.lower() not in known:
        allowed = ", ".join(f"{code} {name}" for code, name in enumerate(names))
        raise ValueError(f"{attribute} {shown} is none of {allowed}")
    return known[text.lower()]


AGE_RANGE = re.compile(r"\(?(\d{1,3}) ?(?:-|–|to|,) ?(\d{1,3})\)?")  # noqa: RUF001, an en dash is one of them
AGE_FROM = re.compile(r"(?:more than )?(\d{1,3})(?:\+| and over)?")


def parse_age_band(value: str) -> tuple[int, int]:
    """First and last whole year of a band of ages, both included; the last is `MAX_AGE` where it is open.

    *More than 70* begins at 70, as in data sets whose next band ends with 69.

    Raises
    ------
    ValueError
        If the text is no band.

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
    else:
        raise ValueError(f"age band {reprlib.repr(value)} is none such as 20-29 or 70+")
    if not first <= last <= MAX_AGE:
        raise ValueError(f"age band {first}-{last} is not within 0-{MAX_AGE} years")
    return first, last


def label_name(attribute: str, value: float) -> str:
    """A label as a reader says it: years, or the name of a class.

    Examples
    --------
    >>> label_name("age", 31.0), label_name("gender", 1), label_name("ethnicity", -1)
    ('31', 'female', 'unknown')
    """
    if pd.isna(value) or value < 0:
        return "unknown"
    return f"{value:g}" if attribute == "age" else CLASS_NAMES[attribute][int(value)]


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
