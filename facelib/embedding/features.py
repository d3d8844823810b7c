"""Features of faces, computed once a content and kept beside the decoded photographs.

They are computed from the photographs at 150 px: the smaller pixels of a run would cost accuracy. Descriptors can
identify people: they stay in the cache and are never published.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd

from facelib.data.caches import build_folder, is_whole
from facelib.data.ingest import read_same
from facelib.data.pixels import FaceImages, cache_key, chunks, decode_chunk
from facelib.data.readers import FaceSource
from facelib.embedding.spoiled import sampled, spoil
from facelib.embedding.weights import DESCRIPTOR, FEATURES, INPUT_PX, SHA256, weights_file
from facelib.runs import RunFolder, cache_root

EMBEDDING_VERSION = 3  # a change of how features are made changes the key
CHUNK = 128  # faces a task
CACHE_FILES = ("index.parquet", "features.npy", "descriptors.npy", "spoiled.npy")


class Embedding(NamedTuple):
    """What the face network computes of n faces, by row of their table.

    Attributes
    ----------
    features : float16 array (n, 256)
        Means of the last layer, 0 or more: for linear models.
    descriptors : float32 array (n, 128)
        The closer two are, the likelier the faces are of one person.
    spoiled : float16 array (s, 256)
        Features of spoiled copies of some of the pictures; see `facelib.embedding.spoiled`.
    spoiled_row : int array (s,)
        The row of the picture that was spoiled.
    """

    features: np.ndarray
    descriptors: np.ndarray
    spoiled: np.ndarray
    spoiled_row: np.ndarray


def load_embedding(run: RunFolder, faces: pd.DataFrame) -> Embedding:
    """The embedding of a run's faces table: read from the cache, or computed from the photographs.

    Raises
    ------
    WeightsError
        If it has to be computed, and the weights of the face network are missing or damaged.
    MissingFromRun, UnreadableData
        If it has to be computed, and the photographs are absent or changed.
    """
    return embed_faces(faces, lambda: read_same(run, faces), cache_root(), run.settings.data.align)


def embed_faces(faces: pd.DataFrame, read: Callable[[], FaceSource], root: Path, align: bool = False) -> Embedding:
    """The embedding of faces in UTKFace's frame, from the cache below `root`.

    Parameters
    ----------
    faces : DataFrame
        With the column sha256, of contents that can be decoded.
    read : callable
        Gives the source of the faces; called where the cache lacks them.
    root : Path
    align : bool
        See `facelib.data.pixels.decode`.

    Raises
    ------
    WeightsError
        If the weights of the face network are missing or damaged.
    """
    folder = root / f"features-{_cache_key(faces, align)}"
    if not is_whole(folder, CACHE_FILES):
        weights_file()  # its absence is told before the work
        _build(faces, read(), folder, align)
    index = pd.read_parquet(folder / "index.parquet")
    features, descriptors, spoiled = (np.load(folder / name) for name in CACHE_FILES[1:])
    place = index.set_index("sha256")["place"].loc[faces["sha256"]].to_numpy()
    row_of = pd.Series(np.arange(len(faces)), index=place)
    row_of = row_of[~row_of.index.duplicated()]
    return Embedding(features[place], descriptors[place], spoiled, row_of.loc[sampled(len(index))].to_numpy())


def embed(images: FaceImages) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 256) and descriptors (n, 128) of images in UTKFace's frame, computed at every call.

    Smaller ones than 150 px are enlarged.
    """
    return _computed([joblib.delayed(_embed_pixels)(images[rows]) for rows in chunks(len(images), CHUNK)])


def _cache_key(faces: pd.DataFrame, align: bool) -> str:
    """A digest of the contents, how they are decoded, the weights, and the version of this module."""
    pixels = cache_key(faces, INPUT_PX, align)
    return hashlib.sha256(f"{EMBEDDING_VERSION}:{SHA256}:{pixels}".encode()).hexdigest()[:20]


def _build(faces: pd.DataFrame, source: FaceSource, folder: Path, align: bool) -> None:
    """Embed each content once into a new cache folder, in the order of digests."""
    unique = source.faces[source.faces["sha256"].isin(faces["sha256"])].drop_duplicates("sha256").sort_values("sha256")
    positions, digests = unique.index.to_numpy(), unique["sha256"].to_numpy()

    def embedded(places: np.ndarray, spoils: bool) -> tuple[np.ndarray, np.ndarray]:
        parts = (places[rows] for rows in chunks(len(places), CHUNK))
        embed_part = joblib.delayed(_embed_files)
        return _computed([embed_part(source.items(positions[part]), digests[part], spoils, align) for part in parts])

    def fill(building: Path) -> dict:
        features, descriptors = embedded(np.arange(len(unique)), spoils=False)
        spoiled, _ = embedded(sampled(len(unique)), spoils=True)
        for name, array in zip(CACHE_FILES[1:], (features, descriptors, spoiled), strict=True):
            np.save(building / name, array)
        index = pd.DataFrame({"sha256": digests, "place": np.arange(len(unique))})
        index.to_parquet(building / "index.parquet", index=False)
        return {"images": len(unique), "version": EMBEDDING_VERSION}

    build_folder(folder, CACHE_FILES, fill, lambda path: is_whole(path, CACHE_FILES))


def _computed(tasks: list) -> tuple[np.ndarray, np.ndarray]:
    """Features and descriptors of all tasks, on all cores or on the cluster in use."""
    none = np.empty((0, FEATURES), np.float16), np.empty((0, DESCRIPTOR), np.float32)
    # Threads with a batch each lose less time than threads that share one: torch lets go of the interpreter's lock.
    parts = joblib.Parallel(n_jobs=-1, prefer="threads")(tasks)
    features, descriptors = map(np.concatenate, zip(none, *parts, strict=True))
    return features, descriptors


def _embed_files(items: list, digests: np.ndarray, spoils: bool, align: bool) -> tuple[np.ndarray, np.ndarray]:
    pictures, _ = decode_chunk(items, digests, INPUT_PX, align)
    if spoils:
        pictures = np.stack([spoil(picture, digest) for picture, digest in zip(pictures, digests, strict=True)])
    return _embed_pixels(pictures)


def _embed_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from facelib.embedding.network import embed_pixels  # torch, which kept features do not need

    return embed_pixels(pixels)
