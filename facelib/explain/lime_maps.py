"""LIME for all outputs of one or two networks at once: the same perturbed images are shown to every network.

Perturbations, distances, kernel and local linear model are lime's own. Unlike in its `explain_instance`, batches are
assembled by indexing, networks are folded, and every output is fitted to the same perturbations. As in lime, an area is
hidden behind its mean colour: a mark of one flat colour that fills its area stays visible, and gets no weight.
"""

from collections.abc import Iterator

import joblib
import numpy as np
from lime.lime_image import LimeImageExplainer
from skimage.segmentation import slic
from sklearn.metrics import pairwise_distances

from facelib.devices import one_thread
from facelib.explain.attribution import Explained, explained_numbers, folded

LIME_SEGMENTS = 40
BATCH = 64


def superpixels(image: np.ndarray) -> np.ndarray:
    """About `LIME_SEGMENTS` areas of similar colour, numbered from 0: int array (px, px)."""
    return slic(image, LIME_SEGMENTS, compactness=12, start_label=0)


def perturbed(image: np.ndarray, segments: np.ndarray, visible: np.ndarray) -> Iterator[np.ndarray]:
    """Batches (at most BATCH, px, px, 3) of a uint8 image with some superpixels replaced by their mean colour.

    `segments` (px, px) numbers the superpixels; `visible` (samples, superpixels) is 1 where one stays as it is.
    """
    counts = np.bincount(segments.ravel())
    means = np.stack([np.bincount(segments.ravel(), plane.ravel()) for plane in image.transpose(2, 0, 1)], axis=1)
    hidden = (means / counts[:, None]).astype(np.uint8)[segments]
    for start in range(0, len(visible), BATCH):
        pixels = visible[start : start + BATCH].astype(bool)[:, segments]
        yield np.where(pixels[..., None], image, hidden)


def lime_map(explained: list[Explained], image: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """LIME weights of superpixels: positive where an area supports the explained output, negative where it opposes.

    The image is uint8 (px, px, 3), and `explained` is for it alone: `classes` of shape (1,) or None. Returns the weight
    of each pixel's superpixel, in years or probability (outputs, px, px), and the R2 of the local models (outputs,).
    """
    segments, explainer = superpixels(image), LimeImageExplainer(random_state=seed)
    visible = explainer.random_state.randint(0, 2, (samples, segments.max() + 1))
    visible[0] = 1
    numbers = np.concatenate(
        [explained_numbers([output.at(np.zeros(len(batch), int)) for output in explained], batch).T
         for batch in perturbed(image, segments, visible)]
    )  # fmt: skip
    distances = pairwise_distances(visible, visible[:1], metric="cosine").ravel()
    maps, fits = np.empty((len(explained), *segments.shape)), np.empty(len(explained))
    for k in range(len(explained)):
        _, pairs, fits[k], _ = explainer.base.explain_instance_with_data(
            visible, numbers, distances, k, visible.shape[1], feature_selection="none"
        )
        weights = dict(pairs)
        maps[k] = np.array([weights.get(segment, 0.0) for segment in range(visible.shape[1])])[segments]
    return maps, fits


def lime_maps(explained: list[Explained], images: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`lime_map` of several images, each by one core: maps (outputs, n, px, px) and R2 (outputs, n)."""
    networks = folded(explained)
    with one_thread():
        pairs = joblib.Parallel(n_jobs=-1, prefer="threads")(
            joblib.delayed(lime_map)([output.at([row]) for output in networks], image, samples, seed + row)
            for row, image in enumerate(images)
        )
    return np.stack([maps for maps, _ in pairs], axis=1), np.stack([fits for _, fits in pairs], axis=1)
