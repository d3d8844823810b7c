"""Figures of what decides in use: age limits, error rates by group, and answers that are withheld."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.evaluation.deployment import ANSWERED, ranked
from facelib.plots.style import (
    GREY,
    INK,
    PALETTE,
    PURPLE,
    class_colours,
    error_bars,
    finish,
    label_lines,
    new_figure,
    title,
)
from facelib.schema import Attribute, class_attributes


def passing(rates: pd.DataFrame, note: str = "") -> Figure:
    """The share of each labelled year that passes each threshold, from `deployment.pass_rates`."""
    figure, ((axis,),) = new_figure(width=7.5, height=3.8)
    ends = []
    for (threshold, rows), colour in zip(rates.groupby("threshold"), (INK, PURPLE), strict=False):
        axis.plot(rows["year"], rows["value"], color=colour, marker=".")
        axis.fill_between(rows["year"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
        axis.axvline(threshold, color=colour, linestyle=":", linewidth=1)
        ends.append((f"predicted {threshold} or older", rows["value"].iloc[-1], colour))
    n = rates.drop_duplicates("year")["n"].sum()
    axis.set(xlabel="Labelled age (years)", ylabel="Share that passes", ylim=(-0.02, 1.02))
    axis.set_title(f"Who passes an age limit, n = {n:,}, 95 % intervals{note}")
    axis.yaxis.set_major_formatter("{x:.0%}")
    label_lines(axis, ends)
    return finish(figure)


def odds(rates: pd.DataFrame, attributes: Iterable[Attribute], note: str = "") -> Figure:
    """Both error rates of `deployment.error_rates` by group, a panel per attribute of two classes."""
    named = {attribute.name: attribute for attribute in class_attributes(attributes)}
    names = list(rates["attribute"].unique())
    most = rates["attribute"].value_counts().max() if len(rates) else 1
    figure, axes = new_figure(max(1, len(names)), width=9, height=1.4 + 0.3 * most)
    for axis, name in zip(axes.flat, names, strict=False):
        rows, colours = rates[rates["attribute"] == name].reset_index(drop=True), class_colours(named[name])
        (first, blue), (second, orange) = colours.items()
        misses = 1 - rows["true_positive"], 1 - rows["true_positive_high"], 1 - rows["true_positive_low"]
        alarms = rows["false_positive"], rows["false_positive_low"], rows["false_positive_high"]
        for ends, colour, shift in ((alarms, blue, -0.13), (misses, orange, 0.13)):
            error_bars(axis, rows.index + shift, *ends, color=colour, capsize=2, markersize=5)
        for text, colour, shift in ((f"{first} called {second}", blue, 0.06), (f"{second} called {first}", orange, 0)):
            axis.text(1, 1.01 + shift, text, color=colour, ha="right", transform=axis.transAxes, fontsize=9)
        for at in np.flatnonzero(rows["by"].ne(rows["by"].shift()))[1:]:
            axis.axhline(at - 0.5, color=GREY, linewidth=0.8)
        counts = rows["n_true_positive"].fillna(0) + rows["n_false_positive"].fillna(0)
        labels = [f"{group}  (n = {int(n):,})" for group, n in zip(rows["group"], counts, strict=True)]
        axis.set(yticks=rows.index, yticklabels=labels, ylim=(len(rows) - 0.5, -0.5), xlabel="Share of the labelled")
        axis.xaxis.set_major_formatter("{x:.0%}")
    title(figure, f"Error rates by group (equalised odds ask for equal ones), 95 % intervals{note}")
    return finish(figure)


def withheld(frame: pd.DataFrame, groups: pd.DataFrame, attributes: Iterable[Attribute], note: str = "") -> Figure:
    """Accuracy against the share answered, the most confident first, and whose faces are answered; see `selective`."""
    named = class_attributes(attributes)
    rows = groups.drop_duplicates(["by", "group"])[["by", "group", "n"]].reset_index(drop=True)
    figure, ((left, right),) = new_figure(2, width=11, height=max(3.6, 1.2 + 0.26 * len(rows)))
    for number, attribute in enumerate(named):
        colour, score = PALETTE[number % len(PALETTE)], ranked(frame, attribute)["score"].to_numpy()
        part = groups[groups["attribute"] == attribute.name].set_index(["by", "group"])
        if not len(score):
            continue
        counts = np.unique(np.linspace(min(len(score), max(20, len(score) // 20)), len(score), 100).astype(int))
        accuracy = np.cumsum(score)[counts - 1] / counts
        left.plot(counts / len(score), accuracy, color=colour)
        beside = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 9, "color": colour}
        left.annotate(attribute.title, (0.5, np.interp(0.5, counts / len(score), accuracy)), **beside)
        part = part.reindex(pd.MultiIndex.from_frame(rows[["by", "group"]]))
        at = rows.index + 0.22 * (number - (len(named) - 1) / 2)
        ends = (part[f"answered{end}"] for end in ("", "_low", "_high"))
        error_bars(right, at, *ends, color=colour, capsize=2, markersize=4)
    n = len(frame)
    left.set(
        xlabel="Share answered, the most confident first",
        ylabel="Accuracy",
        title=f"Selective prediction, n = {n:,}{note}",
    )
    right.axvline(ANSWERED[2], color=GREY, linestyle="--", linewidth=1)
    labels = [f"{group}  (n = {count:,})" for group, count in zip(rows["group"], rows["n"], strict=True)]
    right.set(yticks=rows.index, yticklabels=labels, ylim=(len(rows) - 0.5, -0.5), xlabel="Share answered, by group")
    right.set_title(f"Who is answered if {ANSWERED[2]:.0%} are (colours as left)")
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_formatter("{x:.0%}")
    return finish(figure)
