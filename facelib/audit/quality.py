"""Image quality: one score per property, 0 worst to 1 best, and a flag where it is too low."""

import joblib
import numpy as np
import pandas as pd
from scipy import ndimage

from facelib.data.detection import find_chip_faces
from facelib.data.pixels import FaceImages, chunks, resize

# A score below its threshold raises the flag, which asks for a look. Set by hand; studies/quality.py measures what
# share of photographs is flagged as they are, and spoilt.
THRESHOLDS = {
    "dark": 0.35, "bright": 0.45, "contrast": 0.35, "blur": 0.16, "tiny": 0.25, "grey": 0.05, "border": 0.80,
    "face": 0.50, "framing": 0.62, "upright": 0.50,
}  # fmt: skip
# What a flag says of an image, where the score's name does not.
NAMES = {
    "contrast": "low contrast", "blur": "blurred", "border": "black border", "tiny": "tiny original",
    "face": "no face found", "framing": "oddly framed", "upright": "no upright face",
}  # fmt: skip
SCORED_PX = 64  # edge of the images that are scored, so that scores do not depend on the cache's
TINY_PX = 200  # an original at least this wide and high scores 1 for size
BLACK = 12  # of 255: a border pixel is no brighter
CHUNK = 500  # images a task


def flag_names(scored: pd.DataFrame) -> dict[str, str]:
    """What each is_<name> flag of a quality table says of an image, by flag."""
    flags = [column for column in scored if column.startswith("is_")]
    return {flag: NAMES.get(flag.removeprefix("is_"), flag.removeprefix("is_")) for flag in flags}


def _pixel_scores(images: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of uint8 images (n, px, px, 3) from their pixels alone."""
    grey = images.sum(axis=3, dtype=np.uint16)  # three times the brightness: small integers sort fast
    ordered = np.sort(grey.reshape(len(grey), -1), axis=1, kind="stable")
    low, high = (ordered[:, round(share * (ordered.shape[1] - 1))] / 765 for share in (0.02, 0.98))
    # Variance of the Laplacian, relative to the image's own contrast so that a flat face is not called blurred.
    bright = grey.astype(np.float32) / 765
    detail = ndimage.laplace(bright, axes=(1, 2)).std(axis=(1, 2)) / np.maximum(bright.std(axis=(1, 2)), 1e-3)
    brightest = images.max(axis=3)
    colour = (brightest - images.min(axis=3)).mean(axis=(1, 2)) / 255
    black_rows = ((brightest <= BLACK).mean(axis=2) > 0.98).mean(axis=1)
    black_columns = ((brightest <= BLACK).mean(axis=1) > 0.98).mean(axis=1)
    return {
        "dark": np.clip(high, 0, 1),
        "bright": np.clip(1 - low, 0, 1),
        "contrast": np.clip(high - low, 0, 1),
        "blur": np.clip(detail, 0, 1),
        "grey": np.clip(10 * colour, 0, 1),
        "border": 1 - np.maximum(black_rows, black_columns),
    }


def _overlap(boxes: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Intersection over union of squares (left, top, edge) with one square; nan stays nan."""
    near, far = np.maximum(boxes[:, :2], usual[:2]), np.minimum(boxes[:, :2] + boxes[:, 2:], usual[:2] + usual[2])
    shared = np.maximum(far - near, 0).prod(axis=1)
    return shared / (boxes[:, 2] ** 2 + usual[2] ** 2 - shared)


def _face_scores(boxes: np.ndarray) -> dict[str, np.ndarray]:
    """`face`: whether one was found; `framing`: how well its box covers the usual one, nan without a face."""
    has_face = np.isfinite(boxes[:, 0])
    usual = np.median(boxes[has_face], axis=0) if has_face.any() else np.zeros(3)
    return {"face": has_face.astype(float), "framing": _overlap(boxes, usual)}


def score_quality(
    faces: pd.DataFrame,
    images: FaceImages,
    find_faces: bool = False,
    upright: np.ndarray | None = None,
    n_jobs: int = -1,
) -> pd.DataFrame:
    """Quality scores and flags of every image.

    Brightness, blur and colour come from the cached pixels, `tiny` from the original's size, `face` and `framing` from
    a search for a frontal face (30 ms of a core an image), if it is asked for, and `upright` from
    `facelib.embedding.outliers.face_scores`.

    Returns
    -------
    DataFrame
        image_id; dark, bright, contrast, blur, grey, border, tiny, face, framing and upright (0 worst to 1 best;
        framing is nan where no face was found); an is_<name> flag for each.
    """
    small = resize(images, SCORED_PX)
    tasks = chunks(len(faces), CHUNK)
    parts = joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
        joblib.delayed(_pixel_scores)(small[rows]) for rows in tasks
    )
    scores = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    scores["tiny"] = np.minimum(faces[["width", "height"]].min(axis=1).to_numpy() / TINY_PX, 1)
    if find_faces:
        boxes = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(find_chip_faces)(small[rows]) for rows in tasks)
        scores = scores.assign(**_face_scores(np.concatenate(boxes)))
    if upright is not None:
        scores["upright"] = upright
    flags = pd.DataFrame({f"is_{name}": scores[name] < THRESHOLDS[name] for name in scores})
    return pd.concat([faces[["image_id"]].reset_index(drop=True), scores, flags], axis=1)
