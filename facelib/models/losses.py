"""Losses of the multitask network; unknown labels count nothing."""

import torch
import torch.nn.functional as F
from torch import distributed

from facelib.models.batches import rank_and_world
from facelib.schema import UNKNOWN

# Width of an age label's soft distribution, in years: at birth, and what each year of age adds. A toddler's label is
# exact to a year, a pensioner's to several.
LABEL_SPREAD, SPREAD_BY_YEAR = 1.0, 0.04


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
    """Age labels as distributions over the years 0 to years - 1: float (n, years), each summing to 1.

    A discretised normal distribution around the label, after "Deep label distribution learning with label ambiguity"
    (TIP 2017), wider for older people.
    """
    spread = LABEL_SPREAD + SPREAD_BY_YEAR * ages[:, None]
    distance = torch.arange(years, device=ages.device) - ages[:, None]
    return torch.softmax(-0.5 * (distance / spread) ** 2, dim=1)


def age_losses(outputs: dict, ages: torch.Tensor, age_scale: float) -> torch.Tensor:
    """Loss of each row's age: float (n,).

    For one number the absolute error in units of `age_scale` years. For a distribution the Kullback-Leibler divergence
    from the label's soft distribution, and that error of the expected age: "Age Estimation Using Expectation of Label
    Distribution Learning" (IJCAI 2018).
    """
    if "age_logits" not in outputs:
        return (outputs["age"] - ages).abs() / age_scale
    logits = outputs["age_logits"].float()
    wanted = soft_ages(ages, logits.shape[1])
    divergence = F.kl_div(logits.log_softmax(dim=1), wanted, reduction="none").sum(dim=1)
    years = torch.arange(logits.shape[1], device=logits.device, dtype=torch.float32)
    expected = logits.softmax(dim=1) @ years
    return divergence + (expected - ages).abs() / age_scale


def multitask_losses(
    outputs: dict, batch: dict, age_scale: float, label_smoothing: float = 0.0
) -> dict[str, torch.Tensor]:
    """Losses of age, gender and ethnicity by name.

    Parameters
    ----------
    outputs : dict
        Of a `FaceNet`.
    batch : dict
        age (years, nan where unknown), gender and ethnicity (codes, -1 where unknown), each (n,).
    age_scale : float
        Years.
    label_smoothing : float
        Share of the label's probability that is spread over all classes.
    """
    smooth = label_smoothing
    gender = F.binary_cross_entropy_with_logits(
        outputs["gender"].float(), batch["gender"].clamp(min=0) * (1 - smooth) + smooth / 2, reduction="none"
    )
    ethnicity = F.cross_entropy(
        outputs["ethnicity"].float(),
        batch["ethnicity"].clamp(min=0).long(),
        reduction="none",
        label_smoothing=smooth,
    )
    return {
        "age": known_mean(age_losses(outputs, batch["age"].nan_to_num(), age_scale), batch["age"].isfinite()),
        "gender": known_mean(gender, batch["gender"] != UNKNOWN),
        "ethnicity": known_mean(ethnicity, batch["ethnicity"] != UNKNOWN),
    }
