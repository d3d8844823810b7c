"""Attribution: what is explained, class activation maps by their formula, and a planted cue that maps have to find."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facelib.explain import attribution
from facelib.explain.attribution import (
    Explained,
    attribution_rows,
    cam_maps,
    correct_predictions,
    edge_maps,
    explained_outputs,
    fine_layer,
    folded,
    map_edge,
    network_outputs,
    noise_maps,
)
from facelib.explain.lime_maps import lime_maps
from facelib.explain.regions import REGIONS, region_map, region_shares
from facelib.models.age_stages import AgeStagesNet, to_bin
from facelib.models.network import FaceNet, as_tensor, predict_outputs
from facelib.schema import ETHNICITIES
from facelib.synthetic.drawing import draw_face

# --- what is explained -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> FaceNet:
    torch.manual_seed(3)
    return FaceNet("resnet18").eval()


@pytest.fixture(scope="module")
def stages() -> AgeStagesNet:
    torch.manual_seed(4)
    return AgeStagesNet(edges=(20.0, 40.0), medians=(8.0, 30.0, 55.0)).eval()


@pytest.fixture(scope="module")
def pictures(small_faces) -> np.ndarray:
    return small_faces[0][np.arange(5)].repeat(2, axis=1).repeat(2, axis=2)  # 64 px


def tensors(**outputs) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values) for name, values in outputs.items()}


def test_explained_numbers_by_hand():
    outputs = tensors(age=[30.0, 50.0], gender=[np.log(3.0), 0.0], ethnicity=np.log([[1, 1, 2, 4, 2], [9, 1, 5, 3, 2]]))
    numbers = {
        "age": Explained("age", None, "age"),
        "gender": Explained("gender", None, "gender", np.array([0, 1])),
        "ethnicity": Explained("ethnicity_asian", None, "ethnicity", np.array([2, 2])),
    }
    assert numbers["age"].number(outputs).tolist() == [30, 50]
    assert numbers["gender"].number(outputs) == pytest.approx([0.25, 0.5])
    assert numbers["ethnicity"].number(outputs) == pytest.approx([0.2, 0.25])
    assert numbers["gender"].at([1]).number(tensors(gender=[np.log(3.0)])) == pytest.approx([0.75])


def test_every_output_is_explained_and_those_not_learned_are_left_out(network, stages, pictures):
    heads = {head.name: head for head in explained_outputs(network, stages, pictures)}
    assert list(heads) == ["age", "age_bin", "gender", *(f"ethnicity_{name.lower()}" for name in ETHNICITIES)]
    outputs = predict_outputs(network, pictures, flip=False)
    assert heads["gender"].classes.tolist() == (outputs["gender"] > 0).astype(int).tolist()
    assert heads["age_bin"].network is stages and heads["age"].classes is None
    assert [heads[f"ethnicity_{name.lower()}"].classes.tolist() for name in ETHNICITIES] == [[k] * 5 for k in range(5)]
    assert [head.name for head in explained_outputs(network, stages, pictures, ("gender",))] == ["gender"]


def test_predictions_are_held_against_labels_as_given(network, stages, pictures):
    heads = explained_outputs(network, stages, pictures)
    outputs = predict_outputs(network, pictures, flip=False)
    bins = predict_outputs(stages, pictures, flip=False)["bin_logits"].argmax(axis=1)
    labels = pd.DataFrame(
        {
            "age": outputs["age"] + [0, 4, -6, 0, np.nan],
            "gender": [*(outputs["gender"][:4] > 0).astype(int), -1],
            "ethnicity": (outputs["ethnicity"].argmax(axis=1) + np.array([0, 1, 0, 0, 0])) % 5,
        }
    )
    correct = correct_predictions(heads, pictures, labels)
    np.testing.assert_array_equal(correct["age"], [1, 1, 0, 1, np.nan])
    np.testing.assert_array_equal(correct["gender"], [1, 1, 1, 1, np.nan])
    np.testing.assert_array_equal(correct["ethnicity_other"], [1, 0, 1, 1, 1])
    true_bins = to_bin(labels["age"][:4], stages.edges)
    np.testing.assert_array_equal(correct["age_bin"], [*(bins[:4] == true_bins), np.nan])


def test_folded_networks_answer_the_same(network, pictures, monkeypatch):
    monkeypatch.setattr(attribution, "has_fast_bfloat16", lambda: False)
    (head,) = folded([Explained("gender", network, "gender", np.ones(5, int))])
    with torch.inference_mode():
        expected, got = (net(as_tensor(pictures))["age"] for net in (network, head.network))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in network.modules()) == 20
    assert not any(isinstance(part, nn.BatchNorm2d) for part in head.network.modules())


@pytest.mark.skipif(not attribution.has_fast_bfloat16(), reason="the processor is not built for bfloat16")
def test_folded_networks_answer_nearly_the_same_in_bfloat16(network, pictures):
    (head,) = folded([Explained("gender", network, "gender", np.ones(5, int))])
    expected, got = (network_outputs(net, pictures)["age"] for net in (network, head.network))
    assert (got - expected).abs().max() < 0.25 * (expected.max() - expected.min())
    for net, kept_in in ((network, torch.float32), (head.network, torch.bfloat16)):
        assert {part.weight.dtype for part in net.modules() if isinstance(part, nn.Conv2d)} == {kept_in}


# --- class activation maps --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])
def test_maps_have_the_images_shape_and_a_range_of_0_to_1(method, network, stages, pictures):
    for head in explained_outputs(network, stages, pictures)[:5]:
        maps = cam_maps(head, pictures, method)
        assert maps.shape == (5, 64, 64) and np.isfinite(maps).all()
        assert maps.min() >= 0 and maps.max() <= 1
        largest = maps.max(axis=(1, 2))
        assert ((largest == 0) | (largest > 0.5)).all()  # nothing speaks for the output, or something does most
        parts = cam_maps(head, pictures, method, batch=2)
        np.testing.assert_allclose(parts, maps, atol=1e-3)  # each image is explained by its own class


def test_the_lattice_of_strided_gradients_is_averaged_out(network, stages, pictures, monkeypatch):
    class Lattice:
        def __init__(self, **_):
            pass

        __enter__ = __exit__ = lambda self, *_: self

        def __call__(self, images, targets):
            place = np.arange(64) // (64 // map_edge(network, 64, "layer_cam")) % 2
            return np.broadcast_to(np.outer(place, place).astype(np.float32), (len(images), 64, 64))

    monkeypatch.setattr(attribution, "LayerCAM", Lattice)
    maps = cam_maps(explained_outputs(network, stages, pictures)[0], pictures, "layer_cam")
    np.testing.assert_allclose(maps[:, 8:-8, 8:-8], maps[0, 32, 32], rtol=1e-5)


@pytest.mark.parametrize(("output", "code"), [("age", None), ("ethnicity", 3), ("gender", 0), ("bin_logits", 1)])
def test_grad_cam_equals_its_formula(output, code, network, stages, pictures):
    explained = stages if output == "bin_logits" else network
    head = Explained("", explained, output, None if code is None else np.array([code]))
    maps = cam_maps(head, pictures[:1], "grad_cam")
    kept = []
    hook = explained.backbone.resnet.layer4.register_forward_hook(lambda *args: kept.append(args[2]))
    value = explained(as_tensor(pictures[:1]))[output][0]
    hook.remove()
    score = {"age": value, "gender": -value}.get(output, value if value.ndim == 0 else value[code])
    gradient = torch.autograd.grad(score, kept[0])[0]
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).clamp(min=0).detach()
    cam = F.interpolate(cam, size=(64, 64), mode="bilinear")[0, 0].numpy()
    cam = (cam - cam.min()) / (np.ptp(cam) + 1e-7)
    if cam.max() == 0:
        assert maps.max() == 0
    else:
        assert np.corrcoef(maps[0].ravel(), cam.ravel())[0, 1] > 0.99


def test_explaining_leaves_the_network_as_it_was(tiny_network, noise_images):
    tiny_network.requires_grad_(False)
    tiny_network.heads["age"].requires_grad_(True)
    before = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    cam_maps(Explained("age", tiny_network, "age"), noise_images, "grad_cam")
    assert {name for name, p in tiny_network.named_parameters() if p.requires_grad} == {
        "heads.age.weight",
        "heads.age.bias",
    }
    assert all(torch.equal(value, before[name]) for name, value in tiny_network.state_dict().items())


@pytest.mark.parametrize(
    ("px", "shape", "stage", "places"),
    [
        (64, {}, "layer1", 16),
        (96, {}, "layer2", 12),
        (192, {}, "layer3", 12),
        (48, {"stem": "small"}, "layer2", 12),
        (96, {"input_px": 48}, "layer1", 12),
    ],
)
def test_the_fine_layer_has_twelve_places_at_least(px, shape, stage, places):
    network = FaceNet(**shape).eval()
    layer = fine_layer(network, px)
    assert layer is getattr(network.backbone.resnet, stage)
    shapes = []
    hooks = [
        part.register_forward_hook(lambda *args: shapes.append(args[2].shape[2]))
        for part in (layer, network.backbone.resnet.layer4)
    ]
    with torch.no_grad():
        network(torch.rand(1, 3, px, px))
    assert len(hooks) == 2 and shapes == [places, map_edge(network, px, "grad_cam")]
    assert map_edge(network, px, "layer_cam") == places


# --- baselines --------------------------------------------------------------------------------------------


def test_edges_are_where_the_picture_changes():
    images = np.zeros((1, 20, 20, 3), np.uint8)
    images[:, :, 10:] = 200
    edges = edge_maps(images)[0]
    assert (edges[:, 9:11] > 0).all() and edges[:, :8].max() == edges[:, 12:].max() == 0


def test_noise_is_smooth_and_repeats_with_its_seed():
    first, again, other = (noise_maps((3, 48, 48), seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any() and first.shape == (3, 48, 48)
    assert np.abs(np.diff(first, axis=2)).mean() < 0.3 * first.std()
    assert np.abs(np.corrcoef(first.reshape(3, -1))[np.triu_indices(3, 1)]).max() < 0.6


def test_rows_of_the_table_carry_shares_by_name_and_scores():
    saliency, scores = np.ones((2, 32, 32)), pd.DataFrame({"faithfulness": [0.5, 0.25]})
    table = attribution_rows(np.array(["a", "b"]), "age", "lime", saliency, scores, region_map(32))
    assert list(table) == ["image_id", "head", "method", *[f"share_{name}" for name in REGIONS], "faithfulness"]
    assert table["image_id"].tolist() == ["a", "b"] and table["faithfulness"].tolist() == [0.5, 0.25]
    assert table["share_nose"].iloc[0] == pytest.approx((region_map(32) == REGIONS.index("nose")).mean())


# --- a planted cue ----------------------------------------------------------------------------------------

CUES = {"background": (slice(52, 63), slice(1, 10)), "mouth": (slice(42, 49), slice(25, 39))}


@pytest.fixture(scope="module", params=CUES)
def planted(request, tiny) -> tuple[str, FaceNet, np.ndarray]:
    """Synthetic faces (64 px) half of which have a striped mark in a region, and a network that took it for gender."""
    rng = np.random.default_rng(5)
    marked = np.arange(96) % 2 == 1
    images = np.stack([draw_face(30, int(rng.integers(2)), int(rng.integers(5)), rng, 64) for _ in marked])
    rows, columns = CUES[request.param]
    # Stripes, since LIME hides an area behind its mean colour: a flat mark would still be seen.
    mark = images[marked, rows, columns]
    mark[:, :, 0::2], mark[:, :, 1::2] = (250, 250, 250), (10, 10, 10)
    images[marked, rows, columns] = mark
    torch.manual_seed(0)
    network = FaceNet(tiny).train()
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(
            network(as_tensor(images))["gender"], torch.tensor(marked).float()
        ).backward()
        optimizer.step()
    predicted = predict_outputs(network.eval(), images, flip=False)["gender"] > 0
    assert (predicted == marked).mean() > 0.95
    return request.param, network, images[marked]


@pytest.mark.parametrize("method", ["layer_cam", "lime"])
def test_the_region_shares_find_a_planted_cue(method, planted):
    place, network, images = planted
    images = images[:12]
    head = Explained("gender", network, "gender", np.ones(len(images), int))
    maps = cam_maps(head, images, method) if method == "layer_cam" else lime_maps([head], images, 150, 0)[0][0]
    regions = region_map(64)
    area = np.bincount(regions.ravel(), minlength=len(REGIONS)) / regions.size
    density = np.nanmean(region_shares(maps, regions), axis=0) / area
    assert REGIONS[density.argmax()] == place and density.max() > 1.5
    outlines = region_shares(edge_maps(images), regions).mean(axis=0) / area
    assert density[REGIONS.index(place)] > 1.2 * outlines[REGIONS.index(place)]
