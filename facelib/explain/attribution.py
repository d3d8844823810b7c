"""What is explained: years or class probabilities of a network, for a sample of faces; and class activation maps.

A map is not a reason: each has to beat maps that never query the network, see `methods.BASELINES`.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from pytorch_grad_cam import GradCAM, LayerCAM
from scipy import ndimage
from torch import nn
from torch.fx.experimental.optimization import fuse

from facelib.data.ingest import load_images
from facelib.devices import processor_has_bfloat16
from facelib.metrics import whole_years
from facelib.models.age_stages import AgeStagesNet, to_bin
from facelib.models.network import FaceNet, as_tensor, load_network, predict_outputs
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute, ClassAttribute
from facelib.statistics import YEARS

Maps = dict[tuple[str, str], np.ndarray]  # by output and method
FINE_EDGE = 12  # places along the edge of a map that can separate an eye from a brow
CORRECT_YEARS = 5  # an estimate this close counts as correct, as in CS@5


@dataclass(frozen=True)
class Explained:
    """One number of a network that is explained: years, or the probability of a class."""

    name: str  # the attribute; with `_bin` for the two-stage bin, with the class where there are more than two
    attribute: Attribute
    network: nn.Module  # called with images (n, 3, px, px), returns outputs by name
    output: str  # which of them: years (n,), or logits of classes (n, k)
    classes: np.ndarray | None = None  # int (n,), the class explained for each image; None for years

    @property
    def family(self) -> str:
        """The attribute, where all its classes are explained: their probabilities sum to 1; else the name."""
        return self.output if self.name.startswith(f"{self.output}_") else self.name

    @property
    def title(self) -> str:
        """The name as text, with a class as its attribute writes it."""
        classes = dict(zip(self.attribute.columns, getattr(self.attribute, "classes", ()), strict=False))
        chosen = classes.get(f"p_{self.name}")
        return f"{self.output} {chosen}" if chosen else self.name.replace("_", " ")

    @property
    def unit(self) -> str:
        return YEARS if self.classes is None else "probability"

    def at(self, rows) -> "Explained":
        return self if self.classes is None else replace(self, classes=self.classes[rows])

    def logits(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Years (n, 1), or logits of the classes (n, k)."""
        return outputs[self.output][:, None] if self.classes is None else outputs[self.output]

    def number(self, outputs: dict[str, torch.Tensor]) -> np.ndarray:
        """The explained number of each image: years, or the probability of its class."""
        logits = self.logits(outputs).float()
        if self.classes is None:
            return logits[:, 0].numpy()
        return logits.softmax(dim=1).numpy()[np.arange(len(logits)), self.classes]

    def correct(self, images: np.ndarray, faces: pd.DataFrame) -> np.ndarray:
        """Whether each prediction agrees with the label of a row of a faces table: 1, 0, or nan where it is unknown.

        Years agree within `CORRECT_YEARS`, or in whole years with a band.
        """
        predicted, attribute = predict_outputs(self.network, images, flip=False)[self.output], self.attribute
        if self.classes is not None and not isinstance(attribute, ClassAttribute):
            right = predicted.argmax(axis=1) == to_bin(faces[attribute.name], self.network.edges)
            return np.where(attribute.is_known(faces[attribute.name]), np.asarray(right, float), np.nan)
        if self.classes is None:
            predicted, least = (predicted, CORRECT_YEARS) if attribute.exact else (whole_years(predicted), 0)
        else:
            predicted, least = predicted.argmax(axis=1), 0
        errors = attribute.errors(faces, pd.Series(predicted, faces.index, float)).to_numpy()
        return np.where(np.isnan(errors), np.nan, np.abs(errors) <= least)


def explained_outputs(
    network: FaceNet, stages: AgeStagesNet | None, images: np.ndarray, attributes: tuple[Attribute, ...]
) -> list[Explained]:
    """Years, with `stages` also the predicted two-stage bin; of two classes the predicted, of more every one."""
    predicted, explained = predict_outputs(network, images, flip=False), []
    for attribute in attributes:
        name = attribute.name
        if not isinstance(attribute, ClassAttribute):
            explained.append(Explained(name, attribute, network, name))
            if stages is not None:
                bins = predict_outputs(stages, images, flip=False)["bin_logits"].argmax(axis=1)
                explained.append(Explained(f"{name}_bin", attribute, stages, "bin_logits", bins))
        elif len(attribute.classes) == 2:
            explained.append(Explained(name, attribute, network, name, predicted[name].argmax(axis=1)))
        else:
            for code, column in enumerate(attribute.columns):
                codes = np.full(len(images), code)
                explained.append(Explained(column.removeprefix("p_"), attribute, network, name, codes))
    return explained


@dataclass(frozen=True)
class Sample:
    """Faces of a run and what is explained of them."""

    run: RunFolder
    outputs: list[Explained]
    images: np.ndarray  # uint8 (n, px, px, 3)
    labels: pd.DataFrame  # rows of the faces table, image_id as index
    backdrop: np.ndarray  # uint8 (px, px, 3), the average of all faces that could be drawn; grey where those are few

    @property
    def px(self) -> int:
        return self.images.shape[1]

    def head(self, n: int) -> "Sample":
        outputs = [output.at(slice(n)) for output in self.outputs]
        return replace(self, outputs=outputs, images=self.images[:n], labels=self.labels.iloc[:n])

    def correct(self) -> pd.DataFrame:
        """`Explained.correct` of each output, image_id as index."""
        columns = {output.name: output.correct(self.images, self.labels) for output in self.outputs}
        return pd.DataFrame(columns, index=self.labels.index)


def load_sample(run: RunFolder, min_averaged: int) -> Sample:
    """Validation and calibration faces of a run, drawn at random, one of each group of copies.

    The backdrop averages at least `min_averaged` faces.
    """
    faces, splits, settings = run.load_table("faces"), run.load_table("splits"), run.settings
    images, stages = load_images(run, faces), None
    network, _ = load_network(run.require("checkpoints/model.safetensors"))
    if AGE in run.learned:
        stages, _ = load_network(run.require("checkpoints/age_stages.safetensors"), AgeStagesNet)
    held_out = np.flatnonzero(splits["split"].isin(["validation", "calibration"]) & splits["representative"])
    rows = np.random.default_rng(settings.seed).permutation(held_out)[: settings.explanation.explained_images]
    backdrop = np.full((images.px, images.px, 3), 128, np.uint8)
    if len(held_out) >= min_averaged:
        backdrop = images[held_out].astype(float).mean(axis=0).round().astype(np.uint8)
    outputs = explained_outputs(network, stages, images[rows], run.learned)
    return Sample(run, outputs, images[rows], faces.iloc[rows].set_index("image_id"), backdrop)


@torch.inference_mode()
def network_outputs(network: nn.Module, images: np.ndarray, batch: int = 64) -> dict[str, torch.Tensor]:
    """Outputs of uint8 images (n, px, px, 3), computed in bfloat16 where the processor is built for it."""
    network, starts = network.eval().to(memory_format=torch.channels_last), range(0, len(images), batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=processor_has_bfloat16()):
        parts = [network(as_tensor(images[start : start + batch])) for start in starts]
    return {name: torch.cat([part[name].float() for part in parts]) for name in parts[0]}


def folded(explained: list[Explained]) -> list[Explained]:
    """The same of copies of the networks whose batch norms are folded into the convolutions, for many calls."""
    copies = {}
    for network in {id(output.network): output.network for output in explained}.values():
        # In the layout of `network_outputs` from here on: several threads may call it with one copy.
        copied = copies[id(network)] = copy.deepcopy(network).eval().to(memory_format=torch.channels_last)
        if hasattr(copied, "backbone"):
            if any(isinstance(module, nn.BatchNorm2d) for module in copied.modules()):
                copied.backbone.resnet = fuse(copied.backbone.resnet)
            if processor_has_bfloat16():
                copied.backbone.resnet.to(torch.bfloat16)
    return [replace(output, network=copies[id(output.network)]) for output in explained]


def explained_numbers(explained: list[Explained], images: np.ndarray) -> np.ndarray:
    """The explained numbers of images: float array (outputs, n). Each network is called once."""
    networks = {id(output.network): output.network for output in explained}
    results = {key: network_outputs(network, images) for key, network in networks.items()}
    return np.stack([output.number(results[id(output.network)]) for output in explained])


class _Target(nn.Module):
    """The explained number per image (n, 1), as grad-cam expects it."""

    def __init__(self, output: Explained):
        super().__init__()
        self.network, self.output = output.network, output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits, classes = self.output.logits(self.network(images)), self.output.classes
        return logits if classes is None else logits.gather(1, torch.as_tensor(classes)[:, None])


def _cam(make, output: Explained, stage: int, images: np.ndarray, batch: int) -> np.ndarray:
    network, maps = copy.deepcopy(output.network).eval().requires_grad_(False), []
    layer = getattr(network.backbone.resnet, f"layer{stage}")
    list(layer.parameters())[-1].requires_grad_(True)  # gradients down to this layer's output and no further
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        with make(model=_Target(replace(output.at(part), network=network)), target_layers=[layer]) as cam:
            maps.append(cam(as_tensor(images[part]), targets=[lambda value: value[0]] * len(images[part])))
    return np.concatenate(maps)


def grad_cam(output: Explained, images: np.ndarray, batch: int = 50) -> np.ndarray:
    """Grad-CAM (ICCV 2017) of the last layer for uint8 images (n, px, px, 3): float array (n, px, px), 0 to 1."""
    return _cam(GradCAM, output, 4, images, batch)


def layer_cam(output: Explained, images: np.ndarray, batch: int = 50) -> np.ndarray:
    """LayerCAM (TIP 2021) of `fine_stage`, averaged over 2 x 2 places: as `grad_cam`.

    Averaging removes the lattice that the gradients of the convolutions of stride 2 above that stage form.
    """
    stage, edge = fine_stage(output.network, images.shape[1])
    width = 2 * images.shape[1] // edge
    maps = ndimage.uniform_filter(_cam(LayerCAM, output, stage, images, batch), (1, width, width), mode="nearest")
    peak = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(peak > 0, peak, 1)


@torch.no_grad()
def stage_edges(network: nn.Module, px: int) -> list[int]:
    """Places along the edge of the maps of layer1 to layer4, for images of edge px, before they are scaled to it."""
    edges, backbone = [], copy.deepcopy(network.backbone).eval()
    for stage in range(1, 5):
        layer = getattr(backbone.resnet, f"layer{stage}")
        layer.register_forward_hook(lambda _, __, maps: edges.append(maps.shape[-1]))
    backbone(torch.zeros(1, 3, px, px))
    return edges


def fine_stage(network: nn.Module, px: int) -> tuple[int, int]:
    """Number and edge of the deepest residual stage whose map has `FINE_EDGE` places along its edge, else the first."""
    edges = stage_edges(network, px)
    stage = max((number for number, edge in enumerate(edges) if edge >= FINE_EDGE), default=0)
    return stage + 1, edges[stage]


def titles(names, explained: list[Explained]) -> list[str]:
    """Names of outputs as text; the classes of an attribute are one where all of them are named.

    Examples
    --------
    >>> who = ClassAttribute("who", classes=("A", "B", "C"))
    >>> outputs = [Explained(column.removeprefix("p_"), who, None, "who") for column in who.columns]
    >>> titles(["who_a", "who_b", "who_c"], outputs), titles(["who_b"], outputs)
    (['every who'], ['who B'])
    """
    families: dict[str, list[Explained]] = {}
    for output in explained:
        families.setdefault(output.family, []).append(output)
    texts = []
    for family, members in families.items():
        named = [output.title for output in members if output.name in set(names)]
        texts += [f"every {family}".replace("_", " ")] if len(named) == len(members) > 1 else named
    return texts
