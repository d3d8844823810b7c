"""Pictures without an upright face rank last, though none is known and some are among those that are learned from."""

import numpy as np
import pytest

from facelib.data.pixels import FaceImages
from facelib.embedding import outliers
from facelib.embedding.features import Embedding
from facelib.embedding.outliers import TILES, face_scores, spoil
from facelib.metrics import auc
from facelib.synthetic.drawing import draw_face


def test_ways_to_spoil_keep_the_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    rng = np.random.default_rng(1)
    turned = [spoil(picture, way, rng) for way in (1, 2, 3)]
    assert np.array_equal(turned[1], picture[::-1, ::-1]) and np.array_equal(turned[0], turned[2][::-1, ::-1])
    shuffled = spoil(picture, 4, rng)
    assert not np.array_equal(shuffled, picture)
    tiles = [
        sorted(part.tobytes() for band in np.split(image, TILES) for part in np.split(band, TILES, axis=1))
        for image in (picture, shuffled)
    ]
    assert tiles[0] == tiles[1]


def test_turned_faces_and_other_pictures_rank_below_faces(installed):
    rng = np.random.default_rng(0)
    faces = [draw_face(20 + k % 50, k % 2, k % 5, rng, 64) for k in range(120)]
    planted = [spoil(draw_face(30, k % 2, k % 5, rng, 64), k, rng) for k in range(8)]
    planted += list(rng.integers(0, 256, (4, 64, 64, 3), np.uint8))
    pixels, is_face = np.stack([*faces, *planted]), np.repeat([1, 0], [120, 12])
    order = rng.permutation(len(pixels))
    scores = face_scores(FaceImages(pixels, order))
    assert auc(is_face[order], scores) > 0.98 and scores.min() >= 0 and scores.max() <= 1


def test_no_row_is_scored_by_a_model_that_learned_from_it(monkeypatch):
    """Features that name their row: a model can only know rows that it saw."""
    learned = []

    class Model:
        def fit(self, features, labels):
            self.rows = set(features[labels == 1, 0].tolist())

        def predict_proba(self, features):
            learned.append((self.rows, set(features[:, 0].tolist())))
            return np.full((len(features), 2), 0.5)

    monkeypatch.setattr(outliers, "make_pipeline", lambda *_: Model())
    monkeypatch.setattr(outliers, "embed", lambda images, _: Embedding(np.arange(len(images))[:, None], None))
    monkeypatch.setattr(outliers, "SAMPLE", 6)
    face_scores(FaceImages(np.zeros((11, 12, 12, 3), np.uint8), np.arange(11)))
    (first, scored_first), (second, scored_second) = learned
    assert not first & scored_first and not second & scored_second and len(first) == len(second) == 3
    assert scored_first | scored_second == set(range(11)) and not scored_first & scored_second


@pytest.mark.parametrize("n", [0, 1])
def test_few_pictures_are_not_judged(n, monkeypatch):
    monkeypatch.setattr(outliers, "embed", lambda images, _: Embedding(np.zeros((len(images), 256)), None))
    assert face_scores(FaceImages(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(n, int))).tolist() == [1.0] * n
