"""Ways to learn age from the same saved features: one linear layer each, with its loss and how it is decoded.

The features are those of augmented training images: the network has memorised the images as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facelib.data.pixels import FaceImages
from facelib.devices import has_fast_bfloat16, one_thread, pick_device
from facelib.models.age_stages import StageHeads, bin_medians, stage_labels
from facelib.models.augmentation import BatchRandom, augment
from facelib.models.heads import age_quantile
from facelib.models.losses import age_losses
from facelib.models.network import as_tensor
from facelib.schema import MAX_AGE

YEARS = MAX_AGE + 1
STEPS, MOST_PASSES, BATCH, LEARNING_RATE, WEIGHT_DECAY = 1000, 60, 256, 1e-2, 0.05
AGE_CENTRE, AGE_SCALE = 33.0, 20.0  # years, about the middle and the spread of the data sets in use
CORAL_SLOPE = 5.0  # logits per `AGE_SCALE` at the start
CORN_START = 4.0  # logit: a chance of 1 in 55 that a face above k - 1 is not above k
# "Mean-Variance Loss for Deep Age Estimation from a Face" (CVPR 2018).
MEAN_WEIGHT, VARIANCE_WEIGHT = 0.2, 0.05
AUGMENT_BATCH = 256  # rows augmented at once, on which their random numbers depend


@torch.no_grad()
def augmented_features(
    network: nn.Module, images: FaceImages | np.ndarray, rows: np.ndarray, views: int, seed: int
) -> np.ndarray:
    """Features of rows of images, each augmented `views` times as in a long training: float16 (views, rows, width)."""
    device = pick_device()
    backbone = network.backbone.to(device).eval().to(memory_format=torch.channels_last)
    features = np.empty((views, len(rows), network.backbone.width), np.float16)  # filled in place: see predict_outputs
    for view in range(views):
        for start in range(0, len(rows), AUGMENT_BATCH):
            chosen = slice(start, start + AUGMENT_BATCH)
            batch = as_tensor(images[rows[chosen]]).to(device)
            generator = torch.Generator().manual_seed((seed * 1_009 + view) * 10_000_019 + start)
            augmented = augment(batch, BatchRandom(generator, len(batch)))
            # The result is in half precision anyway; bfloat16 is almost twice as fast.
            with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16()):
                features[view, chosen] = backbone(augmented).half().cpu().numpy()
    backbone.to("cpu")
    return features


def expected_age(logits: torch.Tensor) -> torch.Tensor:
    """Mean of a distribution over the years 0, 1, ...: (n, years) to (n,)."""
    return logits.softmax(dim=1) @ torch.arange(logits.shape[1], dtype=logits.dtype)


def _entropy(logits: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, ages.round().long(), reduction="none")


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


LOGITS = partial(nn.Linear, out_features=YEARS)
MEAN_MEDIAN = {"mean": expected_age, "median": partial(age_quantile, share=0.5)}
AGE_HEADS = {
    "absolute error": AgeHead(
        partial(Years, out_features=1), lambda out, ages: (out[:, 0] - ages).abs() / 10, {"": lambda out: out[:, 0]}
    ),
    "cross entropy": AgeHead(LOGITS, _entropy, MEAN_MEDIAN),
    # The multitask network's: "Age Estimation Using Expectation of Label Distribution Learning" (IJCAI 2018).
    "soft labels (DLDL-v2)": AgeHead(LOGITS, partial(age_losses, age_scale=AGE_SCALE), MEAN_MEDIAN),
    "mean-variance": AgeHead(LOGITS, _mean_variance, {"mean": expected_age}),
    # "Rank consistent ordinal regression for neural networks with application to age estimation" (PRL 2020). The age is
    # the number of years that a face is more likely than not above.
    "ordinal (CORAL)": AgeHead(Coral, _coral, {"": lambda logits: (logits > 0).sum(dim=1).float()}),
    # "Deep neural networks for rank-consistent ordinal regression based on conditional probabilities" (PAA 2023). The
    # same, by products of the conditional probabilities.
    "ordinal (CORN)": AgeHead(
        corn_layer, _corn, {"": lambda logits: (logits.sigmoid().cumprod(dim=1) > 0.5).sum(dim=1).float()}
    ),
}
Standardise = Callable[[np.ndarray | torch.Tensor], torch.Tensor]  # features (..., width), in float32


def _standardiser(features: torch.Tensor) -> Standardise:
    """Features in units of their spread among training features (views, n, width)."""
    flat = features.flatten(0, 1).float()
    mean, spread = flat.mean(dim=0), flat.std(dim=0).clamp(min=1e-3)
    return lambda values: (torch.as_tensor(values).float() - mean) / spread


def _fit(
    layer: nn.Module, loss: Callable[[torch.Tensor, np.ndarray], torch.Tensor], features: torch.Tensor,
    standardise: Standardise, seed: int, weights: np.ndarray | None = None,
) -> nn.Module:  # fmt: skip
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
    # A step is too short to be shared out: threads save nothing, and beside another program they wait for each other.
    with one_thread():
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
    features: np.ndarray, ages: np.ndarray, seed: int, names=tuple(AGE_HEADS), weights: np.ndarray | None = None
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Train some of `AGE_HEADS` on augmented features (views, n, width) and known ages (n,) in years.

    With `weights` (n,) rows are drawn in proportion to them; otherwise each is drawn once a pass. Returns a function
    from features (m, width) to ages (m,) in years, by head and decoding.
    """
    tensor, target = torch.from_numpy(np.asarray(features)), torch.as_tensor(ages, dtype=torch.float32)
    standardise, trained = _standardiser(tensor), {}
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
    """Train `StageHeads` as `fit_age_heads`: a function from features to bin_logits and bin_ages, each (m, bins)."""
    torch.manual_seed(seed)
    tensor = torch.from_numpy(np.asarray(features))
    heads = StageHeads(tensor.shape[2], edges.tolist(), bin_medians(ages, edges).tolist(), overlap)
    labels = stage_labels(ages, edges)
    targets = {name: torch.tensor(labels[name].to_numpy(), dtype=torch.float32) for name in labels}
    standardise = _standardiser(tensor)

    def loss(outputs: dict, rows: np.ndarray) -> torch.Tensor:
        return sum(heads.losses(outputs, {name: value[rows] for name, value in targets.items()}).values())

    _fit(heads, loss, tensor, standardise, seed)

    @torch.no_grad()
    def predict(new: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in heads(standardise(new)).items()}

    return predict
