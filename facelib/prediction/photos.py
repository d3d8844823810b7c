"""Photographs from outside the data set: find the faces, crop them as the training photographs are, predict."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

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
from facelib.finding import Finding, Findings
from facelib.formats import as_written, read_json
from facelib.runs import cache_root
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import SHARE, Estimate, count
from facelib.storage import atomic_path

if TYPE_CHECKING:
    from facelib.prediction.predictor import Predictor

# The frontal detector's box within an aligned 200 px face, median of what it finds on padded UTKFace images
# (studies/face_box.py): left, top and edge as shares of the image's edge.
BOX_LEFT, BOX_TOP, BOX_EDGE = -0.02, -0.10, 1.03
BATCH_PHOTOS = 32  # whose faces are predicted together
MOST_READERS = 8  # photographs in memory at once, each of which may be hundreds of megabytes
OOD = "out of distribution"
NO_FACE = "no face found: the centre of the photograph was predicted instead, and its numbers mean nothing"


class UnreadablePhoto(FacelibError):
    """A photograph that cannot be opened."""


@dataclass(frozen=True)
class FaceCrop:
    """A square region of a photograph, cropped as in training: uint8 (px, px, 3)."""

    image: np.ndarray
    box: tuple[int, int, int]  # left, top, edge in pixels of the photograph; may reach beyond its borders
    found: bool  # False where no face was found and the centre was cropped instead


def read_photo(path: Path) -> np.ndarray:
    """A photograph, turned upright, as uint8 (h, w, 3); UnreadablePhoto if the file is missing or no image."""
    try:
        with open_upright(read_file(path)) as (upright, _, _):
            return np.asarray(upright)
    except ValueError as error:
        raise UnreadablePhoto(f"{path} {error}: give a photograph ({', '.join(FORMATS)})") from error


def example_file() -> Path:
    """scikit-image's public-domain portrait of an astronaut, 512 x 512, as a file in the cache."""
    path = cache_root() / "astronaut.png"
    if not path.exists():
        with atomic_path(path) as partial:
            Image.fromarray(data.astronaut()).save(partial)
    return path


def crop_faces(photo: np.ndarray, px: int) -> list[FaceCrop]:
    """All frontal faces of a photograph (h, w, 3), largest first, or its centre where none is found; px is the edge."""
    crops = []
    for left, top, width in find_faces(photo):
        edge = width / BOX_EDGE
        crops.append(_crop(photo, (left - BOX_LEFT * edge, top - BOX_TOP * edge, edge), px, found=True))
    height, width = photo.shape[:2]
    edge = min(height, width)
    return crops or [_crop(photo, ((width - edge) / 2, (height - edge) / 2, edge), px, found=False)]


def _crop(photo: np.ndarray, box: tuple[float, float, float], px: int, found: bool) -> FaceCrop:
    """A square of the photograph resized to px; black beyond the borders, as in the training images."""
    left, top, edge = (round(value) for value in box)
    square = Image.fromarray(photo).crop((left, top, left + edge, top + edge))
    return FaceCrop(np.asarray(square.resize((px, px), Image.Resampling.LANCZOS)), (left, top, edge), found)


def rezoom(photo: np.ndarray, crop: FaceCrop, zoom: float, px: int) -> np.ndarray:
    """The same face cropped `zoom` times as wide about the same centre: uint8 (px, px, 3)."""
    left, top, edge = crop.box
    grown = edge * zoom
    return _crop(photo, (left - (grown - edge) / 2, top - (grown - edge) / 2, grown), px, crop.found).image


def list_photos(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The files of photographs: those named, and of a folder every image below it, by name.

    Also a sentence for each folder that holds no photograph or, as a link, is not searched.
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
class FaceResult:
    """The prediction for one face of a photograph."""

    photo: str  # the photograph's name, printable
    face: int  # its number within the photograph, from 0, the largest first
    crop: FaceCrop
    prediction: pd.Series  # its row of a Predictor's table
    attributes: tuple[Attribute, ...]  # those that are reported

    @property
    def flag(self) -> str:
        """How far the face lies from the training faces where it is out of distribution; else empty."""
        far = f"farther from the training faces than {self.prediction['ood_percentile']:.4g} % of held-out faces"
        return f"{OOD}: {far}" if self.prediction["out_of_distribution"] else ""

    @property
    def warnings(self) -> list[str]:
        """Why its numbers should not be relied on, as sentences."""
        return [NO_FACE] * (not self.crop.found) + [self.flag] * bool(self.flag)

    def summaries(self) -> list[str]:
        """What is predicted of each attribute, such as `26 years (20-33)` and `expression calm (p = 0.90)`."""
        texts = []
        for attribute, values in self._values().items():
            if isinstance(attribute, ClassAttribute):
                likeliest = max(values, key=values.get)
                texts.append(f"{attribute.name} {likeliest} (p = {values[likeliest]:.2f})")
            else:
                texts.append("{years} years ({low:.0f}-{high:.0f})".format(**values))
        return texts

    def __str__(self) -> str:
        box = "left {}, top {}, edge {} px".format(*self.crop.box)
        place = f"face at {box}" if self.crop.found else f"NO FACE FOUND, the centre at {box} would be"
        text = f"{self.photo}: {place}: {', '.join(self.summaries()) or 'no prediction'}"
        return f"{text}; {self.flag.replace(OOD, OOD.upper())}" if self.flag else text

    def to_dict(self) -> dict:
        """The face as a plain dictionary; what is not predicted is left out.

        photo, face, face_found, box (left, top, edge in pixels), age_years (whole), age_low, age_high, the probability
        of each class below the name of each class attribute, ood_percentile, out_of_distribution, warnings (sentences).
        """
        box = dict(zip(("left", "top", "edge"), self.crop.box, strict=True))
        facts = {"photo": self.photo, "face": self.face, "face_found": self.crop.found, "box": box}
        for attribute, values in self._values().items():
            is_class = isinstance(attribute, ClassAttribute)
            facts |= {attribute.name: values} if is_class else {f"{attribute.name}_{k}": values[k] for k in values}
        percentile, is_ood = self.prediction[["ood_percentile", "out_of_distribution"]]
        return facts | {
            "ood_percentile": round(percentile, 2), "out_of_distribution": bool(is_ood), "warnings": self.warnings
        }  # fmt: skip

    def _values(self) -> dict[Attribute, dict]:
        """Rounded numbers of each attribute: probabilities by class, or years, low and high; without missing ones."""
        reported = {}
        for attribute in self.attributes:
            numbers = [float(self.prediction[column]) for column in attribute.columns]
            if isnan(numbers[0]):
                continue
            if isinstance(attribute, ClassAttribute):
                reported[attribute] = {name: round(p, 4) for name, p in zip(attribute.classes, numbers, strict=True)}
            else:
                years, _, low, high = numbers
                whole = int(metrics.whole_years(years))
                reported[attribute] = {"years": whole, "low": round(low, 1), "high": round(high, 1)}
        return reported


@dataclass(frozen=True)
class PhotoResult:
    """The faces of one photograph, or the reason, a sentence, why it cannot be read."""

    path: Path
    faces: list[FaceResult]
    reason: str = ""


def predict_photos(files: Iterable[Path], predictor: "Predictor", sensitive: bool = False) -> Iterator[PhotoResult]:
    """Predictions for each face of many photographs, in their order; of sensitive attributes only where asked.

    Each processor core looks for the faces of one photograph, `MOST_READERS` at most, and the faces of `BATCH_PHOTOS`
    are predicted together. Files are consumed as they are read, so that an iterator shows the progress.
    """
    files, readers = iter(files), min(joblib.cpu_count(), MOST_READERS)
    attributes = tuple(attribute for attribute in predictor.attributes if sensitive or not attribute.sensitive)
    # The detector releases the interpreter. Without batch_size joblib hands out several small photographs at once.
    with joblib.Parallel(readers, prefer="threads", batch_size=1) as pool:
        read_crops = joblib.delayed(_read_crops)
        while read := pool(read_crops(path, predictor.image_px) for path in islice(files, BATCH_PHOTOS)):
            images = [crop.image for _, crops, _ in read for crop in crops]
            rows = (row for _, row in predictor(np.stack(images)).iterrows()) if images else iter(())
            for path, crops, reason in read:
                name = printable(str(path))
                faces = [FaceResult(name, k, crop, next(rows), attributes) for k, crop in enumerate(crops)]
                yield PhotoResult(path, faces, reason)


def _read_crops(path: Path, px: int) -> tuple[Path, list[FaceCrop], str]:
    try:
        return path, crop_faces(read_photo(path), px), ""
    except UnreadablePhoto as error:
        return path, [], str(error)


def faces_table(faces: Iterable[dict]) -> pd.DataFrame:
    """Faces of `to_dict` as a table: columns such as `box_left` and `expression_calm`, and the warnings as one text."""
    return pd.json_normalize([face | {"warnings": "; ".join(face["warnings"])} for face in faces], sep="_")


def predict_all(
    predictor: "Predictor", named: str = "", sensitive: bool = False
) -> tuple[list[PhotoResult], list[str]]:
    """All readable photographs of the files and folders named in a text, and why others were refused.

    Names are separated by `os.pathsep`, a colon or on Windows a semicolon; without any it is the example.
    UnreadablePhoto if none is readable.
    """
    # An empty name would be the working directory.
    files, refused = list_photos([Path(name) for name in named.split(os.pathsep) if name] or [example_file()])
    photos = list(predict_photos(files, predictor, sensitive))
    refused += [photo.reason for photo in photos if photo.reason]
    readable = [photo for photo in photos if photo.faces]
    if not readable:
        raise UnreadablePhoto("; ".join(refused))
    return readable, refused


def photo_results(photos: list[PhotoResult]) -> tuple[dict[str, Estimate], Findings]:
    """Numbers of readable photographs, of those without a face and of flagged crops; photos.faces and photos.ood."""
    faces = [face for photo in photos for face in photo.faces]
    total, missed = len(photos), sum(not photo.faces[0].crop.found for photo in photos)
    flagged = count(sum(bool(face.flag) for face in faces), "faces")
    text = f"A frontal face was found in {total - missed:,} of {total:,} photographs"
    text += f"; in {missed:,} the centre was predicted instead." if missed else "."
    ood = f"{flagged.n:,} of {len(faces):,} crops are flagged as out of distribution; the first is farther from the "
    ood += f"training faces than {faces[0].prediction['ood_percentile']:.1f} % of held-out faces."
    headline = {"external.photos": count(total, "photos"), "external.not_found": count(missed, "photos")}
    findings = [Finding("photos.faces", text, n=total), Finding("photos.ood", ood, n=len(faces))]
    return headline | {"external.out_of_distribution": flagged}, Findings(findings)


def sensitive_caveat(path: Path, attributes: Iterable[Attribute]) -> Finding:
    """Finding photos.sensitive: how often sensitive labels are predicted correctly, by a run's notebooks 05 and 06."""
    sensitive = [attribute for attribute in attributes if attribute.sensitive]
    if not sensitive:
        return Finding("photos.sensitive", "No sensitive attribute is predicted.")
    metrics_folder = path / "metrics"
    with as_written(metrics_folder):
        headline, details = (
            dict(read_json(stored)[part]) if (stored := metrics_folder / f"{notebook}.json").exists() else {}
            for notebook, part in (("05_evaluate", "headline"), ("06_groups", "details"))
        )
        stated = [_accuracy_text(attribute, headline, details.get("groups", {})) for attribute in sensitive]
    texts, estimates = zip(*stated, strict=True)
    limits = "A prediction is what annotators would write, not what a person is."
    return Finding("photos.sensitive", " ".join([*texts, limits]), estimates[0])


def _accuracy_text(attribute: Attribute, headline: dict, groups: dict) -> tuple[str, Estimate | None]:
    """How often an attribute is predicted correctly, overall and for its least accurate class."""
    stored, column = headline.get(f"test.{attribute.name}.accuracy"), f"{attribute.name}_accuracy"
    if stored is None:
        return f"The accuracy of predicted {attribute.name} labels has not been measured for this run.", None
    overall = Estimate.from_dict(stored)
    text = f"{attribute.title} labels are predicted correctly for {overall.text} of {overall.n:,} test faces"
    rows = [row for row in groups.get(attribute.group_column, []) if row[column] is not None]
    if rows:
        row = min(rows, key=lambda row: row[column])
        lowest = Estimate(row[column], row[f"{column}_low"], row[f"{column}_high"], row["n"], SHARE)
        text += f", but for {lowest} of the {lowest.n:,} labelled {row[attribute.group_column]},"
        text += " the lowest of all classes"
    return f"{text}.", overall
