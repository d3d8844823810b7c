"""Losses by hand: unknown labels count nothing, ages as distributions, classes, smoothed labels."""

import math

import pytest
import torch

from facelib.models.losses import (
    LABEL_SPREAD,
    SPREAD_BY_YEAR,
    age_losses,
    band_losses,
    class_losses,
    is_known,
    known_mean,
    soft_ages,
)


def test_the_mean_is_over_known_rows_alone():
    assert known_mean(torch.tensor([1.0, 100.0, 3.0]), torch.tensor([True, False, True])) == 2
    assert known_mean(torch.tensor([1.0]), torch.tensor([False])) == 0


def test_a_batch_without_any_known_label_has_a_loss_of_zero_and_no_gradient():
    value = torch.tensor([3.0, 4.0], requires_grad=True)
    known_mean(value**2, torch.tensor([False, False])).backward()
    assert value.grad.tolist() == [0, 0]


def test_nan_and_minus_one_are_unknown():
    assert is_known(torch.tensor([0.0, 31.0, -1.0, math.nan])).tolist() == [True, True, False, False]


def test_several_classes_by_hand():
    logits = torch.tensor([[0.0] * 5, [0.0, math.log(6), 0.0, 0.0, 0.0]])
    assert class_losses(logits, torch.tensor([3.0, 1.0])).tolist() == pytest.approx([math.log(5), math.log(10 / 6)])


def test_two_classes_by_hand():
    z = torch.tensor([0.0, -1.0])
    logits = torch.stack([-z / 2, z / 2], dim=1)
    expected = [math.log(2), math.log(1 + math.exp(-1))]
    assert class_losses(logits, torch.tensor([1.0, 0.0])).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("unknown", [-1.0, math.nan])
def test_the_loss_of_an_unknown_class_is_finite(classes, unknown):
    assert class_losses(torch.randn(1, classes), torch.tensor([unknown])).isfinite().all()


def test_smoothing_moves_a_share_of_the_label_to_all_classes():
    two = class_losses(torch.tensor([[-1.0, 1.0]]), torch.tensor([1.0]), label_smoothing=0.2)
    assert two.item() == pytest.approx(0.9 * math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(2)))
    probability = torch.tensor([[0.7, 0.1, 0.1, 0.05, 0.05]])
    five = class_losses(probability.log(), torch.tensor([0.0]), label_smoothing=0.2)
    by_hand = -(0.84 * math.log(0.7) + 2 * 0.04 * math.log(0.1) + 2 * 0.04 * math.log(0.05))
    assert five.item() == pytest.approx(by_hand)


def test_soft_ages_are_centred_on_the_label_and_wider_for_older_people():
    ages = torch.tensor([1.0, 30.0, 70.0])
    soft = soft_ages(ages, 117)
    years = torch.arange(117.0)
    assert soft.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert soft.argmax(dim=1).tolist() == [1, 30, 70]
    spread = ((years - ages[:, None]) ** 2 * soft).sum(dim=1).sqrt()
    assert spread[1:].tolist() == pytest.approx([LABEL_SPREAD + SPREAD_BY_YEAR * age for age in (30, 70)], rel=0.01)


def test_a_distribution_that_equals_the_soft_label_costs_next_to_nothing():
    ages = torch.tensor([30.0, 50.0])
    exact = soft_ages(ages, 117).clamp(min=1e-30).log()
    assert age_losses(exact, ages, 20.0).tolist() == pytest.approx([0, 0], abs=1e-4)
    moved = age_losses(exact.flip(0), ages, 20.0)
    assert (moved > 20 / 20).all()  # the expected age is 20 years off, and the divergence comes on top


def test_the_loss_of_a_band_is_minus_the_logarithm_of_its_probability():
    probability = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 3)
    first, last = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([3.0, 2.0, 3.0])
    losses = band_losses(probability.log() + 5, first, last)  # logits are known up to a constant
    assert losses.tolist() == pytest.approx([0, -math.log(0.5), -math.log(0.4)], abs=1e-6)


def test_the_gradient_of_a_band_moves_probability_into_it_and_is_finite():
    logits = torch.full((1, 117), -60.0)
    logits[0, 100] = 60.0  # nothing but a rounding error lies in the band
    logits.requires_grad_()
    band_losses(logits, torch.tensor([20.0]), torch.tensor([29.0])).sum().backward()
    assert logits.grad.isfinite().all() and (logits.grad[0, 20:30] < 0).all() and logits.grad[0, 100] > 0
