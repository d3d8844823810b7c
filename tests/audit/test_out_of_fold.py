"""Out-of-fold predictions: no model scores a row that it learned from, nor a copy or a person of it."""

import numpy as np
import pandas as pd
import pytest

from facelib.audit import out_of_fold
from facelib.audit.out_of_fold import FOLDS, age_edges, score_out_of_fold
from facelib.data.splits import split_faces
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES

N, WIDTH = 900, 12


@pytest.fixture(scope="module")
def made() -> tuple:
    """Features that show the labels with noise, faces and their splits; a third of the photographs has a copy."""
    rng = np.random.default_rng(0)
    group_id = np.where(np.arange(N) % 3 == 2, np.arange(N) - 1, np.arange(N))
    person_id = group_id // 6 * 6
    gender, ethnicity = rng.integers(0, 2, N)[group_id], rng.integers(0, 5, N)[group_id]
    age = rng.uniform(1, 90, N)[group_id].round()
    features = rng.normal(0, 0.1, (N, WIDTH))
    features[:, 0] += 3 * gender
    features[:, 1:6] += 3 * np.eye(5)[ethnicity]
    features[:, 6:10] += 3 * np.cos(np.outer(age / 90, np.arange(1, 5)) * 3)
    faces = pd.DataFrame({"image_id": [f"{k}" for k in range(N)], "age": age, "gender": gender, "ethnicity": ethnicity})
    faces = faces.assign(width=100, height=100)
    return features, faces, split_faces(faces, group_id, UTKFACE_ATTRIBUTES, 0, person_id=person_id)


def test_labels_are_found_again(made):
    features, faces, splits = made
    table = score_out_of_fold(features, faces, splits, UTKFACE_ATTRIBUTES, 0)
    assert (GENDER.decode(table) == faces["gender"]).mean() > 0.95
    assert (ETHNICITY.decode(table) == faces["ethnicity"]).mean() > 0.95
    assert (table["age_pred"] - faces["age"]).abs().median() < 6 and table["age_pred"].min() >= 0
    for attribute in (GENDER, ETHNICITY):
        assert table[list(attribute.columns)].sum(axis=1).to_numpy() == pytest.approx(1)
    inside = (table["age_pred"] - faces["age"]).abs() <= table["age_spread"]
    assert inside.mean() > 0.5 and table[["age_low", "age_high"]].isna().all(axis=None)


def test_no_model_saw_a_row_that_it_scores_nor_its_person_nor_a_test_label(made, monkeypatch):
    features, faces, splits = made
    seen = []

    def recorded(features, y_true, rows, scored, classes):
        seen.append((np.flatnonzero(rows), scored))
        return np.full((len(scored), classes), 1 / classes)

    monkeypatch.setattr(out_of_fold, "_predicted", recorded)
    table = score_out_of_fold(features, faces, splits, UTKFACE_ATTRIBUTES, 0)
    assert len(seen) == 3 * FOLDS and table.notna()[[*GENDER.columns, "age_pred"]].all(axis=None)
    person_id, learns = splits["person_id"].to_numpy(), splits["representative"] & (splits["split"] != "test")
    for rows, scored in seen:
        assert len(rows) and len(scored) and not set(person_id[rows]) & set(person_id[scored])
        assert learns.iloc[rows].all()
    for at in range(0, 3 * FOLDS, FOLDS):  # by attribute: each row is scored once, and learned from four times
        assert sorted(np.concatenate([scored for _, scored in seen[at : at + FOLDS]])) == list(range(N))
        learned = np.bincount(np.concatenate([rows for rows, _ in seen[at : at + FOLDS]]), minlength=N)
        assert (learned == np.where(learns, FOLDS - 1, 0)).all()


def test_a_label_does_not_reach_its_own_score(made):
    features, faces, splits = made
    honest = score_out_of_fold(features, faces, splits, (AGE,), 0)
    learns = (splits["split"] != "test") & splits["representative"] & faces["age"].between(32, 44)
    row = int(np.flatnonzero(learns)[0])
    faked = faces.copy()
    faked.loc[row, "age"] = 30 if faces.loc[row, "age"] > 37 else 45  # another bin of the same band: the same folds
    scored = score_out_of_fold(features, faked, splits, (AGE,), 0)
    pd.testing.assert_series_equal(scored["fold"], honest["fold"])
    same_fold = (honest["fold"] == honest["fold"][row]).to_numpy()
    np.testing.assert_array_equal(scored.loc[same_fold, "age_pred"], honest.loc[same_fold, "age_pred"])
    assert (scored.loc[~same_fold, "age_pred"] != honest.loc[~same_fold, "age_pred"]).mean() > 0.9


def test_a_label_that_nobody_has_is_predicted_by_nothing(made):
    features, faces, splits = made
    hidden = faces.assign(gender=np.where(splits["split"] == "test", faces["gender"], -1))
    table = score_out_of_fold(features, hidden, splits, (AGE, GENDER), 0)
    assert table[list(GENDER.columns)].isna().all(axis=None) and table["age_pred"].notna().all()
    assert list(table) == [*AGE.columns, *GENDER.columns, "fold"]


def test_a_class_that_only_one_face_has_gets_no_chance_where_it_was_not_learned(made):
    features, faces, splits = made
    row = int(np.flatnonzero((splits["split"] != "test") & splits["representative"])[0])
    one = faces.assign(ethnicity=np.where(np.arange(N) == row, 4, 0))
    table = score_out_of_fold(features, one, splits, (ETHNICITY,), 0)
    assert table.loc[row, ETHNICITY.columns[0]] == 1 and table[ETHNICITY.columns[4]].max() < 1
    alone = score_out_of_fold(features, faces.assign(ethnicity=0), splits, (ETHNICITY,), 0)
    assert (alone[ETHNICITY.columns[0]] == 1).all()


def test_age_bins_widen():
    edges = age_edges()
    assert (np.diff(edges)[:7] == 1).all() and (np.diff(np.diff(edges)) >= -1e-9).all() and edges[-1] > 116
