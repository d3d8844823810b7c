"""Ways to learn age from the same saved features: one linear layer each, with its loss and how it is decoded.

The features are those of augmented training images (`augmented_features`), because the network has memorised the images
as they are. The network has still seen these identities.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facelib.data.pixels import FaceImages
from facelib.models.age_stages import StageHeads, bin_medians, stage_labels
from facelib.models.augmentation import BatchRandom, augment
from facelib.models.heads import age_quantile
from facelib.models.losses import age_losses
from facelib.models.network import PREDICT_BATCH, as_tensor, pick_device
from facelib.models.training import has_fast_bfloat16
from facelib.schema import MAX_AGE

YEARS = MAX_AGE + 1
STEPS, MOST_PASSES, BATCH, LEARNING_RATE, WEIGHT_DECAY = 1000, 60, 256, 1e-2, 0.05
AGE_CENTRE, AGE_SCALE = 33.0, 20.0  # years, about the middle and the spread of the data sets in use
CORAL_SLOPE = 5.0  # logits per `AGE_SCALE` at the start
CORN_START = 4.0  # logit: a chance of 1 in 55 that a face above k - 1 is not above k
# "Mean-Variance Loss for Deep Age Estimation from a Face" (CVPR 2018).
MEAN_WEIGHT, VARIANCE_WEIGHT = 0.2, 0.05


@torch.no_grad()
def augmented_features(
    network: nn.Module, images: FaceImages | np.ndarray, rows: np.ndarray, views: int, seed: int
) -> np.ndarray:
    """Features of some rows of images, each augmented `views` times as in a long training.

    Returns
    -------
    float16 array (views, rows, width)
    """
    device = pick_device()
    backbone = network.backbone.to(device).eval().to(memory_format=torch.channels_last)
    features = []
    for view in range(views):
        for start in range(0, len(rows), PREDICT_BATCH):
            batch = as_tensor(images[rows[start : start + PREDICT_BATCH]]).to(device)
            generator = torch.Generator().manual_seed((seed * 1_009 + view) * 10_000_019 + start)
            augmented = augment(batch, BatchRandom(generator, len(batch)))
            # The result is in half precision anyway; bfloat16 is almost twice as fast.
            with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16()):
                features.append(backbone(augmented).half().cpu().numpy())
    backbone.to("cpu")
    return np.concatenate(features).reshape(views, len(rows), -1)


def expected_age(logits: torch.Tensor) -> torch.Tensor:
    """Mean of a distribution over the years 0, 1, ...: (n, years) to (n,)."""
    return logits.softmax(dim=1) @ torch.arange(logits.shape[1], dtype=logits.dtype)


def median_age(logits: torch.Tensor) -> torch.Tensor:
    """Median of a distribution over the years 0, 1, ...: (n, years) to (n,)."""
    return age_quantile(logits, 0.5)


def _absolute(outputs: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """Absolute error in tens of years."""
    return (outputs[:, 0] - ages).abs() / 10


def _entropy(logits: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the year."""
    return F.cross_entropy(logits, ages.round().long(), reduction="none")


def _soft_labels(logits: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """The multitask network's loss."""
    return age_losses(logits, ages, AGE_SCALE)


def _mean_variance(logits: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """Cross entropy, squared error of the mean, and variance of the distribution."""
    years, mean = torch.arange(logits.shape[1], dtype=logits.dtype), expected_age(logits)
    variance = (logits.softmax(dim=1) * (years - mean[:, None]) ** 2).sum(dim=1)
    return _entropy(logits, ages) + MEAN_WEIGHT / 2 * (mean - ages) ** 2 + VARIANCE_WEIGHT * variance


def _older_than(ages: torch.Tensor) -> torch.Tensor:
    """Whether each age is above the years 0, 1, ... 115: float (n, 116)."""
    return (ages.round()[:, None] > torch.arange(MAX_AGE)).float()


def _coral(logits: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the questions "older than k years?"."""
    return F.binary_cross_entropy_with_logits(logits, _older_than(ages), reduction="none").mean(dim=1)


def _corn(logits: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """Cross entropy of "older than k, given older than k - 1?", over the questions that arise for each age."""
    older = _older_than(ages)
    arises = torch.cat([torch.ones_like(older[:, :1]), older[:, :-1]], dim=1)
    entropy = F.binary_cross_entropy_with_logits(logits, older, reduction="none")
    return (entropy * arises).sum(dim=1) / MAX_AGE


def _coral_age(logits: torch.Tensor) -> torch.Tensor:
    """Number of years that a face is more likely than not above."""
    return (logits > 0).sum(dim=1).float()


def _corn_age(logits: torch.Tensor) -> torch.Tensor:
    """The same, from products of the conditional probabilities."""
    return (logits.sigmoid().cumprod(dim=1) > 0.5).sum(dim=1).float()


class Years(nn.Linear):
    """One number, in years; its weights are of the size of the other heads' weights."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Ages (n, 1) of features (n, width)."""
        return super().forward(features) * AGE_SCALE + AGE_CENTRE


class Coral(nn.Module):
    """One score for all questions "older than k?", and an offset for each, which keeps the answers in order."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        self.offsets = nn.Parameter((AGE_CENTRE - torch.arange(MAX_AGE)) / AGE_SCALE)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, 116) of features (n, width)."""
        return (self.score(features) + self.offsets) * CORAL_SLOPE


def corn_layer(width: int) -> nn.Linear:
    """A layer that starts with all but certain answers: from even chances no face would be above one year."""
    layer = nn.Linear(width, MAX_AGE)
    nn.init.constant_(layer.bias, CORN_START)
    return layer


@dataclass(frozen=True)
class AgeHead:
    """A layer on features, the loss that trains it, and the ways to read an age from its outputs."""

    layer: Callable[[int], nn.Module]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    decodings: dict[str, Callable[[torch.Tensor], torch.Tensor]]


MEAN_MEDIAN = {"mean": expected_age, "median": median_age}
AGE_HEADS = {
    "absolute error": AgeHead(partial(Years, out_features=1), _absolute, {"": lambda outputs: outputs[:, 0]}),
    "cross entropy": AgeHead(partial(nn.Linear, out_features=YEARS), _entropy, MEAN_MEDIAN),
    # "Age Estimation Using Expectation of Label Distribution Learning" (IJCAI 2018).
    "soft labels (DLDL-v2)": AgeHead(partial(nn.Linear, out_features=YEARS), _soft_labels, MEAN_MEDIAN),
    "mean-variance": AgeHead(partial(nn.Linear, out_features=YEARS), _mean_variance, {"mean": expected_age}),
    # "Rank consistent ordinal regression for neural networks with application to age estimation" (PRL 2020).
    "ordinal (CORAL)": AgeHead(Coral, _coral, {"": _coral_age}),
    # "Deep neural networks for rank-consistent ordinal regression based on conditional probabilities" (PAA 2023).
    "ordinal (CORN)": AgeHead(corn_layer, _corn, {"": _corn_age}),
}


class Standardiser:
    """Features in units of their spread among training features (views, n, width)."""

    def __init__(self, features: torch.Tensor):
        flat = features.flatten(0, 1).float()
        self.mean, self.spread = flat.mean(dim=0), flat.std(dim=0).clamp(min=1e-3)

    def __call__(self, features: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Features (..., width) as float32, standardised."""
        return (torch.as_tensor(features).float() - self.mean) / self.spread


def _fit(
    layer: nn.Module,
    loss: Callable[[torch.Tensor, np.ndarray], torch.Tensor],
    features: torch.Tensor,
    standardise: Standardiser,
    seed: int,
    weights: np.ndarray | None = None,
) -> nn.Module:
    """Train a layer in place on features (views, n, width); `loss` takes outputs and rows and gives a mean."""
    views, n, _ = features.shape
    batch = min(BATCH, max(8, n // 8))
    per_pass = n // batch
    steps = min(STEPS, MOST_PASSES * per_pass)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    share = None if weights is None else weights / weights.sum()
    layer.train()
    for step in range(steps):
        view, at = divmod(step, per_pass)
        if at == 0:
            rows = rng.permutation(n) if share is None else rng.choice(n, n, p=share)
        chosen = rows[at * batch : (at + 1) * batch]
        optimizer.zero_grad()
        loss(layer(standardise(features[view % views, chosen])), chosen).backward()
        optimizer.step()
        schedule.step()
    return layer.eval()


def fit_age_heads(
    features: np.ndarray,
    ages: np.ndarray,
    seed: int,
    names: tuple[str, ...] = tuple(AGE_HEADS),
    weights: np.ndarray | None = None,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Train some of `AGE_HEADS` on augmented features (views, n, width) and known ages (n,) in years.

    With `weights` (n,) rows are drawn in proportion to them; otherwise each is drawn once a pass.

    Returns
    -------
    callable
        From features (m, width) to ages (m,) in years, by head and decoding.
    """
    trained = {}
    tensor, target = torch.from_numpy(np.asarray(features)), torch.as_tensor(ages, dtype=torch.float32)
    standardise = Standardiser(tensor)
    for name in names:

        def loss(outputs: torch.Tensor, rows: np.ndarray, name=name) -> torch.Tensor:
            return AGE_HEADS[name].loss(outputs, target[rows]).mean()

        torch.manual_seed(seed)
        trained[name] = _fit(AGE_HEADS[name].layer(tensor.shape[2]), loss, tensor, standardise, seed, weights)

    @torch.no_grad()
    def predict(new: np.ndarray) -> dict[str, np.ndarray]:
        ready = standardise(new)
        return {
            f"{name}, {way}" if way else name: decode(trained[name](ready)).numpy().clip(0, MAX_AGE).astype(float)
            for name in names
            for way, decode in AGE_HEADS[name].decodings.items()
        }

    return predict


def fit_stage_heads(
    features: np.ndarray, ages: np.ndarray, edges: np.ndarray, overlap: bool, seed: int
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Train both stages of a two-stage model on augmented features; see `fit_age_heads` and `StageHeads`.

    Returns
    -------
    callable
        From features (m, width) to bin_logits and bin_ages, each (m, bins).
    """
    torch.manual_seed(seed)
    tensor = torch.from_numpy(np.asarray(features))
    heads = StageHeads(tensor.shape[2], edges.tolist(), bin_medians(ages, edges).tolist(), overlap)
    labels = stage_labels(ages, edges)
    targets = {name: torch.tensor(labels[name].to_numpy(), dtype=torch.float32) for name in labels}
    standardise = Standardiser(tensor)

    def loss(outputs: dict, rows: np.ndarray) -> torch.Tensor:
        return sum(heads.losses(outputs, {name: value[rows] for name, value in targets.items()}).values())

    _fit(heads, loss, tensor, standardise, seed)

    @torch.no_grad()
    def predict(new: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in heads(standardise(new)).items()}

    return predict
