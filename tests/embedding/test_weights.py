"""The reader of the face network's file: exact, and damaged or foreign files are refused in one sentence."""

import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facelib.data import dlib_files
from facelib.data.dlib_files import WeightsError
from facelib.embedding import weights
from facelib.embedding.weights import filter_shapes, parse_weights, read_weights, weights_file

SHAPES = [(2, 3, 3, 3), (4, 2, 3, 3)]


def integer(value: int) -> bytes:
    """As `dlib/serialize.h` writes it."""
    body = struct.pack("<Q", abs(value)).rstrip(b"\0") or b"\0"
    return bytes([len(body) | (0x80 if value < 0 else 0)]) + body


def tensor(values: np.ndarray) -> bytes:
    shape = (*values.shape, 1, 1, 1)[:4]
    return b"".join(map(integer, (2, *shape))) + values.astype("<f4").tobytes()


def small_file(arrays: list[np.ndarray]) -> bytes:
    """Two convolutions of `SHAPES` and a matrix, each behind its name and some settings, as dlib lays them out."""
    content, values = b"\1\1\1\x0dloss_metric_2" + integer(-7), iter(arrays)
    for _ in SHAPES:
        content += b"\1\5con_4" + tensor(next(values)) + integer(3) + integer(3)
        content += b"\1\7affine_" + tensor(next(values)) + integer(0)
    return content + b"\1\4fc_2" + integer(128) + integer(256) + tensor(next(values)) + integer(1)


@pytest.fixture
def small(monkeypatch) -> tuple[list[np.ndarray], bytes]:
    """A file of the format with a network of two convolutions, and what it holds."""
    monkeypatch.setattr(weights, "filter_shapes", lambda: SHAPES)
    monkeypatch.setattr(weights, "FEATURES", 4)
    monkeypatch.setattr(weights, "DESCRIPTOR", 3)
    rng = np.random.default_rng(0)
    sizes = [(int(np.prod(shape)) + shape[0], 2 * shape[0]) for shape in SHAPES]
    arrays = [rng.normal(size=size).astype(np.float32) for pair in sizes for size in pair]
    arrays.append(rng.normal(size=(4, 3)).astype(np.float32))
    return arrays, small_file(arrays)


def test_a_file_is_read_as_it_was_written(small):
    (filters, affine, *_, matrix), content = small
    read = parse_weights(content)
    first = read.convolutions[0]
    assert np.array_equal(first.filters, filters[:54].reshape(2, 3, 3, 3)) and np.array_equal(first.bias, filters[54:])
    assert np.array_equal(first.scale, affine[:2]) and np.array_equal(first.shift, affine[2:])
    assert len(read.convolutions) == 2 and np.array_equal(read.projection, matrix)


def test_a_file_cut_short_anywhere_is_refused(small):
    content = small[1]
    for length in range(0, len(content) - len(integer(1)), 7):
        with pytest.raises(WeightsError):
            parse_weights(content[:length])


@pytest.mark.parametrize("layer", [b"con_4", b"affine_", b"fc_2"])
def test_a_layer_of_another_kind_or_shape_is_refused(small, layer):
    arrays, content = small
    with pytest.raises(WeightsError, match=layer.decode()):
        parse_weights(content.replace(layer, layer[::-1]))
    place = {b"con_4": 0, b"affine_": 1, b"fc_2": -1}[layer]
    arrays[place] = arrays[place][:-1]
    with pytest.raises(WeightsError, match=layer.decode()):
        parse_weights(small_file(arrays))


def test_a_claimed_size_reserves_no_memory(small):
    header = tensor(np.zeros(4))[:-16]
    giant = b"".join(map(integer, (2, 2**40, 2**20, 1, 1)))
    assert header in small[1]
    with pytest.raises(WeightsError):
        parse_weights(small[1].replace(header, giant))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(small, value):
    small[0][2][5] = value
    with pytest.raises(WeightsError, match="not finite"):
        parse_weights(small_file(small[0]))


@given(content=st.binary(max_size=3000))
def test_any_bytes_are_refused(content):
    with pytest.raises(WeightsError):
        parse_weights(content)


@settings(max_examples=300)
@given(data=st.data())
def test_changed_bytes_give_weights_of_the_right_shapes_or_are_refused(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "filter_shapes", lambda: SHAPES)
        patch.setattr(weights, "FEATURES", 4)
        patch.setattr(weights, "DESCRIPTOR", 3)
        arrays = [np.ones(size) for shape in SHAPES for size in (int(np.prod(shape)) + shape[0], 2 * shape[0])]
        content = bytearray(small_file([*arrays, np.ones((4, 3))]))
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
            content[place] = data.draw(st.integers(0, 255))
        try:
            read = parse_weights(bytes(content))
        except WeightsError:
            return
        assert [part.filters.shape for part in read.convolutions] == SHAPES and read.projection.shape == (4, 3)


def test_the_shapes_are_those_of_5_6_million_parameters():
    n = sum(np.prod(shape) + 3 * shape[0] for shape in filter_shapes()) + 256 * 128
    assert len(filter_shapes()) == 29 and 5.5e6 < n < 5.7e6


# --- the installed file -----------------------------------------------------------------------------------


def test_the_package_is_located_without_being_imported(installed):
    assert installed.name == weights.FILE and dlib_files.PACKAGE not in sys.modules
    assert len(read_weights(installed).convolutions) == 29


def swap_a_bit(content: bytearray) -> None:
    content[10_000_000] ^= 1


def append(content: bytearray) -> None:
    content += b"\0"


def halve(content: bytearray) -> None:
    del content[len(content) // 2 :]


def test_every_damage_of_the_installed_file_is_seen(installed, tmp_path):
    path = tmp_path / "weights.dat"
    for damage in (swap_a_bit, append, halve, bytearray.clear):
        content = bytearray(installed.read_bytes())
        damage(content)
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="is not the published face network"):
            read_weights(path)


def test_a_file_that_is_far_too_large_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(dlib_files, "MAX_BYTES", 1000)
    path = tmp_path / "weights.dat"
    with path.open("wb") as opened:
        opened.truncate(2**40)
    with pytest.raises(WeightsError, match="is not the published face network"):
        read_weights(path)


def test_a_missing_file_or_package_names_the_remedy(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="pip install"):
        read_weights(tmp_path / "none.dat")
    monkeypatch.setattr(dlib_files, "PACKAGE", "face_recognition_models_that_nobody_installed")
    with pytest.raises(WeightsError, match="pip install dlib-bin face-recognition-models") as raised:
        weights_file()
    assert "\n" not in str(raised.value)
