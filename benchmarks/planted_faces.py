"""Faces that are found, how exactly, and what is predicted for them: UTKFace's pictures pasted into larger ones.

Pictures of other things (scikit-image's, 640 x 480 px) get one chip each, of 40 to 300 px, turned by up to 25 degrees.
The eyes of a find are compared with those that the landmarks give in the chip itself, in shares of the distance between
the eyes. Then a predictor judges each chip as it is, and as it was found and aligned. Patches of other things, as in
studies/other_things.py, and those pictures as a whole show how many patterns are taken for faces.

Thresholds were chosen on validation faces (`--split validation`).

usage: python -m benchmarks.planted_faces UTKFACE_FOLDER [--faces 1000] [--patches 540] [--split test],
which writes reports/external/planted_faces.json
"""

import argparse
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from skimage import data

from benchmarks import EXTERNAL_RESULTS
from facelib.data.alignment import CHIP_PX, EYE_DISTANCE, Frame, cut, whole_frame
from facelib.data.detection import find_faces, landmarks_of
from facelib.formats import write_json
from facelib.metrics import whole_years
from facelib.prediction import Predictor
from facelib.runs import published_run
from facelib.schema import AGE, GENDER
from facelib.statistics import Bootstrap, rate
from studies.other_things import OTHER_THINGS, other_patches

SIZE = (640, 480)
EDGES = (40, 60, 80, 100, 120, 160, 200, 300)  # pixels of pasted chips, in turn
LARGE = 80  # pixels, from which on chips have to be found
UNREDUCED = 200  # edge of the chips themselves: smaller ones have lost detail
MOST_TURNED = 25.0  # degrees
NEAR = 1 / 3  # of the chip's edge: a find whose centre is farther off is another one
PATCH_PX = 96


def backgrounds() -> list[Image.Image]:
    """Pictures of other things; `camera` shows a man."""
    pictures = [getattr(data, name)() for name in OTHER_THINGS if name != "camera"]
    return [Image.fromarray(picture).convert("RGB").resize(SIZE) for picture in pictures]


def plant(chip: Image.Image, background: Image.Image, edge: int, rng: np.random.Generator) -> tuple[Image.Image, Frame]:
    """A picture with a chip pasted at a random place and angle, and where it lies."""
    angle = rng.uniform(-MOST_TURNED, MOST_TURNED)
    small = chip.resize((edge, edge), Image.Resampling.LANCZOS)
    turned = small.rotate(-angle, Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", small.size, 255).rotate(-angle, expand=True)
    left, top = (int(rng.integers(0, side - extent)) for side, extent in zip(SIZE, turned.size, strict=True))
    picture = background.copy()
    picture.paste(turned, (left, top), mask)
    return picture, Frame(left + turned.width / 2, top + turned.height / 2, edge, angle)


def search(number: int, path: Path, background: Image.Image) -> tuple[dict, np.ndarray, np.ndarray]:
    """What became of one planted chip; its picture, and that of the find or black, uint8 (200, 200, 3)."""
    chip, edge = Image.open(path).convert("RGB"), EDGES[number % len(EDGES)]
    picture, truth = plant(chip, background, edge, np.random.default_rng(number))
    found = find_faces(picture)
    offsets = [np.hypot(face.frame.x - truth.x, face.frame.y - truth.y) for face in found.faces]
    near = [place for place, offset in enumerate(offsets) if offset < NEAR * edge and found.rotation == 0]
    row = {"edge": edge, "found": bool(near), "others": len(offsets) - len(near), "error": np.nan}
    crop = np.zeros((CHIP_PX, CHIP_PX, 3), np.uint8)
    if near:
        eyes = landmarks_of(chip, whole_frame(*chip.size))[:4].reshape(2, 2, 2).mean(axis=1) / chip.width
        distance = np.hypot(*(found.faces[near[0]].eyes - truth.places(eyes)).T).mean()
        row |= {"error": distance / (edge * EYE_DISTANCE), "detector": found.faces[near[0]].detector}
        crop = cut(picture, found.faces[near[0]].frame, CHIP_PX)
    return row, np.asarray(chip), crop


def compare(labels: pd.DataFrame, chips: np.ndarray, crops: np.ndarray, predictor: Predictor) -> dict:
    """Age error and gender accuracy of chips, of the finds, and the differences, on the same faces."""
    direct, aligned = (predictor.predictions(predictor.outputs(x), x, None) for x in (chips, crops))
    errors = [np.abs(whole_years(table["age_pred"].to_numpy()) - labels["age"]) for table in (direct, aligned)]
    right = [GENDER.decode(table).to_numpy() == labels["gender"].to_numpy() for table in (direct, aligned)]
    bootstrap = Bootstrap(2000, 0)
    return {
        "age.mae, chips": bootstrap(np.mean, errors[0]).to_dict(),
        "age.mae, found": bootstrap(np.mean, errors[1]).to_dict(),
        "age.mae, difference": bootstrap(np.mean, errors[1] - errors[0]).to_dict(),
        "gender.accuracy, chips": float(np.mean(right[0])),
        "gender.accuracy, found": float(np.mean(right[1])),
        "gender.accuracy, difference": bootstrap(np.mean, right[1].astype(float) - right[0]).to_dict(),
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=1000)
    parser.add_argument("--patches", type=int, default=540)
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    tables, predictor = published_run() / "tables", Predictor.load(published_run())
    faces, splits = (pd.read_parquet(tables / f"{name}.parquet") for name in ("faces", "splits"))
    usable = splits["representative"] & (splits["split"] == options.split)
    usable &= AGE.is_known(faces["age"]) & GENDER.is_known(faces["gender"])
    faces = faces[usable].sample(options.faces, random_state=0)
    pictures = backgrounds()
    searched = joblib.Parallel(n_jobs=-1, prefer="threads")(
        joblib.delayed(search)(number, options.folder / path, pictures[number % len(pictures)])
        for number, path in enumerate(faces["path"])
    )
    rows, chips, crops = zip(*searched, strict=True)
    table = pd.DataFrame(rows)
    large, hits = table["edge"] >= LARGE, table["found"].to_numpy()
    result = {"split": options.split, "found": {}, "eye_error": {}}
    for name, part in [(f"{edge} px", table["edge"] == edge) for edge in EDGES] + [(f"{LARGE} px and more", large)]:
        result["found"][name] = rate(int(table["found"][part].sum()), int(part.sum())).to_dict()
        errors = table["error"][part].dropna()
        result["eye_error"][name] = {"median": errors.median(), "95 %": errors.quantile(0.95), "mean": errors.mean()}
    labels = faces[["age", "gender"]]
    for least in (LARGE, UNREDUCED):
        both = hits & (table["edge"] >= least).to_numpy()
        judged = compare(labels[both], np.stack(chips)[both], np.stack(crops)[both], predictor)
        result[f"judged, {least} px and more"] = judged
    result["other finds in those pictures"] = rate(int((table["others"] > 0).sum()), len(table)).to_dict()
    patches = np.random.default_rng(0).permutation(other_patches(PATCH_PX))[: options.patches]
    phantoms = joblib.Parallel(n_jobs=-1, prefer="threads")(
        joblib.delayed(lambda patch: len(find_faces(Image.fromarray(patch)).faces) > 0)(patch) for patch in patches
    )
    result["phantoms in patches"] = rate(sum(phantoms), len(phantoms)).to_dict()
    for name, value in result.items():
        print(name, value, sep="\n  ")
    write_json(EXTERNAL_RESULTS / "planted_faces.json", result)


if __name__ == "__main__":
    main()
