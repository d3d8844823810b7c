"""Two-stage age: bins cut by hand, routing by hand, and regressors that stay within their bin."""

import math

import numpy as np
import pytest
import torch

from facelib.models.age_stages import (
    AgeStagesNet,
    StageHeads,
    TooFewAges,
    age_bin_edges,
    bin_medians,
    bin_names,
    no_image_oracle_ages,
    oracle_ages,
    route,
    to_bin,
    train_age_stages,
)
from facelib.models.network import load_network, predict_outputs, save_network

# --- bins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "bins", "edges"),
    [
        (np.arange(1, 13), 4, [4, 7, 10]),  # no ties: three ages each
        ([1, 1, 1, 20, 30, 40], 3, [20, 30]),
        ([26] * 8 + [30, 40], 4, [30]),  # three edges that coincide are one
        ([1, 2, 2, 2, 2, 3, 3], 2, [3]),  # the half lies within the twos, which stay together
        ([5, 5, 9], 6, [9]),  # two different ages are two bins
        ([5, 9, 9, 9], 2, [9]),
        ([0, 116], 2, [116]),
        ([10.5, 11.5, 30.25, 31], 2, [30.25]),
    ],
)
def test_edges_by_hand(ages, bins, edges):
    cut = age_bin_edges(np.array(ages, float), bins)
    assert cut.tolist() == edges
    sizes = np.bincount(to_bin(np.array(ages), cut), minlength=len(edges) + 1)
    assert (sizes > 0).all()


@pytest.mark.parametrize("ages", [[30.0], [30.0] * 50])
def test_one_age_cannot_be_cut(ages):
    with pytest.raises(TooFewAges, match="1 different training ages cannot be cut into 6 bins"):
        age_bin_edges(np.array(ages), 6)


def test_counts_are_equal_as_far_as_ties_allow():
    ages = np.random.default_rng(0).integers(1, 100, 3000).astype(float)
    counts = np.bincount(to_bin(ages, age_bin_edges(ages, 6)))
    largest_tie = np.bincount(ages.astype(int)).max()
    assert len(counts) == 6 and np.abs(counts - 500).max() <= 2 * largest_tie


def test_a_bin_holds_its_lower_edge():
    edges = np.array([20.0, 35.0])
    assert to_bin(np.array([0, 19.9, 20, 34.9, 35, 116]), edges).tolist() == [0, 0, 1, 1, 2, 2]
    assert bin_names(edges) == ["0-19", "20-34", "35+"]


def test_medians_of_bins_by_hand():
    ages = np.array([1, 5, 3, 20, 30, 60.0])
    assert bin_medians(ages, np.array([20.0, 50.0])).tolist() == [3, 25, 60]


# --- routing ----------------------------------------------------------------------------------------------


@pytest.fixture
def outputs() -> dict[str, np.ndarray]:
    return {
        "bin_logits": np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])) + np.array([[0.0], [3.0]]),
        "bin_ages": np.array([[10.0, 30.0, 60.0], [12.0, 32.0, 50.0]], np.float32),
    }


def test_routed_and_soft_estimates_by_hand(outputs):
    table = route(outputs)
    assert table[["p_bin_0", "p_bin_1", "p_bin_2"]].to_numpy() == pytest.approx(
        np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    )
    assert table["predicted_bin"].tolist() == [0, 2]
    assert table["age_routed"].tolist() == [10, 50]
    assert table["age_soft"].tolist() == pytest.approx([5 + 7.5 + 15, 1.2 + 6.4 + 35])


def test_the_oracle_is_given_the_true_bin(outputs):
    edges = np.array([20.0, 45.0])
    assert oracle_ages(outputs["bin_ages"], np.array([20.0, 19.0]), edges).tolist() == [30, 12]


def test_the_median_of_the_true_bin_by_hand():
    ages = no_image_oracle_ages(np.array([2.0, 19.0, 20.0, 70.0]), np.array([20.0]), np.array([10.0, 40.0]))
    assert ages.tolist() == [10, 10, 40, 40]


# --- the network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("push", [-100.0, 0.0, 100.0])
def test_each_bins_estimate_stays_within_its_bin(push, tiny):
    network = AgeStagesNet({"architecture": tiny}, (20.0, 50.0), (10.0, 30.0, 65.0)).eval()
    for regressor in network.heads.regressors:
        torch.nn.init.constant_(regressor.bias, push)
    with torch.no_grad():
        outputs = network(torch.rand(6, 3, 32, 32))
    assert outputs["bin_logits"].shape == outputs["bin_ages"].shape == (6, 3)
    ages = outputs["bin_ages"].numpy()
    assert (ages >= [0, 20, 50]).all() and (ages <= [20, 50, 116]).all()
    if push:
        assert ages[0].tolist() == ([20, 50, 116] if push > 0 else [0, 20, 50])


def test_a_regressor_starts_at_its_bins_median(tiny):
    network = AgeStagesNet({"architecture": tiny}, (20.0, 50.0), (10.0, 30.0, 65.0)).eval()
    for regressor in network.heads.regressors:
        torch.nn.init.zeros_(regressor.weight)
        torch.nn.init.zeros_(regressor.bias)
    assert network(torch.rand(1, 3, 32, 32))["bin_ages"].tolist() == [[10, 30, 65]]
    torch.nn.init.ones_(network.heads.regressors[1].bias)
    assert network(torch.rand(1, 3, 32, 32))["bin_ages"][0, 1].item() == 30 + 30 / 4  # a quarter of the bin's width


def test_a_regressor_that_overshot_learns_again():
    heads = StageHeads(4, (20.0, 50.0), (10.0, 30.0, 65.0))
    torch.nn.init.constant_(heads.regressors[0].bias, 9.0)  # far above 20 years for all features
    features, batch = torch.ones(2, 4), {"age": torch.tensor([5.0, 5.0]), "bin": torch.tensor([0, 0])}
    outputs = heads(features)
    assert (outputs["bin_ages"][:, 0] == 20.0).all()
    heads.losses(outputs, batch)["regressor"].backward()
    assert heads.regressors[0].bias.grad.item() > 0


def test_losses_by_hand():
    outputs = {
        "bin_logits": torch.zeros(3, 3),
        "bin_ages": torch.tensor([[10.0, 30.0, 60.0]] * 3, requires_grad=True),
    }
    batch = {"bin": torch.tensor([1.0, -1.0, 2.0]), "age": torch.tensor([25.0, math.nan, 63.0])}
    losses = StageHeads(4, (20.0, 50.0), (10.0, 30.0, 65.0)).losses(outputs, batch)
    assert losses["bin"].item() == pytest.approx(math.log(3))
    assert losses["regressor"].item() == pytest.approx((5 + 3) / 2 / 10)
    losses["regressor"].backward()
    assert outputs["bin_ages"].grad[1].abs().sum() == 0  # an unknown age teaches nothing
    assert outputs["bin_ages"].grad[0].tolist() == pytest.approx([0, 1 / 20, 0])  # only the true bin's regressor learns


def test_overlapping_regressors_learn_and_answer_up_to_their_neighbours_medians():
    heads = StageHeads(4, (20.0, 50.0), (10.0, 30.0, 65.0), overlap=True)
    assert heads.low.tolist() == [0, 10, 30] and heads.high.tolist() == [30, 65, 116]
    outputs = {"bin_logits": torch.zeros(2, 3), "bin_ages": torch.tensor([[10.0, 30.0, 60.0]] * 2)}
    batch = {"bin": torch.tensor([1.0, 2.0]), "age": torch.tensor([25.0, 116.0])}
    # The first bin (0 to 30) is off by 15 and the second by 5 years at 25; at 116 the last alone is taught, off by 56.
    assert heads.losses(outputs, batch)["regressor"].item() == pytest.approx(((15 + 5) / 2 + 56) / 2 / 10)


@pytest.mark.parametrize("age", [20.0, 49.9, 50.0, 116.0])
def test_an_edge_belongs_to_the_bin_above_it(age):
    heads = StageHeads(4, (20.0, 50.0), (10.0, 30.0, 65.0))
    outputs = {"bin_logits": torch.zeros(1, 3), "bin_ages": torch.tensor([[age + 1, age + 2, age + 4]])}
    own = to_bin(np.array([age]), np.array([20.0, 50.0]))
    batch = {"bin": torch.tensor(own), "age": torch.tensor([age])}
    assert heads.losses(outputs, batch)["regressor"].item() == pytest.approx([1, 2, 4][own[0]] / 10, rel=1e-4)


def test_both_stages_are_trained_from_a_copy_of_the_backbone(settings_of, tiny_network, small_faces, tmp_path):
    images, faces = small_faces
    ages = faces["age"].to_numpy().copy()
    ages[5] = math.nan
    settings = settings_of(batch_size=16, stage_epochs=2, age_bins=3)
    before = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    train, validation = np.arange(64), np.arange(64, 96)
    network, history = train_age_stages(tiny_network, images, ages, train, validation, settings, tmp_path / "training")
    assert all(torch.equal(value, before[name]) for name, value in tiny_network.state_dict().items())
    known = ages[train][np.isfinite(ages[train])]
    assert list(network.edges) == age_bin_edges(known, 3).tolist()
    assert list(network.medians) == bin_medians(known, np.array(network.edges)).tolist()
    assert history["epoch"].tolist() == [0, 1] and np.isfinite(history["validation_regressor"]).all()

    save_network(network, tmp_path / "stages.safetensors")
    loaded, _ = load_network(tmp_path / "stages.safetensors", AgeStagesNet)
    assert tuple(loaded.edges) == network.edges and tuple(loaded.medians) == network.medians
    for name, value in predict_outputs(network, images).items():
        np.testing.assert_array_equal(predict_outputs(loaded, images)[name], value)
