"""How far a face lies from those of the training: distances and shares by hand, strangers flagged, files kept."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from facelib.errors import DamagedRun, MissingFromRun
from facelib.prediction import ood as familiarity
from facelib.prediction.ood import (
    Familiarity,
    fit_familiarity,
    load_familiarity,
    neighbour_distance,
    save_familiarity,
    unit_length,
)

# Ten references at (1, 0) and one at (0, 1): the tenth nearest of a point near (1, 0) is at (1, 0).
REFERENCE = np.array([[1, 0]] * 10 + [[0, 1]], np.float32)


def at_distance(*distances: float) -> np.ndarray:
    """Features of some length whose direction lies so far from (1, 0)."""
    angle = 2 * np.arcsin(np.array(distances) / 2)
    return 7 * np.stack([np.cos(angle), -np.sin(angle)], axis=1)


def test_the_distance_is_that_of_directions_to_the_tenth_nearest():
    judge = Familiarity(REFERENCE, np.array([1.0]))
    points = np.array([[3.0, 0.0], [0.0, 5.0], [0.0, -2.0]])
    # (0, 1) is a reference itself, and its tenth nearest is at (1, 0) all the same.
    assert judge.distances(points) == pytest.approx([0, np.sqrt(2), np.sqrt(2)], abs=1e-6)
    assert judge.distances(at_distance(0.25)) == pytest.approx([0.25], abs=1e-6)


def test_few_references_count_to_the_last():
    assert neighbour_distance(np.array([[0.0], [3.0]]), np.array([[1.0]]), 2).tolist() == [2]
    assert Familiarity(REFERENCE[8:], np.array([1.0])).distances(np.array([[1.0, 0.0]])) == pytest.approx([2**0.5])


def test_the_percentile_is_the_share_of_usual_distances_that_are_nearer():
    judge = Familiarity(REFERENCE, np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    table = judge(at_distance(0.05, 0.15, 0.25, 0.5))
    assert table["distance_percentile"].tolist() == [0, 25, 50, 100]
    assert table["unlike_training"].tolist() == [False, False, False, True]


def test_from_99_percent_on_a_face_is_called_unlike():
    judge = Familiarity(REFERENCE, np.linspace(0.01, 1.0, 100).astype(np.float32))
    table = judge(at_distance(0.985, 0.995, 1.2))
    assert table["distance_percentile"].tolist() == [98, 99, 100]
    assert table["unlike_training"].tolist() == [False, True, True]


@pytest.mark.parametrize(("faces", "share"), [(16, 1 / 17), (199, 2 / 200), (1, 1 / 2)])
def test_the_share_flagged_of_faces_like_the_calibration_faces_by_hand(faces, share):
    assert Familiarity(REFERENCE, np.zeros(faces)).expected_share == pytest.approx(share)


def test_faces_of_one_kind_are_flagged_as_often_as_expected_and_strangers_always():
    rng = np.random.default_rng(0)
    kind = rng.normal([4, 0, 0, 0, 0, 0], 1, (3000, 6))
    judge = fit_familiarity(kind[:500], kind[500:1000], seed=0)
    flagged = judge(kind[1000:])["unlike_training"]
    assert flagged.mean() == pytest.approx(judge.expected_share, abs=0.01)
    assert judge(-kind[1000:1100])["unlike_training"].all()


def test_a_sample_of_the_training_faces_is_kept_the_same_for_a_seed(monkeypatch):
    monkeypatch.setattr(familiarity, "MOST_REFERENCES", 5)
    train, held = np.random.default_rng(1).normal(size=(2, 40, 3))
    kept = [fit_familiarity(train, held, seed).reference for seed in (0, 0, 1)]
    assert kept[0].shape == (5, 3) and (kept[0] == kept[1]).all() and (kept[0] != kept[2]).any()
    near = np.abs(unit_length(train)[None] - kept[0][:, None]).max(axis=2).min(axis=1)
    assert near.max() < 1e-3  # each is one of them, in half precision


def test_nothing_is_fitted_to_no_face():
    with pytest.raises(ValueError, match="takes faces of both kinds, and there are 3 and 0"):
        fit_familiarity(np.ones((3, 2)), np.ones((0, 2)), 0)


def test_features_of_length_zero_stay():
    assert unit_length([[0.0, 0.0], [3.0, 4.0]]) == pytest.approx(np.array([[0, 0], [0.6, 0.8]]))


# --- the file ---------------------------------------------------------------------------------------------


def test_what_is_saved_judges_the_same(tmp_path):
    train, held, other = np.random.default_rng(2).normal(size=(3, 50, 8))
    made = fit_familiarity(train, held, 0)
    save_familiarity(made, tmp_path / "f.safetensors")
    loaded = load_familiarity(tmp_path / "f.safetensors", 8)
    assert (loaded.reference == made.reference).all() and (loaded.usual == made.usual).all()
    assert loaded(other).equals(made(other))


def test_a_missing_file_names_the_notebook(tmp_path):
    with pytest.raises(MissingFromRun, match=r"is missing.*with --from 03 makes it"):
        load_familiarity(tmp_path / "f.safetensors", 8)


@pytest.mark.parametrize(
    "content",
    [
        {"reference": np.ones((4, 7)), "usual": np.ones(3)},  # of another network
        {"reference": np.ones((0, 8)), "usual": np.ones(3)},
        {"reference": np.ones((4, 8)), "usual": np.ones(0)},
        {"reference": np.ones((4, 8)), "usual": np.array([1, np.nan])},
        {"reference": np.full((4, 8), np.inf), "usual": np.ones(3)},
        {"reference": np.ones((4, 8))},
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(content, tmp_path):
    save_file(content, tmp_path / "f.safetensors")
    with pytest.raises(DamagedRun, match=r"f\.safetensors is not what facelib writes"):
        load_familiarity(tmp_path / "f.safetensors", 8)


def test_bytes_that_are_no_safetensors_are_refused(tmp_path):
    (tmp_path / "f.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DamagedRun, match=r"f\.safetensors is not what facelib writes"):
        load_familiarity(tmp_path / "f.safetensors", 8)
