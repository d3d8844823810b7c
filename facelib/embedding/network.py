"""dlib's face-recognition network in torch: 29 convolutions without batch statistics."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facelib.data.pixels import chunks
from facelib.devices import pick_device
from facelib.embedding import weights
from facelib.embedding.weights import DESCRIPTOR, FEATURES, INPUT_PX, FaceWeights

# Subtracted from red, green and blue, and what the rest is divided by: dlib's `input_rgb_image_sized`.
COLOUR_MEAN, COLOUR_SCALE = (122.782, 117.001, 104.298), 256.0
BATCH = {"cpu": 16, "cuda": 256}  # on a processor, 32 and 8 take 10 % and 60 % longer


def convolution(inputs: int, outputs: int, edge: int, stride: int) -> nn.Conv2d:
    """A convolution with biases, which keeps the edge if its stride is 1; dlib's scales and shifts are folded into it.

    The scales make filters several times larger. An update of AdamW is about as large as the learning rate, whatever
    the size of a filter, and destroys those of dlib's upper layers if their scales are apart.
    """
    layer = nn.Conv2d(inputs, outputs, edge, stride, edge // 2 if stride == 1 else 0)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """A residual block; one that halves the edge adds 2 x 2 averages of its input, filled up with zeros."""

    def __init__(self, inputs: int, outputs: int, halves: bool):
        super().__init__()
        self.halves = halves
        self.first = convolution(inputs, outputs, 3, 2 if halves else 1)
        self.second = convolution(outputs, outputs, 3, 1)
        nn.init.zeros_(self.second.weight)  # random blocks add nothing at first: without batch norm sums would grow

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, inputs, H, W) to (n, outputs, H', W')."""
        residual = self.second(torch.relu_(self.first(images)))
        if self.halves:
            images = F.avg_pool2d(images, 2)
            shape = [max(sizes) for sizes in zip(residual.shape[1:], images.shape[1:], strict=True)]
            residual, images = _filled(residual, shape), _filled(images, shape)
        return torch.relu_(residual + images)


def _filled(images: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Images (n, C, H, W) with zeros behind their last channel, row and column, as far as `shape`."""
    channels, rows, columns = (wanted - size for wanted, size in zip(shape, images.shape[1:], strict=True))
    return F.pad(images, (0, columns, 0, rows, 0, channels)) if channels or rows or columns else images


class FaceRecognitionNet(nn.Module):
    """Features of aligned faces, and descriptors of features; see `load_face_network`.

    Its blocks form `layer1` to `layer5`: each layer but the first begins with a block that halves the edge.
    """

    def __init__(self):
        super().__init__()
        self.stem = convolution(3, weights.STEM_CHANNELS, weights.STEM_EDGE, 2)
        inputs, layers = weights.STEM_CHANNELS, [[]]
        for channels, halves in weights.BLOCKS:
            if halves:
                layers.append([])
            layers[-1].append(Block(inputs, channels, halves))
            inputs = channels
        for number, blocks in enumerate(layers, 1):
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.projection = nn.Linear(FEATURES, DESCRIPTOR, bias=False)
        self.register_buffer("mean", torch.tensor(COLOUR_MEAN, device="cpu").view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def load_weights(self, published: FaceWeights) -> None:
        """Copy weights into the network."""
        layers = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for layer, (filters, bias, scale, shift) in zip(layers, published.convolutions, strict=True):
            layer.weight.copy_(torch.tensor(filters * scale[:, None, None, None]))
            layer.bias.copy_(torch.tensor(bias * scale + shift))
        self.projection.weight.copy_(torch.tensor(published.projection.T))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, 256) of images (n, 3, H, W), 0 to 255, which are scaled to 150 px."""
        if images.shape[2:] != (INPUT_PX, INPUT_PX):
            images = F.interpolate(images, (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True, align_corners=False)
        images = F.max_pool2d(torch.relu_(self.stem((images - self.mean) / COLOUR_SCALE)), 3, 2)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            images = layer(images)
        return images.mean((2, 3))


def load_face_network() -> FaceRecognitionNet:
    """A network with the published weights, in evaluation mode.

    Raises
    ------
    WeightsError
        If they are missing or damaged.
    """
    network = FaceRecognitionNet()
    network.load_weights(weights.read_weights(weights.weights_file()))
    return network.eval().to(memory_format=torch.channels_last)


@cache
def _shared_network() -> FaceRecognitionNet:
    return load_face_network().to(pick_device())


@torch.inference_mode()
def embed_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and descriptors of aligned faces.

    Parameters
    ----------
    pixels : uint8 array (n, px, px, 3)
        RGB, in UTKFace's frame: dlib's face chip with padding 0.25.

    Returns
    -------
    features : float16 array (n, 256)
    descriptors : float32 array (n, 128)
        Within 1e-5 of dlib's on a processor.
    """
    network, device = _shared_network(), pick_device()
    features = [np.empty((0, FEATURES), np.float16)]
    descriptors = [np.empty((0, DESCRIPTOR), np.float32)]
    for rows in chunks(len(pixels), BATCH[device.type]):
        images = torch.from_numpy(np.ascontiguousarray(pixels[rows])).to(device).permute(0, 3, 1, 2).float()
        # In bfloat16 and TF32 devices round differently: each would recognise other persons and draw another split.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            batch = network(images)
        features.append(batch.cpu().numpy().astype(np.float16))
        descriptors.append(network.projection(batch).cpu().numpy())
    return np.concatenate(features), np.concatenate(descriptors)
