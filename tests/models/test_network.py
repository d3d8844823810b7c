"""The multitask network: layout, units, weights that go out and come back, and files that are refused."""

import json
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from facelib.data.pixels import FaceImages
from facelib.embedding.network import embed_pixels
from facelib.errors import FacelibError
from facelib.models import network as network_module
from facelib.models.age_stages import AgeStagesNet
from facelib.models.network import (
    Backbone,
    FaceNet,
    StartWeightsError,
    as_tensor,
    load_network,
    predict_outputs,
    save_network,
    scale,
)
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES
from facelib.synthetic.drawing import draw_face


class Touch:
    """An object whose unpickling makes a file: code that a weights file must not run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def resnet18_state() -> dict[str, torch.Tensor]:
    """What torchvision would publish: the weights of its own network, classifier included."""
    torch.manual_seed(5)
    return torchvision.models.resnet18().state_dict()


# --- layout and units -------------------------------------------------------------------------------------


def test_pixels_go_from_rows_of_colours_to_colour_planes():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = as_tensor(images)
    assert tensor.shape == (2, 3, 4, 5) and tensor.dtype == torch.float32
    assert tensor[1, 2, 3, 4].item() * 255 == pytest.approx(images[1, 3, 4, 2])
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert as_tensor(np.full((1, 2, 2, 3), 255, np.uint8)).max() == 1


@pytest.mark.parametrize(("architecture", "width"), [("resnet18", 512), ("resnet34", 512)])
def test_the_same_seed_gives_torchvisions_network_after_its_own_normalisation(architecture, width):
    torch.manual_seed(3)
    theirs = getattr(torchvision.models, architecture)().eval()
    torch.manual_seed(3)
    backbone = Backbone(architecture).eval()
    theirs.fc = torch.nn.Identity()
    own, expected = backbone.resnet.state_dict(), theirs.state_dict()
    assert list(own) == list(expected) and all(torch.equal(own[name], expected[name]) for name in own)
    images = torch.rand(2, 3, 32, 32)
    normalised = torchvision.transforms.functional.normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        features = backbone(images)
        assert features.shape == (2, width) and backbone.width == width
        torch.testing.assert_close(features, theirs(normalised))


@pytest.mark.slow
def test_networks_do_not_load_torchvision():
    code = "import sys, facelib.models.network as n; n.Backbone('resnet18'); print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_outputs_have_the_documented_shapes_and_units(tiny):
    network = FaceNet(UTKFACE_ATTRIBUTES, tiny, age_head="linear", age_mean=30, age_std=20).eval()
    outputs = network(torch.rand(4, 3, 32, 32))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "age": (4,),
        "gender": (4, 2),
        "ethnicity": (4, 5),
    }
    torch.nn.init.zeros_(network.heads["age"].weight)
    torch.nn.init.constant_(network.heads["age"].bias, -0.5)
    assert network(torch.rand(4, 3, 32, 32))["age"].tolist() == [20.0] * 4  # years: 30 - 0.5 * 20


def test_a_distribution_of_ages_is_decoded_by_its_median(tiny):
    network = FaceNet(UTKFACE_ATTRIBUTES, tiny).eval()
    outputs = network(torch.rand(4, 3, 32, 32))
    assert outputs["age_logits"].shape == (4, 117) and outputs["age_spread"].shape == (4,)
    torch.nn.init.zeros_(network.heads["age"].weight)
    with torch.no_grad():
        network.heads["age"].bias.fill_(-100.0)
        network.heads["age"].bias[[10, 20, 90]] = torch.log(torch.tensor([0.3, 0.4, 0.3]))
    # Half the chance lies below the middle of the year 20; the mean would be 38.
    assert network(torch.rand(2, 3, 32, 32))["age"].tolist() == pytest.approx([20.0, 20.0])


def test_a_small_stem_keeps_twice_as_many_places_along_each_edge():
    places = []
    for stem in ("pooled", "small"):
        resnet = Backbone("resnet18", stem).resnet
        resnet.layer1.register_forward_hook(lambda _, __, maps: places.append(tuple(maps.shape[2:])))
        resnet(torch.rand(1, 3, 48, 48))
    assert places == [(12, 12), (24, 24)]


def test_a_grey_network_sees_no_colour_and_a_small_one_no_more_than_its_edge(tiny):
    torch.manual_seed(0)
    images = torch.rand(2, 3, 64, 64)
    grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    backbone = Backbone(tiny, grey=True).eval()
    torch.testing.assert_close(backbone(images), backbone(grey))
    seen = []
    backbone = Backbone(tiny, input_px=48).eval()
    backbone.resnet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    backbone(images)
    backbone(images[..., :32, :32])
    assert seen == [48, 32]


def test_scaling_averages_rather_than_drops():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    assert scale(stripes, 16)[..., 2:-2, 2:-2].sub(0.5).abs().max() < 0.02


def test_an_unknown_architecture_is_refused():
    with pytest.raises(StartWeightsError, match="'vgg16': choose resnet18 or resnet34 or face_resnet"):
        FaceNet(UTKFACE_ATTRIBUTES, "vgg16")


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age_head", ["linear", "distribution"])
def test_a_network_comes_back_with_its_weights_shape_and_facts(age_head, tiny, noise_images, tmp_path):
    ages = {"age_head": age_head, "age_mean": 31.5, "age_std": 18.25}
    network = FaceNet((ETHNICITY, AGE), tiny, **ages, dropout=0.4).eval()
    save_network(network, tmp_path / "model.safetensors", image_px=64, note="naïve")
    drawn = torch.get_rng_state()
    loaded, facts = load_network(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), drawn)  # no random weights were made
    assert facts == {"image_px": 64, "note": "naïve"}
    assert loaded.config() == network.config()
    assert loaded.attributes == (ETHNICITY, AGE) and loaded.ages == ages and loaded.dropout.p == 0.4
    assert not loaded.training
    before, after = (predict_outputs(net, noise_images) for net in (network, loaded))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_half_precision_weights_come_back_in_full_precision(tiny_network, tmp_path):
    path = tmp_path / "model.safetensors"
    halves = {
        name: value.half() if value.is_floating_point() else value for name, value in tiny_network.state_dict().items()
    }
    save_file(halves, path, metadata={"config": json.dumps(tiny_network.config())})
    loaded, _ = load_network(path)
    weight = loaded.heads["ethnicity"].weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, tiny_network.heads["ethnicity"].weight, atol=1e-3, rtol=1e-3)


def test_weights_have_the_names_under_which_networks_are_published(tiny):
    names = {name for name in FaceNet(UTKFACE_ATTRIBUTES, tiny).state_dict() if name.startswith("heads.")}
    heads = ("age", "gender", "ethnicity")
    assert names == {f"heads.{head}.{part}" for head in heads for part in ("weight", "bias")}


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (None, "its header lacks attributes"),
        ([{"name": "age", "kind": "weight"}], "is not an attribute"),
        (3, "iterable"),
    ],
)
def test_a_network_without_known_attributes_is_refused(stored, reason, tiny_network, tmp_path):
    config = tiny_network.config() | {"attributes": stored}
    if stored is None:
        del config["attributes"]
    save_file(tiny_network.state_dict(), tmp_path / "model.safetensors", metadata={"config": json.dumps(config)})
    with pytest.raises(FacelibError, match=rf"model\.safetensors is not a network saved by facelib: .*{reason}"):
        load_network(tmp_path / "model.safetensors")


def make_bad_file(path: Path, kind: str, state: dict) -> None:
    if kind == "random bytes":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "empty":
        path.touch()
    elif kind == "pickle":
        torch.save(state, path)
    elif kind == "no header":
        save_file(state, path)
    elif kind == "other configuration":
        save_file(state, path, metadata={"config": json.dumps({"width": 3})})
    elif kind == "header without names":
        save_file(state, path, metadata={"config": "3"})
    elif kind == "other tensors":
        config = FaceNet(UTKFACE_ATTRIBUTES).config()
        save_file({"x": torch.zeros(2)}, path, metadata={"config": json.dumps(config)})


@pytest.mark.parametrize(
    "kind",
    [
        "random bytes",
        "empty",
        "pickle",
        "no header",
        "other configuration",
        "header without names",
        "other tensors",
        "missing",
    ],
)
def test_a_file_that_is_no_network_is_refused_by_its_name(kind, tiny_network, tmp_path):
    make_bad_file(tmp_path / "model.safetensors", kind, tiny_network.state_dict())
    with pytest.raises(FacelibError, match=r"model\.safetensors is not a network saved by facelib"):
        load_network(tmp_path / "model.safetensors")


def test_a_network_of_another_kind_is_refused(tiny, tmp_path):
    save_network(AgeStagesNet({"architecture": tiny}), tmp_path / "stages.safetensors")
    with pytest.raises(FacelibError, match="is not a network saved by facelib"):
        load_network(tmp_path / "stages.safetensors")


def test_no_code_in_a_weights_file_is_run(tmp_path):
    torch.save({"conv1.weight": Touch(tmp_path / "ran")}, tmp_path / "weights.pt")
    with pytest.raises(FacelibError):
        load_network(tmp_path / "weights.pt")
    with pytest.raises(StartWeightsError):
        Backbone().load_start_weights(str(tmp_path / "weights.pt"))
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "weights.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap works


# --- start weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pt", "safetensors", "a network of ours"])
def test_start_weights_from_a_file_are_really_in_the_backbone(kind, resnet18_state, tmp_path):
    path = tmp_path / ("weights.pt" if kind == "pt" else "weights.safetensors")
    if kind == "pt":
        torch.save(resnet18_state, path)
    elif kind == "safetensors":
        save_file(resnet18_state, path)
    else:
        donor = FaceNet((GENDER,))
        donor.backbone.resnet.load_state_dict(resnet18_state, strict=False)
        save_network(donor, path)
    backbone = Backbone("resnet18")
    assert not torch.equal(backbone.resnet.conv1.weight, resnet18_state["conv1.weight"])
    backbone.load_start_weights(str(path))
    loaded = backbone.resnet.state_dict()
    assert len(loaded) == len(resnet18_state) - 2  # all but the classifier's weight and bias
    assert all(torch.equal(value, resnet18_state[name]) for name, value in loaded.items())


def test_the_model_of_a_run_starts_another(tiny_network, tiny, empty_runs):
    path = empty_runs / "first" / "checkpoints" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_network(tiny_network, path)
    backbone = Backbone(tiny)
    backbone.load_start_weights("first")
    for name, value in tiny_network.backbone.resnet.state_dict().items():
        assert torch.equal(backbone.resnet.state_dict()[name], value)


def test_the_face_start_computes_the_features_of_the_face_network(installed):
    backbone = Backbone("face_resnet").eval()
    backbone.load_start_weights("face")
    face = draw_face(30, 0, 0, np.random.default_rng(0), 150)[None]
    with torch.no_grad():
        np.testing.assert_allclose(backbone(as_tensor(face)).numpy(), embed_pixels(face)[0], rtol=0.05, atol=0.02)
    assert [len(list(stage.parameters())) for stage in backbone.stages()] == [2, 12, 16, 12, 12, 4]


@pytest.mark.parametrize(("start", "architecture"), [("face", "resnet18"), ("imagenet", "face_resnet")])
def test_named_start_weights_of_another_architecture_are_refused(start, architecture):
    with pytest.raises(StartWeightsError, match=f"'{start}' are of another architecture than {architecture}"):
        Backbone(architecture).load_start_weights(start)


def test_random_face_blocks_keep_the_size_of_features(tiny):
    torch.manual_seed(0)
    features = Backbone("face_resnet").eval()(torch.rand(8, 3, 150, 150))
    assert 0.01 < features.std() < 10


def test_no_start_weights_leave_the_backbone_as_it_is(tiny_network):
    before = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    tiny_network.backbone.load_start_weights("none")
    assert all(torch.equal(value, before[name]) for name, value in tiny_network.state_dict().items())


@pytest.mark.parametrize(
    ("given", "wanted"), [("resnet18", "resnet34"), ("resnet34", "resnet18"), ("resnet50", "resnet18")]
)
def test_start_weights_of_another_architecture_are_refused(given, wanted, tmp_path):
    torch.save(getattr(torchvision.models, given)().state_dict(), tmp_path / "weights.pt")
    backbone = Backbone(wanted)
    before = backbone.resnet.conv1.weight.clone()
    with pytest.raises(StartWeightsError, match=f"{wanted}.*another architecture"):
        backbone.load_start_weights(str(tmp_path / "weights.pt"))
    assert torch.equal(backbone.resnet.conv1.weight, before)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "list", "broken safetensors"])
def test_an_unreadable_start_file_is_refused_with_the_remedy(kind, tmp_path):
    path = tmp_path / ("weights.safetensors" if kind == "broken safetensors" else "weights.pt")
    if kind == "list":
        torch.save([1, 2], path)
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "no weights at all")
    with pytest.raises(
        StartWeightsError, match="give a local file or the name of a run, or start_weights none to train from scratch"
    ) as error:
        Backbone().load_start_weights(str(path))
    assert str(path) in str(error.value)


def test_a_failed_download_is_refused_with_the_remedy(monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(StartWeightsError, match=r"'imagenet' .*URLError.*not known.*start_weights none"):
        Backbone().load_start_weights("imagenet")


# --- prediction -------------------------------------------------------------------------------------------


def test_an_image_and_its_mirror_image_are_predicted_alike(tiny_network, noise_images):
    mirrored = noise_images[:, :, ::-1]
    as_is, flipped = (predict_outputs(tiny_network, images) for images in (noise_images, mirrored))
    assert set(as_is) == {"features", "age", "age_spread", "age_logits", "gender", "ethnicity"}
    for name in as_is:
        np.testing.assert_allclose(as_is[name], flipped[name], rtol=1e-4, atol=1e-4)
    once = predict_outputs(tiny_network, noise_images, flip=False)
    twice = predict_outputs(tiny_network, mirrored, flip=False)
    assert np.abs(once["age"] - twice["age"]).max() > 0.01  # without averaging they differ
    np.testing.assert_allclose(as_is["features"], (once["features"] + twice["features"]) / 2, rtol=1e-4, atol=1e-5)


def test_predictions_do_not_depend_on_the_batch_size(tiny_network, noise_images, monkeypatch):
    whole = predict_outputs(tiny_network, noise_images)
    monkeypatch.setattr(network_module, "PREDICT_BATCH", 3)
    parts = predict_outputs(tiny_network, FaceImages(noise_images, np.arange(10)))
    for name in whole:
        assert len(parts[name]) == 10
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-4, atol=1e-5)


def test_rows_follow_the_places_of_the_cache(tiny_network, noise_images):
    whole = predict_outputs(tiny_network, noise_images)["age"]
    turned = predict_outputs(tiny_network, FaceImages(noise_images, np.array([9, 0, 9])))["age"]
    np.testing.assert_allclose(turned, whole[[9, 0, 9]], rtol=1e-4)


@pytest.mark.parametrize(("bias", "clipped"), [(100.0, 116.0), (-100.0, 0.0)])
def test_ages_are_clipped_to_the_range_of_labels(bias, clipped, tiny, noise_images):
    network = FaceNet((AGE,), tiny, age_head="linear").eval()
    torch.nn.init.constant_(network.heads["age"].bias, bias)
    assert predict_outputs(network, noise_images)["age"].tolist() == [clipped] * 10


def test_a_network_has_outputs_of_its_attributes_alone(tiny, noise_images):
    outputs = predict_outputs(FaceNet((ETHNICITY,), tiny).eval(), noise_images)
    assert set(outputs) == {"features", "ethnicity"} and outputs["ethnicity"].shape == (10, 5)


def test_saved_weights_are_contiguous_in_any_memory_format(tiny_network, tmp_path):
    tiny_network.to(memory_format=torch.channels_last)
    save_network(tiny_network, tmp_path / "model.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    name = "backbone.resnet.layer2.0.weight"
    assert torch.equal(saved[name], tiny_network.state_dict()[name])
