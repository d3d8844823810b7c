"""Thousands of damaged and odd pictures: each has to become a face or a rejection, quickly and in little memory.

usage: python -m benchmarks.fuzz_images [--n 2000] [--seed 0] [--out reports/robustness]
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks import ROBUSTNESS_RESULTS
from benchmarks.fuzz_corpus import write_corpus
from facelib.data.files import read_below, regular_files
from facelib.data.pixels import cache_faces, decode
from facelib.data.readers import read_faces
from facelib.formats import read_csv, write_csv, write_json

PX = 64
REFERENCE = "20_0_0_largest.png"  # of `fuzz_corpus.largest`: 25 megapixels of noise
REPEATS = 3
PROCESSORS = Path("/sys/fs/cgroup")  # where joblib looks how many it may use
STARTS_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"}


class Watch:
    """What this process opens outside some folders, and the programs and connections that it starts.

    An audit hook cannot be taken back, so `stop` makes it idle.
    """

    def __init__(self, *allowed: Path):
        own = (*allowed, Path(sys.prefix), Path(sys.base_prefix), PROCESSORS)
        self.allowed = tuple(str(path.resolve()) for path in own)
        self.found: list[str] = []
        self.on = True
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in STARTS_PROGRAMS:
            self.found.append(f"{event} {arguments[0]}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            # What is opened, not what its name says: links are followed.
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(self.allowed):
                self.found.append(f"open {path}")

    def stop(self) -> list[str]:
        """Stop watching; what was found."""
        self.on = False
        return self.found


def account(folder: Path, cache: Path) -> dict:
    """Read and decode a folder as every command does: what became of each file.

    Returns
    -------
    dict
        used (names), rejected (reason by name), lost (names of files that are neither or both).
    """
    _, faces, rejected = cache_faces(read_faces(folder), PX, cache)
    for table, name in ((faces, "faces.csv"), (rejected, "rejected.csv")):  # names and reasons survive a table
        write_csv(table, cache / name)
        back = read_csv(cache / name, dtype=str, keep_default_na=False)
        assert back.iloc[:, 0].tolist() == table.iloc[:, 0].tolist(), name
    faces.to_parquet(cache / "faces.parquet")
    used, reasons = list(faces["image_id"]), dict(zip(rejected["item"], rejected["reason"], strict=True))
    paths, refused = regular_files(folder)
    present = [*paths, *(path for path, _ in refused)]
    printed = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in present]
    lost = [name for name in printed if (name in used) + (name in reasons) != 1]
    assert len(used) + len(rejected) == len(present) and all(reasons.values())
    return {"used": used, "rejected": reasons, "lost": lost}


def time_each(folder: Path) -> dict:
    """Wall and processor seconds of the slowest file, one after the other; and how often `REFERENCE` fits into it.

    `times_reference` compares the least processor time of `REPEATS` by turns, so that neither the machine nor its other
    work decides.
    """
    root, worst = folder.resolve(), {"wall_s": 0.0, "processor_s": 0.0}
    slowest = dict.fromkeys(worst, "")

    def clock(path: str) -> dict[str, float]:
        wall, processor = time.perf_counter(), time.thread_time()
        with contextlib.suppress(ValueError):
            decode(read_below(root, path), PX)
        return {"wall_s": time.perf_counter() - wall, "processor_s": time.thread_time() - processor}

    for path in regular_files(folder)[0]:
        for key, seconds in clock(path).items():
            if seconds > worst[key]:
                worst[key], slowest[key] = round(seconds, 3), path
    pair = slowest["processor_s"], REFERENCE
    seconds, reference = np.min([[clock(path)["processor_s"] for path in pair] for _ in range(REPEATS)], axis=0)
    return {**worst, "slowest": pair[0], "times_reference": round(float(seconds / reference), 2)}


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(folder: Path) -> dict:
    """In a process of its own: everything above, and the memory."""
    warnings.simplefilter("ignore")  # Pillow's, about damage
    with tempfile.TemporaryDirectory() as scratch:
        watch = Watch(folder, Path(scratch))
        found = account(folder, Path(scratch))
        outside = watch.stop()
    peak = peak_bytes()
    return {
        "files": len(found["used"]) + len(found["rejected"]),
        "used": len(found["used"]),
        "rejected": len(found["rejected"]),
        "lost": found["lost"],
        "opened_outside": outside,
        "peak_gb": round(peak / 1e9, 2),
        **time_each(folder),
        "reasons": found["rejected"],
    }


def main() -> None:
    """Write the corpus, measure it in a second process, and leave the numbers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=2000, help="damaged files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROBUSTNESS_RESULTS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder, outside = Path(scratch) / "faces", Path(scratch) / "outside" / "20_0_0_secret.png"
        oddities = write_corpus(folder, outside, options.n, options.seed)
        command = [sys.executable, "-m", "benchmarks.fuzz_images", "--measure", str(folder)]
        results = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    reasons = results.pop("reasons")
    wrong = []
    for oddity in oddities:
        name = oddity.name.decode("utf-8", "backslashreplace")
        reason = reasons.get(name)
        if (reason is None) != (oddity.reason is None) or not (reason or "").startswith(oddity.reason or ""):
            wrong.append(f"{name}: {reason}")
    results |= {"damaged": options.n, "oddities": len(oddities), "oddities_misjudged": wrong}
    write_json(options.out / "fuzz_images.json", results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
