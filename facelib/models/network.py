"""The multitask network: one ResNet with an age, a gender and an ethnicity head."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from facelib.data import FaceImages
from facelib.errors import FacelibError
from facelib.schema import ETHNICITIES, MAX_AGE

ARCHITECTURES = {
    "resnet18": (torchvision.models.resnet18, torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": (torchvision.models.resnet34, torchvision.models.ResNet34_Weights.IMAGENET1K_V1),
}
# Mean and standard deviation of ImageNet's colours, which torchvision's weights expect.
COLOUR_MEAN, COLOUR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREDICT_BATCH = 256


class StartWeightsError(FacelibError):
    """Start weights that cannot be had or do not fit."""


def pick_device() -> torch.device:
    """The first CUDA device where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, px, px, 3) to float32 (n, 3, px, px), 0 to 1, in channels-last memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


class Backbone(nn.Module):
    """A torchvision ResNet without its classifier: images 0 to 1, (n, 3, H, W), to features (n, width)."""

    def __init__(self, architecture: str = "resnet18"):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise StartWeightsError(f"there is no architecture {architecture!r}: choose {' or '.join(ARCHITECTURES)}")
        self.architecture = architecture
        self.resnet = ARCHITECTURES[architecture][0](weights=None)
        self.width = self.resnet.fc.in_features
        self.resnet.fc = nn.Identity()
        self.register_buffer("mean", torch.tensor(COLOUR_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(COLOUR_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images."""
        return self.resnet((images - self.mean) / self.std)

    def load_start_weights(self, start: str) -> None:
        """Load `imagenet` (torchvision's download), a state dict in a file, or nothing for `none`.

        Raises
        ------
        StartWeightsError
            If the download or the file fails; the message says how to go on without.
        """
        if start == "none":
            return
        try:
            if start == "imagenet":
                state = ARCHITECTURES[self.architecture][1].get_state_dict(progress=False, check_hash=True)
            elif start.endswith(".safetensors"):
                state = load_file(start)
            else:
                state = torch.load(start, map_location="cpu", weights_only=True)
            state = {key.removeprefix("backbone.resnet."): value for key, value in state.items()}
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise StartWeightsError(
                f"start weights {start!r} cannot be loaded ({type(error).__name__}: {reason}): "
                "give a local file, or start_weights none to train from scratch"
            ) from error
        own = self.resnet.state_dict()
        fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
        # A deeper network's first blocks would fit a shallower one's.
        surplus = {key for key in state if key.startswith("layer")} - set(own)
        if set(fitting) != set(own) or surplus:
            raise StartWeightsError(
                f"start weights {start!r} fit {len(fitting)} of {len(own)} tensors of {self.architecture}, with "
                f"{len(surplus)} to spare: they belong to another architecture"
            )
        self.resnet.load_state_dict(fitting)


class FaceNet(nn.Module):
    """One backbone with an age, a gender and an ethnicity output.

    Parameters
    ----------
    architecture : str
        One of `ARCHITECTURES`.
    age_mean, age_std : float
        Years; the age output is linear in units of `age_std` around `age_mean`.
    """

    def __init__(self, architecture: str = "resnet18", age_mean: float = 33.0, age_std: float = 20.0):
        super().__init__()
        self.backbone = Backbone(architecture)
        self.age_mean, self.age_std = age_mean, age_std
        self.dropout = nn.Dropout(0.2)
        self.heads = nn.ModuleDict(
            {
                "age": nn.Linear(self.backbone.width, 1),
                "gender": nn.Linear(self.backbone.width, 1),
                "ethnicity": nn.Linear(self.backbone.width, len(ETHNICITIES)),
            }
        )

    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of features (n, width): age (n,) in years, gender logit (n,), ethnicity logits (n, 5)."""
        return {
            "age": self.heads["age"](features)[:, 0] * self.age_std + self.age_mean,
            "gender": self.heads["gender"](features)[:, 0],
            "ethnicity": self.heads["ethnicity"](features),
        }

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of images (n, 3, H, W), 0 to 1; see `outputs`."""
        return self.outputs(self.dropout(self.backbone(images)))

    def config(self) -> dict:
        """What the constructor needs to make this network again."""
        return {"architecture": self.backbone.architecture, "age_mean": self.age_mean, "age_std": self.age_std}


def save_network(network: nn.Module, path: Path, **facts) -> None:
    """Save weights as safetensors, with the network's configuration and further facts in its header."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(state, path, metadata={"config": json.dumps(network.config() | facts)})


def load_network(path: Path, make: Callable[..., nn.Module] = FaceNet) -> tuple[nn.Module, dict]:
    """The network saved at `path`, in evaluation mode, and the facts saved with it.

    Raises
    ------
    FacelibError
        If the file is no network of this kind.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            facts = dict(json.loads((opened.metadata() or {})["config"]))
        shape = {key: facts.pop(key) for key in list(make().config())}
        network = make(**shape)
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
        )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise FacelibError(f"{path} is not a network saved by facelib: {reason}") from error
    return network.eval(), facts


@torch.no_grad()
def predict_outputs(network: nn.Module, images: FaceImages | np.ndarray, flip: bool = True) -> dict[str, np.ndarray]:
    """Outputs and features of all images, averaged over each image and its mirror image.

    Parameters
    ----------
    network : nn.Module
        Has `backbone` and `outputs`.
    images : FaceImages, or uint8 array (n, px, px, 3)
    flip : bool
        Average over the mirror image.

    Returns
    -------
    dict of float32 arrays
        `features` (n, width) and each output of the network; ages are clipped to 0-116 years.
    """
    device = pick_device()
    network = network.to(device).eval().to(memory_format=torch.channels_last)
    collected: dict[str, list] = {}
    for start in range(0, len(images), PREDICT_BATCH):
        batch = as_tensor(images[np.arange(start, min(start + PREDICT_BATCH, len(images)))]).to(device)
        features = network.backbone(batch)
        if flip:
            features = (features + network.backbone(batch.flip(3))) / 2
        for name, value in {"features": features, **network.outputs(features)}.items():
            collected.setdefault(name, []).append(value.float().cpu().numpy())
    network.to("cpu")
    joined = {name: np.concatenate(parts) for name, parts in collected.items()}
    if "age" in joined:
        joined["age"] = joined["age"].clip(0, MAX_AGE)
    return joined


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1 / (1 + np.exp(-logit))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
