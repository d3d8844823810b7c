"""Faces are found upright and turned, small and large; other things, and what is no photograph, give none."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from skimage import data

from facelib.data import detection, dlib_files, mmod
from facelib.data.detection import (
    TURNS,
    DetectorMissing,
    aligned_face,
    find_chip_faces,
    find_faces,
    landmarks_of,
    turned,
)
from facelib.data.pixels import cache_faces, cache_key
from facelib.data.readers import read_faces

pytest.importorskip("dlib")
if importlib.util.find_spec(dlib_files.PACKAGE) is None:
    pytest.skip("the models of face-recognition-models are not installed", allow_module_level=True)
# Her eyes in the photograph, the one at the right first, by eye.
EYES = np.array([[246.7, 103.4], [203.3, 101.2]])


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


def test_the_astronaut_is_found_once_with_her_eyes(astronaut):
    found = find_faces(astronaut)
    (face,) = found.faces
    assert found.rotation == 0 and face.detector == "hog" and face.score > detection.SURE
    assert face.eyes == pytest.approx(EYES, abs=4)
    assert face.frame.edge == pytest.approx(120, abs=5)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", TURNS)
def test_a_photograph_on_its_side_is_turned(astronaut, degrees):
    lying = turned(astronaut, 360 - degrees)
    found = find_faces(lying)
    assert found.rotation == degrees and np.array_equal(found.photo, astronaut)
    assert found.faces[0].eyes == pytest.approx(EYES, abs=4)


def test_a_tilted_face_is_found_at_its_angle(astronaut):
    tilted = astronaut.rotate(20, Image.Resampling.BICUBIC)  # anticlockwise
    (face,) = find_faces(tilted).faces
    assert face.frame.angle == pytest.approx(find_faces(astronaut).faces[0].frame.angle - 20, abs=2)


def test_faces_come_largest_first(astronaut):
    small = astronaut.resize((384, 384))
    both = Image.new("RGB", (896, 512))
    both.paste(small, (0, 0))
    both.paste(astronaut, (384, 0))
    first, second = find_faces(both).faces
    assert first.frame.edge > second.frame.edge and first.frame.x > 384 > second.frame.x


def test_landmarks_of_a_given_frame_are_those_of_the_find(astronaut):
    (face,) = find_faces(astronaut).faces
    assert landmarks_of(astronaut, face.frame) == pytest.approx(face.landmarks, abs=1)


def test_a_small_face_in_a_large_photograph_is_found(astronaut):
    large = Image.fromarray(data.coffee()).resize((2000, 1400))
    large.paste(astronaut, (1000, 700))
    (face,) = find_faces(large).faces
    assert face.eyes - (1000, 700) == pytest.approx(EYES, abs=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_other_things_hold_no_face(name):
    assert find_faces(Image.fromarray(getattr(data, name)()).convert("RGB")).faces == []


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (12_000, 2), (30, 40)])
def test_odd_shapes_hold_no_face(size):
    found = find_faces(Image.new("RGB", size, "grey"))
    assert found.faces == [] and found.rotation == 0


def test_a_proposal_that_is_not_found_again_is_left_out(astronaut):
    """At the low threshold the portrait has a second proposal, a pattern."""
    searched, _ = detection._scaled(astronaut, *detection.HOG_PIXELS)
    assert len(detection._hog_finds(searched, detection.PROPOSED)) > 1
    assert len(detection._confirmed(astronaut)) == 1


@pytest.mark.slow
def test_threads_share_the_detector(astronaut):
    pictures = [Image.fromarray(np.roll(data.astronaut(), 7 * k, axis=1)) for k in range(3)]
    alone = [find_faces(picture).faces[0].frame for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        assert [found.faces[0].frame for found in pool.map(find_faces, pictures)] == alone


def test_without_the_packages_one_sentence_names_the_command(astronaut, monkeypatch):
    for cached in (detection._dlib, detection._hog, detection._landmarks, mmod._layers):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(DetectorMissing, match=r"dlib, which is not installed: pip install dlib-bin"):
        find_faces(astronaut)
    monkeypatch.undo()
    monkeypatch.setattr(dlib_files, "PACKAGE", "no_such_package")
    with pytest.raises(dlib_files.WeightsError, match=r"\.dat is not installed: pip install dlib-bin"):
        find_faces(astronaut)


def test_the_network_scores_as_dlib_does(astronaut):
    small = astronaut.crop((100, 0, 350, 250))
    (found,) = detection._dlib().cnn_face_detection_model_v1(str(dlib_files.model_file(mmod.FILE)))(
        np.asarray(small), 0
    )
    best = mmod.find_boxes(small, 0.0)[0]
    assert best.score == pytest.approx(found.confidence, abs=0.05)
    middle = found.rect.dcenter()
    assert (best.x, best.y) == pytest.approx((middle.x, middle.y), abs=mmod.STRIDE / mmod.STEP)  # a place apart


def test_a_damaged_file_of_the_cache_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path))
    (path,) = [tmp_path / f"hog-{detection._dlib().__version__}.dat"]
    path.write_bytes(b"no detector")
    detection._hog.cache_clear()
    detection._hog()
    assert path.stat().st_size > 100_000
    detection._hog.cache_clear()
    assert detection._hog().detection_window_width == 80


# --- data sets that are not aligned -----------------------------------------------------------------------


def test_photographs_of_a_data_set_are_aligned_or_rejected(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.fromarray(data.astronaut()).save(folder / "40_1_0_portrait.png")
    Image.new("RGB", (90, 70), "grey").save(folder / "40_1_0_nothing.png")
    source = read_faces(folder)
    images, faces, rejected = cache_faces(source, 64, tmp_path / "cache", align=True)
    assert faces["image_id"].tolist() == ["40_1_0_portrait.png"] and faces["width"].tolist() == [512]
    assert rejected.values.tolist() == [["40_1_0_nothing.png", "shows no face that is found"]]
    assert (images[0] == aligned_face(Image.fromarray(data.astronaut()), 64)).all()
    assert find_chip_faces(images[[0]])[0] == pytest.approx([0, 0, 1], abs=0.05)
    # Cached apart from the pictures as they are.
    _, faces, _ = cache_faces(source, 64, tmp_path / "cache")
    assert len(faces) == 2 and cache_key(source.faces, 64) != cache_key(source.faces, 64, align=True)


# --- aligned chips ----------------------------------------------------------------------------------------


def chip(left: int, top: int, edge: int, px: int = 64) -> np.ndarray:
    """A square of the astronaut's photograph; her aligned chip is at (165, 65), 120 px wide."""
    return np.asarray(Image.fromarray(data.astronaut()[top : top + edge, left : left + edge]).resize((px, px)))


def test_the_face_of_a_chip_is_found_where_it_is_at_any_size():
    usual, further, lower = find_chip_faces(np.stack([chip(165, 65, 120), chip(145, 45, 160), chip(165, 53, 120)]))
    assert usual == pytest.approx([0, 0, 1], abs=0.05)
    assert further == pytest.approx([20 / 160, 20 / 160, 120 / 160], abs=0.05)
    assert lower == pytest.approx([0, 0.1, 1], abs=0.05)
    assert find_chip_faces(chip(165, 65, 120, 128)[None])[0] == pytest.approx([0, 0, 1], abs=0.05)


def test_no_face_is_found_in_a_chip_of_other_things():
    others = np.stack([chip(370, 120, 140), np.full((64, 64, 3), 90, np.uint8), data.coffee()[100:164, 200:264]])
    assert np.isnan(find_chip_faces(others)).all()
    assert find_chip_faces(others[:0]).shape == (0, 3)
