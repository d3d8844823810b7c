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
    (" label score", "most suspicious {} label", True),
    (" confidence", "most confident {}", False),
    (" interval width", "widest {} interval", False),
)


def sorts(errors: pd.DataFrame) -> dict[str, tuple[str, bool]]:
    """By title, the columns that a table of errors can be sorted by, and whether small values come first.

    Examples
    --------
    >>> sorts(pd.DataFrame(columns=["image_id", "age label score", "age error"]))
    {'largest age error': ('age error', False), 'most suspicious age label': ('age label score', True), \
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
        self.errors, self.images, self.sorts = errors.reset_index(drop=True), images, sorts(errors)
        clusters = [(f"{ALL} ({len(errors):,})", ALL)]
        for number, n in errors["cluster"].value_counts().sort_index().items():
            clusters.append((f"{NONE if number < 0 else f'cluster {number}'} ({n:,})", int(number)))
        self.cluster = widgets.Dropdown(options=clusters, description="Show")
        self.sort = widgets.Dropdown(options=list(self.sorts), description="First the")
        self.number = widgets.BoundedIntText(1, min=1, max=1, description="Page", layout={"width": "12em"})
        self.status, self.table = widgets.HTML(), widgets.HTML()
        self.pictures = widgets.HBox(layout={"flex_flow": "row wrap"})
        for chooser, update in ((self.cluster, self._list), (self.sort, self._list), (self.number, self._show)):
            chooser.observe(lambda _, update=update: update(), names="value")
        choices = widgets.HBox([self.cluster, self.sort, self.number, self.status])
        self.box = widgets.VBox([choices, self.pictures, self.table])
        self._list()

    @property
    def page(self) -> pd.DataFrame:
        """The errors on this page; its index counts rows of the whole table."""
        return self.listed.iloc[(self.number.value - 1) * ROWS : self.number.value * ROWS]

    def _list(self) -> None:
        number, (column, ascending) = self.cluster.value, self.sorts[self.sort.value]
        chosen = self.errors if number == ALL else self.errors[self.errors["cluster"] == number]
        # Equal values keep the order of the table; missing ones come last.
        self.listed = chosen.sort_values(column, ascending=ascending, kind="stable", na_position="last")
        self.number.value, self.number.max = 1, max(1, -(-len(chosen) // ROWS))
        self._show()

    def _show(self) -> None:
        self.status.value = f"of {self.number.max:,}"
        self.table.value = self.page.to_html(index=False, border=0, na_rep="", float_format="{:.2f}".format)
        if self.images is not None:
            self.pictures.children = [self._picture(row) for row in self.page.index]

    def _picture(self, row: int) -> widgets.VBox:
        image = widgets.Image(value=as_png(self.images[row], PICTURE_PX), format="png")
        image.layout.width = image.layout.height = f"{PICTURE_PX}px"  # else as wide as the words below it
        return widgets.VBox([image, widgets.Label(self.errors["missed"].iloc[row])])

    def _ipython_display_(self) -> None:
        display(self.box)
