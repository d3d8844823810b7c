"""Faces cut out of photographs in the frame of UTKFace's and FairFace's pictures.

The frame is dlib's: a similarity transform takes five landmarks to their mean places in a square, which is then padded
by a quarter of its edge on each side (`get_face_chip_details` of dlib's image_transforms/interpolation.h).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image

PADDING = 0.25  # of the square between the landmarks' mean places, on each side
# Mean places of dlib's five landmarks in that square: outer and inner corner of the eye at the right of the picture,
# the same of the other eye, and the base of the nose.
LANDMARKS = np.array(
    [[0.8595674595992, 0.2134981538014], [0.6460604764104, 0.2289674387677], [0.1205750620789, 0.2137274526848],
     [0.3340850613712, 0.2290642403242], [0.4901123135679, 0.6277975316475]]
)  # fmt: skip
IN_FRAME = (LANDMARKS + PADDING) / (1 + 2 * PADDING)  # as shares of the frame's edge
EYE_DISTANCE = float(np.hypot(*(IN_FRAME[:2].mean(axis=0) - IN_FRAME[2:4].mean(axis=0))))  # the same
CHIP_PX = 200  # edge of UTKFace's pictures
OVERSAMPLED = 2  # a turned frame is drawn this many times as large, then reduced


class Box(NamedTuple):
    """A square around a face: its centre and edge in pixels, and the detector's score."""

    x: float
    y: float
    edge: float
    score: float


@dataclass(frozen=True)
class Frame:
    """A square in a photograph: its centre and edge in pixels, and how far it is turned clockwise, in degrees."""

    x: float
    y: float
    edge: float
    angle: float = 0.0

    @property
    def box(self) -> tuple[int, int, int]:
        """Left, top and edge in whole pixels of the same square, not turned; may reach beyond the photograph."""
        return round(self.x - self.edge / 2), round(self.y - self.edge / 2), round(self.edge)

    def scaled(self, factor: float) -> "Frame":
        """The same square of the photograph at another size."""
        return replace(self, x=self.x * factor, y=self.y * factor, edge=self.edge * factor)

    def moved(self, right: float = 0.0, down: float = 0.0, zoom: float = 1.0, turn: float = 0.0) -> "Frame":
        """The frame moved by shares of its edge along its own axes, `zoom` times as large, turned by degrees."""
        x, y = self.places(np.array([[0.5 + right, 0.5 + down]]))[0]
        return replace(self, x=float(x), y=float(y), edge=self.edge * zoom, angle=self.angle + turn)

    def places(self, shares: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) of the photograph of points (n, 2) in the frame, given as shares of its edge."""
        return (np.asarray(shares) - 0.5) @ _rotation(self.angle) * self.edge + np.array([self.x, self.y])


def _rotation(angle: float) -> np.ndarray:
    """What row vectors are multiplied by to turn them clockwise by degrees, in pixels (y points down)."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cosine, sine], [-sine, cosine]])


def frame_of(landmarks: np.ndarray) -> Frame:
    """The frame of dlib's five landmarks (5, 2), in pixels from the photograph's corner: least squares."""
    points, means = (array[:, 0] + 1j * array[:, 1] for array in (np.asarray(landmarks, float), IN_FRAME - 0.5))
    centred = means - means.mean()
    scale = np.vdot(centred, points - points.mean()) / np.vdot(centred, centred)
    centre = points.mean() - scale * means.mean()
    return Frame(float(centre.real), float(centre.imag), float(abs(scale)), math.degrees(np.angle(scale)))


def whole_frame(width: int, height: int) -> Frame:
    """The largest centred square of a picture."""
    return Frame(width / 2, height / 2, min(width, height))


def cut(photo: Image.Image, frame: Frame, px: int, oversampled: int = OVERSAMPLED) -> np.ndarray:
    """The part of an RGB photograph in a frame, upright, as uint8 (px, px, 3); black beyond the photograph.

    Memory is bounded by that of the photograph and of the result, however large the frame is.
    """
    size = px * oversampled
    corners = frame.places(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    low = np.clip(np.floor(corners.min(axis=0)) - 2, 0, (photo.width, photo.height)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 2, 0, (photo.width, photo.height)).astype(int)
    if (high <= low).any():
        return np.zeros((px, px, 3), np.uint8)
    factor = max(1, int(frame.edge / size))
    part = photo.reduce(factor, (*low.tolist(), *high.tolist()))
    step = _rotation(frame.angle).T * frame.edge / size / factor  # pixels of `part` for one of the result
    origin = (frame.places(np.zeros((1, 2)))[0] - low) / factor
    coefficients = (step[0, 0], step[0, 1], origin[0], step[1, 0], step[1, 1], origin[1])
    large = part.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(large.reduce(oversampled))


def chip(photo: Image.Image, frame: Frame, px: int) -> np.ndarray:
    """A face in its frame as training images are made: cut at UTKFace's 200 px, then scaled; uint8 (px, px, 3)."""
    return np.asarray(Image.fromarray(cut(photo, frame, CHIP_PX)).resize((px, px), Image.Resampling.LANCZOS))
