"""Figures of notebook 06: errors by group."""

import textwrap
from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.evaluation.groups import AGE_ERRORS, CHILD_YEARS, GroupMetric, group_metrics
from facelib.plots.style import (
    GREY,
    INK,
    PURPLE,
    class_colours,
    error_bars,
    finish,
    label_lines,
    new_figure,
    title,
)
from facelib.schema import AGE, Attribute, ClassAttribute, class_attributes
from facelib.statistics import SHARE

WRAPPED = 20  # characters of a line below a narrow panel


def group_errors(
    table: pd.DataFrame, metric: str, label: str, heading: str, attribute: ClassAttribute | None = None
) -> Figure:
    """A metric by age band (x) and class (colour), with intervals; masked groups are absent.

    Takes a `groups.group_table` by age band, alone or crossed with `attribute`.
    """
    column = attribute.group_column if attribute else None
    colours = class_colours(attribute) if attribute else {None: INK}
    classes = [name for name in colours if not attribute or name in set(table[column])]
    figure, ((axis,),) = new_figure(width=7.5, height=3.8)
    bands, ends = list(dict.fromkeys(table["age_band"])), []
    for number, name in enumerate(classes):
        rows = (table[table[column] == name] if attribute else table).dropna(subset=[metric])
        x = rows["age_band"].map(bands.index).astype(float) + (number - (len(classes) - 1) / 2) * 0.13
        look = {"capsize": 2, "fmt": "o-", "linewidth": 1.5, "markersize": 5, "color": colours[name]}
        error_bars(axis, x, rows[metric], rows[f"{metric}_low"], rows[f"{metric}_high"], vertical=True, **look)
        if attribute and len(rows):
            ends.append((name, rows.iloc[x.argmax()][metric], colours[name]))
        if not attribute:
            axis.fill_between(x, rows[f"{metric}_low"], rows[f"{metric}_high"], color=INK, alpha=0.12, linewidth=0)
    counts = table.groupby("age_band")["n"].sum()
    names = [f"{band}\nn = {counts[band]:,}" for band in bands]
    axis.set(xticks=range(len(bands)), xticklabels=names, xlabel="Age band (years)", ylabel=label)
    axis.set_title(f"{heading}, n = {counts.sum():,}")
    axis.tick_params(axis="x", labelsize=9)
    if metric in AGE_ERRORS:
        axis.set_ylim(bottom=0)
    if metric.endswith("_accuracy"):
        axis.yaxis.set_major_formatter("{x:.0%}")
    label_lines(axis, ends)
    return finish(figure)


def bias_figure(directions: pd.DataFrame, note: str = "") -> Figure:
    """Both directions of `groups.bias_directions`, and as lines what regression to the mean alone would give."""
    figure, ((axis,),) = new_figure(width=7.5, height=3.8)
    bands, ends = [band for band in AGE.group_names if band in set(directions["age_band"])], []
    for (way, rows), colour, shift in zip(directions.groupby("grouped_by"), (INK, PURPLE), (-0.08, 0.08), strict=False):
        rows = rows.dropna(subset=["bias"])
        x = rows["age_band"].map(bands.index).astype(float) + shift
        error_bars(axis, x, rows["bias"], rows["bias_low"], rows["bias_high"], vertical=True, color=colour, capsize=2)
        axis.plot(x, rows["regression_alone"], color=colour, linestyle=":", linewidth=1)
        if len(rows):
            last = rows.iloc[-1]
            ends += [(f"by {way}", last["bias"], colour), ("regression alone", last["regression_alone"], colour)]
    axis.axhline(0, color=GREY, linestyle="--", linewidth=1)
    n = int(directions["n"].sum() / 2)
    axis.set(xticks=range(len(bands)), xticklabels=bands, xlabel="Age band (years)")
    axis.set(ylabel="Predicted minus labelled (years)", title=f"Age bias by label and by prediction, n = {n:,}{note}")
    label_lines(axis, ends)
    return finish(figure)


def worse_map(tables: dict[str, pd.DataFrame], metric: GroupMetric, heading: str) -> Figure:
    """Who is worse: a metric by class (row) and age band (column), with its interval in each cell.

    Takes `groups.group_tables`. Darker is worse; a cell with its n alone holds too few faces.
    """
    bands = list(tables[AGE.group_column][AGE.group_column])
    start = f"{AGE.group_column} x "
    crossed = {name: table for name, table in tables.items() if name.startswith(start) and metric.key in table}
    parts = [("all", tables[AGE.group_column])]
    for name, table in crossed.items():
        parts += list(table.groupby(name.rpartition(" ")[2], sort=False))
    parts = [(name, part.set_index(AGE.group_column).reindex(bands)) for name, part in parts]
    values = np.array([part[metric.key] for _, part in parts], float)
    figure, ((axis,),) = new_figure(width=7.5, height=1.1 + 0.5 * len(parts))
    # Light enough for dark text, also in dark mode, where the page inverts the picture.
    shades = mpl.colormaps["YlOrBr"](np.linspace(0, 0.4, 256))[:: -1 if metric.more_is_better else 1]
    colours = mpl.colors.ListedColormap(shades).with_extremes(bad="#f2f2f2")
    axis.imshow(np.ma.masked_invalid(values), cmap=colours, aspect="auto")
    scale, digits = (100, 0) if metric.unit == SHARE else (1, 1)
    for row, (_, part) in enumerate(parts):
        for column, cell in enumerate(part.itertuples()):
            value, low, high = (getattr(cell, f"{metric.key}{end}") for end in ("", "_low", "_high"))
            look = {"ha": "center", "color": "#222222"}
            if np.isfinite(value):
                axis.text(column, row, f"{scale * value:.{digits}f}", va="bottom", weight="bold", **look)
            elif np.isfinite(cell.n):
                axis.text(column, row, f"n = {cell.n:.0f}", va="center", fontsize=8, **look)
            if np.isfinite(value) and np.isfinite(low):
                ends = f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"
                axis.text(column, row + 0.05, ends, va="top", fontsize=8, **look)
    axis.grid(False)
    axis.set(xticks=range(len(bands)), xticklabels=bands, xlabel="Age band (years)")
    names = [f"{name}\nn = {part['n'].sum():,.0f}" for name, part in parts]
    unit = "%" if metric.unit == SHARE else metric.unit
    axis.set(
        yticks=range(len(parts)), yticklabels=names, title=f"{heading}, n = {parts[0][1]['n'].sum():,.0f} ({unit})"
    )
    axis.tick_params(labelsize=9)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return finish(figure)


def age_figures(
    parts: dict[str, dict[str, pd.DataFrame]], attributes: Iterable[Attribute], note: str = "", only: str = ""
) -> dict[str, Figure]:
    """By file: metrics by age, by age and class, and the maps of who is worse; `only` names a single one to draw.

    Takes `groups.group_tables` by data set, or by an empty name.
    """
    attributes, figures = tuple(attributes), {}
    for source, tables in parts.items():
        end, ending = f"_{source}" if source else "", f", {source or 'test split'}, 95 % intervals{note}"

        def add(name: str, table: str, metric: str, *look, tables=tables, end=end) -> None:
            if only in ("", name + end) and metric in tables.get(table, ()):
                figures[name + end] = group_errors(tables[table], metric, *look)

        for error, beyond in zip(AGE_ERRORS, ("", " beyond the labelled band"), strict=True):
            text = f"Age: mean absolute error{beyond}{ending}"
            add("age_error", AGE.group_column, error, "MAE (years)", text)
            for attribute in class_attributes(attributes):
                table = f"{AGE.group_column} x {attribute.group_column}"
                add(f"age_error_by_{attribute.name}", table, error, "MAE (years)", text, attribute)
        for attribute in (attribute for attribute in class_attributes(attributes) if len(attribute.classes) == 2):
            name, table = attribute.name, f"{AGE.group_column} x {attribute.group_column}"
            heading = f"{attribute.title} accuracy{ending}"
            add(f"{name}_by_age", table, f"{name}_accuracy", "Accuracy", heading, attribute)
        for metric in group_metrics(attributes):
            name, measured = f"worse_{metric.key}{end}", metric.key in tables.get(AGE.group_column, ())
            if only in ("", name) and metric.more_is_better is not None and measured:
                figures[name] = worse_map(tables, metric, f"{metric.title}{ending}")
    return figures


def children_figure(table: pd.DataFrame, attributes: Iterable[Attribute], note: str = "") -> Figure:
    """Each measure of `groups.children` by single years, a panel each."""
    measures = [m for m in group_metrics(attributes) if m.key in table and m.more_is_better is not None]
    figure, axes = new_figure(1, max(1, len(measures)), width=9, height=1.9, sharex=True)
    for axis, metric in zip(axes[:, 0], measures, strict=False):
        rows = table.dropna(subset=[metric.key])
        ends = (rows[f"{metric.key}{end}"] for end in ("", "_low", "_high"))
        error_bars(axis, rows["single_year"].astype(int), *ends, vertical=True, capsize=2)
        axis.set_title(metric.title if metric.unit == SHARE else f"{metric.title} ({metric.unit})", fontsize=9)
        if metric.unit == SHARE:
            axis.yaxis.set_major_formatter("{x:.0%}")
    axes[-1, 0].set(xlabel="Labelled age (years)", xticks=range(CHILD_YEARS + 1))
    title(figure, f"Children by single years, n = {table['n'].sum():,}, 95 % intervals{note}")
    return finish(figure)


def raw_and_standardised(rates: pd.DataFrame, attributes: Iterable[Attribute], heading: str) -> Figure:
    """Each group's raw and age-standardised rates, from `standardised.standardise`, a panel per measure."""
    metrics = [metric for metric in group_metrics(attributes) if metric.key in set(rates["metric"])]
    drawn = rates.drop_duplicates(["by", "group"])
    rows = list(drawn[["by", "group"]].itertuples(index=False, name=None))
    figure, axes = new_figure(max(1, len(metrics)), width=11, height=1.5 + 0.34 * len(rows))
    for axis, metric in zip(axes.flat, metrics, strict=False):
        part = rates[rates["metric"] == metric.key].set_index(["by", "group"]).reindex(rows)
        for way, offset, colour, face in (("raw", -0.13, GREY, "white"), ("standardised", 0.13, INK, INK)):
            look = {"color": colour, "markerfacecolor": face, "markersize": 5, "capsize": 2, "label": way}
            at = np.arange(len(part)) + offset
            error_bars(axis, at, part[way], part[f"{way}_low"], part[f"{way}_high"], **look)
        for at in np.flatnonzero(drawn["by"].ne(drawn["by"].shift()))[1:]:  # groups compare within their own grouping
            axis.axhline(at - 0.5, color=GREY, linewidth=0.8)
        names = [f"{name}  (n = {n:,})" for name, n in zip(drawn["group"], drawn["n"], strict=True)]
        label = metric.title if metric.unit == SHARE else f"{metric.title} ({metric.unit})"
        label = textwrap.fill(label, WRAPPED)
        axis.set(yticks=range(len(rows)), yticklabels=names if axis is axes[0, 0] else [], xlabel=label)
        axis.set(ylim=(len(rows) - 0.5, -0.5))
        if metric.unit == SHARE:
            axis.xaxis.set_major_formatter("{x:.0%}")
    if metrics:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, fontsize=9, loc="outside lower center")
    title(figure, heading)
    return finish(figure)
