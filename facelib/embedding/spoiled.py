"""Spoiled copies of pictures, which show a classifier what is no upright face."""

import numpy as np

SAMPLE = 1000  # pictures that are spoiled: 12 seconds on one core
TILES = 6  # along an edge of a shuffled picture


def sampled(n: int) -> np.ndarray:
    """Which of n pictures are spoiled: int array of at most `SAMPLE`, the same at every call."""
    return np.random.default_rng(0).permutation(n)[:SAMPLE]


def spoil(picture: np.ndarray, digest: str) -> np.ndarray:
    """A square picture (px, px, 3) turned by 90, 180 or 270 degrees or cut into shuffled tiles, by its SHA-256."""
    rng = np.random.default_rng(int(digest[:8], 16))
    if way := rng.integers(4):
        return np.rot90(picture, way)
    size, spoiled = len(picture) // TILES, picture.copy()
    corners = [(size * row, size * column) for row in range(TILES) for column in range(TILES)]
    for (top, left), source in zip(corners, rng.permutation(TILES**2), strict=True):
        y, x = corners[source]
        spoiled[top : top + size, left : left + size] = picture[y : y + size, x : x + size]
    return spoiled
