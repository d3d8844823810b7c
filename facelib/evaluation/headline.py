"""What a model is worth on one split: headline metrics, group tables and calibration, all with n and intervals."""

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame

from facelib import metrics, statistics
from facelib.models.age_stages import oracle_ages, to_bin
from facelib.schema import ATTRIBUTES, ETHNICITIES, GENDERS, P_ETHNICITY, UNKNOWN, age_band, is_known
from facelib.statistics import Estimate

OLD_YEARS = 45  # source A reports the error above and up to this age
STAGE_WAYS = ("routed", "soft", "oracle_bin")  # ages that a two-stage model gives; the last looks at the label
# Numbers of a group, and the label that each judges.
GROUP_METRICS = {"mae": "age", "bias": "age", "gender_accuracy": "gender", "ethnicity_accuracy": "ethnicity"}
# Groups that are reported: single labels, and pairs crossed.
GROUPINGS = (
    ["age_band"],
    ["gender_name"],
    ["ethnicity_name"],
    ["gender_name", "ethnicity_name"],
    ["age_band", "gender_name"],
    ["age_band", "ethnicity_name"],
)


def evaluation_frame(
    faces: pd.DataFrame,
    splits: pd.DataFrame,
    predictions: pd.DataFrame,
    used_splits: tuple[str, ...],
    stages: pd.DataFrame | None = None,
    bin_edges: np.ndarray | None = None,
) -> pd.DataFrame:
    """Labels beside predictions, one row per copy group of some splits; of a published test list every row.

    Parameters
    ----------
    faces, splits : DataFrame
        The tables of the run, in the same order.
    predictions : DataFrame
        Rows of one model.
    used_splits : tuple of str
        Such as ("validation",).
    stages, bin_edges : DataFrame and float array, optional
        The age_stages table and the inner edges of its bins, years; gives true_bin and age_oracle_bin too.

    Returns
    -------
    DataFrame
        The faces' columns, group_id, age_band, gender_pred, ethnicity_pred and the predictions' columns. Unknown labels
        are nan, and so is what was not learned. Predicted ages are in whole years, as labels are; `age_smooth` is
        `age_pred` before that.
    """
    rows = splits[splits["split"].isin(used_splits) & splits["kept"]][["image_id", "group_id"]]
    frame = rows.merge(faces, on="image_id").merge(predictions, on="image_id")
    frame["age_smooth"] = frame["age_pred"]
    frame["age_pred"] = metrics.whole_years(frame["age_smooth"])
    if stages is not None:
        frame = frame.merge(stages, on="image_id")
        frame["true_bin"] = to_bin(frame["age"], bin_edges)
        bin_ages = frame[[f"age_bin_{k}" for k in range(len(bin_edges) + 1)]].to_numpy()
        frame["age_oracle_bin"] = oracle_ages(bin_ages, frame["age"], bin_edges)
        for way in STAGE_WAYS:
            frame[f"age_{way}"] = metrics.whole_years(frame[f"age_{way}"])
    for attribute in ("gender", "ethnicity"):
        frame[attribute] = frame[attribute].where(frame[attribute] != UNKNOWN).astype(float)
    frame["age_band"] = age_band(frame["age"])
    frame["gender_pred"] = (frame["p_female"] >= 0.5).astype(float).where(frame["p_female"].notna())
    likeliest = frame[list(P_ETHNICITY)].to_numpy().argmax(axis=1).astype(float)
    frame["ethnicity_pred"] = np.where(frame[P_ETHNICITY[0]].notna(), likeliest, np.nan)
    frame["gender_name"] = frame["gender"].map(dict(enumerate(GENDERS)))
    frame["ethnicity_name"] = frame["ethnicity"].map(dict(enumerate(ETHNICITIES)))
    return frame


def headline_metrics(frame: pd.DataFrame, prefix: str, resamples: int, seed: int) -> dict[str, Estimate]:
    """All headline metrics of a frame, by flat key below `prefix`; those without a label or prediction are left out.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation_frame`.
    prefix : str
        `test`, `test_cleaned` or `validation`.
    resamples, seed : int
        Of the bootstrap over copy groups.
    """
    found: dict[str, Estimate] = {}

    def add(key: str, statistic, rows: pd.DataFrame, columns: list[str], unit: str) -> None:
        arrays = [rows[column].to_numpy(float) for column in columns]
        found[f"{prefix}.{key}"] = statistics.bootstrap(
            statistic, *arrays, groups=rows["group_id"].to_numpy(), resamples=resamples, seed=seed, unit=unit
        )

    aged, gendered, ethnic = (frame[is_judged(frame, name)] for name in ATTRIBUTES)
    if len(gendered):
        gender = ["gender", "gender_pred"]
        add("gender.accuracy", metrics.accuracy, gendered, gender, "share")
        if gendered["age"].notna().any():
            add("gender.accuracy_age5plus", metrics.accuracy, gendered[gendered["age"] >= 5], gender, "share")
        add("gender.auc", metrics.auc, gendered, ["gender", "p_female"], "")
    if len(ethnic):
        ethnicity = ["ethnicity", "ethnicity_pred"]
        add("ethnicity.accuracy", metrics.accuracy, ethnic, ethnicity, "share")
        add("ethnicity.macro_f1", metrics.macro_f1, ethnic, ethnicity, "")
    if len(aged):
        age = ["age", "age_pred"]
        add("age.mae", metrics.mae, aged, age, "years")
        add("age.cs5", metrics.cs5, aged, age, "share")
        add("age.cs5_unrounded", metrics.cs5, aged, ["age", "age_smooth"], "share")  # as others mostly report it
        add("age.bias", metrics.bias, aged, age, "years")
        add("age.mae_le45", metrics.mae, aged[aged["age"] <= OLD_YEARS], age, "years")
        add("age.mae_gt45", metrics.mae, aged[aged["age"] > OLD_YEARS], age, "years")
        add("age.r2", metrics.r2, aged, age, "")
    if len(aged) and "predicted_bin" in aged:
        add("age_stages.bin_accuracy", metrics.accuracy, aged, ["true_bin", "predicted_bin"], "share")
        for way in STAGE_WAYS:
            add(f"age_stages.mae_{way}", metrics.mae, aged, ["age", f"age_{way}"], "years")
    if len(aged) and aged["age_low"].notna().all():
        covered = aged.assign(covered=aged["age"].between(aged["age_low"], aged["age_high"]).astype(float))
        add("age.interval_coverage", np.mean, covered, ["covered"], "share")
        width = aged.assign(width=aged["age_high"] - aged["age_low"])
        add("age.interval_width", np.mean, width, ["width"], "years")
    return found


def one_against_rest(frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Female, and each ethnicity: whether a face has this label, the probability given to it, and its copy group.

    Faces without the label count in none; classes that no face or every face has are left out.
    """
    scores = {"female": ("gender", GENDERS.index("female"), "p_female")}
    scores |= {name: ("ethnicity", code, P_ETHNICITY[code]) for code, name in enumerate(ETHNICITIES)}
    found = {}
    for name, (attribute, code, column) in scores.items():
        known = frame[frame[attribute].notna() & frame[column].notna()]
        is_class = (known[attribute] == code).to_numpy(int)
        if 0 < is_class.sum() < len(is_class):
            found[name] = is_class, known[column].to_numpy(), known["group_id"].to_numpy()
    return found


def ranking_table(frame: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Area under the ROC curve and average precision of each class against the rest.

    Returns
    -------
    DataFrame
        class, n, base_rate (share of the class: the precision of a guess), auc and average_precision, each with _low
        and _high.
    """
    rows = []
    for name, (is_class, score, groups) in one_against_rest(frame).items():
        row = {"class": name, "n": len(is_class), "base_rate": is_class.mean()}
        for measure in (metrics.auc, metrics.average_precision):
            options = {"groups": groups, "resamples": resamples, "seed": seed}
            estimate = statistics.bootstrap(measure, is_class, score, **options)
            key = measure.__name__
            row |= {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
        rows.append(row)
    endings = [f"{key}{ending}" for key in ("auc", "average_precision") for ending in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["class", "n", "base_rate", *endings])


def baselines(train: pd.DataFrame, frame: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """What is reached without looking at a face: the training median age and the majority classes.

    Returns
    -------
    DataFrame
        metric, baseline, value, low, high, n, unit.
    """
    rows = []
    for attribute, statistic in (("age", metrics.mae), ("gender", metrics.accuracy), ("ethnicity", metrics.accuracy)):
        known = frame[is_judged(frame, attribute)]
        seen = train[attribute][train[attribute] != UNKNOWN].dropna()
        if known.empty or seen.empty:
            continue
        constant = seen.median() if attribute == "age" else seen.mode().iloc[0]
        guess = np.full(len(known), float(constant))
        unit = "years" if attribute == "age" else "share"
        groups = known["group_id"].to_numpy()
        estimate = statistics.bootstrap(
            statistic, known[attribute], guess, groups=groups, resamples=resamples, seed=seed, unit=unit
        )
        name = f"always {constant:g} years" if attribute == "age" else f"always class {constant:g}"
        rows.append({"metric": f"{attribute}.{statistic.__name__}", "baseline": name, **estimate.to_dict()})
    return pd.DataFrame(rows)


def is_judged(frame: pd.DataFrame, attribute: str) -> pd.Series:
    """Rows of a frame in which an attribute is labelled and predicted."""
    return frame[attribute].notna() & frame[f"{attribute}_pred"].notna()


def groupings(frame: pd.DataFrame) -> list[list[str]]:
    """Those of `GROUPINGS` in which `judged_rows` leaves a row."""
    return [by for by in GROUPINGS if len(judged_rows(frame, by)[1])]


def judged_rows(frame: pd.DataFrame, by: list[str]) -> tuple[list[str], pd.DataFrame]:
    """The attributes that are labelled and predicted, and the rows on which these and the columns of `by` are known."""
    judged = [name for name in ATTRIBUTES if is_judged(frame, name).any()]
    return judged, frame.dropna(subset=[*judged, *by])


def row_values(known: pd.DataFrame) -> pd.DataFrame:
    """What each row adds to the means of `GROUP_METRICS`: columns of these names; years, and 1 for right or 0."""
    error = known["age_pred"] - known["age"]
    right = {name: (known[name] == known[f"{name}_pred"]).astype(float) for name in ("gender", "ethnicity")}
    columns = {"mae": error.abs(), "bias": error} | {f"{name}_accuracy": value for name, value in right.items()}
    return pd.DataFrame(columns, index=known.index)


def group_table(frame: pd.DataFrame, by: list[str], resamples: int, seed: int, min_rows: int) -> pd.DataFrame:
    """Age error, gender and ethnicity accuracy of each group, with counts and 95 % intervals.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation_frame`.
    by : list of str
        Columns such as age_band, gender_name, ethnicity_name; several mean their crossings.
    resamples, seed : int
    min_rows : int
        Groups with fewer rows keep their count and have their metrics masked.

    Returns
    -------
    DataFrame
        One row per group: the columns of `by`, n, and mae, bias (years), gender_accuracy, ethnicity_accuracy, each with
        _low and _high. Rows count whose labels are all known; of an attribute that nobody labelled the numbers are nan.
    """
    judged, known = judged_rows(frame, by)
    correct = row_values(known)[["gender_accuracy", "ethnicity_accuracy"]]
    values = MetricFrame(
        metrics={"n": lambda y_true, y_pred: len(y_true)},
        y_true=known["age"].to_numpy(),
        y_pred=known["age_pred"].to_numpy(),
        sensitive_features=known[by].astype(str).reset_index(drop=True),
    ).by_group.dropna(subset=["n"])
    members = known.assign(**correct).groupby([known[column].astype(str) for column in by])
    rows = []
    for key, value in values.iterrows():
        group = members.get_group(key if isinstance(key, tuple) else (key,))
        row = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True)) | {"n": int(value["n"])}
        for name, attribute in GROUP_METRICS.items():
            if row["n"] < min_rows or attribute not in judged:
                shown = Estimate(np.nan, np.nan, np.nan, row["n"])
            elif attribute == "age":
                drawn = {"groups": group["group_id"].to_numpy(), "resamples": resamples, "seed": seed}
                shown = statistics.bootstrap(getattr(metrics, name), group["age"], group["age_pred"], **drawn)
            else:
                shown = statistics.rate(int(group[name].sum()), len(group))
            row |= {name: shown.value, f"{name}_low": shown.low, f"{name}_high": shown.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    if "age_band" in by:
        order = pd.Categorical(table["age_band"], list(frame["age_band"].cat.categories), ordered=True)
        table = table.assign(age_band=order).sort_values(by, ignore_index=True)
    return table


def widest_gap(table: pd.DataFrame, metric: str) -> tuple[pd.Series, pd.Series] | None:
    """The groups with the lowest and the highest value of a metric; None where every group is masked."""
    shown = table.dropna(subset=[metric])
    if shown.empty:
        return None
    return shown.loc[shown[metric].idxmin()], shown.loc[shown[metric].idxmax()]


def confidence(labels: pd.DataFrame, probabilities: pd.DataFrame, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows with a known label: whether the likeliest class is right, and its probability.

    Parameters
    ----------
    labels : DataFrame
        Has the column `head`: gender or ethnicity.
    probabilities : DataFrame
        p_female and p_ethnicity_0 to 4, in the same order.
    """
    known = is_known(labels[head])
    if head == "gender":
        female = probabilities["p_female"].to_numpy()
        chance = np.column_stack([1 - female, female])
    else:
        chance = probabilities[list(P_ETHNICITY)].to_numpy()
    correct = chance.argmax(axis=1) == labels[head].to_numpy()
    return correct[known], chance.max(axis=1)[known]


def reliability(correct: np.ndarray, confidence: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Accuracy against mean confidence over equal-count bins, with Wilson intervals: a reliability diagram's points."""
    order = np.argsort(confidence, kind="stable")
    rows = []
    for part in np.array_split(order, min(bins, max(1, len(order) // 10))):
        estimate = statistics.rate(int(correct[part].sum()), len(part))
        rows.append({"confidence": confidence[part].mean(), "accuracy": estimate.value, **estimate.to_dict()})
    return pd.DataFrame(rows)


def coverage_table(frame: pd.DataFrame, by: str, intervals: dict[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """How many true ages each kind of age interval holds, by group, and how wide it is.

    Parameters
    ----------
    frame : DataFrame
        age (years, known) and the column `by`.
    by : str
        Rows where it is missing are left out.
    intervals : dict of pairs of float arrays
        Lower and upper ends in years by row of `frame`, by the name of the kind.

    Returns
    -------
    DataFrame
        group, kind, value (share held), low, high (Wilson), n, width (years, mean).
    """
    rows = []
    for kind, (low, high) in intervals.items():
        held = frame["age"].between(pd.Series(low, frame.index), pd.Series(high, frame.index))
        measured = frame.assign(held=held, width=high - low).dropna(subset=[by]).groupby(by, observed=True)
        for group, part in measured:
            covered = statistics.rate(int(part["held"].sum()), len(part)).to_dict()
            rows.append({"group": str(group), "kind": kind, **covered, "width": part["width"].mean()})
    return pd.DataFrame(rows).drop(columns="unit", errors="ignore")
