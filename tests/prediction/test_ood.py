"""The out-of-distribution score: by hand, other features flagged, files loaded as saved."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from facelib.embedding.features import Embedding
from facelib.errors import DamagedRun, MissingFromRun
from facelib.prediction.ood import OodScore, fit_ood, load_ood, save_ood, unknown_ood


def score_of(calibration, centre=(0.0, 0.0), direction=(0.0, 0.0), offset=0.0) -> OodScore:
    """A score whose distance is the squared Euclidean one."""
    arrays = centre, np.eye(len(centre)), direction, [offset], calibration
    return OodScore(*(np.asarray(array, np.float32) for array in arrays))


def embedding(features: np.ndarray, spoiled: np.ndarray) -> Embedding:
    return Embedding(features, None, spoiled, np.arange(len(spoiled)))


def test_the_score_is_the_distance_and_the_direction_by_hand():
    score = score_of([0.0], centre=(1.0, 0.0), direction=(0.5, -2.0), offset=3.0)
    assert score.scores(np.array([[1.0, 0.0], [4.0, 2.0]])) == pytest.approx([0 + 0.5 + 3, 13 + 2 - 4 + 3])


def test_the_percentile_is_the_share_of_calibration_faces_that_score_less():
    points = np.sqrt([[0.05], [0.15], [0.25], [0.5]]) * [[1, 0]]
    table = score_of([0.1, 0.2, 0.3, 0.4])(points)
    assert table["ood_percentile"].tolist() == [0, 25, 50, 100]
    assert table["out_of_distribution"].tolist() == [False, False, False, True]


def test_faces_are_flagged_from_99_percent_on():
    table = score_of(np.linspace(0.01, 1.0, 100))(np.sqrt([[0.985], [0.995], [1.2]]) * [[0, 1]])
    assert table["ood_percentile"].tolist() == [98, 99, 100]
    assert table["out_of_distribution"].tolist() == [False, True, True]


@pytest.mark.parametrize(("faces", "share"), [(16, 1 / 17), (199, 2 / 200), (1, 1 / 2)])
def test_the_expected_share_of_flags_by_hand(faces, share):
    assert score_of(np.zeros(faces)).expected_share == pytest.approx(share)


def test_without_features_nothing_is_known_and_nothing_flagged():
    table = unknown_ood(3)
    assert len(table) == 3 and table["ood_percentile"].isna().all() and not table["out_of_distribution"].any()


def test_faces_of_one_kind_are_flagged_as_often_as_expected_and_others_always():
    rng = np.random.default_rng(0)
    kind = rng.normal([4, 0, 0, 0, 0, 0], 1, (3000, 6))
    score = fit_ood(embedding(kind, rng.normal([0, 4, 0, 0, 0, 0], 1, (500, 6))), np.arange(500), np.arange(500, 1000))
    flagged = score(kind[1000:])["out_of_distribution"]
    assert flagged.mean() == pytest.approx(score.expected_share, abs=0.01)
    assert score(-kind[1000:1100])["out_of_distribution"].all()


def test_points_like_spoiled_pictures_score_more_than_others_as_far_away():
    rng = np.random.default_rng(1)
    faces = rng.normal(size=(600, 4))
    score = fit_ood(embedding(faces, rng.normal([3, 0, 0, 0], 1, (300, 4))), np.arange(300), np.arange(300, 600))
    like_spoiled, unlike = score.scores(np.array([[3.0, 0, 0, 0], [-3.0, 0, 0, 0]]))
    assert like_spoiled > unlike + 1


def test_what_is_no_training_face_is_not_learned():
    rng = np.random.default_rng(2)
    faces, spoiled = rng.normal(size=(60, 4)), rng.normal(3, 1, (60, 4))
    rows = np.arange(40), np.arange(40, 50)
    moved, other = faces.copy(), spoiled.copy()
    moved[50:], other[40:] = 99, 99
    first, second = (fit_ood(embedding(*pair), *rows) for pair in ((faces, spoiled), (moved, other)))
    assert (first.scores(faces) == second.scores(faces)).all()


def test_one_calibration_face_suffices_and_none_does_not():
    faces, spoiled = np.random.default_rng(3).normal(size=(2, 20, 3))
    assert np.isfinite(fit_ood(embedding(faces, spoiled), np.arange(10), np.array([12])).calibration).all()
    with pytest.raises(ValueError, match="needs training and calibration faces, and there are 3 and 0"):
        fit_ood(embedding(faces, spoiled), np.arange(3), np.array([], int))


# --- the file ---------------------------------------------------------------------------------------------

STORED = {"centre": np.ones(256), "whitening": np.eye(256)[:, :160], "direction": np.ones(256), "offset": np.ones(1)}
STORED |= {"calibration": np.arange(4.0)}


def test_a_saved_score_scores_the_same(tmp_path):
    faces, spoiled, other = np.random.default_rng(2).normal(size=(3, 300, 256))
    made = fit_ood(embedding(faces, spoiled), np.arange(200), np.arange(200, 300))
    save_ood(made, tmp_path / "ood.safetensors")
    assert load_ood(tmp_path / "ood.safetensors")(other).equals(made(other))


def test_a_missing_file_names_the_notebook(tmp_path):
    with pytest.raises(MissingFromRun, match=r"is missing.*with --from 03 makes it"):
        load_ood(tmp_path / "ood.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        STORED | {"centre": np.ones(7)},
        STORED | {"whitening": np.eye(7)},
        STORED | {"calibration": np.ones(0)},
        STORED | {"calibration": np.array([1, np.nan])},
        STORED | {"direction": np.full(256, np.inf)},
        {"reference": np.ones((4, 256)), "calibration": np.ones(3)},  # of an earlier version
    ],
)
def test_a_file_with_other_content_is_refused(content, tmp_path):
    save_file(content, tmp_path / "ood.safetensors")
    with pytest.raises(DamagedRun, match=r"ood\.safetensors is not what facelib writes"):
        load_ood(tmp_path / "ood.safetensors")


def test_bytes_that_are_not_safetensors_are_refused(tmp_path):
    (tmp_path / "ood.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DamagedRun, match=r"ood\.safetensors is not what facelib writes"):
        load_ood(tmp_path / "ood.safetensors")
