"""Losses of the multitask network; unknown labels count nothing."""

import torch
import torch.nn.functional as F
from torch import distributed

from facelib.models.batches import rank_and_world
from facelib.schema import P_ETHNICITY, UNKNOWN

# Width of an age label's soft distribution, in years: at birth, and what each year of age adds. A toddler's label is
# exact to a year, a pensioner's to several.
LABEL_SPREAD, SPREAD_BY_YEAR = 1.0, 0.04
# What networks that never saw a face say of it: columns of a batch, nan where there are none.
OPINIONS = ("age_pred", "age_spread", "p_female", *P_ETHNICITY)


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


def soft_ages(ages: torch.Tensor, years: int, spread: torch.Tensor | None = None) -> torch.Tensor:
    """Ages as distributions over the years 0 to years - 1: float (n, years), each summing to 1.

    A discretised normal distribution around the age, after "Deep label distribution learning with label ambiguity"
    (TIP 2017); without a spread (n,) in years that of labels, which is wider for older people.
    """
    spread = LABEL_SPREAD + SPREAD_BY_YEAR * ages if spread is None else spread
    distance = torch.arange(years, device=ages.device) - ages[:, None]
    return torch.softmax(-0.5 * (distance / spread[:, None]) ** 2, dim=1)


def age_losses(
    outputs: dict,
    ages: torch.Tensor,
    age_scale: float,
    opinion: torch.Tensor | None = None,
    spread: torch.Tensor | None = None,
    share: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss of each row's age: float (n,).

    For one number the absolute error in units of `age_scale` years. For a distribution the Kullback-Leibler divergence
    from the label's soft distribution, and that error of the expected age: "Age Estimation Using Expectation of Label
    Distribution Learning" (IJCAI 2018).

    Parameters
    ----------
    outputs : dict
    ages : float tensor (n,), years
    age_scale : float, years
    opinion, spread, share : float tensors (n,), optional
        Another age of each row and its standard deviation, years, and its share of what is learned; 0 where there is
        no opinion.
    """
    aim = ages if opinion is None else torch.lerp(ages, opinion, share)
    if "age_logits" not in outputs:
        return (outputs["age"] - aim).abs() / age_scale
    logits = outputs["age_logits"].float()
    wanted = soft_ages(ages, logits.shape[1])
    if opinion is not None:
        wanted = torch.lerp(wanted, soft_ages(opinion, logits.shape[1], spread), share[:, None])
    divergence = F.kl_div(logits.log_softmax(dim=1), wanted, reduction="none").sum(dim=1)
    years = torch.arange(logits.shape[1], device=logits.device, dtype=torch.float32)
    expected = logits.softmax(dim=1) @ years
    return divergence + (expected - aim).abs() / age_scale


def multitask_losses(
    outputs: dict, batch: dict, age_scale: float, label_smoothing: float = 0.0, opinion_share: float = 0.0
) -> dict[str, torch.Tensor]:
    """Losses of age, gender and ethnicity by name.

    Parameters
    ----------
    outputs : dict
        Of a `FaceNet`.
    batch : dict
        age (years, nan where unknown), gender and ethnicity (codes, -1 where unknown), each (n,); the columns
        `OPINIONS` where there are any.
    age_scale : float
        Years.
    label_smoothing : float
        Share of the label's probability that is spread over all classes.
    opinion_share : float
        Share of the opinions in what is learned, the rest being the label; 0 for rows without one.
    """
    ages, logits = batch["age"].nan_to_num(), outputs["ethnicity"].float()
    classes = logits.shape[1]
    female = batch["gender"].clamp(min=0) * (1 - label_smoothing) + label_smoothing / 2
    ethnic = F.one_hot(batch["ethnicity"].clamp(min=0).long(), classes) * (1 - label_smoothing)
    ethnic = ethnic + label_smoothing / classes
    about_age = ()
    if opinion_share and OPINIONS[0] in batch:
        on_age, on_gender, on_ethnicity = (
            opinion_share * batch[name].isfinite() for name in (OPINIONS[0], "p_female", P_ETHNICITY[0])
        )
        age, spread, p_female, *p_ethnicity = (batch[name].nan_to_num(nan=1.0) for name in OPINIONS)
        about_age = (age, spread, on_age)
        female = torch.lerp(female, p_female, on_gender)
        ethnic = torch.lerp(ethnic, torch.stack(p_ethnicity, dim=1), on_ethnicity[:, None])
    gender = F.binary_cross_entropy_with_logits(outputs["gender"].float(), female, reduction="none")
    ethnicity = F.cross_entropy(logits, ethnic, reduction="none")
    return {
        "age": known_mean(age_losses(outputs, ages, age_scale, *about_age), batch["age"].isfinite()),
        "gender": known_mean(gender, batch["gender"] != UNKNOWN),
        "ethnicity": known_mean(ethnicity, batch["ethnicity"] != UNKNOWN),
    }
