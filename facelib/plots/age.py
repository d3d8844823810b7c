"""Figures of notebook 04 and of age in notebook 05."""

import pandas as pd
from matplotlib.figure import Figure

from facelib.plots.style import BLUE, GREY, ORANGE, RED, finish, new_figure


def bin_study(table: pd.DataFrame, heading: str) -> Figure:
    """Error of each use of two-stage models, and the accuracy of their bins, by number of bins."""
    lines = {
        "routed": ("routed", BLUE, "-"),
        "soft": ("soft", ORANGE, "-"),
        "routed_overlap": ("routed, overlapping", BLUE, ":"),
        "soft_overlap": ("soft, overlapping", ORANGE, ":"),
        "oracle_bin": ("oracle bin (looks at the label)", GREY, "-"),
        "no_image": ("oracle bin, no image", GREY, "--"),
    }
    figure, ((left, right),) = new_figure(2, width=11)
    for name, (label, colour, style) in lines.items():
        left.plot(table["bins"], table[name], style, marker="o", color=colour, label=label)
    left.set(ylabel="MAE (years)", ylim=(0, None), title=heading, xlabel="Age bins", xticks=table["bins"])
    figure.legend(*left.get_legend_handles_labels(), ncols=3, fontsize=9, loc="outside lower center")
    right.plot(table["bins"], table["bin_accuracy"], "o-", color=BLUE)
    right.set(ylabel="Bin accuracy", ylim=(0, 1), xlabel="Age bins", xticks=table["bins"])
    right.yaxis.set_major_formatter("{x:.0%}")
    return finish(figure)


def age_scatter(frame: pd.DataFrame, heading: str) -> Figure:
    """Predicted against labelled age, with the median and middle 80 % of predictions by label."""
    figure, ((axis,),) = new_figure(width=6, height=4.8)
    axis.scatter(frame["age"], frame["age_pred"], s=6, alpha=0.35, color=BLUE, linewidth=0)
    axis.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1, label="label = prediction")
    by_decade = frame.groupby((frame["age"] // 10).rename("decade"))
    enough = by_decade.size() >= 10
    at = by_decade["age"].median()[enough]  # ages are unevenly spread within a decade
    running = by_decade["age_pred"].quantile([0.1, 0.5, 0.9]).unstack()[enough]
    axis.plot(at, running[0.5], color=RED, label="median by decade")
    axis.fill_between(at, running[0.1], running[0.9], color=RED, alpha=0.15, label="middle 80 %")
    axis.set(xlabel="Age label (years)", ylabel="Predicted age (years)", title=heading)
    axis.legend(loc="upper left")
    return finish(figure)
