"""Splits: groups whole, shares and strata in proportion, repeatable, blind to labels where they must be."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from facelib import schema
from facelib.data.splits import (
    fold_of_groups,
    leaking_pairs,
    random_split_pairs,
    representatives,
    shared_with_training,
    split_faces,
    split_findings,
    split_like,
    split_listed,
    stratum,
)
from facelib.errors import UnknownSetting
from facelib.schema import AGE, UTKFACE_ATTRIBUTES, ClassAttribute


def make_faces(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """A faces table with some labels missing, and groups of one to three rows in no order."""
    rng = np.random.default_rng(seed)
    faces = pd.DataFrame(
        {
            "image_id": [f"face_{k:05d}.jpg" for k in range(n)],
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 100, n)),
            "gender": rng.integers(-1, 2, n),
            "ethnicity": rng.integers(0, 5, n),
            "width": 200,
            "height": rng.choice([100, 200], n),
        }
    )
    return faces, rng.integers(0, n // 2, n)


def test_a_stratum_is_band_gender_and_ethnicity_and_knows_missing_ages():
    faces = pd.DataFrame({"age": [4.0, 45.0, np.nan], "gender": [0, 1, -1], "ethnicity": [2, -1, 4]})
    assert stratum(faces, UTKFACE_ATTRIBUTES).tolist() == ["0-4|0|2", "30-45|1|-1", "unknown|-1|4"]
    parity = ClassAttribute("parity", classes=("even", "odd"))
    assert stratum(faces.assign(parity=[0, 1, -1]), [parity, AGE]).tolist() == ["0|0-4", "1|30-45", "-1|unknown"]
    assert stratum(faces, [AGE]).tolist() == ["0-4", "30-45", "unknown"]


# --- the row that stands for its group --------------------------------------------------------------------


def test_the_row_with_most_pixels_is_kept_then_the_first_by_digest():
    faces = pd.DataFrame(
        {"image_id": list("abcdef"), "width": [10, 20, 5, 8, 8, 8], "height": [10, 6, 5, 8, 8, 8]},
        index=[9, 4, 7, 1, 0, 3],
    )
    chosen = representatives(faces, np.array([0, 0, 1, 2, 2, 2]))  # 100 or 120 pixels; alone; three of 64
    first = min("def", key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert chosen.tolist() == [False, True, True, *(name == first for name in "def")]


def test_one_row_of_each_group_is_kept_whatever_the_labels_and_the_order():
    faces, group_id = make_faces(500)
    chosen = representatives(faces, group_id)
    assert pd.Series(group_id[chosen]).is_unique and set(group_id[chosen]) == set(group_id)
    relabelled = faces.assign(age=100 - faces["age"], gender=0, ethnicity=4)
    assert (representatives(relabelled, group_id) == chosen).all()
    order = np.random.default_rng(1).permutation(500)
    assert (representatives(faces.iloc[order], group_id[order]) == chosen[order]).all()


# --- train, validation, calibration, test -----------------------------------------------------------------


def test_groups_lie_in_one_split_and_keep_their_rows():
    faces, group_id = make_faces(2000)
    splits = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed=0)
    assert splits["image_id"].tolist() == faces["image_id"].tolist()
    assert (splits["group_id"] == group_id).all()
    assert splits.groupby("group_id")["split"].nunique().max() == 1
    assert leaking_pairs(splits) == 0
    assert (splits["representative"] == representatives(faces, group_id)).all()


def test_shares_are_those_of_the_schema_over_all_and_in_each_stratum():
    faces, group_id = make_faces(6000)
    splits = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed=0)
    heads = splits[splits["representative"]].assign(stratum=stratum(faces, UTKFACE_ATTRIBUTES))
    for name, share in schema.SPLITS.items():
        assert (heads["split"] == name).mean() == pytest.approx(share, abs=0.01)
    counts = pd.crosstab(heads["stratum"], heads["split"])
    assert len(counts) > 100  # with the unknown ages and genders
    for name, share in schema.SPLITS.items():
        assert (counts[name] - share * counts.sum(axis=1)).abs().max() <= 1  # one group


def test_faces_without_an_age_are_spread_like_any_others():
    faces, group_id = make_faces(1000)
    splits = split_faces(faces.assign(age=np.nan), group_id, UTKFACE_ATTRIBUTES, seed=0)
    heads = splits[splits["representative"]]
    assert (heads["split"] == "train").mean() == pytest.approx(0.75, abs=0.02)


def test_the_seed_and_nothing_else_fixes_the_draw():
    faces, group_id = make_faces(600)
    first, again, other = (split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert 0.2 < (first["split"] != other["split"]).mean() < 0.6


def test_the_draw_depends_on_neither_the_order_of_rows_nor_the_numbers_of_groups():
    faces, group_id = make_faces(600)
    split_of = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed=1).set_index("image_id")["split"]
    order = np.random.default_rng(3).permutation(600)
    for rows, numbers in ((faces.iloc[order], group_id[order]), (faces, group_id.max() - group_id)):
        again = split_faces(rows, numbers, UTKFACE_ATTRIBUTES, seed=1).set_index("image_id")["split"]
        assert (again == split_of[again.index]).all()


def test_two_persons_who_are_not_told_apart_move_few_others():
    faces, group_id = make_faces(3000)
    before = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed=1)["split"]
    merged = np.where(group_id == group_id[0], group_id[1], group_id)
    assert (merged != group_id).any()
    after = split_faces(faces, merged, UTKFACE_ATTRIBUTES, seed=1)["split"]
    other = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed=2)["split"]
    assert (before != after).sum() <= 30 < 0.1 * (before != other).sum()  # two strata, three cuts, a few faces a person
    left = group_id != group_id[0]
    fewer = split_faces(faces[left], group_id[left], UTKFACE_ATTRIBUTES, seed=1)["split"]
    assert (before[left].to_numpy() != fewer.to_numpy()).sum() <= 15


def test_tiny_sets_can_be_split():
    for n in (1, 2, 5):
        faces, _ = make_faces(n + 2)
        assert split_faces(faces[:n], np.arange(n), UTKFACE_ATTRIBUTES, seed=0)["split"].isin(schema.SPLITS).all()


def test_leaking_pairs_are_counted():
    splits = pd.DataFrame(
        {
            "group_id": [0, 0, 0, 0, 1, 1, 2, 3, 3],
            # group 0: 2 x 1 + 2 x 1 + 1 x 1 pairs; group 1: 1; the rest none
            "split": ["train", "train", "test", "validation", "train", "test", "test", "test", "test"],
        }
    )
    assert leaking_pairs(splits) == 6
    assert leaking_pairs(splits[splits["group_id"] >= 2]) == 0


# --- folds ------------------------------------------------------------------------------------------------


def test_folds_hold_whole_groups_and_even_strata():
    rng = np.random.default_rng(0)
    group_id = rng.permutation(np.repeat(np.arange(400), 2))
    strata_of_group = rng.choice(["a", "b", "c", "d"], 400)
    fold = fold_of_groups(group_id, strata_of_group[group_id], folds=3, seed=0)
    by_group = pd.DataFrame({"group": group_id, "fold": fold, "stratum": strata_of_group[group_id]})
    assert by_group.groupby("group")["fold"].nunique().max() == 1
    heads = by_group.drop_duplicates("group")
    counts = pd.crosstab(heads["stratum"], heads["fold"])
    assert counts.shape == (4, 3)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1
    assert heads["fold"].value_counts().max() - heads["fold"].value_counts().min() <= 1


def test_folds_repeat_with_their_seed_and_only_then():
    group_id, strata = np.arange(90), np.repeat(["a", "b", "c"], 30)
    first, again, other = (fold_of_groups(group_id, strata, 3, seed) for seed in (5, 5, 6))
    assert (first == again).all() and (first != other).any()
    assert set(first) == {0, 1, 2}


# --- a published split ------------------------------------------------------------------------------------


def listed_faces(n: int = 2000) -> tuple[pd.DataFrame, np.ndarray]:
    """Faces of which the published lists test every fifth, whatever its copies."""
    faces, group_id = make_faces(n)
    return faces.assign(part=np.where(np.arange(n) % 5 == 0, "test", "train")), group_id


@pytest.mark.slow
def test_the_published_list_is_tested_whole_and_copies_cross_from_training_alone():
    faces, group_id = listed_faces()
    splits = split_listed(faces, group_id, UTKFACE_ATTRIBUTES, seed=0)
    assert splits["image_id"].tolist() == faces["image_id"].tolist() and (splits["group_id"] == group_id).all()
    tested = (faces["part"] == "test").to_numpy()
    assert ((splits["split"] == "test") == tested).all() and splits["representative"][tested].all()
    assert leaking_pairs(splits) > 100  # planted: lists that know nothing of groups
    assert leaking_pairs(splits[~tested]) == 0
    crossing = sum((group_id[~tested] == group).sum() for group in group_id[tested])
    assert leaking_pairs(splits) == crossing


def test_validation_and_calibration_are_carved_out_of_the_training_list_in_proportion():
    faces, group_id = listed_faces(6000)
    splits = split_listed(faces, group_id, UTKFACE_ATTRIBUTES, seed=0)
    listed = splits[splits["split"] != "test"]
    heads = listed[listed["representative"]]
    assert heads["group_id"].is_unique and set(heads["group_id"]) == set(listed["group_id"])
    for name in ("train", "validation", "calibration"):
        share = schema.SPLITS[name] / (1 - schema.SPLITS["test"])
        assert (heads["split"] == name).mean() == pytest.approx(share, abs=0.01)


def test_what_is_trained_on_does_not_depend_on_the_tested_copies():
    faces, group_id = listed_faces()
    splits = split_listed(faces, group_id, UTKFACE_ATTRIBUTES, seed=0)
    trained = (faces["part"] == "train").to_numpy()
    alone = split_listed(faces[trained].reset_index(drop=True), group_id[trained], UTKFACE_ATTRIBUTES, seed=0)
    assert (
        alone[["split", "representative"]].to_numpy() == splits.loc[trained, ["split", "representative"]].to_numpy()
    ).all()


def test_a_face_that_both_lists_name_is_tested_and_not_trained_on():
    faces, group_id = listed_faces(400)
    splits = split_listed(
        faces.assign(part=faces["part"].where(faces.index != 1, "both")), group_id, UTKFACE_ATTRIBUTES, seed=0
    )
    assert splits["split"][1] == "test"


def test_test_images_with_a_copy_in_training_are_marked():
    splits = pd.DataFrame(
        {
            "split": ["train", "test", "test", "test", "calibration", "test", "test", "train"],
            "group_id": [0, 0, 0, 1, 2, 2, 1, 3],
        }
    )
    assert shared_with_training(splits).tolist() == [False, True, True, False, False, True, False, False]
    own = split_faces(*make_faces(600), UTKFACE_ATTRIBUTES, seed=0)
    assert not shared_with_training(own).any()


def test_persons_stay_together_and_their_copies_with_them():
    faces, group_id = make_faces(3000)
    person_id = np.arange(3000)
    person_id[1:120:2] = person_id[:120:2]  # a person on every two of the first photographs
    splits = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed=0, person_id=person_id)
    for together in (person_id, group_id, splits["person_id"]):
        assert splits["split"].groupby(together).nunique().max() == 1
    assert not shared_with_training(splits, "person_id").any()
    assert (splits["representative"].groupby(group_id).sum() == 1).all()  # one a photograph, not one a person
    assert (splits["split"] == "train").mean() == pytest.approx(schema.SPLITS["train"], abs=0.03)


def test_of_a_published_split_persons_of_the_training_list_stay_together():
    faces, group_id = listed_faces()
    person_id = np.arange(len(faces)) // 2
    splits = split_listed(faces, group_id, UTKFACE_ATTRIBUTES, 0, person_id)
    trained = splits[(faces["part"] == "train").to_numpy()]
    assert trained.groupby("person_id")["split"].nunique().max() == 1
    recognised = shared_with_training(splits, "person_id")
    assert recognised.any() and not recognised[(faces["part"] == "train").to_numpy()].any()


# --- findings ---------------------------------------------------------------------------------------------


class Earlier:
    """A run that was split, as far as `split_like` reads it."""

    name = "earlier"

    def __init__(self, faces: pd.DataFrame, splits: pd.DataFrame):
        self.tables = {"faces": faces, "splits": splits}

    def load_table(self, name: str) -> pd.DataFrame:
        return self.tables[name]


def with_content(n: int, seed: int, prefix: str) -> tuple[pd.DataFrame, np.ndarray]:
    faces, group_id = make_faces(n, seed)
    return faces.assign(image_id=prefix + faces["image_id"], sha256=[f"{prefix}{k}" for k in range(n)]), group_id


def test_another_runs_split_is_kept_and_the_other_faces_are_split_by_persons():
    own, own_group = with_content(300, 0, "own")
    own.loc[1, "sha256"] = own.loc[0, "sha256"]  # identical images
    own_group[1] = own_group[0]
    splits = split_faces(own, own_group, UTKFACE_ATTRIBUTES, 3)
    more, more_group = with_content(600, 1, "more")
    faces = pd.concat([more, own.assign(image_id="own/" + own["image_id"])], ignore_index=True)
    group_id = np.concatenate([more_group, 1000 + own_group])
    person_id = group_id.copy()
    person_id[5] = group_id[600]  # a new face of an earlier person
    group_id[6] = person_id[6] = group_id[610]  # a copy of an earlier face
    kept = split_like(Earlier(own, splits), faces, group_id, UTKFACE_ATTRIBUTES, 4, person_id)
    assert kept["image_id"].equals(faces["image_id"])
    theirs = kept[600:].reset_index(drop=True)
    assert theirs["split"].equals(splits["split"])
    assert theirs["representative"].equals(splits["representative"])
    assert kept["split"][5] == kept["split"][600]
    assert kept["group_id"][6] == kept["group_id"][610] and not kept["representative"][6]
    assert leaking_pairs(kept) == 0
    assert not shared_with_training(kept, "person_id").any()
    assert (kept.groupby("group_id")["representative"].sum() == 1).all()
    shares = kept["split"][:600].value_counts(normalize=True)
    assert all(abs(shares[name] - share) < 0.05 for name, share in schema.SPLITS.items())


def test_a_new_face_that_links_persons_of_two_splits_is_neither_learned_nor_scored():
    own, own_group = with_content(300, 0, "own")
    splits = split_faces(own, own_group, UTKFACE_ATTRIBUTES, 3)
    first = [int(splits.index[splits["split"] == part][0]) for part in ("train", "test")]
    faces = pd.concat([own, with_content(40, 1, "more")[0]], ignore_index=True)
    person_id = np.concatenate([splits["person_id"], 1000 + np.arange(40)])
    person_id[person_id == person_id[first[1]]] = person_id[first[0]]
    person_id[300] = person_id[first[0]]
    kept = split_like(Earlier(own, splits), faces, np.arange(340), UTKFACE_ATTRIBUTES, 4, person_id)
    assert kept["split"][:300].equals(splits["split"])
    assert not kept["representative"][300] and (kept["person_id"][:300] != kept["person_id"][300]).all()
    # What this run alone recognises is counted, and nothing of the new face.
    crossing = shared_with_training(kept, "person_id")
    assert set(kept["person_id"][crossing]) == {kept["person_id"][first[0]]}


def test_earlier_faces_that_both_runs_together_take_for_copies_of_a_tested_one_are_not_learned():
    own, own_group = with_content(300, 0, "own")
    splits = split_faces(own, own_group, UTKFACE_ATTRIBUTES, 3)
    learned, tested = (splits["split"] == part for part in ("train", "test"))
    copied = int(splits.index[learned & splits["group_id"].duplicated(keep=False) & splits["representative"]][0])
    group_id = own_group.copy()
    group_id[copied] = group_id[int(splits.index[tested][0])]  # this run does not see the face's own copies
    kept = split_like(Earlier(own, splits), own, group_id, UTKFACE_ATTRIBUTES, 3, own_group)
    out = splits["group_id"] == splits["group_id"][copied]
    assert out.sum() > 1 and (kept["split"][out] == "test").all() and not kept["representative"][out].any()
    assert leaking_pairs(kept) == 0 and not shared_with_training(kept).any()
    assert kept["split"][~out].equals(splits["split"][~out])
    assert kept["representative"][tested].equals(splits["representative"][tested])


def test_a_left_out_representative_of_copies_that_one_run_alone_sees_has_no_heir_in_training():
    """A training face with a copy by this run alone, and both copies of a tested face by the earlier run's groups."""
    own, own_group = with_content(300, 0, "own")
    splits = split_faces(own, own_group, UTKFACE_ATTRIBUTES, 3)
    single = ~splits["group_id"].duplicated(keep=False)
    first, second = splits.index[single & (splits["split"] == "train")][:2]
    tested = splits.index[single & (splits["split"] == "test")][0]
    group_id = own_group.copy()
    group_id[[first, second]] = group_id[tested]
    kept = split_like(Earlier(own, splits), own, group_id, UTKFACE_ATTRIBUTES, 3, group_id)
    assert (kept["split"][[first, second]] == "test").all() and kept["representative"].sum() == (
        splits["representative"].sum() - 2
    )


def test_a_group_whose_representative_is_missing_gets_another():
    own, own_group = with_content(300, 0, "own")
    splits = split_faces(own, own_group, UTKFACE_ATTRIBUTES, 3)
    left = ~splits["representative"] | (splits["group_id"] % 2 == 0)
    faces, group_id = own[left].reset_index(drop=True), own_group[left]
    kept = split_like(Earlier(own, splits), faces, group_id, UTKFACE_ATTRIBUTES, 3, group_id)
    assert (kept.groupby("group_id")["representative"].sum() == 1).all()
    assert kept["split"].tolist() == splits["split"][left].tolist()


def test_a_split_that_is_not_of_its_faces_is_refused():
    own, own_group = with_content(50, 0, "own")
    earlier = Earlier(own, split_faces(own, own_group, UTKFACE_ATTRIBUTES, 3)[1:].reset_index(drop=True))
    with pytest.raises(UnknownSetting, match="read its data again"):
        split_like(earlier, own, own_group, UTKFACE_ATTRIBUTES, 3, own_group)


def test_a_run_without_any_of_the_images_has_no_split_to_keep():
    own, own_group = with_content(50, 0, "own")
    faces, group_id = with_content(50, 1, "more")
    earlier = Earlier(own, split_faces(own, own_group, UTKFACE_ATTRIBUTES, 3))
    with pytest.raises(UnknownSetting, match="none of whose images"):
        split_like(earlier, faces, group_id, UTKFACE_ATTRIBUTES, 4, group_id)


def test_a_random_split_lets_most_copies_cross():
    splits = pd.DataFrame({"split": ["train", "test"] * 200, "group_id": np.repeat(np.arange(200), 2)})
    assert random_split_pairs(splits) == pytest.approx(200 * 200 / 399)  # of 200 pairs; 200 of 399 others lie across
    assert random_split_pairs(splits.assign(split="train")) == random_split_pairs(splits[:1]) == 0
    splits, rng = splits.assign(group_id=np.arange(400) // 3), np.random.default_rng(0)
    drawn = [leaking_pairs(splits.assign(split=rng.permutation(splits["split"]))) for _ in range(50)]
    assert random_split_pairs(splits) == pytest.approx(np.mean(drawn), rel=0.02)


def test_findings_count_what_crosses_and_name_the_lists_followed():
    splits = pd.DataFrame({"split": ["train", "test", "test", "validation", "test"], "group_id": [0, 0, 0, 1, 2]})
    splits["person_id"] = [0, 0, 0, 1, 1]  # the last tested face is of the person in validation
    splits["representative"] = True
    faces = pd.DataFrame({"sha256": list("aabcd")})
    alone = {finding.key: finding for finding in split_findings(faces, splits, 3.4, {})}
    assert set(alone) == {"split.leaks", "split.random", "split.persons", "split.sessions"}
    assert (alone["split.persons"].estimate.value, alone["split.persons"].estimate.n) == (1, 3)
    assert "1 persons on several photographs, 2 in all" in alone["split.persons"].text
    assert alone["split.leaks"].estimate.value == 2 and alone["split.random"].estimate.value == 3.4
    assert alone["split.leaks"].text.startswith("2 pairs of copies cross the split, ")
    apart = split_findings(faces, splits.assign(group_id=range(5)), 3.4, {})[0]
    assert apart.estimate.value == 0 and apart.text.startswith("No pair of detected copies crosses the split. The test")
    protocol = {"name": "lists", "digest": "ab12"}
    listed = split_findings(faces, splits, 3.4, protocol)[-1]
    assert (listed.key, listed.estimate.value, listed.estimate.n) == ("split.protocol", 2 / 3, 3)
    assert all(text in listed.text for text in ("lists", "ab12", "2 faces", "3 to test", "2 test images", "1 of them"))
