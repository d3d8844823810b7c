"""Losses by hand: unknown labels count nothing, ages as one number and as a distribution, smoothed labels."""

import math

import pytest
import torch

from facelib.models.losses import (
    LABEL_SPREAD,
    OPINIONS,
    SPREAD_BY_YEAR,
    age_losses,
    known_mean,
    multitask_losses,
    soft_ages,
)


@pytest.fixture
def outputs() -> dict[str, torch.Tensor]:
    return {
        "age": torch.tensor([30.0, 50.0, 10.0], requires_grad=True),
        "gender": torch.tensor([0.0, 2.0, -1.0], requires_grad=True),
        "ethnicity": torch.tensor([[0.0] * 5, [0.0, math.log(6), 0.0, 0.0, 0.0], [9.0] * 5], requires_grad=True),
    }


def test_losses_by_hand_without_the_unknown_labels(outputs):
    batch = {
        "age": torch.tensor([40.0, math.nan, 7.0]),
        "gender": torch.tensor([1.0, -1.0, 0.0]),
        "ethnicity": torch.tensor([3.0, 1.0, -1.0]),
    }
    found = multitask_losses(outputs, batch, age_scale=20.0)
    assert found["age"].item() == pytest.approx((10 + 3) / 2 / 20)
    assert found["gender"].item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2)
    assert found["ethnicity"].item() == pytest.approx((math.log(5) + math.log(10 / 6)) / 2)
    sum(found.values()).backward()
    assert outputs["age"].grad.tolist() == pytest.approx([-1 / 40, 0, 1 / 40])  # no pull from an unknown age
    assert outputs["gender"].grad[1] == 0 and outputs["ethnicity"].grad[2].abs().sum() == 0


def test_a_batch_without_any_known_label_has_a_loss_of_zero(outputs):
    unknown = {"age": torch.full((3,), math.nan), "gender": torch.full((3,), -1.0), "ethnicity": torch.full((3,), -1.0)}
    found = multitask_losses(outputs, unknown, 20.0)
    assert [loss.item() for loss in found.values()] == [0, 0, 0]
    sum(found.values()).backward()
    assert all(value.grad.abs().sum() == 0 for value in outputs.values())


def test_the_mean_is_over_known_rows_alone():
    assert known_mean(torch.tensor([1.0, 100.0, 3.0]), torch.tensor([True, False, True])) == 2
    assert known_mean(torch.tensor([1.0]), torch.tensor([False])) == 0


def test_smoothing_moves_a_share_of_the_label_to_all_classes(outputs):
    batch = {
        "age": torch.full((3,), 30.0),
        "gender": torch.tensor([-1.0, 1.0, -1.0]),
        "ethnicity": torch.full((3,), -1.0),
    }
    found = multitask_losses(outputs, batch, 20.0, label_smoothing=0.2)
    by_hand = 0.9 * math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(2))
    assert found["gender"].item() == pytest.approx(by_hand)


@pytest.fixture
def opinionated() -> dict[str, torch.Tensor]:
    """Labels of three faces, and what others say of the first two."""
    said = {"age_pred": [20.0, 60.0, math.nan], "age_spread": [4.0, 9.0, math.nan], "p_female": [0.5, 1.0, math.nan]}
    said |= {
        name: [chance, chance, math.nan] for name, chance in zip(OPINIONS[3:], (0.6, 0.1, 0.1, 0.1, 0.1), strict=True)
    }
    labels = {"age": [40.0, math.nan, 7.0], "gender": [1.0, -1.0, 0.0], "ethnicity": [3.0, 1.0, -1.0]}
    return {name: torch.tensor(values) for name, values in (labels | said).items()}


def test_opinions_are_learned_by_their_share_where_there_are_any(outputs, opinionated):
    found = multitask_losses(outputs, opinionated, age_scale=20.0, opinion_share=0.25)
    assert found["age"].item() == pytest.approx((abs(30 - (0.75 * 40 + 0.25 * 20)) + 3) / 2 / 20)
    assert found["gender"].item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2)  # at a logit of 0
    second = -(0.75 + 0.25 * 0.1) * math.log(6 / 10) - 0.25 * 0.9 * math.log(1 / 10)
    assert found["ethnicity"].item() == pytest.approx((math.log(5) + second) / 2)
    sum(found.values()).backward()
    assert outputs["gender"].grad[0].item() == pytest.approx((0.5 - (0.75 + 0.25 * 0.5)) / 2)
    without = multitask_losses(outputs, opinionated, age_scale=20.0)
    assert without["age"].item() == pytest.approx((10 + 3) / 2 / 20)  # a share of 0 leaves the labels alone


def test_an_opinion_of_an_age_is_a_distribution_of_its_own_width():
    ages, opinion, spread = torch.tensor([30.0]), torch.tensor([50.0]), torch.tensor([8.0])
    both = 0.6 * soft_ages(ages, 117) + 0.4 * soft_ages(opinion, 117, spread)
    learned = {"age_logits": both.clamp(min=1e-30).log()}
    share = torch.tensor([0.4])
    assert age_losses(learned, ages, 20.0, opinion, spread, share).item() == pytest.approx(0, abs=0.01)
    assert age_losses(learned, ages, 20.0).item() > 0.5


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
    assert age_losses({"age": ages, "age_logits": exact}, ages, 20.0).tolist() == pytest.approx([0, 0], abs=1e-4)
    moved = age_losses({"age": ages, "age_logits": exact.flip(0)}, ages, 20.0)
    assert (moved > 20 / 20).all()  # the expected age is 20 years off, and the divergence comes on top


def test_opinions_of_one_attribute_are_learned_without_the_others(outputs, opinionated):
    both = multitask_losses(outputs, opinionated, age_scale=20.0, opinion_share=0.25)
    for name in ("age_pred", "age_spread"):
        opinionated[name] = torch.full((3,), math.nan)
    found = multitask_losses(outputs, opinionated, age_scale=20.0, opinion_share=0.25)
    assert found["age"].item() == multitask_losses(outputs, opinionated, age_scale=20.0)["age"].item()
    assert found["gender"].item() == both["gender"].item() and found["ethnicity"].item() == both["ethnicity"].item()
