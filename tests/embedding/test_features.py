"""The cache of features: computed once a content, keyed by the pixels, the weights and the version."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from facelib.data.pixels import FaceImages, cache_faces
from facelib.data.readers import read_faces
from facelib.embedding import features, network
from facelib.embedding.features import embed
from facelib.errors import DamagedRun


def fake_pixels(pixels: np.ndarray, mirror: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Features and descriptors that name the picture: its mean, and that of its first row."""
    fake_pixels.computed += len(pixels)
    mean, row = (np.asarray(part, np.float32) for part in (pixels.mean(axis=(1, 2, 3)), pixels[:, 0].mean(axis=(1, 2))))
    return (
        np.repeat(mean[:, None] / 2**mirror, 256, axis=1).astype(np.float16),
        np.repeat(row[:, None], 128, axis=1).astype(np.float32),
    )


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    fake_pixels.computed = 0
    monkeypatch.setattr(network, "embed_pixels", fake_pixels)


@pytest.fixture
def cached(faces_folder, tmp_path):
    """Images of a cache, 16 px, and the root of caches."""
    root = tmp_path / "cache"
    return cache_faces(read_faces(faces_folder), 16, root)[0], root


def feature_folders(root: Path) -> list[Path]:
    return sorted(root.glob("features-*"))


def test_rows_keep_their_order_and_copies_are_computed_once(cached):
    images, _ = cached
    expected = images[np.arange(len(images))].mean(axis=(1, 2, 3))
    embedding = embed(images)
    np.testing.assert_allclose(embedding.features[:, 0], expected, atol=0.1)
    assert fake_pixels.computed == len(images.pixels) < len(images) == len(embedding.descriptors)
    rows = np.array([5, 0, 7])
    np.testing.assert_array_equal(embed(images.take(rows)).features, embedding.features[rows])


def test_what_was_computed_is_read_again(cached, monkeypatch):
    images, root = cached
    first = embed(images)
    monkeypatch.setattr(network, "embed_pixels", None)
    second = embed(images)
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert len(feature_folders(root)) == 1
    assert (second.features.dtype, second.descriptors.dtype) == (np.float16, np.float32)


def test_chunks_are_put_together_in_order(cached, monkeypatch):
    images, _ = cached
    monkeypatch.setattr(features, "CHUNK", 7)
    np.testing.assert_allclose(embed(images).features[:, 0], images[np.arange(len(images))].mean((1, 2, 3)), atol=0.1)


@pytest.mark.parametrize("name", ["EMBEDDING_VERSION", "SHA256"])
def test_another_version_or_other_weights_are_computed_anew(cached, monkeypatch, name):
    images, root = cached
    embed(images)
    monkeypatch.setattr(features, name, "other")
    embed(images)
    assert len(feature_folders(root)) == 2


def test_the_key_depends_on_content_size_order_and_mirror(faces_folder, tmp_path):
    root, source = tmp_path / "cache", read_faces(faces_folder)
    images = cache_faces(source, 16, root)[0]
    embed(images)
    np.testing.assert_allclose(embed(images, mirror=True).features[:, 0] * 2, embed(images).features[:, 0], rtol=1e-2)
    assert len(feature_folders(root)) == 2
    embed(cache_faces(source, 24, root)[0])
    embed(cache_faces(source.sample(40), 16, root)[0])
    assert len(feature_folders(root)) == 4
    embed(cache_faces(source, 16, tmp_path / "elsewhere")[0])
    (elsewhere,) = feature_folders(tmp_path / "elsewhere")
    assert elsewhere.name in {folder.name for folder in feature_folders(root)}


def test_a_cache_built_anew_in_another_order_is_not_mistaken(faces_folder, tmp_path):
    """The name of a cache does not depend on the order of its rows, their places do."""
    root, source = tmp_path / "cache", read_faces(faces_folder)
    images = cache_faces(source, 16, root)[0]
    embed(images)
    (images.folder / "pixels.npy").write_bytes(b"damaged")
    order = np.arange(len(source.faces))[::-1]
    turned = dataclasses.replace(source, faces=source.faces.iloc[order].reset_index(drop=True))
    again = cache_faces(turned, 16, root)[0]
    assert again.folder == images.folder
    np.testing.assert_allclose(embed(again).features[:, 0], again[np.arange(len(again))].mean(axis=(1, 2, 3)), atol=0.1)


@pytest.mark.parametrize("name", ["features.npy", "descriptors.npy", "about.json"])
@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink], ids=["cut", "gone"]
)
def test_damaged_features_are_computed_again(cached, name, damage):
    images, root = cached
    expected = embed(images)
    (folder,) = feature_folders(root)
    damage(folder / name)
    fake_pixels.computed = 0
    again = embed(images)
    assert fake_pixels.computed == len(images.pixels)
    assert np.array_equal(again.features, expected.features) and feature_folders(root) == [folder]


def test_a_stopped_computation_leaves_nothing(cached, monkeypatch):
    images, root = cached
    before = sorted(root.iterdir())

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(network, "embed_pixels", stop)
        with pytest.raises(KeyboardInterrupt):
            embed(images)
    assert sorted(root.iterdir()) == before


def test_images_in_memory_are_computed_and_not_kept(tmp_path):
    stack = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    images = FaceImages(stack, np.array([2, 0]))
    np.testing.assert_allclose(embed(images).features[:, 0], stack[[2, 0]].mean(axis=(1, 2, 3)), atol=0.1)
    assert len(embed(FaceImages(stack, np.zeros(0, int))).descriptors) == 0


def test_a_cache_that_does_not_say_what_it_holds_is_refused(cached):
    images, _ = cached
    (images.folder / "about.json").write_text("{}")
    with pytest.raises(DamagedRun, match="is not what facelib writes"):
        embed(images)
