"""Losses of single rows, and their mean over rows with a known label."""

import torch
import torch.nn.functional as F
from torch import distributed

from facelib.models.batches import rank_and_world
from facelib.schema import UNKNOWN

# Width of an age label's soft distribution, in years: at birth, and what each year of age adds. A toddler's label is
# exact to a year, a pensioner's to several.
LABEL_SPREAD, SPREAD_BY_YEAR = 1.0, 0.04


def is_known(labels: torch.Tensor) -> torch.Tensor:
    """Which labels of a batch are known: neither nan nor `UNKNOWN`."""
    return labels.isfinite() & (labels != UNKNOWN)


def known_mean(loss: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean loss over rows with a known label; zero, with a gradient, where there is none.

    Among several processes the sum is divided by the mean count, so that the average of their gradients is the gradient
    of the mean over all their rows.
    """
    count = known.sum().float()
    world = rank_and_world()[1]
    if world > 1:
        distributed.all_reduce(count)
        count = count / world
    return torch.where(known, loss, 0.0).sum() / count.clamp(min=1 / world)


def soft_ages(ages: torch.Tensor, years: int) -> torch.Tensor:
    """Ages as distributions over the years 0 to years - 1 (n, years): normal, and wider for older people.

    After "Deep label distribution learning with label ambiguity" (TIP 2017).
    """
    spread = LABEL_SPREAD + SPREAD_BY_YEAR * ages
    distance = torch.arange(years, device=ages.device) - ages[:, None]
    return torch.softmax(-0.5 * (distance / spread[:, None]) ** 2, dim=1)


def age_losses(logits: torch.Tensor, ages: torch.Tensor, age_scale: float) -> torch.Tensor:
    """Loss of each predicted distribution over the years 0, 1, ...: float (n,).

    The Kullback-Leibler divergence from the label's soft distribution, and the absolute error of the expected age in
    units of `age_scale` years: "Age Estimation Using Expectation of Label Distribution Learning" (IJCAI 2018).
    """
    logits = logits.float()
    divergence = F.kl_div(logits.log_softmax(dim=1), soft_ages(ages, logits.shape[1]), reduction="none").sum(dim=1)
    years = torch.arange(logits.shape[1], device=logits.device, dtype=torch.float32)
    expected = logits.softmax(dim=1) @ years
    return divergence + (expected - ages).abs() / age_scale


def band_losses(logits: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of the probability of a band under distributions over the years 0, 1, ...: float (n,).

    `first` and `last` (n,) are the whole years that the band begins and ends with, both within it.
    """
    years = torch.arange(logits.shape[1], device=logits.device)
    outside = (years < first[:, None]) | (years > last[:, None])
    return -logits.float().log_softmax(dim=1).masked_fill(outside, -torch.inf).logsumexp(dim=1)


def class_losses(logits: torch.Tensor, codes: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross entropy of logits (n, k), for two classes of their difference: float (n,), arbitrary for unknown codes.

    `label_smoothing` is the share of the label's probability that is spread over all classes.
    """
    logits, classes = logits.float(), logits.shape[1]
    codes = codes.nan_to_num().clamp(min=0)
    if classes == 2:
        wanted = codes * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], wanted, reduction="none")
    wanted = F.one_hot(codes.long(), classes) * (1 - label_smoothing) + label_smoothing / classes
    return F.cross_entropy(logits, wanted, reduction="none")
