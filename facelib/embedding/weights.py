"""The weights of dlib's face-recognition network, read in numpy from the package that carries them.

`dlib_face_recognition_resnet_model_v1.dat` of Davis E. King (public domain, github.com/davisking/dlib-models) learned
to tell 7,485 people apart on about 3 million pictures: VGG-Face, FaceScrub and the web. It never saw labels of age,
gender or ethnicity. It may have seen some of the people of a test set.
"""

import hashlib
import importlib.util
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facelib.errors import FacelibError

PACKAGE = "face_recognition_models"
FILE = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
INSTALL = "pip install face-recognition-models==0.3.0"
MAX_BYTES = 64 << 20  # the file has 22 MB
MAX_GAP = 1024  # bytes between two tensors of the file: settings of its layers
# Output channels of each residual block, and whether it halves the edge of its input.
BLOCKS = (*[(32, False)] * 3, (64, True), *[(64, False)] * 3, (128, True), *[(128, False)] * 2)
BLOCKS += ((256, True), *[(256, False)] * 2, (256, True))
STEM_CHANNELS, STEM_EDGE = 32, 7
FEATURES, DESCRIPTOR = 256, 128
INPUT_PX = 150  # edge of the network's input


class WeightsError(FacelibError):
    """Weights of the face network that are missing, damaged or foreign."""


class Convolution(NamedTuple):
    """Filters (out, in, edge, edge), and for each output channel a bias, then a scale and a shift: float32."""

    filters: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


class FaceWeights(NamedTuple):
    """The convolutions from the input to the output, and the matrix (256, 128) from features to descriptors."""

    convolutions: list[Convolution]
    projection: np.ndarray


def filter_shapes() -> list[tuple[int, int, int, int]]:
    """Shapes of the 29 filters: (out, in, edge, edge)."""
    shapes, inputs = [(STEM_CHANNELS, 3, STEM_EDGE, STEM_EDGE)], STEM_CHANNELS
    for channels, _ in BLOCKS:
        shapes += [(channels, inputs, 3, 3), (channels, channels, 3, 3)]
        inputs = channels
    return shapes


def weights_file() -> Path:
    """Where the installed package keeps the weights; the package is not imported.

    Raises
    ------
    WeightsError
        If it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / "models" / FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise WeightsError(f"the weights of the face network are not installed: {INSTALL}")
    return path


def read_weights(path: Path) -> FaceWeights:
    """The weights in dlib's file.

    Raises
    ------
    WeightsError
        If the file cannot be read, or differs from the published one in a single bit.
    """
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): {INSTALL} --force-reinstall") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise WeightsError(f"{path} is not the published face network: {INSTALL} --force-reinstall")
    return parse_weights(content)


def parse_weights(content: bytes) -> FaceWeights:
    """The weights in the bytes of dlib's file; no code in them can run.

    A layer's tensor follows its name: `con_4` filters and biases, `affine_` scales and shifts, `fc_2` a matrix (dlib's
    `dnn/layers.h`). Arrays are views of `content`: a size that the file merely claims reserves no memory.

    Raises
    ------
    WeightsError
        If a tensor is missing, has another shape than the network's, or is not finite.
    """
    convolutions, at = [], 0
    for shape in filter_shapes():
        out, size = shape[0], math.prod(shape)
        filters, at = _tensor(content, at, b"con_4", (size + out, 1, 1, 1))
        affine, at = _tensor(content, at, b"affine_", (2 * out, 1, 1, 1))
        convolutions.append(Convolution(filters[:size].reshape(shape), filters[size:], affine[:out], affine[out:]))
    projection, _ = _tensor(content, at, b"fc_2", (FEATURES, DESCRIPTOR, 1, 1))
    return FaceWeights(convolutions, projection.reshape(FEATURES, DESCRIPTOR))


def _tensor(content: bytes, at: int, layer: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The tensor of the next layer from byte `at` on, flat, and the byte where it ends."""
    size = math.prod(shape)
    header = b"".join(map(_integer, (2, *shape)))  # version 2 of dlib's format of tensors
    name = content.find(_integer(len(layer)) + layer, at, at + MAX_GAP)
    start = content.find(header, name, name + MAX_GAP) + len(header)
    if name < 0 or start < len(header) or start + 4 * size > len(content):
        raise WeightsError(f"the face network's file lacks its layer {layer.decode()} {shape} at byte {at}")
    values = np.frombuffer(content, "<f4", size, start)
    if not np.isfinite(values).all():
        raise WeightsError(f"the face network's file holds numbers that are not finite after byte {start}")
    return values, start + 4 * size


def _integer(value: int) -> bytes:
    """A positive integer as dlib writes it: how many bytes it takes, then these, the lowest first."""
    count = (value.bit_length() + 7) // 8
    return bytes([count]) + value.to_bytes(count, "little")
