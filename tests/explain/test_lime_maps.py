"""LIME: the same weights as lime's own call, all outputs at once, signs that a planted network passes."""

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from torch import nn

from facelib.explain import attribution, lime_maps
from facelib.explain.attribution import Explained
from facelib.models.network import FaceNet
from facelib.schema import AGE, ETHNICITY, GENDER

PX = 40


class Texture(nn.Module):
    """Outputs are the fine texture of a part of the image."""

    def __init__(self, rows: slice, columns: slice):
        super().__init__()
        self.rows, self.columns, self.calls = rows, columns, []

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls.append(len(images))
        texture = images[:, :, self.rows, self.columns].float().diff(dim=3).abs().mean(dim=(1, 2, 3))
        ethnicity = torch.stack([20 * texture, *[torch.zeros_like(texture)] * 4], dim=1)
        z = 10 * texture - 1
        return {"age": 100 * texture, "gender": torch.stack([-z / 2, z / 2], dim=1), "ethnicity": ethnicity}


@pytest.fixture
def patches() -> np.ndarray:
    """Fine texture on patches of different colours, which superpixels follow."""
    textures = np.random.default_rng(0).integers(0, 256, (4, PX, PX, 3), dtype=np.uint8)
    colours = np.random.default_rng(1).integers(30, 190, (4, PX // 8, PX // 8, 3))
    return (colours.repeat(8, axis=1).repeat(8, axis=2) + textures // 4).astype(np.uint8)


def outputs_of(network: nn.Module, n: int) -> list[Explained]:
    classes = {AGE: None, GENDER: np.ones(n, int), ETHNICITY: np.zeros(n, int)}
    return [Explained(attribute.name, attribute, network, attribute.name, code) for attribute, code in classes.items()]


def test_lime_supports_what_raises_the_output_and_opposes_what_lowers_it(patches):
    network = Texture(slice(0, PX), slice(0, PX // 2))
    kept, other = slice(0, PX // 2 - 8), slice(PX // 2 + 8, PX)
    for code, sign in ((1, 1.0), (0, -1.0)):
        output = Explained("gender", GENDER, network, "gender", np.array([code]))
        (weights,), (fit,) = lime_maps.lime_map([output], patches[0], samples=300, seed=0)
        assert weights.shape == (PX, PX) and fit > 0.5
        assert sign * weights[:, kept].mean() > 5 * np.abs(weights[:, other]).mean()


def test_every_output_gets_the_weights_of_lime_s_own_call(patches, monkeypatch):
    monkeypatch.setattr(attribution, "processor_has_bfloat16", lambda: False)
    explained, image = outputs_of(Texture(slice(0, PX), slice(0, PX // 2)), 1), patches[0]
    maps, fits = lime_maps.lime_map(explained, image, samples=120, seed=3)

    def classifier(images: np.ndarray) -> np.ndarray:
        outputs = attribution.network_outputs(explained[0].network, images)
        return np.stack([output.at(np.zeros(len(images), int)).number(outputs) for output in explained], axis=1)

    explanation = LimeImageExplainer(random_state=3).explain_instance(
        image, classifier, labels=(0, 1, 2), top_labels=None, num_samples=120, random_seed=0,
        segmentation_fn=lime_maps.superpixels,
    )  # fmt: skip
    for k in range(3):
        weights = dict(explanation.local_exp[k])
        expected = np.vectorize(weights.get)(explanation.segments)
        np.testing.assert_allclose(maps[k], expected, rtol=1e-4, atol=1e-6)
    assert fits[2] == pytest.approx(explanation.score, abs=1e-4)  # lime keeps that of the last label


def test_one_set_of_perturbations_serves_all_outputs(patches):
    network = Texture(slice(0, PX), slice(0, PX))
    lime_maps.lime_map(outputs_of(network, 1), patches[0], samples=150, seed=0)
    assert network.calls == [64, 64, 22]


def test_hidden_superpixels_have_their_mean_colour_and_kept_ones_stay(patches):
    image, segments = patches[0], lime_maps.superpixels(patches[0])
    kept = np.zeros((2, segments.max() + 1), int)
    kept[0], kept[1, 0] = 1, 1
    (pictures,) = lime_maps.perturbed(image, segments, kept)
    assert (pictures[0] == image).all() and (pictures[1][segments == 0] == image[segments == 0]).all()
    hidden = segments == 3
    assert (pictures[1][hidden] == image[hidden].mean(axis=0).astype(np.uint8)).all()


def test_lime_weighs_whole_superpixels_and_repeats_with_its_seed(patches):
    output = Explained("age", AGE, Texture(slice(0, PX // 2), slice(0, PX // 2)), "age")
    first, again, other = (lime_maps.lime_map([output], patches[0], 80, seed)[0][0] for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert 4 <= len(np.unique(first)) <= lime_maps.LIME_SEGMENTS + 10
    assert first[: PX // 2, : PX // 2].mean() > 0


def test_several_images_are_explained_each_by_its_own_class(patches):
    network = Texture(slice(0, PX // 2), slice(0, PX // 2))
    output = Explained("ethnicity_white", ETHNICITY, network, "ethnicity", np.array([0, 2]))
    maps, fits = lime_maps.lime_maps([output], patches[:2], 60, seed=4)
    assert maps.shape == (1, 2, PX, PX) and fits.shape == (1, 2)
    single, fit = lime_maps.lime_map([output.at([1])], patches[1], 60, seed=5)
    assert (maps[0, 1] == single[0]).all() and fits[0, 1] == fit[0]


@pytest.mark.slow
def test_each_core_explains_images_of_its_own_and_the_threads_are_as_before(patches, monkeypatch):
    seen, before = [], torch.get_num_threads()

    def watched(explained, image, samples, seed):
        seen.append(torch.get_num_threads())
        if image is broken:
            raise ValueError("this one fails")
        return lime_map(explained, image, samples, seed)

    lime_map, broken = lime_maps.lime_map, None
    monkeypatch.setattr(lime_maps, "lime_map", watched)
    torch.manual_seed(0)
    output = Explained("gender", GENDER, FaceNet((GENDER,), "resnet18").eval(), "gender", np.ones(4, int))
    torch.set_num_threads(2)
    try:
        maps, _ = lime_maps.lime_maps([output], patches[:4], 20, seed=4)
        assert seen == [1] * 4 and torch.get_num_threads() == 2
        (asked,) = lime_maps.folded([output])
        alone, _ = lime_map([asked.at([3])], patches[3], 20, 7)
        np.testing.assert_allclose(maps[0, 3], alone[0], atol=1e-3)
        several = list(patches[:2])
        broken = several[1]
        with pytest.raises(ValueError, match="this one fails"):
            lime_maps.lime_maps([output], several, 20, seed=4)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
