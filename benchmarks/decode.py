"""Photographs a second into the pixel cache, for a UTKFace folder or for synthetic faces.

usage: python -m benchmarks.decode [UTKFACE_FOLDER]
"""

import sys
import tempfile
import time
from pathlib import Path

from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces
from facelib.synthetic.dataset import write_synthetic_faces

ROUNDS = 3


def main() -> None:
    """Time reading and decoding into an empty cache, at each size in turn, and mapping it again."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = sys.argv[1] if len(sys.argv) > 1 else write_synthetic_faces(Path(scratch) / "drawn", 1000, 0, px=200)
        start = time.perf_counter()
        source = read_faces(folder)
        seconds = time.perf_counter() - start
        n = len(source.faces)
        print(f"listing and digests: {n / seconds:,.0f} files a second")
        for number in range(ROUNDS):
            for px in (64, 96, 200):
                root = Path(scratch) / f"cache-{number}-{px}"
                start = time.perf_counter()
                cache_faces(source, px, root)
                first = time.perf_counter() - start
                start = time.perf_counter()
                cache_faces(source, px, root)
                again = time.perf_counter() - start
                print(f"round {number + 1}, {px} px: {n / first:,.0f} a second decoded, {n / again:,.0f} mapped again")


if __name__ == "__main__":
    main()
