"""Image quality: one score per property, 0 worst to 1 best, and a flag where it is too low."""

import numpy as np
import pandas as pd
from scipy import ndimage

from facelib.data import FaceImages

# A score below its threshold raises the flag. Set by hand and not calibrated: a flag asks for a look.
THRESHOLDS = {"dark": 0.18, "bright": 0.10, "contrast": 0.22, "blur": 0.12, "tiny": 0.25, "grey": 0.05, "border": 0.80}
TINY_PX = 200  # an original at least this wide and high scores 1 for size
CHUNK = 1000


def _score_chunk(images: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of uint8 images (n, px, px, 3) from their pixels alone."""
    grey = images.mean(axis=3) / 255
    low, high = np.percentile(grey, [2, 98], axis=(1, 2))
    # Variance of the Laplacian, relative to the image's own contrast so that a flat face is not called blurred.
    detail = ndimage.laplace(grey, axes=(1, 2)).std(axis=(1, 2)) / np.maximum(grey.std(axis=(1, 2)), 1e-3)
    colour = (images.max(axis=3).astype(float) - images.min(axis=3)).mean(axis=(1, 2)) / 255
    black_rows = (images.max(axis=3) < 12).mean(axis=2) > 0.98
    black_columns = (images.max(axis=3) < 12).mean(axis=1) > 0.98
    return {
        "dark": np.clip(high, 0, 1),
        "bright": np.clip(1 - low, 0, 1),
        "contrast": np.clip(high - low, 0, 1),
        "blur": np.clip(detail, 0, 1),
        "grey": np.clip(10 * colour, 0, 1),
        "border": 1 - np.maximum(black_rows.mean(axis=1), black_columns.mean(axis=1)),
    }


def score_quality(faces: pd.DataFrame, images: FaceImages) -> pd.DataFrame:
    """Quality scores and flags of every image.

    Scores of brightness, blur and colour are read off the cached pixels; `tiny` off the original's size.

    Returns
    -------
    DataFrame
        image_id; dark, bright, contrast, blur, grey, border and tiny (0 worst to 1 best); an is_<name> flag for each.
    """
    rows = np.arange(len(faces))
    chunks = [pd.DataFrame(_score_chunk(images[rows[at : at + CHUNK]])) for at in range(0, len(rows), CHUNK)]
    scores = pd.concat(chunks, ignore_index=True)
    scores["tiny"] = np.minimum(faces[["width", "height"]].min(axis=1).to_numpy() / TINY_PX, 1)
    flags = pd.DataFrame({f"is_{name}": scores[name] < limit for name, limit in THRESHOLDS.items()})
    return pd.concat([faces[["image_id"]].reset_index(drop=True), scores, flags], axis=1)
