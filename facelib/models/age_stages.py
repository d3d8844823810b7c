"""Two-stage age: a classifier of coarse age bins, then a regressor for each bin.

Both stages are fine-tuned together with the backbone, on augmented images: layers fitted to saved features of training
images would see features that the network has memorised, and would look better than they are.
"""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import nn

from facelib.config import Settings
from facelib.data.pixels import FaceImages
from facelib.errors import FacelibError
from facelib.models.batches import Batches
from facelib.models.losses import known_mean
from facelib.models.network import Backbone, FaceNet
from facelib.schema import MAX_AGE


class TooFewAges(FacelibError):
    """Training ages that cannot be cut into bins."""


def age_bin_edges(ages: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges of equal-count bins, in years; a bin holds ages from its lower edge up to below the next.

    Whole-year labels tie: each edge is the age that comes closest to its share, and edges that coincide are merged.

    TooFewAges if fewer than two bins would be left.

    Examples
    --------
    >>> age_bin_edges(np.array([1, 1, 1, 20, 30, 40]), 3).tolist()
    [20.0, 30.0]
    """
    present, counts = np.unique(np.asarray(ages, float), return_counts=True)
    if len(present) < 2:
        raise TooFewAges(f"{len(present)} different training ages cannot be cut into {bins} bins")
    below = np.cumsum(counts)[:-1] / counts.sum()  # share of ages below each later age, the possible edges
    wanted = np.arange(1, bins) / bins
    return np.unique(present[1:][np.abs(below[:, None] - wanted).argmin(axis=0)])


def to_bin(ages: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin number of each age."""
    return np.searchsorted(edges, ages, side="right")


def bin_names(edges: np.ndarray) -> list[str]:
    """Names by the whole years within, such as `0-19`, `20-34`, `35+`.

    Examples
    --------
    >>> bin_names(np.array([16.5, 26.0]))
    ['0-16', '17-25', '26+']
    """
    firsts = [0, *(math.ceil(edge) for edge in edges)]
    return [f"{first}-{after - 1}" for first, after in pairwise(firsts)] + [f"{firsts[-1]}+"]


class StageHeads(nn.Module):
    """A classifier of age bins and one age regressor per bin, on features (n, width).

    `edges` and `medians` are the inner bin edges and each bin's median training age, where its regressor starts, years.
    With `overlap` each regressor also learns and predicts ages up to its neighbours' medians, so that a face sent to a
    neighbouring bin can still get its age.
    """

    def __init__(self, width: int, edges, medians, overlap: bool = False):
        super().__init__()
        self.bins = nn.Linear(width, len(medians))
        self.regressors = nn.ModuleList([nn.Linear(width, 1) for _ in medians])
        inner_low, inner_high = (medians[:-1], medians[1:]) if overlap else (edges, edges)
        limits = {"low": [0.0, *inner_low], "high": [*inner_high, MAX_AGE], "centre": medians}
        for name, values in limits.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32, device="cpu"), persistent=False)

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of the bins (n, k), and each bin's estimate (n, k) in years, limited to the ages of its regressor."""
        offset = torch.cat([regressor(features) for regressor in self.regressors], dim=1)
        age = self.centre + offset * (self.high - self.low) / 4
        # Limited in value and not in gradient: a regressor that overshot would never learn again.
        limited = torch.clamp(age, self.low, self.high).detach() + (age - age.detach())
        return {"bin_logits": self.bins(features), "bin_ages": limited}

    def losses(self, outputs: dict, batch: dict) -> dict[str, torch.Tensor]:
        """Cross entropy of the bin, and absolute error of the regressors whose ages hold the label, in tens of years.

        A batch holds age (years, nan where unknown) and bin (-1 where unknown), each (n,).
        """
        known = batch["bin"] >= 0
        age = batch["age"].nan_to_num()[:, None]
        # A bin holds its lower edge and not its upper one, but for the last, which has no end.
        ends = torch.cat([self.high[:-1], self.high[-1:] + 1])
        taught = ((age >= self.low) & (age < ends)).float()
        error = (taught * (outputs["bin_ages"] - age).abs()).sum(dim=1) / taught.sum(dim=1).clamp(min=1) / 10
        entropy = F.cross_entropy(outputs["bin_logits"], batch["bin"].clamp(min=0).long(), reduction="none")
        return {"bin": known_mean(entropy, known), "regressor": known_mean(error, known)}


class AgeStagesNet(nn.Module):
    """A backbone, made from its arguments, with `StageHeads`."""

    attributes: tuple = ()  # it predicts bins, of one attribute alone

    def __init__(self, backbone: dict | None = None, edges=(30.0,), medians=(20.0, 45.0)):
        super().__init__()
        self.backbone = Backbone(**(backbone or {}))
        self.edges, self.medians = tuple(edges), tuple(medians)
        self.dropout = nn.Dropout(0.2)
        self.heads = StageHeads(self.backbone.width, self.edges, self.medians)

    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of features (n, width); see `StageHeads`."""
        return self.heads(features)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of images (n, 3, H, W), 0 to 1."""
        return self.outputs(self.dropout(self.backbone(images)))

    def config(self) -> dict:
        """The arguments that make this network again."""
        return {"backbone": self.backbone.config(), "edges": self.edges, "medians": self.medians}


def train_age_stages(
    start: FaceNet, images: FaceImages, ages: np.ndarray, train_rows, validation_rows, settings: Settings, folder: Path
) -> tuple[AgeStagesNet, pd.DataFrame]:
    """Fine-tune both stages from a copy of `start`'s backbone on ages (n,), nan where unknown; see `fit_in_folder`."""
    from facelib.models.training import FaceModule, fit_in_folder  # lightning, which a prediction does not need

    training_ages = ages[train_rows][np.isfinite(ages[train_rows])]
    edges = age_bin_edges(training_ages, settings.stages.age_bins)
    medians = bin_medians(training_ages, edges)
    torch.manual_seed(settings.seed)
    network = AgeStagesNet(start.backbone.config(), edges.tolist(), medians.tolist())
    network.backbone.load_state_dict(start.backbone.state_dict())
    labels = stage_labels(ages, edges)
    # A fifth of the learning rate and full augmentation: the backbone adapts, without starting over or memorising.
    training, epochs = settings.training.model_copy(update={"augmented_epochs": 1}), settings.stages.stage_epochs
    module = FaceModule(network, network.heads.losses, training, settings.seed, epochs, training.learning_rate / 5)
    return network, fit_in_folder(module, Batches(images, labels), train_rows, validation_rows, folder)


def stage_labels(ages: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    """The targets of both stages: age in years, and bin, -1 where the age is unknown."""
    return pd.DataFrame({"age": ages, "bin": np.where(np.isfinite(ages), to_bin(ages, edges), -1)})


def bin_medians(ages: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Median age of each bin, years."""
    which = to_bin(ages, edges)
    return np.array([np.median(ages[which == k]) for k in range(len(edges) + 1)])


def route(outputs: dict[str, np.ndarray]) -> pd.DataFrame:
    """Estimates of a two-stage network from its outputs; ages in years.

    p_bin_0 ..., age_bin_0 ... (each bin's regressor), predicted_bin, age_routed (the likeliest bin's regressor),
    age_soft (all, weighted by the bins' probabilities).
    """
    probabilities = softmax(outputs["bin_logits"].astype(float), axis=1)
    predicted = probabilities.argmax(axis=1)
    table = pd.DataFrame(probabilities).add_prefix("p_bin_")
    table = table.join(pd.DataFrame(outputs["bin_ages"].astype(float)).add_prefix("age_bin_"))
    routed = outputs["bin_ages"][np.arange(len(predicted)), predicted].astype(float)
    soft = (probabilities * outputs["bin_ages"]).sum(axis=1)
    return table.assign(predicted_bin=predicted, age_routed=routed, age_soft=soft)


def oracle_ages(bin_ages: np.ndarray, y_true: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Each row's estimate by the regressor of its TRUE bin: not a prediction, since it looks at the label."""
    return bin_ages[np.arange(len(y_true)), to_bin(y_true, edges)]


def no_image_oracle_ages(y_true: np.ndarray, edges: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """The median training age of each row's TRUE bin, years: it looks at the label and at no image."""
    return np.asarray(medians)[to_bin(y_true, edges)]
