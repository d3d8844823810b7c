"""Planted copies found again among 3,000 photographs, beside imagededup on the same files, and with the face network.

The photographs are drawn at random, one of each content; 250 of them get one copy of each kind: re-encoded (JPEG
quality 30 to 90), resized (60 to 140 %), brighter or darker (20 %), grey, mirrored, and cropped (up to 4 % off each
side, then stretched back). Times are from files to pairs, imports left out, in alternating rounds.

Altered copies are planted likewise: a window of 85 to 96 % of the edge anywhere in the photograph; turned by 3 to 10
degrees, without the corners that this empties; through one of eight heavy filters; and a window, half of them turned,
through a filter. They are searched by hash alone, and with the face network. What it adds in the whole data is counted.

usage: python -m studies.copies UTKFACE_FOLDER [--only hash|altered] [--imagededup PYTHON] [--out DIR] [--sheet FILE]

PYTHON is the interpreter of an environment with imagededup, which needs one of its own:
`python3 -m venv imagededup && imagededup/bin/pip install imagededup`.
"""

import argparse
import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from facelib.audit import duplicates
from facelib.data.pixels import cache_faces
from facelib.data.readers import FaceSource, read_faces
from facelib.embedding.features import embed_faces
from facelib.embedding.persons import find_persons
from facelib.formats import write_json
from facelib.runs import cache_root
from facelib.statistics import rate
from studies import AUDIT_RESULTS
from studies.pages import interval

PHOTOGRAPHS, COPIES = 3000, 250
KINDS = ("re-encoded", "resized", "brightness", "grey", "mirrored", "cropped")
ALTERED = ("other window", "turned", "filtered", "window, turn and filter")
ROUNDS = 3
SHEET_PAIRS = 100


def _pixels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Image.Image], Image.Image]:
    """A filter that changes float pixels (h, w, 3), 0 to 255."""
    return lambda image: Image.fromarray(change(np.asarray(image, float)).clip(0, 255).astype(np.uint8))


def _vignette(pixels: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    return pixels * (1 - 0.6 * np.clip(x * x + y * y, 0, 1))[..., None]


# Sepia, twice the contrast, posterised to 8 shades, blurred, grain, dark, yellow, dark corners.
FILTERS = (
    _pixels(lambda pixels: pixels.mean(axis=2, keepdims=True) * [1, 0.82, 0.6]),
    lambda image: ImageEnhance.Contrast(image).enhance(2.2),
    lambda image: ImageOps.posterize(image, 3),
    lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 100)),
    _pixels(lambda pixels: pixels + np.random.default_rng(0).normal(0, 20, (*pixels.shape[:2], 1))),
    _pixels(lambda pixels: 255 * (pixels / 255) ** 2.2),
    _pixels(lambda pixels: pixels * [1.25, 1, 0.65]),
    _pixels(_vignette),
)


def _window(image: Image.Image, left: float, top: float, edge: float) -> Image.Image:
    box = (left, top, left + edge, top + edge)
    return image.transform(image.size, Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)


def alter(image: Image.Image, kind: str, rng: np.random.Generator) -> bytes:
    """One altered copy of a square photograph, as JPEG."""
    edge, filtered = image.width, FILTERS[rng.integers(len(FILTERS))]
    if kind in (ALTERED[0], ALTERED[3]):
        size = rng.uniform(0.85, 0.96) * edge
        image = _window(image, *rng.uniform(0, edge - size, 2), size)
    if kind == ALTERED[1] or (kind == ALTERED[3] and rng.random() < 0.5):
        angle = rng.uniform(3, 10)
        size = edge / (np.cos(np.radians(angle)) + np.sin(np.radians(angle)))
        turned = image.rotate(rng.choice([-1, 1]) * angle, Image.Resampling.BICUBIC)
        image = _window(turned, (edge - size) / 2, (edge - size) / 2, size)
    buffer = io.BytesIO()
    (filtered(image) if kind in ALTERED[2:] else image).save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    return buffer.getvalue()


def make_copy(image: Image.Image, kind: str, rng: np.random.Generator) -> bytes:
    """One changed copy of a photograph, as JPEG."""
    quality, edge = 95, image.width
    if kind == "re-encoded":
        quality = int(rng.integers(30, 91))
    elif kind == "resized":
        image = image.resize((round(edge * rng.uniform(0.6, 1.4)),) * 2, Image.Resampling.BICUBIC)
    elif kind == "brightness":
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2))
    elif kind == "grey":
        image = image.convert("L")
    elif kind == "mirrored":
        image = ImageOps.mirror(image)
    elif kind == "cropped":
        left, top, right, bottom = rng.uniform(0, 0.04 * edge, 4).round()
        image = image.crop((int(left), int(top), int(edge - right), int(edge - bottom))).resize((edge, edge))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def plant(data: str, folder: Path, kinds: tuple[str, ...], change: Callable, seed: int = 0) -> pd.DataFrame:
    """Write photographs and copies of them, changed, into `folder`; returns copy, original and kind by file name."""
    source = read_faces(data)
    single = source.faces.drop_duplicates("sha256")
    rng = np.random.default_rng(seed)
    drawn = single.iloc[rng.choice(len(single), PHOTOGRAPHS, replace=False)]
    planted = []
    for number, row in enumerate(drawn.itertuples()):
        labels = (f"{getattr(row, attribute.name):.0f}" for attribute in source.attributes)
        name = "_".join([*labels, f"{number:08d}"])
        content = (source.root / row.path).read_bytes()
        (folder / f"{name}.jpg").write_bytes(content)
        if number < COPIES * len(kinds):
            kind = kinds[number % len(kinds)]
            with Image.open(io.BytesIO(content)) as image:
                (folder / f"{name}c.jpg").write_bytes(change(image.convert("RGB"), kind, rng))
            planted.append({"copy": f"{name}c.jpg", "original": f"{name}.jpg", "kind": kind})
    return pd.DataFrame(planted)


def search(folder: Path) -> dict:
    """Seconds from files to pairs, with an empty cache, and all pairs of the groups that they join."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        images, faces, _ = cache_faces(read_faces(folder), 64, Path(cache))
        pairs = duplicates.find_copies(faces, images)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "pairs": _joined(faces, pairs)}


def _joined(faces: pd.DataFrame, pairs: pd.DataFrame) -> list[tuple[str, str]]:
    """All pairs of each group: not all of them are listed, and what counts is who is in it."""
    groups = faces["image_id"].groupby(duplicates.group_copies(len(faces), pairs))
    return [pair for _, names in groups for pair in itertools.combinations(names, 2)]


def search_altered(folder: Path, planted: pd.DataFrame) -> dict[str, dict]:
    """Scores of the search by hash alone and of that with the face network."""
    source = read_faces(folder)
    with tempfile.TemporaryDirectory() as cache:
        images, faces, _ = cache_faces(source, 64, Path(cache))
        _, alike = find_persons(embed_faces(faces, lambda: source, Path(cache)).descriptors)
        ways = {"hash alone": duplicates.find_copies(faces, images)}
        ways["with the face network"] = duplicates.find_copies(faces, images, alike)
    found = {way: {frozenset(pair) for pair in _joined(faces, pairs)} for way, pairs in ways.items()}
    return {way: {"pairs": len(pairs)} | score(pairs, planted) for way, pairs in found.items()}


def added(data: str) -> dict[str, int]:
    """What the face network adds to the search in the whole data."""
    _, faces, pairs = searched_whole(data)
    joined = duplicates.group_copies(len(faces), pairs)
    by_hash = duplicates.group_copies(len(faces), pairs[pairs["kind"] != "altered"])
    altered = int((pairs["kind"] == "altered").sum())
    return {"altered pairs": altered, "images that repeat another one": int(by_hash.max() - joined.max())}


def searched_whole(data: str) -> tuple[FaceSource, pd.DataFrame, pd.DataFrame]:
    """Source, faces and all pairs of copies of the data."""
    source = read_faces(data)
    images, faces, _ = cache_faces(source, 64, cache_root())
    _, alike = find_persons(embed_faces(faces, lambda: source, cache_root()).descriptors)
    return source, faces, duplicates.find_copies(faces, images, alike)


def searched(command: list[str]) -> tuple[float, set[frozenset[str]]]:
    """Seconds and pairs of a search in a process of its own."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], {frozenset(pair) for pair in answer["pairs"]}


def score(found: set, planted: pd.DataFrame) -> dict[str, dict]:
    """Recall of each kind, and precision of all pairs."""
    true = [frozenset(pair) for pair in zip(planted["copy"], planted["original"], strict=True)]
    hit = pd.Series([pair in found for pair in true]).groupby(planted["kind"])
    results = {f"recall.{kind}": rate(int(part.sum()), len(part)).to_dict() for kind, part in hit}
    results["recall"] = rate(sum(pair in found for pair in true), len(true)).to_dict()
    # Natural copies are true pairs too, but unknown: a lower bound.
    return results | {"planted among all pairs": rate(len(found & set(true)), len(found)).to_dict()}


def contact_sheet(data: str, path: Path, seed: int = 0) -> None:
    """A local picture of pairs of the whole data drawn at random, to be judged by eye and not passed on."""
    source, faces, pairs = searched_whole(data)
    altered, near = (pairs[pairs["kind"] == kind] for kind in ("altered", "near"))
    some = near.sample(min(SHEET_PAIRS, len(near)), random_state=seed).sort_values("distance", ascending=False)
    drawn = pd.concat([altered, some])
    edge, columns = 100, 10
    sheet = Image.new("RGB", (columns * (2 * edge + 12), -(-len(drawn) // columns) * (edge + 16)))
    for at, pair in enumerate(drawn.itertuples()):
        x, y = at % columns * (2 * edge + 12), at // columns * (edge + 16)
        for side, row in enumerate((pair.first, pair.second)):
            with Image.open(source.root / faces.loc[row, "path"]) as opened:
                image = opened.convert("RGB").resize((edge, edge))
            sheet.paste(ImageOps.mirror(image) if side and pair.mirrored else image, (x + side * edge, y))
        ImageDraw.Draw(sheet).text((x + 2, y + edge), f"{at + 1}: distance {pair.distance:.2f}", fill="white")
    sheet.save(path)


def against(data: str, imagededup: str | None) -> dict[str, dict]:
    """Scores and seconds of each program, in alternating rounds."""
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        planted = plant(data, Path(scratch), KINDS, make_copy)
        programs = {"facelib": [sys.executable, "-m", "studies.copies", scratch, "--search"]}
        if imagededup:
            programs["imagededup"] = [imagededup, str(Path(__file__).with_name("imagededup_pairs.py")), scratch]
        for _ in range(ROUNDS):
            rounds = {name: searched(command) for name, command in programs.items()}
            for name, (seconds, found) in rounds.items():
                result = results.setdefault(name, {"seconds": [], "pairs": len(found), **score(found, planted)})
                result["seconds"].append(round(seconds, 2))
    return results


def main() -> None:
    """Plant, search, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--search", action="store_true", help="only search DATA, and print seconds and pairs as JSON")
    parser.add_argument("--only", choices=("hash", "altered"), default="", help="one of the two measurements")
    parser.add_argument("--imagededup", metavar="PYTHON", help="interpreter of an environment with imagededup")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    parser.add_argument("--sheet", type=Path, help="write pairs as a local picture to be judged by eye, and stop")
    options = parser.parse_args()
    if options.search:
        print(json.dumps(search(Path(options.data))))
        return
    if options.sheet:
        contact_sheet(options.data, options.sheet)
        return
    path = options.out / "copies.json"
    results = json.loads(path.read_text("utf-8")) if options.only and path.exists() else {}
    if options.only != "altered":
        results |= {"programs": against(options.data, options.imagededup)}
    if options.only != "hash":
        with tempfile.TemporaryDirectory() as scratch:
            planted = plant(options.data, Path(scratch), ALTERED, alter)
            results["altered"] = search_altered(Path(scratch), planted)
        results["added"] = added(options.data)
    write_json(path, results)
    for name, result in (results["programs"] | results["altered"]).items():
        print(f"{name}: {result['pairs']:,} pairs, {result.get('seconds', '')}")
        for key, value in result.items():
            if isinstance(value, dict):
                print(f"  {key:32} {interval(value, '.3f')}, n = {value['n']:,}")
    print(results["added"])


if __name__ == "__main__":
    main()
