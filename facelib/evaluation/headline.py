"""Headline metrics of one split beside no-image baselines; ranking, calibration and age intervals.

Every number has its n and a 95 % interval, by a bootstrap over groups of copies or Wilson's for a share.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from facelib import metrics
from facelib.audit import contradictions, decisions
from facelib.data.splits import shared_with_training
from facelib.finding import Finding, Findings, listed
from facelib.prediction.calibration import AgeIntervals, fit_age_intervals
from facelib.runs import READINGS, RunFolder, read_readings
from facelib.schema import AGE, OLD_YEARS, Attribute, ClassAttribute, class_attributes, mask_untrained
from facelib.statistics import (
    SHARE,
    YEARS,
    Bootstrap,
    CalibrationError,
    Estimate,
    calibration_error,
    format_value,
    rate,
)

_CONSTANT, _MIDDLE = "always answering {constant}", "the middle 90 % of the training ages"
STAGE_WAYS = {  # ages of a two-stage model, and the baseline of each
    "routed": ("routed", _CONSTANT),
    "soft": ("soft", _CONSTANT),
    "oracle_bin": ("given the true bin (not a prediction)", "the median age of the true bin, without the image"),
}
# Ages of a two-stage model.
AGE_WAYS = {
    "direct": "direct, no bins",
    "routed": "two stages, routed",
    "soft": "two stages, soft",
    "mean": "mean of direct and soft",
    "oracle_bin": "oracle bin (looks at the label)",
    "no_image": "oracle bin, no image (looks at the label)",
    "median": "training median age, no image",
}
DATA_KEYS = ("data.images", "data.rejected", "audit.duplicates.exact_groups", "audit.duplicates.near_groups",
             "splits.leaking_pairs")  # fmt: skip
INVERTED = 0.4  # accuracy of two classes below which they are taken to be swapped
NEXT_BANDS = "from_next", "to_next"  # columns of a frame: the ends of a band and of those beside it
PLAIN, MONDRIAN = "plain", "by predicted age"  # kinds of age intervals


@dataclass(frozen=True)
class Metric:
    """A headline metric; `{name}`, `{title}` and `{second}` stand for those of an attribute and its second class.

    `statistic` takes the arrays in `columns` of an evaluation frame. `ages` chooses the labelled ages, in years, and
    `classes` the numbers of classes that it is computed for; `more_is_better` is None where neither is. `baseline` says
    what `without_image` answers. `phrase` is its part of the attribute's finding. One with `bands` is measured on the
    rows of which only a band of ages is known; the interval of one that is `calibrated` includes what another draw of
    the calibration split would change.
    """

    key: str
    title: str
    statistic: Callable[..., float]
    unit: str = ""
    more_is_better: bool | None = None
    columns: tuple[str, ...] = ("{name}", "{name}_pred")
    ages: Callable[[pd.Series], pd.Series] | None = None
    baseline: str = _CONSTANT
    classes: Callable[[int], bool] | None = None
    phrase: str = ""
    bands: bool = False
    calibrated: bool = False

    def rows(self, frame: pd.DataFrame, attribute: Attribute) -> pd.DataFrame:
        """The rows of an evaluation frame that it is measured on, whatever their ages."""
        if self.bands:
            return frame[attribute.has_band(frame) & frame[attribute.prediction].notna()]
        return frame[frame[attribute.name].notna() & frame[attribute.prediction].notna()]


_ENDS, _BINS = ("{name}_low", "{name}_high"), ("true_bin", "predicted_bin")
_BANDS, _NEXT = (tuple(f"{{name}}_{part}" for part in (*ends, "pred")) for ends in (("from", "to"), NEXT_BANDS))
METRICS = {
    "years": (
        Metric("{name}.mae", "{title}: mean absolute error", metrics.mae, YEARS, False,
               phrase="MAE is {}"),
        Metric("{name}.cs5", "{title}: within 5 years", metrics.cs5, SHARE, True, ("{name}", "{name}_unrounded"),
               phrase="{} of the predictions are within 5 years"),
        Metric("{name}.cs5_whole_years", "{title}: within 5 years, in whole years", metrics.cs5, SHARE, True),
        Metric("{name}.bias", "{title}: bias (predicted minus labelled)", metrics.bias, YEARS),
        Metric("{name}.mae_le45", "{title}: error up to 45 years", metrics.mae, YEARS, False,
               ages=lambda age: age <= OLD_YEARS),
        Metric("{name}.mae_gt45", "{title}: error over 45 years", metrics.mae, YEARS, False,
               ages=lambda age: age > OLD_YEARS),
        Metric("{name}.r2", "{title}: R2", metrics.r2, "", True),
        Metric("{name}_stages.bin_accuracy", "{title} bin accuracy", metrics.accuracy, SHARE, True, _BINS,
               baseline="always answering the most frequent bin"),
        *(Metric(f"{{name}}_stages.mae_{way}", f"Two-stage {{name}} error, {text}", metrics.mae, YEARS, False,
                 ("{name}", f"{{name}}_{way}"), baseline=baseline) for way, (text, baseline) in STAGE_WAYS.items()),
        Metric("{name}.interval_coverage", "{title}: coverage of the 90 % intervals",
               lambda y, low, high: float(np.mean((low <= y) & (y <= high))), SHARE, None, ("{name}", *_ENDS),
               baseline=_MIDDLE, calibrated=True),
        Metric("{name}.interval_width", "{title}: width of the 90 % intervals",
               lambda low, high: float(np.mean(high - low)), YEARS, False, _ENDS, baseline=_MIDDLE),
        Metric("{name}.band_accuracy", "{title}: within the labelled band", metrics.band_accuracy, SHARE, True, _BANDS,
               phrase="is in the labelled band for {}", bands=True),
        Metric("{name}.band_off_by_one", "{title}: within the labelled band or one beside it", metrics.band_accuracy,
               SHARE, True, _NEXT, phrase="in it or in one beside it for {}", bands=True),
        Metric("{name}.band_mae_least", "{title}: years outside the labelled band", metrics.band_mae_least, YEARS,
               False, _BANDS, phrase="{} outside it on average", bands=True),
    ),
    "classes": (
        Metric("{name}.accuracy", "{title}: accuracy", metrics.accuracy, SHARE, True,
               phrase="accuracy is {}"),
        Metric("{name}.accuracy_age5plus", "{title}: accuracy, 5 years and over", metrics.accuracy, SHARE, True,
               ages=lambda age: age >= 5, classes=lambda k: k == 2, phrase="{} at 5 years and over"),
        Metric("{name}.auc", "{title}: area under the ROC curve", metrics.auc, "", True, ("{name}", "{second}"),
               classes=lambda k: k == 2),
        Metric("{name}.macro_f1", "{title}: macro F1", metrics.macro_f1, "", True, classes=lambda k: k > 2,
               phrase="macro F1 {}"),
    ),
}  # fmt: skip


def metrics_of(attribute: Attribute) -> list[Metric]:
    """The headline metrics of an attribute, in order.

    Examples
    --------
    >>> [metric.key for metric in metrics_of(ClassAttribute("smile", classes=("no", "yes")))]
    ['smile.accuracy', 'smile.accuracy_age5plus', 'smile.auc']
    """

    def filled(text: str) -> str:
        return text.format(name=attribute.name, title=attribute.title, second=attribute.columns[1])

    return [
        replace(m, key=filled(m.key), title=filled(m.title), columns=tuple(map(filled, m.columns)))
        for m in METRICS[attribute.kind]
        if (m.classes is None or m.classes(len(attribute.classes))) and (m.bands or attribute.exact)
    ]


def expected_keys(attributes: Iterable[Attribute]) -> list[str]:
    """Keys that the results of a complete run hold, whose networks learn these attributes.

    Metrics of bands are among them only for ages that are known by bands alone.
    """
    attributes = tuple(attributes)
    exact = [attribute for attribute in attributes if attribute.exact]
    audit = [f"audit.label_issues.{attribute.name}" for attribute in exact]
    keys = [m.key for attribute in exact for m in metrics_of(attribute)
            if not m.bands and (m.ages is None or AGE in attributes)]  # fmt: skip
    keys += [m.key for attribute in attributes if attribute not in exact for m in metrics_of(attribute)]
    return [*DATA_KEYS, *audit, *(f"{prefix}.{key}" for prefix in ("test", "test_cleaned") for key in keys)]


# --- frames -----------------------------------------------------------------------------------------------


def evaluation_frame(
    faces: pd.DataFrame, splits: pd.DataFrame, predictions: pd.DataFrame, used_splits: tuple[str, ...],
    attributes: Iterable[Attribute], stages: pd.DataFrame | None = None, bin_edges: np.ndarray | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Labels beside the predictions of one model: a row per copy group; of a published test list a row per image.

    Takes tables of the run; `bin_edges`, in years, are the inner edges of the age bins of `stages`. Columns: the
    faces', group_id, the predictions' and, for each attribute, its predicted label and its group; with stages also
    true_bin and age_oracle_bin. Unknown labels and absent predictions are nan. Predicted ages are in whole years, as
    labels are; `age_unrounded` is `age_pred` before that. Where ages are known by bands, `age_from_next` and
    `age_to_next` are the ends of a band and of those beside it.
    """
    for attribute in attributes:
        if attribute.kind == AGE.kind and attribute.has_band(faces).any():
            names = (f"{attribute.name}_{part}" for part in NEXT_BANDS)
            faces = faces.assign(**dict(zip(names, attribute.with_next(faces), strict=True)))
    rows = splits[splits["split"].isin(used_splits) & splits["representative"]][["image_id", "group_id"]]
    frame = rows.merge(faces, on="image_id").merge(predictions, on="image_id")
    for attribute in attributes:
        for column in {attribute.name, *attribute.columns} - set(frame):
            frame[column] = np.nan
        frame[attribute.name] = frame[attribute.name].where(attribute.is_known(frame[attribute.name])).astype(float)
        frame[attribute.group_column] = attribute.groups_of(frame)
        decoded = attribute.decode(frame)
        if attribute.kind == AGE.kind:
            frame[f"{attribute.name}_unrounded"], decoded = decoded, metrics.whole_years(decoded)
        frame[attribute.prediction] = decoded
    if stages is None:
        return frame
    from facelib.models.age_stages import oracle_ages, to_bin  # loads torch

    frame = frame.merge(stages, on="image_id")
    bin_ages = frame[[f"age_bin_{k}" for k in range(len(bin_edges) + 1)]].to_numpy()
    frame["true_bin"] = to_bin(frame["age"], bin_edges)
    frame["age_oracle_bin"] = oracle_ages(bin_ages, frame["age"], bin_edges)
    return frame.assign(**{f"age_{way}": metrics.whole_years(frame[f"age_{way}"]) for way in STAGE_WAYS})


def run_frame(
    run: RunFolder, used_splits: tuple[str, ...], faces: pd.DataFrame | None = None, stages: bool = True
) -> pd.DataFrame:
    """The evaluation frame of a run's predictor, with two-stage ages once notebook 04 has made them.

    `faces` replaces the run's, where other labels are to be used; without `stages` no network library is loaded.

    Raises
    ------
    MissingFromRun
        If a table is missing, or the test split is scored before notebook 04 has chosen how to predict age.
    """
    predictions = run.load_table("predictions").query("model == 'predictor'").drop(columns="split")
    predictions = mask_untrained(predictions, run.attributes, run.learned)
    faces, staged = run.load_table("faces") if faces is None else faces, ()
    if stages and AGE in run.learned and ("test" in used_splits or run.details("04_age_two_stage")):
        edges = np.array(run.load_metrics("04_age_two_stage")["details"]["edges"])
        staged = run.load_table("age_stages"), edges
    return evaluation_frame(faces, run.load_table("splits"), predictions, used_splits, run.attributes, *staged)


def calibration_frame(run: RunFolder) -> pd.DataFrame | None:
    """The evaluation frame of the calibration split; None where no age is learned that intervals are fitted for."""
    return run_frame(run, ("calibration",)) if AGE in run.learned else None


def cleaned_frame(run: RunFolder) -> pd.DataFrame:
    """The test split with a person's decisions applied, and without copy groups whose labels contradict each other."""
    faces, group_id = run.load_table("faces"), run.load_table("splits")["group_id"].to_numpy()
    decided = decisions.read(run.require("tables/decisions.csv"), faces, run.attributes)
    relabelled, used = decisions.apply(faces, decided, run.attributes)
    conflicts = contradictions.contradictions(faces, group_id, run.attributes)
    frame = run_frame(run, ("test",), relabelled[used])
    return frame[~frame["group_id"].isin(conflicts.loc[conflicts["contradicts"], "group_id"])]


def scored(frame: pd.DataFrame, attribute: Attribute) -> pd.Series:
    """Rows of a frame in which an attribute is predicted and labelled, an exact age in years: bool (n,)."""
    known = attribute.is_known(frame[attribute.name]) if attribute.exact else attribute.has_label(frame)
    return frame[attribute.prediction].notna() & known


def headline_metrics(
    frame: pd.DataFrame, attributes: Iterable[Attribute], prefix: str, bootstrap: Bootstrap,
    calibration: pd.DataFrame | None = None,
) -> dict[str, Estimate]:  # fmt: skip
    """The headline metrics of an evaluation frame by flat key; those without a label or prediction are left out.

    `prefix` is `test`, `test_cleaned` or `validation`; `calibration` is the evaluation frame of that split, for metrics
    that depend on its draw.
    """
    results = {}
    for attribute in attributes:
        for metric in metrics_of(attribute):
            known = metric.rows(frame, attribute)
            rows = known if len(known) else None
            if rows is not None and metric.ages is not None:
                ages = known.get(AGE.name, pd.Series(np.nan, known.index))
                rows = known[metric.ages(ages)] if ages.notna().any() else None
            columns = list(metric.columns)
            if rows is not None and set(columns) <= set(known) and known[columns].notna().all(axis=None):
                arrays = rows[columns].to_numpy(float).T
                key, groups = f"{prefix}.{metric.key}", rows["group_id"]
                if metric.calibrated and calibration is not None:
                    results[key] = coverage(rows, calibration[scored(calibration, attribute)], attribute, bootstrap)
                else:
                    results[key] = bootstrap(metric.statistic, *arrays, groups=groups, unit=metric.unit)
    return results


def coverage(rows: pd.DataFrame, calibration: pd.DataFrame, attribute: Attribute, bootstrap: Bootstrap) -> Estimate:
    """The share of labels within the intervals of an evaluation frame.

    Its interval is that over draws of both the scored and the calibration rows, about the share: to each draw of the
    latter the intervals are fitted anew. Wilson's, where no draw changes the share.
    """
    name = attribute.name
    y_true, predicted = rows[name].to_numpy(), rows[f"{name}_unrounded"].to_numpy()
    fitted_on = calibration[[name, f"{name}_unrounded"]].to_numpy()
    tested = bootstrap.weights(rows["group_id"])
    drawn = replace(bootstrap, seed=bootstrap.seed + 1).weights(calibration["group_id"]).astype(int)
    ends = rows[f"{name}_low"].to_numpy(), rows[f"{name}_high"].to_numpy()
    shares = np.empty(len(tested))
    for draw, (weights, times) in enumerate(zip(tested, drawn, strict=True)):
        if draw:
            ends = fit_age_intervals(*np.repeat(fitted_on, times, axis=0).T)(predicted)
        shares[draw] = np.average((ends[0] <= y_true) & (y_true <= ends[1]), weights=weights)
    estimate = bootstrap.of_draws(np.clip(shares - shares[1:].mean() + shares[0], 0, 1), len(rows), SHARE)
    held = round(shares[0] * len(rows))
    return replace(estimate, value=float(shares[0])) if np.isfinite(estimate.low) else rate(held, len(rows))


def source_metrics(run: RunFolder, frame: pd.DataFrame) -> tuple[dict[str, Estimate], Finding]:
    """The metrics of the faces of each data set of a run, below `test_<source>`; none where there is only one."""
    sources, results = frame["source"].value_counts(), {}
    if len(sources) < 2:
        return {}, Finding("test.sources", "All faces come from one data set.", n=len(frame))
    for source in sources.index:
        part, prefix = frame[frame["source"] == source], f"test_{source}"
        results |= headline_metrics(part, run.attributes, prefix, run.bootstrap, calibration_frame(run))
    text = listed(f"{count:,} of {source}" for source, count in sources.items())
    return results, Finding("test.sources", f"The test split has faces of several data sets: {text}.", n=len(frame))


def sources_table(results: dict[str, Estimate], attributes: Iterable[Attribute]) -> pd.DataFrame:
    """The metrics of `source_metrics` as a table: metric, data set, value, low, high, n, unit."""
    titles = {metric.key: metric.title for attribute in attributes for metric in metrics_of(attribute)}
    rows = []
    for key, estimate in results.items():
        prefix, _, name = key.partition(".")
        rows.append({"metric": titles[name], "data set": prefix.removeprefix("test_"), **estimate.to_dict()})
    order, columns = {title: place for place, title in enumerate(titles.values())}, ["metric", "data set"]
    return pd.DataFrame(rows, columns=None if rows else columns).sort_values(
        "metric", key=lambda names: names.map(order), kind="stable"
    )


def results_table(
    results: dict[str, Estimate], attributes: Iterable[Attribute], prefix: str = "test", beside: str = "",
    constant: pd.DataFrame | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Headline metrics by title: value, low, high, n, unit; value and n below the prefix `beside`; the `baselines`."""
    rows, numbers = [], {} if constant is None else constant.set_index("metric")["value"]
    for metric in (metric for attribute in attributes for metric in metrics_of(attribute)):
        if estimate := results.get(f"{prefix}.{metric.key}"):
            other = results.get(f"{beside}.{metric.key}")
            second = {beside: other.value, f"n {beside}": other.n} if other else {}
            guess = {} if constant is None else {"no-image baseline": numbers.get(metric.key, np.nan)}
            rows.append({"metric": metric.title, **estimate.to_dict(), **guess, **second})
    return pd.DataFrame(rows)


def without_image(train: pd.DataFrame, frame: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """An evaluation frame whose predictions are the best constant answers to the labels of training faces.

    The median age or the middle of its band, and the middle 90 % of training ages as interval; the most frequent class,
    with the classes' shares as probabilities; the most frequent age bin, and the median age of the true bin where
    `train` has bins. What was not predicted, and attributes without a training label, stay unpredicted.
    """
    answers = {}
    for attribute in attributes:
        absent = dict.fromkeys([attribute.prediction, *set(attribute.columns) & set(frame)], np.nan)
        labels = attribute.training_labels(train)
        answers |= attribute.constant_answers(labels) if len(labels) else absent
    if "true_bin" in frame and "true_bin" in train and train[AGE.name].notna().any():
        bins = train.dropna(subset=[AGE.name]).groupby("true_bin")[AGE.name]
        answers |= dict.fromkeys(("age_routed", "age_soft"), answers[AGE.prediction])
        answers |= {"predicted_bin": bins.size().idxmax(), "age_oracle_bin": frame["true_bin"].map(bins.median())}
    known = {name: pd.Series(answer, frame.index).where(frame[name].notna())
             for name, answer in answers.items() if name in frame}  # fmt: skip
    return frame.assign(**known)


def baselines(
    train: pd.DataFrame, frame: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap
) -> pd.DataFrame:
    """The headline metrics of `without_image`: metric, baseline, value, low, high, n, unit."""
    attributes, rows = tuple(attributes), []
    measured = headline_metrics(without_image(train, frame, attributes), attributes, "test", bootstrap)
    for attribute in attributes:
        for metric in metrics_of(attribute):
            if estimate := measured.get(f"test.{metric.key}"):
                constant = attribute.constant(attribute.training_labels(train))
                name = metric.baseline.format(constant=f"{attribute.label_name(constant)} {attribute.unit}".rstrip())
                rows.append({"metric": metric.key, "baseline": name, **estimate.to_dict()})
    return pd.DataFrame(rows, columns=["metric", "baseline", *Estimate.__dataclass_fields__])


def compare(estimate: Estimate, other: Estimate, more_is_better: bool) -> str:
    """Whether two intervals lie apart, and which is better: `better`, `worse` or `inconclusive`.

    Stricter than a paired test.

    Examples
    --------
    >>> compare(Estimate(4.5, 4, 5, 9), Estimate(15, 14, 16, 9), more_is_better=False)
    'better'
    >>> compare(Estimate(4.5, 4, 15, 9), Estimate(15, 14, 16, 9), more_is_better=False)
    'inconclusive'
    """
    above, below = estimate.low > other.high, estimate.high < other.low
    return "inconclusive" if not (above or below) else "better" if above == more_is_better else "worse"


def one_against_rest(
    frame: pd.DataFrame, attributes: Iterable[Attribute]
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Each class against the rest, of two classes the second: its label (0 or 1), its probability, the copy group.

    Keys are the names of attribute and class. Classes that no face or every face has are left out.
    """
    curves = {}
    for attribute in class_attributes(attributes):
        known = frame[scored(frame, attribute)]
        for code in range(len(attribute.classes) == 2, len(attribute.classes)):
            is_class = (known[attribute.name] == code).to_numpy(int)
            if 0 < is_class.sum() < len(is_class):
                score, groups = known[attribute.columns[code]].to_numpy(), known["group_id"].to_numpy()
                curves[attribute.name, attribute.classes[code]] = is_class, score, groups
    return curves


def ranking_table(frame: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap) -> pd.DataFrame:
    """Area under the ROC curve and average precision of each class against the rest.

    Columns: attribute, class, n, base_rate (the share of the class, which a guess reaches as precision), auc and
    average_precision, each with _low and _high.
    """
    rows = []
    for (attribute, name), (is_class, score, groups) in one_against_rest(frame, attributes).items():
        row = {"attribute": attribute, "class": name, "n": len(is_class), "base_rate": is_class.mean()}
        for measure in (metrics.auc, metrics.average_precision):
            row |= bootstrap(measure, is_class, score, groups=groups).columns(measure.__name__)
        rows.append(row)
    return pd.DataFrame(rows)


def confidence(
    labels: pd.DataFrame, predictions: pd.DataFrame, attribute: ClassAttribute
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the likeliest class is right, and its probability, of the rows that are labelled and predicted."""
    decoded = attribute.decode(predictions).to_numpy()
    known = attribute.is_known(labels[attribute.name]) & np.isfinite(decoded)
    return (decoded == labels[attribute.name].to_numpy())[known], attribute.confidence(predictions)[known]


def reliability(correct: np.ndarray, confidence: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Accuracy against mean confidence over equal-count bins, with Wilson intervals: a reliability diagram's points."""
    order = np.argsort(confidence, kind="stable")
    rows = []
    for part in np.array_split(order, min(bins, max(1, len(order) // 10))):
        accuracy = rate(correct[part].sum(), len(part))
        rows.append({"confidence": confidence[part].mean(), "accuracy": accuracy.value, **accuracy.to_dict()})
    return pd.DataFrame(rows)


def calibration_points(
    frame: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap
) -> tuple[dict[str, pd.DataFrame], dict[str, CalibrationError]]:
    """Reliability points, and the calibration error, of each attribute with classes that is predicted."""
    pairs = {a.name: confidence(frame, frame, a) for a in class_attributes(attributes) if scored(frame, a).any()}
    errors = {name: calibration_error(*pair, bootstrap) for name, pair in pairs.items()}
    return {name: reliability(*pair) for name, pair in pairs.items()}, errors


def coverage_table(frame: pd.DataFrame, by: str, intervals: dict[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """The share of known ages that each kind of interval (lower and upper ends, years) covers, by group.

    Columns: by, group, kind, value (share covered), low, high (Wilson), n, width (years, mean).
    """
    rows = []
    for kind, (low, high) in intervals.items():
        table = frame.assign(held=(low <= frame["age"]) & (frame["age"] <= high), width=high - low)
        for group, part in table.dropna(subset=[by]).groupby(by, observed=True):
            held = rate(part["held"].sum(), len(part)).to_dict()
            rows.append({"by": by, "group": str(group), "kind": kind, **held, "width": part["width"].mean()})
    return pd.DataFrame(rows).drop(columns="unit", errors="ignore")


def age_coverage(run: RunFolder, frame: pd.DataFrame, intervals: AgeIntervals) -> pd.DataFrame:
    """Coverage of the predictor's age intervals, and of plain ones of one width; both fitted on the calibration split.

    Grouped as in `coverage_table` by age_band, predicted_age (the predictor's categories) and each class attribute.
    """
    aged, fitted_on = (rows.dropna(subset=["age"]) for rows in (frame, run_frame(run, ("calibration",))))
    plain = fit_age_intervals(fitted_on["age"].to_numpy(), fitted_on["age_unrounded"].to_numpy(), most=1)
    unrounded, edges = aged["age_unrounded"].to_numpy(), intervals.edges
    kinds = {PLAIN: plain(unrounded), MONDRIAN: (aged["age_low"].to_numpy(), aged["age_high"].to_numpy())}
    names = np.array(["low", "middle", "high"] if len(edges) == 2 else range(len(edges) + 1))
    aged = aged.assign(predicted_age=names[np.searchsorted(edges, unrounded, side="right")])
    columns = AGE.group_column, "predicted_age", *(a.group_column for a in class_attributes(run.attributes))
    return pd.concat([coverage_table(aged, by, kinds) for by in columns], ignore_index=True)


# --- findings ---------------------------------------------------------------------------------------------


def faces_finding(run: RunFolder, frame: pd.DataFrame) -> Finding:
    """How many faces are tested, and how they were chosen."""
    chosen = f"as listed by {run.protocol['name']}" if run.protocol else "one per group of copies"
    return Finding(
        "test.faces", f"{len(frame):,} faces of the test split are scored, {chosen}{run.note}.", n=len(frame)
    )


def readings_finding(run: RunFolder) -> Finding:
    """How often a run's log says that its test faces were scored, this time included."""
    log = read_readings(run.require(READINGS))
    own = [reading for reading in log if reading["faces"] == log[-1]["faces"]]
    versions = len({reading["commit"] for reading in own})
    text = (
        f"When notebook 05 ran, the log ({READINGS}) listed {len(own)} evaluation{'s' * (len(own) > 1)} on these test "
        f"faces since {own[0]['date'][:10]}, this one included, with {versions} code version{'s' * (versions > 1)}. "
        "Notebook 02 reads all labels, to find copies and doubtful labels; no network is trained on labels of the test "
        "split."
    )
    return Finding("test.readings", text, n=int(own[-1]["n"]))


def attribute_findings(
    results: dict[str, Estimate],
    constant: pd.DataFrame,
    attributes: Iterable[Attribute],
    by_source: dict[str, Estimate] | None = None,
) -> Findings:
    """How well each attribute is predicted, and which better than by the `baselines`; results are those of `test`.

    Where there are `source_metrics`, all but what leads is told of each data set by itself.
    """
    findings, verdicts = Findings(), dict[str, list[str]]()
    rows = {row["metric"]: row for row in constant.to_dict("records")}
    sources = dict.fromkeys(key.partition(".")[0] for key in by_source or ())
    for attribute in attributes:
        phrased = ((metric, results.get(f"test.{metric.key}")) for metric in metrics_of(attribute) if metric.phrase)
        measured = [(metric, estimate) for metric, estimate in phrased if estimate]
        if not measured:
            continue
        (lead, estimate), *others = measured
        metrics = [metric for metric, _ in measured]
        each = {source: [metric for metric in metrics if f"{source}.{metric.key}" in by_source] for source in sources}
        leading = [source for source, own in each.items() if lead in own]
        if len(leading) > 1:
            others = []
        if alone := len(leading) == 1:
            others = [(metric, by_source[f"{leading[0]}.{metric.key}"]) for metric in each.pop(leading[0])[1:]]
        of = f" on {leading[0].removeprefix('test_')}" if alone else ""
        parts = [f"{attribute.title} {lead.phrase.format(estimate)}{of}"]
        if row := rows.get(lead.key):
            baseline = Estimate.from_dict(row)
            verdicts.setdefault(compare(estimate, baseline, lead.more_is_better), []).append(attribute.name)
            parts[0] += f", against {baseline.text} for {row['baseline']}"
        parts += [metric.phrase.format(other.text) for metric, other in others]
        texts = ["; ".join(parts)]
        for source, own in each.items():
            phrases = [metric.phrase.format(by_source[f"{source}.{metric.key}"]) for metric in own]
            texts += [f"On {source.removeprefix('test_')}, {attribute.name} {'; '.join(phrases)}"] if own else []
        findings.append(Finding(f"test.{attribute.name}", f"{'. '.join(texts)}.", estimate))
    findings += inverted_findings(results, attributes, "test")
    text = "The model is not compared with a baseline."
    if verdicts:
        told = "; ".join(f"{verdict} for {listed(names)}" for verdict, names in verdicts.items())
        told = told.replace("inconclusive", "not shown to differ")
        text = f"Compared with the no-image baseline, the model is {told}."
    n = max((finding.estimate.n for finding in findings), default=0)
    return Findings([*findings, Finding("test.baselines", text, n=n)])


def inverted_findings(results: dict[str, Estimate], attributes: Iterable[Attribute], prefix: str) -> Findings:
    """A warning for each attribute of two classes that is predicted far worse than by chance: they may be swapped."""
    findings = Findings()
    for attribute in class_attributes(attributes):
        accuracy = results.get(f"{prefix}.{attribute.name}.accuracy")
        if accuracy and len(attribute.classes) == 2 and accuracy.high < INVERTED:
            text = (
                f"WARNING: {attribute.name} accuracy is {accuracy.text}, far below one half: the "
                f"labels may have {' and '.join(attribute.classes)} the other way round, which a label map can mend."
            )
            findings.append(Finding(f"{prefix}.{attribute.name}.inverted", text, accuracy))
    return findings


def protocol_metrics(run: RunFolder, frame: pd.DataFrame) -> tuple[dict[str, Estimate], Finding]:
    """With a published split, the metrics of test faces without a copy in training, below `test_unseen`."""
    if not run.protocol:
        text = "The run makes its own split: no test face has a detected copy in training, so there are no separate "
        text += "metrics without copies."
        return {}, Finding("test.protocol", text, n=len(frame))
    splits = run.load_table("splits")
    copied = frame["image_id"].isin(splits.loc[shared_with_training(splits), "image_id"])
    text = f"{copied.sum():,} of {len(frame):,} test faces have a copy in the training list of {run.protocol['name']}."
    settings = run.bootstrap, calibration_frame(run)
    unseen = headline_metrics(frame[~copied], run.attributes, "test_unseen", *settings)
    return unseen, Finding("test.protocol", text, n=len(frame))


def ranking_finding(ranking: pd.DataFrame) -> Finding:
    """How well the rarest of the ranked classes is ranked."""
    if ranking.empty:
        return Finding("test.ranking", "No class has both members and others among the test faces.", n=0)
    row = ranking.loc[ranking["base_rate"].idxmin()]
    precision = Estimate(*(row[f"average_precision{end}"] for end in ("", "_low", "_high")), int(row["n"]))
    text = (
        f"The class with the fewest faces among those ranked is {row['class']} ({row['attribute']}), "
        f"{format_value(row['base_rate'], SHARE)} of {row['n']:,} faces. Its area under the ROC curve is "
        f"{row['auc']:.2f}, its average precision {precision}."
    )
    return Finding("test.ranking", text, precision)


def calibration_finding(errors: dict[str, CalibrationError], n: int) -> Finding:
    """The expected calibration error of each attribute with classes beside that of perfect calibration."""
    parts = [
        f"{error.observed:.3f} for {name}, where perfectly calibrated probabilities would show {error.by_chance:.3f} "
        f"({'chance alone may explain it' if error.p >= 0.05 else 'more than chance'})"
        for name, error in errors.items()
    ]
    return Finding("test.calibration", f"The expected calibration error is {listed(parts)}.", n=n)


def interval_finding(run: RunFolder, coverage: pd.DataFrame, results: dict[str, Estimate]) -> Finding:
    """Whether the age intervals cover 90 % (see `age_coverage`), and which labelled ages they cover least."""
    share, width = (results[f"test.age.interval_{name}"] for name in ("coverage", "width"))
    by = coverage.groupby(["by", "kind"])
    plain, promised = (by.get_group(("predicted_age", kind)) for kind in (PLAIN, MONDRIAN))
    held = int((promised["low"].le(0.9) & promised["high"].ge(0.9)).sum())
    each = run_frame(run, ("calibration",))["age"].notna().sum() / len(promised)
    bands = by.get_group((AGE.group_column, MONDRIAN))
    bands = bands[bands["n"] >= min(run.settings.evaluation.min_group, bands["n"].max())]
    least = bands.loc[bands["value"].idxmin()]
    text = (
        f"The 90 % intervals cover {share} of the labelled ages; their mean width is {width.text}. In {held} of "
        f"{len(promised)} categories of predicted age the share is compatible with 90 % (calibration sampling adds an "
        f"SD of {100 * np.sqrt(0.09 / each):.1f} points); intervals that ignore the category cover "
        f"{100 * plain['value'].min():.0f} to {100 * plain['value'].max():.0f} % there. By labelled age, coverage is "
        f"lowest for {least['group']}: "
        f"{rate(round(least['value'] * least['n']), least['n'])}."
    )
    return Finding("test.intervals", text, share)
