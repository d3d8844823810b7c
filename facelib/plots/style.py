"""The style of all figures, and drawing that several subjects share."""

import textwrap
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

from facelib.runs import RunFolder
from facelib.schema import GENDERS

# The Okabe-Ito palette, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#777777",
)
PALETTE = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY]
GENDER_COLOURS = dict(zip(GENDERS, (BLUE, ORANGE), strict=True))
MIN_AVERAGED = 25  # groups of copies behind an average face, so that nobody is recognisable


def use_style() -> None:
    """Set how this process draws figures and prints tables."""
    sns.set_theme(
        style="whitegrid",
        palette=PALETTE,
        rc={
            "figure.dpi": 96,
            "savefig.bbox": "tight",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#e6e6e6",
            "legend.frameon": False,
            # Same bytes for the same figure, and text that can be searched.
            "svg.hashsalt": "facelib",
            "svg.fonttype": "none",
            "text.parse_math": False,  # the name of a photograph is no formula
        },
    )
    pd.set_option("styler.format.escape", "html")  # nor are texts from data markup
    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        set_matplotlib_formats("svg")
    # seaborn 0.13.2 passes a keyword to boxplot that matplotlib has renamed.
    warnings.filterwarnings("ignore", message="vert: bool", category=PendingDeprecationWarning)


def new_figure(
    columns: int = 1, rows: int = 1, width: float = 9.0, height: float = 3.6, **shared
) -> tuple[Figure, np.ndarray]:
    size = (width, height * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)


def panel_grid(panels: int, columns: int, width: float, height: float, **shared) -> tuple[Figure, np.ndarray]:
    """A figure of some panels, so many in a row that their text can be read, and the axes of those that are needed."""
    columns = min(columns, panels)
    figure, axes = new_figure(columns, -(-panels // columns), width, height, **shared)
    for axis in axes.flat[panels:]:
        axis.remove()
    return figure, axes.flat[:panels]


def finish(figure: Figure) -> Figure:
    """Hand a figure over without leaving it open, so that notebooks show it once."""
    plt.close(figure)
    return figure


def image_grid(
    images: list[np.ndarray], titles: list[str], columns: int = 7, size: float = 1.35, title: str = ""
) -> Figure:
    """Pictures with a short title each; a missing picture (None) leaves a grey field."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, (size + 0.3) * rows + 0.3), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, name in zip(axes.flat, images, titles, strict=False):
        if image is None:
            axis.add_patch(mpl.patches.Rectangle((0, 0), 1, 1, transform=axis.transAxes, color="#eeeeee"))
        else:
            axis.imshow(image, interpolation="bilinear")
        axis.set_title(name, fontsize=8, loc="center", fontweight="normal")
    if title:
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return finish(figure)


def average_face(images: np.ndarray, least: int = MIN_AVERAGED) -> np.ndarray | None:
    """Mean of uint8 images (n, px, px, 3); None for fewer than `least`, which might show a person."""
    return None if len(images) < least else images.mean(axis=0).round().astype(np.uint8)


def may_show(run: RunFolder, show_faces: bool) -> bool:
    """Whether single faces of a run may be drawn: synthetic ones always, real ones only where the reader asked."""
    return run.is_synthetic or show_faces


def intervals(
    table: pd.DataFrame, label: str, value: str, unit: str, title: str, reference: float | None = None
) -> Figure:
    """Values with their intervals, one row each, with counts where the table has n."""
    shown = table.dropna(subset=[value]).reset_index(drop=True)
    figure, axes = new_figure(width=8, height=0.7 + 0.34 * len(shown))
    axis = axes[0, 0]
    low = shown[value] - shown.get(f"{value}_low", shown.get("low"))
    high = shown.get(f"{value}_high", shown.get("high")) - shown[value]
    axis.errorbar(
        shown[value], shown.index, xerr=[low.clip(lower=0), high.clip(lower=0)], fmt="o", color=BLUE, capsize=3
    )
    names = [textwrap.shorten(str(name), 60) for name in shown[label]]
    if "n" in shown:
        names = [f"{name}  (n = {n:,})" for name, n in zip(names, shown["n"], strict=True)]
    axis.set(yticks=shown.index, yticklabels=names, xlabel=unit, title=title, ylim=(len(shown) - 0.5, -0.5))
    if reference is not None:
        axis.axvline(reference, color=GREY, linestyle="--", linewidth=1)
    return finish(figure)
