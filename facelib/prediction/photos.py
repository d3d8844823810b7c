"""Photographs from outside the data set: find the face, crop it as the training photographs are, predict."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isnan
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from skimage import data

from facelib import metrics
from facelib.data.face_boxes import find_faces
from facelib.data.files import printable, read_file, regular_files
from facelib.data.pixels import FORMATS, open_upright
from facelib.data.readers import IMAGE_SUFFIXES
from facelib.errors import FacelibError
from facelib.models.network import predict_outputs
from facelib.prediction.predictor import Predictor
from facelib.runs import as_written, cache_root, read_json
from facelib.schema import ATTRIBUTES, ETHNICITIES
from facelib.storage import atomic_path

# The frontal detector's box within an aligned 200 px chip, median of what it finds on padded UTKFace chips
# (studies/face_box.py): left, top and edge as shares of the chip's edge.
BOX_LEFT, BOX_TOP, BOX_EDGE = -0.02, -0.10, 1.03
BATCH_PHOTOS = 32  # whose faces are predicted together
MOST_READERS = 8  # photographs in memory at once, of which one may be hundreds of megabytes
SAID = {"age_low": 1, "age_high": 1, "p_female": 4}  # columns, and the decimals that are said
NO_FACE = "no face found: the centre of the photograph was judged instead, and its numbers are no answer"


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


def example_file() -> Path:
    """The same as a file in the cache."""
    path = cache_root() / "astronaut.png"
    if not path.exists():
        with atomic_path(path) as partial:
            Image.fromarray(example_photo()).save(partial)
    return path


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


def list_photos(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The files of photographs: those named, and of a folder every image below it.

    Hidden files are left out, and links to folders are not followed.

    Returns
    -------
    files : list of Path
        In the order of `paths`; those of a folder by name. A file that is named is listed whatever it is.
    refused : list of str
        Folders that hold no photograph or are not searched, a sentence each.
    """
    files, refused = [], []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names, unsearched = regular_files(path)
        images = [path / name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        files += images
        refused += [f"{path / name} {reason}" for name, reason in unsearched]
        if not images:
            refused.append(f"{path} holds no photograph: it takes {', '.join(IMAGE_SUFFIXES)}")
    return files, refused


@dataclass(frozen=True)
class PhotoAnswer:
    """What there is to say of one photograph.

    Attributes
    ----------
    path : Path
    faces : list of dict
        One a face, as `describe_faces` has it; empty where the photograph cannot be read.
    reason : str
        Why it cannot be read, a sentence; else empty.
    """

    path: Path
    faces: list[dict]
    reason: str = ""


def predict_photos(files: Iterable[Path], predictor: Predictor, ethnicity: bool = False) -> Iterator[PhotoAnswer]:
    """Predictions for each face of many photographs, in their order.

    Each processor core looks for the faces of one photograph, `MOST_READERS` at most, and the faces of `BATCH_PHOTOS`
    are predicted together.

    Parameters
    ----------
    files : iterable of Path
        Taken as they are read, two per core ahead at most, so that an iterator sees how far it got.
    predictor : Predictor
    ethnicity : bool
        Say the ethnicity label's probabilities too.
    """
    files = iter(files)
    readers = min(joblib.cpu_count(), MOST_READERS)
    # The detector leaves the interpreter free. One at a time, lest joblib hands out several small ones together.
    with joblib.Parallel(readers, prefer="threads", batch_size=1) as pool:
        while read := pool(
            joblib.delayed(_read_crops)(path, predictor.image_px) for path in islice(files, BATCH_PHOTOS)
        ):
            yield from _answers(read, predictor, ethnicity)


def _read_crops(path: Path, px: int) -> tuple[Path, list[FaceCrop], str]:
    """A photograph's faces, or why it cannot be read."""
    try:
        return path, crop_faces(read_photo(path), px), ""
    except UnreadablePhoto as error:
        return path, [], str(error)


def _answers(read: list[tuple], predictor: Predictor, ethnicity: bool) -> Iterator[PhotoAnswer]:
    crops = [crop for _, some, _ in read for crop in some]
    described = iter(())
    if crops:
        images = np.stack([crop.image for crop in crops])
        outputs = predict_outputs(predictor.network, images)
        table = predictor.judge(outputs, images).join(predictor.familiarity(outputs["features"]))
        described = iter(describe_faces(crops, table, ethnicity))
    for path, some, reason in read:
        name = printable(str(path))
        yield PhotoAnswer(path, [{"photo": name, "face": k} | next(described) for k in range(len(some))], reason)


def describe_faces(crops: list[FaceCrop], table: pd.DataFrame, ethnicity: bool) -> list[dict]:
    """What is said of each face, as plain dictionaries.

    Parameters
    ----------
    crops : list of FaceCrop
    table : DataFrame
        The predictions and the familiarity of the crops, in their order.
    ethnicity : bool
        Say the ethnicity label's probabilities too.

    Returns
    -------
    list of dict
        face_found, box (left, top, edge in pixels), age_years (whole), age_low, age_high, p_female,
        distance_percentile (of calibration faces that are nearer to the training faces, 0 to 100), unlike_training,
        warnings (sentences), and ethnicity (probability by label) where asked for; nothing of what was not learned.
    """
    faces = []
    for crop, row in zip(crops, table.itertuples(), strict=True):
        nearer = round(row.distance_percentile, 2)
        unlike = f"unlike the training faces: farther from them than {nearer:g} % of held-out faces"
        face = {
            "face_found": crop.found,
            "box": dict(zip(("left", "top", "edge"), crop.box, strict=True)),
            **({} if isnan(row.age_pred) else {"age_years": int(metrics.whole_years(row.age_pred))}),
            **{name: round(getattr(row, name), n) for name, n in SAID.items() if not isnan(getattr(row, name))},
            "distance_percentile": nearer,
            "unlike_training": bool(row.unlike_training),
            "warnings": [NO_FACE] * (not crop.found) + [unlike] * bool(row.unlike_training),
        }
        if ethnicity and not isnan(row.p_ethnicity_0):
            face["ethnicity"] = {name: round(getattr(row, f"p_ethnicity_{k}"), 4) for k, name in enumerate(ETHNICITIES)}
        faces.append(face)
    return faces


def faces_table(faces: list[dict]) -> pd.DataFrame:
    """Described faces as a table: a column for each part of the box and each ethnicity, warnings as one text."""
    rows = []
    for face in faces:
        row = face | {"warnings": "; ".join(face["warnings"])}
        place, shares = row.pop("box"), row.pop("ethnicity", {})
        rows.append(row | place | {f"ethnicity_{name}": share for name, share in shares.items()})
    return pd.DataFrame(rows)


def worth_of_ethnicity(path: Path, learned: Iterable[str] = ATTRIBUTES) -> str:
    """What a guess of the ethnicity label is worth, by what notebook 05 measured in the run in a folder."""
    if "ethnicity" not in learned:
        return "These weights did not learn the ethnicity label."
    limits = "It guesses what annotators would say, not what a person is."
    measured = path / "metrics" / "05_evaluate_bias.json"
    if not measured.exists():
        return f"How often the ethnicity label is guessed right is not measured for these weights yet. {limits}"
    content = read_json(measured)
    with as_written(measured):
        overall = content["headline"]["test.ethnicity.accuracy"]
        groups = [
            row for row in content["details"]["groups"]["ethnicity_name"] if row["ethnicity_accuracy"] is not None
        ]
        said = (
            f"The ethnicity label is guessed right for {overall['value']:.0%} of the run's {overall['n']:,} test faces"
        )
        if groups:
            worst = min(groups, key=lambda row: row["ethnicity_accuracy"])
            low, high = worst["ethnicity_accuracy_low"], worst["ethnicity_accuracy_high"]
            said += (
                f", and for {worst['ethnicity_accuracy']:.0%} ({low:.0%} to {high:.0%}) of the {worst['n']:,} labelled "
                f"{worst['ethnicity_name']}, the label that it misses most"
            )
        return f"{said}. {limits}"
