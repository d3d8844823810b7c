"""The explorer's data: a point for each held-out face, groups with intervals, faces only where they may be shown."""

import json

import numpy as np
import pandas as pd
import pytest

from facelib.reporting import explorer
from facelib.schema import AGE_BANDS, UTKFACE_ATTRIBUTES


@pytest.fixture
def frame(monkeypatch, filled) -> pd.DataFrame:
    """Three held-out faces; the tables of the run say which split they are of, which is blurred, and a cluster."""
    ids = ["a</script>", "b", "c"]
    frame = pd.DataFrame({"image_id": ids, "age": [30.0, 4.0, np.nan], "age_pred": [37.4, 5.0, 9.0]})
    frame = frame.assign(age_low=[20.0, np.nan, 1.0], age_high=[50.0, np.nan, 20.0], group_id=[0, 1, 2])
    frame = frame.assign(age_band=pd.Categorical(["30-45", "0-4", None], AGE_BANDS, ordered=True))
    for attribute in UTKFACE_ATTRIBUTES[1:]:
        frame[attribute.name], frame[attribute.prediction] = [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]
        frame[attribute.group_column] = attribute.groups(frame[attribute.name])
        frame = frame.assign(**dict.fromkeys(attribute.columns, 0.1) | {attribute.columns[0]: 0.876})
    monkeypatch.setattr(explorer, "run_frame", lambda run, splits, stages: frame)
    filled.save_table(frame[["image_id"]].assign(split=["test", "validation", "test"]), "splits")
    filled.save_table(frame[["image_id"]], "predictions")
    filled.save_table(frame[["image_id"]].assign(is_blur=[False, True, False]), "quality")
    filled.save_table(pd.DataFrame({"image_id": ["b"], "cluster": [2]}), "error_clusters")
    return frame


def factor(points: dict, title: str) -> list[str | None]:
    (found,) = (factor for factor in points["factors"] if factor["title"] == title)
    return [None if code < 0 else found["names"][code] for code in found["codes"]]


def test_a_point_has_labels_prediction_interval_and_what_it_can_be_filtered_by(frame, filled):
    filled.update_params(data={"path": "/photographs"})
    points = explorer.explorer(filled)["points"]
    assert points["x"] == [30, 4] and points["y"] == [37, 5] and points["low"] == [20, None]
    assert points["image"] == ["a</script>", "b"] and "faces" not in points
    assert factor(points, "Split") == ["test", "validation"] and factor(points, "Quality") == ["no flag", "blurred"]
    assert factor(points, "Error cluster") == [None, "cluster 2"]
    assert factor(points, "Gender") == ["male", "female"] and factor(points, "Gender predicted") == [
        "as labelled",
        "otherwise",
    ]
    gender = points["classes"][0]
    assert (gender["label"], gender["predicted"], gender["p"]) == ([0, 1], [0, 0], [0.88, 0.88])


def test_names_cannot_end_the_element_that_holds_the_data(frame, filled):
    filled.update_params(data={"path": "/photographs"})
    text = explorer.as_json(explorer.explorer(filled))
    assert "<" not in text and json.loads(text)["points"]["image"][0] == "a</script>"


def test_groups_have_their_intervals_and_counts(filled):
    groups = explorer.explorer(filled)["groups"]
    assert [table["title"] for table in groups["tables"]] == ["Age", "Age and gender"]
    assert groups["tables"][1]["names"][:2] == ["0-4, male", "0-4, female"] and groups["tables"][0]["n"] == [40, 40]
    assert groups["tables"][0]["values"]["age_mae"][0] == [0.6, 0.5, 0.7]
    assert {row["key"]: row["percent"] for row in groups["metrics"]}["age_mae"] is False


@pytest.mark.parametrize("show_faces", [False, True])
def test_real_faces_are_in_the_page_only_where_asked_for(frame, filled, monkeypatch, show_faces):
    filled.update_params(data={"path": "/photographs"})
    filled.save_table(frame[["image_id"]], "faces")
    monkeypatch.setattr(explorer, "load_images", lambda run, faces: np.zeros((3, 8, 8, 3), np.uint8))
    points = explorer.explorer(filled, show_faces)["points"]
    assert ("faces" in points) == show_faces
    if show_faces:
        assert points["faces"]["places"] == [0, 1] and points["faces"]["sheet"].startswith("data:image/jpeg;base64,")


def test_a_run_without_numbers_has_no_explorer(begun):
    assert explorer.explorer(begun) == {}
