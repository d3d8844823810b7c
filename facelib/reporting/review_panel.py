"""A panel for JupyterLab that goes through the proposals of decisions.csv: keep, drop, relabel, undo.

Every click is written to the file at once, so nothing is lost when the notebook closes. The file is read again before
each click, so edits made meanwhile persist.
"""

import html
import io
from collections.abc import Iterable
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.display import display
from PIL import Image

from facelib.audit import decisions
from facelib.data.pixels import FaceImages
from facelib.errors import InvalidDecision
from facelib.schema import Attribute

PICTURE_PX = 240  # edge of the shown picture


class ReviewPanel:
    """Goes through the undecided proposals of a decisions file.

    Parameters
    ----------
    path : Path
        decisions.csv.
    faces : DataFrame
        The faces table.
    attributes : iterable of Attribute
        Whose labels the proposals are about.
    images : FaceImages, optional
        By row of `faces`; without them only labels and reasons are shown.
    """

    def __init__(
        self, path: Path, faces: pd.DataFrame, attributes: Iterable[Attribute], images: FaceImages | None = None
    ):
        self.path, self.faces, self.images = Path(path), faces, images
        self.attributes = decisions.by_issue(attributes)
        self.row_of = pd.Series(range(len(faces)), index=faces["image_id"])
        table = decisions.read(self.path, faces, self.attributes.values())
        waiting = table[table["action"] == ""]
        self.proposals = {(row.image_id, row.issue): row for row in waiting.itertuples(index=False)}
        self.queue = list(self.proposals)
        self.at = 0
        self.done: list[int] = []  # places of the queue decided here, for undo
        self._build()
        self._show()

    def _build(self) -> None:
        self.picture = widgets.Image(format="png", width=PICTURE_PX, height=PICTURE_PX)
        self.picture.layout.display = "none" if self.images is None else ""
        self.text, self.status = widgets.HTML(), widgets.HTML()
        self.bar = widgets.IntProgress(min=0, max=max(1, len(self.queue)), layout={"width": "100%"})
        self.value = widgets.Combobox(placeholder="new label", ensure_option=False, layout={"width": "12em"})
        looks = {"keep": "success", "drop": "danger", "relabel": "primary", "skip": "", "undo": ""}
        self.buttons = {
            name: widgets.Button(description=name.capitalize(), button_style=look) for name, look in looks.items()
        }
        for action in decisions.ACTIONS:
            self.buttons[action].on_click(lambda _, action=action: self.decide(action))
        self.buttons["skip"].on_click(lambda _: self._move(self.at + 1))
        self.buttons["undo"].on_click(lambda _: self.undo())
        buttons = list(self.buttons.values())
        row = widgets.HBox([*buttons[:3], self.value, *buttons[3:]])
        side = widgets.VBox([self.text, row, self.status])
        self.box = widgets.VBox([self.bar, widgets.HBox([self.picture, side])])

    @property
    def current(self) -> tuple[str, str] | None:
        """image_id and issue of the proposal that is shown; None after the last one."""
        return self.queue[self.at] if self.at < len(self.queue) else None

    def decide(self, action: str) -> None:
        """Write a decision about the proposal that is shown, and go on to the next one."""
        if self.current is None:
            return
        value = self.value.value if action == "relabel" else ""
        if self._write(self.current, action, value):
            self.done.append(self.at)
            self._move(self.at + 1)

    def undo(self) -> None:
        """Take the last decision of this panel back and show its proposal again."""
        if self.done and self._write(self.queue[self.done[-1]], "", ""):
            self._move(self.done.pop())

    def _write(self, key: tuple[str, str], action: str, value: str) -> bool:
        """Change one line of the file as it is now; False, with the reason shown, where that is refused."""
        try:
            if action == "relabel":
                if key[1] not in self.attributes:
                    raise ValueError(f"{key[1]} has no label to change")
                decisions.new_label(self.attributes[key[1]], value)
            table = decisions.read(self.path, self.faces, self.attributes.values())
        except (ValueError, InvalidDecision) as error:
            self.status.value = f"<b>Not written:</b> {html.escape(str(error))}"
            return False
        rest = table[(table["image_id"] != key[0]) | (table["issue"] != key[1])]
        proposal = self.proposals[key]
        changed = pd.DataFrame([{**proposal._asdict(), "action": action, "value": value or proposal.value}])
        table = pd.concat([changed, rest] if action else [rest, changed], ignore_index=True)
        decisions.write(table, self.path)
        return True

    def _move(self, to: int) -> None:
        self.at = min(to, len(self.queue))
        self._show()

    def _show(self) -> None:
        self.bar.value = self.at
        self.buttons["undo"].disabled = not self.done
        for name in (*decisions.ACTIONS, "skip"):
            self.buttons[name].disabled = self.current is None
        self.status.value = f"{self.at:,} of {len(self.queue):,} proposals; {len(self.done):,} decided here"
        if self.current is None:
            self.text.value, self.picture.value = "<b>No proposal is left.</b>", b""
            return
        image_id, issue = self.current
        row = self.row_of[image_id]
        attribute = self.attributes.get(issue)
        self.buttons["relabel"].disabled = attribute is None
        self.value.options = () if attribute is None else (*getattr(attribute, "classes", ()), "unknown")
        proposal = self.proposals[self.current]
        self.value.value = proposal.value
        labels = ", ".join(f"{a.name} {a.label_names(self.faces.iloc[[row]])[0]}" for a in self.attributes.values())
        issue, *lines = (html.escape(text) for text in (issue, image_id, labels, proposal.reason))
        self.text.value = f"{lines[0]}<br>{lines[1]}<br><b>{issue}</b>: {lines[2]}"
        if self.images is not None:
            self.picture.value = as_png(self.images[row], PICTURE_PX)

    def _ipython_display_(self) -> None:
        display(self.box)


def as_png(image: np.ndarray, px: int) -> bytes:
    """A uint8 image (h, w, 3) as the bytes of a PNG of px by px, for a widget."""
    buffer = io.BytesIO()
    Image.fromarray(image).resize((px, px), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
