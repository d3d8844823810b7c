"""Metrics of groups of faces, and for which groups the predictor is shown to be worse."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from facelib.evaluation.headline import compare, scored
from facelib.finding import Finding, Findings, listed
from facelib.prediction.calibration import COVERAGE
from facelib.schema import AGE, MAX_AGE, Attribute, class_attributes, labelled
from facelib.statistics import SHARE, YEARS, Bootstrap, Estimate, mean, rate

NEEDS_AGES = "need ages in years, which these faces are not labelled with."
CHILD_YEARS = 17  # the last of the single years by which children are shown
BANDS = "bands"
# Columns of group tables that hold age errors, of ages in years and by bands alone.
AGE_ERRORS = AGE.name + "_mae", AGE.name + "_band_mae_least"
_BAND_ENDS = "{}_from", "{}_to"
SHOWN_GAPS = 5  # between groups at one age, in the sentence about them
WITHIN_INTERVALS = f"{100 * COVERAGE:.0f} % interval coverage"


def _beyond(predicted: pd.Series, first: pd.Series, last: pd.Series) -> pd.Series:
    """Years by which predictions lie above a band, or below it (negative); 0 within."""
    return predicted - predicted.clip(first, last)


# By kind of attribute, or of bands of years alone: end of the key and of the title, and the last four fields of
# `GroupMetric`.
GROUP_METRICS = {
    "years": (
        ("mae", "error", YEARS, False, (), lambda label, predicted: (predicted - label).abs()),
        ("bias", "bias", YEARS, None, (), lambda label, predicted: predicted - label),
        ("coverage", WITHIN_INTERVALS, SHARE, True, ("{}_low", "{}_high"),
         lambda label, predicted, low, high: ((low <= label) & (label <= high)).astype(float)),
    ),
    BANDS: (
        ("band_accuracy", "within the labelled band", SHARE, True, _BAND_ENDS,
         lambda label, *band: (_beyond(*band) == 0).astype(float)),
        ("band_mae_least", "error outside the labelled band", YEARS, False, _BAND_ENDS,
         lambda label, *band: _beyond(*band).abs()),
        ("band_bias", "bias outside the labelled band", YEARS, None, _BAND_ENDS, lambda label, *band: _beyond(*band)),
    ),
    "classes": (
        ("accuracy", "accuracy", SHARE, True, (), lambda label, predicted: (label == predicted).astype(float)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class GroupMetric:
    """A mean over the faces of a group; `of` gives what each adds to it, from its label, its prediction and `others`.

    `key`, such as `age_mae`, is its column in group tables; `more_is_better` is None where neither is; `others` are
    columns of an evaluation frame, in which `{}` stands for the attribute.
    """

    key: str
    title: str
    attribute: Attribute
    unit: str
    more_is_better: bool | None
    others: tuple[str, ...]
    of: Callable[..., pd.Series]

    @property
    def columns(self) -> list[str]:
        """The columns of an evaluation frame that `of` takes."""
        others = (name.format(self.attribute.name) for name in self.others)
        return [self.attribute.name, self.attribute.prediction, *others]

    def estimate(self, values: pd.Series, copies: pd.Series, bootstrap: Bootstrap) -> Estimate:
        """The mean of some faces' values: with Wilson's interval for shares, else a bootstrap over copy groups."""
        if self.unit == SHARE:
            return rate(values.sum(), len(values))
        return bootstrap(np.mean, values, groups=copies, unit=self.unit)


def group_metrics(attributes: Iterable[Attribute]) -> list[GroupMetric]:
    """The group metrics of some attributes, in order."""
    return [
        GroupMetric(f"{attribute.name}_{key}", f"{attribute.title} {title}", attribute, *others)
        for attribute in attributes
        for key, title, *others in GROUP_METRICS[attribute.kind if attribute.exact else BANDS]
    ]


def compared_rows(
    frame: pd.DataFrame, by: Iterable[str], attributes: Iterable[Attribute]
) -> tuple[list[GroupMetric], pd.DataFrame]:
    """The metrics of some attributes, and the rows where these and `by` are known.

    They are the attributes that are labelled and predicted in the same way, by years or by bands, in every data set
    that has rows with `by` known, without those that no row has beside the ones before; see `schema.known_together`.
    """
    known, measured = frame.dropna(subset=list(by)), []
    parts = [part for _, part in known.groupby(known.get("source", pd.Series("", known.index)))]
    for attribute in attributes:
        forms = {_scored_in(part, attribute) for part in parts}
        form = forms.pop() if len(forms) == 1 else None
        if form is not None and len(left := known[scored(known, form)]):
            known, measured = left, [*measured, form]
    complete = [metric for metric in group_metrics(measured) if set(metric.columns) <= set(known)]
    return complete, known if measured else known[:0]


def _scored_in(part: pd.DataFrame, attribute: Attribute) -> Attribute | None:
    """The attribute as some rows are labelled with it; None where none of these rows is predicted."""
    form = attribute.labelled_in(part)
    return form if form is not None and scored(part, form).any() else None


def row_values(known: pd.DataFrame, metrics: Iterable[GroupMetric]) -> pd.DataFrame:
    """What each row adds to the mean of each metric, a column each."""
    values = {metric.key: metric.of(*(known[column] for column in metric.columns)) for metric in metrics}
    return pd.DataFrame(values, index=known.index)


def groupings(frame: pd.DataFrame, attributes: Iterable[Attribute]) -> list[list[str]]:
    """The group column of each attribute, and all pairs of them, in which `compared_rows` leaves a row."""
    attributes = tuple(attributes)
    columns = [attribute.group_column for attribute in attributes]
    candidates = [list(names) for count in (1, 2) for names in combinations(columns, count)]
    return [by for by in candidates if len(compared_rows(frame, by, attributes)[1])]


def grouping_name(by: Iterable[str]) -> str:
    """Columns that make groups, for a reader.

    Examples
    --------
    >>> grouping_name(["age_band", "shape_name"])
    'age band x shape'
    """
    return " x ".join(column.removesuffix("_name").replace("_", " ") for column in by)


def large_groups(known: pd.DataFrame, by: Iterable[str], min_group: int) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of groups of at least `min_group`, and the name of each row's group, such as `female, Asian`."""
    first, *others = (known[column].astype(str) for column in by)
    name = first.str.cat(others, sep=", ") if others else first
    large = name.map(name.value_counts()) >= min_group
    return known[large], name[large]


def group_table(
    frame: pd.DataFrame, by: list[str], attributes: Iterable[Attribute], bootstrap: Bootstrap, min_group: int
) -> pd.DataFrame:
    """The metrics of each group of an evaluation frame; several columns in `by` are crossed.

    Columns: those of `by`, n, and `<attribute>_mae`, `<attribute>_bias` (years), `<attribute>_coverage` (where there
    are intervals) or `<attribute>_accuracy`, each with _low and _high. Rows count in which the labels and predictions
    of all attributes that have any are known. Groups below `min_group` keep their count; their metrics are masked.
    """
    metrics, known = compared_rows(frame, by, attributes)
    values, rows = row_values(known, metrics), []
    for names, group in known.groupby(by, observed=True):
        row = dict(zip(by, map(str, names), strict=True)) | {"n": len(group)}
        for metric in metrics:
            estimate = Estimate.unknown(len(group))
            if len(group) >= min_group:
                estimate = metric.estimate(values.loc[group.index, metric.key], group["group_id"], bootstrap)
            row |= estimate.columns(metric.key)
        rows.append(row)
    return pd.DataFrame(rows)


def group_tables(
    frame: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap, min_group: int
) -> dict[str, pd.DataFrame]:
    """The `group_table` of each of `groupings`, by name, such as `age_band x shape_name`."""
    tables = {" x ".join(by): by for by in groupings(frame, attributes)}
    return {name: group_table(frame, by, attributes, bootstrap, min_group) for name, by in tables.items()}


def source_tables(
    frame: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap, min_group: int
) -> dict[str, dict[str, pd.DataFrame]]:
    """The `group_tables` of the `by_source` of a frame."""
    parts = by_source(frame, attributes)
    return {source: group_tables(part, own, bootstrap, min_group) for source, (part, own) in parts.items()}


def by_source(frame: pd.DataFrame, attributes: Iterable[Attribute]) -> dict[str, tuple[pd.DataFrame, list[Attribute]]]:
    """The faces of each data set, in their own age bands, and the attributes that they are labelled with."""
    parts, attributes = {}, tuple(attributes)
    for source, part in frame.groupby("source"):
        own = list(labelled(part, attributes))
        parts[source] = part.assign(**{attribute.group_column: attribute.groups_of(part) for attribute in own}), own
    return parts


def numbers(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of single groupings below each other: by, group, n, and the metrics without intervals."""
    rows = [
        table.rename(columns={name: "group"}).assign(by=grouping_name([name]))
        for name, table in tables.items()
        if " x " not in name
    ]
    joined = pd.concat(rows or [pd.DataFrame(columns=["by", "group", "n"])], ignore_index=True)
    first = ["by", "group", "n"]
    return joined[[*first, *joined.columns.difference(first, sort=False)]].filter(regex=r"(?<!_low)(?<!_high)$")


def stacked(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Group tables below each other: grouping, the group columns, n, and the metrics; columns of others are empty."""
    joined = pd.concat([table.assign(grouping=name) for name, table in tables.items()] or [pd.DataFrame()])
    columns = {column: None for name in tables for column in name.split(" x ")}
    first = ["grouping", *columns, "n"]
    return joined.reindex(columns=[*first, *(column for column in joined if column not in first)])


# --- for whom it is worse ---------------------------------------------------------------------------------


def comparisons(
    tables: dict[str, pd.DataFrame],
    attributes: Iterable[Attribute],
    explained: pd.DataFrame | None = None,
    source: str = "",
) -> pd.DataFrame:
    """The worst and the best group of each measure by age band and by the classes of each attribute.

    Takes `group_tables`, whose masked groups take no part, the gaps of `standardised.standardise`, and the data set if
    there are several. `worst_value` and `best_value` are estimates. `apart`: the intervals lie apart. `same_ages`: the
    gap is there at equal ages (`yes`, `reversed`, `inconclusive`; empty where that was not measured). `stands`: they
    lie apart and ages do not explain it.
    """
    rows, attributes, of = [], tuple(attributes), f" in {source}" if source else ""
    for metric in group_metrics(attributes):
        for column in (attribute.group_column for attribute in attributes):
            table = tables.get(column, pd.DataFrame())
            table = table.dropna(subset=[metric.key]) if metric.key in table else table[:0]
            if len(table) < 2 or metric.more_is_better is None:
                continue
            ends = table.loc[table[metric.key].idxmin()], table.loc[table[metric.key].idxmax()]
            row = {"attribute": metric.attribute.name, "what": metric.title, "by": grouping_name([column])}
            for end, group in zip(("worst", "best"), ends if metric.more_is_better else ends[::-1], strict=True):
                numbers = [group[f"{metric.key}{ending}"] for ending in ("", "_low", "_high")]
                row[end] = f"{'ages' if column == AGE.group_column else 'faces labelled'} {group[column]}{of}"
                row[f"{end}_value"] = Estimate(*numbers, int(group["n"]), metric.unit)
            apart = compare(row["worst_value"], row["best_value"], metric.more_is_better) == "worse"
            same_ages = _at_equal_ages(explained, row["by"], metric.key, {end[column] for end in ends})
            rows.append(row | {"apart": apart, "same_ages": same_ages, "stands": apart and same_ages in ("", "yes")})
    columns = ["attribute", "what", "by", "worst", "worst_value", "best", "best_value", "apart", "same_ages", "stands"]
    return pd.DataFrame(rows, columns=columns).astype({"apart": bool, "stands": bool})


def _at_equal_ages(explained: pd.DataFrame | None, by: str, key: str, groups: set[str]) -> str:
    """Whether the gap of two groups is there when both have the same ages; see `comparisons`."""
    for row in () if explained is None else explained.to_dict("records"):
        if (row["by"], row["metric"], {row["lowest"], row["highest"]}) == (by, key, groups):
            low, high = row["standardised_low"], row["standardised_high"]
            return "yes" if low > 0 else "reversed" if high < 0 else "inconclusive"
    return ""


def keeps_promise(what: str, worst: Estimate) -> bool:
    """Whether a measure is the coverage of intervals, not shown to be below its promise even where it is worst."""
    return what.endswith(WITHIN_INTERVALS) and worst.high >= COVERAGE


def comparison_findings(compared: pd.DataFrame, n: int) -> Findings:
    """The lead finding, for whom the predictor is shown to be worse, and one finding for each attribute, of n faces.

    The lead leaves out intervals that are not shown to miss their coverage for the group where they cover least.
    """
    kept = [keeps_promise(*pair) for pair in zip(compared["what"], compared["worst_value"], strict=True)]
    told, worse = compared[~np.array(kept, dtype=bool)], {}
    for row in told[told["stands"]].to_dict("records"):
        values = f"{row['what'].lower()} {row['worst_value'].text} against {row['best_value'].text} for {row['best']}"
        worse.setdefault(row["worst"], []).append(values)
    text = f"The predictor is worse for {listed(f'{group} ({listed(values)})' for group, values in worse.items())}."
    if not worse:
        text = f"No group is shown to be worse{': ages may explain the gaps' if told['apart'].any() else ''}."
    findings = Findings([Finding("groups.worst", text, n=n)])
    for name, rows in compared.groupby("attribute", sort=False):
        findings.append(Finding(f"groups.{name}", " ".join(map(_sentence, rows.to_dict("records"))), n=n))
    return findings


def _sentence(row: dict) -> str:
    ends = (f"{row[f'{end}_value']} for {row[end]} (n = {row[f'{end}_value'].n:,})" for end in ("worst", "best"))
    ages = {
        "inconclusive": "; at equal ages the gap may be chance",
        "reversed": "; at equal ages the order is reversed",
    }
    overlap = "" if row["apart"] else "; the intervals overlap"
    return f"{row['what']} by {row['by']}: {' against '.join(ends)}{overlap}{ages.get(row['same_ages'], '')}."


def coverage_findings(compared: pd.DataFrame, n: int) -> Findings:
    """Groups of `comparisons` whose labels the age intervals cover to different shares at equal ages."""
    title = next(metric.title for metric in group_metrics((AGE,)) if metric.key == f"{AGE.name}_coverage")
    rows = compared[(compared["what"] == title) & compared["stands"] & (compared["same_ages"] == "yes")]
    texts = [
        f"The 90 % age intervals cover {row['worst_value']} for {row['worst']} and {row['best_value']} for "
        f"{row['best']}, and the gap remains at equal ages."
        for row in rows.to_dict("records")
    ]
    return Findings([Finding("groups.coverage", " ".join(texts), n=n)] if texts else [])


# --- age ----------------------------------------------------------------------------------------------------


def bias_directions(frame: pd.DataFrame, min_group: int) -> pd.DataFrame:
    """Mean of predicted minus labelled age by band of the label and by band of the prediction.

    An error moves a face away from its label's band as well as from its prediction's, so a predictor without any bias
    in one direction has some in the other: regression to the mean. `regression_alone` is what would be seen if the
    errors of this predictor, random in size within each band of the other direction, averaged 0 in each of those.

    Columns: grouped_by (label or prediction), age_band, n, bias with _low and _high (Student's interval over groups of
    copies), regression_alone. Bands with fewer faces than `min_group` are masked.
    """
    columns = ["grouped_by", "age_band", "n", "bias", "bias_low", "bias_high", "regression_alone"]
    known = with_ages(frame)
    if known.empty:
        return pd.DataFrame(columns=columns, dtype=float)
    label, prediction, rng = known[AGE.name], known[AGE.prediction], np.random.default_rng(0)
    error, rows = prediction - label, []
    for way, grouped, other in (("label", label, prediction), ("prediction", prediction, label)):
        # Errors without their mean in each band of the other direction, dealt anew within these bands.
        centred = error - error.groupby(AGE.groups(other), observed=True).transform("mean")
        draws = []
        for _ in range(100):
            dealt = centred.groupby(AGE.groups(other), observed=True).transform(lambda part: rng.permutation(part))
            moved = (other - dealt if way == "label" else other + dealt).clip(0, MAX_AGE)
            apart = prediction - moved if way == "label" else moved - label
            draws.append(apart.groupby(AGE.groups(moved), observed=True).mean())
        alone = pd.concat(draws, axis=1).mean(axis=1)
        for band, part in error.groupby(AGE.groups(grouped), observed=True):
            large = len(part) >= min_group
            bias = mean(part, known.loc[part.index, "group_id"]) if large else Estimate.unknown(len(part))
            row = {"grouped_by": way, "age_band": str(band), "n": len(part), **bias.columns("bias")}
            rows.append(row | {"regression_alone": alone.get(band, np.nan) if large else np.nan})
    return pd.DataFrame(rows, columns=columns)


def with_ages(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of an evaluation frame whose ages are labelled in years and predicted."""
    return frame[scored(frame, AGE)] if {AGE.name, AGE.prediction} <= set(frame) else frame[:0]


def children(
    frame: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap, min_group: int
) -> pd.DataFrame:
    """The `group_table` of children by single years of labelled age, in the column `single_year`."""
    aged = with_ages(frame)
    young = aged[aged[AGE.name] <= CHILD_YEARS] if len(aged) else aged
    years = young[AGE.name].astype(int) if len(young) else pd.Series(dtype=int)
    names = pd.Categorical(years.astype(str), [str(year) for year in range(CHILD_YEARS + 1)], ordered=True)
    table = group_table(young.assign(single_year=names), ["single_year"], attributes, bootstrap, min_group)
    return table if len(table) else pd.DataFrame({"single_year": [], "n": []}, dtype=int)


def children_finding(table: pd.DataFrame, attributes: Iterable[Attribute], n: int) -> Finding:
    """Between which single years of childhood each accuracy and the age error differ most."""
    parts = []
    for metric in group_metrics(attributes):
        rows = table.dropna(subset=[metric.key]) if metric.key in table else table[:0]
        if metric.more_is_better is None or len(rows) < 2:
            continue
        ends = (rows.loc[rows[metric.key].idxmin()], rows.loc[rows[metric.key].idxmax()])
        texts = (
            f"{Estimate(*(row[f'{metric.key}{end}'] for end in ('', '_low', '_high')), int(row['n']), metric.unit)} "
            f"at {row['single_year']} (n = {row['n']:,})"
            for row in ends
        )
        parts.append(f"{metric.title.lower()} from {' to '.join(texts)}")
    text = f"By single years up to {CHILD_YEARS}: {'; '.join(parts)}."
    if not parts:
        text = f"There are too few faces of each year up to {CHILD_YEARS} to compare them."
    return Finding("groups.children", text, n=n)


def age_findings(
    directions: pd.DataFrame, parts: dict[str, dict[str, pd.DataFrame]], attributes: Iterable[Attribute], n: int
) -> Findings:
    """The bands predicted furthest too young and too old, and unequal errors at one age.

    In both `bias_directions`; of ages by bands alone, beyond the band. `parts` are `group_tables` by data set, or by an
    empty name.
    """
    texts, gaps, shown = [], [], directions.dropna(subset=["bias_low"])
    for way, rows in shown.groupby("grouped_by"):
        group, other = ("labelled", "predicted") if way == "label" else ("predicted as", "labelled")
        ends = [
            f"faces {group} {row['age_band']} are predicted {abs(row['bias']):.1f} y {side} "
            f"({row['regression_alone']:+.1f} y expected from errors that average 0 at every {other} age)"
            for side, row in _furthest(rows, "bias")
        ]
        texts += [listed(ends)] if ends else []
    banded = False
    for source, tables in parts.items():
        of = f" in {source}" if source else ""
        bands, bias = tables.get(AGE.group_column, pd.DataFrame()), f"{AGE.name}_band_bias"
        banded |= bias in bands
        ends = [
            f"faces labelled {row['age_band']}{of} are predicted at least {abs(row[bias]):.1f} y {side}"
            for side, row in (_furthest(bands, bias) if bias in bands else ())
        ]
        texts += [listed(ends)] if ends else []
        columns = (attribute.group_column for attribute in class_attributes(attributes))
        gaps += [(wide, f"{gap}{of}") for column in columns for wide, gap in _same_age_gaps(tables, column)]
    text = f"On average, {'; '.join(texts)}." if texts else "No age band is shown to be predicted too young or too old."
    if AGE not in attributes and not banded:
        text = f"Biases by age {NEEDS_AGES}"
    none = "No group is shown to have a larger age error within one age band"
    widest = [gap for _, gap in sorted(gaps, reverse=True)[:SHOWN_GAPS]]
    of = f", the {SHOWN_GAPS} widest of {len(gaps)}" if len(gaps) > SHOWN_GAPS else ""
    apart = f"Age error within one age band, where intervals of groups lie apart{of}: {'; '.join(widest)}"
    at_one = f"{apart if gaps else none}."
    return Findings([Finding("groups.age_bias", text, n=n), Finding("groups.same_age_gaps", at_one, n=n)])


def _furthest(bands: pd.DataFrame, bias: str) -> list[tuple[str, dict]]:
    """The age bands that are shown to be predicted furthest too young and too old, each with its side."""
    sides = {"too young": bands[bands[f"{bias}_high"] < 0], "too old": bands[bands[f"{bias}_low"] > 0]}
    return [
        (side, row)
        for side, rows in sides.items()
        for row in rows.loc[rows[bias].abs().nlargest(1).index].to_dict("records")
    ]


def _same_age_gaps(tables: dict[str, pd.DataFrame], column: str) -> list[tuple[float, str]]:
    """Age bands in which the intervals of the worst and the best group's age error lie apart, and by how many years."""
    gaps = []
    table = tables.get(f"{AGE.group_column} x {column}", pd.DataFrame())
    for error in (key for key in AGE_ERRORS if key in table):
        for ages, rows in table.dropna(subset=error).groupby("age_band", sort=False):
            worst, best = rows.loc[rows[error].idxmax()], rows.loc[rows[error].idxmin()]
            if worst[f"{error}_low"] > best[f"{error}_high"]:
                texts = (f"{row[error]:.1f} y for {row[column]}" for row in (worst, best))
                gaps.append((worst[error] - best[error], f"{' and '.join(texts)} at {ages}"))
    return gaps
