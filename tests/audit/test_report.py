"""The audit as one table: each number is there with its interval, and people can read it."""

import numpy as np
import pandas as pd
import pytest

from facelib.audit.contradictions import contradictions, label_noise
from facelib.audit.report import headline, readable, summarise
from facelib.schema import UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap, Estimate


@pytest.fixture(scope="module")
def summary() -> pd.DataFrame:
    faces = pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "sha256": list("112345"),
            "age": [20.0, 30.0, 40.0, 50.0, 60.0, 70.0],
            "gender": [0, 1, 1, 1, 0, 0],
            "ethnicity": 2,
        }
    )
    group_id = np.array([0, 0, 1, 1, 2, 3])
    issues = pd.DataFrame({"attribute": ["age"] * 6, "is_issue": [True] + [False] * 5})
    scored = pd.DataFrame({"dark": 0.5, "is_dark": [True, True, False, False, False, False], "is_face": False})
    return summarise(
        faces,
        pd.DataFrame({"item": ["x.txt"], "reason": ["is not an image"]}),
        group_id,
        contradictions(faces, group_id, UTKFACE_ATTRIBUTES),
        label_noise(faces, group_id, UTKFACE_ATTRIBUTES, Bootstrap(20)),
        scored,
        issues,
        (1, 2, 4),
        pd.DataFrame({"person_id": [0, 0, 3, 3, 3]}),
    )


def test_every_topic_is_summed_up(summary):
    value = summary.set_index("measure")["value"]
    assert value["images used"] == 6 and value["files or rows rejected"] == 1
    assert value["groups of byte-identical images"] == 1 and value["groups of copies, near ones included"] == 2
    assert value["images that repeat another one"] == 2 / 6
    assert value["test images with a copy in training"] == 1 / 4
    assert value["test images with only another photograph of the person"] == 2 / 4
    assert value["recognised on several images, copies included"] == 2 and value["images of such persons"] == 5 / 6
    assert value["groups of copies with labels that differ"] == 1
    assert value["age: difference of two labels"] == 10 and value["gender: two labels disagree"] == 0.5
    assert value["age labels doubted"] == 1 / 6
    assert value["flagged: dark"] == 2 / 6 and value["flagged: no face found"] == 0
    assert (summary["low"] <= summary["value"]).all() and (summary["value"] <= summary["high"]).all()


def test_people_read_percentages_years_and_counts(summary):
    text = readable(summary).set_index("measure")["value (95 %)"]
    assert text["images used"] == "6"
    assert text["test images with a copy in training"] == "25.0 % (4.6 to 69.9)"
    assert text["age: difference of two labels"] == "10 y"  # both pairs are ten years apart
    assert text["flagged: no face found"] == "0.0 % (0.0 to 39.0)"


def test_what_was_not_asked_for_is_left_out():
    faces = pd.DataFrame({"image_id": ["a"], "sha256": ["1"], "age": [np.nan], "gender": [-1], "ethnicity": [-1]})
    alone = np.array([0])
    noise = label_noise(faces, alone, UTKFACE_ATTRIBUTES, Bootstrap(20))
    conflicts = contradictions(faces, alone, UTKFACE_ATTRIBUTES)
    table = summarise(faces, pd.DataFrame(), alone, conflicts, noise, pd.DataFrame())
    assert table["topic"].tolist() == ["data", "data", "copies", "copies", "copies"]
    assert readable(table)["value (95 %)"].iloc[0] == "1"


def test_the_headline_holds_copies_flags_and_the_split():
    faces = pd.DataFrame({"image_id": list("abc"), "sha256": list("112"), "age": [1.0, 2.0, 3.0]})
    group_id, pairs = np.array([0, 0, 1]), pd.DataFrame({"first": [0], "kind": ["near"]})
    splits = pd.DataFrame({"split": ["train", "test", "test"], "group_id": group_id, "person_id": 0})
    conflicts = pd.DataFrame({"contradicts": [True]})
    issues = pd.DataFrame({"attribute": "age", "is_issue": [True, True, False]})
    measured = headline(faces, pairs, group_id, conflicts, splits, issues, {"age.auroc": Estimate(0.9, 0.8, 1, 3)})
    assert {key: estimate.value for key, estimate in measured.items()} == {
        "audit.duplicates.exact_groups": 1, "audit.duplicates.near_groups": 1,
        "audit.duplicates.altered_groups": 0, "audit.contradicting_groups": 1,
        "audit.label_issues.age": 2, "audit.planted.age.auroc": 0.9, "splits.leaking_pairs": 1,
        "splits.leaking_pairs_within_training": 0, "splits.copied_test_images": 0.5,
        "splits.recognised_test_images": 1,
    }  # fmt: skip
