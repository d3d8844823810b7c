"""Heads on saved features: losses and decodings by hand, and what each learns from features that hold the age."""

import math

import numpy as np
import pytest
import torch

from facelib.models import age_heads
from facelib.models.age_heads import AGE_HEADS, Coral, augmented_features, fit_age_heads, fit_stage_heads
from facelib.models.age_stages import age_bin_edges, route
from facelib.models.network import predict_outputs


def planted(n: int, seed: int, views: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Features that hold the age along one direction, among noise; and the ages."""
    rng = np.random.default_rng(seed)
    ages = rng.integers(0, 90, n).astype(float)
    features = rng.normal(0, 1, (views, n, 6))
    features[:, :, 2] = ages / 10 + rng.normal(0, 0.2, (views, n))
    return features.astype(np.float16), ages


# --- losses and decodings ---------------------------------------------------------------------------------


def test_mean_variance_by_hand():
    logits = torch.full((1, 117), -100.0)
    logits[0, 20] = logits[0, 30] = 0.0  # half a chance each: mean 25, variance 25
    loss = AGE_HEADS["mean-variance"].loss(logits, torch.tensor([20.0]))
    assert loss.item() == pytest.approx(math.log(2) + 0.2 / 2 * 25 + 0.05 * 25, rel=1e-5)


def test_ordinal_losses_by_hand():
    nothing = torch.zeros(1, 116)  # every question is open
    age = torch.tensor([3.0])
    assert AGE_HEADS["ordinal (CORAL)"].loss(nothing, age).item() == pytest.approx(math.log(2))
    # Older than 0, 1, 2 and 3 arise for a child of three; older than 4 does not, who is not older than 3.
    assert AGE_HEADS["ordinal (CORN)"].loss(nothing, age).item() == pytest.approx(4 * math.log(2) / 116)


def test_ordinal_ages_by_hand():
    logits = torch.full((1, 116), -5.0)
    logits[0, :40] = 5.0
    assert AGE_HEADS["ordinal (CORAL)"].decodings[""](logits).item() == 40
    # Each answer is all but certain, and the chance of being above all forty is their product.
    assert AGE_HEADS["ordinal (CORN)"].decodings[""](logits).item() == 40
    logits[0, :40] = math.log(0.9 / 0.1)  # 0.9 ** 6 is above one half, 0.9 ** 7 below
    assert AGE_HEADS["ordinal (CORN)"].decodings[""](logits).item() == 6


def test_the_answers_of_coral_stay_in_order():
    torch.manual_seed(0)
    logits = Coral(5)(torch.randn(8, 5))
    assert (logits.diff(dim=1) <= 0).all()


def test_mean_and_median_of_a_skewed_distribution():
    logits = torch.full((1, 117), -100.0)
    logits[0, 10], logits[0, 60] = math.log(0.8), math.log(0.2)
    mean, median = (AGE_HEADS["cross entropy"].decodings[way](logits).item() for way in ("mean", "median"))
    assert mean == pytest.approx(20, abs=0.01) and median == pytest.approx(10, abs=0.5)


# --- training ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_head_learns_the_age_from_features_that_hold_it():
    features, ages = planted(3000, 0)
    new, y_true = planted(300, 1)
    guess = np.abs(y_true - np.median(ages)).mean()
    estimates = fit_age_heads(features, ages, seed=0)(new[0])
    assert set(estimates) == {
        f"{name}, {way}" if way else name for name, head in AGE_HEADS.items() for way in head.decodings
    }
    for name, estimate in estimates.items():
        assert np.abs(estimate - y_true).mean() < guess / 3, name
        assert estimate.min() >= 0 and estimate.max() <= 116, name


@pytest.mark.slow
def test_weights_move_a_head_towards_the_faces_that_are_drawn_more_often():
    rng = np.random.default_rng(0)
    ages = np.repeat([20.0, 60.0], [900, 100])
    features = rng.normal(0, 1, (1, 1000, 4)).astype(np.float16)  # of no use: only the mix of ages can be learned
    names = ("absolute error",)
    plain = fit_age_heads(features, ages, 0, names)(features[0])["absolute error"].mean()
    weighted = fit_age_heads(features, ages, 0, names, np.where(ages == 60, 30.0, 1.0))(features[0])
    assert plain < 25 and weighted["absolute error"].mean() > plain + 5


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [False, True])
def test_two_stages_on_features_beat_the_median_and_keep_to_their_bins(overlap):
    features, ages = planted(1200, 0)
    new, y_true = planted(300, 1)
    edges = age_bin_edges(ages, 4)
    outputs = fit_stage_heads(features, ages, edges, overlap, seed=0)(new[0])
    staged = route(outputs)
    assert outputs["bin_ages"].shape == (300, 4)
    assert np.abs(staged["age_soft"] - y_true).mean() < np.abs(y_true - np.median(ages)).mean() / 3
    within = (outputs["bin_ages"] >= [0, *edges]) & (outputs["bin_ages"] <= [*edges, 116])
    assert within.all() != overlap


# --- features ---------------------------------------------------------------------------------------------


def test_views_differ_from_each_other_and_come_again_with_the_seed(tiny_network, noise_images):
    rows = np.array([3, 0, 1])
    features = augmented_features(tiny_network, noise_images, rows, 2, seed=5)
    assert features.shape == (2, 3, tiny_network.backbone.width) and features.dtype == np.float16
    assert not np.array_equal(features[0], features[1])
    np.testing.assert_array_equal(features, augmented_features(tiny_network, noise_images, rows, 2, seed=5))
    assert not np.array_equal(features, augmented_features(tiny_network, noise_images, rows, 2, seed=6))


def test_images_without_augmentation_have_the_features_of_prediction(tiny_network, noise_images, monkeypatch):
    monkeypatch.setattr(age_heads, "augment", lambda images, random: images)
    features = augmented_features(tiny_network, noise_images, np.arange(4), 1, seed=0)[0]
    expected = predict_outputs(tiny_network, noise_images, flip=False)["features"][:4]
    # bfloat16 keeps two to three digits; features of another image are further away.
    distance = np.abs(features - expected).mean() / np.abs(expected).mean()
    assert distance < 0.02 < np.abs(features - expected[::-1]).mean() / np.abs(expected).mean()
