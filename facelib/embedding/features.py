"""Features of faces, computed once and kept beside the decoded photographs.

Descriptors can identify people: they stay in the cache and are never published.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np

from facelib.data.caches import build_folder, is_whole
from facelib.data.pixels import FaceImages, chunks
from facelib.embedding.weights import DESCRIPTOR, FEATURES, SHA256
from facelib.formats import as_written, read_json

EMBEDDING_VERSION = 1  # a change of how features are made changes the key
CHUNK = 256  # faces a task
CACHE_FILES = ("features.npy", "descriptors.npy")


class Embedding(NamedTuple):
    """What the face network computes, by row.

    Attributes
    ----------
    features : float16 array (n, 256)
        Means of the last layer, 0 or more: for linear models.
    descriptors : float32 array (n, 128)
        The closer two are, the likelier the faces are of one person.
    """

    features: np.ndarray
    descriptors: np.ndarray


def embed(images: FaceImages, mirror: bool = False) -> Embedding:
    """Features and descriptors of faces in UTKFace's frame, 150 px or more; smaller ones are enlarged.

    The first call computes all images of a cache, copies once; later calls read them. Images in memory are computed at
    every call.

    Parameters
    ----------
    images : FaceImages
    mirror : bool
        Average over each image and its mirror image, at twice the cost.

    Raises
    ------
    WeightsError
        If the weights of the face network are missing or damaged.
    DamagedRun
        If the cache of the images is not what facelib writes.
    """
    if images.folder is None:
        return Embedding(*_compute(images, mirror))
    folder = images.folder.with_name(f"features-{_cache_key(images.folder, mirror)}")
    if not is_whole(folder, CACHE_FILES):
        _build(FaceImages(images.pixels, np.arange(len(images.pixels))), mirror, folder)
    return Embedding(*(np.load(folder / name)[images.places] for name in CACHE_FILES))


def _cache_key(folder: Path, mirror: bool) -> str:
    """A digest of the pixels in a cache, in their order, the weights, and the version of this module."""
    with as_written(folder / "about.json"):
        pixels = read_json(folder / "about.json")["pixels.npy"]
    return hashlib.sha256(f"{EMBEDDING_VERSION}:{SHA256}:{mirror}:{pixels}".encode()).hexdigest()[:20]


def _build(images: FaceImages, mirror: bool, folder: Path) -> None:
    def fill(building: Path) -> dict:
        for name, array in zip(CACHE_FILES, _compute(images, mirror), strict=True):
            np.save(building / name, array)
        return {"px": images.px, "images": len(images), "mirror": mirror, "version": EMBEDDING_VERSION}

    build_folder(folder, CACHE_FILES, fill, lambda path: is_whole(path, CACHE_FILES))


def _compute(images: FaceImages, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features and descriptors of all images, on all cores or on the cluster in use."""
    from facelib.embedding.network import embed_pixels  # torch, which kept features do not need

    features = np.empty((len(images), FEATURES), np.float16)
    descriptors = np.empty((len(images), DESCRIPTOR), np.float32)
    parts = chunks(len(images), CHUNK)
    # Threads with a batch each lose less time than threads that share one: torch lets go of the interpreter's lock.
    computed = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")(
        joblib.delayed(embed_pixels)(images[rows], mirror) for rows in parts
    )
    for rows, part in zip(parts, computed, strict=True):
        features[rows], descriptors[rows] = part
    return features, descriptors
