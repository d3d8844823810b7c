"""Output layers by kind of attribute: outputs, losses over known rows, and columns of predictions, by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.models.heads import HEADS, age_quantile, predictions_table
from facelib.models.losses import age_losses
from facelib.models.network import FaceNet
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute

EXPRESSION = ClassAttribute("expression", classes=("Neutral", "Happy", "Sad"))


@pytest.fixture
def outputs() -> dict[str, torch.Tensor]:
    z = torch.tensor([0.0, 2.0, -1.0])
    return {
        "age": torch.tensor([30.0, 50.0, 10.0], requires_grad=True),
        "gender": torch.stack([-z / 2, z / 2], dim=1).requires_grad_(),
        "ethnicity": torch.tensor([[0.0] * 5, [0.0, math.log(6), 0.0, 0.0, 0.0], [9.0] * 5], requires_grad=True),
    }


@pytest.fixture
def network(tiny) -> FaceNet:
    return FaceNet(UTKFACE_ATTRIBUTES, tiny, age_head="linear", age_std=20.0)


def test_losses_by_hand_without_the_unknown_labels(outputs, network):
    batch = {
        "age": torch.tensor([40.0, math.nan, 7.0]),
        "gender": torch.tensor([1.0, -1.0, 0.0]),
        "ethnicity": torch.tensor([3.0, 1.0, -1.0]),
    }
    losses = network.losses(outputs, batch)
    assert list(losses) == ["age", "gender", "ethnicity"]
    assert losses["age"].item() == pytest.approx((10 + 3) / 2 / 20)
    assert losses["gender"].item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2)
    assert losses["ethnicity"].item() == pytest.approx((math.log(5) + math.log(10 / 6)) / 2)
    sum(losses.values()).backward()
    assert outputs["age"].grad.tolist() == pytest.approx([-1 / 40, 0, 1 / 40])  # an unknown age has no gradient
    assert outputs["gender"].grad[1].abs().sum() == 0 and outputs["ethnicity"].grad[2].abs().sum() == 0


def test_a_batch_without_any_known_label_has_losses_of_zero(outputs, network):
    unknown = {"age": torch.full((3,), math.nan), "gender": torch.full((3,), -1.0), "ethnicity": torch.full((3,), -1.0)}
    losses = network.losses(outputs, unknown)
    assert [loss.item() for loss in losses.values()] == [0, 0, 0]
    sum(losses.values()).backward()
    assert all(value.grad.abs().sum() == 0 for value in outputs.values())


def test_label_smoothing_reaches_the_classes_alone(outputs, network):
    batch = {"age": torch.full((3,), 40.0), "gender": torch.zeros(3), "ethnicity": torch.full((3,), 2.0)}
    plain, smooth = (network.losses(outputs, batch, share) for share in (0.0, 0.2))
    assert smooth["age"] == plain["age"]
    assert smooth["gender"] != plain["gender"] and smooth["ethnicity"] != plain["ethnicity"]


def test_a_distribution_of_ages_learns_from_soft_labels_in_units_of_the_training_ages(tiny):
    network = FaceNet((AGE,), tiny, age_std=12.5)
    logits, ages = torch.randn(4, 117), torch.tensor([3.0, 30, 60, 90])
    batch = {"age": ages}
    expected = age_losses(logits, ages, 12.5).mean()
    torch.testing.assert_close(network.losses({"age_logits": logits}, batch)["age"], expected)


def test_two_classes_have_one_output_and_opposite_logits(tiny):
    head = FaceNet((GENDER,), tiny).heads["gender"]
    assert head.out_features == 1
    features = torch.randn(6, head.in_features)
    logits, z = head.outputs(features)["gender"], head(features)[:, 0]
    assert torch.equal(logits[:, 1] - logits[:, 0], z)  # bit for bit: halves and their sum are exact
    assert torch.equal(logits.sum(dim=1), torch.zeros(6))


def test_another_attribute_needs_no_code(tiny):
    network = FaceNet((EXPRESSION, AGE), tiny)
    outputs = network(torch.rand(4, 3, 32, 32))
    assert outputs["expression"].shape == (4, 3)
    losses = network.losses(outputs, {"age": torch.zeros(4), "expression": torch.tensor([0.0, 1.0, 2.0, -1.0])})
    assert list(losses) == ["expression", "age"]
    table = predictions_table({name: value.detach().numpy() for name, value in outputs.items()}, (EXPRESSION, AGE))
    assert list(table) == [*EXPRESSION.columns, *AGE.columns]
    assert table[list(EXPRESSION.columns)].sum(axis=1).to_numpy() == pytest.approx(1)


def test_every_kind_of_attribute_has_a_head():
    assert set(HEADS) == {AGE.kind, GENDER.kind, ETHNICITY.kind}


def test_quantiles_by_hand():
    chance = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25], [0.2, 0.8, 0, 0]])
    assert age_quantile(chance.log(), 0.5).tolist() == pytest.approx([0, 3, 1.5, 0.5 + 0.3 / 0.8])
    high = [0.34, 2.5 + 0.84, 3.5 - 0.16 * 4, 0.5 + 0.64 / 0.8]
    assert age_quantile(chance.log(), 0.84).tolist() == pytest.approx(high)


def test_outputs_become_columns_by_hand():
    outputs = {
        "age": np.array([33.5], np.float32),
        "age_spread": np.array([4.0], np.float32),
        "gender": np.array([[-np.log(3) / 2, np.log(3) / 2]]),
        "ethnicity": np.log(np.array([[1.0, 1.0, 2.0, 3.0, 1.0]])),
    }
    columns = [column for attribute in UTKFACE_ATTRIBUTES for column in attribute.columns]
    values = [33.5, 4.0, np.nan, np.nan, 0.25, 0.75, 0.125, 0.125, 0.25, 0.375, 0.125]
    pd.testing.assert_frame_equal(
        predictions_table(outputs, UTKFACE_ATTRIBUTES), pd.DataFrame([values], columns=columns)
    )
    del outputs["age_spread"]  # a network with a linear age output
    assert predictions_table(outputs, UTKFACE_ATTRIBUTES)["age_spread"].isna().all()
    cooled = predictions_table(outputs, UTKFACE_ATTRIBUTES, {"gender": 2.0})
    assert cooled["p_gender_female"].tolist() == pytest.approx([np.sqrt(3) / (1 + np.sqrt(3))])
    assert cooled["p_ethnicity_indian"].tolist() == pytest.approx([0.375])  # no temperature: 1


# --- bands of ages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("age_head", ["distribution", "linear"])
def test_ages_bands_and_rows_without_either_are_learned_from_together(tiny, age_head):
    network = FaceNet((AGE, GENDER), tiny, age_head=age_head, age_mean=30.0, age_std=10.0)
    logits = torch.zeros(3, 117)
    outputs = {"age": torch.tensor([35.0, 35.0, 90.0]), "age_logits": logits, "gender": torch.zeros(3, 2)}
    outputs = {name: value.requires_grad_() for name, value in outputs.items()}
    nan = math.nan
    batch = {"age": torch.tensor([30.0, nan, nan]), "gender": torch.tensor([0.0, -1.0, 1.0])}
    batch |= {"age_from": torch.tensor([nan, 20.0, nan]), "age_to": torch.tensor([nan, 29.0, nan])}
    losses = network.losses(outputs, batch)
    exact = 5 / 10 if age_head == "linear" else age_losses(logits[:1], torch.tensor([30.0]), 10.0).item()
    band = 6 / 10 if age_head == "linear" else -math.log(10 / 117)  # 35 lies six years above 29
    assert losses["age"].item() == pytest.approx((exact + band) / 2, rel=1e-5)
    sum(losses.values()).backward()
    learned = outputs["age" if age_head == "linear" else "age_logits"].grad
    assert learned.isfinite().all() and (learned[2] == 0).all() and (learned[:2] != 0).any()


def test_without_bands_the_loss_is_that_of_the_ages(tiny):
    network, batch = FaceNet((AGE,), tiny), {"age": torch.tensor([30.0, math.nan])}
    outputs = {"age": torch.zeros(2), "age_logits": torch.randn(2, 117)}
    known = age_losses(outputs["age_logits"][:1], torch.tensor([30.0]), 20.0)
    assert network.losses(outputs, batch)["age"].item() == pytest.approx(known.item(), rel=1e-6)
