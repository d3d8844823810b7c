"""Planted copies found again among 3,000 photographs, beside imagededup on the same files.

The photographs are drawn at random, one of each content; 250 of them get one copy of each kind: re-encoded (JPEG
quality 30 to 90), resized (60 to 140 %), brighter or darker (20 %), grey, mirrored, and cropped (up to 4 % off each
side, then stretched back). Times are from files to pairs, imports left out, in alternating rounds.

usage: python -m studies.copies UTKFACE_FOLDER [--imagededup PYTHON] [--out DIR] [--sheet FILE.png]

PYTHON is the interpreter of an environment with imagededup, which needs one of its own:
`python3 -m venv /tmp/imagededup && /tmp/imagededup/bin/pip install imagededup`.
"""

import argparse
import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from facelib.audit import duplicates
from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces
from facelib.formats import write_json
from facelib.runs import cache_root
from facelib.statistics import rate
from studies import AUDIT_RESULTS
from studies.pages import interval

PHOTOGRAPHS, COPIES = 3000, 250
KINDS = ("re-encoded", "resized", "brightness", "grey", "mirrored", "cropped")
ROUNDS = 3
SHEET_PAIRS = 100


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


def plant(data: str, folder: Path, seed: int = 0) -> pd.DataFrame:
    """Write the photographs and their copies into `folder`; returns copy, original and kind by file name."""
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
        if number < COPIES * len(KINDS):
            kind = KINDS[number % len(KINDS)]
            with Image.open(io.BytesIO(content)) as image:
                (folder / f"{name}c.jpg").write_bytes(make_copy(image.convert("RGB"), kind, rng))
            planted.append({"copy": f"{name}c.jpg", "original": f"{name}.jpg", "kind": kind})
    return pd.DataFrame(planted)


def search(folder: Path) -> dict:
    """Seconds from files to pairs, with an empty cache, and all pairs of the groups that they join."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        images, faces, _ = cache_faces(read_faces(folder), 64, Path(cache))
        pairs = duplicates.find_copies(faces, images)
        seconds = time.perf_counter() - start
    # Not all pairs of a group are listed: what counts is who is in it.
    groups = faces["image_id"].groupby(duplicates.group_copies(len(faces), pairs))
    return {"seconds": seconds, "pairs": [pair for _, names in groups for pair in itertools.combinations(names, 2)]}


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
    """A local picture of near pairs of the whole data drawn at random, to be judged by eye and not passed on."""
    source = read_faces(data)
    images, faces, _ = cache_faces(source, 64, cache_root())
    pairs = duplicates.find_copies(faces, images)
    near = pairs[pairs["kind"] == "near"]
    drawn = near.sample(min(SHEET_PAIRS, len(near)), random_state=seed).sort_values("distance", ascending=False)
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


def main() -> None:
    """Plant, search, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--search", action="store_true", help="only search DATA, and print seconds and pairs as JSON")
    parser.add_argument("--imagededup", metavar="PYTHON", help="interpreter of an environment with imagededup")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    parser.add_argument("--sheet", type=Path, help="write near pairs as a local picture to be judged by eye, and stop")
    options = parser.parse_args()
    if options.search:
        print(json.dumps(search(Path(options.data))))
        return
    if options.sheet:
        contact_sheet(options.data, options.sheet)
        return
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photographs"
        folder.mkdir()
        planted = plant(options.data, folder)
        programs = {"facelib": [sys.executable, "-m", "studies.copies", str(folder), "--search"]}
        if options.imagededup:
            script = Path(__file__).with_name("imagededup_pairs.py")
            programs["imagededup"] = [options.imagededup, str(script), str(folder)]
        for _ in range(ROUNDS):
            rounds = {name: searched(command) for name, command in programs.items()}
            for name, (seconds, found) in rounds.items():
                result = results.setdefault(name, {"seconds": [], "pairs": len(found), **score(found, planted)})
                result["seconds"].append(round(seconds, 2))
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "copies.json", results)
    for name, result in results.items():
        print(f"{name}: {result['pairs']:,} pairs, {result['seconds']} seconds")
        for key, value in result.items():
            if isinstance(value, dict):
                print(f"  {key:20} {interval(value, '.3f')}, n = {value['n']:,}")


if __name__ == "__main__":
    main()
