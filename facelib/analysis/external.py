"""Photographs from outside the data set: find the face, crop it as the training photographs are, predict."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from facelib.data.face_boxes import find_faces
from facelib.data.files import read_file
from facelib.data.pixels import FORMATS, open_upright
from facelib.data.readers import IMAGE_SUFFIXES
from facelib.errors import FacelibError
from facelib.models.predictor import Predictor
from facelib.schema import ETHNICITIES

# The frontal detector's box within an aligned 200 px chip, median of what it finds on padded UTKFace chips
# (benchmarks/face_box.py): left, top and edge as shares of the chip's edge.
BOX_LEFT, BOX_TOP, BOX_EDGE = -0.02, -0.10, 1.03


class UnreadablePhoto(FacelibError):
    """A photograph that cannot be opened."""


@dataclass(frozen=True)
class FaceCrop:
    """A square region of a photograph, cropped as in training.

    Attributes
    ----------
    image : uint8 array (px, px, 3)
    box : tuple of int
        left, top, edge of the crop in pixels of the photograph; may reach beyond its borders.
    found : bool
        False where no face was found and the centre was cropped instead.
    """

    image: np.ndarray
    box: tuple[int, int, int]
    found: bool


def read_photo(path: Path) -> np.ndarray:
    """A photograph, turned upright, as uint8 (h, w, 3).

    Raises
    ------
    UnreadablePhoto
        If the file is missing or no image.
    """
    try:
        with open_upright(read_file(path)) as (upright, _, _):
            return np.asarray(upright)
    except ValueError as error:
        raise UnreadablePhoto(f"{path} {error}: give a photograph ({', '.join(FORMATS)})") from error


def example_photo() -> np.ndarray:
    """scikit-image's public-domain portrait of an astronaut, uint8 (512, 512, 3)."""
    return data.astronaut()


def crop_faces(photo: np.ndarray, px: int) -> list[FaceCrop]:
    """All frontal faces of a photograph, largest first, or its centre where none is found.

    Parameters
    ----------
    photo : uint8 array (h, w, 3)
    px : int
        Edge of the crops in pixels.
    """
    boxes = find_faces(photo)
    if not boxes:
        height, width = photo.shape[:2]
        edge = min(height, width)
        return [_crop(photo, ((width - edge) / 2, (height - edge) / 2, edge), px, found=False)]
    crops = []
    for left, top, width in boxes:
        edge = width / BOX_EDGE
        crops.append(_crop(photo, (left - BOX_LEFT * edge, top - BOX_TOP * edge, edge), px, found=True))
    return crops


def _crop(photo: np.ndarray, box: tuple[float, float, float], px: int, found: bool) -> FaceCrop:
    """A square of the photograph resized to px; black beyond the borders, as in the training chips."""
    left, top, edge = (round(value) for value in box)
    square = Image.fromarray(photo).crop((left, top, left + edge, top + edge))
    return FaceCrop(np.asarray(square.resize((px, px), Image.Resampling.LANCZOS)), (left, top, edge), found)


def rezoom(photo: np.ndarray, crop: FaceCrop, zoom: float, px: int) -> np.ndarray:
    """The same face cropped `zoom` times as wide about the same centre: uint8 (px, px, 3)."""
    left, top, edge = crop.box
    grown = edge * zoom
    box = (left - (grown - edge) / 2, top - (grown - edge) / 2, grown)
    return _crop(photo, box, px, crop.found).image


def collect_photos(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The photographs at a path: one file, or every image directly in a folder.

    Returns
    -------
    photos : dict
        uint8 (h, w, 3) by file name.
    unreadable : list of str
        What could not be read, a sentence each.

    Raises
    ------
    UnreadablePhoto
        If not one photograph can be read.
    """
    if not path.is_dir():
        return {path.name: read_photo(path)}, []
    photos, unreadable = {}, []
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            try:
                photos[file.name] = read_photo(file)
            except UnreadablePhoto as error:
                unreadable.append(str(error))
    if not photos:
        raise UnreadablePhoto(f"{path} holds no photograph that can be read: it takes {', '.join(IMAGE_SUFFIXES)}")
    return photos, unreadable


def predict_photo(path: Path, predictor: Predictor, ethnicity: bool = False) -> list[dict]:
    """Predictions for each face of a photograph, as plain dictionaries.

    Returns
    -------
    list of dict
        photo, face_found, box (left, top, edge in pixels), age_years, age_low, age_high, p_female, and ethnicity
        (probability by label) where asked for.

    Raises
    ------
    UnreadablePhoto
        If the file is no image.
    """
    crops = crop_faces(read_photo(path), predictor.image_px)
    table = predictor(np.stack([crop.image for crop in crops]))
    faces = []
    for crop, row in zip(crops, table.itertuples(), strict=True):
        face = {
            "photo": str(path),
            "face_found": crop.found,
            "box": dict(zip(("left", "top", "edge"), crop.box, strict=True)),
            "age_years": round(row.age_pred, 1),
            "age_low": round(row.age_low, 1),
            "age_high": round(row.age_high, 1),
            "p_female": round(row.p_female, 4),
        }
        if ethnicity:
            face["ethnicity"] = {name: round(getattr(row, f"p_ethnicity_{k}"), 4) for k, name in enumerate(ETHNICITIES)}
        faces.append(face)
    return faces
