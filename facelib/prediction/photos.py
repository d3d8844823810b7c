"""Photographs from outside the data set: find the faces, align them as the training photographs are, predict."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from PIL import Image

from facelib.data.alignment import CHIP_PX, cut, whole_frame
from facelib.data.detection import find_faces, turned
from facelib.data.files import hidden_entries, printable, read_file, regular_files
from facelib.data.pixels import FORMATS, open_upright, square
from facelib.data.readers import IMAGE_SUFFIXES
from facelib.errors import FacelibError
from facelib.finding import Finding
from facelib.formats import as_written, read_json
from facelib.prediction.answers import YOUNG, FaceCrop, FaceResult, PhotoResult
from facelib.runs import cache_root
from facelib.schema import AGE, AGE_BAND_EDGES, AGE_BANDS, Attribute
from facelib.statistics import SHARE, Estimate
from facelib.storage import atomic_path

if TYPE_CHECKING:
    from facelib.prediction.predictor import Predictor

BATCH_PHOTOS = 32  # whose faces are predicted together
MANY_PHOTOS = 100  # from here on processes, which take seconds to start, are faster than threads
MOST_AHEAD = 200  # photographs that are searched before their faces are predicted, at most
SEARCHED_PX = 3000  # of each edge, which a JPEG keeps when it is decoded smaller: its faces have more than 200 px
MOST_READERS = 8  # photographs in memory at once, each of which may be hundreds of megabytes


class SearchEnded(FacelibError):
    """A process that searched photographs and was ended by the system."""


class UnreadablePhoto(FacelibError):
    """A photograph that cannot be opened."""


def read_photo(path: Path, least_px: int = 0) -> tuple[Image.Image, float]:
    """A photograph as RGB, turned upright, and how many pixels of the file one of its has along an edge.

    That is 1, but for a JPEG of `least_px` or more along each edge, if that is given, which is decoded at a half, a
    quarter or an eighth of its size. UnreadablePhoto if the file is missing or no image.
    """
    try:
        with open_upright(read_file(path), 2 * least_px // 3) as (upright, size, _):
            upright.load()
            return upright, max(size) / max(upright.size)
    except ValueError as error:
        raise UnreadablePhoto(f"{path} {error}: give a photograph ({', '.join(FORMATS)})") from error


def read_turned(photo: PhotoResult) -> Image.Image:
    """A photograph once more, turned as its faces were found upright."""
    return turned(read_photo(photo.path)[0], photo.rotation)


def example_file() -> Path:
    """scikit-image's public-domain portrait of an astronaut, 512 x 512, as a file in the cache."""
    from skimage import data

    path = cache_root() / "astronaut.png"
    if not path.exists():
        with atomic_path(path) as partial:
            Image.fromarray(data.astronaut()).save(partial)
    return path


def crop_faces(photo: Image.Image) -> tuple[list[FaceCrop], int]:
    """All faces of a photograph, aligned, largest first; and the degrees by which it had to be turned."""
    found = find_faces(photo)
    crops = [
        FaceCrop(cut(found.photo, face.frame, CHIP_PX), face.frame, face.score, face.detector) for face in found.faces
    ]
    return crops, found.rotation


def ready_crop(photo: Image.Image) -> FaceCrop:
    """A picture that is an aligned face already; of one that is not square, the centre."""
    return FaceCrop(square(photo, min(CHIP_PX, *photo.size)), whole_frame(*photo.size))


def list_photos(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The files of photographs: those named, and of a folder every image below it, by name.

    Also a sentence for everything else in a folder, none of which is predicted, and for a folder without a photograph.
    """
    files, refused = [], []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names, unsearched = regular_files(path)
        images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        files += [path / name for name in images]
        left_out = [*unsearched, *((name, "is hidden") for name in hidden_entries(path))]
        left_out += [(name, "is not an image file by its name") for name in sorted(set(names) - set(images))]
        refused += [f"{path / name} {reason}" for name, reason in left_out]
        if not images:
            refused.append(f"{path} holds no photograph: it takes {', '.join(IMAGE_SUFFIXES)}")
    return files, refused


def predict_photos(
    files: Iterable[Path | str], predictor: "Predictor", sensitive: bool = False, crops: bool = False
) -> Iterator[PhotoResult]:
    """Predictions for each face of many photographs, in their order; of sensitive attributes only where asked.

    A thread or, of `MANY_PHOTOS`, a process for each core, `MOST_READERS` at most, searches one photograph at a time.
    Meanwhile the faces of `BATCH_PHOTOS` are predicted together, on one core.

    Parameters
    ----------
    files : iterable of Path or str
    predictor : Predictor
    sensitive : bool
        Report sensitive attributes, too.
    crops : bool
        The pictures are aligned faces already, and nothing is searched.
    """
    from facelib.devices import one_thread  # torch, which processes that search do without

    attributes = tuple(attribute for attribute in predictor.attributes if sensitive or not attribute.sensitive)
    searched = _searched(map(Path, files), crops)
    while read := list(islice(searched, BATCH_PHOTOS)):
        images = [crop.image for _, found, _, _ in read for crop in found]
        # Cores that search would keep a network waiting that works on all of them.
        with nullcontext() if crops else one_thread():
            answers = iter(list(_answers(predictor, images)) if images else ())
        for path, found, rotation, reason in read:
            name = printable(str(path))
            faces = []
            for number, crop in enumerate(found):
                row, ages = next(answers)
                faces.append(FaceResult(name, number, crop, row, attributes, rotation, ages, predictor.young))
            yield PhotoResult(path, faces, reason, rotation)


def _searched(files: Iterator[Path], crops: bool) -> Iterator[tuple]:
    """What `crops_of` gives for each file, in their order."""
    chunk = list(islice(files, MOST_AHEAD))
    # dlib's first detector keeps the interpreter, so that threads share little of the work.
    readers = min(joblib.cpu_count(), MOST_READERS)
    shared = len(chunk) >= MANY_PHOTOS and readers > 1 and not crops
    prefer, search = ("processes", _crops_in_process) if shared else ("threads", crops_of)
    # Without batch_size joblib hands out several small photographs at once.
    with joblib.Parallel(readers, prefer=prefer, batch_size=1, return_as="generator") as pool:
        while chunk:
            results = pool(joblib.delayed(search)(path, crops) for path in chunk)
            try:
                yield from results
            except TerminatedWorkerError as error:
                raise SearchEnded(
                    "a process that searched photographs was ended, perhaps for lack of memory: give fewer at a time"
                ) from error
            chunk = list(islice(files, MOST_AHEAD))


def _crops_in_process(path: Path, ready: bool) -> tuple:
    """The same as `crops_of`, in a process that does not share this one's filters of warnings."""
    warnings.filterwarnings("ignore", module="PIL")  # about files whose reason is given if they cannot be read
    return crops_of(path, ready)


def _answers(predictor: "Predictor", images: list[np.ndarray]) -> Iterator[tuple]:
    """The row of predictions and the age distribution, or None, of each image."""
    outputs = predictor.outputs(images)
    table = predictor.predictions(outputs, images, predictor.features(images))
    ages = predictor.age_distribution(outputs)
    for number, (_, row) in enumerate(table.iterrows()):
        yield row, None if ages is None else ages[number]


def crops_of(path: Path, ready: bool = False) -> tuple[Path, list[FaceCrop], int, str]:
    """The faces of a file, the degrees by which it was turned, and why it cannot be read; `ready` if it is a crop."""
    try:
        photo, reduction = read_photo(path, SEARCHED_PX)
    except UnreadablePhoto as error:
        return path, [], 0, str(error)
    found, rotation = ([ready_crop(photo)], 0) if ready else crop_faces(photo)
    return path, [replace(crop, frame=crop.frame.scaled(reduction)) for crop in found], rotation, ""


def predict_all(
    predictor: "Predictor", named: str = "", sensitive: bool = False
) -> tuple[list[PhotoResult], list[str]]:
    """All readable photographs of the files and folders named in a text, and what was left out, with the reason.

    Names are separated by `os.pathsep`, a colon or on Windows a semicolon; without any it is the example.
    UnreadablePhoto if none is readable.
    """
    # An empty name would be the working directory.
    files, refused = list_photos([Path(name) for name in named.split(os.pathsep) if name] or [example_file()])
    photos = list(predict_photos(files, predictor, sensitive))
    refused += [photo.reason for photo in photos if photo.reason]
    readable = [photo for photo in photos if not photo.reason]
    if not readable:
        raise UnreadablePhoto("; ".join(refused))
    return readable, refused


def example(predictor: "Predictor") -> PhotoResult:
    """The answer for the built-in portrait."""
    return next(predict_photos([example_file()], predictor))


def young_errors(path: Path) -> dict[str, dict]:
    """What notebook 06 of a run measured for the age bands below 18 years: its group table's rows, by band."""
    stored = path / "metrics" / "06_groups.json"
    if not stored.exists():
        return {}
    bands = {band for band, (_, end) in zip(AGE_BANDS, pairwise(AGE_BAND_EDGES), strict=False) if end <= YOUNG}
    with as_written(stored):
        rows = dict(dict(read_json(stored)["details"]).get("groups", {})).get(AGE.group_column, [])
        return {row[AGE.group_column]: dict(row) for row in rows if row[AGE.group_column] in bands}


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
    limits = "A prediction is a judgement of appearance, not what a person is."
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
