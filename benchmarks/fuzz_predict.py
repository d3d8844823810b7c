"""Damaged, odd and very large pictures through `facelib predict`: each is answered or refused, and none takes long.

The corpus is that of benchmarks/fuzz_images.py. Each file is searched for faces one after the other, in this process;
then the command predicts them all. Processor seconds count where the machine has other work.

usage: python -m benchmarks.fuzz_predict [--n 500] [--seed 0], which writes reports/robustness/fuzz_predict.json
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from PIL import Image

from benchmarks import ROBUSTNESS_RESULTS
from benchmarks.fuzz_corpus import write_corpus
from facelib.data.detection import find_faces
from facelib.formats import read_csv, write_json
from facelib.prediction.photos import crops_of, list_photos


def main() -> None:
    """Write the corpus, search it, predict it, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=500, help="damaged files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's, about damage
    find_faces(Image.new("RGB", (200, 200)))  # models are loaded before the clock starts
    with tempfile.TemporaryDirectory() as scratch:
        folder, outside = Path(scratch) / "photos", Path(scratch) / "outside" / "secret.png"
        write_corpus(folder, outside, options.n, options.seed)
        files, left_out = list_photos([folder])
        times, outcomes = [], Counter()
        for path in files:
            wall, processor = time.perf_counter(), time.process_time()
            _, crops, _, reason = crops_of(path)
            times.append((time.process_time() - processor, time.perf_counter() - wall, path.name))
            outcomes["refused" if reason else "faces" if crops else "no face"] += 1
        command = [sys.executable, "-m", "facelib.cli", "predict", str(folder), "--csv", f"{scratch}/faces.csv"]
        done = subprocess.run(command, capture_output=True, text=True)
        answered = len(set(read_csv(Path(scratch) / "faces.csv")["photo"])) if done.returncode == 0 else 0
    slowest = sorted(times)[::-1][:5]
    results = {"files": len(files), "left out": len(left_out), **outcomes, "command's exit code": done.returncode}
    results |= {"answered by the command": answered, "slowest": [
        {"processor_s": round(processor, 2), "wall_s": round(wall, 2), "file": name.encode("utf-8", "replace").decode()}
        for processor, wall, name in slowest
    ]}  # fmt: skip
    for name, value in results.items():
        print(f"{name}: {value}")
    write_json(ROBUSTNESS_RESULTS / "fuzz_predict.json", results)


if __name__ == "__main__":
    main()
