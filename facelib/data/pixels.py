"""Photographs decoded once into a memory-mapped uint8 cache, keyed by content and size."""

import contextlib
import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image, ImageOps, UnidentifiedImageError

from facelib.data.caches import build_folder, is_whole
from facelib.data.files import read_file
from facelib.data.readers import Crop, FaceSource, digest_of_crop
from facelib.errors import DamagedRun, UnreadableData

CACHE_VERSION = 2  # a change of how pixels are made changes the key
ALIGNED_VERSION = 1  # the same of how faces are found and aligned, for pictures that are
CHUNK = 256  # photographs a task
# Formats of untrusted files (Pillow knows others, which start programs or read further files), and the most pixels of
# each that are decoded within a second (benchmarks/fuzz_images.py). JPEG can be decoded at part of its size.
MAX_PIXELS = {"JPEG": 50_000_000, "WEBP": 12_500_000} | dict.fromkeys(("PNG", "BMP", "GIF", "TIFF"), 25_000_000)
with contextlib.suppress(ImportError):  # the extra `heic`
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
    MAX_PIXELS["HEIF"] = 25_000_000
FORMATS = tuple(MAX_PIXELS)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # of ISO/IEC 23008-12, at byte 8
LARGE_PIXELS = 8_000_000  # decoded one at a time
ONE_LARGE = threading.Lock()
CACHE_FILES = ("index.parquet", "pixels.npy")
INDEX_COLUMNS = ("sha256", "width", "height", "mode", "reason", "place")


class FaceImages:
    """Images by row of a faces table, read from the memory-mapped cache when indexed.

    Parameters
    ----------
    pixels : uint8 array of shape (m, px, px, 3)
        The cache; copies of one content share a place.
    places : int array of shape (n,)
        Place in the cache of each row.
    folder : Path, optional
        The cache's folder; none for images in memory.
    """

    def __init__(self, pixels: np.ndarray, places: np.ndarray, folder: Path | None = None):
        self.pixels, self.places, self.folder = pixels, np.asarray(places), folder

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
        return FaceImages(self.pixels, self.places[rows], self.folder)


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


@contextlib.contextmanager
def open_upright(content: bytes, wanted_px: int = 0) -> Iterator[tuple[Image.Image, tuple[int, int], str]]:
    """An encoded photograph, turned upright, as RGB; with its size in pixels and its mode as they are in the file.

    Large ones are decoded one at a time, so that they do not fill the memory. A JPEG may be decoded smaller than it is,
    down to `wanted_px` if that is not 0.

    Raises
    ------
    ValueError
        If the content is not an image of a known format, or cannot be decoded safely.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            size, mode = image.size, image.mode
            most = MAX_PIXELS.get(image.format, MAX_PIXELS["JPEG"])  # a JPEG of several pictures has another name
            if size[0] * size[1] > most:
                raise Image.DecompressionBombError
            if wanted_px:
                # JPEG can be decoded at half or quarter size, never below one and a half times the size wanted.
                image.draft("RGB", (3 * wanted_px // 2, 3 * wanted_px // 2))
            with ONE_LARGE if size[0] * size[1] > LARGE_PIXELS else contextlib.nullcontext():
                ImageOps.exif_transpose(image, in_place=True)
                if image.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255
                    yield Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB"), size, mode
                else:
                    yield image if image.mode == "RGB" else image.convert("RGB"), size, mode
    except UnidentifiedImageError:
        if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS and "HEIF" not in FORMATS:
            raise ValueError("is a HEIC picture, which needs `pip install pillow-heif`") from None
        raise ValueError("is not an image") from None
    except Image.DecompressionBombError:
        raise ValueError("has too many pixels to be decoded safely") from None
    except Exception as error:  # decoders raise anything over damaged files
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot be decoded: {reason}") from error


def decode(
    content: bytes | np.ndarray, px: int, box: tuple[int, int, int, int] | None = None, align: bool = False
) -> tuple[np.ndarray, int, int, str]:
    """Decode one image to RGB, turned upright, centre-cropped to a square and resized.

    Parameters
    ----------
    content : bytes or uint8 array (h, w)
        An encoded file, or grey pixels.
    px : int
    box : tuple of int, optional
        Left, top, right and bottom of a face in the upright picture, of which the square is then taken.
    align : bool
        Find and align the largest face, within the box if there is one: see `detection.aligned_face`.

    Returns
    -------
    tuple
        The image, uint8 (px, px, 3); its original width and height in pixels; its original mode, such as RGB or L.

    Raises
    ------
    ValueError
        See `open_upright`; or with `align` no face is found.
    """
    if isinstance(content, np.ndarray):
        grey = Image.fromarray(content)
        upright, size, mode = grey.convert("RGB"), grey.size, grey.mode
        return (_aligned if align else square)(upright, px), *size, mode
    # A box is in pixels of the whole picture, and a small face is aligned from all of its own.
    with open_upright(content, 0 if align or box else px) as (upright, size, mode):
        if box and (box[2] > upright.width or box[3] > upright.height):
            raise ValueError(f"its box {box} ends beyond its {upright.width} x {upright.height} pixels")
        upright = upright.crop(box) if box else upright
        if not align:
            return square(upright, px), *size, mode
        upright.load()
    return _aligned(upright, px), *size, mode


def _aligned(upright: Image.Image, px: int) -> np.ndarray:
    """The largest face of a picture, aligned: uint8 (px, px, 3)."""
    from facelib.data.detection import aligned_face  # dlib, which pictures of aligned faces do not need

    return aligned_face(upright, px)


def square(upright: Image.Image, px: int) -> np.ndarray:
    """The largest centred square of a picture, resized: uint8 (px, px, 3)."""
    square = upright if upright.width == upright.height else ImageOps.fit(upright, (min(upright.size),) * 2)
    how = Image.Resampling.LANCZOS if px < square.width else Image.Resampling.BICUBIC
    return np.asarray(square.resize((px, px), how))


def decode_chunk(
    items: list[Path | Crop | np.ndarray], digests: list[str], px: int, align: bool = False
) -> tuple[np.ndarray, list[tuple]]:
    """Decode some files or grey pixels: images (k, px, px, 3), black where it fails; (width, height, mode, reason)."""
    pixels, facts = np.zeros((len(items), px, px, 3), np.uint8), []
    for place, (item, digest) in enumerate(zip(items, digests, strict=True)):
        content, box = (item, None) if isinstance(item, np.ndarray) else _unchanged(item, digest)
        try:
            pixels[place], width, height, mode = decode(content, px, box, align)
            facts.append((width, height, mode, ""))
        except ValueError as error:
            facts.append((0, 0, "", str(error)))
    return pixels, facts


def _unchanged(item: Path | Crop, digest: str) -> tuple[bytes, tuple[int, int, int, int] | None]:
    """The content of a file, and the box of a face in it; a file that changed would spoil the cache for ever."""
    path, box = (item.path, item.box) if isinstance(item, Crop) else (item, None)
    try:
        content = read_file(path)
    except ValueError as error:
        raise UnreadableData(f"{path} {error} any more, or not by every worker: fix or remove it") from error
    found = hashlib.sha256(content).hexdigest()
    if (digest_of_crop(found, box) if box else found) != digest:
        raise UnreadableData(f"{path} changed while the data were read: repeat the command")
    return content, box


def cache_key(faces: pd.DataFrame, px: int, align: bool = False) -> str:
    """The cache's name: a digest of the images' contents, the size, and the versions of decoder and alignment."""
    digest = hashlib.sha256(f"{CACHE_VERSION}:{px}{f':aligned {ALIGNED_VERSION}' * align}".encode())
    for content in sorted(set(faces["sha256"])):
        digest.update(bytes.fromhex(content))
    return digest.hexdigest()[:20]


def cache_faces(
    source: FaceSource, px: int, root: Path, align: bool = False
) -> tuple[FaceImages, pd.DataFrame, pd.DataFrame]:
    """Decode the images of a source at edge `px`, or map them from the cache below `root`; aligned if asked.

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
    folder = root / cache_key(source.faces, px, align)
    if not is_cached(folder):
        _build(source, px, folder, align)
    index = _open_cache(folder)[0].set_index("sha256")
    facts = index.loc[source.faces["sha256"]].reset_index(drop=True)
    usable = (facts["reason"] == "").to_numpy()
    failed = pd.DataFrame({"item": source.faces["image_id"].to_numpy(), "reason": facts["reason"]})[~usable]
    if not usable.any():
        example = "".join(f", e.g. {row.item!r} {row.reason}" for row in failed.head(1).itertuples(index=False))
        raise UnreadableData(f"not one of {len(facts)} images in {source.root} can be decoded{example}")
    faces = source.faces.reset_index(drop=True).join(facts[["width", "height", "mode"]])[usable].reset_index(drop=True)
    return map_cached(folder, faces), faces, pd.concat([source.rejected, failed], ignore_index=True)


def is_cached(folder: Path) -> bool:
    """Whether a cache folder holds what was written into it, by its checksums."""
    if not is_whole(folder, CACHE_FILES):
        return False
    try:
        index, pixels = _open_cache(folder)
        return set(INDEX_COLUMNS) <= set(index) and index["place"].between(0, len(pixels) - 1).all()
    except (OSError, ValueError, pa.ArrowException):
        return False


def _open_cache(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The index and the pixels, uint8 (m, px, px, 3), still unread."""
    pixels = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise ValueError(f"{folder} holds no images")
    return pd.read_parquet(folder / "index.parquet"), pixels


def map_cached(folder: Path, faces: pd.DataFrame) -> FaceImages:
    """The images of some faces from an existing cache folder.

    Raises
    ------
    DamagedRun
        If a face's content is none of those that were cached.
    """
    index, pixels = _open_cache(folder)
    place = index.set_index("sha256")["place"].reindex(faces["sha256"])
    if place.isna().any():
        raise DamagedRun(
            f"{folder} lacks {place.isna().sum()} of {len(faces)} images of the faces table: run notebook 01 again"
        )
    return FaceImages(pixels, place.to_numpy(int), folder)


def _build(source: FaceSource, px: int, folder: Path, align: bool) -> None:
    """Decode each content once into a new cache folder."""

    def fill(building: Path) -> dict:
        index = _decode_all(source, px, building / "pixels.npy", align)
        index.to_parquet(building / "index.parquet", index=False)
        return {"px": px, "images": len(index), "version": CACHE_VERSION}

    build_folder(folder, CACHE_FILES, fill, is_cached)


def _decode_all(source: FaceSource, px: int, path: Path, align: bool) -> pd.DataFrame:
    """Write the pixels of each content to a .npy file: sha256, width, height, mode, reason and place in it.

    Written as a file and not through a memory map, since a map kills the process where the disk is full.
    """
    unique = source.faces.drop_duplicates("sha256")
    positions, digests, facts = unique.index.to_numpy(), unique["sha256"].to_numpy(), []
    # Pillow releases the interpreter's lock while it decodes, so threads suffice.
    decoded = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")(
        joblib.delayed(decode_chunk)(source.items(positions[rows]), digests[rows], px, align)
        for rows in chunks(len(positions), CHUNK)
    )
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(unique), px, px, 3)}
    with path.open("wb") as pixels, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about files whose reason is kept if they cannot be used
        np.lib.format.write_array_header_1_0(pixels, header)
        for images, chunk in decoded:
            pixels.write(images.tobytes())
            facts += chunk
    index = pd.DataFrame(facts, columns=["width", "height", "mode", "reason"])
    return index.assign(sha256=digests, place=np.arange(len(index)))[list(INDEX_COLUMNS)]
