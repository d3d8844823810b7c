"""Figures of notebook 05: confusion and ranking."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from facelib.plots.style import GREY, PALETTE, finish, new_figure


def confusion(counts: np.ndarray, names: list[str], title: str) -> Figure:
    """Confusion matrix: row shares as colour, counts as text."""
    figure, axes = new_figure(width=1.6 + 0.95 * len(names), height=1.3 + 0.65 * len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    text = np.array(
        [[f"{share:.0%}\n{n:,}" for share, n in zip(*row, strict=True)] for row in zip(shares, counts, strict=True)]
    )
    sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axes[0, 0],
                xticklabels=names, yticklabels=names, linewidths=0.5)  # fmt: skip
    axes[0, 0].set(xlabel="Predicted", ylabel="Label", title=title)
    axes[0, 0].tick_params(axis="y", rotation=0)
    return finish(figure)


def class_curves(curves: dict[str, tuple], table: pd.DataFrame, title: str) -> Figure:
    """ROC and precision-recall curves of each class against the rest, with what a guess would reach.

    Parameters
    ----------
    curves : dict of tuples
        From `evaluation.one_against_rest`.
    table : DataFrame
        From `evaluation.ranking_table`, in the same order.
    """
    figure, axes = new_figure(2, width=11, height=4.4)
    (left, right), rows = axes[0], table.set_index("class")
    for (name, (is_class, score, _)), colour in zip(curves.items(), PALETTE, strict=False):
        row = rows.loc[name]
        false_rate, true_rate, _ = roc_curve(is_class, score)
        left.plot(false_rate, true_rate, color=colour, label=f"{name}: {row['auc']:.3f}")
        precision, recall, _ = precision_recall_curve(is_class, score)
        shown = f"{name}: {row['average_precision']:.3f} (base rate {row['base_rate']:.2f})"
        right.plot(recall, precision, color=colour, label=shown, drawstyle="steps-post")
        right.axhline(row["base_rate"], color=colour, linestyle=":", linewidth=1)
    left.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    left.set(xlabel="False positive rate", ylabel="True positive rate", title=title)
    right.set(xlabel="Recall", ylabel="Precision", ylim=(0, 1.03), title="Dotted: what a guess reaches")
    for axis, name in ((left, "Area under the curve"), (right, "Average precision")):
        axis.set(xlim=(0, 1))
        axis.legend(title=name, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return finish(figure)
