"""Figures of notebook 07: the map of errors."""

import numpy as np
from matplotlib.figure import Figure

from facelib.plots.style import PALETTE, finish, new_figure


def error_map(positions: np.ndarray, labels: np.ndarray, title: str) -> Figure:
    """A 2-d map of errors coloured by cluster; noise is grey."""
    figure, axes = new_figure(width=7, height=5)
    for number in sorted(set(labels)):
        part = positions[labels == number]
        round_of, colour = divmod(number, len(PALETTE))
        look = {"color": PALETTE[colour], "marker": "o^s"[round_of % 3]}  # no two clusters look the same
        name, look = ("in no cluster", {"color": "#cccccc"}) if number < 0 else (f"cluster {number}", look)
        axes[0, 0].scatter(part[:, 0], part[:, 1], s=14, label=f"{name} ({len(part)})", alpha=0.8, linewidth=0, **look)
    axes[0, 0].set(xticks=[], yticks=[], title=title, xlabel="t-SNE; only neighbourhoods have a meaning")
    axes[0, 0].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return finish(figure)
