"""The whole audit of labelled faces, timed from an empty cache, and what it found as one table and two figures.

The face network is left out, and so is face finding in the timed run; a second run, which finds faces, writes
audit.csv, copies_disagree.svg and quality.svg.

usage: python -m studies.audit DATA [--split FOLDER] [--out DIR]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from benchmarks.run_cost import INTERVAL, tree_bytes
from facelib.audit import contradictions
from facelib.data.readers import read_faces
from facelib.plots import audit as plots
from facelib.plots.style import use_style
from facelib.statistics import Bootstrap
from facelib.storage import atomic_path
from studies import AUDIT_RESULTS


def timed(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Seconds and peak memory (GB) of `facelib audit`."""
    command = [sys.executable, "-m", "facelib.cli", "audit", "--no-network", *arguments]
    start, peak = time.perf_counter(), 0
    running = subprocess.Popen(command, env=os.environ | {"FACELIB_CACHE": str(cache)}, stdout=subprocess.DEVNULL)
    root = psutil.Process(running.pid)
    while running.poll() is None:
        peak = max(peak, tree_bytes(root))
        time.sleep(INTERVAL / 10)
    if running.returncode:
        sys.exit(running.returncode)
    return time.perf_counter() - start, peak / 1e9


def draw(data: str, found: Path, out: Path) -> None:
    """The figures of copies and of quality, from the audit's tables."""
    use_style()
    source = read_faces(data)
    faces, attributes = source.faces.set_index("image_id"), source.attributes
    copies = pd.read_csv(found / "duplicates.csv")
    members, group_id = faces.loc[copies["image_id"]].reset_index(), copies["group_id"].to_numpy()
    conflicts = contradictions.contradictions(members, group_id, attributes)
    differing = contradictions.disagreements(members, group_id, attributes)
    figures = {
        "copies_disagree": plots.copies_disagree(conflicts, differing, Bootstrap()),
        "quality": plots.quality_scores(pd.read_csv(found / "quality.csv")),
    }
    for name, figure in figures.items():
        with atomic_path(out / f"{name}.svg") as partial:
            figure.savefig(partial, metadata={"Date": None})


def main() -> None:
    """Audit twice, print the first one's cost, keep what the second one found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--split")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    options = parser.parse_args()
    arguments = ["--data", options.data, *(["--split", options.split] if options.split else [])]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        seconds, peak = timed([*arguments, "--out", str(folder / "timed")], folder / "cache")
        print(f"from an empty cache, without the face network and face finding: {seconds:.0f} s, peak {peak:.1f} GB")
        again, peak = timed([*arguments, "--faces", "--out", str(folder / "found")], folder / "cache")
        print(f"with the cache, face finding included: {again:.0f} s, peak {peak:.1f} GB")
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "found" / "audit.csv", options.out / "audit.csv")
        draw(options.data, folder / "found", options.out)


if __name__ == "__main__":
    main()
