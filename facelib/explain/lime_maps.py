"""LIME for all outputs of one or two networks at once: the same perturbed images are shown to every network.

Perturbations, distances, kernel and local linear model are lime's own. What differs from its `explain_instance` is that
the pictures of a batch are put together by indexing, the networks are folded and see them in bfloat16 where the
processor is built for it, every output is fitted to the same answers, and each core has an image of its own. As in
lime, an area is hidden behind its mean colour: a mark of one flat colour that fills its area is still there, and gets
no weight.
"""

from collections.abc import Iterator

import joblib
import numpy as np
import torch
from lime.lime_image import LimeImageExplainer
from skimage.segmentation import slic
from sklearn.metrics import pairwise_distances

from facelib.explain.attribution import Explained, explained_numbers, folded

LIME_SEGMENTS = 40
BATCH = 64


def superpixels(image: np.ndarray) -> np.ndarray:
    """About `LIME_SEGMENTS` areas of similar colour, numbered from 0: int array (px, px)."""
    return slic(image, LIME_SEGMENTS, compactness=12, start_label=0)


def perturbed(image: np.ndarray, segments: np.ndarray, kept: np.ndarray) -> Iterator[np.ndarray]:
    """Batches of the image with some superpixels replaced by their mean colour.

    Parameters
    ----------
    image : uint8 array (px, px, 3)
    segments : int array (px, px)
    kept : array of shape (samples, superpixels)
        1 where a superpixel stays as it is.

    Yields
    ------
    uint8 array (at most BATCH, px, px, 3)
    """
    counts = np.bincount(segments.ravel())
    means = np.stack([np.bincount(segments.ravel(), plane.ravel()) for plane in image.transpose(2, 0, 1)], axis=1)
    hidden = (means / counts[:, None]).astype(np.uint8)[segments]
    for start in range(0, len(kept), BATCH):
        visible = kept[start : start + BATCH].astype(bool)[:, segments]
        yield np.where(visible[..., None], image, hidden)


def lime_map(heads: list[Explained], image: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """LIME weights of superpixels: positive where an area supports the explained output, negative where it opposes.

    Parameters
    ----------
    heads : list of Explained
        For this image alone: `classes` of shape (1,) or None.
    image : uint8 array (px, px, 3)
    samples : int
        Perturbed images.
    seed : int

    Returns
    -------
    float array (heads, px, px)
        Weight of each pixel's superpixel: years, or probability.
    float array (heads,)
        R2 of the local linear models.
    """
    segments = superpixels(image)
    explainer = LimeImageExplainer(random_state=seed)
    kept = explainer.random_state.randint(0, 2, (samples, segments.max() + 1))
    kept[0] = 1
    # The one image's class is asked of each of its perturbations.
    parts = perturbed(image, segments, kept)
    numbers = np.concatenate([explained_numbers([h.at(np.zeros(len(p), int)) for h in heads], p).T for p in parts])
    distances = pairwise_distances(kept, kept[:1], metric="cosine").ravel()
    maps, fits = np.empty((len(heads), *segments.shape)), np.empty(len(heads))
    for k in range(len(heads)):
        _, pairs, fits[k], _ = explainer.base.explain_instance_with_data(
            kept, numbers, distances, k, kept.shape[1], feature_selection="none"
        )
        weights = np.zeros(kept.shape[1])
        for segment, weight in pairs:
            weights[segment] = weight
        maps[k] = weights[segments]
    return maps, fits


def lime_maps(heads: list[Explained], images: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`lime_map` of several images: maps (heads, n, px, px), and the R2 of each local model (heads, n).

    Each core explains images of its own, so that what lies between two calls of a network keeps no other core waiting.
    """
    asked, threads = folded(heads), torch.get_num_threads()
    torch.set_num_threads(1)  # before the workers begin, which take it over
    try:
        pairs = joblib.Parallel(n_jobs=threads, prefer="threads")(
            joblib.delayed(lime_map)([head.at([row]) for head in asked], image, samples, seed + row)
            for row, image in enumerate(images)
        )
    finally:
        torch.set_num_threads(threads)
    return np.stack([maps for maps, _ in pairs], axis=1), np.stack([fits for _, fits in pairs], axis=1)
