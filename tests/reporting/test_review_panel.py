"""The review panel: each click is in the file at once, undo takes it back, mistakes are said and not written."""

import numpy as np
import pandas as pd
import pytest

from facelib.audit import decisions
from facelib.data.pixels import FaceImages
from facelib.reporting.review_panel import ReviewPanel
from facelib.schema import UTKFACE_ATTRIBUTES


@pytest.fixture
def faces() -> pd.DataFrame:
    return pd.DataFrame(
        {"image_id": ["a", "b<i>", "c"], "age": [20.0, 30.0, 40.0], "gender": [0, 1, 0], "ethnicity": 2}
    )


@pytest.fixture
def path(tmp_path):
    rows = [
        ("c", "quality", "keep", "", "dark"),
        ("a", "label:gender", "", "female", "male given, female predicted"),
        ("b<i>", "quality", "", "", "blur"),
        ("b<i>", "label:age", "", "61", "30 given, 61 predicted"),
    ]
    decisions.write(pd.DataFrame(rows, columns=decisions.COLUMNS), tmp_path / "decisions.csv")
    return tmp_path / "decisions.csv"


def actions(path, faces) -> dict:
    table = decisions.read(path, faces, UTKFACE_ATTRIBUTES)
    return {(row.image_id, row.issue): (row.action, row.value) for row in table.itertuples()}


def click(panel: ReviewPanel, name: str) -> None:
    panel.buttons[name].click()


def test_only_undecided_proposals_are_shown_in_the_files_order(path, faces):
    panel = ReviewPanel(path, faces, UTKFACE_ATTRIBUTES)
    assert panel.queue == [("a", "label:gender"), ("b<i>", "quality"), ("b<i>", "label:age")]
    assert panel.current == ("a", "label:gender") and panel.value.value == "female"
    assert "male given, female predicted" in panel.text.value and "Asian" in panel.text.value


def test_each_click_is_in_the_file_at_once(path, faces):
    panel = ReviewPanel(path, faces, UTKFACE_ATTRIBUTES)
    click(panel, "relabel")
    assert actions(path, faces)["a", "label:gender"] == ("relabel", "female")
    click(panel, "drop")
    assert actions(path, faces)["b<i>", "quality"] == ("drop", "")
    panel.value.value = "33"
    click(panel, "relabel")
    assert actions(path, faces) == {
        ("c", "quality"): ("keep", ""), ("a", "label:gender"): ("relabel", "female"),
        ("b<i>", "quality"): ("drop", ""), ("b<i>", "label:age"): ("relabel", "33"),
    }  # fmt: skip
    assert panel.current is None and "No proposal is left" in panel.text.value
    assert all(panel.buttons[name].disabled for name in ("keep", "drop", "relabel", "skip"))
    assert (
        ReviewPanel(path, faces, UTKFACE_ATTRIBUTES).current is None
    )  # a panel opened anew goes on where this one stopped


def test_undo_makes_a_proposal_of_the_last_decision_again(path, faces):
    before = actions(path, faces)
    panel = ReviewPanel(path, faces, UTKFACE_ATTRIBUTES)
    assert panel.buttons["undo"].disabled
    click(panel, "keep")
    click(panel, "skip")
    panel.value.value = "50"
    click(panel, "relabel")
    click(panel, "undo")
    assert panel.current == ("b<i>", "label:age") and panel.value.value == "61"
    click(panel, "undo")
    assert panel.current == ("a", "label:gender") and panel.buttons["undo"].disabled
    assert actions(path, faces) == before


def test_a_label_that_cannot_be_is_said_and_not_written(path, faces):
    panel = ReviewPanel(path, faces, UTKFACE_ATTRIBUTES)
    for wrong in ("old", ""):
        panel.value.value = wrong
        click(panel, "relabel")
        assert panel.current == ("a", "label:gender") and "Not written" in panel.status.value
    assert actions(path, faces)["a", "label:gender"] == ("", "female")
    click(panel, "skip")
    assert panel.buttons["relabel"].disabled  # the quality of an image has no label to change
    panel.decide("relabel")
    assert "Not written" in panel.status.value and actions(path, faces)["b<i>", "quality"] == ("", "")


def test_edits_by_hand_in_between_are_kept(path, faces):
    panel = ReviewPanel(path, faces, UTKFACE_ATTRIBUTES)
    table = decisions.read(path, faces, UTKFACE_ATTRIBUTES)
    table.loc[table["issue"] == "label:age", ["action", "value"]] = ["relabel", "31"]
    decisions.write(table, path)
    click(panel, "keep")
    assert actions(path, faces)["b<i>", "label:age"] == ("relabel", "31")
    path.write_text(path.read_text().replace("relabel", "rename"))
    click(panel, "keep")
    assert "has action &#x27;rename&#x27;" in panel.status.value and panel.current == ("b<i>", "quality")


def test_names_are_shown_as_text_and_pictures_only_where_given(path, faces):
    plain = ReviewPanel(path, faces, UTKFACE_ATTRIBUTES)
    click(plain, "keep")
    assert "b&lt;i&gt;" in plain.text.value and "<i>" not in plain.text.value
    assert plain.picture.layout.display == "none" and plain.picture.value == b""
    images = FaceImages(np.full((3, 8, 8, 3), 90, np.uint8), np.arange(3))
    assert bytes(ReviewPanel(path, faces, UTKFACE_ATTRIBUTES, images).picture.value).startswith(b"\x89PNG")


def test_without_proposals_there_is_nothing_to_do(tmp_path, faces):
    panel = ReviewPanel(tmp_path / "none.csv", faces, UTKFACE_ATTRIBUTES)
    assert panel.current is None
    click(panel, "keep")
    click(panel, "undo")
    assert not (tmp_path / "none.csv").exists()
