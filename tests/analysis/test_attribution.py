"""Attribution: maps shared out over regions by hand, and tests of faithfulness that a planted network passes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facelib.analysis import attribution
from facelib.analysis.attribution import (
    REGIONS,
    REMOVED,
    attribution_rows,
    cam_maps,
    edge_maps,
    explained_target,
    faithfulness,
    fine_layer,
    lime_map,
    lime_maps,
    map_edge,
    noise_maps,
    region_map,
    region_shares,
)
from facelib.models.network import FaceNet, as_tensor, predict_outputs

PX = 40


class Planted(nn.Module):
    """A network whose outputs are the fine texture of one quadrant of the image and nothing else."""

    def __init__(self, rows: slice, columns: slice):
        super().__init__()
        self.rows, self.columns = rows, columns
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen.append(images)
        part = images[:, :, self.rows, self.columns]
        texture = part.diff(dim=3).abs().mean(dim=(1, 2, 3))
        ethnicity = torch.stack([20 * texture, *[torch.zeros_like(texture)] * 4], dim=1)
        return {"age": 100 * texture, "gender": 10 * texture - 1, "ethnicity": ethnicity}


TOP_LEFT = (slice(0, PX // 2), slice(0, PX // 2))


@pytest.fixture
def textures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, PX, PX, 3), dtype=np.uint8)


@pytest.fixture
def patches(textures) -> np.ndarray:
    """Fine texture on patches of different colours, which superpixels follow."""
    colours = np.random.default_rng(1).integers(30, 190, (4, PX // 8, PX // 8, 3))
    return (colours.repeat(8, axis=1).repeat(8, axis=2) + textures // 4).astype(np.uint8)


def map_on(rows: slice, columns: slice, n: int = 4) -> np.ndarray:
    saliency = np.zeros((n, PX, PX))
    saliency[:, rows, columns] = 1
    return saliency


# --- regions ----------------------------------------------------------------------------------------------


def test_the_map_has_every_region_and_the_eyes_where_the_alignment_puts_them():
    regions = region_map(200)
    assert set(np.unique(regions)) == set(range(len(REGIONS)))
    for column in (61, 139):
        assert REGIONS[regions[58, column]] == "eyes_brows"
    middle = [REGIONS[regions[row, 100]] for row in (5, 30, 95, 142, 185)]
    assert middle == ["hair", "forehead", "nose", "mouth", "jaw"]
    assert REGIONS[regions[110, 45]] == REGIONS[regions[110, 155]] == "cheeks"
    assert REGIONS[regions[195, 2]] == REGIONS[regions[195, 197]] == "background"


def test_the_map_is_symmetric_but_for_a_pixel():
    regions = region_map(200)
    assert (regions == regions[:, ::-1]).mean() > 0.97
    assert (regions[:, 1:] == regions[:, :0:-1]).all()  # about column 100


@pytest.mark.parametrize("px", [32, 48, 64, 96])
def test_smaller_maps_have_the_same_regions_and_shares(px):
    large, small = region_map(200), region_map(px)
    assert small.shape == (px, px)
    shares = [np.bincount(regions.ravel(), minlength=len(REGIONS)) / regions.size for regions in (large, small)]
    assert (shares[1] > 0).all() and np.abs(shares[0] - shares[1]).max() < 0.02


def test_shares_by_hand():
    hair, nose, mouth = (REGIONS.index(name) for name in ("hair", "nose", "mouth"))
    regions = np.array([[hair, hair], [nose, mouth]])
    saliency = np.array([[[1.0, 2.0], [4.0, 1.0]], [[0.0, -9.0], [0.0, 5.0]]])
    shares = region_shares(saliency, regions)
    assert shares.shape == (2, len(REGIONS))
    assert shares[0, [hair, nose, mouth]].tolist() == pytest.approx([3 / 8, 4 / 8, 1 / 8])
    assert shares[1, [hair, nose, mouth]].tolist() == [0, 0, 1]  # what is negative has no share


def test_shares_sum_to_one_or_are_missing():
    saliency = np.random.default_rng(0).normal(size=(5, 48, 48))
    saliency[3] = -1
    sums = region_shares(saliency, region_map(48)).sum(axis=1)
    assert np.isnan(sums[3]) and np.delete(sums, 3) == pytest.approx(1)


def test_a_flat_map_is_shared_out_by_area():
    regions = region_map(64)
    shares = region_shares(np.ones((1, 64, 64)), regions)[0]
    assert shares == pytest.approx(np.bincount(regions.ravel(), minlength=len(REGIONS)) / 64**2)


def test_rows_of_the_table_carry_shares_by_name():
    saliency = np.ones((2, 32, 32))
    table = attribution_rows(np.array(["a", "b"]), "age", "lime", saliency, np.array([0.5, 0.25]), region_map(32))
    assert list(table) == ["image_id", "head", "method", *[f"share_{name}" for name in REGIONS], "faithfulness"]
    assert table["image_id"].tolist() == ["a", "b"] and table["faithfulness"].tolist() == [0.5, 0.25]
    assert table["share_nose"].iloc[0] == pytest.approx((region_map(32) == REGIONS.index("nose")).mean())


# --- class activation maps --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> FaceNet:
    torch.manual_seed(3)
    return FaceNet("resnet18").eval()


@pytest.fixture(scope="module")
def pictures(small_faces) -> np.ndarray:
    return small_faces[0][np.arange(5)].repeat(2, axis=1).repeat(2, axis=2)  # 64 px


def test_explained_targets_by_hand():
    outputs = {"gender": np.array([0.5, -2.0]), "ethnicity": np.array([[0, 0, 3.0, 0, 0], [1.0, 0, 0, 0, 0]])}
    assert explained_target(outputs, "gender").tolist() == [1, -1]
    assert explained_target(outputs, "ethnicity").tolist() == [2, 0]
    assert explained_target(outputs, "age") is None


@pytest.mark.parametrize("head", attribution.HEADS)
@pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])
def test_maps_have_the_images_shape_and_a_range_of_0_to_1(head, method, network, pictures):
    targets = explained_target(predict_outputs(network, pictures), head)
    maps = cam_maps(network, pictures, head, targets, method)
    assert maps.shape == (5, 64, 64) and np.isfinite(maps).all()
    assert maps.min() >= 0 and maps.max() <= 1
    largest = maps.max(axis=(1, 2))
    assert ((largest == 0) | (largest > 0.5)).all()  # nothing speaks for the output, or something does most
    parts = cam_maps(network, pictures, head, targets, method, batch=2)
    np.testing.assert_allclose(parts, maps, atol=1e-3)  # each image is explained by its own target


@pytest.mark.parametrize(("head", "targets"), [("age", None), ("ethnicity", 3), ("gender", -1.0)])
def test_grad_cam_equals_its_formula(head, targets, network, pictures):
    maps = cam_maps(network, pictures[:1], head, None if targets is None else np.array([targets]), "grad_cam")
    kept = []
    hook = network.backbone.resnet.layer4.register_forward_hook(lambda *args: kept.append(args[2]))
    output = network(as_tensor(pictures[:1]))[head][0]
    hook.remove()
    score = output[targets] if head == "ethnicity" else output * (targets or 1)
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
    cam_maps(tiny_network, noise_images, "age", None, "grad_cam")
    assert {name for name, p in tiny_network.named_parameters() if p.requires_grad} == {
        "heads.age.weight",
        "heads.age.bias",
    }
    assert all(torch.equal(value, before[name]) for name, value in tiny_network.state_dict().items())


@pytest.mark.parametrize(("px", "stage", "places"), [(64, "layer1", 16), (96, "layer2", 12), (192, "layer3", 12)])
def test_the_fine_layer_has_twelve_places_at_least(px, stage, places, network):
    layer = fine_layer(network, px)
    assert layer is getattr(network.backbone.resnet, stage)
    shapes = []
    hook = layer.register_forward_hook(lambda *args: shapes.append(args[2].shape[2]))
    with torch.no_grad():
        network(torch.rand(1, 3, px, px))
    hook.remove()
    assert shapes == [places] == [map_edge(network, px, "layer_cam")]
    assert map_edge(network, px, "grad_cam") == px // 32


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


# --- faithfulness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "target"), [("age", None), ("gender", 1.0), ("ethnicity", 0)])
def test_a_map_of_what_counts_is_more_faithful_than_one_of_what_does_not(head, target, textures):
    network = Planted(*TOP_LEFT)
    targets = None if target is None else np.full(4, target)
    right = faithfulness(network, textures, map_on(*TOP_LEFT), head, targets)
    wrong = faithfulness(network, textures, map_on(slice(PX // 2, PX), slice(PX // 2, PX)), head, targets)
    assert (right > 0.05).all() and wrong == pytest.approx(0, abs=1e-6)


def test_the_drop_is_signed_for_classes_and_absolute_for_years(textures):
    network, saliency = Planted(*TOP_LEFT), map_on(*TOP_LEFT)
    assert (faithfulness(network, textures, saliency, "gender", np.full(4, -1.0)) < -0.05).all()
    assert (faithfulness(network, textures, saliency, "ethnicity", np.full(4, 2)) < -0.01).all()
    assert (faithfulness(network, textures, saliency, "age", None) > 0).all()


@pytest.mark.parametrize("kind", ["binary", "flat", "zero", "distinct", "float32"])
def test_every_map_removes_the_same_area(kind, textures):
    saliency = {
        "binary": map_on(*TOP_LEFT),
        "flat": np.full((4, PX, PX), 0.7),
        "zero": np.zeros((4, PX, PX)),
        "distinct": np.random.default_rng(1).random((4, PX, PX)),
        "float32": map_on(*TOP_LEFT).astype(np.float32),
    }[kind]
    network = Planted(*TOP_LEFT)
    faithfulness(network, textures, saliency, "age", None)
    before, after = network.seen
    # A blurred pixel may by chance keep its three colours; hardly one of a hundred does.
    removed = (before != after).any(dim=1).sum(dim=(1, 2))
    assert removed.tolist() == pytest.approx([REMOVED * PX**2] * 4, abs=2)


def test_the_most_salient_pixels_go_first(textures):
    saliency = np.tile(np.arange(PX, dtype=float)[:, None], (4, 1, PX))  # ever more salient towards the bottom
    network = Planted(*TOP_LEFT)
    faithfulness(network, textures, saliency, "age", None)
    before, after = network.seen
    rows = (before != after).any(dim=1).any(dim=2)
    assert (rows.numpy() == (np.arange(PX) >= PX * (1 - REMOVED))).all()


# --- LIME -------------------------------------------------------------------------------------------------


def test_lime_supports_what_raises_the_output_and_opposes_what_lowers_it(patches):
    network = Planted(slice(0, PX), slice(0, PX // 2))
    kept, other = slice(0, PX // 2 - 8), slice(PX // 2 + 8, PX)
    for sign in (1.0, -1.0):
        weights, fit = lime_map(network, patches[0], "gender", sign, samples=300, seed=0)
        assert weights.shape == (PX, PX) and fit > 0.5
        assert sign * weights[:, kept].mean() > 5 * np.abs(weights[:, other]).mean()


def test_lime_weighs_whole_superpixels_and_repeats_with_its_seed(patches):
    network = Planted(*TOP_LEFT)
    first, again, other = (lime_map(network, patches[0], "age", None, 80, seed)[0] for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert 4 <= len(np.unique(first)) <= attribution.LIME_SEGMENTS + 10
    assert first[TOP_LEFT].mean() > 0


def test_several_images_are_explained_one_by_one(patches):
    network = Planted(*TOP_LEFT)
    targets = np.array([0, 2])
    maps, fits = lime_maps(network, patches[:2], "ethnicity", targets, 60, seed=4)
    assert maps.shape == (2, PX, PX) and fits.shape == (2,)
    single, fit = lime_map(network, patches[1], "ethnicity", 2, 60, seed=4)
    assert (maps[1] == single).all() and fits[1] == fit
