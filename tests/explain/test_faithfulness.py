"""Faithfulness: maps of what counts beat maps of what does not, and random weights change what they should."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from facelib.explain import faithfulness
from facelib.explain.attribution import Explained
from facelib.explain.faithfulness import (
    STEPS,
    against_baselines,
    curve_scores,
    curves,
    randomised,
    rank_correlations,
    sanity_check,
    verdicts,
)

PX = 40


class Planted(nn.Module):
    """A network whose outputs are the fine texture of one quadrant of the image and nothing else."""

    def __init__(self, rows: slice, columns: slice):
        super().__init__()
        self.rows, self.columns = rows, columns
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen.append(images)
        part = images[:, :, self.rows, self.columns].float()
        texture = part.diff(dim=3).abs().mean(dim=(1, 2, 3))
        ethnicity = torch.stack([20 * texture, *[torch.zeros_like(texture)] * 4], dim=1)
        return {"age": 100 * texture, "gender": 10 * texture - 1, "ethnicity": ethnicity}


TOP_LEFT = (slice(0, PX // 2), slice(0, PX // 2))
BOTTOM_RIGHT = (slice(PX // 2, PX), slice(PX // 2, PX))


@pytest.fixture
def textures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, PX, PX, 3), dtype=np.uint8)


def map_on(rows: slice, columns: slice, n: int = 4) -> np.ndarray:
    saliency = np.zeros((n, PX, PX))
    saliency[:, rows, columns] = 1
    return saliency


def explained(output: str, code: int | None) -> Explained:
    return Explained(output, Planted(*TOP_LEFT), output, None if code is None else np.full(4, code))


# --- curves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("output", "code"), [("age", None), ("gender", 1), ("ethnicity", 0)])
def test_a_map_of_what_counts_is_more_faithful_than_one_of_what_does_not(output, code, textures):
    head = explained(output, code)
    right, wrong = (curve_scores(curves([head], textures, map_on(*where))[0]) for where in (TOP_LEFT, BOTTOM_RIGHT))
    assert (right["deletion"] < wrong["deletion"]).all() and (right["insertion"] > wrong["insertion"]).all()
    assert (right["faithfulness"] > 0.05).all()


def test_a_class_that_the_texture_speaks_against_turns_the_order(textures):
    against = curve_scores(curves([explained("gender", 0)], textures, map_on(*TOP_LEFT))[0])
    assert (against["faithfulness"] < -0.05).all()


def test_curves_begin_and_end_with_the_unchanged_and_the_blurred_picture(textures):
    heads = [explained("gender", 1), explained("age", None)]
    (gender, age) = curves(heads, textures, map_on(*TOP_LEFT))
    assert gender.shape == (2, STEPS + 1, 4)
    deletion, insertion = gender
    np.testing.assert_allclose(deletion[0], insertion[-1])
    np.testing.assert_allclose(deletion[-1], insertion[0])
    assert (deletion[0] > deletion[-1]).all()
    assert (age[0, 0] == 0).all() and (age[1, -1] == 0).all() and (age <= 0).all() and (age[0, -1] < -1).all()


def test_scores_by_hand():
    numbers = np.zeros((2, STEPS + 1, 1))
    numbers[0, 0], numbers[1] = 1, 0.5  # deletion falls from 1 to 0 in the first step; insertion stays at one half
    scores = curve_scores(numbers).iloc[0]
    assert scores.to_dict() == pytest.approx({"deletion": 0.1, "insertion": 0.5, "faithfulness": 0.4})


@pytest.mark.parametrize("kind", ["binary", "flat", "zero", "distinct", "float32"])
def test_every_map_changes_the_same_area(kind, textures):
    saliency = {
        "binary": map_on(*TOP_LEFT),
        "flat": np.full((4, PX, PX), 0.7),
        "zero": np.zeros((4, PX, PX)),
        "distinct": np.random.default_rng(1).random((4, PX, PX)),
        "float32": map_on(*TOP_LEFT).astype(np.float32),
    }[kind]
    head = explained("age", None)
    curves([head], textures, saliency)
    before, after = head.network.seen[0], head.network.seen[2]  # deletion and insertion by turns
    # A blurred pixel may by chance keep its three colours; hardly one of a hundred does.
    removed = (before != after).any(dim=1).sum(dim=(1, 2))
    assert removed.tolist() == pytest.approx([PX**2 / STEPS] * 4, abs=2)


def test_the_most_salient_pixels_go_first(textures):
    saliency = np.tile(np.arange(PX, dtype=float)[:, None], (4, 1, PX))  # ever more salient towards the bottom
    head = explained("age", None)
    curves([head], textures, saliency)
    rows = (head.network.seen[0] != head.network.seen[2]).any(dim=1).any(dim=2)
    assert (rows.numpy() == (np.arange(PX) >= PX * (1 - 1 / STEPS))).all()


# --- against baselines ------------------------------------------------------------------------------------


def faithfulness_table() -> pd.DataFrame:
    """grad_cam is better than both baselines on every face, layer_cam worse, lime (of 20 faces) neither."""
    rng = np.random.default_rng(0)
    face = rng.normal(0, 5, 40)
    means = {"grad_cam": 1, "layer_cam": -1, "lime": 0, "edges": 0, "noise": 0}
    parts = [
        pd.DataFrame({"image_id": np.arange(40), "head": "age", "method": name, "faithfulness": face + mean + noise})
        for name, mean in means.items()
        for noise in [rng.normal(0, 0.5, 40)]
    ]
    parts[2] = parts[2].head(20)
    return pd.concat(parts)


def test_differences_are_paired_by_face():
    gains = against_baselines(faithfulness_table(), resamples=300, seed=0).set_index(["method", "baseline"])
    # Faces differ ten times as much as methods do: only pairs tell the methods apart.
    assert gains["answer"].xs("grad_cam").eq("better").all() and gains["answer"].xs("layer_cam").eq("worse").all()
    assert gains["answer"].xs("lime").eq("cannot tell").all()
    assert gains["n"].xs("lime").eq(20).all() and gains["n"].xs("grad_cam").eq(40).all()
    assert gains.loc[("grad_cam", "edges"), "value"] == pytest.approx(1, abs=0.3)


def test_verdicts_say_of_each_method_whether_it_beats_the_edges():
    gains = against_baselines(faithfulness_table(), resamples=300, seed=0)
    assert verdicts(gains, "edges") == [
        "grad cam beats the edges for age.",
        "layer cam is worse than they are for age.",
        "lime cannot be told from the edges for age.",
    ]


# --- random weights ---------------------------------------------------------------------------------------


def test_shuffled_weights_are_the_same_numbers_in_another_order(tiny_network):
    shuffled, again = (randomised(tiny_network, seed) for seed in (1, 1))
    for old, new, same in zip(*(net.parameters() for net in (tiny_network, shuffled, again)), strict=True):
        assert torch.equal(old.flatten().sort()[0], new.flatten().sort()[0]) and torch.equal(new, same)
    weight = "backbone.resnet.layer4.0.weight"
    assert not torch.equal(tiny_network.state_dict()[weight], shuffled.state_dict()[weight])


def test_rank_correlations_by_hand():
    first = np.array([[[1.0, 2], [3, 4]]] * 3)
    second = np.array([[[10.0, 20], [30, 99]], [[4, 3], [2, 1]], [[5, 5], [5, 5]]])
    np.testing.assert_allclose(rank_correlations(first, second), [1, -1, np.nan])


def test_a_map_that_never_asks_the_network_stays_and_one_that_does_changes(tiny_network):
    head = Explained("age", tiny_network, "age")
    rng = np.random.default_rng(0)
    fixed = rng.random((6, 8, 8))

    def weights(heads):
        """A map made of the network's own weights, another for each image."""
        values = heads[0].network.backbone.resnet.layer4[0].weight.detach().numpy().ravel()[: 6 * 64].reshape(6, 8, 8)
        return [values]

    maps = {("age", "edges"): fixed, ("age", "weights"): weights([head])[0]}
    draw = {"edges": lambda heads: [fixed[:4] for _ in heads], "weights": weights}
    result = sanity_check([head], maps, draw, resamples=100, seed=0).set_index("method")
    assert result.loc["edges", "answer"] == "stays" and result.loc["edges", ["value", "n"]].tolist() == [1, 4]
    assert result.loc["weights", "answer"] == "changes" and abs(result.loc["weights", "value"]) < 0.3
    assert result.loc["weights", "high"] < faithfulness.SAME_MAP
