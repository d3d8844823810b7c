"""Output layers by kind of attribute: what each computes, how it learns, and its columns in a predictions table.

`HEADS` is the only list of them. A layer's weights are called `heads.<attribute>.weight` in a saved network.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from facelib.models.losses import age_losses, class_losses
from facelib.schema import MAX_AGE, Attribute


def age_quantile(logits: torch.Tensor, share: float) -> torch.Tensor:
    """The age below which a share of a distribution over the years 0, 1, ... lies.

    At one half it is the median, the number that minimises the expected absolute error. The probability of a year is
    spread evenly over the year around it, so that quantiles move smoothly.

    Parameters
    ----------
    logits : float tensor (n, years)
    share : float

    Returns
    -------
    float tensor (n,), years

    Examples
    --------
    >>> age_quantile(torch.log(torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])), 0.5).tolist()
    [1.0, 0.5]
    """
    probability = logits.float().softmax(dim=1)
    cumulative = probability.cumsum(dim=1)
    year = (cumulative < share).sum(dim=1, keepdim=True).clamp(max=logits.shape[1] - 1)
    within = probability.gather(1, year)
    below = cumulative.gather(1, year) - within
    return (year - 0.5 + (share - below) / within.clamp(min=1e-12))[:, 0].clamp(min=0)


class Head(nn.Linear, ABC):
    """The output layer of one attribute, on features (n, width).

    Parameters
    ----------
    attribute : Attribute
    width : int
    age_head : str
        `distribution` or `linear`; read by years alone, as are the next two.
    age_mean, age_std : float
        Years; the centre and the unit of a linear output, and the unit of absolute errors in the loss.
    """

    def __init__(self, attribute: Attribute, width: int, age_head: str, age_mean: float, age_std: float):
        super().__init__(width, self.layer_outputs(attribute, age_head))
        self.attribute, self.age_head, self.age_mean, self.age_std = attribute, age_head, age_mean, age_std

    @staticmethod
    @abstractmethod
    def layer_outputs(attribute: Attribute, age_head: str) -> int:
        """Number of outputs of the layer."""

    @abstractmethod
    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs by name; the one with the attribute's name is its prediction."""

    @abstractmethod
    def losses(self, outputs: dict[str, torch.Tensor], labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """Loss of each row: float (n,); finite, and without meaning, where the label is unknown."""

    @staticmethod
    @abstractmethod
    def predictions(attribute: Attribute, outputs: dict[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
        """The attribute's columns of a predictions table, from the outputs of any network that has it."""


class YearsHead(Head):
    """An age: logits of the years 0 to `MAX_AGE`, decoded by their median, or one number."""

    @staticmethod
    def layer_outputs(attribute: Attribute, age_head: str) -> int:
        """The years, or one."""
        return MAX_AGE + 1 if age_head == "distribution" else 1

    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Ages (n,) in years; of a distribution also half the width of its middle 68 % in years, and its logits."""
        name, values = self.attribute.name, self(features)
        if self.age_head == "linear":
            return {name: values[:, 0] * self.age_std + self.age_mean}
        low, middle, high = (age_quantile(values, share) for share in (0.16, 0.5, 0.84))
        return {name: middle, f"{name}_spread": (high - low) / 2, f"{name}_logits": values}

    def losses(self, outputs: dict[str, torch.Tensor], labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """See `age_losses`; of one number the absolute error."""
        name, ages = self.attribute.name, labels.nan_to_num()
        if self.age_head == "linear":
            return (outputs[name] - ages).abs() / self.age_std
        return age_losses(outputs[f"{name}_logits"], ages, self.age_std)

    @staticmethod
    def predictions(attribute: Attribute, outputs: dict[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
        """Age and spread in years; the ends of the interval are nan, since a network alone has none."""
        unknown = np.full(len(outputs[attribute.name]), np.nan)
        values = (outputs[attribute.name], outputs.get(f"{attribute.name}_spread", unknown), unknown, unknown)
        return dict(zip(attribute.columns, values, strict=True))


class ClassHead(Head):
    """Logits of classes; two classes have one output z, and their logits are -z / 2 and z / 2."""

    @staticmethod
    def layer_outputs(attribute: Attribute, age_head: str) -> int:
        """The classes, or one."""
        return 1 if len(attribute.classes) == 2 else len(attribute.classes)

    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits (n, k)."""
        logits = self(features)
        return {self.attribute.name: torch.cat([-logits, logits], dim=1) / 2 if logits.shape[1] == 1 else logits}

    def losses(self, outputs: dict[str, torch.Tensor], labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """See `class_losses`."""
        return class_losses(outputs[self.attribute.name], labels, label_smoothing)

    @staticmethod
    def predictions(attribute: Attribute, outputs: dict[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
        """The probability of each class."""
        probabilities = softmax(outputs[attribute.name].astype(float) / temperature, axis=1)
        return dict(zip(attribute.columns, probabilities.T, strict=True))


HEADS: dict[str, type[Head]] = {"years": YearsHead, "classes": ClassHead}
