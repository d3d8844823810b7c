"""A thousand photographs by `facelib predict FOLDER --csv`: photographs a second and peak memory of all processes.

The photographs are of seven kinds, 640 x 480 JPEGs: faces drawn by the package at several places and sizes, two faces
in every seventh, the public-domain portrait of an astronaut, and pictures of other things (scikit-image's), which
are searched longest. One file in a hundred is not an image. One photograph is measured too, which takes as long as the
program needs to start, and a tenth of them.

usage: python -m benchmarks.predict_folder [--run NAME] [--photos 1000],
which writes reports/external/predict_folder.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from skimage import data

from benchmarks import EXTERNAL_RESULTS
from benchmarks.run_cost import INTERVAL, tree_bytes
from facelib.formats import read_csv, write_json
from facelib.runs import processor, published_predictor
from facelib.synthetic.drawing import draw_face

SIZE = (640, 480)
OTHER_THINGS = ("coffee", "chelsea", "rocket")


def picture(number: int, rng: np.random.Generator) -> Image.Image:
    """The photograph with a number, of the seven kinds in turn."""
    kind = number % 7
    if kind == 6:
        return Image.fromarray(data.astronaut()).resize((512, 480))
    if kind == 5:
        return Image.fromarray(getattr(data, OTHER_THINGS[number // 7 % len(OTHER_THINGS)])()).resize(SIZE)
    canvas = Image.new("RGB", SIZE, tuple(int(shade) for shade in rng.integers(60, 200, 3)))
    for place in range(2 if kind == 0 else 1):
        edge = int(rng.integers(120, 280))
        face = draw_face(rng.uniform(1, 90), kind % 2, number % 5, rng, edge)
        canvas.paste(Image.fromarray(face), (20 + 300 * place, int(rng.integers(0, SIZE[1] - edge))))
    return canvas


def fill(folder: Path, photographs: int) -> None:
    """Write the photographs."""
    rng = np.random.default_rng(0)
    for number in range(photographs):
        path = folder / f"{number:05}.jpg"
        if number % 100 == 99:
            path.write_text("not an image")
        else:
            picture(number, rng).save(path, quality=90)


def measure(run: str, photographs: int) -> dict:
    """Facts of one call."""
    with tempfile.TemporaryDirectory() as name:
        folder, table = Path(name) / "photos", Path(name) / "faces.csv"
        folder.mkdir()
        fill(folder, photographs)
        command = [sys.executable, "-m", "facelib.cli", "predict", str(folder), "--csv", str(table)]
        command += ["--run", run] if run else []
        start = time.perf_counter()
        peak = 0
        with Path(name, "lines").open("w+") as stderr:
            process = subprocess.Popen(command, stderr=stderr)
            root = psutil.Process(process.pid)
            looked = start
            while not (waited := os.wait4(process.pid, os.WNOHANG))[0]:
                if time.perf_counter() - looked > INTERVAL:  # a look costs time itself
                    peak, looked = max(peak, tree_bytes(root)), time.perf_counter()
                time.sleep(INTERVAL / 40)
            seconds = time.perf_counter() - start
            stderr.seek(0)
            lines = stderr.read().splitlines()
        _, status, usage = waited  # with the times of the processes that it has waited for
        if status:
            raise SystemExit("\n".join(lines))
        faces = read_csv(table)
        processor_seconds = usage.ru_utime + usage.ru_stime
        return {
            "photographs": photographs,
            "unreadable": sum(line.startswith("facelib: ") for line in lines),
            "faces": int(faces["face_found"].sum()),
            "without a face": int((~faces["face_found"].astype(bool)).sum()),
            "seconds": round(seconds, 1),
            "processor seconds": round(processor_seconds, 1),
            "photographs a second": round(photographs / seconds, 2),
            "photographs a processor second": round(photographs / processor_seconds, 2),
            "peak memory (MB)": round(peak / 1e6),
        }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", default="", help="a run with a predictor; none: the published one")
    parser.add_argument("--photos", type=int, default=1000)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    results = [measure(options.run, photographs) for photographs in (1, options.photos // 10, options.photos)]
    for result in results:
        print(", ".join(f"{name}: {value:,}" for name, value in result.items()))
    facts = {"run": options.run or published_predictor().name, "device": processor(), "cores used": cores, "px": SIZE}
    write_json(EXTERNAL_RESULTS / "predict_folder.json", facts | {"calls": results})


if __name__ == "__main__":
    main()
