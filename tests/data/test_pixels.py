"""The pixel cache: keyed by content, aligned with its rows, and upright square RGB whatever the file."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from facelib.data import pixels
from facelib.data.pixels import FaceImages, cache_faces, cache_key, decode, is_cached, map_cached, resize
from facelib.data.readers import read_faces
from facelib.errors import DamagedRun, UnreadableData
from facelib.synthetic.drawing import draw_face

RED, BLUE = (220, 20, 20), (20, 20, 220)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_shades(folder: Path, shades, name="20_0_0_{:03d}.png") -> Path:
    """One plain grey picture per shade, named by it."""
    folder.mkdir(parents=True, exist_ok=True)
    for shade in shades:
        (folder / name.format(shade)).write_bytes(encode(Image.new("RGB", (20, 20), (shade,) * 3)))
    return folder


def cached(folder: Path, root: Path, px: int = 16):
    return cache_faces(read_faces(folder), px, root)


# --- decoding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "kind", "mode", "colour"),
    [
        (Image.new("RGB", (40, 40), RED), "PNG", "RGB", RED),
        (Image.new("L", (40, 40), 90), "JPEG", "L", (90, 90, 90)),
        (Image.new("1", (40, 40), 1), "PNG", "1", (255, 255, 255)),
        (Image.new("RGB", (40, 40), BLUE).quantize(4), "PNG", "P", BLUE),
        (Image.new("RGB", (40, 40), BLUE).quantize(4), "GIF", "P", BLUE),
        (Image.new("RGBA", (40, 40), (*RED, 255)), "PNG", "RGBA", RED),
        (Image.new("RGBA", (40, 40), (*RED, 128)), "WEBP", "RGBA", RED),
        (Image.new("LA", (40, 40), (70, 255)), "PNG", "LA", (70, 70, 70)),
        (Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG", "CMYK", (255, 0, 0)),
        (Image.fromarray(np.full((40, 40), 100 * 256, np.uint16)), "PNG", "I;16", (100, 100, 100)),
        (Image.fromarray(np.full((40, 40), 100 * 256, np.uint16)), "TIFF", "I;16", (100, 100, 100)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_becomes_rgb(image, kind, mode, colour):
    picture, width, height, found = decode(encode(image, kind), 16)
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8
    assert (width, height, found) == (40, 40, mode)
    np.testing.assert_allclose(picture.reshape(-1, 3), [colour] * 256, atol=6)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda upright: upright),
        (2, ImageOps.mirror),
        (3, lambda upright: upright.rotate(180)),
        (6, lambda upright: upright.rotate(90)),  # the camera was turned: shown, it turns back clockwise
        (8, lambda upright: upright.rotate(-90)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_are_turned_upright(orientation, stored, kind):
    upright = Image.new("RGB", (64, 64), (128, 128, 128))
    upright.paste(RED, (0, 0, 32, 32))
    upright.paste(BLUE, (32, 0, 64, 32))
    exif = Image.Exif()
    exif[274] = orientation
    picture = decode(encode(stored(upright), kind, exif=exif), 16)[0]
    np.testing.assert_allclose(picture[3, 3], RED, atol=25)
    np.testing.assert_allclose(picture[3, 12], BLUE, atol=25)
    np.testing.assert_allclose(picture[12, 8], (128, 128, 128), atol=25)


@pytest.mark.parametrize("portrait", [False, True])
def test_what_is_not_square_is_cut_at_its_centre(portrait):
    wide = Image.new("RGB", (120, 40), RED)
    wide.paste(BLUE, (40, 0, 80, 40))
    picture, width, height, _ = decode(encode(wide.rotate(90, expand=True) if portrait else wide), 20)
    assert (width, height) == ((40, 120) if portrait else (120, 40))
    np.testing.assert_allclose(picture.reshape(-1, 3), [BLUE] * 400, atol=2)


def test_grey_pixels_are_decoded_like_a_file():
    grey = np.arange(48 * 48, dtype=np.uint32).reshape(48, 48).astype(np.uint8)
    picture, width, height, mode = decode(grey, 48)
    assert (picture == grey[..., None]).all() and (width, height, mode) == (48, 48, "L")


@pytest.mark.parametrize(("px", "reduced"), [(64, True), (96, False)])
def test_a_jpeg_is_decoded_at_half_size_only_where_enough_is_left(px, reduced):
    content = encode(Image.fromarray(draw_face(30, 1, 0, np.random.default_rng(5), 200)), "JPEG", quality=95)
    whole = Image.open(io.BytesIO(content)).resize((px, px), Image.Resampling.LANCZOS)
    off = np.abs(decode(content, px)[0].astype(int) - np.asarray(whole))
    assert off.any() == reduced and off.mean() < 1.5


@pytest.mark.parametrize("px", [16, 40, 64])
def test_a_plain_picture_stays_plain_at_any_size(px):
    assert (decode(encode(Image.new("RGB", (40, 40), RED)), px)[0] == RED).all()


def test_what_cannot_be_decoded_says_why():
    with pytest.raises(ValueError, match="is not an image"):
        decode(b"this is text", 16)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8))
    for kind in ("JPEG", "PNG"):
        with pytest.raises(ValueError, match="cannot be decoded: "):
            decode(encode(noise, kind)[:1500], 16)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    large = encode(Image.new("RGB", (40, 40)))
    for most in (1500, 100):  # too many for us, and far too many for Pillow
        monkeypatch.setitem(pixels.MAX_PIXELS, "PNG", 1500)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(ValueError, match="too many pixels"):
            decode(large, 16)


# --- damage and strangers in the cache ---------------------------------------------------------------------


def swap_a_byte(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["pixels.npy", "index.parquet", "about.json"])
@pytest.mark.parametrize("damage", [swap_a_byte, lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink],
                         ids=["a changed byte", "cut short", "gone"])  # fmt: skip
def test_a_damaged_cache_is_made_again(tmp_path, name, damage):
    faces, root = write_shades(tmp_path / "faces", [50, 100]), tmp_path / "cache"
    cached(faces, root)
    (folder,) = root.iterdir()
    assert is_cached(folder)
    damage(folder / name)
    assert not is_cached(folder)
    images, _, _ = cached(faces, root)
    assert sorted(images[[0, 1]].mean(axis=(1, 2, 3))) == [50, 100]
    assert is_cached(folder) and list(root.iterdir()) == [folder]


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path):
    faces, root = write_shades(tmp_path / "faces", [50]), tmp_path / "cache"
    name = cache_key(read_faces(faces).faces, 16)
    (root / f".partial-{name}-abc").mkdir(parents=True)
    (root / f".partial-{name}-abc" / "pixels.npy").write_bytes(b"half")
    (root / f".{name}.lock").touch()  # nobody holds it
    cached(faces, root)
    assert [path.name for path in root.iterdir()] == [name]


def test_a_file_that_changed_since_its_digest_was_taken_stops_the_work(tmp_path):
    source = read_faces(write_shades(tmp_path / "faces", [50, 100]))
    (tmp_path / "faces" / "20_0_0_050.png").write_bytes(encode(Image.new("RGB", (20, 20))))
    with pytest.raises(UnreadableData, match=r"20_0_0_050\.png changed while the data were read"):
        cache_faces(source, 16, tmp_path / "cache")
    (tmp_path / "faces" / "20_0_0_050.png").unlink()
    with pytest.raises(UnreadableData, match=r"20_0_0_050\.png does not exist any more"):
        cache_faces(source, 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_images_that_a_cache_lacks_are_said(tmp_path):
    _, faces, _ = cached(write_shades(tmp_path / "faces", [50, 100]), tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    with pytest.raises(DamagedRun, match="lacks 1 of 2 images of the faces table: run notebook 01 again"):
        map_cached(folder, faces.assign(sha256=[faces["sha256"][0], 64 * "0"]))


# --- the cache --------------------------------------------------------------------------------------------


def test_rows_and_images_stay_aligned_when_one_cannot_be_decoded(tmp_path):
    folder = write_shades(tmp_path / "faces", [10, 60, 110, 160, 210])
    (folder / "20_0_0_110.png").write_bytes(encode(Image.new("RGB", (20, 20)))[:45])
    (folder / "20_0_0_120.png").write_text("not a picture")
    (folder / "20_0_0_130.png").touch()
    images, faces, rejected = cached(folder, tmp_path / "cache")
    assert faces["image_id"].tolist() == [f"20_0_0_{shade:03d}.png" for shade in (10, 60, 160, 210)]
    assert images[np.arange(4)].mean(axis=(1, 2, 3)).tolist() == [10, 60, 160, 210]
    assert images[2].mean() == 160 and len(images) == 4 and images.px == 16
    assert images.take(np.array([3, 0]))[1].mean() == 10
    assert rejected["item"].tolist() == ["20_0_0_130.png", "20_0_0_110.png", "20_0_0_120.png"]
    reasons = rejected["reason"].tolist()
    assert reasons[0] == "is empty" and reasons[1].startswith("cannot be decoded: ") and reasons[2] == "is not an image"
    assert (faces[["width", "height"]] == 20).all(axis=None) and (faces["mode"] == "RGB").all()


def test_alignment_holds_over_many_tasks_and_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "CHUNK", 3)
    folder = write_shades(tmp_path / "faces", range(0, 250, 13))
    write_shades(folder, range(0, 250, 26), name="19_0_0_{:03d}.png")  # copies that come first
    images, faces, _ = cached(folder, tmp_path / "cache")
    shades = faces["image_id"].str.extract(r"_(\d{3})\.")[0].astype(int)
    assert images[np.arange(len(faces))].mean(axis=(1, 2, 3)).tolist() == shades.tolist()
    assert len(images.pixels) == 20 and len(images) == 30  # a copy shares the original's place


def test_a_sample_decodes_its_own_rows(tmp_path):
    folder = write_shades(tmp_path / "faces", range(0, 250, 10))
    images, faces, _ = cache_faces(read_faces(folder).sample(6), 16, tmp_path / "cache")
    shades = faces["image_id"].str.extract(r"_(\d{3})\.")[0].astype(int)
    assert images[np.arange(6)].mean(axis=(1, 2, 3)).tolist() == shades.tolist()
    assert faces.index.tolist() == list(range(6))


def test_a_renamed_file_hits_the_cache_and_a_changed_byte_does_not(tmp_path, monkeypatch):
    root = tmp_path / "cache"
    cached(write_shades(tmp_path / "a", [50, 100]), root)
    renamed = write_shades(tmp_path / "b", [50, 100], name="65_1_3_new_{}.png")
    with monkeypatch.context() as patch:
        patch.delattr(pixels, "decode_chunk")  # nothing is decoded
        images, faces, _ = cached(renamed, root)
    assert sorted(images[[0, 1]].mean(axis=(1, 2, 3))) == [50, 100] and faces["age"].tolist() == [65, 65]

    changed = renamed / "65_1_3_new_50.png"
    changed.write_bytes(changed.read_bytes() + b"\0")
    images, _, _ = cached(renamed, root)
    assert sorted(images[[0, 1]].mean(axis=(1, 2, 3))) == [50, 100]
    assert len(list(root.iterdir())) == 2


def test_the_key_depends_on_size_and_contents_but_not_on_their_order(tmp_path):
    faces = read_faces(write_shades(tmp_path, [1, 2, 3])).faces
    assert cache_key(faces, 16) == cache_key(faces[::-1], 16) == cache_key(faces.assign(age=99.0), 16)
    assert len({cache_key(faces, 16), cache_key(faces, 32), cache_key(faces[:2], 16)}) == 3


def test_a_stopped_build_leaves_no_cache(tmp_path, monkeypatch):
    folder, root = write_shades(tmp_path / "faces", [1, 2]), tmp_path / "cache"

    def stop_midway(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "decode_chunk", stop_midway)
        with pytest.raises(KeyboardInterrupt):
            cached(folder, root)
    assert list(root.iterdir()) == []
    _, faces, _ = cached(folder, root)
    (whole,) = root.iterdir()
    assert is_cached(whole) and len(map_cached(whole, faces[1:])) == 1


def test_a_source_of_which_nothing_can_be_decoded_is_refused(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / "20_0_0_a.jpg").write_text("not a picture")
    with pytest.raises(UnreadableData, match=r"not one of 1 images .* '20_0_0_a.jpg' is not an image"):
        cached(folder, tmp_path / "cache")


def test_resizing_averages_blocks_and_keeps_the_rows():
    stack = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)
    small = resize(FaceImages(stack, np.array([2, 0])), 4)
    blocks = stack[[2, 0]].reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert len(small) == 2 and np.abs(small[[0, 1]] - blocks).max() <= 1  # Pillow rounds twice
    same = FaceImages(stack, np.arange(3))
    assert resize(same, 8) is same
