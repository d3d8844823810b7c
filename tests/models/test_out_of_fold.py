"""Out-of-fold prediction: no network scores a row that it was trained on, nor a copy of it."""

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.config import Settings
from facelib.data.splits import split_faces
from facelib.models import out_of_fold, training
from facelib.models.network import FaceNet, predict_outputs
from facelib.models.out_of_fold import predictions_table, score_out_of_fold
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES

FOLDS = 3


def settings_of(**audit) -> Settings:
    # The tiny architecture is in no list of choices, so its name is not validated.
    settings = Settings(profile="test", training={"batch_size": 16}, audit={"label_epochs": 1, **audit})
    training = settings.training.model_copy(update={"architecture": "tiny"})
    return settings.model_copy(update={"training": training})


@pytest.fixture(scope="module")
def scored(small_faces, small_truth, tiny):
    """The table of predictions, the splits, and what each fold's network was given: rows and labels."""
    images, faces = small_faces
    group_id = small_truth["person"].to_numpy()
    splits = split_faces(faces, group_id, UTKFACE_ATTRIBUTES, seed=0)
    given = []

    def recorded(pictures, labels, rows, attributes, _):
        torch.manual_seed(len(given))
        network = FaceNet(attributes, tiny, age_head="linear", age_mean=10.0 + 20 * len(given)).eval()
        given.append((np.array(rows), network))
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out_of_fold, "train_scorer", recorded)
        table = score_out_of_fold(faces, images, splits, UTKFACE_ATTRIBUTES, settings_of(label_px=images.px))
    return table, splits, given


def test_no_network_saw_a_row_that_it_scores_or_a_copy_of_it(scored):
    table, splits, given = scored
    assert len(given) == FOLDS
    group_id, fold = splits["group_id"].to_numpy(), table["fold"].to_numpy()
    for number, (rows, _) in enumerate(given):
        scored_rows = np.flatnonzero((fold == number) | (fold == -1))
        assert len(rows) and len(scored_rows) and not set(rows) & set(scored_rows)
        assert not set(group_id[rows]) & set(group_id[scored_rows])


def test_networks_learn_from_representative_training_rows_of_the_other_folds(scored):
    table, splits, given = scored
    usable = (splits["split"] == "train") & splits["representative"]
    for number, (rows, _) in enumerate(given):
        assert set(rows) == set(np.flatnonzero(usable & (table["fold"] != number)))
    assert set.union(*(set(rows) for rows, _ in given)) == set(np.flatnonzero(usable))


def test_folds_are_the_training_rows_and_of_equal_size(scored):
    table, splits, _ = scored
    assert ((table["fold"] >= 0) == (splits["split"] == "train")).all()
    groups = splits[splits["split"] == "train"].groupby(table["fold"])["group_id"].nunique()
    assert groups.index.tolist() == [0, 1, 2] and groups.max() - groups.min() <= 1


def test_every_row_has_a_prediction(scored, small_faces):
    table, _, _ = scored
    columns = ["age_pred", *GENDER.columns, *ETHNICITY.columns]  # with a linear age output there is no spread
    assert len(table) == len(small_faces[1]) and np.isfinite(table[columns].to_numpy()).all()
    for attribute in (GENDER, ETHNICITY):
        assert table[list(attribute.columns)].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)


def test_training_rows_are_scored_by_their_folds_network_and_the_others_by_the_mean(scored, small_faces):
    table, _, given = scored
    columns = ["age_pred", *GENDER.columns, *ETHNICITY.columns]
    outputs = (predict_outputs(network, small_faces[0]) for _, network in given)
    each = np.stack([predictions_table(values, UTKFACE_ATTRIBUTES)[columns].to_numpy() for values in outputs])
    fold = table["fold"].to_numpy()
    expected = np.where((fold == -1)[:, None], each.mean(axis=0), each[fold, np.arange(len(fold))])
    np.testing.assert_allclose(table[columns].to_numpy(), expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(each[:, :, 0], axis=0).min() > 10  # the networks differ, so a mix-up would show


def test_a_label_that_no_training_face_has_is_predicted_by_nothing(small_faces, small_truth, tiny, monkeypatch):
    images, faces = small_faces
    splits = split_faces(faces, small_truth["person"].to_numpy(), UTKFACE_ATTRIBUTES, seed=0)
    partial = faces.assign(gender=np.where(splits["split"] == "train", -1, faces["gender"]))
    learned = []

    def recorded(pictures, labels, rows, attributes, _):
        learned.append(attributes)
        return FaceNet(attributes, tiny).eval()

    monkeypatch.setattr(out_of_fold, "train_scorer", recorded)
    table = score_out_of_fold(partial, images, splits, UTKFACE_ATTRIBUTES, settings_of(label_px=images.px))
    assert set(learned) == {(AGE, ETHNICITY)}
    assert table[list(GENDER.columns)].isna().all(axis=None) and table["age_pred"].notna().all()
    assert list(table) == [*AGE.columns, *GENDER.columns, *ETHNICITY.columns, "fold"]


def test_a_label_in_a_fold_does_not_reach_its_own_score(small_faces, small_truth, tiny, monkeypatch):
    monkeypatch.setattr(training, "has_fast_bfloat16", lambda: False)  # equal to the last bit
    images, faces = small_faces
    splits = split_faces(faces, small_truth["person"].to_numpy(), UTKFACE_ATTRIBUTES, seed=0)
    settings = settings_of(label_folds=2, label_px=32)
    honest = score_out_of_fold(faces, images, splits, UTKFACE_ATTRIBUTES, settings)
    row = int(np.flatnonzero((honest["fold"] == 0) & splits["representative"])[0])
    faked = faces.copy()
    # A change of age within its band leaves the strata, and with them the folds, as they are.
    faked.loc[row, "age"] = faces.loc[row, "age"] + (0.5 if faces.loc[row, "age"] < 116 else -0.5)
    scored = score_out_of_fold(faked, images, splits, UTKFACE_ATTRIBUTES, settings)
    pd.testing.assert_series_equal(scored["fold"], honest["fold"])
    assert scored.loc[row, "age_pred"] == honest.loc[row, "age_pred"]
    other_fold = honest["fold"] == 1
    assert (
        scored.loc[other_fold, "age_pred"] != honest.loc[other_fold, "age_pred"]
    ).any()  # it does reach the other fold
