"""Faces found in photographs, upright or turned by quarters, with landmarks and a score.

dlib's first detector compares gradients with those of a face (HOG). It proposes faces at a low threshold. Its second
one, a network (`facelib.data.mmod`), decides on each proposal in its aligned picture, unless the first is sure; and it
searches, at a smaller size, where there is no face: faces in profile, in poor light or cropped tightly.

`python -m benchmarks.planted_faces` measures what is found, and how many patterns are taken for faces.
"""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from facelib.data.alignment import PADDING, Box, Frame, chip, cut, frame_of
from facelib.data.dlib_files import INSTALL, model_file
from facelib.errors import FacelibError
from facelib.runs import cache_root
from facelib.storage import atomic_path

LANDMARK_FILE = "shape_predictor_5_face_landmarks.dat"
# Pixels that are searched: HOG sees smaller photographs enlarged to the first number, twice at most, and larger ones
# reduced to the second. It finds faces whose frame has 75 px in a photograph of 640 x 480, or 220 px in one of 12
# megapixels.
HOG_PIXELS, CNN_PIXELS, MOST_ENLARGED = (700_000, 2_000_000), (60_000, 60_000), 2.0
LEAST_PX = 40  # of the shorter edge that is searched; no detector finds a face in fewer
# Chosen on validation faces and pictures of other things: a proposal of HOG is weighed from `PROPOSED` on, and is a
# face without a second look from `SURE` on.
PROPOSED, SURE = -0.7, 0.3
CONFIRMED, SEEN = 0.0, 0.3  # from here on the network sees a face that HOG proposed, and one that it finds itself
UPRIGHT = -0.4  # of HOG in an aligned picture: from here on its face is upright
ALIGNED_PX = 200  # edge of the aligned picture in which landmarks are found, and HOG searches
CONTEXT = 1.3  # width of the aligned picture for HOG, which needs room, in frames
CNN_CONTEXT, CNN_PX = 1.2, 150  # the same for the network, and its edge; a face has the 80 px of its training faces
CNN_SIZES = 2  # of the aligned picture that the network searches
OFF_CENTRE, NARROW = 0.2, 0.4  # shares of the frame's edge: the most that it may lie off, and the least of its box
MOST_FACES = 100  # proposals that are weighed, the best first
SAME = 0.3  # of the edge: faces whose centres are nearer are one
TURNED_PIXELS = 300_000  # of a photograph while it is searched turned
TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}


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
        Of its detector: `SURE` and more for hog, `CONFIRMED` and more for cnn.
    detector : str
        `hog`, or `cnn` where the network found it or decided on it.
    """

    frame: Frame
    landmarks: np.ndarray
    score: float
    detector: str

    @property
    def eyes(self) -> np.ndarray:
        """Centres of the eyes, the one at the right of the picture first: float (2, 2), pixels."""
        return self.landmarks[:4].reshape(2, 2, 2).mean(axis=1)


@dataclass(frozen=True)
class FoundFaces:
    """A photograph as its faces are upright, by how many degrees it was turned clockwise for that, and the faces."""

    photo: Image.Image
    rotation: int
    faces: list[FoundFace]  # the largest first


def find_faces(photo: Image.Image) -> FoundFaces:
    """All faces of an RGB photograph; where none is upright, of the photograph turned by 90, 180 or 270 degrees.

    A search costs 0.1 s of one core where faces are upright, and 0.3 s where there is none.

    Raises
    ------
    DetectorMissing
        If dlib or its models are not installed.
    """
    if faces := _confirmed(photo):
        return FoundFaces(photo, 0, faces)
    faces = _by_network(photo)
    # The network finds some faces that lie on their side.
    if not any(_is_upright(photo, face.frame) for face in faces) and (found := _turned(photo)):
        return found
    return FoundFaces(photo, 0, faces)


def aligned_face(photo: Image.Image, px: int) -> np.ndarray:
    """The largest face of an RGB photograph as UTKFace would show it: uint8 (px, px, 3).

    Raises
    ------
    ValueError
        If no face is found.
    DetectorMissing
        See `find_faces`.
    """
    found = find_faces(photo)
    if not found.faces:
        raise ValueError("shows no face that is found")
    return chip(found.photo, found.faces[0].frame, px)


def find_chip_faces(chips: np.ndarray) -> np.ndarray:
    """The frame of the face in each aligned chip, without its angle: left, top and edge as shares of the chip's edge.

    About 0, 0, 1 where a chip is aligned, nan where no face is found. A chip is expected to be a face: a find of the
    first detector near its centre suffices from `UPRIGHT` on.

    Parameters
    ----------
    chips : uint8 array (n, px, px, 3)

    Returns
    -------
    float array of shape (n, 3)
    """
    boxes = np.full((len(chips), 3), np.nan)
    for row, pixels in enumerate(chips):
        pad = len(pixels) // 4  # the detector needs room around a face
        padded = Image.fromarray(np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
        searched, width = padded.resize((ALIGNED_PX, ALIGNED_PX), Image.Resampling.BILINEAR), padded.width / len(pixels)
        for find in _hog_finds(searched, UPRIGHT):
            if _central_score([find], width / ALIGNED_PX, width / 2) > -np.inf:
                frame, _ = _located(padded, searched, ALIGNED_PX / padded.width, find)
                corner = np.array([frame.x, frame.y]) - frame.edge / 2 - pad
                boxes[row] = np.array([*corner, frame.edge]) / len(pixels)
                break
    return boxes


def turned(photo: Image.Image, degrees: int) -> Image.Image:
    """A photograph turned clockwise by 0, 90, 180 or 270 degrees."""
    return photo.transpose(TURNS[degrees]) if degrees else photo


def _turned(photo: Image.Image) -> FoundFaces | None:
    """The photograph turned as its best face is upright; None where no face is found."""
    small, _ = _scaled(photo, 0, TURNED_PIXELS)
    found = {degrees: _confirmed(turned(small, degrees), enlarge=False) for degrees in TURNS}
    degrees = max(found, key=lambda turn: max((face.score for face in found[turn]), default=-np.inf))
    if not found[degrees]:
        return None
    upright = turned(photo, degrees)
    return FoundFaces(upright, degrees, faces) if (faces := _confirmed(upright)) else None


def _confirmed(photo: Image.Image, enlarge: bool = True) -> list[FoundFace]:
    """Faces that HOG is sure of, or proposes and the network sees in their aligned pictures; largest first."""
    searched, scale = _scaled(photo, HOG_PIXELS[0] * enlarge, HOG_PIXELS[1])
    faces = []
    for box in _hog_finds(searched, PROPOSED)[:MOST_FACES]:
        frame, landmarks = _located(photo, searched, scale, box)
        if box.score >= SURE:
            faces.append(FoundFace(frame, landmarks, box.score, "hog"))
        elif (score := _network_score(photo, frame)) > -np.inf:
            faces.append(FoundFace(frame, landmarks, score, "cnn"))
    return _distinct(faces)


def _by_network(photo: Image.Image) -> list[FoundFace]:
    """Faces that the network finds, largest first."""
    searched, scale = _scaled(photo, *CNN_PIXELS)
    return _distinct(
        [FoundFace(*_located(photo, searched, scale, box), box.score, "cnn") for box in _cnn_finds(searched, SEEN)]
    )


def _distinct(faces: list[FoundFace]) -> list[FoundFace]:
    """Each face once, by its best find; the largest first."""
    kept: list[FoundFace] = []
    for face in sorted(faces, key=lambda face: -face.score):
        apart = [np.hypot(face.frame.x - other.frame.x, face.frame.y - other.frame.y) for other in kept]
        if all(gap > SAME * max(face.frame.edge, other.frame.edge) for gap, other in zip(apart, kept, strict=True)):
            kept.append(face)
    return sorted(kept, key=lambda face: -face.frame.edge)


def _scaled(photo: Image.Image, least: int, most: int) -> tuple[Image.Image, float]:
    """A photograph with `least` to `most` pixels, but at most `MOST_ENLARGED` times as large; and its scale."""
    area = photo.width * photo.height
    scale = min(MOST_ENLARGED, (min(max(area, least), most) / area) ** 0.5)
    size = tuple(max(1, round(side * scale)) for side in photo.size)
    return photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), scale


def _hog_finds(searched: Image.Image, least: float) -> list[Box]:
    """Faces of a small picture that HOG scores `least` or more, the best first."""
    if min(searched.size) < LEAST_PX:
        return []
    # Unlike `run`, this works on a copy of the detector, so that several threads can share one. Grey halves its time.
    finds = _dlib().fhog_object_detector.run_multiple([_hog()], np.asarray(searched.convert("L")), 0, least)
    boxes = [
        Box((box.left() + box.right() + 1) / 2, (box.top() + box.bottom() + 1) / 2, box.width(), score)
        for box, score in zip(*finds[:2], strict=True)
    ]
    return sorted(boxes, key=lambda box: -box.score)


def _located(photo: Image.Image, searched: Image.Image, scale: float, box: Box) -> tuple[Frame, np.ndarray]:
    """Frame and landmarks of a detector's box in the picture that was searched.

    Landmarks are found twice: dlib's are whole pixels of the picture that was searched, and less exact for turned faces
    than in the aligned picture.
    """
    landmarks = landmarks_of(photo, frame_of(_landmarks_in(np.asarray(searched), box) / scale))
    return frame_of(landmarks), landmarks


def landmarks_of(photo: Image.Image, frame: Frame) -> np.ndarray:
    """Dlib's five landmarks of the face that lies in a frame: float (5, 2), pixels from the photograph's corner."""
    middle = ALIGNED_PX / 2
    square = middle, middle, round(ALIGNED_PX / (1 + 2 * PADDING))
    return frame.places(_landmarks_in(cut(photo, frame, ALIGNED_PX, oversampled=1), square) / ALIGNED_PX)


def _landmarks_in(pixels: np.ndarray, box: tuple) -> np.ndarray:
    """Five landmarks in a box: float (5, 2), from the corner of the picture, where dlib counts from a pixel's."""
    low_x, low_y = (round(centre - box[2] / 2) for centre in box[:2])
    edge = round(box[2]) - 1
    square = _dlib().rectangle(low_x, low_y, low_x + edge, low_y + edge)
    return np.array([(point.x, point.y) for point in _landmarks()(pixels, square).parts()]) + 0.5


def _cnn_finds(searched: Image.Image, least: float, sizes: int | None = None) -> list[Box]:
    """Faces of a small picture that the network scores `least` or more, the best first."""
    from facelib.data.mmod import find_boxes  # torch, which takes seconds to load

    return find_boxes(searched, least, sizes) if min(searched.size) >= LEAST_PX else []


def _is_upright(photo: Image.Image, frame: Frame) -> bool:
    """Whether HOG, which knows upright faces alone, finds a face in its aligned picture."""
    aligned = Image.fromarray(cut(photo, frame.moved(zoom=CONTEXT), ALIGNED_PX, oversampled=1))
    return _central_score(_hog_finds(aligned, UPRIGHT), CONTEXT / ALIGNED_PX, CONTEXT / 2) > -np.inf


def _network_score(photo: Image.Image, frame: Frame) -> float:
    """The network's score of a face in its aligned picture; minus infinity where it sees none there."""
    aligned = Image.fromarray(cut(photo, frame.moved(zoom=CNN_CONTEXT), CNN_PX, oversampled=1))
    return _central_score(_cnn_finds(aligned, CONFIRMED, CNN_SIZES), CNN_CONTEXT / CNN_PX, CNN_CONTEXT / 2)


def _central_score(finds: list[Box], unit: float, centre: float) -> float:
    """The best score of finds near the centre; a pixel of theirs is a share `unit` of the frame's edge."""
    scores = [
        box.score
        for box in finds
        if max(abs(box.x * unit - centre), abs(box.y * unit - centre)) < OFF_CENTRE and box.edge * unit > NARROW
    ]
    return max(scores, default=-np.inf)


@functools.cache
def _dlib():
    try:
        import dlib
    except ImportError as error:
        raise DetectorMissing(f"faces are found by dlib, which is not installed: {INSTALL}") from error
    return dlib


@functools.cache
def _hog():
    """The detector from a file of the cache: dlib takes a second to unpack its own."""
    dlib = _dlib()
    path = cache_root() / f"hog-{dlib.__version__}.dat"
    try:
        return dlib.fhog_object_detector(str(path))
    except RuntimeError:  # missing or damaged
        detector = dlib.get_frontal_face_detector()
        with atomic_path(path) as partial:
            detector.save(str(partial))
        return detector


@functools.cache
def _landmarks():
    return _dlib().shape_predictor(str(model_file(LANDMARK_FILE)))
