"""Decisions: proposals wait, a person's edits survive, and only they change labels or rows."""

import re

import numpy as np
import pandas as pd
import pytest

from facelib.audit.decisions import (
    COLUMNS,
    agreed_labels,
    apply,
    confirmed,
    merge,
    propose,
    read,
    rows_finding,
    training_labels,
    write,
)
from facelib.audit.duplicates import duplicates_table
from facelib.errors import InvalidDecision
from facelib.schema import UTKFACE_ATTRIBUTES


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
def proposed(faces) -> pd.DataFrame:
    issues = pd.DataFrame(
        {
            "image_id": ["a", "b", "a", "c", "b", "c"],
            "attribute": ["age", "age", "gender", "ethnicity", "gender", "gender"],
            "given": [20.0, 30.0, 0.0, 2.0, 1.0, 0.0],
            "suggested": [61.0, 31.0, 1.0, 4.0, 1.0, 0.0],
            "score": [0.002, 0.9, 0.0001, 0.01, 0.9, 0.8],
            "is_issue": [True, False, True, True, False, False],
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
    return propose(faces, np.arange(4), UTKFACE_ATTRIBUTES, quality, issues)


def decide(*rows) -> pd.DataFrame:
    return pd.DataFrame([(*row, "") for row in rows], columns=COLUMNS)


def edit(table: pd.DataFrame, path, faces, **actions) -> pd.DataFrame:
    """The table as it comes back from a spreadsheet, with the actions of some rows filled in."""
    table = table.copy()
    for row, action in actions.items():
        table.loc[int(row[1:]), "action"] = action
    table.to_csv(path / "decisions.csv", index=False)
    return read(path / "decisions.csv", faces, UTKFACE_ATTRIBUTES)


# --- proposals --------------------------------------------------------------------------------------------


def test_images_doubted_twice_come_first_then_by_suspicion_then_flagged_images(proposed):
    assert list(proposed.columns) == [*COLUMNS, "sort"]
    assert proposed[["image_id", "issue", "action", "value"]].to_numpy().tolist() == [
        ["a", "label:gender", "", "female"],
        ["a", "label:age", "", "61"],
        ["c", "label:ethnicity", "", "Other"],
        ["b", "quality", "", ""],
        ["c", "quality", "", ""],
    ]
    assert proposed["reason"].tolist() == [
        "male given, female predicted (score 0.0001); 2 labels of this image are flagged",
        "20 given, 61 predicted (score 0.0020); 2 labels of this image are flagged",
        "Asian given, Other predicted (score 0.0100)",
        "dark, blurred",
        "blurred",
    ]


def test_a_person_gets_a_few_of_each_sort_and_the_next_ones_when_these_are_decided(tmp_path):
    ids = [str(k) for k in range(9)]
    faces = pd.DataFrame({"image_id": ids, "age": 1.0, "gender": -1, "ethnicity": -1})
    issues = pd.DataFrame(
        {"image_id": ids, "attribute": "age", "given": 1.0, "suggested": 2.0, "score": np.arange(9, 0, -1) / 10,
         "is_issue": True}
    )  # fmt: skip
    quality = pd.DataFrame({"image_id": ids, "is_dark": [True] + [False] * 8, "is_grey": True})
    proposed = propose(faces, np.arange(9), UTKFACE_ATTRIBUTES, quality, issues)
    first, _ = merge(proposed, read(tmp_path / "none.csv", faces, UTKFACE_ATTRIBUTES), limit=2)
    assert first["image_id"].tolist() == ["8", "7", "0"]  # all are grey: nothing to decide one by one
    second, stale = merge(proposed, first.assign(action="keep"), limit=2)
    assert second["image_id"].tolist() == ["8", "7", "0", "6", "5"] and stale.empty
    assert propose(faces, np.arange(9), UTKFACE_ATTRIBUTES, quality)["image_id"].tolist() == ["0"]


def test_contradicting_copies_are_proposed_the_label_that_is_most_plausible(quality_of):
    faces, group_id, issues = contradicting()
    proposed = propose(faces, group_id, UTKFACE_ATTRIBUTES, quality_of(faces), issues)
    assert proposed[["image_id", "issue", "value"]].to_numpy().tolist() == [
        ["c", "label:gender", "male"], ["b", "label:gender", "male"], ["c", "label:age", "30"],
        ["b", "label:age", "0"],  # 9 years from its copy is no contradiction to settle, but it is doubted
    ]  # fmt: skip
    assert proposed["reason"][0] == "labelled female (score 0.1000), and its copy a male"


def test_without_networks_a_person_has_to_look_at_every_contradicting_copy(quality_of):
    faces, group_id, _ = contradicting()
    proposed = propose(faces, group_id, UTKFACE_ATTRIBUTES, quality_of(faces))
    assert sorted(proposed[["image_id", "issue", "value"]].to_numpy().tolist()) == [
        [name, issue, ""] for name in "abc" for issue in ("label:age", "label:gender")
    ]
    assert "labelled male; copies: male (a), female (b), female (c)" in set(proposed["reason"])


def contradicting() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Three copies and a single, with scores of most of their labels."""
    faces = pd.DataFrame(
        {"image_id": list("abcd"), "age": [30.0, 39.0, 55.0, 8.0], "gender": [0, 1, 1, 1], "ethnicity": -1}
    )
    issues = pd.DataFrame(
        [
            ("a", "gender", 0.0, 0.9), ("b", "gender", 1.0, 0.2), ("c", "gender", 1.0, 0.1),
            ("a", "age", 30.0, 0.8), ("b", "age", 39.0, 0.4), ("c", "age", 55.0, 0.3), ("d", "gender", 1.0, 0.05),
        ],
        columns=["image_id", "attribute", "given", "score"],
    ).assign(suggested=0.0, is_issue=lambda t: t["image_id"] == "b")  # fmt: skip
    return faces, np.array([7, 7, 7, 8]), issues


@pytest.fixture
def quality_of():
    return lambda faces: pd.DataFrame({"image_id": faces["image_id"], "is_dark": False})


def test_a_person_judges_the_least_alike_copies_and_parts_them(faces, tmp_path, quality_of):
    pairs = pd.DataFrame({"first": [0, 1, 0], "second": [1, 2, 3], "distance": [0.2, 0.3, 0.0], "mirrored": False})
    pairs["kind"] = ["near", "altered", "exact"]
    copies = duplicates_table(faces, np.zeros(4, int), pairs)
    proposed = propose(faces, np.arange(4), (), quality_of(faces), copies=copies)
    assert proposed[["image_id", "issue", "reason", "sort"]].to_numpy().tolist() == [
        ["c", "copy", "altered copy of b, distance 0.30", "pairs"],
        ["b", "copy", "near copy of a, distance 0.20", "pairs"],
    ]
    decided = edit(proposed, tmp_path, faces, r0="keep")
    assert confirmed(pairs, faces, decided)[["first", "second"]].to_numpy().tolist() == [[0, 1], [0, 3]]
    everything = decide(("a", "copy", "keep", ""), ("b", "quality", "keep", ""))
    assert confirmed(pairs, faces, everything)[["first", "second"]].to_numpy().tolist() == [[1, 2], [0, 3]]
    assert len(confirmed(pairs, faces, proposed)) == 3


def test_proposals_change_nothing_until_someone_decides(faces, proposed):
    changed, used = apply(faces, proposed, UTKFACE_ATTRIBUTES)
    pd.testing.assert_frame_equal(changed, faces)
    assert used.all()


# --- a person's decisions ---------------------------------------------------------------------------------


def test_edits_survive_a_merge_with_new_proposals(faces, proposed, tmp_path):
    edited = edit(proposed, tmp_path, faces, r0="keep", r1="Relabel ", r4="DROP")
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
    again, _ = merge(fresh, edit(merged, tmp_path, faces))
    pd.testing.assert_frame_equal(again, merged)


def test_a_decision_that_nothing_asks_for_any_more_is_reported_and_stays_in_force(faces, proposed, tmp_path):
    edited = edit(proposed, tmp_path, faces, r0="keep", r1="relabel")
    merged, stale = merge(proposed.iloc[[0, 2]], edited)
    assert stale[["image_id", "issue"]].to_numpy().tolist() == [["a", "label:age"]]
    assert apply(faces, merged, UTKFACE_ATTRIBUTES)[0]["age"].iloc[0] == 61


def test_without_edits_the_proposals_stand_alone(faces, proposed, tmp_path):
    for edited in (read(tmp_path / "none.csv", faces, UTKFACE_ATTRIBUTES), edit(proposed, tmp_path, faces)):
        merged, stale = merge(proposed, edited)
        assert merged.to_numpy().tolist() == proposed[COLUMNS].to_numpy().tolist() and stale.empty
    merged, stale = merge(proposed.iloc[:0], edit(proposed, tmp_path, faces, r3="drop"))
    assert len(merged) == len(stale) == 1
    finding = rows_finding(merged, stale)
    assert finding.key == "decisions.rows" and finding.estimate.value == 1 and "1 decided" in finding.text
    assert list(merged.columns) == COLUMNS


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b,quality,delete,,", "has action 'delete': allowed are keep, drop, relabel, or nothing"),
        ("gone,quality,drop,,", "decides about 'gone', which is not among the faces"),
        ("b,quality,relabel,female,", "relabels for quality: name the label"),
        ("b,label:hair,drop,,", "has issue 'label:hair': allowed are label:age"),
        ("b,label:gender,relabel,2,", "gender '2' is none of 0 male, 1 female"),
        ("b,label:ethnicity,relabel,1.5,", "ethnicity '1.5' is none of 0 White"),
        ("b,label:age,relabel,117,", "age 117 is outside 0-116 years"),
        ("b,label:age,relabel,-3,", "age -3 is outside"),
        ("b,label:age,relabel,old,", "age 'old' is not a number"),
        ("b,label:age,relabel,,", "relabels age and gives no value"),
        ("a,quality,drop,,", "decides again about 'a' and quality"),
    ],
)
def test_a_line_that_cannot_be_carried_out_is_refused_with_its_number(faces, tmp_path, line, reason):
    path = tmp_path / "decisions.csv"
    path.write_text(
        'image_id,issue,action,value,reason\na,quality,keep,,"two\nlines"\nzz,quality,,,a proposal\n' + line
    )
    with pytest.raises(InvalidDecision, match=rf"^line 5 of .*decisions\.csv {re.escape(reason)}"):
        read(path, faces, UTKFACE_ATTRIBUTES)


def test_what_is_no_table_of_decisions_is_refused(faces, tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_text("image_id,action\n")
    with pytest.raises(InvalidDecision, match="has no column issue"):
        read(path, faces, UTKFACE_ATTRIBUTES)
    path.write_bytes("image_id,issue,action\nmüller,quality,\n".encode("latin-1"))
    with pytest.raises(InvalidDecision, match="is not UTF-8 text"):
        read(path, faces, UTKFACE_ATTRIBUTES)


def test_a_spreadsheets_byte_order_mark_and_order_of_columns_do_no_harm(faces, tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_text("\ufeffaction,image_id,issue\nkeep,a,quality\n", encoding="utf-8")
    assert read(path, faces, UTKFACE_ATTRIBUTES).to_numpy().tolist() == [["a", "quality", "keep", "", ""]]


def test_decisions_relabel_and_drop_and_leave_the_table_given_alone(faces):
    faces = faces.set_axis(list("wxyz"), axis="index")
    before = faces.copy()
    decisions = decide(
        ("a", "label:age", "relabel", "61"),
        ("c", "label:gender", "relabel", "Female"),
        ("d", "label:ethnicity", "relabel", "-1"),
        ("b", "label:age", "relabel", "unknown"),
        ("b", "quality", "drop", ""),
        ("c", "quality", "keep", ""),
        ("c", "label:age", "", "99"),
    )
    changed, used = apply(faces, decisions, UTKFACE_ATTRIBUTES)
    assert used.tolist() == [True, False, True, True]
    assert changed["age"].fillna(-9).tolist() == [61, -9, -9, 50]
    assert changed["gender"].tolist() == [0, 1, 1, -1] and changed["ethnicity"].tolist() == [0, 1, 2, -1]
    pd.testing.assert_frame_equal(faces, before)


def test_what_is_written_is_read_back(faces, proposed, tmp_path):
    awkward = proposed[COLUMNS].assign(reason='comma, "quote"').astype(object)
    write(awkward, tmp_path / "decisions.csv")
    pd.testing.assert_frame_equal(read(tmp_path / "decisions.csv", faces, UTKFACE_ATTRIBUTES), awkward)


# --- labels to train on -----------------------------------------------------------------------------------


def test_copies_agree_or_get_the_median_age_and_unknown_classes():
    faces = pd.DataFrame(
        {
            "age": [20.0, 26.0, 50.0, 30.0, np.nan, 7.0],
            "gender": [0, 0, 0, 1, 0, 1],
            "ethnicity": [1, 1, 2, 3, 3, 4],
        },
        index=[3, 1, 4, 15, 9, 2],
    )
    labels = agreed_labels(faces, np.array([5, 5, 5, 8, 8, 0]), UTKFACE_ATTRIBUTES)
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
            "representative": [True, False, True, False, True, True],
        }
    )
    decided = pd.DataFrame(
        {"image_id": ["e", "f", "c"], "issue": ["label:age", "quality", "label:age"], "value": ["65", "", "41"],
         "action": ["relabel", "drop", "relabel"], "reason": ""}
    )  # fmt: skip
    labels, used = training_labels(faces, splits, decided, UTKFACE_ATTRIBUTES)
    assert labels["age"].tolist() == [25, 25, 40, 50, 65, 70]
    assert labels["gender"].tolist() == [-1, -1, 1, 0, 1, 0]
    assert used.tolist() == [True, False, True, False, True, True]


def test_a_dropped_copy_has_no_vote_and_another_one_represents_the_group():
    faces = pd.DataFrame(
        {"image_id": list("abc"), "age": [20.0, 60.0, 22.0], "gender": [0, 1, 0], "ethnicity": [1, 1, 1]}
    )
    splits = pd.DataFrame({"split": "train", "group_id": 0, "representative": [False, True, False]}, index=range(3))
    labels, used = training_labels(faces, splits, decide(("b", "quality", "drop", "")), UTKFACE_ATTRIBUTES)
    assert used.tolist() == [True, False, False]
    assert labels.loc[0].tolist() == [21, 0, 1]
    everything = decide(*[(name, "quality", "drop", "") for name in "abc"])
    assert not training_labels(faces, splits, everything, UTKFACE_ATTRIBUTES)[1].any()
