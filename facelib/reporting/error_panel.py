"""A panel for JupyterLab that pages through the errors of a cluster: labels, predictions, label scores."""

import ipywidgets as widgets
import pandas as pd
from IPython.display import display

from facelib.data.pixels import FaceImages
from facelib.reporting.review_panel import as_png

ROWS = 8  # errors on a page
PICTURE_PX = 96  # edge of each shown picture
ALL, NONE = "all errors", "in no cluster"
# What the errors can be sorted by: title, column, and whether small values come first.
SORTS = {
    "largest age error": ("age error", False),
    "most doubted age label": ("age label score", True),
    "most doubted gender label": ("gender label score", True),
    "most doubted ethnicity label": ("ethnicity label score", True),
    "surest of gender": ("gender confidence", False),
    "surest of ethnicity": ("ethnicity confidence", False),
    "widest age interval": ("age interval width", False),
    "image": ("image_id", True),
}


class ErrorBrowser:
    """Shows the errors of one cluster at a time, sorted, some rows a page.

    Parameters
    ----------
    errors : DataFrame
        From `error_causes.error_table`.
    images : FaceImages, optional
        By row of `errors`; without them no picture is shown.
    """

    def __init__(self, errors: pd.DataFrame, images: FaceImages | None = None):
        self.errors, self.images = errors.reset_index(drop=True), images
        self.at = 0
        self._build()
        self._start_over()

    def _build(self) -> None:
        sizes = self.errors["cluster"].value_counts().sort_index()
        named = [(f"{NONE if number < 0 else f'cluster {number}'} ({n:,})", int(number)) for number, n in sizes.items()]
        self.cluster = widgets.Dropdown(options=[(f"{ALL} ({len(self.errors):,})", ALL), *named], description="Show")
        sorts = [title for title, (column, _) in SORTS.items() if column in self.errors]
        self.sort = widgets.Dropdown(options=sorts, description="First the")
        self.buttons = {
            "back": widgets.Button(description="Back", icon="arrow-left"),
            "next": widgets.Button(description="Next", icon="arrow-right"),
        }
        self.buttons["back"].on_click(lambda _: self.turn(-1))
        self.buttons["next"].on_click(lambda _: self.turn(1))
        self.status, self.table = widgets.HTML(), widgets.HTML()
        self.pictures = widgets.HBox(layout={"flex_flow": "row wrap"})
        for chooser in (self.cluster, self.sort):
            chooser.observe(lambda _: self._start_over(), names="value")
        choices = widgets.HBox([self.cluster, self.sort, *self.buttons.values(), self.status])
        self.box = widgets.VBox([choices, self.pictures, self.table])

    @property
    def page(self) -> pd.DataFrame:
        """The errors that are shown; its index counts rows of the whole table."""
        return self.shown.iloc[self.at * ROWS : (self.at + 1) * ROWS]

    @property
    def pages(self) -> int:
        """How many pages the chosen cluster has; one where it is empty."""
        return max(1, -(-len(self.shown) // ROWS))

    def turn(self, pages: int) -> None:
        """Go on, or back where negative, by some pages; the first and the last one are the ends."""
        self.at = min(max(0, self.at + pages), self.pages - 1)
        self._show()

    def _start_over(self) -> None:
        number, (column, ascending) = self.cluster.value, SORTS[self.sort.value]
        chosen = self.errors if number == ALL else self.errors[self.errors["cluster"] == number]
        # The order is that of the table where values are equal; what has no value comes last.
        self.shown = chosen.sort_values(column, ascending=ascending, kind="stable", na_position="last")
        self.at = 0
        self._show()

    def _show(self) -> None:
        self.buttons["back"].disabled = self.at == 0
        self.buttons["next"].disabled = self.at == self.pages - 1
        self.status.value = f"page {self.at + 1:,} of {self.pages:,}"
        self.table.value = self.page.to_html(index=False, border=0, na_rep="", float_format="{:.2f}".format)
        if self.images is not None:
            self.pictures.children = [self._picture(row) for row in self.page.index]

    def _picture(self, row: int) -> widgets.VBox:
        image = widgets.Image(value=as_png(self.images[row], PICTURE_PX), format="png")
        return widgets.VBox([image, widgets.Label(self.errors["missed"].iloc[row])])

    def _ipython_display_(self) -> None:
        display(self.box)
