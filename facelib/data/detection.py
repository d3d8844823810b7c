"""Faces found in photographs by dlib, upright or turned by quarters, with landmarks and a score.

dlib's first detector compares gradients with those of a face (HOG). It proposes faces at a low threshold; each is
aligned and has to be found again in the aligned picture, which turned faces are and patterns are not. Its second one, a
convolutional network (MMOD), costs ten times as much by area and sees a smaller picture for that. It searches where the
first finds nothing: faces in profile, in poor light or cropped tightly.

`python -m benchmarks.planted_faces` measures what is found, and how many patterns are taken for faces.
"""

import functools
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facelib.data.alignment import PADDING, Frame, cut, frame_of
from facelib.errors import FacelibError

INSTALL = "pip install dlib-bin face-recognition-models==0.3.0"
PACKAGE = "face_recognition_models"
LANDMARK_FILE, CNN_FILE = "shape_predictor_5_face_landmarks.dat", "mmod_human_face_detector.dat"
# Pixels that a detector sees at most: larger photographs are reduced, smaller ones enlarged up to `MOST_ENLARGED`. The
# network takes 0.6 s for its own on one core.
HOG_PIXELS, CNN_PIXELS, MOST_ENLARGED = 700_000, 60_000, 2.0
LEAST_PX = 40  # of the shorter edge that is searched; no detector finds a face in fewer
# Chosen on validation faces and pictures of other things: a proposal is weighed from here on, and a face found from
# here on in its aligned picture, which is this much wider than the face's frame.
PROPOSED, FOUND, CONTEXT = -0.7, -0.4, 1.3
SURE = 0.2  # below, a face may be a pattern: the network and turned photographs are tried, too
ALIGNED_PX = 200  # edge of the aligned picture in which a face has to be found again, and of that for its landmarks
OFF_CENTRE, NARROW = 0.2, 0.4  # shares of the frame's edge: the most that it may lie off, and the least of its box
MOST_FACES = 100  # proposals that are weighed, the best first
SAME = 0.3  # of the edge: faces whose centres are nearer are one
TURNED_PIXELS = 2_000_000  # of a photograph while it is searched turned
TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
ONE_CNN = threading.Lock()  # one network, not made for several threads at once


class DetectorMissing(FacelibError):
    """Packages for finding faces that are not installed."""


@dataclass(frozen=True)
class FoundFace:
    """A face in an upright photograph.

    Attributes
    ----------
    frame : Frame
        Where the aligned picture of the face lies.
    landmarks : float array (5, 2)
        Pixels from the photograph's corner, in dlib's order: `alignment.LANDMARKS`.
    score : float
        Of its detector: -0.4 and more for hog, 0 and more for cnn.
    detector : str
        `hog` or `cnn`.
    """

    frame: Frame
    landmarks: np.ndarray
    score: float
    detector: str

    @property
    def eyes(self) -> np.ndarray:
        """Centres of the eyes, the one at the right of the picture first: float (2, 2), pixels."""
        return self.landmarks[:4].reshape(2, 2, 2).mean(axis=1)

    @property
    def is_sure(self) -> bool:
        """Whether patterns have no such score."""
        return self.detector == "cnn" or self.score >= SURE


@dataclass(frozen=True)
class FoundFaces:
    """A photograph as its faces are upright, by how many degrees it was turned clockwise for that, and the faces."""

    photo: Image.Image
    rotation: int
    faces: list[FoundFace]  # the largest first


def find_faces(photo: Image.Image) -> FoundFaces:
    """All faces of an RGB photograph; where none is upright, of the photograph turned by 90, 180 or 270 degrees.

    A search costs 0.1 s of one core where faces are upright, and up to 1 s where there is none.

    Raises
    ------
    DetectorMissing
        If dlib or its models are not installed.
    """
    faces = _confirmed(photo)
    if _best(faces) >= SURE:
        return FoundFaces(photo, 0, faces)
    seen = _by_network(photo)
    # The network finds some faces that lie on their side, which are then not found in their aligned pictures.
    if all(_aligned_score(photo, face.frame) < FOUND for face in seen) and (turned := _turned(photo)):
        return turned
    return FoundFaces(photo, 0, _distinct(seen + faces))


def _best(faces: list[FoundFace]) -> float:
    return max((face.score for face in faces), default=-np.inf)


def _turned(photo: Image.Image) -> FoundFaces | None:
    """The photograph turned as its best face is upright; None where no face is sure."""
    small = _scaled(photo, TURNED_PIXELS, 1.0)[0]
    scores = {degrees: _best(_confirmed(small.transpose(turn))) for degrees, turn in TURNS.items()}
    degrees = max(scores, key=scores.get)
    if scores[degrees] < SURE:
        return None
    turned = photo.transpose(TURNS[degrees])
    return FoundFaces(turned, degrees, faces) if (faces := _confirmed(turned)) else None


def _confirmed(photo: Image.Image) -> list[FoundFace]:
    """Faces that are found again in their aligned pictures, largest first."""
    searched, scale = _scaled(photo, HOG_PIXELS)
    faces = []
    for rectangle, _ in _hog_finds(searched, PROPOSED)[:MOST_FACES]:
        frame, landmarks = _located(photo, searched, scale, rectangle)
        score = _aligned_score(photo, frame)
        if score >= FOUND:
            faces.append(FoundFace(frame, landmarks, score, "hog"))
    return _distinct(faces)


def _by_network(photo: Image.Image) -> list[FoundFace]:
    """Faces that the convolutional network finds, largest first."""
    searched, scale = _scaled(photo, CNN_PIXELS)
    if min(searched.size) < LEAST_PX:
        return []
    with ONE_CNN:
        finds = [(find.rect, find.confidence) for find in _cnn()(np.asarray(searched), 0)]
    faces = [FoundFace(*_located(photo, searched, scale, box), score, "cnn") for box, score in finds]
    return _distinct(faces)


def _distinct(faces: list[FoundFace]) -> list[FoundFace]:
    """Each face once, by its best find; the largest first."""
    kept: list[FoundFace] = []
    for face in sorted(faces, key=lambda face: -face.score):
        apart = (np.hypot(face.frame.x - other.frame.x, face.frame.y - other.frame.y) for other in kept)
        if all(gap > SAME * max(face.frame.edge, other.frame.edge) for gap, other in zip(apart, kept, strict=True)):
            kept.append(face)
    return sorted(kept, key=lambda face: -face.frame.edge)


def _scaled(photo: Image.Image, most: int, enlarged: float = MOST_ENLARGED) -> tuple[Image.Image, float]:
    """A photograph with `most` pixels at most, and its scale."""
    scale = min(enlarged, (most / (photo.width * photo.height)) ** 0.5)
    size = tuple(max(1, round(side * scale)) for side in photo.size)
    return photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), scale


def _hog_finds(searched: Image.Image, least: float) -> list[tuple]:
    """Rectangles and scores of a small picture, the best first."""
    if min(searched.size) < LEAST_PX:
        return []
    # Unlike `run`, this works on a copy of the detector, so that several threads can share one.
    boxes, scores, _ = _dlib().fhog_object_detector.run_multiple([_hog()], np.asarray(searched), 0, least)
    return sorted(zip(boxes, scores, strict=True), key=lambda find: -find[1])


def _located(photo: Image.Image, searched: Image.Image, scale: float, box) -> tuple[Frame, np.ndarray]:
    """Frame and landmarks of a detector's rectangle.

    Landmarks are found twice: dlib's are whole pixels of the picture that was searched, and less exact for turned faces
    than in the aligned picture.
    """
    frame = frame_of(_landmarks_in(np.asarray(searched), box) / scale)
    low, high = (round(share * ALIGNED_PX / (1 + 2 * PADDING)) for share in (PADDING, 1 + PADDING))
    square = _dlib().rectangle(low, low, high - 1, high - 1)
    landmarks = frame.places(_landmarks_in(cut(photo, frame, ALIGNED_PX), square) / ALIGNED_PX)
    return frame_of(landmarks), landmarks


def _landmarks_in(pixels: np.ndarray, box) -> np.ndarray:
    """Five landmarks in a rectangle: float (5, 2), from the corner of the picture, where dlib counts from a pixel's."""
    return np.array([(point.x, point.y) for point in _landmarks()(pixels, box).parts()]) + 0.5


def _aligned_score(photo: Image.Image, frame: Frame) -> float:
    """The HOG detector's score of a face in its aligned picture; minus infinity where it finds none there."""
    best = -np.inf
    for box, score in _hog_finds(Image.fromarray(cut(photo, frame.moved(zoom=CONTEXT), ALIGNED_PX)), FOUND):
        left, top, right, bottom = (
            (side / ALIGNED_PX - 0.5) * CONTEXT for side in (box.left(), box.top(), box.right(), box.bottom())
        )
        off = max(abs(left + right), abs(top + bottom)) / 2
        if off < OFF_CENTRE and right - left > NARROW:
            best = max(best, score)
    return best


@functools.cache
def _dlib():
    try:
        import dlib
    except ImportError as error:
        raise DetectorMissing(f"faces are found by dlib, which is not installed: {INSTALL}") from error
    return dlib


def _model_file(name: str) -> str:
    """A file of the installed package of models, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / "models" / name if spec and spec.origin else None
    if path is None or not path.is_file():
        raise DetectorMissing(f"faces are found by models that are not installed: {INSTALL}")
    return str(path)


@functools.cache
def _hog():
    return _dlib().get_frontal_face_detector()


@functools.cache
def _cnn():
    return _dlib().cnn_face_detection_model_v1(_model_file(CNN_FILE))


@functools.cache
def _landmarks():
    return _dlib().shape_predictor(_model_file(LANDMARK_FILE))
