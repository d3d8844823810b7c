"""dlib's convolutional face detector (MMOD) in torch: the same scores as dlib's own.

`mmod_human_face_detector.dat` is a network of seven convolutions that scores each place of a picture as the centre of
a face of 80 px; larger faces are found in reduced pictures. It was trained on faces of public data sets and of
photographs on the web, by their boxes alone ("Max-Margin Object Detection", King, 2015).
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from facelib.data.alignment import Box
from facelib.data.dlib_files import model_file, next_tensor, read_model

FILE = "mmod_human_face_detector.dat"
SHA256 = "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6"
# Output channels, input channels, edge and stride of each convolution. Strided ones are not padded.
LAYERS = ((16, 3, 5, 2), (32, 16, 5, 2), (32, 32, 5, 2), (45, 32, 5, 1), (45, 45, 5, 1), (45, 45, 5, 1), (1, 45, 9, 1))
EPS = 1e-4  # of the batch statistics, as stored in the file
COLOUR_MEAN, COLOUR_SCALE = (122.782, 117.001, 104.298), 256.0  # dlib's `input_rgb_image_pyramid`
STRIDE, FIRST = 8, 14  # pixels between two places that are scored, and of the first one
FACE_PX = 80
STEP = 5 / 6  # from one size of the picture to the next
ROOM = 16  # pixels of mean colour around the picture, for faces at its border


def find_boxes(picture: Image.Image, least: float, sizes: int | None = None) -> list[Box]:
    """Faces of an RGB picture that score `least` or more, the best first; a face may have several boxes.

    Parameters
    ----------
    picture : Image
    least : float
        dlib's own threshold is 0.
    sizes : int, optional
        How many sizes of the picture are searched, from its own down; all by default.

    Raises
    ------
    WeightsError
        If the package with the network is missing or damaged.
    """
    layers, boxes, scale = _layers(), [], 1.0
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    pixels = (pixels - torch.tensor(COLOUR_MEAN).view(3, 1, 1)) / COLOUR_SCALE
    with torch.inference_mode():
        while min(picture.size) * scale + ROOM >= FACE_PX and sizes != 0:
            shape = [max(1, round(side * scale)) for side in pixels.shape[2:]]
            layer = pixels if scale == 1 else F.interpolate(pixels, shape, mode="bilinear", antialias=True)
            layer = F.pad(layer, (ROOM,) * 4)
            for filters, bias, stride in layers[:-1]:
                layer = torch.relu_(F.conv2d(layer, filters, bias, stride, filters.shape[2] // 2 * (stride == 1)))
            filters, bias, _ = layers[-1]
            scores = F.conv2d(layer, filters, bias, 1, filters.shape[2] // 2)[0, 0].numpy()
            for row, column in zip(*np.nonzero(scores >= least), strict=True):
                x, y = ((STRIDE * place + FIRST - ROOM + 0.5) / scale for place in (int(column), int(row)))
                boxes.append(Box(x, y, FACE_PX / scale, float(scores[row, column])))
            scale, sizes = scale * STEP, sizes and sizes - 1
    return sorted(boxes, key=lambda box: -box.score)


@functools.cache
def _layers() -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """Filters (out, in, edge, edge), biases (out,) and stride of each layer, batch statistics folded in."""
    content, at, layers = read_model(model_file(FILE), SHA256), 0, []
    for outputs, inputs, edge, stride in LAYERS:
        shape = outputs, inputs, edge, edge
        weights, at = next_tensor(content, at, (int(np.prod(shape)) + outputs, 1, 1, 1), b"con_4")
        filters, bias = weights[:-outputs].reshape(shape), weights[-outputs:]
        if outputs > 1:
            affine, at = next_tensor(content, at, (2 * outputs, 1, 1, 1), b"bn_con2")
            # The last batch's means and inverse deviations, then the running means and variances.
            (_, _, mean, variance), at = _four(content, at, (1, outputs, 1, 1))
            gain = affine[:outputs] / np.sqrt(variance + EPS)
            filters, bias = filters * gain[:, None, None, None], (bias - mean) * gain + affine[outputs:]
        kept = torch.tensor(filters).contiguous(memory_format=torch.channels_last)
        layers.append((kept, torch.tensor(bias), stride))
    return layers


def _four(content: bytes, at: int, shape: tuple[int, ...]) -> tuple[list[np.ndarray], int]:
    tensors = []
    for _ in range(4):
        tensor, at = next_tensor(content, at, shape)
        tensors.append(tensor)
    return tensors, at
