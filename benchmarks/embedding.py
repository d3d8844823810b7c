"""Seconds and memory of the face network: faces a second, and all pairs of 100,000 descriptors.

Faces are drawn ones at 150 px, computed on all cores. Processor time is given beside the clock's, since other programs
on the machine disturb it less. The descriptors are random, with the length and the distances of unrelated photographs;
every fifth lies near another one.

usage: python -m benchmarks.embedding [FACES]
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from facelib.data.pixels import FaceImages
from facelib.embedding.features import embed
from facelib.embedding.network import embed_pixels
from facelib.embedding.persons import find_persons
from facelib.embedding.weights import INPUT_PX
from facelib.synthetic.drawing import draw_face

DRAWN, DESCRIPTORS = 64, 100_000
UTKFACE = 23_704  # photographs, for which the project allows 4 minutes on 2 cores


@contextmanager
def measured(name: str, n: int) -> Iterator[None]:
    """Print what the block took."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{name}: {n:,} in {clock:.1f} s ({n / clock:.0f} a second), {processor:.1f} s of processor time "
        f"({1e3 * processor / n:.2f} ms each); the process has peaked at {peak:.2f} GB",
        flush=True,
    )


def random_descriptors(n: int) -> np.ndarray:
    """Descriptors (n, 128) of length 1.4 around a common mean, about 0.8 apart; every fifth 0.3 from the one before."""
    rng = np.random.default_rng(0)
    points = 1.28 / np.sqrt(128) + rng.normal(scale=0.57 / np.sqrt(128), size=(n, 128))
    near = rng.normal(scale=0.3 / np.sqrt(128), size=(n, 128))
    points[1::5] = points[0::5][: len(points[1::5])] + near[1::5]
    return points.astype(np.float32)


def main() -> None:
    """Measure, print."""
    faces = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    drawn = np.stack([draw_face(20 + k % 60, k % 2, k % 5, np.random.default_rng(k), INPUT_PX) for k in range(DRAWN)])
    embed_pixels(drawn[:2])  # weights are read before the clock starts
    images = FaceImages(drawn, np.arange(faces) % DRAWN)
    with measured("faces", faces):
        embed(images)
    descriptors = random_descriptors(DESCRIPTORS)
    with measured("persons among random descriptors", DESCRIPTORS):
        person_id, pairs = find_persons(descriptors)
    print(f"{len(pairs.first):,} pairs of {DESCRIPTORS**2 // 2:,}; {person_id.max() + 1:,} persons")


if __name__ == "__main__":
    main()
