"""Pictures without an upright face rank last, though none is known and some are among those that are learned from."""

import numpy as np
import pytest

from facelib.data.pixels import FaceImages
from facelib.embedding import outliers
from facelib.embedding.features import Embedding, embed
from facelib.embedding.outliers import face_scores
from facelib.embedding.spoiled import TILES, spoil
from facelib.metrics import auc
from facelib.synthetic.drawing import draw_face

DIGESTS = [f"{k:08x}" for k in range(200)]


def test_ways_to_spoil_keep_the_pixels_and_follow_the_digest():
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    spoilt = [spoil(picture, digest) for digest in DIGESTS[:30]]
    turned = [[np.array_equal(one, np.rot90(picture, k)) for one in spoilt] for k in (1, 2, 3)]
    ways = np.sum(turned, axis=1)
    assert (ways > 2).all() and 30 - ways.sum() > 2 and not any(np.array_equal(one, picture) for one in spoilt)
    assert np.array_equal(spoil(picture, DIGESTS[3]), spoilt[3])
    shuffled = spoilt[int(np.argmin(np.sum(turned, axis=0)))]
    tiles = [
        sorted(part.tobytes() for band in np.split(image, TILES) for part in np.split(band, TILES, axis=1))
        for image in (picture, shuffled)
    ]
    assert tiles[0] == tiles[1]


def test_turned_faces_and_other_pictures_rank_below_faces(installed):
    rng = np.random.default_rng(0)
    faces = [draw_face(20 + k % 50, k % 2, k % 5, rng, 64) for k in range(120)]
    planted = [np.rot90(draw_face(30, k % 2, k % 5, rng, 64), 1 + k % 3) for k in range(8)]
    planted += list(rng.integers(0, 256, (4, 64, 64, 3), np.uint8))
    is_face, rows = np.repeat([1, 0], [120, 12]), rng.permutation(132)[:80]
    pixels = np.stack([*faces, *planted])
    spoilt = np.stack([spoil(pixels[row], DIGESTS[row]) for row in rows])
    (features, descriptors), (unlike, _) = (embed(FaceImages(part, np.arange(len(part)))) for part in (pixels, spoilt))
    scores = face_scores(Embedding(features, descriptors, unlike, rows))
    assert auc(is_face, scores) > 0.98 and scores.min() >= 0 and scores.max() <= 1


def test_no_row_is_scored_by_a_model_that_learned_from_it(monkeypatch):
    """Features that name their row: a model can only know rows that it saw."""
    learned = []

    class Model:
        def fit(self, features, labels):
            self.rows = set(features[labels == 1, 0].tolist())
            return self

        def predict_proba(self, features):
            learned.append((self.rows, set(features[:, 0].tolist())))
            return np.full((len(features), 2), 0.5)

    monkeypatch.setattr(outliers, "make_pipeline", lambda *_: Model())
    rows = np.array([3, 1, 8, 9, 0, 5])
    face_scores(Embedding(np.arange(11)[:, None], None, -rows[:, None], rows))
    (first, scored_first), (second, scored_second) = learned
    assert not first & scored_first and not second & scored_second and first | second == set(rows.tolist())
    assert scored_first | scored_second == set(range(11)) and not scored_first & scored_second


@pytest.mark.parametrize("n", [0, 1])
def test_few_pictures_are_not_judged(n):
    embedding = Embedding(np.zeros((n, 256)), None, np.zeros((n, 256)), np.zeros(n, int))
    assert face_scores(embedding).tolist() == [1.0] * n
