"""Comparing two pictures: alignment undoes a shift or a crop, and fine detail tells people apart."""

import numpy as np
import pytest
from PIL import Image

from facelib.audit import alignment
from facelib.audit.alignment import (
    ALIGNED,
    COARSE_PX,
    DETAIL_PX,
    coarse_correlation,
    deformation_basis,
    detail_correlation,
    grey_pictures,
    normalised,
)
from facelib.synthetic.drawing import draw_face


def portrait(seed: int) -> np.ndarray:
    return draw_face(30, 1, 0, np.random.default_rng([77, seed]), 200)


def cropped(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    edge = len(image)
    return np.asarray(Image.fromarray(image[top : edge - bottom, left : edge - right]).resize((edge, edge)))


def grey(image: np.ndarray, px: int) -> np.ndarray:
    return grey_pictures(image[None], px)


def coarse(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Correlation as they lie, and after a small shift and stretch."""
    one, other = (normalised(grey(image, COARSE_PX)) for image in (first, second))
    return float((one * other).sum()), float(coarse_correlation(deformation_basis(one), other)[0])


def test_grey_pictures_shrink_and_grow():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, :, 16:] = 200
    for px in (16, 64):
        picture = grey_pictures(image, px)
        assert picture.shape == (1, px, px) and picture.dtype == np.float32
        assert picture[0, 0, 0] == 0 and picture[0, 0, -1] == 200


def test_normalised_pictures_have_no_mean_and_unit_length_unless_flat():
    pictures = normalised(np.stack([np.arange(16.0).reshape(4, 4), np.full((4, 4), 7.0)]).astype(np.float32))
    assert pictures[0].sum() == pytest.approx(0, abs=1e-6) and (pictures[0] ** 2).sum() == pytest.approx(1)
    assert (pictures[1] == 0).all()


def test_the_basis_is_orthonormal_and_spans_the_picture():
    pictures = normalised(np.concatenate([grey(portrait(k), COARSE_PX) for k in range(3)]))
    basis = deformation_basis(pictures)
    assert np.allclose(basis @ basis.transpose(0, 2, 1), np.eye(5), atol=1e-3)
    assert coarse_correlation(basis, pictures) == pytest.approx(1, abs=1e-4)
    assert coarse_correlation(deformation_basis(np.zeros((1, 16, 16), np.float32)), pictures[:1]) == 0


@pytest.mark.parametrize("margins", [(8, 0, 0, 0), (0, 8, 8, 0), (6, 6, 6, 6)])
def test_a_crop_is_undone_coarsely(margins):
    as_it_lies, aligned = coarse(portrait(1), cropped(portrait(1), *margins))
    assert aligned > 0.97 and aligned > as_it_lies


@pytest.mark.parametrize("margins", [(0, 0, 0, 0), (8, 0, 0, 8), (7, 2, 4, 6)])
def test_the_detail_of_a_crop_is_the_same(margins):
    image = portrait(2)
    darker = (cropped(image, *margins) * 0.8).astype(np.uint8)
    assert detail_correlation(grey(image, DETAIL_PX)[0], grey(darker, DETAIL_PX)[0]) > 0.9


def test_the_detail_of_other_people_is_not():
    image = grey(portrait(3), DETAIL_PX)[0]
    for seed in range(4, 10):
        assert detail_correlation(image, grey(portrait(seed), DETAIL_PX)[0]) < 0.72


def test_pictures_that_lie_upon_each_other_are_not_aligned(monkeypatch):
    image = portrait(2)
    darker, moved = (image * 0.8).astype(np.uint8), cropped(image, 8, 0, 0, 8)
    pictures = [grey(view, DETAIL_PX)[0] for view in (image, darker, moved)]
    monkeypatch.setattr(alignment.cv2, "findTransformECC", None)
    assert detail_correlation(pictures[0], pictures[1]) > ALIGNED
    with pytest.raises(TypeError):
        detail_correlation(pictures[0], pictures[2])


def test_pictures_that_cannot_be_aligned_are_compared_as_they_lie():
    flat = np.full((DETAIL_PX, DETAIL_PX), 80, np.float32)
    image = grey(portrait(3), DETAIL_PX)[0]
    assert detail_correlation(flat, image) == detail_correlation(image, flat) == detail_correlation(flat, flat) == 0
