"""The synthetic data set: drawn faces in UTKFace's format, with copies and wrong labels planted among them.

With it everything runs without any data, and what an audit finds can be held against truth.csv. Shares and
names resemble UTKFace's; what a face looks like is the business of `drawing`.
"""

import csv
import io
import os
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image, ImageEnhance, ImageOps

from facelib.schema import ATTRIBUTES, ETHNICITIES, MAX_AGE
from facelib.storage import PARTIAL
from facelib.synthetic.drawing import DRAWING_VERSION as DRAWING_VERSION
from facelib.synthetic.drawing import draw_face

EXACT_COPY_SHARE = 0.03  # of all files
NEAR_COPY_SHARE = 0.04
NEAR_COPY_KINDS = ("reencoded", "resized", "brightened", "grey", "cropped", "mirrored")
MISLABELLED_SHARE = 0.05
COPY_MISLABELLED_SHARE = 0.15  # of the copies: their label contradicts the original's
SECOND_ATTRIBUTE_SHARE = 0.1  # of the mislabelled files: two attributes are wrong
MIN_AGE_SHIFT_YEARS = 15

MALE_SHARE = 0.52
GROUP_SHARES = (0.43, 0.19, 0.14, 0.17, 0.07)  # UTKFace's five ethnicity codes, rounded


@dataclass
class _FaceFile:
    """One row of truth.csv: a file, whose name holds the given labels, and its true labels."""

    image_id: str
    person: int
    age: int
    gender: int
    ethnicity: int
    copy_of: str
    copy_kind: str
    mislabelled: str


TRUTH_COLUMNS = tuple(field.name for field in fields(_FaceFile))


def _sample_ages(rng: np.random.Generator, n: int) -> np.ndarray:
    """Ages in whole years with UTKFace's two peaks, infants and the mid-twenties, and its long tail."""
    parts = rng.choice(6, size=n, p=[0.14, 0.08, 0.09, 0.37, 0.24, 0.08])
    draws = np.stack(
        [
            rng.choice([1, 2, 3, 4], size=n, p=[0.42, 0.23, 0.18, 0.17]),
            rng.uniform(5, 19, n),
            np.full(n, 26.0),
            rng.normal(29, 5.5, n),
            rng.uniform(35, 66, n),
            66 + rng.gamma(1.8, 7.5, n),
        ]
    )
    return np.clip(np.rint(draws[parts, np.arange(n)]), 1, 100).astype(int)


def _timestamps(rng: np.random.Generator, n: int) -> list[str]:
    """Distinct 17-digit times that say nothing about the face."""
    start, span_ms = datetime(2017, 1, 9), 10 * 24 * 3600 * 1000
    times = (start + timedelta(milliseconds=int(ms)) for ms in rng.choice(span_ms, size=n, replace=False))
    return [time.strftime("%Y%m%d%H%M%S") + f"{time.microsecond // 1000:03d}" for time in times]


def _wrong_labels(true: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
    """The labels with one attribute, seldom two, changed to a wrong value."""
    count = 2 if rng.random() < SECOND_ATTRIBUTE_SHARE else 1
    given = dict(true)
    for attribute in rng.choice(ATTRIBUTES, size=count, replace=False, p=[0.4, 0.3, 0.3]):
        if attribute == "age":
            years = np.arange(1, MAX_AGE + 1)
            far = np.abs(years - true["age"])
            given["age"] = int(rng.choice(years[(far >= MIN_AGE_SHIFT_YEARS) & (far <= 45) & (years <= 100)]))
        elif attribute == "gender":
            given["gender"] = 1 - true["gender"]
        else:
            codes = len(ETHNICITIES)
            given["ethnicity"] = int((true["ethnicity"] + rng.integers(1, codes)) % codes)
    return given


def _plan(n: int, seed: int) -> list[_FaceFile]:
    """Every file of the set, originals first; nothing is drawn yet."""
    rng = np.random.default_rng([seed, n])
    n_exact, n_near = round(n * EXACT_COPY_SHARE), round(n * NEAR_COPY_SHARE)
    n_copies = n_exact + n_near
    n_people = n - n_copies
    ages = _sample_ages(rng, n_people)
    genders = (rng.random(n_people) >= MALE_SHARE).astype(int)
    groups = rng.choice(len(GROUP_SHARES), size=n_people, p=GROUP_SHARES)
    kinds = [""] * n_people + ["exact"] * n_exact
    kinds += [NEAR_COPY_KINDS[k % len(NEAR_COPY_KINDS)] for k in range(n_near)]
    people = np.concatenate([np.arange(n_people), rng.integers(n_people, size=n_copies)])

    n_wrong = round(n * MISLABELLED_SHARE)
    wrong_copies = min(round(n_copies * COPY_MISLABELLED_SHARE), n_wrong)
    wrong = set((n_people + rng.choice(n_copies, size=wrong_copies, replace=False)).tolist() if n_copies else [])
    wrong |= set(rng.choice(n_people, size=n_wrong - len(wrong), replace=False).tolist())

    files = []
    for i, (person, kind, stamp) in enumerate(zip(people.tolist(), kinds, _timestamps(rng, n), strict=True)):
        values = (int(ages[person]), int(genders[person]), int(groups[person]))
        true = dict(zip(ATTRIBUTES, values, strict=True))
        given = _wrong_labels(true, rng) if i in wrong else true
        name = "_".join(str(value) for value in (*given.values(), stamp)) + ".jpg.chip.jpg"
        changed = ",".join(attribute for attribute in ATTRIBUTES if given[attribute] != true[attribute])
        files.append(_FaceFile(name, person, **true, copy_of=files[person].image_id if kind else "",
                               copy_kind=kind, mislabelled=changed))  # fmt: skip
    return files


def _near_copy(picture: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """The picture as it comes back from a second life on the web."""
    px = picture.width
    if kind == "resized":
        small = round(px * rng.uniform(0.55, 0.75))
        return picture.resize((small, small), Image.Resampling.LANCZOS).resize((px, px), Image.Resampling.BICUBIC)
    if kind == "brightened":
        return ImageEnhance.Brightness(picture).enhance(rng.uniform(1.15, 1.35))
    if kind == "grey":
        return picture.convert("L").convert("RGB")
    if kind == "cropped":
        left, top, right, bottom = (px * rng.uniform(0.005, 0.03, 4)).tolist()
        return picture.resize((px, px), Image.Resampling.BICUBIC, box=(left, top, px - right, px - bottom))
    if kind == "mirrored":
        return ImageOps.mirror(picture)
    return picture


def _encode(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _write_person(faces: Path, files: list[_FaceFile], seed: int, px: int) -> None:
    """Draw one person and write the original and its copies."""
    original = files[0]
    rng = np.random.default_rng([seed, original.person])
    pixels = draw_face(original.age, original.gender, original.ethnicity, rng, px)
    quality = int(rng.integers(45, 70)) if rng.random() < 0.06 else int(rng.integers(80, 96))
    encoded = _encode(Image.fromarray(pixels), quality)
    for file in files:
        data = encoded
        if file.copy_kind in NEAR_COPY_KINDS:
            with Image.open(io.BytesIO(encoded)) as picture:
                data = _encode(_near_copy(picture.convert("RGB"), file.copy_kind, rng), int(rng.integers(60, 80)))
        # A drawing process that outlives a killed run must not be seen halfway through a file.
        part = faces / f"{PARTIAL}{os.getpid()}-{file.image_id}"
        part.write_bytes(data)
        os.replace(part, faces / file.image_id)


def _write_truth(path: Path, files: list[_FaceFile]) -> None:
    part = path.with_suffix(".csv.part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, TRUTH_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(file) for file in files)
    os.replace(part, path)


def write_synthetic_faces(folder: Path, n: int, seed: int, px: int = 200, n_jobs: int = 2) -> Path:
    """Write a synthetic data set in UTKFace's format, with copies and wrong labels planted in it.

    The bytes depend on `n`, `seed`, `px` and `DRAWING_VERSION` alone, not on the number of processes. A
    folder that holds truth.csv is complete and left as it is.

    Parameters
    ----------
    folder : Path
        Receives `faces/` and `truth.csv`, one row per file: image_id, person, the true age, gender and
        ethnicity, copy_of, copy_kind, mislabelled (the attributes that the file's name has wrong, joined by
        commas).
    n : int
        Number of files, copies included.
    seed : int
        At least 0.
    px : int
        Side of the pictures in pixels.
    n_jobs : int
        Processes; -1 for one per core.

    Returns
    -------
    Path
        `folder/faces`.

    Raises
    ------
    FileExistsError
        If `folder/faces` holds files of another set.
    """
    folder = Path(folder)
    faces, truth = folder / "faces", folder / "truth.csv"
    if truth.exists():
        return faces
    files = _plan(n, seed)
    faces.mkdir(parents=True, exist_ok=True)
    present = {path.name for path in faces.iterdir() if not path.name.startswith(PARTIAL)}
    strangers = present - {file.image_id for file in files}
    if strangers:
        raise FileExistsError(f"{faces} holds {len(strangers)} foreign files ({min(strangers)}): name a new folder")
    by_person: dict[int, list[_FaceFile]] = {}
    for file in files:
        by_person.setdefault(file.person, []).append(file)
    jobs = 1 if n < 100 else n_jobs  # starting processes costs more than drawing a few faces
    Parallel(n_jobs=jobs)(delayed(_write_person)(faces, group, seed, px) for group in by_person.values())
    _write_truth(truth, files)
    return faces
