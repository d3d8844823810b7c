"""Faces in chips: found where there is one, and nowhere else."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from facelib.data.face_boxes import find_chip_faces, find_faces


def chip(left: int, top: int, edge: int, px: int = 64) -> np.ndarray:
    """A square of the astronaut's photograph; her aligned chip is at (172, 78), 105 px wide."""
    return np.asarray(Image.fromarray(data.astronaut()[top : top + edge, left : left + edge]).resize((px, px)))


def test_a_chips_face_is_found_about_where_the_chip_is():
    (box,) = find_chip_faces(chip(172, 78, 105)[None])
    assert box == pytest.approx([0, -0.1, 1.03], abs=0.15)


def test_the_box_follows_the_face_at_any_size_of_chip():
    usual, further = find_chip_faces(np.stack([chip(172, 78, 105), chip(144, 50, 161)]))
    assert further[2] == pytest.approx(usual[2] * 105 / 161, abs=0.12) and further[0] > usual[0] + 0.05
    assert find_chip_faces(chip(172, 78, 105, 128)[None])[0] == pytest.approx(usual, abs=0.12)


def test_nothing_is_found_where_no_face_is():
    others = np.stack([chip(370, 120, 140), np.full((64, 64, 3), 90, np.uint8), data.coffee()[100:164, 200:264]])
    assert np.isnan(find_chip_faces(others)).all()
    assert find_chip_faces(others[:0]).shape == (0, 3)
    assert find_faces(data.coffee()) == []


def test_a_face_that_fills_the_photograph_is_found_beside_its_border():
    """The detector alone finds none there: it needs room."""
    (box,) = find_faces(chip(172, 78, 105, 200))
    assert box == pytest.approx([0, -20, 206], abs=30)
