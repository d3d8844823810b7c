"""Patches of scikit-image's pictures of other things than faces."""

import numpy as np
from PIL import Image
from skimage import data

OTHER_THINGS = ("coffee", "chelsea", "rocket", "brick", "grass", "gravel", "camera", "retina", "immunohistochemistry")


def other_patches(px: int, each: int = 60) -> np.ndarray:
    """Random square patches without a human face: uint8 (n, px, px, 3)."""
    rng, patches = np.random.default_rng(0), []
    for picture in (getattr(data, name)() for name in OTHER_THINGS):
        colour = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
        for _ in range(each):
            edge = int(rng.integers(px, min(colour.shape[:2]) // 2 + px))
            top, left = (int(rng.integers(0, max(1, side - edge))) for side in colour.shape[:2])
            patch = Image.fromarray(colour[top : top + edge, left : left + edge, :3])
            patches.append(np.asarray(patch.resize((px, px))))
    return np.stack(patches)
