"""External photographs: the face is found and cropped as in training, or the centre is, and it is said."""

import numpy as np
import pytest
from PIL import Image

from facelib.analysis.external import (
    FaceCrop,
    UnreadablePhoto,
    collect_photos,
    crop_faces,
    example_photo,
    predict_photo,
    read_photo,
    rezoom,
)
from facelib.models.calibration import AgeIntervals
from facelib.models.predictor import Predictor, Temperatures
from facelib.schema import ETHNICITIES


@pytest.fixture(scope="module")
def astronaut() -> FaceCrop:
    return crop_faces(example_photo(), 64)[0]


@pytest.fixture
def predictor(tiny_network) -> Predictor:
    return Predictor(tiny_network, None, "direct", Temperatures(), AgeIntervals((), (5.0,)), 32, True)


def overlap(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """Intersection over union of two squares (left, top, edge)."""
    sides = [max(0, min(first[k] + first[2], second[k] + second[2]) - max(first[k], second[k])) for k in (0, 1)]
    shared = sides[0] * sides[1]
    return shared / (first[2] ** 2 + second[2] ** 2 - shared)


# --- finding ----------------------------------------------------------------------------------------------


def test_the_astronauts_face_is_found(astronaut):
    assert astronaut.found and astronaut.image.shape == (64, 64, 3) and astronaut.image.dtype == np.uint8
    # Her eyes are at about (204, 108) and (245, 107): 41 px apart, so an aligned crop is about 105 px wide.
    assert overlap(astronaut.box, (172, 78, 105)) > 0.5


def test_the_box_moves_with_the_photograph(astronaut):
    photo = example_photo()
    wider = np.pad(photo, ((0, 0), (200, 0), (0, 0)), mode="edge")
    moved = max(crop_faces(wider, 64), key=lambda crop: overlap(crop.box, (372, 78, 105)))
    assert moved.found and overlap(moved.box, (astronaut.box[0] + 200, *astronaut.box[1:])) > 0.5


def test_faces_come_largest_first(astronaut):
    photo = example_photo()
    larger = np.asarray(Image.fromarray(photo).resize((768, 768)))[:512]
    crops = crop_faces(np.concatenate([photo, larger], axis=1), 32)
    left, top, edge = astronaut.box
    assert overlap(crops[0].box, (512 + left * 3 // 2, top * 3 // 2, edge * 3 // 2)) > 0.5
    assert overlap(crops[1].box, astronaut.box) > 0.5


@pytest.mark.parametrize(
    ("height", "width", "box"), [(200, 300, (50, 0, 200)), (300, 200, (0, 50, 200)), (90, 90, (0, 0, 90))]
)
def test_a_photograph_without_a_face_gives_its_centre(height, width, box):
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    crops = crop_faces(photo, 32)
    assert len(crops) == 1 and not crops[0].found and crops[0].box == box
    left, _, edge = box
    assert crops[0].image[..., 0].mean() == pytest.approx(photo[:, left : left + edge, 0].mean(), abs=1)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (700, 5)])
def test_odd_shapes_are_no_obstacle(size):
    crops = crop_faces(np.full((*size, 3), 128, np.uint8), 32)
    assert crops[0].image.shape == (32, 32, 3) and not crops[0].found


def test_the_portrait_holds_one_face():
    assert [crop.found for crop in crop_faces(example_photo(), 32)] == [True]


# --- cropping ---------------------------------------------------------------------------------------------


def test_zooming_keeps_the_centre():
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[95:106, 115:126] = 255  # centred on row 100.5, column 120.5
    crop = FaceCrop(np.zeros((40, 40, 3), np.uint8), (100, 80, 40), True)
    for zoom in (1.0, 0.5, 2.0):
        image = rezoom(photo, crop, zoom, 40).mean(axis=2)
        centre = (image * np.arange(40)[:, None]).sum() / image.sum(), (image * np.arange(40)).sum() / image.sum()
        assert centre == pytest.approx((20, 20), abs=1)
        assert (image > 127).mean() == pytest.approx((11 / (40 * zoom)) ** 2, rel=0.15)


def test_a_crop_beyond_the_border_is_black_there():
    crop = FaceCrop(np.zeros((40, 40, 3), np.uint8), (-50, 0, 100), True)
    image = rezoom(np.full((100, 100, 3), 200, np.uint8), crop, 1.0, 40)
    assert image[:, :16].max() < 3 and image[:, 24:].min() > 197  # the filter rings a little at the border


# --- reading ----------------------------------------------------------------------------------------------


def test_a_photograph_is_turned_upright(tmp_path):
    picture = Image.fromarray(np.dstack([np.arange(60, dtype=np.uint8).reshape(6, 10)] * 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    assert (read_photo(tmp_path / "turned.png") == np.rot90(np.asarray(picture), -1)).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_photographs_of_every_mode_become_rgb(mode, tmp_path):
    Image.new("RGB", (8, 6), "red").convert(mode).save(tmp_path / "photo.png")
    assert read_photo(tmp_path / "photo.png").shape == (6, 8, 3)


def test_unreadable_photographs_say_why(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    with pytest.raises(UnreadablePhoto, match=r"notes\.jpg is no image: give a photograph"):
        read_photo(tmp_path / "notes.jpg")
    with pytest.raises(UnreadablePhoto, match=r"gone\.jpg does not exist"):
        read_photo(tmp_path / "gone.jpg")


def test_a_truncated_photograph_is_refused(tmp_path):
    Image.fromarray(example_photo()).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:9000])
    with pytest.raises(UnreadablePhoto, match="half"):
        read_photo(tmp_path / "half.jpg")


def test_the_photographs_of_a_folder_come_by_name(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, format="PNG")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "broken.jpg").write_text("no picture")
    photos, unreadable = collect_photos(tmp_path)
    assert list(photos) == ["a.JPG", "b.png"]
    assert len(unreadable) == 1 and "broken.jpg is no image" in unreadable[0]
    assert list(collect_photos(tmp_path / "b.png")[0]) == ["b.png"]


def test_a_folder_without_photographs_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UnreadablePhoto, match=r"holds no photograph that can be read: it takes \.jpg"):
        collect_photos(tmp_path)
    with pytest.raises(UnreadablePhoto, match="does not exist"):
        collect_photos(tmp_path / "gone")


# --- predicting -------------------------------------------------------------------------------------------


def test_each_face_of_a_photograph_is_predicted(tmp_path, predictor, astronaut):
    Image.fromarray(example_photo()).save(tmp_path / "astronaut.png")
    face = predict_photo(tmp_path / "astronaut.png", predictor)[0]
    assert face["photo"].endswith("astronaut.png") and face["face_found"]
    assert tuple(face["box"].values()) == astronaut.box and list(face["box"]) == ["left", "top", "edge"]
    row = predictor(crop_faces(example_photo(), 32)[0].image[None]).iloc[0]
    assert face["age_years"] == pytest.approx(row["age_pred"], abs=0.06)
    assert face["age_low"] <= face["age_years"] <= face["age_high"]
    assert "ethnicity" not in face  # only where asked for
    asked = predict_photo(tmp_path / "astronaut.png", predictor, ethnicity=True)[0]
    assert list(asked["ethnicity"]) == list(ETHNICITIES)
    assert sum(asked["ethnicity"].values()) == pytest.approx(1, abs=1e-3)
