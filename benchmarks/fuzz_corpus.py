"""Untrusted image files: damaged, mislabelled, oversized, oddly named, or not images at all.

Everything is made from a seed, so that the same number gives the same bytes.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

MUTATED = {"jpg": 0.4, "png": 0.2, "webp": 0.15, "gif": 0.1, "tif": 0.15}  # shares of the formats
BOMB_PX = 20_000  # edge of a picture that would fill the memory


def encode(image: Image.Image, kind: str, **options) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def face_like(rng: np.random.Generator, px: int = 96) -> Image.Image:
    """A smooth picture with a little noise, which every codec has to work on: RGB."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((px, px), Image.Resampling.BICUBIC)
    return Image.fromarray(
        (np.asarray(coarse).astype(int) + rng.integers(-9, 9, (px, px, 3))).clip(0, 255).astype("u1")
    )


def sound_files(rng: np.random.Generator) -> dict[str, bytes]:
    """Undamaged pictures of every mode and kind that is read, by a name that says which."""
    picture = face_like(rng)
    grey, palette = picture.convert("L"), picture.quantize(32)
    clear = picture.convert("RGBA")
    clear.putalpha(120)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    frames = [face_like(rng).quantize(32) for _ in range(3)]
    turned = Image.Exif()
    turned[274] = 6
    return {
        "plain.jpg": encode(picture, "JPEG"),
        "progressive.jpg": encode(picture, "JPEG", progressive=True),
        "rotated.jpg": encode(picture, "JPEG", exif=turned),
        "grey.jpg": encode(grey, "JPEG"),
        "cmyk.jpg": encode(picture.convert("CMYK"), "JPEG"),
        "several.jpg": encode(picture, "MPO", save_all=True, append_images=[face_like(rng)]),
        "plain.png": encode(picture, "PNG"),
        "rotated.png": encode(picture, "PNG", exif=turned),
        "grey.png": encode(grey, "PNG"),
        "palette.png": encode(palette, "PNG"),
        "transparent.png": encode(clear, "PNG"),
        "greyalpha.png": encode(grey.convert("LA"), "PNG"),
        "bits.png": encode(grey.convert("1"), "PNG"),
        "deep.png": encode(deep, "PNG"),
        "animated.png": encode(picture, "PNG", save_all=True, append_images=[face_like(rng)]),
        "plain.webp": encode(picture, "WEBP"),
        "lossless.webp": encode(clear, "WEBP", lossless=True),
        "animated.webp": encode(picture, "WEBP", save_all=True, append_images=[face_like(rng)]),
        "plain.gif": encode(palette, "GIF"),
        "animated.gif": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "plain.tif": encode(picture, "TIFF"),
        "lzw.tif": encode(picture, "TIFF", compression="tiff_lzw"),
        "deflated.tif": encode(picture, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": encode(picture, "TIFF", compression="jpeg"),
        "deep.tif": encode(deep, "TIFF"),
        "cmyk.tif": encode(picture.convert("CMYK"), "TIFF"),
        "float.tif": encode(grey.convert("F"), "TIFF"),
        "plain.bmp": encode(picture, "BMP"),
        "thin.png": encode(picture.resize((1, 4000)), "PNG"),
        "dot.png": encode(picture.resize((1, 1)), "PNG"),
    }


# --- damage -----------------------------------------------------------------------------------------------


def flip_bits(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A few bits changed anywhere."""
    for at in rng.integers(0, len(content), int(rng.integers(1, 20))):
        content[at] ^= 1 << int(rng.integers(8))
    return content


def damage_header(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Bytes of the first hundred replaced: sizes, types, offsets."""
    for at in rng.integers(0, min(100, len(content)), int(rng.integers(1, 6))):
        content[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, int(rng.integers(256))]))
    return content


def exaggerate(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A number of two or four bytes made as large as it gets."""
    width, at = int(rng.choice([2, 4])), int(rng.integers(0, max(1, len(content) - 4)))
    content[at : at + width] = b"\xff" * width
    return content


def cut_short(content: bytearray, rng: np.random.Generator) -> bytearray:
    """The end missing."""
    return content[: int(rng.integers(1, len(content)))]


def cut_out(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A part missing."""
    at, length = int(rng.integers(len(content))), int(rng.integers(1, max(2, len(content) // 4)))
    return content[:at] + content[at + length :]


def repeat(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A part there several times."""
    at, length = int(rng.integers(len(content))), int(rng.integers(1, 200))
    return content[:at] + content[at : at + length] * int(rng.integers(2, 30)) + content[at + length :]


def insert_noise(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Random bytes in between."""
    at = int(rng.integers(len(content)))
    return content[:at] + bytearray(rng.bytes(int(rng.integers(1, 300)))) + content[at:]


DAMAGE: tuple[Callable, ...] = (flip_bits, damage_header, exaggerate, cut_short, cut_out, repeat, insert_noise)


def write_mutants(folder: Path, n: int, seed: int = 0) -> list[str]:
    """Write n damaged pictures with sound names; one to three kinds of damage each. Their names."""
    rng = np.random.default_rng(seed)
    sound = sound_files(rng)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(n):
        suffix = str(rng.choice(list(MUTATED), p=list(MUTATED.values())))
        content = bytearray(sound[str(rng.choice([name for name in sound if name.endswith(suffix)]))])
        for damage in rng.choice(len(DAMAGE), int(rng.integers(1, 4))):
            content = DAMAGE[damage](content, rng) or bytearray(b"\0")
        names.append(f"20_0_0_mutant{number:05d}.{suffix}")
        (folder / names[-1]).write_bytes(content)
    return names


# --- oddities ---------------------------------------------------------------------------------------------


def bombs() -> dict[str, bytes]:
    """Small files that claim, or hold, a picture far too large."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + BOMB_PX // 8)) for _ in range(BOMB_PX)) + rows.flush()
    small = encode(Image.new("RGB", (16, 16)), "JPEG")
    frame = small.index(b"\xff\xc0") + 5
    claimed = small[:frame] + struct.pack(">HH", BOMB_PX, BOMB_PX) + small[frame + 4 :]
    gif = encode(Image.new("P", (16, 16)), "GIF")
    tiff = bytearray(encode(Image.new("RGB", (16, 16)), "TIFF"))
    for tag in (b"\x00\x01\x04\x00", b"\x00\x01\x03\x00", b"\x01\x01\x04\x00", b"\x01\x01\x03\x00"):
        if tag in tiff:
            at = tiff.index(tag)
            tiff[at + 2 : at + 12] = struct.pack("<HII", 4, 1, BOMB_PX)
    text = _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000), 9))
    png = encode(Image.new("RGB", (16, 16)), "PNG")
    return {
        "bomb.png": b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", BOMB_PX, BOMB_PX, 1, 0, 0, 0, 0))
        + _chunk(b"IDAT", packed)
        + _chunk(b"IEND", b""),
        "bomb.jpg": claimed,
        "bomb.gif": gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:],
        "bomb.tif": bytes(tiff),
        "bombtext.png": png[:33] + text + png[33:],
    }


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def largest(rng: np.random.Generator) -> dict[str, bytes]:
    """The largest pictures of each format that are still decoded, of noise, which is the most work."""
    tile = rng.integers(0, 256, (500, 500, 3), dtype=np.uint8)

    def noise(height: int, width: int) -> Image.Image:
        return Image.fromarray(np.tile(tile, (height // 500, width // 500, 1)))

    return {
        "largest.jpg": encode(noise(7000, 7000), "JPEG", quality=50, progressive=True),
        "largest.png": encode(noise(5000, 5000), "PNG", compress_level=1),
        "largest.webp": encode(noise(3500, 3500), "WEBP", method=0, quality=80),
        "largest.gif": encode(noise(5000, 5000).convert("P"), "GIF"),
        "largest.tif": encode(noise(5000, 5000), "TIFF", compression="tiff_lzw"),
    }


@dataclass(frozen=True)
class Oddity:
    """An odd file, and the beginning of the reason for its rejection; empty where it is used."""

    name: bytes
    reason: str | None


# Names that break what forgets to quote: UTKFace's three labels come first.
NAMES = (
    b"20_0_0_new\nline.png",
    b"20_0_0_carriage\rreturn.png",
    b"20_0_0_tab\t.png",
    b"20_0_0_\"quoted\" 'twice', with commas.png",
    b"20_0_0_<script>alert(1)<\\script>.png",
    b"20_0_0_<img src=x onerror=alert(1)>.png",
    b"20_0_0_=HYPERLINK(1).png",
    b"20_0_0_$(touch pwned);`touch pwned`.png",
    b"20_0_0_%s%n{0}{{7*7}}.png",
    b"20_0_0_\xe2\x80\xae\xf0\x9f\x98\x80.png",
    b"20_0_0_" + b"long" * 60 + b".png",
)


def write_corpus(folder: Path, outside: Path, n: int, seed: int) -> list[Oddity]:
    """Write n damaged files, the odd and the largest ones, and a picture `outside` that no link may lead to.

    Returns what is expected of the odd ones.
    """
    rng = np.random.default_rng(seed)
    outside.parent.mkdir()
    outside.write_bytes(encode(face_like(rng), "PNG"))
    write_mutants(folder, n, seed)
    oddities = write_oddities(folder, outside)
    for name, content in largest(rng).items():
        (folder / f"20_0_0_{name}").write_bytes(content)
    return oddities


def write_oddities(folder: Path, outside: Path) -> list[Oddity]:
    """Write one of everything that is not an ordinary damaged file; `outside` is a picture that links lead to."""
    rng = np.random.default_rng(1)
    root, oddities = os.fsencode(folder), []
    picture = encode(face_like(rng), "PNG")

    def write(name: bytes, content: bytes, reason: str | None) -> None:
        with open(os.path.join(root, name), "wb") as file:
            file.write(content)
        oddities.append(Oddity(name, reason))

    def special(name: bytes, make: Callable[[bytes], None], reason: str | None) -> None:
        make(os.path.join(root, name))
        oddities.append(Oddity(name, reason))

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sound_files(rng).items():
        write(b"20_0_0_sound_" + name.encode(), content, None)
    for name, content in bombs().items():
        reason = "cannot be decoded" if name == "bombtext.png" else "has too many pixels"
        write(b"20_0_0_" + name.encode(), content, reason)
    write(b"20_0_0_empty.jpg", b"", "is empty")
    write(b"20_0_0_text.jpg", b"no picture at all\n" * 50, "is not an image")
    write(b"20_0_0_html.jpg", b"<html><script>alert(1)</script></html>", "is not an image")
    write(b"20_0_0_program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image")
    write(b"20_0_0_nulls.png", bytes(5000), "is not an image")
    write(b"20_0_0_png_named.jpg", picture, None)
    write(b"20_0_0_jpeg_named.png", encode(face_like(rng), "JPEG"), None)
    write(b"notes.txt", b"about these faces", "is not an image file by its name")
    write(b"portrait.jpg", picture, "name is not of the form")
    write(b"999_0_0_old.jpg", picture, None)  # its age alone is unusable
    write(b"20_0_0_not_utf8_\xff\xfe.png", picture, "has a name that is not UTF-8")
    for name in NAMES:
        write(name, picture, None)
    write(b"20_0_0_huge.jpg", b"", "is larger than")
    os.truncate(os.path.join(root, b"20_0_0_huge.jpg"), 10**12)  # takes no room on the disk
    special(b"20_0_0_pipe.jpg", os.mkfifo, "is not a regular file")
    special(b"20_0_0_gone.jpg", lambda path: os.symlink(b"nowhere.jpg", path), "does not exist")
    special(b"20_0_0_loop.jpg", lambda path: os.symlink(b"20_0_0_loop.jpg", path), "cannot be read")
    special(b"20_0_0_outside.jpg", lambda path: os.symlink(os.fsencode(outside), path), "is a link that leads out")
    special(b"20_0_0_device.jpg", lambda path: os.symlink(b"/dev/zero", path), "is a link that leads out")
    special(b"20_0_0_inside.png", lambda path: os.symlink(b"20_0_0_sound_plain.png", path), None)
    special(b"circle", lambda path: os.symlink(b".", path), "is a link to a folder")
    special(b"away", lambda path: os.symlink(os.fsencode(outside.parent), path), "is a link to a folder")
    return oddities
