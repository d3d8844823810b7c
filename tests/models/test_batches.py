"""Batches: every row once an epoch, in an order that seed and epoch fix, divided among processes."""

import numpy as np
import pandas as pd
import pytest

from facelib.models import batches
from facelib.models.batches import Batches, EpochBatches, class_weights
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, YearsAttribute

COLUMNS = ["age", "gender", "ethnicity"]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def batches_of(sampler: EpochBatches, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_has_every_row_at_most_once_and_only_whole_batches():
    rows = np.arange(100, 121)
    sampler = EpochBatches(rows, batch_size=4, seed=3)
    drawn = batches_of(sampler, 0)
    assert len(drawn) == len(sampler) == 5 and {len(batch) for batch in drawn} == {4}
    assert len(set(flat(drawn))) == 20 and set(flat(drawn)) <= set(rows.tolist())


def test_the_left_out_row_comes_in_another_epoch():
    sampler = EpochBatches(np.arange(21), 4, seed=3)
    left_out = [set(range(21)) - set(flat(batches_of(sampler, epoch))) for epoch in range(12)]
    assert all(len(rows) == 1 for rows in left_out) and len(set.union(*left_out)) > 5


def test_the_order_changes_with_epoch_and_seed_and_repeats_with_both():
    sampler = EpochBatches(np.arange(32), 8, seed=3)
    first, second, again = (batches_of(sampler, epoch) for epoch in (0, 1, 0))
    assert first == again != second
    assert batches_of(EpochBatches(np.arange(32), 8, seed=3), 1) == second
    assert batches_of(EpochBatches(np.arange(32), 8, seed=4), 0) != first


def test_weights_draw_rows_in_proportion():
    rows = np.arange(1000)
    weights = np.where(rows < 500, 3.0, 1.0)
    drawn = np.array(flat(batches_of(EpochBatches(rows, 10, 0, weights), 0)))
    assert len(drawn) == 1000 and 690 <= (drawn < 500).sum() <= 810  # 750 expected, 13.7 is a standard deviation


def test_two_processes_share_the_batches_of_one(monkeypatch):
    whole = batches_of(EpochBatches(np.arange(40), 8, 3), 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(batches, "rank_and_world", lambda rank=rank: (rank, 2))
        shares.append(batches_of(EpochBatches(np.arange(40), 8, 3), 2))
    for batch, first, second in zip(whole, *shares, strict=True):
        assert first == batch[::2] and second == batch[1::2]


def test_class_weights_by_hand():
    labels = pd.DataFrame({"age": [25.0, 26, 27, 80], "gender": [0, 0, 0, 1], "ethnicity": [0, 0, 1, 1]})
    # Bands: three at 18-29, one at 75+; ethnicities: two of each.
    band, ethnicity = np.array([4 / 6, 4 / 6, 4 / 6, 4 / 2]), np.ones(4)
    expected = (band + ethnicity) / (band + ethnicity).mean()
    assert class_weights(labels, (AGE, ETHNICITY)) == pytest.approx(expected)
    assert class_weights(labels, (GENDER,)) == pytest.approx(band / band.mean())
    expected = (2 * band + ethnicity) / (2 * band + ethnicity).mean()
    assert class_weights(labels, UTKFACE_ATTRIBUTES) == pytest.approx(expected)


def test_unknown_labels_have_an_ordinary_weight():
    labels = pd.DataFrame({"age": [25.0, 26, 27, 80, np.nan], "ethnicity": [0, 0, 1, 1, -1]}, index=[9, 3, 5, 7, 1])
    expected = np.array([4 / 6 + 1, 4 / 6 + 1, 4 / 6 + 1, 4 / 2 + 1, 1 + 1])
    assert class_weights(labels, (AGE, ETHNICITY)) == pytest.approx(expected / expected.mean())


def test_fewer_rows_than_a_batch_make_one_batch():
    assert [sorted(batch) for batch in EpochBatches(np.arange(3), 8, seed=0)] == [[0, 1, 2]]


def test_a_batch_holds_images_and_labels_of_its_rows(small_faces):
    images, faces = small_faces
    batch = Batches(images, faces[COLUMNS])[[4, 2]]
    assert batch["row"].tolist() == [4, 2]
    assert batch["age"].tolist() == faces["age"].iloc[[4, 2]].tolist()
    assert batch["ethnicity"].tolist() == faces["ethnicity"].iloc[[4, 2]].tolist()
    np.testing.assert_array_equal((batch["image"] * 255).round().permute(0, 2, 3, 1).numpy(), images[np.array([4, 2])])


def test_no_attribute_can_overwrite_what_a_batch_holds(small_faces):
    images, faces = small_faces
    for name in {*Batches(images, faces[[]].astype(float))[[0]], "strength"}:
        with pytest.raises(ValueError, match=f"cannot be called {name}"):
            YearsAttribute(name)
