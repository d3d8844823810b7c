"""The drawn face: labels that can be seen in it, and yet overlap; landmarks where aligned chips have them."""

import math

import numpy as np
import pytest

from facelib.synthetic import drawing
from facelib.synthetic.drawing import draw_face

PX = 64
# Mean grey levels of the quarters of five faces, as version 2 draws them.
BLOCKS = (
    (177.7, 152.3, 159.9, 135.0),
    (91.9, 107.8, 98.1, 121.7),
    (140.4, 155.4, 131.1, 137.8),
    (142.5, 163.7, 111.7, 137.2),
    (156.6, 152.0, 132.9, 125.9),
)


def median_colour(face: np.ndarray) -> np.ndarray:
    """Median colour of forehead and cheeks."""
    unit = len(face) / 200
    rows = slice(round(80 * unit), round(100 * unit))
    return np.median(face[rows, round(60 * unit) : round(140 * unit)].reshape(-1, 3), axis=0)


def faces(n: int, px: int = PX, **labels):
    return [draw_face(rng=np.random.default_rng([11, i]), px=px, **labels) for i in range(n)]


@pytest.mark.slow
def test_eyes_are_where_aligned_chips_have_them():
    px = 100
    grey = np.mean([face.mean(axis=2) for face in faces(40, px, age_years=30, gender=1, group=0)], axis=0)
    for x, y in ((61, 58), (139, 58)):
        top, left = round(y * px / 200) - 8, round(x * px / 200) - 8
        window = grey[top : top + 16, left : left + 16]
        dark = np.clip(np.quantile(window, 0.25) - window, 0, None)  # the pupils
        rows, cols = np.mgrid[top : top + 16, left : left + 16] + 0.5
        centre = (np.sum(cols * dark) / dark.sum() * 200 / px, np.sum(rows * dark) / dark.sum() * 200 / px)
        assert math.dist(centre, (x, y)) < 4


def test_faces_vary_and_are_8_bit_rgb():
    first, second = faces(2, 48, age_years=40, gender=0, group=1)
    assert first.shape == (48, 48, 3) and first.dtype == np.uint8
    assert np.abs(first.astype(int) - second).mean() > 5


@pytest.mark.slow
def test_each_group_has_its_own_tint():
    def hue(face):
        red, green, blue = median_colour(face)
        angle = math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)
        return np.array([math.cos(angle), math.sin(angle)])

    means = [np.mean([hue(face) for face in faces(25, age_years=25, gender=1, group=k)], axis=0) for k in range(5)]
    hits = [
        int(np.argmax([hue(face) @ (mean / np.linalg.norm(mean)) for mean in means])) == k
        for k in range(5)
        for face in faces(25, age_years=25, gender=1, group=k)
    ]
    assert 0.6 < np.mean(hits) < 0.965  # visible, and yet they overlap


@pytest.mark.slow
def test_fine_texture_grows_with_age():
    def roughness(face):
        halved = face[40:76, 32:96].mean(axis=2).reshape(18, 2, 32, 2).mean(axis=(1, 3))  # averages the grain out
        return np.abs(4 * halved[1:-1, 1:-1] - halved[:-2, 1:-1] - halved[2:, 1:-1] - halved[1:-1, :-2]
                      - halved[1:-1, 2:]).mean() / halved.mean()  # fmt: skip

    portraits = (faces(24, 128, age_years=age, gender=1, group=2) for age in (20, 55, 85))
    young, middle, old = (np.median([roughness(face) for face in ages]) for ages in portraits)
    assert young < middle < old


def test_infants_have_shorter_faces_than_adults():
    def marks(age):
        rng = np.random.default_rng(0)
        return [drawing._sample_person(age, 0, 0, rng).chin for _ in range(30)]

    assert max(marks(1)) < min(marks(40))


def test_gender_cues_differ_in_adults_and_blur_in_infants():
    def long_hair_share(age, gender):
        rng = np.random.default_rng(0)
        return np.mean([drawing._sample_person(age, gender, 0, rng).hair_style == "long" for _ in range(200)])

    assert long_hair_share(30, 1) - long_hair_share(30, 0) > 0.5
    assert long_hair_share(3, 1) - long_hair_share(3, 0) < 0.35


@pytest.mark.parametrize("labels", [(-1, 0, 0), (200, 0, 0), (30, 2, 0), (30, 0, 5)])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(ValueError, match="allowed"):
        draw_face(*labels, rng=np.random.default_rng(0), px=16)


def test_pictures_stay_the_same_within_a_version():
    assert drawing.DRAWING_VERSION == 2
    labels = [(1, 0, 0), (14, 1, 1), (35, 0, 2), (60, 1, 3), (86, 0, 4)]
    drawn = [draw_face(*face, rng=np.random.default_rng(face), px=64) for face in labels]
    blocks = np.array([face.reshape(2, 32, 2, 32, 3).mean(axis=(1, 3, 4)).ravel() for face in drawn])
    np.testing.assert_allclose(blocks, BLOCKS, atol=0.5)  # processors differ in the last bit


def test_a_smile_can_be_given_and_changes_the_mouth_alone():
    def rows_changed(first, second):
        return np.flatnonzero((first != second).any(axis=(1, 2)))

    plain, smiling, neutral = (
        draw_face(30, 1, 0, np.random.default_rng(4), px=100, **features)
        for features in ({}, {"smile": 1.5}, {"smile": -0.5})
    )
    changed = rows_changed(smiling, neutral)
    assert changed.min() > 30 and changed.max() < 90 and np.abs(smiling.astype(int) - neutral).max() > 40
    assert (draw_face(30, 1, 0, np.random.default_rng(4), px=100) == plain).all()
    with pytest.raises(ValueError, match="hat"):
        draw_face(30, 1, 0, np.random.default_rng(4), px=16, hat=1)
