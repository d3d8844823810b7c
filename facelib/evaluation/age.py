"""Which way to predict age is better, for whom, and how far predictions shrink towards the middle.

Labels are whole years, so predictions are rounded before they are scored.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from facelib import metrics
from facelib.evaluation.headline import AGE_WAYS, run_frame
from facelib.finding import Finding, listed
from facelib.models.age_heads import fit_age_heads, fit_stage_heads
from facelib.models.age_stages import (
    AgeStagesNet,
    age_bin_edges,
    bin_medians,
    no_image_oracle_ages,
    oracle_ages,
    route,
    to_bin,
)
from facelib.prediction.predictor import AGE_METHODS
from facelib.runs import RunFolder
from facelib.schema import AGE, MAX_AGE, OLD_YEARS, class_attributes
from facelib.statistics import YEARS, Bootstrap, Estimate, rate

MIN_SLOPE = 0.2  # years of prediction per year of age; flatter predictions are not de-shrunk
OWN_HEAD, SOFT_HEAD = "the network's own", "soft labels (DLDL-v2)"


@dataclass(frozen=True)
class Comparison:
    """Estimates of age compared on the same faces: labels (n,) in years, copy groups (n,) resampled together."""

    y_true: np.ndarray
    groups: np.ndarray
    bootstrap: Bootstrap

    def errors(self, estimates: dict[str, np.ndarray]) -> pd.DataFrame:
        """Errors in years of several estimates (n,) by method; nan where there is no such face.

        Columns: method, name (from `AGE_WAYS`), mae with _low and _high, n, mae_le45, mae_gt45, bias_gt45.
        """
        rows, old = [], self.y_true > OLD_YEARS
        parts = {"mae_le45": (metrics.mae, ~old), "mae_gt45": (metrics.mae, old), "bias_gt45": (metrics.bias, old)}
        for method, age in estimates.items():
            rounded = metrics.whole_years(age)
            mae = self.bootstrap(metrics.mae, self.y_true, rounded, groups=self.groups, unit=YEARS)
            row = {"method": method, "name": AGE_WAYS.get(method, method), **mae.columns("mae"), "n": mae.n}
            for key, (statistic, part) in parts.items():
                row[key] = statistic(self.y_true[part], rounded[part]) if part.any() else np.nan
            rows.append(row)
        return pd.DataFrame(rows)

    def differences(self, estimates: dict[str, np.ndarray], reference: str) -> pd.DataFrame:
        """Absolute error of each other estimate minus that of the reference, in years.

        Columns: method, difference with _low and _high, n, answer (better, worse or inconclusive).
        """
        error = {method: np.abs(metrics.whole_years(age) - self.y_true) for method, age in estimates.items()}
        rows, own = [], error.pop(reference)
        for method, other in error.items():
            gain = self.bootstrap(np.mean, other - own, groups=self.groups, unit=YEARS)
            answer = gain.against(0, "better", "worse")
            rows.append({"method": method, **gain.columns("difference"), "n": gain.n, "answer": answer})
        return pd.DataFrame(rows, columns=["method", *gain.columns("difference"), "n", "answer"])


# --- two stages -------------------------------------------------------------------------------------------


def stage_estimates(
    ways: dict[str, np.ndarray], stages: AgeStagesNet, bin_ages: np.ndarray, ages: np.ndarray, rows: dict
) -> dict[str, np.ndarray]:
    """Ages of the validation rows by each method, by the true bin (with and without the image), and the median.

    Takes the ages (n,) of `age_estimates`, the two-stage network and its regressors' ages (n, bins), and labels (n,).
    """
    valid, edges = rows["validation"], np.array(stages.edges)
    y_true = ages[valid]
    return {method: age[valid] for method, age in ways.items()} | {
        "oracle_bin": oracle_ages(bin_ages[valid], y_true, edges),
        "no_image": no_image_oracle_ages(y_true, edges, stages.medians),
        "median": np.full(len(valid), np.median(ages[rows["train"]])),
    }


def choose_method(
    errors: pd.DataFrame, differences: pd.DataFrame, true_bin: np.ndarray, predicted_bin: np.ndarray
) -> tuple[str, Finding]:
    """The method of `AGE_METHODS` with the lowest validation error, and finding age.chosen."""
    mae = errors.set_index("method")["mae"]
    method = mae[list(AGE_METHODS)].idxmin()
    answers = listed(f"{row.method} is {row.answer}" for row in differences.itertuples())
    answers = answers.replace("inconclusive", "not shown to differ")
    right = rate((true_bin == predicted_bin).sum(), len(true_bin))
    error = stage_metrics(errors)[f"validation.age_stages.mae_{method}"]
    text = (
        f"The predictor uses the method {method}, {AGE_METHODS[method]}: its validation error is lowest, {error}. "
        f"Compared with direct on the same faces, {answers}. The bin is predicted correctly for {right.text} of the "
        f"faces. Given the true bin, the two-stage (routed) error would be {mae['routed'] - mae['oracle_bin']:.1f} "
        f"years lower; the median age of the true bin alone, without an image, has an error of {mae['no_image']:.2f} "
        "years."
    )
    return method, Finding("age.chosen", text, error)


def stage_metrics(errors: pd.DataFrame) -> dict[str, Estimate]:
    """The headline metrics of notebook 04: the MAE of each method."""
    return {
        f"validation.age_stages.mae_{row.method}": Estimate(row.mae, row.mae_low, row.mae_high, row.n, YEARS)
        for row in errors.itertuples()
    }


def compare_bins(
    features: np.ndarray, ages: np.ndarray, new: np.ndarray, y_true: np.ndarray, wanted: Iterable[int], seed: int
) -> pd.DataFrame:
    """Two-stage models with several numbers of bins, trained on saved features as `fit_age_heads` takes them.

    Columns: bins, bin_accuracy, and the MAE in years of each estimate, for features `new` (m, width) and ages `y_true`.
    Numbers of bins that ties in the ages reduce to an earlier number are left out.
    """
    rows: dict[int, dict] = {}
    for bins in wanted:
        edges = age_bin_edges(ages, bins)
        if len(edges) + 1 in rows:
            continue
        outputs, overlapping = (fit_stage_heads(features, ages, edges, overlap, seed)(new) for overlap in (False, True))
        staged, overlapping = route(outputs), route(overlapping)
        estimates = {
            "routed": staged["age_routed"],
            "soft": staged["age_soft"],
            "routed_overlap": overlapping["age_routed"],
            "soft_overlap": overlapping["age_soft"],
            "oracle_bin": oracle_ages(outputs["bin_ages"], y_true, edges),
            "no_image": no_image_oracle_ages(y_true, edges, bin_medians(ages, edges)),
        }
        right = metrics.accuracy(to_bin(y_true, edges), staged["predicted_bin"])
        errors = {method: metrics.mae(y_true, metrics.whole_years(age)) for method, age in estimates.items()}
        rows[len(edges) + 1] = {"bins": len(edges) + 1, "bin_accuracy": right, **errors}
    return pd.DataFrame(rows.values())


# --- heads and shrinkage ----------------------------------------------------------------------------------


def heads_finding(
    errors: pd.DataFrame, differences: pd.DataFrame, trained: dict[str, np.ndarray], train_ages: np.ndarray
) -> Finding:
    """Finding age.heads, from a `Comparison` of heads and their ages of augmented training images."""
    mae = errors.set_index("method")["mae"].drop(OWN_HEAD)
    best, answers = mae.idxmin(), differences["answer"].value_counts()
    on_training = metrics.mae(train_ages, metrics.whole_years(trained[best]))
    better, worse, unclear = (answers.get(name, 0) for name in ("better", "worse", "inconclusive"))
    text = (
        f"Of {len(differences)} combinations of head and decoding on the network's features, {better} have a lower "
        f"error than the network's own head and {worse} a higher one; for {unclear} the interval includes 0. The error "
        f"is lowest for {best}: {mae[best]:.2f} years on validation and {on_training:.2f} years on augmented training "
        "images."
    )
    return Finding("age.heads", text, n=int(errors["n"].iloc[0]))


def deshrink(y_true: np.ndarray, age_pred: np.ndarray) -> tuple[float, float]:
    """Intercept (years) and slope that undo the shrinkage of predictions: the regression on the label, inverted.

    It removes the mean error at every age and increases the spread. Predictions flatter than `MIN_SLOPE` are left.

    Examples
    --------
    >>> y_true = np.array([10.0, 30.0, 50.0])
    >>> intercept, slope = deshrink(y_true, 10 + 0.5 * y_true)
    >>> round(intercept, 6), round(slope, 6)
    (-20.0, 2.0)
    """
    slope, intercept = np.polyfit(y_true, age_pred, 1)
    return (0.0, 1.0) if slope < MIN_SLOPE else (float(-intercept / slope), float(1 / slope))


def balanced_weights(ages: np.ndarray, width: float = 10.0) -> np.ndarray:
    """Sampling weights by which every age decade is drawn equally often: float (n,), 1 on average."""
    decade = (np.asarray(ages) // width).astype(int)
    weights = 1 / np.bincount(decade)[decade]
    return weights / weights.mean()


def remedies(
    heads: dict[str, np.ndarray], features: np.ndarray, train_ages: np.ndarray, new: np.ndarray,
    line: tuple[float, float], seed: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Ages of the soft-label head, also with balanced decades, and of the network's own, also de-shrunk by a line."""
    balanced = fit_age_heads(features, train_ages, seed, (SOFT_HEAD,), balanced_weights(train_ages))(new)
    intercept, slope = line
    return (
        {name: age for name, age in heads.items() if name.startswith((SOFT_HEAD, OWN_HEAD))}
        | {f"{name}, balanced decades": age for name, age in balanced.items()}
        | {f"{OWN_HEAD}, de-shrunk": np.clip(intercept + slope * heads[OWN_HEAD], 0, MAX_AGE)}
    )


def shrinkage(frame: pd.DataFrame, by: str, min_rows: int, bootstrap: Bootstrap) -> pd.DataFrame:
    """Growth of the prediction per year of age, by groups of a frame with known ages: 1 without shrinkage.

    Columns: group, slope with _low and _high, n, bias_le45 and bias_gt45 (years). Groups with fewer rows than
    `min_rows`, or of one age, are left out.
    """

    def growth(age: np.ndarray, age_pred: np.ndarray) -> float:
        return float(np.polyfit(age, age_pred, 1)[0]) if np.ptp(age) > 0 else float("nan")

    rows = []
    for name, part in frame.groupby(by, observed=True):
        if len(part) < max(2, min_rows) or part["age"].nunique() < 2:
            continue
        slope = bootstrap(growth, part["age"], part["age_pred"], groups=part["group_id"])
        error, old = part["age_pred"] - part["age"], part["age"] > OLD_YEARS
        biases = {"bias_le45": error[~old].mean(), "bias_gt45": error[old].mean()}
        rows.append({"group": name, **slope.columns("slope"), "n": slope.n, **biases})
    return pd.DataFrame(rows, columns=["group", "slope", "slope_low", "slope_high", "n", "bias_le45", "bias_gt45"])


def shrinkage_table(run: RunFolder) -> pd.DataFrame:
    """`shrinkage` of a run's predictor on validation, for all faces and by the groups of each class attribute."""
    frame = run_frame(run, ("validation",)).dropna(subset=[AGE.name]).assign(all="all faces")
    columns = ["all", *(attribute.group_column for attribute in class_attributes(run.attributes))]
    options = run.settings.evaluation.min_group, run.bootstrap
    return pd.concat([shrinkage(frame, by, *options) for by in columns], ignore_index=True)


def shrinkage_finding(slopes: pd.DataFrame, errors: pd.DataFrame) -> Finding:
    """Finding age.shrinkage, from `shrinkage_table` and the errors of `remedies`."""
    own, line = (errors.set_index("method").loc[name] for name in (OWN_HEAD, f"{OWN_HEAD}, de-shrunk"))
    row = slopes.iloc[0]
    slope = Estimate(row["slope"], row["slope_low"], row["slope_high"], int(row["n"]))
    text = (
        f"The predicted age grows by {slope} years per labelled year. De-shrinking the network's own head changes the "
        f"MAE up to {OLD_YEARS} from {own['mae_le45']:.2f} to {line['mae_le45']:.2f} years"
    )
    text += "." if np.isnan(own["mae_gt45"]) else (
        f", the MAE above {OLD_YEARS} from {own['mae_gt45']:.2f} to {line['mae_gt45']:.2f} years, and the mean error "
        f"above {OLD_YEARS} from {own['bias_gt45']:+.1f} to {line['bias_gt45']:+.1f} years."
    )  # fmt: skip
    return Finding("age.shrinkage", text, slope)
