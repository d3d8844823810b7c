"""The synthetic data set: drawn faces in UTKFace's format, with copies and wrong labels planted among them.

With it everything runs without any data, and what an audit finds can be held against truth.csv. Shares and names
resemble UTKFace's; `drawing` decides what a face looks like.
"""

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image, ImageEnhance, ImageOps

from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, Attribute, ClassAttribute
from facelib.storage import PARTIAL, atomic_path
from facelib.synthetic.drawing import DRAWING_VERSION as DRAWING_VERSION
from facelib.synthetic.drawing import draw_face

EXACT_COPY_SHARE = 0.03  # of all files
NEAR_COPY_SHARE = 0.04
MISLABELLED_SHARE = 0.05
COPY_MISLABELLED_SHARE = 0.15  # of the copies: their label contradicts the original's
SECOND_ATTRIBUTE_SHARE = 0.1  # of the mislabelled files: two attributes are wrong
MIN_AGE_SHIFT_YEARS = 15

MALE_SHARE = 0.52
GROUP_SHARES = (0.43, 0.19, 0.14, 0.17, 0.07)  # UTKFace's five ethnicity codes, rounded
SMILES = ((-0.3, 0.3), (1.3, 0.35))  # mean and standard deviation of how a neutral and a smiling mouth are drawn
EXPRESSION = ClassAttribute("expression", classes=("neutral", "smiling"))
GIVEN = "_given"  # column of truth.csv with the given label of an attribute that file names do not hold


def _sample_ages(rng: np.random.Generator, n: int) -> np.ndarray:
    """Ages in whole years with UTKFace's two peaks, infants and the mid-twenties, and its long tail."""
    parts = rng.choice(6, size=n, p=[0.14, 0.08, 0.09, 0.37, 0.24, 0.08])
    draws = np.stack([
        rng.choice([1, 2, 3, 4], size=n, p=[0.42, 0.23, 0.18, 0.17]), rng.uniform(5, 19, n), np.full(n, 26.0),
        rng.normal(29, 5.5, n), rng.uniform(35, 66, n), 66 + rng.gamma(1.8, 7.5, n),
    ])  # fmt: skip
    return np.clip(np.rint(draws[parts, np.arange(n)]), 1, 100).astype(int)


def _wrong_ages(ages: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    years = np.arange(1, 101)
    far = [years[(np.abs(years - age) >= MIN_AGE_SHIFT_YEARS) & (np.abs(years - age) <= 45)] for age in ages]
    return np.array([rng.choice(choices) for choices in far])


@dataclass(frozen=True)
class Drawn:
    """How one attribute of the drawn faces comes about."""

    attribute: Attribute
    sample: Callable[[np.random.Generator, int], np.ndarray]  # true labels of n people
    mislabelled: float  # how often it is this attribute that is wrong, relative to the others
    draw: Callable[[int, np.random.Generator], dict]  # arguments of `drawing.draw_face` that show a label
    wrong: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None  # labels; None: `Attribute.wrong`


# What is drawn, by attribute. The first three stand in the file names of every set; others are drawn on request, and
# stand in truth.csv alone.
DRAWN = (
    Drawn(AGE, _sample_ages, 0.4, lambda age, rng: {"age_years": age}, _wrong_ages),
    Drawn(GENDER, lambda rng, n: (rng.random(n) >= MALE_SHARE).astype(int), 0.3, lambda code, rng: {"gender": code}),
    Drawn(ETHNICITY, lambda rng, n: rng.choice(5, n, p=GROUP_SHARES), 0.3, lambda code, rng: {"group": code}),
    Drawn(EXPRESSION, lambda rng, n: rng.integers(0, 2, n), 0.3, lambda k, rng: {"smile": rng.normal(*SMILES[k])}),
)


def drawn_attributes(names: Iterable[str]) -> tuple[Drawn, ...]:
    """The rows of `DRAWN` for a set in which these attributes are wanted: UTKFace's three, and others by name."""
    wanted = set(names)
    return tuple(row for row in DRAWN if row.attribute in UTKFACE_ATTRIBUTES or row.attribute.name in wanted)


@dataclass
class _FaceFile:
    """One row of truth.csv: a file, whose name holds the first given labels, and its true and given labels."""

    image_id: str
    person: int
    true: dict[str, int]
    given: dict[str, int]
    copy_of: str
    copy_kind: str

    def row(self) -> dict:
        extra = {f"{name}{GIVEN}": label for name, label in list(self.given.items())[len(UTKFACE_ATTRIBUTES) :]}
        changed = ",".join(name for name, label in self.true.items() if self.given[name] != label)
        return {"image_id": self.image_id, "person": self.person, **self.true, "copy_of": self.copy_of,
                "copy_kind": self.copy_kind, "mislabelled": changed, **extra}  # fmt: skip


def _timestamps(rng: np.random.Generator, n: int) -> list[str]:
    """Distinct 17-digit times that say nothing about the face."""
    start, span_ms = datetime(2017, 1, 9), 10 * 24 * 3600 * 1000
    times = (start + timedelta(milliseconds=int(ms)) for ms in rng.choice(span_ms, size=n, replace=False))
    return [time.strftime("%Y%m%d%H%M%S") + f"{time.microsecond // 1000:03d}" for time in times]


def _wrong_labels(true: dict[str, int], drawn: tuple[Drawn, ...], rng: np.random.Generator) -> dict[str, int]:
    """The labels with one attribute, seldom two, changed to a wrong value."""
    count = 2 if rng.random() < SECOND_ATTRIBUTE_SHARE else 1
    share = np.array([row.mislabelled for row in drawn])
    given = dict(true)
    for place in rng.choice(len(drawn), size=count, replace=False, p=share / share.sum()):
        attribute, wrong = drawn[place].attribute, drawn[place].wrong or drawn[place].attribute.wrong
        given[attribute.name] = int(wrong(np.array([true[attribute.name]]), rng)[0])
    return given


def _plan(n: int, seed: int, drawn: tuple[Drawn, ...]) -> list[_FaceFile]:
    """Every file of the set, originals first; nothing is drawn yet."""
    rng = np.random.default_rng([seed, n])
    n_exact, n_near = round(n * EXACT_COPY_SHARE), round(n * NEAR_COPY_SHARE)
    n_copies = n_exact + n_near
    n_people = n - n_copies
    labels = {row.attribute.name: row.sample(rng, n_people).tolist() for row in drawn}
    kinds = [""] * n_people + ["exact"] * n_exact
    kinds += [NEAR_COPY_KINDS[k % len(NEAR_COPY_KINDS)] for k in range(n_near)]
    people = np.concatenate([np.arange(n_people), rng.integers(n_people, size=n_copies)])

    n_wrong = round(n * MISLABELLED_SHARE)
    wrong_copies = min(round(n_copies * COPY_MISLABELLED_SHARE), n_wrong)
    wrong = set((n_people + rng.choice(n_copies, size=wrong_copies, replace=False)).tolist() if n_copies else [])
    wrong |= set(rng.choice(n_people, size=n_wrong - len(wrong), replace=False).tolist())

    files = []
    for i, (person, kind, stamp) in enumerate(zip(people.tolist(), kinds, _timestamps(rng, n), strict=True)):
        true = {name: values[person] for name, values in labels.items()}
        given = _wrong_labels(true, drawn, rng) if i in wrong else true
        name = "_".join([*(str(given[a.name]) for a in UTKFACE_ATTRIBUTES), stamp]) + ".jpg.chip.jpg"
        files.append(_FaceFile(name, person, true, given, files[person].image_id if kind else "", kind))
    return files


def _resized(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    px, small = picture.width, round(picture.width * rng.uniform(0.55, 0.75))
    return picture.resize((small, small), Image.Resampling.LANCZOS).resize((px, px), Image.Resampling.BICUBIC)


def _cropped(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    px = picture.width
    left, top, right, bottom = (px * rng.uniform(0.005, 0.03, 4)).tolist()
    return picture.resize((px, px), Image.Resampling.BICUBIC, box=(left, top, px - right, px - bottom))


# How each kind of near copy is degraded, before it is encoded again.
NEAR_COPIES = {
    "reencoded": lambda picture, rng: picture,
    "resized": _resized,
    "brightened": lambda picture, rng: ImageEnhance.Brightness(picture).enhance(rng.uniform(1.15, 1.35)),
    "grey": lambda picture, rng: picture.convert("L").convert("RGB"),
    "cropped": _cropped,
    "mirrored": lambda picture, rng: ImageOps.mirror(picture),
}
NEAR_COPY_KINDS = tuple(NEAR_COPIES)


def _encode(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _looks(file: _FaceFile, drawn: tuple[Drawn, ...], seed: int) -> dict:
    """Arguments of `draw_face` for a person; each attribute has a generator of its own."""
    looks = {}
    for place, row in enumerate(drawn):
        looks |= row.draw(file.true[row.attribute.name], np.random.default_rng([seed, file.person, place]))
    return looks


def _write_person(faces: Path, files: list[_FaceFile], looks: dict, seed: int, px: int) -> None:
    """Draw one person and write the original and its copies."""
    rng = np.random.default_rng([seed, files[0].person])
    pixels = draw_face(**looks, rng=rng, px=px)
    quality = int(rng.integers(45, 70)) if rng.random() < 0.06 else int(rng.integers(80, 96))
    encoded = _encode(Image.fromarray(pixels), quality)
    for file in files:
        data = encoded
        if file.copy_kind in NEAR_COPY_KINDS:
            with Image.open(io.BytesIO(encoded)) as picture:
                data = _encode(NEAR_COPIES[file.copy_kind](picture.convert("RGB"), rng), int(rng.integers(60, 80)))
        # A drawing process that outlives a killed run must not be seen halfway through a file.
        part = faces / f"{PARTIAL}{os.getpid()}-{file.image_id}"
        part.write_bytes(data)
        os.replace(part, faces / file.image_id)


def read_truth(folder: Path) -> pd.DataFrame:
    """truth.csv of a synthetic set by image_id, in which the texts of originals and right labels are empty."""
    return pd.read_csv(folder / "truth.csv", keep_default_na=False).set_index("image_id")


def write_synthetic_faces(
    folder: Path, n: int, seed: int, px: int = 200, n_jobs: int = 2, attributes: Iterable[str] = ()
) -> Path:
    """Write a synthetic data set in UTKFace's format, with copies and wrong labels planted in it.

    The bytes depend on `n`, `seed`, `px`, `attributes` and `DRAWING_VERSION` alone, not on the number of processes. A
    folder that holds truth.csv is complete and left as it is.

    Parameters
    ----------
    folder : Path
        Receives `faces/`, whose path is returned, and `truth.csv`, one row per file: image_id, person, the true labels,
        copy_of, copy_kind, mislabelled (names of attributes, joined by commas), and as `<name>_given` the given labels
        that the file names do not hold.
    n : int
        Number of files, copies included.
    seed, px : int
        At least 0; edge of the pictures in pixels.
    n_jobs : int
        Processes; -1 for one per core.
    attributes : iterable of str
        Names of further attributes in `DRAWN` to draw.

    Raises
    ------
    FileExistsError
        If `folder/faces` holds files of another set.
    """
    faces, truth = Path(folder) / "faces", Path(folder) / "truth.csv"
    if truth.exists():
        return faces
    drawn = drawn_attributes(attributes)
    files = _plan(n, seed, drawn)
    faces.mkdir(parents=True, exist_ok=True)
    present = {path.name for path in faces.iterdir() if not path.name.startswith(PARTIAL)}
    foreign = present - {file.image_id for file in files}
    if foreign:
        raise FileExistsError(f"{faces} holds {len(foreign)} foreign files ({min(foreign)}): name a new folder")
    by_person: dict[int, list[_FaceFile]] = {}
    for file in files:
        by_person.setdefault(file.person, []).append(file)
    jobs = 1 if n < 100 else n_jobs  # starting processes costs more than drawing a few faces
    Parallel(n_jobs=jobs)(
        delayed(_write_person)(faces, group, _looks(group[0], drawn, seed), seed, px) for group in by_person.values()
    )
    with atomic_path(truth) as partial:
        pd.DataFrame([file.row() for file in files]).to_csv(partial, index=False)
    return faces
