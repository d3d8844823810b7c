"""Out-of-fold prediction: nobody scores what it was trained on, nor a copy of it."""

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.config import Profile
from facelib.data.splits import split_faces
from facelib.models import out_of_fold, training
from facelib.models.network import FaceNet, predict_outputs
from facelib.models.out_of_fold import opinions_table, predictions_table, score_out_of_fold
from facelib.schema import P_ETHNICITY

FOLDS = 3


@pytest.fixture(scope="module")
def scored(small_faces, small_truth, tiny):
    """The table of predictions, the splits, and what each fold's network was given: rows and labels."""
    images, faces = small_faces
    group_id = small_truth["person"].to_numpy()
    splits = split_faces(faces, group_id, seed=0)
    profile = Profile("test", architecture=tiny, label_folds=FOLDS, label_px=images.px, batch_size=16, label_epochs=1)
    given = []

    def recorded(pictures, labels, rows, _):
        torch.manual_seed(len(given))
        network = FaceNet(tiny, age_head="linear", age_mean=10.0 + 20 * len(given)).eval()
        given.append((np.array(rows), network))
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out_of_fold, "train_scorer", recorded)
        table = score_out_of_fold(faces, images, splits, profile)
    return table, splits, given


def test_no_network_saw_a_row_that_it_scores_or_a_copy_of_it(scored):
    table, splits, given = scored
    assert len(given) == FOLDS
    group_id, fold = splits["group_id"].to_numpy(), table["fold"].to_numpy()
    for number, (rows, _) in enumerate(given):
        judged = np.flatnonzero((fold == number) | (fold == -1))
        assert len(rows) and len(judged) and not set(rows) & set(judged)
        assert not set(group_id[rows]) & set(group_id[judged])


def test_networks_learn_from_kept_training_rows_of_the_other_folds(scored):
    table, splits, given = scored
    usable = (splits["split"] == "train") & splits["kept"]
    for number, (rows, _) in enumerate(given):
        assert set(rows) == set(np.flatnonzero(usable & (table["fold"] != number)))
    assert set.union(*(set(rows) for rows, _ in given)) == set(np.flatnonzero(usable))


def test_folds_are_the_training_rows_and_of_equal_size(scored):
    table, splits, _ = scored
    assert ((table["fold"] >= 0) == (splits["split"] == "train")).all()
    groups = splits[splits["split"] == "train"].groupby(table["fold"])["group_id"].nunique()
    assert groups.index.tolist() == [0, 1, 2] and groups.max() - groups.min() <= 1


def test_only_of_training_rows_there_are_opinions(scored):
    table, splits, _ = scored
    opinions, training_rows = opinions_table(table), (splits["split"] == "train").to_numpy()
    assert opinions[~training_rows].isna().all(axis=None)
    pd.testing.assert_frame_equal(opinions[training_rows], table.drop(columns="fold")[training_rows])


def test_every_row_has_a_prediction(scored, small_faces):
    table, _, _ = scored
    said = table.drop(columns="age_spread")  # these networks, with a linear age head, have none
    assert len(table) == len(small_faces[1]) and np.isfinite(said.to_numpy()).all()
    assert table[list(P_ETHNICITY)].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    assert table["p_female"].between(0, 1).all()


def test_training_rows_are_scored_by_their_folds_network_and_the_others_by_the_mean(scored, small_faces):
    table, _, given = scored
    tables = [predictions_table(predict_outputs(network, small_faces[0])) for _, network in given]
    each = np.stack([said.drop(columns="age_spread").to_numpy() for said in tables])
    fold = table["fold"].to_numpy()
    expected = np.where((fold == -1)[:, None], each.mean(axis=0), each[fold, np.arange(len(fold))])
    np.testing.assert_allclose(table.drop(columns=["fold", "age_spread"]).to_numpy(), expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(each[:, :, 0], axis=0).min() > 10  # the networks differ, so that a mix-up would show


def test_outputs_become_probabilities_by_hand():
    outputs = {
        "age": np.array([33.5], np.float32),
        "age_spread": np.array([4.0], np.float32),
        "gender": np.array([np.log(3)]),
        "ethnicity": np.log(np.array([[1.0, 1.0, 2.0, 3.0, 1.0]])),
    }
    expected = pd.DataFrame(
        [[33.5, 4.0, 0.75, 0.125, 0.125, 0.25, 0.375, 0.125]],
        columns=["age_pred", "age_spread", "p_female", *P_ETHNICITY],
    )
    pd.testing.assert_frame_equal(predictions_table(outputs), expected)
    del outputs["age_spread"]  # a network with a linear age head
    assert predictions_table(outputs)["age_spread"].isna().all()


def test_a_label_in_a_fold_does_not_reach_its_own_score(small_faces, small_truth, tiny, monkeypatch):
    monkeypatch.setattr(training, "has_fast_bfloat16", lambda: False)  # equal to the last bit
    images, faces = small_faces
    splits = split_faces(faces, small_truth["person"].to_numpy(), seed=0)
    profile = Profile("test", architecture=tiny, label_folds=2, label_px=24, batch_size=16, label_epochs=1)
    honest = score_out_of_fold(faces, images, splits, profile)
    row = int(np.flatnonzero((honest["fold"] == 0) & splits["kept"])[0])
    faked = faces.copy()
    # A change of age within its band leaves the strata, and with them the folds, as they are.
    faked.loc[row, "age"] = faces.loc[row, "age"] + (0.5 if faces.loc[row, "age"] < 116 else -0.5)
    scored = score_out_of_fold(faked, images, splits, profile)
    pd.testing.assert_series_equal(scored["fold"], honest["fold"])
    assert scored.loc[row, "age_pred"] == honest.loc[row, "age_pred"]
    others = honest["fold"] == 1
    assert (scored.loc[others, "age_pred"] != honest.loc[others, "age_pred"]).any()  # it does reach the other fold
