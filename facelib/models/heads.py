"""Output layers by kind of attribute: what each computes, how it learns, and its columns in a predictions table.

`HEADS` is the only list of them. A saved network calls their weights `heads.<attribute>.weight`.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch import nn

from facelib.models.losses import age_losses, band_losses, class_losses, is_known
from facelib.schema import MAX_AGE, Attribute, ClassAttribute, YearsAttribute


def age_quantile(logits: torch.Tensor, share: float) -> torch.Tensor:
    """The age (n,) in years below which a share of a distribution over the years 0, 1, ... (n, years) lies.

    At one half it is the median, which minimises the expected absolute error. The probability of a year is spread
    evenly over the year around it, so that quantiles move smoothly.

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


class YearsHead(nn.Linear):
    """An age: logits of the years 0 to `MAX_AGE`, decoded by their median (`distribution`), or one number (`linear`).

    A linear output is centred at `age_mean` years and in units of `age_std` years, as are absolute errors in the loss.
    """

    def __init__(self, attribute: YearsAttribute, width: int, age_head: str, age_mean: float, age_std: float):
        super().__init__(width, MAX_AGE + 1 if age_head == "distribution" else 1)
        self.name, self.age_head, self.age_mean, self.age_std = attribute.name, age_head, age_mean, age_std
        self.band = attribute.band_columns

    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Ages (n,) in years; of a distribution also half the width of its middle 68 % in years, and its logits."""
        name, values = self.name, self(features)
        if self.age_head == "linear":
            return {name: values[:, 0] * self.age_std + self.age_mean}
        low, middle, high = (age_quantile(values, share) for share in (0.16, 0.5, 0.84))
        return {name: middle, f"{name}_spread": (high - low) / 2, f"{name}_logits": values}

    def known(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Which rows (n,) have an age or a band."""
        known = is_known(batch[self.name])
        return known | batch[self.band[0]].isfinite() if self.band[0] in batch else known

    def losses(self, outputs: dict[str, torch.Tensor], batch: dict, label_smoothing: float) -> torch.Tensor:
        """Loss of each row (n,): `age_losses`, or where only a band is known `band_losses`.

        Of one number it is the absolute error, or the distance from the band, in units of `age_std` years.
        """
        ages, linear = batch[self.name].nan_to_num(), self.age_head == "linear"
        if linear:
            losses = (outputs[self.name] - ages).abs() / self.age_std
        else:
            losses = age_losses(outputs[f"{self.name}_logits"], ages, self.age_std)
        if self.band[0] not in batch:
            return losses
        banded = ~is_known(batch[self.name]) & batch[self.band[0]].isfinite()
        # Rows without a band get one that holds all years, so that no loss and no gradient is infinite.
        first = batch[self.band[0]].where(banded, 0.0)
        last = batch[self.band[1]].where(banded, float(MAX_AGE))
        if linear:
            predicted = outputs[self.name]
            return losses.where(~banded, (predicted - predicted.clamp(first, last)).abs() / self.age_std)
        return losses.where(~banded, band_losses(outputs[f"{self.name}_logits"], first, last))

    @staticmethod
    def columns(attribute: YearsAttribute, outputs: dict[str, np.ndarray], temperature: float) -> list[np.ndarray]:
        """Age and spread in years; the ends of the interval are nan, since a network alone has none."""
        unknown = np.full(len(outputs[attribute.name]), np.nan)
        return [outputs[attribute.name], outputs.get(f"{attribute.name}_spread", unknown), unknown, unknown]


class ClassHead(nn.Linear):
    """Logits of classes; two classes have one output z, and their logits are -z / 2 and z / 2."""

    def __init__(self, attribute: ClassAttribute, width: int, *_about_ages):
        classes = len(attribute.classes)
        super().__init__(width, 1 if classes == 2 else classes)
        self.name = attribute.name

    def outputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits (n, k)."""
        logits = self(features)
        return {self.name: torch.cat([-logits, logits], dim=1) / 2 if logits.shape[1] == 1 else logits}

    def known(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Which rows (n,) have a label."""
        return is_known(batch[self.name])

    def losses(self, outputs: dict[str, torch.Tensor], batch: dict, label_smoothing: float) -> torch.Tensor:
        """Loss of each row (n,)."""
        return class_losses(outputs[self.name], batch[self.name], label_smoothing)

    @staticmethod
    def columns(attribute: ClassAttribute, outputs: dict[str, np.ndarray], temperature: float) -> list[np.ndarray]:
        return list(softmax(outputs[attribute.name].astype(float) / temperature, axis=1).T)


HEADS: dict[str, type[YearsHead] | type[ClassHead]] = {"years": YearsHead, "classes": ClassHead}


def predictions_table(
    outputs: dict[str, np.ndarray], attributes: Iterable[Attribute], temperatures: dict[str, float] | None = None
) -> pd.DataFrame:
    """Outputs of `predict_outputs` as the `columns` of attributes, their logits divided by `temperatures` by name."""
    table = {}
    for attribute in attributes:
        values = HEADS[attribute.kind].columns(attribute, outputs, (temperatures or {}).get(attribute.name, 1.0))
        table |= dict(zip(attribute.columns, values, strict=True))
    return pd.DataFrame(table).astype("float64")
