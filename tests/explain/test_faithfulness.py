"""Faithfulness: maps of what counts beat maps of what does not, and random weights change what they should."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from facelib.explain import faithfulness
from facelib.explain.attribution import Explained, folded
from facelib.explain.faithfulness import (
    SAME_MAP,
    STEPS,
    against_baselines,
    beats_all,
    curve_scores,
    curves,
    faithful_finding,
    mean_curves,
    randomised,
    rank_correlations,
    sanity_check,
    sanity_finding,
    stability,
    stability_findings,
    template_finding,
    template_shares,
)
from facelib.explain.methods import METHODS, Method, draw_maps
from facelib.schema import AGE, ETHNICITY, GENDER

pytestmark = pytest.mark.slow

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
        z = 10 * texture - 1
        return {"age": 100 * texture, "gender": torch.stack([-z / 2, z / 2], dim=1), "ethnicity": ethnicity}


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
    attribute = {"age": AGE, "gender": GENDER, "ethnicity": ETHNICITY}[output]
    return Explained(output, attribute, Planted(*TOP_LEFT), output, None if code is None else np.full(4, code))


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


def test_every_map_of_a_sample_has_its_curves(sample, explained_sample):
    maps, _, numbers, _ = explained_sample
    assert numbers.keys() == maps.keys()
    for name in ("noise", "layer_cam", "lime"):
        for output in folded([sample.outputs[0], sample.outputs[2]]):
            drawn = maps[output.name, name]
            alone = curves([output.at(slice(len(drawn)))], sample.images[: len(drawn)], drawn)[0]
            np.testing.assert_allclose(numbers[output.name, name], alone, atol=0.02 * np.abs(alone).max())


def test_mean_curves_are_over_common_faces_and_the_classes_of_an_attribute(sample, explained_sample):
    numbers = explained_sample[2]
    means = mean_curves(sample, numbers)
    assert {family for family, _ in means} == {"age", "age_bin", "gender", "ethnicity", "expression"}
    assert all(values.shape == (2, STEPS + 1, 4) for values in means.values())  # LIME explains four
    classes = [numbers[output.name, "edges"] for output in sample.outputs if output.family == "ethnicity"]
    np.testing.assert_allclose(means["ethnicity", "edges"], np.mean(classes, axis=0)[:, :, :4])
    np.testing.assert_allclose(means["ethnicity", "edges"][:, [0, -1]], 0.2, atol=1e-3)  # probabilities sum to 1


# --- against baselines ------------------------------------------------------------------------------------

AGE_OUTPUT = Explained("age", AGE, None, "age")


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


@pytest.fixture(scope="module")
def gains() -> pd.DataFrame:
    return against_baselines(faithfulness_table(), [AGE_OUTPUT])


def test_differences_are_paired_by_face(gains):
    by_method = gains.set_index(["method", "baseline"])
    # Faces differ ten times as much as methods do: only pairs tell the methods apart.
    answers = by_method["answer"]
    assert answers.xs("grad_cam").eq("better").all() and answers.xs("layer_cam").eq("worse").all()
    assert answers.xs("lime").eq("inconclusive").all() and gains["unit"].eq("years").all()
    assert by_method["n"].xs("lime").eq(20).all() and by_method["n"].xs("grad_cam").eq(40).all()
    assert by_method.loc[("grad_cam", "edges"), "value"] == pytest.approx(1, abs=0.3)


def test_the_intervals_of_all_tests_hold_together(gains):
    alone = stats.ttest_rel(*(faithfulness_table().query("method == @name")["faithfulness"] for name in
                              ("grad_cam", "edges"))).confidence_interval(1 - 0.05 / 6)  # fmt: skip
    row = gains.set_index(["method", "baseline"]).loc[("grad_cam", "edges")]
    assert (row["low"], row["high"]) == pytest.approx((alone.low, alone.high))


def test_a_method_has_to_beat_every_baseline(gains):
    assert beats_all(gains).to_dict() == {
        ("age", "grad_cam"): True,
        ("age", "layer_cam"): False,
        ("age", "lime"): False,
    }
    one_lost = (gains["method"] == "grad_cam") & (gains["baseline"] == "noise")
    assert not beats_all(gains.assign(answer=gains["answer"].mask(one_lost, "inconclusive")))["age", "grad_cam"]


def test_the_finding_names_the_outputs_of_each_faithful_method(gains):
    finding = faithful_finding(gains, [AGE_OUTPUT])
    assert finding.key == "explain.faithful" and finding.n == 40
    assert "Grad-CAM for age;" in finding.text and "LayerCAM for none;" in finding.text


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


def of_weights(explained, images, settings):
    """Maps made of the network's own weights, another for each image."""
    values = [next(output.network.parameters()).detach().numpy().ravel() for output in explained]
    size = images.shape[0] * images.shape[1] * images.shape[2]
    return np.stack([np.resize(value, size).reshape(images.shape[:3]) for value in values]), None


def of_pixels(explained, images, settings):
    """Maps that never query the network."""
    return np.stack([images.mean(axis=3)] * len(explained)), None


def of_seed(explained, images, settings):
    """Maps that differ with the seed for all outputs but the first."""
    draws = [np.random.default_rng(settings.seed * (k > 0)).random(images.shape[:3]) for k in range(len(explained))]
    return np.stack(draws), None


@pytest.fixture
def planted_methods():
    """Only the three methods above; the table is restored in its order."""
    drawn = {"pixels": of_pixels, "weights": of_weights, "seed": of_seed}
    saved = dict(METHODS)
    METHODS.clear()
    METHODS.update(
        {name: Method(name.title(), "#000000", draw, seeded=draw is of_seed) for name, draw in drawn.items()}
    )
    yield
    METHODS.clear()
    METHODS.update(saved)


def test_a_map_that_never_queries_the_network_stays_and_one_that_does_changes(sample, planted_methods, monkeypatch):
    few = sanity_check(sample, draw_maps(sample)[0], faces=4)
    assert few["answer"].eq("too few").all()  # of at least 20
    monkeypatch.setattr(faithfulness, "MIN_CHECKED", 4)
    sanity = sanity_check(sample, draw_maps(sample)[0], faces=4)
    result = sanity.set_index(["method", "head"])
    pixels, weights = result.xs("pixels"), result.xs("weights")
    assert (pixels["answer"] == "stays").all() and pixels["value"].eq(1).all() and pixels["n"].eq(4).all()
    assert (weights["answer"] == "changes").all() and (weights["high"] < SAME_MAP).all()
    assert list(pixels.index) == [output.name for output in sample.outputs]
    finding = sanity_finding(sanity, sample.outputs)
    assert finding.key == "explain.random_weights" and finding.n == 4 and "1.00 (Pixels)" in finding.text
    unchanged = "Pixels of age, age bin, gender, every ethnicity and expression"
    assert unchanged in finding.text and "Weights of" not in finding.text


def test_flat_maps_are_left_out_of_the_sanity_check(sample, planted_methods, monkeypatch):
    def flat(explained, images, settings):
        return np.zeros((len(explained), *images.shape[:3])), None

    monkeypatch.setitem(METHODS, "weights", Method("Flat", "#000000", flat))
    sanity = sanity_check(sample, draw_maps(sample)[0], faces=4)
    flats = sanity[sanity["method"] == "weights"]
    assert flats["n"].eq(0).all() and flats["value"].isna().all() and flats["answer"].eq("too few").all()


# --- templates --------------------------------------------------------------------------------------------


def test_a_template_is_what_the_maps_of_different_faces_share(sample, planted_methods):
    maps = draw_maps(sample)[0]
    rng = np.random.default_rng(0)
    template, n = rng.normal(size=(1, 32, 32)), len(sample.images)
    maps["age", "pixels"] = np.repeat(template, n, axis=0)
    maps["gender", "pixels"] = 2 * template + rng.normal(size=(n, 32, 32))
    maps["expression", "pixels"] = np.concatenate([rng.normal(size=(n - 1, 32, 32)), np.zeros((1, 32, 32))])
    shares = template_shares(sample, maps).set_index(["method", "head"]).loc["pixels"]
    assert shares.loc["age", "value"] == pytest.approx(1) and shares.loc["expression", "value"] < 0.1
    pairs = [rank_correlations(maps["gender", "pixels"][[a]], maps["gender", "pixels"][[b]])
             for a in range(n) for b in range(a)]  # fmt: skip
    assert shares.loc["gender", "value"] == pytest.approx(np.mean(pairs)) and 0.7 < np.mean(pairs) < 0.9
    assert shares["n"].to_dict() | {"expression": n - 1} == shares["n"].to_dict()
    finding = template_finding(template_shares(sample, maps))
    assert "to 1.00 (Pixels)" in finding.text and finding.n == n


# --- other seeds ------------------------------------------------------------------------------------------


def test_stability_compares_every_pair_of_seeds(sample, planted_methods):
    maps, _ = draw_maps(sample)
    stable = stability(sample, maps, seeds=3, faces=2).set_index("head")
    assert set(stable["method"]) == {"seed"} and stable["n"].eq(2).all()
    assert stable.loc["age", "value"] == pytest.approx(1) and stable["value"].drop("age").abs().max() < 0.2
    base = sample.run.settings.seed
    draws = [np.random.default_rng(base + 1000 * k).random((2, 32, 32)) for k in range(3)]
    pairs = [rank_correlations(draws[a], draws[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert stable.loc["gender", "value"] == pytest.approx(np.mean(pairs))


def test_the_finding_names_the_least_stable_output():
    rows = [("age", "lime", 0.9, 12), ("age_bin", "lime", 0.5, 12)]
    (finding,) = stability_findings(pd.DataFrame(rows, columns=["head", "method", "value", "n"]), seeds=3)
    assert finding.key == "explain.lime_stability" and finding.n == 12
    assert "0.70" in finding.text and "age bin, 0.50" in finding.text
