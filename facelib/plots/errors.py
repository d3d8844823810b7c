"""Figures of notebook 07: the map of errors, what clusters have in common, and how they look."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from facelib.data.pixels import FaceImages
from facelib.plots.style import MIN_AVERAGED, PALETTE, average_face, finish, image_grid, new_figure


def error_map(positions: np.ndarray, labels: np.ndarray, title: str) -> Figure:
    """A 2-d map of errors coloured by cluster; noise is grey."""
    figure, ((axis,),) = new_figure(width=7, height=5)
    for number in sorted(set(labels)):
        part = positions[labels == number]
        round_of, colour = divmod(number, len(PALETTE))
        look = {"color": PALETTE[colour], "marker": "o^s"[round_of % 3]}  # no two clusters look the same
        name, look = ("in no cluster", {"color": "#cccccc"}) if number < 0 else (f"cluster {number}", look)
        axis.scatter(part[:, 0], part[:, 1], s=14, label=f"{name} ({len(part)})", alpha=0.8, linewidth=0, **look)
    axis.set(xticks=[], yticks=[], title=title, xlabel="t-SNE: only neighbourhoods have a meaning")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return finish(figure)


def cluster_faces(images: FaceImages, labels: np.ndarray, single: bool) -> Figure:
    """The average face of each cluster; of one below `MIN_AVERAGED` faces a grey field, or its first where `single`."""
    pictures, names = [], []
    for number in sorted(set(labels) - {-1}):
        rows = np.flatnonzero(labels == number)
        few = len(rows) < MIN_AVERAGED
        pictures.append(images[rows[0]] if few and single else average_face(images[rows]))
        kind = ("one of them" if single else "not shown") if few else "average"
        names.append(f"cluster {number}, n = {len(rows)}\n{kind}")
    heading = f"Average face of each cluster; grey below {MIN_AVERAGED} faces" if names else "No clusters"
    return image_grid(pictures or [None], names or [""], heading=heading)


def median_table(compared: pd.DataFrame) -> Styler:
    """Medians of `error_causes.compare_measured`, a column per cluster; bold where p_adjusted is below 0.05."""
    medians = compared.pivot(index="measure", columns="cluster", values="median")
    clear = compared.pivot(index="measure", columns="cluster", values="p_adjusted") < 0.05
    medians.columns = clear.columns = [f"cluster {number}" for number in medians]
    medians.insert(0, "predicted well", compared.groupby("measure")["median_correct"].first())
    bold = clear.reindex(columns=medians.columns, fill_value=False).to_numpy(bool)
    return medians.style.format(precision=2).apply(lambda _: np.where(bold, "font-weight: bold", ""), axis=None)
