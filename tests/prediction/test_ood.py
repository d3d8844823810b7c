"""The out-of-distribution score: distances and shares by hand, other features flagged, files loaded as saved."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from facelib.errors import DamagedRun, MissingFromRun
from facelib.prediction import ood
from facelib.prediction.ood import OodScore, fit_ood, load_ood, neighbour_distance, save_ood, unit_length

# Ten references at (1, 0) and one at (0, 1): the tenth nearest of a point near (1, 0) is at (1, 0).
REFERENCE = np.array([[1, 0]] * 10 + [[0, 1]], np.float32)


def at_distance(*distances: float) -> np.ndarray:
    """Features of some length whose direction lies so far from (1, 0)."""
    angle = 2 * np.arcsin(np.array(distances) / 2)
    return 7 * np.stack([np.cos(angle), -np.sin(angle)], axis=1)


def test_the_distance_is_that_of_directions_to_the_tenth_nearest():
    score = OodScore(REFERENCE, np.array([1.0]))
    points = np.array([[3.0, 0.0], [0.0, 5.0], [0.0, -2.0]])
    # (0, 1) is a reference itself, and its tenth nearest is still at (1, 0).
    assert score.distances(points) == pytest.approx([0, np.sqrt(2), np.sqrt(2)], abs=1e-6)
    assert score.distances(at_distance(0.25)) == pytest.approx([0.25], abs=1e-6)


def test_few_references_count_to_the_last():
    assert neighbour_distance(np.array([[0.0], [3.0]]), np.array([[1.0]]), 2).tolist() == [2]
    assert OodScore(REFERENCE[8:], np.array([1.0])).distances(np.array([[1.0, 0.0]])) == pytest.approx([2**0.5])


def test_the_percentile_is_the_share_of_calibration_distances_that_are_nearer():
    table = OodScore(REFERENCE, np.array([0.1, 0.2, 0.3, 0.4], np.float32))(at_distance(0.05, 0.15, 0.25, 0.5))
    assert table["ood_percentile"].tolist() == [0, 25, 50, 100]
    assert table["out_of_distribution"].tolist() == [False, False, False, True]


def test_faces_are_flagged_from_99_percent_on():
    table = OodScore(REFERENCE, np.linspace(0.01, 1.0, 100).astype(np.float32))(at_distance(0.985, 0.995, 1.2))
    assert table["ood_percentile"].tolist() == [98, 99, 100]
    assert table["out_of_distribution"].tolist() == [False, True, True]


@pytest.mark.parametrize(("faces", "share"), [(16, 1 / 17), (199, 2 / 200), (1, 1 / 2)])
def test_the_expected_share_of_flags_by_hand(faces, share):
    assert OodScore(REFERENCE, np.zeros(faces)).expected_share == pytest.approx(share)


def test_faces_of_one_kind_are_flagged_as_often_as_expected_and_others_always():
    rng = np.random.default_rng(0)
    kind = rng.normal([4, 0, 0, 0, 0, 0], 1, (3000, 6))
    score = fit_ood(kind[:500], kind[500:1000], seed=0)
    flagged = score(kind[1000:])["out_of_distribution"]
    assert flagged.mean() == pytest.approx(score.expected_share, abs=0.01)
    assert score(-kind[1000:1100])["out_of_distribution"].all()


def test_the_sample_of_training_faces_is_the_same_for_a_seed(monkeypatch):
    monkeypatch.setattr(ood, "MOST_REFERENCES", 5)
    train, held_out = np.random.default_rng(1).normal(size=(2, 40, 3))
    samples = [fit_ood(train, held_out, seed).reference for seed in (0, 0, 1)]
    assert samples[0].shape == (5, 3) and (samples[0] == samples[1]).all() and (samples[0] != samples[2]).any()
    nearest = np.abs(unit_length(train)[None] - samples[0][:, None]).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-3  # each is one of them, in half precision


def test_nothing_is_fitted_without_faces():
    with pytest.raises(ValueError, match="needs training and calibration faces, and there are 3 and 0"):
        fit_ood(np.ones((3, 2)), np.ones((0, 2)), 0)


def test_features_of_length_zero_stay():
    assert unit_length([[0.0, 0.0], [3.0, 4.0]]) == pytest.approx(np.array([[0, 0], [0.6, 0.8]]))


# --- the file ---------------------------------------------------------------------------------------------


def test_a_saved_score_scores_the_same(tmp_path):
    train, held_out, other = np.random.default_rng(2).normal(size=(3, 50, 8))
    made = fit_ood(train, held_out, 0)
    save_ood(made, tmp_path / "ood.safetensors")
    loaded = load_ood(tmp_path / "ood.safetensors", 8)
    assert (loaded.reference == made.reference).all() and (loaded.calibration == made.calibration).all()
    assert loaded(other).equals(made(other))


def test_a_missing_file_names_the_notebook(tmp_path):
    with pytest.raises(MissingFromRun, match=r"is missing.*with --from 03 makes it"):
        load_ood(tmp_path / "ood.safetensors", 8)


@pytest.mark.parametrize(
    "content",
    [
        {"reference": np.ones((4, 7)), "calibration": np.ones(3)},  # of another network
        {"reference": np.ones((0, 8)), "calibration": np.ones(3)},
        {"reference": np.ones((4, 8)), "calibration": np.ones(0)},
        {"reference": np.ones((4, 8)), "calibration": np.array([1, np.nan])},
        {"reference": np.full((4, 8), np.inf), "calibration": np.ones(3)},
        {"reference": np.ones((4, 8))},
    ],
)
def test_a_file_with_other_content_is_refused(content, tmp_path):
    save_file(content, tmp_path / "ood.safetensors")
    with pytest.raises(DamagedRun, match=r"ood\.safetensors is not what facelib writes"):
        load_ood(tmp_path / "ood.safetensors", 8)


def test_bytes_that_are_not_safetensors_are_refused(tmp_path):
    (tmp_path / "ood.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DamagedRun, match=r"ood\.safetensors is not what facelib writes"):
        load_ood(tmp_path / "ood.safetensors", 8)
