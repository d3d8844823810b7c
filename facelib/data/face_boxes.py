"""Frontal faces found in photographs and in aligned chips, with scikit-image's boosted cascade."""

import numpy as np
from PIL import Image
from skimage import data
from skimage.feature import Cascade

DETECT_PX = 640  # longest edge of the searched photograph
SMALLEST_PX = 40  # smallest face looked for in it
CLOSE_FACE = 0.25  # smallest face looked for with a border, of the shorter edge: smaller ones have room
MIN_NEIGHBOURS = 12  # overlapping detections behind a find; with fewer, patterns are taken for faces
CHIP_PAD = 0.25  # of a chip's edge: the detector needs room around a face
CHIP_FACE = 0.6  # smallest face looked for in a chip, of its edge


def find_faces(photo: np.ndarray) -> list[tuple[float, float, float]]:
    """Boxes (left, top, edge) of frontal faces in pixels of the photograph, largest first.

    A tight crop leaves the detector no room, so a photograph without a find is searched again with a border around it,
    for faces that fill much of it. Otherwise the border is left out, since it invites false finds.

    Parameters
    ----------
    photo : uint8 array (h, w, 3)
    """
    height, width = photo.shape[:2]
    scale = min(1.0, DETECT_PX / max(height, width))
    small = np.asarray(Image.fromarray(photo).resize((max(1, round(width * scale)), max(1, round(height * scale)))))
    shorter = min(small.shape[:2])
    least = min(SMALLEST_PX, shorter)
    for pad, smallest in ((0, least), (max(small.shape) // 2, max(least, round(CLOSE_FACE * shorter)))):
        boxes = _detect(small, pad, smallest, MIN_NEIGHBOURS, _cascade())
        if boxes:
            return [(left / scale, top / scale, edge / scale) for left, top, edge in boxes]
    return []


def find_chip_faces(chips: np.ndarray) -> np.ndarray:
    """The largest face of each aligned chip: left, top and edge as shares of the chip's edge, nan where none is found.

    A chip is expected to be a face, so one detection suffices; it has to fill the most part of the chip.

    Parameters
    ----------
    chips : uint8 array (n, px, px, 3)

    Returns
    -------
    float array of shape (n, 3)
    """
    cascade, px = _cascade(), chips.shape[1]
    boxes = np.full((len(chips), 3), np.nan)
    for row, chip in enumerate(chips):
        detected = _detect(chip, round(CHIP_PAD * px), round(CHIP_FACE * px), 1, cascade)
        if detected:
            boxes[row] = np.array(detected[0]) / px
    return boxes


def _cascade() -> Cascade:
    return Cascade(data.lbp_frontal_face_cascade_filename())


def _detect(image: np.ndarray, pad: int, smallest: int, neighbours: int, cascade: Cascade) -> list[tuple]:
    """Boxes (left, top, edge) in an image that is searched with a border, largest first."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    detected = cascade.detect_multi_scale(
        padded, scale_factor=1.1, step_ratio=1, min_size=(smallest, smallest), max_size=padded.shape[:2],
        min_neighbor_number=neighbours,
    )  # fmt: skip
    return sorted(((box["c"] - pad, box["r"] - pad, box["width"]) for box in detected), key=lambda box: -box[2])
