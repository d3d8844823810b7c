"""The multitask network: one backbone with an output layer for each attribute."""

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from facelib.data.dlib_files import WeightsError
from facelib.data.pixels import FaceImages
from facelib.devices import keep_freed_memory, pick_device
from facelib.embedding import network as face_network
from facelib.errors import FacelibError
from facelib.models import efficientnet
from facelib.models.batches import as_tensor
from facelib.models.heads import HEADS
from facelib.models.losses import known_mean
from facelib.models.resnet import ResNet
from facelib.runs import runs_root
from facelib.schema import MAX_AGE, Attribute, YearsAttribute, attribute_from_dict

# Mean and standard deviation of ImageNet's colours, which torchvision's weights expect.
COLOUR_MEAN, COLOUR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREDICT_BATCH = 64  # images; memory grows with it


@dataclass(frozen=True)
class Architecture:
    """A way to make a backbone, and its published weights.

    `make()` returns a network whose layer `output` is left out; `layer1` to `layer4` are among its stages. It expects
    (image - mean) / std of images 0 to 1. `starts` are functions to state dicts by name. `bfloat16` says whether
    products in it make a training faster on processors that have them.
    """

    make: Callable[[], nn.Module]
    output: str = "fc"
    mean: tuple[float, ...] = COLOUR_MEAN
    std: tuple[float, ...] = COLOUR_STD
    starts: dict[str, Callable[[], dict]] = field(default_factory=dict)
    bfloat16: bool = True


def _resnet(name: str, *blocks: int) -> Architecture:
    def imagenet() -> dict:
        from torchvision import models  # seconds to load

        return models.get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(progress=False, check_hash=True)

    return Architecture(lambda: ResNet(blocks), starts={"imagenet": imagenet})


ARCHITECTURES = {
    "resnet18": _resnet("resnet18", 2, 2, 2, 2),
    "resnet34": _resnet("resnet34", 3, 4, 6, 3),
    # It takes images 0 to 255 and subtracts its own mean.
    "face_resnet": Architecture(
        face_network.FaceRecognitionNet, "projection", (0.0, 0.0, 0.0), (1 / 255,) * 3,
        {"face": lambda: face_network.load_face_network().state_dict()},
    ),
    # Filters of single channels are slower in bfloat16 on a processor.
    "efficientnet_lite0": Architecture(
        efficientnet.EfficientNetLite0, mean=efficientnet.COLOUR_MEAN, std=efficientnet.COLOUR_STD,
        starts={"imagenet": efficientnet.imagenet_weights}, bfloat16=False,
    ),
}  # fmt: skip


class StartWeightsError(FacelibError):
    """Start weights that cannot be had or do not fit."""


def scale(images: torch.Tensor, px: int) -> torch.Tensor:
    """Images (n, 3, H, W) scaled to edge px without aliasing."""
    return F.interpolate(images.float(), (px, px), mode="bilinear", antialias=True, align_corners=False)


class Backbone(nn.Module):
    """One of `ARCHITECTURES` without its output layer: images 0 to 1, (n, 3, H, W), to features (n, width).

    The stem of a torchvision ResNet is `pooled` (its 7 x 7 convolution of stride 2, and pooling) or `small` (a 3 x 3
    convolution of stride 2 and no pooling, which keeps twice as many places along each edge). Images larger than
    `input_px` are scaled to that edge, unless it is 0; `grey` turns them grey.
    """

    def __init__(self, architecture: str = "resnet18", stem: str = "pooled", input_px: int = 0, grey: bool = False):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise StartWeightsError(f"there is no architecture {architecture!r}: choose {' or '.join(ARCHITECTURES)}")
        self.architecture, self.stem, self.input_px, self.grey = architecture, stem, input_px, grey
        made = ARCHITECTURES[architecture]
        self.resnet, self.bfloat16 = made.make(), made.bfloat16
        self.width = getattr(self.resnet, made.output).in_features
        setattr(self.resnet, made.output, nn.Identity())
        if stem == "small":
            if not hasattr(self.resnet, "conv1"):
                raise StartWeightsError(f"{architecture} has one stem: leave out the setting stem")
            self.resnet.conv1 = nn.Conv2d(3, self.resnet.conv1.out_channels, 3, stride=2, padding=1, bias=False)
            self.resnet.maxpool = nn.Identity()
        self.register_buffer("mean", torch.tensor(made.mean, device="cpu").view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(made.std, device="cpu").view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if 0 < self.input_px < images.shape[-1]:
            images = scale(images, self.input_px)
        if self.grey:
            images = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        return self.resnet((images - self.mean) / self.std)

    def config(self) -> dict:
        """The arguments that make this backbone again."""
        return {"architecture": self.architecture, "stem": self.stem, "input_px": self.input_px, "grey": self.grey}

    def stages(self) -> list[nn.Module]:
        """The parts that have parameters, in the order from the input to the features."""
        return [part for part in self.resnet.children() if next(part.parameters(), None) is not None]

    def load_start_weights(self, start: str) -> None:
        """Load published weights by name, a state dict in a file, a run's model, or nothing for `none`.

        Raises
        ------
        StartWeightsError
            If they cannot be had, or belong to another architecture.
        WeightsError
            If the package with the weights of the face network is missing or damaged.
        """
        if start == "none":
            return
        named = {name for made in ARCHITECTURES.values() for name in made.starts}
        starts = ARCHITECTURES[self.architecture].starts
        if start in named - set(starts):
            raise StartWeightsError(f"start weights {start!r} are of another architecture than {self.architecture}")
        of_run = runs_root() / Path(start).name / "checkpoints" / "model.safetensors"
        path = str(of_run) if Path(start).name == start and not Path(start).exists() and of_run.exists() else start
        try:
            if start in starts:
                state = starts[start]()
            elif path.endswith(".safetensors"):
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
            state = {key.removeprefix("backbone.resnet."): value for key, value in state.items()}
        except WeightsError:
            raise
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise StartWeightsError(
                f"start weights {start!r} cannot be loaded ({type(error).__name__}: {reason}): "
                "give a local file or the name of a run, or start_weights none to train from scratch"
            ) from error
        wanted = self.resnet.state_dict()
        fitting = {key: value for key, value in state.items() if key in wanted and value.shape == wanted[key].shape}
        # A deeper network's first blocks would fit a shallower one's.
        surplus = {key for key in state if key.startswith("layer")} - set(wanted)
        if set(fitting) != set(wanted) or surplus:
            raise StartWeightsError(
                f"start weights {start!r} fit {len(fitting)} of {len(wanted)} tensors of {self.architecture}, with "
                f"{len(surplus)} left over: they belong to another architecture"
            )
        self.resnet.load_state_dict(fitting)


class FaceNet(nn.Module):
    """One backbone with an output layer for each attribute; see `Backbone` and `heads.YearsHead` for the settings."""

    def __init__(
        self,
        attributes: Iterable[Attribute], architecture: str = "resnet18", stem: str = "pooled", input_px: int = 0,
        grey: bool = False, age_head: str = "distribution", age_mean: float = 33.0, age_std: float = 20.0,
        dropout: float = 0.2,
    ):  # fmt: skip
        super().__init__()
        self.attributes = tuple(attributes)
        self.backbone = Backbone(architecture, stem, input_px, grey)
        self.ages = {"age_head": age_head, "age_mean": age_mean, "age_std": age_std}
        self.dropout = nn.Dropout(dropout)
        width = self.backbone.width
        self.heads = nn.ModuleDict({a.name: HEADS[a.kind](a, width, *self.ages.values()) for a in self.attributes})

    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of features (n, width) by name: years (n,) and logits (n, classes) of each attribute, and more."""
        return {name: value for head in self.heads.values() for name, value in head.outputs(features).items()}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of images (n, 3, H, W), 0 to 1; see `outputs`."""
        return self.outputs(self.dropout(self.backbone(images)))

    def losses(self, outputs: dict, batch: dict, label_smoothing: float = 0.0) -> dict[str, torch.Tensor]:
        """Loss of each attribute by name, the mean over the rows of a batch that are labelled with it."""
        return {
            name: known_mean(head.losses(outputs, batch, label_smoothing), head.known(batch))
            for name, head in self.heads.items()
        }

    def config(self) -> dict:
        """The arguments that make this network again."""
        attributes = [attribute.to_dict() for attribute in self.attributes]
        return {"attributes": attributes, **self.backbone.config(), **self.ages, "dropout": self.dropout.p}


def save_network(network: nn.Module, path: Path, **facts) -> None:
    """Save weights as safetensors, with the network's configuration and further facts in its header."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(state, path, metadata={"config": json.dumps(network.config() | facts)})


class Unfilled(TorchFunctionMode):
    """Networks made here get no random weights, which a file replaces.

    On the device `meta` they would get none either, but its first use loads the compiler, for seconds.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def load_network(path: Path, make: Callable[..., nn.Module] = FaceNet) -> tuple[nn.Module, dict]:
    """The network saved at `path`, in evaluation mode, and the facts saved with it; else FacelibError."""
    try:
        with safe_open(path, framework="pt") as opened:
            facts = dict(json.loads((opened.metadata() or {})["config"]))
        wanted = inspect.signature(make).parameters
        if missing := [key for key in wanted if key not in facts]:
            raise ValueError(f"its header lacks {', '.join(missing)}")
        config = {key: facts.pop(key) for key in wanted}
        if "attributes" in config:
            config["attributes"] = [attribute_from_dict(stored) for stored in config["attributes"]]
        with Unfilled():
            network = make(**config)
        state = {key: v.float() if v.is_floating_point() else v for key, v in load_file(path).items()}
        network.load_state_dict(state, assign=True)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise FacelibError(f"{path} is not a network saved by facelib: {reason}") from error
    return network.eval(), facts


@torch.no_grad()
def predict_outputs(network: nn.Module, images: FaceImages | np.ndarray, flip: bool = True) -> dict[str, np.ndarray]:
    """Outputs of uint8 images (n, px, px, 3) by name, float32, averaged over each image and its mirror image.

    The network has `backbone`, `outputs` and `attributes`. Beside its outputs there are the `features` (n, width); ages
    are clipped to 0-116 years.
    """
    keep_freed_memory()
    device = pick_device()
    network = network.to(device).eval().to(memory_format=torch.channels_last)
    # Filled in place: results kept between the batches would leave freed memory in pieces too small for the next batch.
    joined: dict[str, np.ndarray] = {}
    for start in range(0, max(1, len(images)), PREDICT_BATCH):  # of no image, outputs of the right shapes
        rows = np.arange(start, min(start + PREDICT_BATCH, len(images)))
        batch = as_tensor(images[rows]).to(device)
        features = network.backbone(batch)
        if flip:
            features = (features + network.backbone(batch.flip(3))) / 2
        for name, value in {"features": features, **network.outputs(features)}.items():
            if name not in joined:
                joined[name] = np.empty((len(images), *value.shape[1:]), np.float32)
            joined[name][rows] = value.float().cpu().numpy()
    network.to("cpu")
    for attribute in network.attributes:
        if isinstance(attribute, YearsAttribute):
            joined[attribute.name] = joined[attribute.name].clip(0, MAX_AGE)
    return joined
