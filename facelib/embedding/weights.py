"""The weights of dlib's face-recognition network, read in numpy from the package that carries them.

`dlib_face_recognition_resnet_model_v1.dat` of Davis E. King (public domain, github.com/davisking/dlib-models) learned
to tell 7,485 people apart on about 3 million pictures: VGG-Face, FaceScrub and the web. It never saw labels of age,
gender or ethnicity. It may have seen some of the people of a test set.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facelib.data.dlib_files import model_file, next_tensor, read_model

FILE = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
# Output channels of each residual block, and whether it halves the edge of its input.
BLOCKS = (*[(32, False)] * 3, (64, True), *[(64, False)] * 3, (128, True), *[(128, False)] * 2)
BLOCKS += ((256, True), *[(256, False)] * 2, (256, True))
STEM_CHANNELS, STEM_EDGE = 32, 7
FEATURES, DESCRIPTOR = 256, 128
INPUT_PX = 150  # edge of the network's input


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
    """Where the installed package keeps the weights; WeightsError if it is not installed."""
    return model_file(FILE)


def read_weights(path: Path) -> FaceWeights:
    """The weights in dlib's file; WeightsError as of `dlib_files.read_model`."""
    return parse_weights(read_model(path, SHA256))


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
        filters, at = next_tensor(content, at, (size + out, 1, 1, 1), b"con_4")
        affine, at = next_tensor(content, at, (2 * out, 1, 1, 1), b"affine_")
        convolutions.append(Convolution(filters[:size].reshape(shape), filters[size:], affine[:out], affine[out:]))
    projection, _ = next_tensor(content, at, (FEATURES, DESCRIPTOR, 1, 1), b"fc_2")
    return FaceWeights(convolutions, projection.reshape(FEATURES, DESCRIPTOR))
