"""Figures of notebook 06: errors by group."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.plots.style import BLUE, GREY, PALETTE, finish, new_figure
from facelib.schema import AGE_BANDS


def group_errors(table: pd.DataFrame, metric: str, label: str, title: str, reference: float | None = None) -> Figure:
    """A metric by age band (x) and a second grouping (colour), with intervals; masked groups are absent.

    Parameters
    ----------
    table : DataFrame
        age_band, a second grouping where there is one, n, and `metric` with its _low and _high.
    metric : str
    label : str
        Of the y axis.
    title : str
    reference : float, optional
        Value of a horizontal line.
    """
    hue = next((name for name in ("gender_name", "ethnicity_name") if name in table), None)
    groups = [(None, table)] if hue is None else list(table.groupby(hue, observed=True))
    figure, axes = new_figure(width=9, height=3.6)
    bands = [band for band in AGE_BANDS if band in set(table["age_band"].astype(str))]
    for number, (name, part) in enumerate(groups):
        shown = part.dropna(subset=[metric])
        x = shown["age_band"].astype(str).map({band: at for at, band in enumerate(bands)}).astype(float)
        x += (number - (len(groups) - 1) / 2) * 0.13
        bars = [
            (shown[metric] - shown[f"{metric}_low"]).clip(lower=0),
            (shown[f"{metric}_high"] - shown[metric]).clip(lower=0),
        ]
        axes[0, 0].errorbar(x, shown[metric], yerr=bars, fmt="o", capsize=2, label=name, color=PALETTE[number])
    if reference is not None:
        axes[0, 0].axhline(reference, color=GREY, linestyle="--", linewidth=1)
    counts = table.groupby(table["age_band"].astype(str))["n"].sum()
    names = [f"{band}\nn = {counts[band]:,}" for band in bands]
    axes[0, 0].set(xticks=range(len(bands)), xticklabels=names, xlabel="Age band (years)", ylabel=label, title=title)
    axes[0, 0].tick_params(axis="x", labelsize=9)
    if hue is not None:
        axes[0, 0].legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
    return finish(figure)


def raw_and_standardised(rates: pd.DataFrame, title: str) -> Figure:
    """Each group's raw and age-standardised numbers side by side with their intervals, a panel per measure.

    Parameters
    ----------
    rates : DataFrame
        From `standardised.standardise`.
    """
    names = {
        "mae": "Age MAE (years)",
        "gender_accuracy": "Gender accuracy",
        "ethnicity_accuracy": "Ethnicity accuracy",
    }
    shown = [name for name in names if name in set(rates["metric"])]
    drawn = rates.drop_duplicates("group").set_index("group")
    groups, begins = drawn["n"], np.flatnonzero(drawn["by"].ne(drawn["by"].shift()))[1:]
    figure, axes = new_figure(max(1, len(shown)), width=11, height=1.5 + 0.34 * len(groups))
    for axis, metric in zip(axes.flat, shown, strict=False):
        part = rates[rates["metric"] == metric].set_index("group").loc[groups.index]
        for way, offset, colour, face in (("raw", -0.13, GREY, "white"), ("standardised", 0.13, BLUE, BLUE)):
            bars = [part[way] - part[f"{way}_low"], part[f"{way}_high"] - part[way]]
            axis.errorbar(
                part[way], np.arange(len(part)) + offset, xerr=np.clip(bars, 0, None), fmt="o", color=colour,
                markerfacecolor=face, markersize=5, capsize=2, label=way,
            )  # fmt: skip
        for at in begins:  # groups compare within their own grouping
            axis.axhline(at - 0.5, color=GREY, linewidth=0.8)
        labels = [f"{name}  (n = {n:,})" for name, n in groups.items()] if axis is axes[0, 0] else []
        axis.set(yticks=range(len(groups)), yticklabels=labels, ylim=(len(groups) - 0.5, -0.5), xlabel=names[metric])
        if metric != "mae":
            axis.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    if shown:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, fontsize=9, loc="outside lower center")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return finish(figure)
