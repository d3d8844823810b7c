"""What a network looks at: the outputs that are explained, and their Grad-CAM and LayerCAM maps.

A map is not a reason. Beside each method stand an edge map, which never asked the network, and noise.
"""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pytorch_grad_cam import GradCAM, LayerCAM
from scipy import ndimage
from torch import nn
from torch.fx.experimental.optimization import fuse

from facelib.explain.regions import SHARES, region_shares
from facelib.models.age_stages import AgeStagesNet, to_bin
from facelib.models.network import FaceNet, as_tensor, predict_outputs
from facelib.models.training import has_fast_bfloat16
from facelib.schema import ATTRIBUTES, ETHNICITIES

METHODS = ("grad_cam", "layer_cam", "lime")
BASELINES = ("edges", "noise")
FINE_EDGE = 12  # places along the edge of a map that can tell an eye from a brow
CORRECT_YEARS = 5  # an age estimate this close counts as correct, as in CS@5


@dataclass(frozen=True)
class Explained:
    """One number of a network that is explained: years, or the probability of a class.

    Parameters
    ----------
    name : str
        age, age_bin, gender, or ethnicity_<name>.
    network : nn.Module
        Called with images (n, 3, px, px), returns outputs by name.
    output : str
        Which of them: age (years), gender (logit of female), ethnicity or bin_logits (logits of classes).
    classes : int array of shape (n,), optional
        The class explained for each image; None for years.
    """

    name: str
    network: nn.Module
    output: str
    classes: np.ndarray | None = None

    def at(self, rows) -> "Explained":
        """The same for some of the images."""
        return self if self.classes is None else dataclasses.replace(self, classes=self.classes[rows])

    def of(self, network: nn.Module) -> "Explained":
        """The same question to another network."""
        return dataclasses.replace(self, network=network)

    def logits(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Years (n, 1), or logits of the classes (n, k)."""
        value = outputs[self.output]
        if self.output == "gender":
            return torch.stack([-value, value], dim=1) / 2  # their softmax is the logistic function of the output
        return value[:, None] if self.output == "age" else value

    def number(self, outputs: dict[str, torch.Tensor]) -> np.ndarray:
        """The explained number of each image: years, or the probability of its class."""
        logits = self.logits(outputs).float()
        if self.classes is None:
            return logits[:, 0].numpy()
        return logits.softmax(dim=1).numpy()[np.arange(len(logits)), self.classes]


def explained_outputs(
    network: FaceNet, stages: AgeStagesNet | None, images: np.ndarray, attributes: tuple[str, ...] = ATTRIBUTES
) -> list[Explained]:
    """Age towards higher ages, the predicted age bin, the predicted gender, and each ethnicity whatever is predicted.

    Parameters
    ----------
    network, stages
        The multitask and the two-stage network, which only age needs.
    images : uint8 array (n, px, px, 3)
    attributes : tuple of str
        The labels that the networks learned.
    """
    outputs = predict_outputs(network, images, flip=False)
    heads = []
    if "age" in attributes:
        bins = predict_outputs(stages, images, flip=False)["bin_logits"].argmax(axis=1)
        heads += [Explained("age", network, "age"), Explained("age_bin", stages, "bin_logits", bins)]
    if "gender" in attributes:
        heads.append(Explained("gender", network, "gender", (outputs["gender"] > 0).astype(int)))
    if "ethnicity" in attributes:
        heads += [
            Explained(f"ethnicity_{name.lower()}", network, "ethnicity", np.full(len(images), code))
            for code, name in enumerate(ETHNICITIES)
        ]
    return heads


def correct_predictions(heads: list[Explained], images: np.ndarray, labels: pd.DataFrame) -> pd.DataFrame:
    """Whether each head's prediction agrees with the label: 1, 0, or nan where the label is unknown.

    Age agrees within `CORRECT_YEARS`; an ethnicity's output counts as correct where the predicted ethnicity is.

    Parameters
    ----------
    heads : list of Explained
    images : uint8 array (n, px, px, 3)
    labels : DataFrame
        age, gender, ethnicity; nan or a negative code where unknown.

    Returns
    -------
    DataFrame of shape (n, heads)
    """
    columns = {}
    for head in heads:
        logits = head.logits({k: torch.as_tensor(v) for k, v in predict_outputs(head.network, images, False).items()})
        if head.output == "age":
            right = (np.abs(logits[:, 0].numpy() - labels["age"]) <= CORRECT_YEARS).astype(float)
        else:
            attribute = "age" if head.output == "bin_logits" else head.output
            code = to_bin(labels["age"], head.network.edges) if attribute == "age" else labels[attribute].to_numpy()
            right = pd.Series(logits.argmax(dim=1).numpy() == code, index=labels.index).astype(float)
        known = labels["age"].notna() if head.output in ("age", "bin_logits") else labels[head.output] >= 0
        columns[head.name] = right.where(known)
    return pd.DataFrame(columns)


@torch.inference_mode()
def network_outputs(network: nn.Module, images: np.ndarray, batch: int = 64) -> dict[str, torch.Tensor]:
    """Outputs of uint8 images (n, px, px, 3), computed in bfloat16 where the processor is built for it."""
    network = network.eval().to(memory_format=torch.channels_last)
    parts: list[dict[str, torch.Tensor]] = []
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
        for start in range(0, len(images), batch):
            parts.append(network(as_tensor(images[start : start + batch])))
    return {name: torch.cat([part[name].float() for part in parts]) for name in parts[0]}


def folded(heads: list[Explained]) -> list[Explained]:
    """The same questions to copies of the networks for many calls of `network_outputs`.

    Batch norms are folded into the convolutions, whose weights are kept in the type that they are used in.
    """
    copies = {}
    for head in heads:
        if id(head.network) not in copies:
            # In the layout of `network_outputs` from here on: several threads may call it with one copy.
            copied = copy.deepcopy(head.network).eval().to(memory_format=torch.channels_last)
            copies[id(head.network)] = copied
            if hasattr(copied, "backbone"):
                copied.backbone.resnet = fuse(copied.backbone.resnet)
                if has_fast_bfloat16():
                    copied.backbone.resnet.to(torch.bfloat16)
    return [head.of(copies[id(head.network)]) for head in heads]


def explained_numbers(heads: list[Explained], images: np.ndarray) -> np.ndarray:
    """The explained numbers of images: float array (heads, n). Each network is asked once."""
    networks = {id(head.network): head.network for head in heads}
    answers = {key: network_outputs(network, images) for key, network in networks.items()}
    return np.stack([head.number(answers[id(head.network)]) for head in heads])


class _Target(nn.Module):
    """The explained number per image, as the two-dimensional output that grad-cam asks for."""

    def __init__(self, head: Explained):
        super().__init__()
        self.network, self.head = head.network, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.head.logits(self.network(images))
        if self.head.classes is None:
            return logits
        return logits.gather(1, torch.as_tensor(self.head.classes)[:, None])


@contextmanager
def _gradients(network: nn.Module, layer: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients down to a layer's output and no further; restored afterwards."""
    required = [parameter.requires_grad for parameter in network.parameters()]
    network.eval().requires_grad_(False)
    last = list(layer.parameters())[-1]
    last.requires_grad_(True)
    try:
        yield
    finally:
        last.grad = None
        for parameter, flag in zip(network.parameters(), required, strict=True):
            parameter.requires_grad_(flag)


def cam_maps(head: Explained, images: np.ndarray, method: str, batch: int = 50) -> np.ndarray:
    """Grad-CAM of the last layer, or LayerCAM of an earlier one with at least 12 x 12 places, averaged over 2 x 2.

    The convolutions above the earlier layer step over every other place, and their gradients weigh places by where the
    steps fall: a lattice of period two that says nothing about the face, and that averaging removes.

    Parameters
    ----------
    head : Explained
    images : uint8 array (n, px, px, 3)
    method : str
        grad_cam (ICCV 2017) or layer_cam (TIP 2021).

    Returns
    -------
    float array of shape (n, px, px), 0 to 1
    """
    network = head.network
    layer = network.backbone.resnet.layer4 if method == "grad_cam" else fine_layer(network, images.shape[1])
    make = GradCAM if method == "grad_cam" else LayerCAM
    maps = []
    with _gradients(network, layer):
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            with make(model=_Target(head.at(part)), target_layers=[layer]) as cam:
                maps.append(cam(as_tensor(images[part]), targets=[lambda output: output[0]] * len(images[part])))
    found = np.concatenate(maps)
    if method == "grad_cam":
        return found
    width = 2 * images.shape[1] // map_edge(network, images.shape[1], method)
    found = ndimage.uniform_filter(found, (1, width, width), mode="nearest")
    peak = found.max(axis=(1, 2), keepdims=True)
    return found / np.where(peak > 0, peak, 1)


def _edges(network: nn.Module, px: int) -> list[int]:
    """Places along the edge of the maps of layer1 to layer4, for images of edge px."""
    backbone = network.backbone
    seen = min(px, backbone.input_px or px)
    first = 2 if backbone.stem == "small" else 4
    return [-(-seen // (first * 2**stage)) for stage in range(4)]


def fine_layer(network: nn.Module, px: int) -> nn.Module:
    """The deepest residual stage whose map still has at least 12 x 12 places at this image size, else the first."""
    deep = [stage for stage, edge in enumerate(_edges(network, px)) if edge >= FINE_EDGE]
    return getattr(network.backbone.resnet, f"layer{max(deep, default=0) + 1}")


def map_edge(network: nn.Module, px: int, method: str) -> int:
    """Places along the edge of the map behind a method, before it is blown up to the image."""
    edges = _edges(network, px)
    return edges[-1] if method == "grad_cam" else min((edge for edge in edges if edge >= FINE_EDGE), default=edges[0])


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Sobel edges of uint8 images (n, px, px, 3): a map that never asked the network."""
    grey = images.mean(axis=3)
    return np.hypot(ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2))


def noise_maps(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Smooth random maps of a shape (n, px, px), about as coarse as a class activation map."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, (0, shape[1] / 12, shape[2] / 12)) * shape[1]


def attribution_rows(
    image_ids: np.ndarray, head: str, method: str, saliency: np.ndarray, scores: pd.DataFrame, regions: np.ndarray
) -> pd.DataFrame:
    """Rows of the attributions table: image_id, head, method, share_<region>, and the columns of `scores`."""
    shares = pd.DataFrame(region_shares(saliency, regions), columns=SHARES)
    shares.insert(0, "image_id", image_ids)
    shares.insert(1, "head", head)
    shares.insert(2, "method", method)
    return pd.concat([shares, scores.reset_index(drop=True)], axis=1)
