"""What decides in use: errors that weigh all ages alike, age limits, equalised odds, and answers that are withheld."""

from collections.abc import Iterable, Iterator
from math import isfinite

import numpy as np
import pandas as pd

from facelib.evaluation.gaps import SIGNIFICANT
from facelib.evaluation.groups import NEEDS_AGES, grouping_name, large_groups, with_ages
from facelib.evaluation.headline import scored
from facelib.finding import Finding, listed
from facelib.metrics import mae_over_cells
from facelib.schema import AGE, Attribute, ClassAttribute, class_attributes
from facelib.statistics import SHARE, YEARS, Bootstrap, Estimate, adjusted, format_value, largest_gap, mean, rate

# Labelled age from which a face may pass, and predicted age from which it does, years. The last asks for proof of age
# from everybody who looks younger than 25, as NIST's evaluation of age verification (IR 8525) does.
LIMITS = ((18, 18), (25, 25), (18, 25))
LAST_YEAR = 40  # of the single years by which passing is shown
ANSWERED = (1.0, 0.9, 0.8, 0.5)  # shares of the faces, those of most confident predictions, that are answered
ENDS = ("", "_low", "_high")


def _groups(
    frame: pd.DataFrame, attributes: Iterable[Attribute], min_group: int
) -> Iterator[tuple[str, str, pd.Index]]:
    """Each group of each attribute with `min_group` faces: grouping, name and rows."""
    for attribute in attributes:
        for name, part in frame.groupby(attribute.group_column, observed=True):
            if len(part) >= min_group:
                yield grouping_name([attribute.group_column]), str(name), part.index


# --- all ages alike -----------------------------------------------------------------------------------------


def even_errors(frame: pd.DataFrame, attributes: Iterable[Attribute], bootstrap: Bootstrap, few: int) -> pd.DataFrame:
    """The mean absolute age error over faces, and with every single year, or year of a class, weighing the same.

    By sex and single year it is the form of NIST's Face Analysis Technology Evaluation (IR 8525). Cells of fewer than
    `few` faces are left out: a resample may lack them, which would bias the interval. Columns: averaged_over, cells,
    left_out (faces of other cells), value, low, high, n, unit.
    """
    known, rows = with_ages(frame), []
    kinds = [[], *([attribute] for attribute in class_attributes(attributes))]
    for kind in kinds if len(known) else ():
        labelled = known.dropna(subset=[attribute.name for attribute in kind])
        year = labelled[AGE.name].astype(int).astype(str)
        names = year.str.cat([labelled[attribute.name].astype(str) for attribute in kind], sep=" ")
        text = grouping_name([*(attribute.name for attribute in kind), "single years"])
        for averaged, cells in (("faces", names.str[:0]), (text, names)) if not kind else ((text, names),):
            enough = cells.map(cells.value_counts()) >= few
            part, codes = labelled[enough], pd.factorize(cells[enough])[0]
            if len(part):
                arrays = part[AGE.name], part[AGE.prediction], codes
                estimate = bootstrap(mae_over_cells, *arrays, groups=part["group_id"], unit=YEARS)
                facts = {"averaged_over": averaged, "cells": len(set(codes)), "left_out": int((~enough).sum())}
                rows.append(facts | estimate.to_dict())
    return pd.DataFrame(rows, columns=["averaged_over", "cells", "left_out", *Estimate.__dataclass_fields__])


def even_finding(errors: pd.DataFrame) -> Finding:
    """The age errors of `even_errors`, each with the faces that it leaves out."""
    texts = []
    for row in errors.to_dict("records"):
        left_out = f" ({row['left_out']:,} faces in small cells left out)" if row["left_out"] else ""
        texts.append(f"{Estimate.from_dict(row)} over {row['averaged_over']}{left_out}")
    text = f"The age MAE is {'; '.join(texts)}." if texts else f"Errors by single years {NEEDS_AGES}"
    return Finding("deployment.even_errors", text, n=int(errors["n"].max()) if texts else 0)


# --- age limits ---------------------------------------------------------------------------------------------


def age_limits(frame: pd.DataFrame, attributes: Iterable[Attribute], min_group: int) -> pd.DataFrame:
    """False positives and negatives at each of `LIMITS`, of all faces and by the classes of each attribute.

    A false positive is labelled below the limit and predicted at or above the threshold, not rounded; a false negative
    the opposite. Columns: limit, threshold, by, group, n_below, false_positive, n_above, false_negative, the rates with
    _low and _high (Wilson), masked below `min_group` faces.
    """
    known, rows = with_ages(frame), []
    everyone = [("all", "all faces", known.index)] if len(known) else []
    for limit, threshold in LIMITS:
        for by, group, index in [*everyone, *_groups(known, class_attributes(attributes), 1)]:
            age, passes = known.loc[index, AGE.name], known.loc[index, f"{AGE.name}_unrounded"] >= threshold
            row = {"limit": limit, "threshold": threshold, "by": by, "group": group}
            for name, side, which, wrong in (
                ("false_positive", "n_below", age < limit, passes),
                ("false_negative", "n_above", age >= limit, ~passes),
            ):
                n = int(which.sum())
                estimate = rate(wrong[which].sum(), n) if n >= min_group else Estimate.unknown(n)
                row |= {side: n, **estimate.columns(name)}
            rows.append(row)
    measured = [f"{name}{end}" for name in ("false_positive", "false_negative") for end in ENDS]
    return pd.DataFrame(rows, columns=["limit", "threshold", "by", "group", "n_below", *measured[:3],
                                       "n_above", *measured[3:]])  # fmt: skip


def pass_rates(frame: pd.DataFrame, min_group: int) -> pd.DataFrame:
    """The share of faces of each labelled year, up to `LAST_YEAR`, that pass each threshold: with n, low and high."""
    known, rows = with_ages(frame), []
    for threshold in dict.fromkeys(threshold for _, threshold in LIMITS):
        for year, part in known[known[AGE.name] <= LAST_YEAR].groupby(AGE.name) if len(known) else ():
            if len(part) >= min_group:
                passing = (part[f"{AGE.name}_unrounded"] >= threshold).sum()
                rows.append({"threshold": threshold, "year": int(year), **rate(passing, len(part)).to_dict()})
    return pd.DataFrame(rows, columns=["threshold", "year", *Estimate.__dataclass_fields__])


def limits_finding(limits: pd.DataFrame) -> Finding:
    """Both errors at each of `LIMITS`, and the group with the highest rate of false positives."""
    parts = []
    for (limit, threshold), rows in limits.groupby(["limit", "threshold"], sort=False):
        everyone = rows.iloc[0]
        errors = [
            Estimate(*(everyone[f"{name}{end}"] for end in ENDS), int(everyone[side]), SHARE)
            for name, side in (("false_positive", "n_below"), ("false_negative", "n_above"))
        ]
        sides = (
            (f"under {limit}", f"predicted {threshold} or older"),
            (f"{limit} or older", f"predicted under {threshold}"),
        )
        text = "; ".join(
            f"of those labelled {side} (n = {error.n:,}), {error} are {told}"
            if isfinite(error.value)
            else f"too few faces are labelled {side} (n = {error.n:,})"
            for error, (side, told) in zip(errors, sides, strict=True)
        )
        groups = rows.iloc[1:].dropna(subset=["false_positive"])
        for row in groups.nlargest(1, "false_positive").to_dict("records"):
            most = Estimate(*(row[f"false_positive{end}"] for end in ENDS), row["n_below"], SHARE)
            text += f"; false positives are most frequent among faces labelled {row['group']}, {most}, n = {most.n:,}"
        parts.append(text)
    joined = ". ".join(part[0].upper() + part[1:] for part in parts)
    n = int(limits[["n_below", "n_above"]].iloc[0].sum()) if parts else 0
    return Finding("deployment.age_limits", f"{joined}." if parts else f"Age limits {NEEDS_AGES}", n=n)


# --- equalised odds -----------------------------------------------------------------------------------------


def error_rates(
    frame: pd.DataFrame, attributes: Iterable[Attribute], min_group: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """True and false positive rates of each attribute of two classes by the groups of the others, and their gaps.

    Positive is the second class. Equalised odds ask for equal rates in all groups (Hardt, Price and Srebro, 2016); the
    larger of the two gaps is how far they are from it. Columns of the rates: attribute, by, group, and of each rate
    its n, value, _low and _high (Wilson); groups with fewer than `min_group` faces of a class are masked there. Of the
    gaps: attribute, by, rate, groups, n, lowest, lowest_value, highest, highest_value, difference, low, high (see
    `statistics.largest_gap`), p_adjusted.
    """
    rates, gaps, attributes = [], [], tuple(attributes)
    for attribute in (a for a in class_attributes(attributes) if len(a.classes) == 2):
        for other in (a for a in attributes if a != attribute):
            column = other.group_column
            known = frame[scored(frame, attribute)].dropna(subset=[column])
            by, found = {"attribute": attribute.name, "by": grouping_name([column])}, {}
            for name, code in (("true_positive", 1), ("false_positive", 0)):
                part = known[known[attribute.name] == code]
                positive = (part[attribute.prediction] == 1).astype(float)
                for group, values in positive.groupby(part[column], observed=True):
                    large = len(values) >= min_group
                    estimate = rate(values.sum(), len(values)) if large else Estimate.unknown(len(values))
                    row = found.setdefault(str(group), {**by, "group": str(group)})
                    row |= {f"n_{name}": len(values), **estimate.columns(name)}
                large, group = large_groups(part, [column], min_group)
                means = positive.groupby(group).mean()
                if len(means) > 1:
                    gap = largest_gap(positive[large.index], group, seed)
                    ends = {"lowest": means.idxmin(), "lowest_value": means.min()}
                    ends |= {"highest": means.idxmax(), "highest_value": means.max()}
                    numbers = {"difference": gap.estimate.value, "low": gap.estimate.low, "high": gap.estimate.high}
                    facts = {"rate": name.replace("_", " "), "groups": len(means), "n": len(group)}
                    gaps.append(by | facts | ends | numbers | {"p_adjusted": gap.p})
            names = [str(name) for name in other.group_names if str(name) in found]
            rates += [found[name] for name in names]
    measured = [f"{name}{end}" for name in ("true_positive", "false_positive") for end in ENDS]
    columns = ["attribute", "by", "group", "n_true_positive", *measured[:3], "n_false_positive", *measured[3:]]
    facts = ["attribute", "by", "rate", "groups", "n", "lowest", "lowest_value", "highest", "highest_value"]
    table = pd.DataFrame(gaps, columns=[*facts, "difference", "low", "high", "p_adjusted"])
    return pd.DataFrame(rates, columns=columns), table.assign(p_adjusted=adjusted(table["p_adjusted"]))


def odds_finding(gaps: pd.DataFrame, attributes: Iterable[Attribute]) -> Finding:
    """The gap of each grouping that is clearest beyond chance, and the groupings without one."""
    positive, parts, within = {a.name: a.classes[1] for a in class_attributes(attributes)}, [], []
    for (name, by), rows in gaps.groupby(["attribute", "by"], sort=False):
        row = rows.sort_values(["p_adjusted", "difference"], ascending=[True, False]).iloc[0]
        value, low, high = (f"{100 * row[end]:.1f}" for end in ("difference", "low", "high"))
        if row["p_adjusted"] < SIGNIFICANT:
            parts.append(
                f"for {name} by {by} the {row['rate']} rates ({positive[name]} is positive) of {row['lowest']} and "
                f"{row['highest']} differ by {value} points ({low} to {high})"
            )
        else:
            within.append(f"{name} by {by}")
    text = f"Equalised odds are violated: {'; '.join(parts)}." if parts else ""
    text += f"{' ' if parts else ''}No gap exceeds chance for {listed(within)}." if within else ""
    text = text or "Equalised odds need two classes and two groups with enough faces of each."
    return Finding("deployment.odds", text, n=int(gaps["n"].max()) if len(gaps) else 0)


# --- selective prediction -----------------------------------------------------------------------------------


def ranked(frame: pd.DataFrame, attribute: Attribute) -> pd.DataFrame:
    """The faces of an evaluation frame from the most to the least confident prediction, with its `score`.

    A class prediction is confident with a high probability, an age with a narrow predicted distribution. The score
    is 1 or 0 for right or wrong, or the absolute error in years, of a band those outside it. Empty where nothing says
    how confident a prediction is.
    """
    known = frame[scored(frame, attribute)] if attribute.name in frame else frame[:0]
    if isinstance(attribute, ClassAttribute):
        sure = attribute.confidence(known)
        score = (known[attribute.name] == known[attribute.prediction]).astype(float)
    else:
        spread = f"{attribute.name}_spread"
        known = known[known[spread].notna()] if spread in known else known[:0]
        sure = -known[spread].to_numpy() if len(known) else np.zeros(0)
        score = attribute.errors(known, known[attribute.prediction]).abs() if len(known) else 0.0
    return known.assign(score=score).iloc[np.argsort(-sure, kind="stable")]


def _estimate(answered: pd.DataFrame, attribute: Attribute) -> Estimate:
    if isinstance(attribute, ClassAttribute):
        return rate(answered["score"].sum(), len(answered))
    return mean(answered["score"], answered["group_id"], YEARS)


def selective(
    frame: pd.DataFrame, attributes: Iterable[Attribute], min_group: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How good predictions are if only the most confident are answered, and whose faces these are.

    Columns of the first table: attribute, answered (each of `ANSWERED`), value (accuracy, or the mean absolute error in
    years), low, high, n, unit. Of the second, at the third of them: attribute, by, group, n, answered with _low and
    _high (Wilson), value (of the answered).
    """
    shares, groups, attributes = [], [], tuple(attributes)
    for attribute in attributes:
        faces = ranked(frame, attribute)
        for share in ANSWERED if len(faces) else ():
            estimate = _estimate(faces[: round(share * len(faces))], attribute)
            shares.append({"attribute": attribute.name, "answered": share, **estimate.to_dict()})
        first = faces.index[: round(ANSWERED[2] * len(faces))]
        for by, group, index in _groups(faces, attributes, min_group):
            answered = index.intersection(first)
            held = rate(len(answered), len(index))
            row = {"attribute": attribute.name, "by": by, "group": group, "n": len(index), **held.columns("answered")}
            groups.append(row | {"value": faces.loc[answered, "score"].mean()})
    columns = ["attribute", "by", "group", "n", *(f"answered{end}" for end in ENDS), "value"]
    first = pd.DataFrame(shares, columns=["attribute", "answered", *Estimate.__dataclass_fields__])
    return first, pd.DataFrame(groups, columns=columns)


def selective_finding(shares: pd.DataFrame, groups: pd.DataFrame) -> Finding:
    """What withholding the least confident fifth gives, and whose faces stay unanswered."""
    parts = []
    for name, rows in shares.groupby("attribute", sort=False):
        by_share = rows.set_index("answered").to_dict("index")
        few, everyone = (Estimate.from_dict(by_share[share]) for share in (ANSWERED[2], ANSWERED[0]))
        measure = "error" if few.unit == YEARS else "accuracy"
        what = f"{name} {measure} is {few} instead of {everyone.text}"
        for row in groups[groups["attribute"] == name].nsmallest(1, "answered").to_dict("records"):
            what += f", but {format_value(row['answered'], SHARE)} of {row['by']} {row['group']} are kept"
        parts.append(what)
    text = "Nothing says how confident these predictions are."
    if parts:
        text = f"If only the most confident {100 * ANSWERED[2]:.0f} % of predictions are kept, {'; '.join(parts)}."
    return Finding("deployment.selective", text, n=int(shares["n"].max()) if parts else 0)
