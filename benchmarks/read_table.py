"""Seconds and memory that reading a table of labels takes, files and digests included.

usage: python -m benchmarks.read_table [ROWS]

The rows name drawn files of 2 kB, a thousand a folder; a tenth of the ages are bands, one label in a thousand is wrong.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.data.readers import read_faces

BYTES = 2000  # a file


def main() -> None:
    """Write the table and its files, read it, and print what that took."""
    rows, rng = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        paths = [f"{row // 1000}/{row}.jpg" for row in range(rows)]
        for row, path in enumerate(paths):
            (Path(scratch) / path).parent.mkdir(exist_ok=True)
            (Path(scratch) / path).write_bytes(row.to_bytes(8, "big") * (BYTES // 8))
        ages = rng.integers(0, 100, rows).astype(str).astype(object)
        ages[::10], ages[5::1000] = "20-29", "150"
        table = pd.DataFrame({"path": paths, "age": ages, "gender": rng.choice(["male", "female"], rows)})
        table.assign(mood=rng.choice(["happy", "sad"], rows)).to_csv(Path(scratch) / "faces.csv", index=False)
        start, busy = time.perf_counter(), time.process_time()
        source = read_faces(Path(scratch) / "faces.csv", attributes=["mood"])
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        kept, unknown = len(source.faces), len(source.unusable)
        print(f"{rows:,} rows, {kept:,} faces, {unknown:,} labels unknown: {seconds:.1f} s, {busy:.1f} s of processor")
        print(f"largest memory of the process: {peak:.2f} GB")


if __name__ == "__main__":
    main()
