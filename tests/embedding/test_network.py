"""The network in torch: dlib's own descriptors, whatever the batch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from facelib.embedding import network
from facelib.embedding.network import Block, FaceRecognitionNet, embed_pixels, load_face_network
from facelib.embedding.weights import Convolution, FaceWeights, filter_shapes
from facelib.synthetic.drawing import draw_face


@pytest.fixture(scope="module")
def chips() -> np.ndarray:
    """Twelve drawn faces and noise: uint8 (13, 150, 150, 3)."""
    faces = [draw_face(5 + 7 * k, k % 2, k % 5, np.random.default_rng(k), 150) for k in range(12)]
    return np.stack([*faces, np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)])


def test_descriptors_are_those_of_dlib(installed, chips):
    dlib = pytest.importorskip("dlib", reason="dlib-bin is not installed")
    recogniser = dlib.face_recognition_model_v1(str(installed))
    expected = np.stack([np.array(recogniser.compute_face_descriptor(chip)) for chip in chips])
    assert np.abs(embed_pixels(chips)[1] - expected).max() < 2e-5  # 3e-4 with a divisor of 255


def test_features_and_descriptors_have_the_promised_form(installed, chips):
    features, descriptors = embed_pixels(chips[:3])
    assert features.shape == (3, 256) and features.dtype == np.float16 and (features >= 0).all()
    assert descriptors.shape == (3, 128) and descriptors.dtype == np.float32
    none = embed_pixels(chips[:0])
    assert [part.shape for part in none] == [(0, 256), (0, 128)]


def test_a_face_does_not_depend_on_its_batch(installed, chips, monkeypatch):
    together = embed_pixels(chips)[1]
    monkeypatch.setitem(network.BATCH, "cpu", 5)
    np.testing.assert_allclose(embed_pixels(chips)[1], together, atol=1e-5)
    np.testing.assert_allclose(embed_pixels(chips[4:5])[1], together[4:5], atol=1e-5)


@pytest.mark.parametrize("px", [96, 200])
def test_other_sizes_are_scaled(installed, chips, px):
    scaled = np.stack([Image.fromarray(chip).resize((px, px), Image.Resampling.BICUBIC) for chip in chips[:12]])
    descriptors = embed_pixels(scaled)[1]
    distances = np.linalg.norm(descriptors[:, None] - embed_pixels(chips[:12])[1][None], axis=2)
    assert (distances.argmin(axis=1) == np.arange(12)).all() and np.diag(distances).max() < 0.2


def test_a_network_that_is_trained_does_not_change_the_shared_one(installed, chips):
    before = embed_pixels(chips[:1])[1]
    with torch.no_grad():
        load_face_network().stem.weight.zero_()
    np.testing.assert_array_equal(embed_pixels(chips[:1])[1], before)


# --- without the weights ----------------------------------------------------------------------------------


def test_the_layers_have_the_shapes_of_the_file():
    layers = [part for part in FaceRecognitionNet().modules() if isinstance(part, torch.nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in layers] == filter_shapes()


def test_scales_and_shifts_are_folded_into_the_filters():
    random = np.random.default_rng(0)
    published = [
        Convolution(*(random.normal(size=size).astype(np.float32) for size in (shape, *3 * [shape[:1]])))
        for shape in filter_shapes()
    ]
    net = FaceRecognitionNet()
    net.load_weights(FaceWeights(published, random.normal(size=(256, 128)).astype(np.float32)))
    layers = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    assert layers[7] is net.layer2[0].first
    for layer, (filters, bias, scale, shift) in zip(layers, published, strict=True):
        images = torch.randn(2, layer.in_channels, 7, 7)
        plain = F.conv2d(images, torch.tensor(filters), torch.tensor(bias), layer.stride, layer.padding).numpy()
        expected = plain * scale[:, None, None] + shift[:, None, None]
        np.testing.assert_allclose(layer(images).detach().numpy(), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("edge", "expected"), [(8, 4), (7, 3), (4, 2)])
def test_a_halving_block_fills_up_with_zeros(edge, expected):
    """With all weights 0 only the shortcut is left: averages of 2 x 2 pixels in the first channels."""
    block = Block(2, 5, True)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        images = torch.rand(1, 2, edge, edge)
        out = block(images)
    assert out.shape == (1, 5, expected, expected)
    assert out[0, 0, 0, 0] == pytest.approx(images[0, 0, :2, :2].mean().item()) and (out[0, 2:] == 0).all()


def test_gradients_reach_every_weight():
    torch.manual_seed(0)
    net = FaceRecognitionNet()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.05 * torch.rand(parameter.shape))
    net.projection(net(255 * torch.rand(1, 3, 150, 150))).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())
