"""The frame of UTKFace's pictures: as dlib cuts it, moved and turned by hand."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from facelib.data.alignment import IN_FRAME, Frame, cut, frame_of, whole_frame


def test_the_mean_landmarks_give_the_whole_square():
    frame = frame_of(IN_FRAME * 80)
    assert (frame.x, frame.y, frame.edge, frame.angle) == pytest.approx((40, 40, 80, 0))


def test_landmarks_follow_a_moved_turned_and_scaled_frame():
    placed = Frame(120.0, 90.0, 75.0, -17.0)
    found = frame_of(placed.places(IN_FRAME))
    assert (found.x, found.y, found.edge, found.angle) == pytest.approx((120, 90, 75, -17))


def test_a_positive_angle_is_clockwise():
    """The middle of the right edge lies below the centre."""
    assert Frame(0, 0, 10, 90).places(np.array([[1.0, 0.5]]))[0] == pytest.approx((0, 5))


def test_moving_is_along_the_frames_own_axes():
    moved = Frame(50, 50, 20, 90).moved(right=0.5, zoom=2, turn=10)
    assert (moved.x, moved.y, moved.edge, moved.angle) == pytest.approx((50, 60, 40, 100))
    assert Frame(50, 50, 20).box == (40, 40, 20) and whole_frame(30, 20) == Frame(15, 10, 20)


def test_the_whole_square_is_the_picture_itself():
    picture = Image.fromarray(data.astronaut())
    assert np.abs(cut(picture, whole_frame(512, 512), 512).astype(int) - data.astronaut()).mean() < 1


def test_a_turned_square_is_upright_again():
    """A bright block at the upper left of a frame that lies turned in the photograph."""
    upright = np.zeros((200, 200, 3), np.uint8)
    upright[60:90, 60:90] = 255
    photo = Image.fromarray(upright).rotate(-30, Image.Resampling.BICUBIC)  # clockwise
    chip = cut(photo, Frame(100, 100, 100, 30), 50)
    assert chip[8:18, 8:18].min() > 230 and chip[25:].max() < 20 and chip[:, 25:].max() < 20


def test_it_is_black_beyond_the_photograph():
    photo = Image.new("RGB", (100, 100), (200, 200, 200))
    chip = cut(photo, Frame(0, 50, 100), 40)
    assert chip[:, :19].max() == 0 and chip[:, 21:].min() == 200
    assert cut(photo, Frame(-500, 50, 100), 40).max() == 0


def test_a_huge_frame_costs_no_more_than_the_photograph():
    chip = cut(Image.new("RGB", (100, 100), "white"), Frame(50, 50, 1e6), 40)
    assert chip.shape == (40, 40, 3) and chip.mean() < 1


def test_a_reduced_square_is_averaged_and_not_sampled():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 200
    assert cut(Image.fromarray(stripes), whole_frame(400, 400), 20) == pytest.approx(100, abs=3)


@pytest.mark.parametrize("turn", [0, 20, -13])
def test_it_is_the_chip_that_dlib_cuts(turn):
    dlib = pytest.importorskip("dlib")
    places = Frame(225, 126, 121, turn).places(IN_FRAME + np.random.default_rng(0).normal(scale=0.02, size=(5, 2)))
    photo, points = data.astronaut(), [dlib.point(*map(int, place)) for place in places]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, 9, 9), points)
    theirs = dlib.get_face_chip(photo, shape, 200, 0.25).astype(int)
    frame = frame_of(np.array([(point.x, point.y) for point in points]) + 0.5)

    def difference(frame: Frame) -> float:
        return np.abs(cut(Image.fromarray(photo), frame, 200) - theirs).mean()

    assert difference(frame) < 3
    for shift in (0.005, -0.005):  # a pixel of the chip is noticed
        assert difference(frame.moved(right=shift)) > difference(frame) + 1
        assert difference(frame.moved(down=shift)) > difference(frame) + 1
