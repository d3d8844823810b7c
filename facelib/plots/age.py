"""Figures of notebook 04 and of age in notebook 05."""

import pandas as pd
from matplotlib.figure import Figure

from facelib.plots.style import GREEN, GREY, INK, PURPLE, SKY, finish, label_lines, new_figure


def bin_study(table: pd.DataFrame, heading: str) -> Figure:
    """Error of each use of two-stage models, and the accuracy of their bins, by number of bins."""
    lines = {
        "routed": ("routed", GREEN, "-"),
        "soft": ("soft", PURPLE, "-"),
        "routed_overlap": ("routed, overlapping", GREEN, ":"),
        "soft_overlap": ("soft, overlapping", PURPLE, ":"),
        "oracle_bin": ("oracle bin (looks at the label)", GREY, "-"),
        "no_image": ("oracle bin, no image", GREY, "--"),
    }
    figure, ((left, right),) = new_figure(2, width=11)
    for name, (_, colour, style) in lines.items():
        left.plot(table["bins"], table[name], style, marker="o", color=colour)
    left.set(ylabel="MAE (years)", ylim=(0, None), title=heading, xlabel="Age bins", xticks=table["bins"])
    label_lines(left, [(label, table[name].iloc[-1], colour) for name, (label, colour, _) in lines.items()])
    right.plot(table["bins"], table["bin_accuracy"], "o-", color=INK)
    right.set(ylabel="Bin accuracy", ylim=(0, 1), xlabel="Age bins", xticks=table["bins"])
    right.yaxis.set_major_formatter("{x:.0%}")
    return finish(figure)


def age_scatter(frame: pd.DataFrame, heading: str) -> Figure:
    """Predicted against labelled age, with the median and middle 80 % of predictions by label."""
    figure, ((axis,),) = new_figure(width=7, height=4.6)
    # As a picture: thousands of marks would make a file that is slow to draw.
    axis.scatter(frame["age"], frame["age_pred"], s=7, alpha=0.35, color=SKY, linewidth=0, rasterized=True)
    axis.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1)
    by_decade = frame.groupby((frame["age"] // 10).rename("decade"))
    enough = by_decade.size() >= 10
    at = by_decade["age"].median()[enough]  # ages are unevenly spread within a decade
    running = by_decade["age_pred"].quantile([0.1, 0.5, 0.9]).unstack()[enough]
    axis.plot(at, running[0.5], color=INK, label="median by decade")
    axis.fill_between(at, running[0.1], running[0.9], color=INK, alpha=0.15, linewidth=0)
    axis.set(xlabel="Age label (years)", ylabel="Predicted age (years)", title=heading)
    ends = [("label = prediction", 100, GREY)]
    if len(running):
        ends += [("median", running[0.5].iloc[-1], INK), ("middle 80 %", running[0.1].iloc[-1], INK)]
    label_lines(axis, ends)
    return finish(figure)
