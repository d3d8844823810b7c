"""The style of all figures, and drawing that several subjects share."""

import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

from facelib.runs import RunFolder
from facelib.schema import ClassAttribute

# One colour has one meaning, and colour-blind readers tell them apart. The Okabe-Ito palette: blue and orange are the
# first and the second of two classes, the others are methods and clusters.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
PALETTE = [GREEN, PURPLE, RED, SKY]
# Paul Tol's "muted" palette: the classes of an attribute with more than two.
CLASSES = ("#332288", "#CC6677", "#117733", "#AA4499", "#999933", "#44AA99", "#882255", "#88CCEE")
INK, GREY = "#3b4a5a", "#777777"  # what is measured of all faces; references and baselines
MIN_AVERAGED = 25  # groups of copies behind an average face, so that no person is recognisable


def class_colours(attribute: ClassAttribute) -> dict[str, str]:
    """The colour of each class of an attribute, the same in every figure; colours repeat after eight."""
    colours = (BLUE, ORANGE) if len(attribute.classes) <= 2 else CLASSES
    return {name: colours[code % len(colours)] for code, name in enumerate(attribute.classes)}


def use_style() -> None:
    """Set how this process draws figures and prints tables."""
    look = {"figure.dpi": 96, "savefig.bbox": "tight", "font.size": 10, "grid.color": "#e6e6e6"}
    look |= {"axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left"}
    look |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    look |= {"font.sans-serif": ["DejaVu Sans"]}  # matplotlib's own: every machine sets the same figure
    # The same bytes for the same figure, text that can be searched, and names of photographs that are not formulas.
    look |= {"svg.hashsalt": "facelib", "svg.fonttype": "none", "text.parse_math": False}
    sns.set_theme(style="whitegrid", palette=[INK, *PALETTE], rc=look)
    pd.set_option("styler.format.escape", "html")  # nor are texts from data
    if hasattr(get_ipython(), "kernel"):
        set_matplotlib_formats("svg")
    # seaborn 0.13.2 passes a keyword to boxplot that matplotlib has renamed.
    warnings.filterwarnings("ignore", message="vert: bool", category=PendingDeprecationWarning)


def new_figure(
    columns: int = 1, rows: int = 1, width: float = 9.0, height: float = 3.6, **shared
) -> tuple[Figure, np.ndarray]:
    """A figure of some panels, each row `height` inches high, and its axes (rows, columns)."""
    size = (width, height * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)


def panel_grid(panels: int, columns: int, width: float, height: float, **shared) -> tuple[Figure, np.ndarray]:
    """A figure of some panels, at most `columns` in a row, and their axes (panels,)."""
    columns = min(columns, panels)
    figure, axes = new_figure(columns, -(-panels // columns), width, height, **shared)
    for axis in axes.flat[panels:]:
        axis.remove()
    return figure, axes.flat[:panels]


def finish(figure: Figure) -> Figure:
    """Close a figure for pyplot, which would show it a second time in a notebook."""
    plt.close(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, the same bytes each time, and return its file."""
    figure.savefig(path, dpi=144, bbox_inches="tight", metadata={"Date": None})
    return path


def title(figure: Figure, text: str) -> None:
    """Set the title of a whole figure."""
    figure.suptitle(text, fontsize=11, fontweight="bold", x=0.01, ha="left")


def error_bars(axis, at, value, low, high, vertical: bool = False, **look):
    """Points (n,) with their intervals, along x, or along y where `vertical`; missing or inverted ends have no bar.

    `at` are positions on the other axis; `look` is passed to `Axes.errorbar`.
    """
    value = np.asarray(value, float)
    bars = np.nan_to_num(np.clip([value - np.asarray(low, float), np.asarray(high, float) - value], 0, None))
    look = {"fmt": "o", "color": INK, "capsize": 3} | look
    return axis.errorbar(at, value, yerr=bars, **look) if vertical else axis.errorbar(value, at, xerr=bars, **look)


def label_lines(axis, ends: Iterable[tuple[str, float, str]], size: float = 9) -> None:
    """Name lines beside their right ends, given as name, height and colour; names move apart where they would overlap.

    Takes the axis as it will stay: its limits and its size.
    """
    low, high = axis.get_ylim()
    figure = axis.get_figure()
    rows = axis.get_subplotspec().get_gridspec().nrows
    step = (high - low) * 1.3 * size / 72 / (0.7 * figure.get_figheight() / rows)  # the height of a name
    named = sorted((min(max(y, low), high), name, colour) for name, y, colour in ends if np.isfinite(y))
    places = []
    for y, *_ in named:
        places.append(max(y, places[-1] + step) if places else y)
    top = high
    for k in reversed(range(len(places))):  # those pushed above the panel push the others down
        places[k] = min(places[k], top)
        top = places[k] - step
    for place, (_, name, colour) in zip(places, named, strict=True):
        look = {"color": colour, "fontsize": size, "va": "center", "xycoords": ("axes fraction", "data")}
        axis.annotate(name, (1.01, place), annotation_clip=False, **look)


def image_grid(
    images: list[np.ndarray], titles: list[str], columns: int = 7, size: float = 1.35, heading: str = ""
) -> Figure:
    """Pictures with a short title each; a missing picture (None) leaves a grey field."""
    rows = -(-len(images) // columns)
    figure, axes = new_figure(columns, rows, size * columns, size + 0.3 + 0.3 / rows)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, name in zip(axes.flat, images, titles, strict=False):
        if image is None:
            axis.add_patch(mpl.patches.Rectangle((0, 0), 1, 1, transform=axis.transAxes, color="#eeeeee"))
        else:
            axis.imshow(image, interpolation="bilinear")
        axis.set_title(name, fontsize=9, loc="center", fontweight="normal")
    title(figure, heading)
    return finish(figure)


def average_face(images: np.ndarray, least: int = MIN_AVERAGED) -> np.ndarray | None:
    """Mean of uint8 images (n, px, px, 3); None for fewer than `least`, which might show a person."""
    return None if len(images) < least else images.mean(axis=0).round().astype(np.uint8)


def may_show(run: RunFolder, show_faces: bool) -> bool:
    """Whether single faces of a run may be drawn: synthetic ones always, real ones only where the reader asked."""
    return run.is_synthetic or show_faces


def intervals(
    table: pd.DataFrame, label: str, value: str, unit: str, heading: str, reference: float | None = None
) -> Figure:
    """Values with their intervals, one row each, with counts where the table has n."""
    rows = table.dropna(subset=[value]).reset_index(drop=True)
    figure, ((axis,),) = new_figure(width=8, height=0.7 + 0.34 * len(rows))
    ends = (rows[f"{value}_{end}"] if f"{value}_{end}" in rows else rows[end] for end in ("low", "high"))
    error_bars(axis, rows.index, rows[value], *ends)
    names = [textwrap.shorten(str(name), 60) for name in rows[label]]
    if "n" in rows and len(set(rows["n"])) == 1:
        heading += f", n = {rows['n'].iloc[0]:,}"
    elif "n" in rows:
        names = [f"{name}  (n = {n:,})" for name, n in zip(names, rows["n"], strict=True)]
    axis.set(yticks=rows.index, yticklabels=names, xlabel=unit, title=heading, ylim=(len(rows) - 0.5, -0.5))
    if reference is not None:
        axis.axvline(reference, color=GREY, linestyle="--", linewidth=1)
    return finish(figure)
