"""Photographs decoded once into a memory-mapped uint8 cache, keyed by content and size."""

import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError

from facelib.data.readers import FaceSource
from facelib.errors import UnreadableData

CACHE_VERSION = 2  # a change of how pixels are made changes the key
CHUNK = 256  # photographs a task


class FaceImages:
    """Images by row of a faces table, read from the memory-mapped cache when indexed.

    Parameters
    ----------
    pixels : uint8 array of shape (m, px, px, 3)
        The cache; copies of one content share a place.
    places : int array of shape (n,)
        Place in the cache of each row.
    """

    def __init__(self, pixels: np.ndarray, places: np.ndarray):
        self.pixels, self.places = pixels, np.asarray(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows) -> np.ndarray:
        """Images of some rows: uint8 (k, px, px, 3), or (px, px, 3) for one row."""
        return np.asarray(self.pixels[self.places[rows]])

    @property
    def px(self) -> int:
        """Edge of the images in pixels."""
        return self.pixels.shape[1]

    def take(self, rows) -> "FaceImages":
        """The images of some rows, still unread."""
        return FaceImages(self.pixels, self.places[rows])


def chunks(n: int, size: int) -> list[np.ndarray]:
    """The rows 0 to n - 1 in parts of at most `size`.

    Examples
    --------
    >>> [rows.tolist() for rows in chunks(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    return [np.arange(at, min(at + size, n)) for at in range(0, n, size)]


def resize(images: FaceImages, px: int) -> FaceImages:
    """The same images with edge px, held in memory."""
    if px == images.px:
        return images
    how = Image.Resampling.BOX if px < images.px else Image.Resampling.BICUBIC
    resized = [Image.fromarray(images[row]).resize((px, px), how) for row in range(len(images))]
    return FaceImages(np.stack([np.asarray(image) for image in resized]), np.arange(len(images)))


def decode(content: bytes | np.ndarray, px: int) -> tuple[np.ndarray, int, int, str]:
    """Decode one image to RGB, turned upright, centre-cropped to a square and resized.

    Parameters
    ----------
    content : bytes or uint8 array (h, w)
        An encoded file, or grey pixels.
    px : int
        Edge of the result in pixels.

    Returns
    -------
    tuple
        The image, uint8 (px, px, 3); its original width and height in pixels; its original mode, such as RGB or L.

    Raises
    ------
    ValueError
        If the content is no image that can be decoded safely.
    """
    try:
        with Image.fromarray(content) if isinstance(content, np.ndarray) else Image.open(io.BytesIO(content)) as image:
            (width, height), mode = image.size, image.mode
            # Pillow only warns here, and a filter on warnings is not safe among threads.
            if width * height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            # JPEG can be decoded at half or quarter size, never below one and a half times the size wanted.
            image.draft("RGB", (3 * px // 2, 3 * px // 2))
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            upright = upright.convert("RGB")
            square = upright if width == height else ImageOps.fit(upright, (min(upright.size),) * 2)
            square = square.resize(
                (px, px), Image.Resampling.LANCZOS if px < square.width else Image.Resampling.BICUBIC
            )
    except UnidentifiedImageError:
        raise ValueError("is no image") from None
    except Image.DecompressionBombError:
        raise ValueError("has too many pixels to be decoded safely") from None
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, MemoryError) as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    return np.asarray(square), width, height, mode


def _decode_chunk(items: list[Path | np.ndarray], px: int) -> tuple[np.ndarray, list[tuple]]:
    """Decode some files or grey pixels: images (k, px, px, 3), black where it fails; (width, height, mode, reason).

    A file that was readable a moment ago and is no longer stops the work: kept in the cache, the failure would last.
    """
    pixels, facts = np.zeros((len(items), px, px, 3), np.uint8), []
    for place, item in enumerate(items):
        try:
            content = item if isinstance(item, np.ndarray) else item.read_bytes()
        except OSError as error:
            raise UnreadableData(f"{item} cannot be read any more, or not by every worker: {error.strerror}") from error
        try:
            pixels[place], width, height, mode = decode(content, px)
            facts.append((width, height, mode, ""))
        except ValueError as error:
            facts.append((0, 0, "", str(error)))
    return pixels, facts


def cache_key(faces: pd.DataFrame, px: int) -> str:
    """The cache's name: a digest of the images' contents, the size and the version of the decoder."""
    digest = hashlib.sha256(f"{CACHE_VERSION}:{px}".encode())
    for content in sorted(set(faces["sha256"])):
        digest.update(bytes.fromhex(content))
    return digest.hexdigest()[:20]


def cache_faces(source: FaceSource, px: int, root: Path) -> tuple[FaceImages, pd.DataFrame, pd.DataFrame]:
    """Decode the images of a source, or map them from the cache where they have been decoded before.

    Parameters
    ----------
    source : FaceSource
        What `read_faces` returned.
    px : int
        Edge of the cached images in pixels.
    root : Path
        Folder of all caches.

    Returns
    -------
    images : FaceImages
        By row of `faces`.
    faces : DataFrame
        The source's faces that could be decoded, with width, height (pixels) and mode of the original.
    rejected : DataFrame
        The source's rejections and the undecodable ones: item, reason.

    Raises
    ------
    UnreadableData
        If not one image can be decoded.
    """
    folder = root / cache_key(source.faces, px)
    if not is_cached(folder):
        _build(source, px, folder)
    index = pd.read_parquet(folder / "index.parquet").set_index("sha256")
    found = index.loc[source.faces["sha256"]].reset_index(drop=True)
    usable = (found["reason"] == "").to_numpy()
    if not usable.any():
        example = f", e.g. {source.faces['image_id'].iloc[0]!r} {found['reason'].iloc[0]}" if len(found) else ""
        raise UnreadableData(f"not one of {len(found)} images in {source.root} can be decoded{example}")
    failed = pd.DataFrame({"item": source.faces["image_id"].to_numpy(), "reason": found["reason"]})[~usable]
    faces = source.faces.reset_index(drop=True).join(found[["width", "height", "mode"]])[usable]
    faces = faces.reset_index(drop=True)
    return map_cached(folder, faces), faces, pd.concat([source.rejected, failed], ignore_index=True)


def is_cached(folder: Path) -> bool:
    """Whether a cache folder is there; it appears only when it is whole."""
    return (folder / "index.parquet").exists()


def map_cached(folder: Path, faces: pd.DataFrame) -> FaceImages:
    """The images of some faces from an existing cache folder."""
    place = pd.read_parquet(folder / "index.parquet", columns=["sha256", "place"]).set_index("sha256")["place"]
    return FaceImages(np.load(folder / "pixels.npy", mmap_mode="r"), place.loc[faces["sha256"]].to_numpy())


def _build(source: FaceSource, px: int, folder: Path) -> None:
    """Decode each content once into a new folder, which appears under its name only when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unique = source.faces.drop_duplicates("sha256")
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
    try:
        shape = (len(unique), px, px, 3)
        pixels = np.lib.format.open_memmap(building / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        positions, facts = unique.index.to_numpy(), []
        # Pillow lets go of the interpreter's lock while it decodes, so threads do.
        decoded = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")(
            joblib.delayed(_decode_chunk)(source.items(positions[rows]), px) for rows in chunks(len(positions), CHUNK)
        )
        for images, chunk in decoded:
            pixels[len(facts) : len(facts) + len(images)] = images
            facts += chunk
        pixels.flush()
        index = pd.DataFrame(facts, columns=["width", "height", "mode", "reason"])
        index.insert(0, "sha256", unique["sha256"].to_numpy())
        index["place"] = np.arange(len(index))
        index.to_parquet(building / "index.parquet", index=False)
        (building / "about.json").write_text(json.dumps({"px": px, "images": len(index), "version": CACHE_VERSION}))
        try:
            os.rename(building, folder)
        except OSError:  # another process was first with the same content
            if not is_cached(folder):
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
