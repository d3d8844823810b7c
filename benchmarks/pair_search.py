"""Seconds and memory of finding all pairs within 4 bits among a million 64-bit hashes, and among those of real faces.

The million is searched twice: uniformly random hashes, and hashes that crowd together as those of aligned faces do
(real or drawn ones with 8 bits flipped at random).

usage: python -m benchmarks.pair_search [DATA]
"""

import resource
import sys
import tempfile
import time

import numpy as np

from facelib.audit.duplicates import HASH_RADIUS, candidate_pairs, perceptual_hashes
from facelib.audit.hash_search import pairs_within
from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces
from facelib.runs import cache_root
from facelib.synthetic.dataset import write_synthetic_faces

MILLION, RADIUS, FLIPPED = 1_000_000, 4, 8


def report(name: str, parts) -> None:
    """Exhaust a search and print what it took."""
    start = time.perf_counter()
    pairs = sum(len(part[0]) if isinstance(part, tuple) else len(part) for part in parts)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{name}: {pairs:,} pairs in {seconds:.2f} s; the process has peaked at {peak:.2f} GB", flush=True)


def main() -> None:
    """Search, print."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        data = sys.argv[1] if len(sys.argv) > 1 else write_synthetic_faces(f"{scratch}/drawn", 1000, 0, px=64)
        images, _, _ = cache_faces(read_faces(data), 64, cache_root())
        hashes = perceptual_hashes(images)
    for radius in (RADIUS, HASH_RADIUS):
        report(f"{len(hashes):,} faces, mirror images too, radius {radius}", candidate_pairs(hashes, radius))
    uniform = rng.integers(0, 2**64, MILLION, dtype=np.uint64)
    report(f"{MILLION:,} random hashes, radius {RADIUS}", pairs_within(uniform, radius=RADIUS))
    crowded = hashes[rng.integers(0, len(hashes), MILLION), 0]
    for _ in range(FLIPPED):
        crowded = crowded ^ (np.uint64(1) << rng.integers(0, 64, MILLION, dtype=np.uint64))
    report(f"{MILLION:,} crowded hashes, radius {RADIUS}", pairs_within(crowded, radius=RADIUS))


if __name__ == "__main__":
    main()
