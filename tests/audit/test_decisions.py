"""Decisions: proposals wait, a person's edits survive, and only they change labels or rows."""

import numpy as np
import pandas as pd
import pytest

from facelib.audit.decisions import COLUMNS, agreed_labels, apply, merge, propose, training_labels
from facelib.errors import InvalidDecision


@pytest.fixture
def faces() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": list("abcd"),
            "age": [20.0, 30.0, np.nan, 50.0],
            "gender": np.array([0, 1, 0, -1], "int8"),
            "ethnicity": np.array([0, 1, 2, 3], "int8"),
        }
    )


@pytest.fixture
def proposed() -> pd.DataFrame:
    issues = pd.DataFrame(
        {
            "image_id": ["a", "b", "a", "c"],
            "attribute": ["age", "age", "gender", "ethnicity"],
            "given": [20.0, 30.0, 0.0, 2.0],
            "suggested": [61.0, 31.0, 1.0, 4.0],
            "score": [0.002, 0.9, 0.0001, 0.01],
            "is_issue": [True, False, True, True],
        }
    )
    quality = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "dark": 0.5,
            "is_dark": [False, True, False, False],
            "is_blur": [False, True, True, False],
        }
    )
    return propose(issues, quality)


def decide(*rows) -> pd.DataFrame:
    return pd.DataFrame([(*row, "") for row in rows], columns=COLUMNS)


def edit(table: pd.DataFrame, path, **actions) -> pd.DataFrame:
    """The table as it comes back from a spreadsheet, with the actions of some rows filled in."""
    table = table.copy()
    for row, action in actions.items():
        table.loc[int(row[1:]), "action"] = action
    table.to_csv(path / "decisions.csv", index=False)
    return pd.read_csv(path / "decisions.csv")


def test_flagged_labels_come_first_by_suspicion_then_flagged_images(proposed):
    assert list(proposed.columns) == COLUMNS
    assert proposed[["image_id", "issue", "action", "value"]].to_numpy().tolist() == [
        ["a", "label:gender", "", "1"],
        ["a", "label:age", "", "61"],
        ["c", "label:ethnicity", "", "4"],
        ["b", "quality", "", ""],
        ["c", "quality", "", ""],
    ]
    assert proposed["reason"].tolist() == [
        "gender 0 given, 1 predicted, score 0.0001",
        "age 20 given, 61 predicted, score 0.0020",
        "ethnicity 2 given, 4 predicted, score 0.0100",
        "dark, blur",
        "blur",
    ]


def test_no_more_labels_are_proposed_than_a_person_can_look_at():
    issues = pd.DataFrame(
        {"image_id": [str(k) for k in range(9)], "attribute": "age", "given": 1.0, "suggested": 2.0,
         "score": np.arange(9, 0, -1) / 10, "is_issue": True}
    )  # fmt: skip
    quality = pd.DataFrame({"image_id": list("012"), "is_dark": [True, False, False], "is_grey": True})
    assert propose(issues, quality, limit=2)["image_id"].tolist() == ["8", "7", "0"]


def test_proposals_change_nothing_until_someone_decides(faces, proposed):
    changed, used = apply(faces, proposed)
    pd.testing.assert_frame_equal(changed, faces)
    assert used.all()


def test_edits_survive_a_merge_with_new_proposals(proposed, tmp_path):
    edited = edit(proposed, tmp_path, r0="keep", r1="relabel", r4="drop")
    fresh = proposed.assign(reason="new")
    merged, stale = merge(fresh, edited)
    assert len(merged) == 5 and stale.empty
    by_key = merged.set_index(["image_id", "issue"])
    assert by_key["action"].to_dict() == {
        ("a", "label:gender"): "keep", ("a", "label:age"): "relabel", ("c", "quality"): "drop",
        ("c", "label:ethnicity"): "", ("b", "quality"): "",
    }  # fmt: skip
    assert float(by_key.loc[("a", "label:age"), "value"]) == 61
    assert by_key.loc[("c", "label:ethnicity"), "reason"] == "new"
    again, _ = merge(fresh, edit(merged, tmp_path))
    assert again[["image_id", "issue", "action"]].equals(merged[["image_id", "issue", "action"]])


def test_a_decision_that_nothing_asks_for_any_more_is_reported_and_stays_in_force(faces, proposed, tmp_path):
    edited = edit(proposed, tmp_path, r0="keep", r1="relabel")
    merged, stale = merge(proposed.iloc[[0, 2]], edited)
    assert stale[["image_id", "issue"]].to_numpy().tolist() == [["a", "label:age"]]
    assert apply(faces, merged)[0]["age"].iloc[0] == 61


def test_without_edits_the_proposals_stand_alone(proposed, tmp_path):
    for edited in (None, edit(proposed, tmp_path)):
        merged, stale = merge(proposed, edited)
        assert merged.to_numpy().tolist() == proposed.to_numpy().tolist() and stale.empty
    merged, stale = merge(proposed.iloc[:0], edit(proposed, tmp_path, r3="drop"))
    assert len(merged) == len(stale) == 1


def test_an_action_that_is_none_is_refused(proposed, tmp_path):
    with pytest.raises(InvalidDecision, match="'Drop' for b: allowed are keep, drop, relabel"):
        merge(proposed, edit(proposed, tmp_path, r3="Drop"))


def test_decisions_relabel_and_drop_and_leave_the_table_given_alone(faces):
    faces = faces.set_axis(list("wxyz"), axis="index")
    before = faces.copy()
    decisions = decide(
        ("a", "label:age", "relabel", "61"),
        ("c", "label:gender", "relabel", 1.0),
        ("d", "label:ethnicity", "relabel", "-1"),
        ("b", "quality", "drop", ""),
        ("c", "quality", "keep", ""),
        ("c", "label:age", "", "99"),
        ("gone", "quality", "drop", ""),
    )
    changed, used = apply(faces, decisions)
    assert used.tolist() == [True, False, True, True]
    assert changed["age"].fillna(-9).tolist() == [61, 30, -9, 50]
    assert changed["gender"].tolist() == [0, 1, 1, -1] and changed["ethnicity"].tolist() == [0, 1, 2, -1]
    pd.testing.assert_frame_equal(faces, before)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("gender", "female"), ("gender", "2"), ("ethnicity", "5"), ("ethnicity", "1.5"), ("age", "117"), ("age", "-1"),
     ("age", ""), ("age", np.nan)],
)  # fmt: skip
def test_a_label_cannot_become_what_it_cannot_be(faces, attribute, value):
    with pytest.raises(InvalidDecision, match=f"relabels {attribute} of a to .*allowed are"):
        apply(faces, decide(("a", f"label:{attribute}", "relabel", value)))


def test_copies_agree_or_get_the_median_age_and_unknown_classes():
    faces = pd.DataFrame(
        {
            "age": [20.0, 26.0, 50.0, 30.0, np.nan, 7.0],
            "gender": [0, 0, 0, 1, 0, 1],
            "ethnicity": [1, 1, 2, 3, 3, 4],
        },
        index=[3, 1, 4, 15, 9, 2],
    )
    labels = agreed_labels(faces, np.array([5, 5, 5, 8, 8, 0]))
    assert labels.index.tolist() == [3, 1, 4, 15, 9, 2]
    assert labels.to_numpy().tolist() == [
        [26, 0, -1], [26, 0, -1], [26, 0, -1],  # 20, 26 and 50 years; one ethnicity of three differs
        [30, -1, 3], [30, -1, 3],
        [7, 1, 4],
    ]  # fmt: skip


def test_decisions_change_the_training_split_alone():
    faces = pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "age": [20.0, 30.0, 40.0, 50.0, 60.0, 70.0],
            "gender": [0, 1, 1, 0, 1, 0],
            "ethnicity": [0, 0, 1, 1, 2, 3],
        }
    )
    splits = pd.DataFrame(
        {
            "split": ["train", "train", "test", "test", "train", "calibration"],
            "group_id": [0, 0, 1, 1, 2, 3],
            "kept": [True, False, True, False, True, True],
        }
    )
    decided = pd.DataFrame(
        {"image_id": ["e", "f", "c"], "issue": ["label:age", "quality", "label:age"], "value": ["65", "", "41"],
         "action": ["relabel", "drop", "relabel"], "reason": ""}
    )  # fmt: skip
    labels, used = training_labels(faces, splits, decided)
    assert labels["age"].tolist() == [25, 25, 40, 50, 65, 70]
    assert labels["gender"].tolist() == [-1, -1, 1, 0, 1, 0]
    assert used.tolist() == [True, False, True, False, True, True]
