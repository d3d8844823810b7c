"""Figures of notebook 06: errors by group."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.evaluation.groups import group_metrics
from facelib.plots.style import BLUE, GREY, class_colours, error_bars, finish, new_figure, title
from facelib.schema import AGE, AGE_BANDS, Attribute, ClassAttribute, class_attributes
from facelib.statistics import SHARE


def group_errors(
    table: pd.DataFrame, metric: str, label: str, heading: str, attribute: ClassAttribute | None = None,
    reference: float | None = None,
) -> Figure:  # fmt: skip
    """A metric by age band (x) and class (colour), with intervals; masked groups are absent.

    Takes a `groups.group_table` by age band, alone or crossed with `attribute`; `reference` is a horizontal line.
    """
    column = attribute.group_column if attribute else None
    colours = class_colours(attribute) if attribute else {None: BLUE}
    classes = [name for name in colours if not attribute or name in set(table[column])]
    figure, ((axis,),) = new_figure()
    bands = [band for band in AGE_BANDS if band in set(table["age_band"])]
    for number, name in enumerate(classes):
        rows = (table[table[column] == name] if attribute else table).dropna(subset=[metric])
        x = rows["age_band"].map(bands.index).astype(float) + (number - (len(classes) - 1) / 2) * 0.13
        look = {"capsize": 2, "label": name, "color": colours[name]}
        error_bars(axis, x, rows[metric], rows[f"{metric}_low"], rows[f"{metric}_high"], vertical=True, **look)
    if reference is not None:
        axis.axhline(reference, color=GREY, linestyle="--", linewidth=1)
    counts = table.groupby("age_band")["n"].sum()
    names = [f"{band}\nn = {counts[band]:,}" for band in bands]
    axis.set(xticks=range(len(bands)), xticklabels=names, xlabel="Age band (years)", ylabel=label, title=heading)
    axis.tick_params(axis="x", labelsize=9)
    if attribute:
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
    return finish(figure)


def age_figures(tables: dict[str, pd.DataFrame], attributes: Iterable[Attribute], note: str = "") -> dict[str, Figure]:
    """From `groups.group_tables`, by file: age bias by age; age error and accuracy of two classes by age and class."""
    ending = f", test split, 95 % intervals{note}"
    error, figures = f"Age: mean absolute error{ending}", {}

    def add(name: str, table: str, metric: str, *look) -> None:
        if metric in tables.get(table, ()):
            figures[name] = group_errors(tables[table], metric, *look)

    bias = f"Age: predicted minus labelled{ending}"
    add("age_bias", AGE.group_column, "age_bias", "Predicted minus labelled (years)", bias, None, 0)
    for attribute in class_attributes(attributes):
        name, table = attribute.name, f"{AGE.group_column} x {attribute.group_column}"
        add(f"age_error_by_{name}", table, "age_mae", "MAE (years)", error, attribute)
        if len(attribute.classes) == 2:
            heading = f"{attribute.title} accuracy{ending}"
            add(f"{name}_by_age", table, f"{name}_accuracy", "Share right", heading, attribute)
    return figures


def raw_and_standardised(rates: pd.DataFrame, attributes: Iterable[Attribute], heading: str) -> Figure:
    """Each group's raw and age-standardised rates, from `standardised.standardise`, a panel per measure."""
    metrics = [metric for metric in group_metrics(attributes) if metric.key in set(rates["metric"])]
    drawn = rates.drop_duplicates(["by", "group"])
    rows = list(drawn[["by", "group"]].itertuples(index=False, name=None))
    figure, axes = new_figure(max(1, len(metrics)), width=11, height=1.5 + 0.34 * len(rows))
    for axis, metric in zip(axes.flat, metrics, strict=False):
        part = rates[rates["metric"] == metric.key].set_index(["by", "group"]).reindex(rows)
        for way, offset, colour, face in (("raw", -0.13, GREY, "white"), ("standardised", 0.13, BLUE, BLUE)):
            look = {"color": colour, "markerfacecolor": face, "markersize": 5, "capsize": 2, "label": way}
            at = np.arange(len(part)) + offset
            error_bars(axis, at, part[way], part[f"{way}_low"], part[f"{way}_high"], **look)
        for at in np.flatnonzero(drawn["by"].ne(drawn["by"].shift()))[1:]:  # groups compare within their own grouping
            axis.axhline(at - 0.5, color=GREY, linewidth=0.8)
        names = [f"{name}  (n = {n:,})" for name, n in zip(drawn["group"], drawn["n"], strict=True)]
        label = metric.title if metric.unit == SHARE else f"{metric.title} ({metric.unit})"
        axis.set(yticks=range(len(rows)), yticklabels=names if axis is axes[0, 0] else [], xlabel=label)
        axis.set(ylim=(len(rows) - 0.5, -0.5))
        if metric.unit == SHARE:
            axis.xaxis.set_major_formatter("{x:.0%}")
    if metrics:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, fontsize=9, loc="outside lower center")
    title(figure, heading)
    return finish(figure)
