"""Leaks: test images with a copy in training, the closest one named."""

import numpy as np
import pandas as pd

from facelib.audit.leaks import PERSON, leaks_table
from facelib.embedding.persons import Pairs

FACES = pd.DataFrame({"image_id": list("abcdefgh"), "sha256": list("11233456")})
PAIRS = pd.DataFrame(
    {
        "first": [0, 2, 0, 5], "second": [1, 4, 2, 6], "kind": ["exact", "near", "near", "near"],
        "distance": [0.0, 0.2, 0.1, 0.3],
    }
)  # fmt: skip
GROUPS = np.array([0, 0, 0, 0, 0, 1, 1, 2])  # d is byte-identical to e and joined by it alone


def leaks(**part) -> list[list]:
    return (
        leaks_table(FACES, pd.Series([part.get(name, "") for name in FACES["image_id"]]), GROUPS, PAIRS)
        .to_numpy()
        .tolist()
    )


def test_the_closest_training_copy_is_named_with_its_kind():
    assert leaks(c="test", a="train", e="train") == [["c", "a", "near", 0.1]]
    assert leaks(a="test", b="train", c="train") == [["a", "b", "exact", 0.0]]


def test_the_order_of_a_pair_does_not_matter():
    assert leaks(e="test", c="train") == [["e", "c", "near", 0.2]]


def test_byte_identical_files_are_exact_although_the_search_listed_no_pair():
    assert leaks(d="test", e="train") == [["d", "e", "exact", 0.0]]


def test_a_copy_of_a_copy_is_a_leak_too():
    (leak,) = leaks(b="test", e="train")
    assert leak[:3] == ["b", "e", "near by way of another copy"] and np.isnan(leak[3])


def test_a_file_that_both_lists_name_leaks_itself():
    assert leaks(h="both") == [["h", "h", "exact", 0.0]]


def test_copies_on_one_side_and_strangers_are_no_leak():
    assert leaks(a="train", b="train", f="test", h="test", c="") == []
    assert list(leaks_table(FACES, pd.Series([""] * 8), GROUPS, PAIRS).columns) == [
        "test_image", "train_image", "kind", "distance",
    ]  # fmt: skip


def test_many_copies_on_both_sides_are_not_paired_with_each_other():
    n = 20_000
    faces = pd.DataFrame({"image_id": [str(k) for k in range(n)], "sha256": ["x"] * n})
    part = pd.Series(["train", "test"] * (n // 2))
    found = leaks_table(faces, part, np.zeros(n, int), PAIRS[:0])
    assert len(found) == n // 2 and set(found["kind"]) == {"exact"} and set(found["train_image"]) == {"0"}


def test_a_recognised_person_is_a_leak_where_no_copy_is_nearer():
    person_id = np.array([0, 0, 0, 0, 0, 1, 1, 1])  # h is another photograph of f and g
    matches = Pairs(np.array([6, 0, 1]), np.array([7, 7, 3]), np.array([0.4, 0.1, 0.2]))  # a and h were parted again
    part = pd.Series(["train", "", "test", "", "", "test", "train", "test"])
    found = leaks_table(FACES, part, GROUPS, PAIRS, person_id, matches)
    assert found.to_numpy().tolist() == [["c", "a", "near", 0.1], ["f", "g", "near", 0.3], ["h", "g", PERSON, 0.4]]
    part[6], part[5] = "", "train"
    (*_, last) = leaks_table(FACES, part, GROUPS, PAIRS, person_id, matches).to_numpy().tolist()
    assert last[:3] == ["h", "f", f"{PERSON} by way of another photograph"] and np.isnan(last[3])
