"""Image quality: a spoilt picture scores below the original, and its flag says what is wrong."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from skimage import data

from facelib.audit.quality import THRESHOLDS as ALL_THRESHOLDS
from facelib.audit.quality import score_quality
from facelib.data.pixels import FaceImages
from facelib.synthetic.drawing import draw_face

GOOD_SEEDS = (2, 3, 4, 6)
# Drawn without one of the camera's faults.
GOOD = [draw_face(30, seed % 2, seed % 5, np.random.default_rng([21, seed]), 64) for seed in GOOD_SEEDS]

THRESHOLDS = {name: limit for name, limit in ALL_THRESHOLDS.items() if name not in ("face", "framing", "upright")}


def score(images, width: int = 200, height: int = 200, index=None) -> pd.DataFrame:
    pixels = np.stack(images)
    faces = pd.DataFrame(
        {"image_id": [f"{k}.jpg" for k in range(len(images))], "width": width, "height": height}, index=index
    )
    return score_quality(faces, FaceImages(pixels, np.arange(len(images))), find_faces=False)


def darken(image):
    return (image * 0.1).astype(np.uint8)


def brighten(image):
    return (255 - (255 - image) * 0.05).astype(np.uint8)


def blur(image):
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3)))


def flatten(image):
    return (100 + image * 0.1).astype(np.uint8)


def frame(image):
    framed = image.copy()
    framed[:10] = framed[-10:] = 3
    return framed


def frame_sides(image):
    return np.ascontiguousarray(frame(image).transpose(1, 0, 2))


def bleach(image):
    return np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


def test_good_pictures_raise_no_flag():
    table = score(GOOD)
    assert not table[[f"is_{name}" for name in THRESHOLDS]].any(axis=None)
    assert table["image_id"].tolist() == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.parametrize(
    ("spoil", "name"),
    [(darken, "dark"), (brighten, "bright"), (blur, "blur"), (flatten, "contrast"), (frame, "border"),
     (frame_sides, "border"), (bleach, "grey")],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_a_spoilt_picture_scores_below_the_original_and_is_flagged(spoil, name):
    before, after = score(GOOD), score([spoil(image) for image in GOOD])
    assert (after[name] < before[name]).all()
    assert after[f"is_{name}"].all()


def test_scores_run_from_zero_to_one_even_for_blank_pictures():
    blank = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 128, 255)]
    noise = np.random.default_rng(0).choice([0, 255], (32, 32, 3)).astype(np.uint8)
    scores = score([*blank, noise])[list(THRESHOLDS)]
    assert scores.notna().all(axis=None) and (scores >= 0).all(axis=None) and (scores <= 1).all(axis=None)


def test_scores_by_hand():
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 255  # half of the columns are black
    table = score([half], width=50, height=400).iloc[0]
    assert (table["dark"], table["bright"], table["contrast"]) == (1, 1, 1)
    assert table["border"] == 0.5 and table["grey"] == 0
    assert table["tiny"] == 50 / 200  # the shorter edge of the original


def test_an_original_that_was_too_small_is_flagged_whatever_its_cached_size():
    assert score(GOOD, width=48, height=48)["is_tiny"].all()
    assert not score(GOOD, width=51, height=300)["is_tiny"].any()


def test_a_flag_is_a_score_below_its_threshold():
    table = score([*GOOD, *map(darken, GOOD), *map(blur, GOOD)])
    for name, threshold in THRESHOLDS.items():
        assert (table[f"is_{name}"] == (table[name] < threshold)).all()


def test_rows_stay_together_when_the_table_was_filtered_before():
    table = score([GOOD[0], darken(GOOD[1])], index=[5, 2])
    assert len(table) == 2 and table["is_dark"].tolist() == [False, True]
    assert table["image_id"].tolist() == ["0.jpg", "1.jpg"]


# --- faces ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chips() -> np.ndarray:
    """The astronaut's face five times as an aligned chip, once seen from further away, and her rocket."""
    photo = data.astronaut()
    close, far = (
        np.asarray(Image.fromarray(photo[top : top + edge, left : left + edge]).resize((64, 64)))
        for left, top, edge in ((172, 78, 105), (144, 50, 165))
    )
    rocket = np.asarray(Image.fromarray(photo[100:300, 370:512]).resize((64, 64)))
    return np.stack([close] * 5 + [far, rocket])


def test_a_missing_and_an_oddly_framed_face_are_flagged(chips):
    faces = pd.DataFrame({"image_id": range(7), "width": 200, "height": 200})
    table = score_quality(faces, FaceImages(chips, np.arange(7)), find_faces=True, n_jobs=1)
    assert table["face"].tolist() == [1, 1, 1, 1, 1, 1, 0] and table["is_face"].tolist() == [False] * 6 + [True]
    assert table["is_framing"].tolist() == [False] * 5 + [True, False]
    assert (table["framing"][:5] > 0.99).all() and table["framing"][5] < 0.6
    assert np.isnan(table["framing"][6])  # nothing is framed where no face was found


def test_scores_do_not_depend_on_the_size_of_the_cache(chips):
    faces = pd.DataFrame({"image_id": range(7), "width": 200, "height": 200})
    large = np.stack([np.asarray(Image.fromarray(chip).resize((128, 128), Image.Resampling.NEAREST)) for chip in chips])
    small, big = (score_quality(faces, FaceImages(x, np.arange(7)), find_faces=False) for x in (chips, large))
    pd.testing.assert_frame_equal(small, big)


def test_scores_of_upright_faces_are_taken_over():
    images = np.full((2, 64, 64, 3), 90, np.uint8)
    faces = pd.DataFrame({"image_id": ["a", "b"], "width": 200, "height": 200})
    table = score_quality(faces, FaceImages(images, np.arange(2)), find_faces=False, upright=np.array([0.49, 0.51]))
    assert table["upright"].tolist() == [0.49, 0.51] and table["is_upright"].tolist() == [True, False]
