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
    explained_outputs,
    fine_stage,
    folded,
    grad_cam,
    layer_cam,
    load_sample,
    network_outputs,
    titles,
)
from facelib.explain.lime_maps import lime_maps
from facelib.explain.methods import edge_maps
from facelib.explain.regions import REGIONS, region_map, region_shares
from facelib.models.age_stages import AgeStagesNet, to_bin
from facelib.models.network import FaceNet, as_tensor, predict_outputs, save_network
from facelib.runs import start_run
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.synthetic.drawing import draw_face

pytestmark = pytest.mark.slow

FOUR = (*UTKFACE_ATTRIBUTES, ClassAttribute("expression", classes=("neutral", "smiling")))
ETHNICITY_OUTPUTS = [f"ethnicity_{name.lower()}" for name in ETHNICITY.classes]

# --- what is explained -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> FaceNet:
    torch.manual_seed(3)
    return FaceNet(FOUR, "resnet18").eval()


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
    z = np.log([3.0, 1.0])
    outputs = tensors(
        age=[30.0, 50.0], gender=np.stack([-z / 2, z / 2], axis=1),
        ethnicity=np.log([[1, 1, 2, 4, 2], [9, 1, 5, 3, 2]]),
    )  # fmt: skip
    age = Explained("age", AGE, None, "age")
    gender = Explained("gender", GENDER, None, "gender", np.array([0, 1]))
    asian = Explained("ethnicity_asian", ETHNICITY, None, "ethnicity", np.array([2, 2]))
    assert age.number(outputs).tolist() == [30, 50]
    assert gender.number(outputs) == pytest.approx([0.25, 0.5])
    assert asian.number(outputs) == pytest.approx([0.2, 0.25])
    first = {name: value[:1] for name, value in outputs.items()}
    assert gender.at([1]).number(first) == pytest.approx([0.75])
    assert [explained.unit for explained in (age, gender, asian)] == ["years", "probability", "probability"]


def test_every_output_of_every_attribute_is_explained(network, stages, pictures):
    explained = {output.name: output for output in explained_outputs(network, stages, pictures, FOUR)}
    assert list(explained) == ["age", "age_bin", "gender", *ETHNICITY_OUTPUTS, "expression"]
    outputs = predict_outputs(network, pictures, flip=False)
    for name in ("gender", "expression"):  # of two classes the predicted one
        assert explained[name].classes.tolist() == outputs[name].argmax(axis=1).tolist()
        assert (explained[name].number({name: torch.as_tensor(outputs[name])}) >= 0.5).all()
    assert explained["age_bin"].network is stages and explained["age"].classes is None
    assert [explained[name].classes.tolist() for name in ETHNICITY_OUTPUTS] == [[k] * 5 for k in range(5)]
    families = [output.family for output in explained.values()]
    assert families == ["age", "age_bin", "gender", *["ethnicity"] * 5, "expression"]


def test_what_was_not_learned_is_not_explained_and_only_years_need_stages(network, pictures):
    assert [output.name for output in explained_outputs(network, None, pictures, (GENDER,))] == ["gender"]


def test_classes_are_one_name_only_where_all_of_them_are_named(network, stages, pictures):
    explained = explained_outputs(network, stages, pictures, FOUR)
    names = [output.name for output in explained]
    assert titles(names, explained) == ["age", "age bin", "gender", "every ethnicity", "expression"]
    assert titles(["age_bin", *ETHNICITY_OUTPUTS[1:3]], explained) == ["age bin", "ethnicity Black", "ethnicity Asian"]


def test_predictions_are_compared_with_labels_as_given(network, stages, pictures):
    explained = {output.name: output for output in explained_outputs(network, stages, pictures, FOUR)}
    outputs = predict_outputs(network, pictures, flip=False)
    bins = predict_outputs(stages, pictures, flip=False)["bin_logits"].argmax(axis=1)
    ages = pd.Series(outputs["age"] + [0, 4, -6, 0, np.nan])
    genders = pd.Series([*outputs["gender"][:4].argmax(axis=1), -1])
    ethnicities = pd.Series((outputs["ethnicity"].argmax(axis=1) + np.array([0, 1, 0, 0, 0])) % 5)
    faces = pd.DataFrame({"age": ages, "gender": genders, "ethnicity": ethnicities})
    right = {name: output.correct(pictures, faces) for name, output in explained.items() if name != "expression"}
    np.testing.assert_array_equal(right["age"], [1, 1, 0, 1, np.nan])
    np.testing.assert_array_equal(right["gender"], [1, 1, 1, 1, np.nan])
    np.testing.assert_array_equal(right["ethnicity_other"], [1, 0, 1, 1, 1])
    np.testing.assert_array_equal(right["age_bin"], [*(bins[:4] == to_bin(ages[:4], stages.edges)), np.nan])
    whole = np.floor(outputs["age"] + 0.5)
    banded = faces.assign(age=np.nan, age_from=whole - np.array([0, 5, 9, 0, 0]))
    banded["age_to"] = whole + np.array([0, -1, 9, 9, np.nan])
    (years,) = explained_outputs(network, None, pictures, (AGE.labelled_in(banded),))  # no stages of bands alone
    np.testing.assert_array_equal(years.correct(pictures, banded), [1, 0, 1, 1, np.nan])


# --- the sample of a run ----------------------------------------------------------------------------------


@pytest.fixture
def small_run(empty_runs, tiny, small_faces, monkeypatch):
    """A run of the small faces, of which every third is in each of three splits and every tenth is a copy."""
    images, faces = small_faces
    monkeypatch.setattr(attribution, "load_images", lambda run, faces: images)
    run = start_run("small", "smoke", overrides={"explained_images": 7})
    run.set_attributes(UTKFACE_ATTRIBUTES, (GENDER,))
    run.save_table(faces, "faces")
    splits = pd.DataFrame({"image_id": faces["image_id"], "representative": np.arange(len(faces)) % 10 > 0})
    parts = np.array(["train", "validation", "calibration"])[np.arange(len(faces)) % 3]
    run.save_table(splits.assign(split=parts), "splits")
    run.save_checkpoint(lambda path: save_network(FaceNet((GENDER,), tiny), path), "model.safetensors")
    return run


def test_a_sample_is_drawn_from_representative_held_out_faces(small_run, small_faces):
    sample, again = load_sample(small_run, 25), load_sample(small_run, 25)
    images, faces = small_faces
    row = pd.Index(faces["image_id"]).get_indexer(sample.labels.index)
    assert len(set(row)) == 7 and (row % 3 > 0).all() and (row % 10 > 0).all()
    assert (sample.images == images[row]).all() and (sample.images == again.images).all() and sample.px == 32
    held_out = [k for k in range(len(faces)) if k % 3 and k % 10]
    np.testing.assert_array_equal(sample.backdrop, images[held_out].mean(axis=0).round())
    assert (load_sample(small_run, len(held_out) + 1).backdrop == 128).all()


def test_the_first_faces_of_a_sample_keep_their_classes_and_labels(small_run):
    sample = load_sample(small_run, 25)
    first = sample.head(3)
    assert first.outputs[0].classes.tolist() == sample.outputs[0].classes[:3].tolist()
    assert first.labels.equals(sample.labels[:3]) and len(first.images) == 3
    correct = sample.correct()
    assert list(correct) == ["gender"] and correct.index.equals(sample.labels.index)
    known = sample.labels["gender"] >= 0
    agree = (sample.outputs[0].classes == sample.labels["gender"]).astype(float).where(known)
    np.testing.assert_array_equal(correct["gender"], agree)


# --- many calls -------------------------------------------------------------------------------------------


def test_folded_networks_answer_the_same(network, pictures, monkeypatch):
    monkeypatch.setattr(attribution, "processor_has_bfloat16", lambda: False)
    (output,) = folded([Explained("gender", GENDER, network, "gender", np.ones(5, int))])
    with torch.inference_mode():
        expected, got = (net(as_tensor(pictures))["age"] for net in (network, output.network))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in network.modules()) == 20
    assert not any(isinstance(part, nn.BatchNorm2d) for part in output.network.modules())


@pytest.mark.skipif(not attribution.processor_has_bfloat16(), reason="the processor is not built for bfloat16")
def test_folded_networks_answer_nearly_the_same_in_bfloat16(network, pictures):
    (output,) = folded([Explained("gender", GENDER, network, "gender", np.ones(5, int))])
    expected, got = (network_outputs(net, pictures)["age"] for net in (network, output.network))
    assert (got - expected).abs().max() < 0.25 * (expected.max() - expected.min())
    for net, kept_in in ((network, torch.float32), (output.network, torch.bfloat16)):
        assert {part.weight.dtype for part in net.modules() if isinstance(part, nn.Conv2d)} == {kept_in}


def test_a_card_that_multiplies_bfloat16_says_nothing_about_the_processor(network, pictures, monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    expected = network_outputs(network, pictures)["age"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    torch.testing.assert_close(network_outputs(network, pictures)["age"], expected, rtol=0, atol=0)


# --- class activation maps --------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [grad_cam, layer_cam])
def test_maps_have_the_images_shape_and_a_range_of_0_to_1(draw, network, stages, pictures):
    for output in explained_outputs(network, stages, pictures, UTKFACE_ATTRIBUTES)[:5]:
        maps = draw(output, pictures)
        assert maps.shape == (5, 64, 64) and np.isfinite(maps).all()
        assert maps.min() >= 0 and maps.max() <= 1
        largest = maps.max(axis=(1, 2))
        assert ((largest == 0) | (largest > 0.5)).all()  # nothing speaks for the output, or something does most
        parts = draw(output, pictures, batch=2)
        np.testing.assert_allclose(parts, maps, atol=1e-3)  # each image is explained by its own class


def test_the_lattice_of_strided_gradients_is_averaged_out(network, pictures, monkeypatch):
    class Lattice:
        def __init__(self, **_):
            pass

        __enter__ = __exit__ = lambda self, *_: self

        def __call__(self, images, targets):
            place = np.arange(64) // (64 // fine_stage(network, 64)[1]) % 2
            return np.broadcast_to(np.outer(place, place).astype(np.float32), (len(images), 64, 64))

    monkeypatch.setattr(attribution, "LayerCAM", Lattice)
    maps = layer_cam(Explained("age", AGE, network, "age"), pictures)
    np.testing.assert_allclose(maps[:, 8:-8, 8:-8], maps[0, 32, 32], rtol=1e-5)


@pytest.mark.parametrize(("output", "code"), [("age", None), ("ethnicity", 3), ("gender", 0), ("bin_logits", 1)])
def test_grad_cam_equals_its_formula(output, code, network, stages, pictures):
    explained = stages if output == "bin_logits" else network
    maps = grad_cam(Explained("", AGE, explained, output, None if code is None else np.array([code])), pictures[:1])
    kept = []
    hook = explained.backbone.resnet.layer4.register_forward_hook(lambda *args: kept.append(args[2]))
    value = explained(as_tensor(pictures[:1]))[output][0]
    hook.remove()
    gradient = torch.autograd.grad(value if code is None else value[code], kept[0])[0]
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
    trained = {name for name, parameter in tiny_network.named_parameters() if parameter.requires_grad}
    before = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    grad_cam(Explained("age", AGE, tiny_network, "age"), noise_images)
    assert {name for name, parameter in tiny_network.named_parameters() if parameter.requires_grad} == trained != set()
    assert all(torch.equal(value, before[name]) for name, value in tiny_network.state_dict().items())


@pytest.mark.parametrize(
    ("px", "shape", "stage", "places"),
    [
        (64, {}, 1, 16),
        (96, {}, 2, 12),
        (192, {}, 3, 12),
        (48, {"stem": "small"}, 2, 12),
        (96, {"input_px": 48}, 1, 12),
        (32, {}, 1, 8),
        (150, {"architecture": "face_resnet"}, 2, 17),
    ],
)
def test_the_fine_stage_is_the_deepest_with_twelve_places(px, shape, stage, places):
    network = FaceNet((GENDER,), **shape).eval()
    assert fine_stage(network, px) == (stage, places)


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
    network = FaceNet((GENDER,), tiny).train()
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(network(as_tensor(images))["gender"], torch.tensor(marked).long()).backward()
        optimizer.step()
    predicted = predict_outputs(network.eval(), images, flip=False)["gender"].argmax(axis=1)
    assert (predicted == marked).mean() > 0.95
    return request.param, network, images[marked]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["layer_cam", "lime"])
def test_the_region_shares_find_a_planted_cue(method, planted):
    place, network, images = planted
    images = images[:12]
    output = Explained("gender", GENDER, network, "gender", np.ones(len(images), int))
    maps = layer_cam(output, images) if method == "layer_cam" else lime_maps([output], images, 150, 0)[0][0]
    regions = region_map(64)
    area = np.bincount(regions.ravel(), minlength=len(REGIONS)) / regions.size
    density = np.nanmean(region_shares(maps, regions), axis=0) / area
    assert REGIONS[density.argmax()] == place and density.max() > 1.5
    outlines = region_shares(edge_maps(images), regions).mean(axis=0) / area
    assert density[REGIONS.index(place)] > 1.2 * outlines[REGIONS.index(place)]
