"""A panel for JupyterLab that pages through the errors of a cluster: labels, predictions, label scores."""

import ipywidgets as widgets
import pandas as pd
from IPython.display import display

from facelib.data.pixels import FaceImages
from facelib.reporting.review_panel import as_png

ROWS = 8  # errors on a page
PICTURE_PX = 96  # edge of each shown picture
ALL, NONE = "all errors", "in no cluster"
# What errors can be sorted by: the end of a column's name, a title for what stands before it, and whether small values
# come first.
SORTS = (
    (" error", "largest {} error", False),
    (" label score", "most doubted {} label", True),
    (" confidence", "surest of {}", False),
    (" interval width", "widest {} interval", False),
)


def sorts(errors: pd.DataFrame) -> dict[str, tuple[str, bool]]:
    """By title, the columns that a table of errors can be sorted by, and whether small values come first.

    Examples
    --------
    >>> sorts(pd.DataFrame(columns=["image_id", "age label score", "age error"]))
    {'largest age error': ('age error', False), 'most doubted age label': ('age label score', True), \
'image': ('image_id', True)}
    """
    choices = {
        title.format(column.removesuffix(end)): (column, ascending)
        for end, title, ascending in SORTS for column in errors if column.endswith(end)
    }  # fmt: skip
    return choices | {"image": ("image_id", True)}


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
        self.sorts, self.at = sorts(errors), 0
        self._build()
        self._start_over()

    def _build(self) -> None:
        sizes = self.errors["cluster"].value_counts().sort_index()
        named = [(f"{NONE if number < 0 else f'cluster {number}'} ({n:,})", int(number)) for number, n in sizes.items()]
        self.cluster = widgets.Dropdown(options=[(f"{ALL} ({len(self.errors):,})", ALL), *named], description="Show")
        self.sort = widgets.Dropdown(options=list(self.sorts), description="First the")
        self.buttons = {}
        for name, icon, step in (("back", "arrow-left", -1), ("next", "arrow-right", 1)):
            self.buttons[name] = widgets.Button(description=name.capitalize(), icon=icon)
            self.buttons[name].on_click(lambda _, step=step: self.turn(step))
        self.status, self.table = widgets.HTML(), widgets.HTML()
        self.pictures = widgets.HBox(layout={"flex_flow": "row wrap"})
        for chooser in (self.cluster, self.sort):
            chooser.observe(lambda _: self._start_over(), names="value")
        choices = widgets.HBox([self.cluster, self.sort, *self.buttons.values(), self.status])
        self.box = widgets.VBox([choices, self.pictures, self.table])

    @property
    def page(self) -> pd.DataFrame:
        """The errors on this page; its index counts rows of the whole table."""
        return self.listed.iloc[self.at * ROWS : (self.at + 1) * ROWS]

    @property
    def pages(self) -> int:
        """How many pages the chosen cluster has; one where it is empty."""
        return max(1, -(-len(self.listed) // ROWS))

    def turn(self, pages: int) -> None:
        """Turn some pages forward, or back where negative, to the last or the first one at most."""
        self.at = min(max(0, self.at + pages), self.pages - 1)
        self._show()

    def _start_over(self) -> None:
        number, (column, ascending) = self.cluster.value, self.sorts[self.sort.value]
        chosen = self.errors if number == ALL else self.errors[self.errors["cluster"] == number]
        # Equal values keep the order of the table; missing ones come last.
        self.listed = chosen.sort_values(column, ascending=ascending, kind="stable", na_position="last")
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
