"""The tables of methods and baselines: what each entry draws, and that a further entry is all that a method needs."""

import dataclasses
import json

import numpy as np
import pytest

from facelib.explain import faithfulness, methods, regions
from facelib.explain.methods import (
    BASELINES,
    METHODS,
    Method,
    draw_maps,
    edge_maps,
    map_edges,
    maps_finding,
    noise_maps,
)
from facelib.plots import explain as plots


def test_every_method_and_baseline_draws_a_map_of_each_face_it_explains(sample, explained_sample):
    maps, fits, *_ = explained_sample
    assert set(maps) == {(output.name, name) for output in sample.outputs for name in (*METHODS, *BASELINES)}
    for (_, name), values in maps.items():
        assert values.shape == (4 if name == "lime" else 6, 32, 32) and np.isfinite(values).all(), name
        assert name not in METHODS or (values.min() >= 0) or METHODS[name].signed, name
    assert set(fits) == {(output.name, "lime") for output in sample.outputs}
    assert all(fit.shape == (4,) for fit in fits.values())
    timings = json.loads((sample.run.path / "timings.json").read_text())
    assert {f"08.{name}" for name in METHODS} <= set(timings)


def test_a_baseline_is_one_map_for_all_outputs(sample, explained_sample):
    maps = explained_sample[0]
    for name in BASELINES:
        first = maps[sample.outputs[0].name, name]
        assert all(np.shares_memory(maps[output.name, name], first) for output in sample.outputs)


def test_edges_of_maps_are_those_of_the_network(sample):
    assert map_edges(sample) == {"grad_cam": 1, "layer_cam": 4}  # of 32 px: layer4, and layer1 averaged 2 x 2


def test_the_finding_counts_empty_maps_and_the_fit_of_local_models(sample):
    names = [output.name for output in sample.outputs]
    maps = {(name, method): np.ones((6, 32, 32)) for name in names for method in METHODS}
    for name in names:
        maps[name, "grad_cam"] = np.zeros((6, 32, 32))
        maps[name, "lime"] = -np.ones((4, 32, 32))
    maps["age", "grad_cam"] = np.ones((6, 32, 32))
    fits = {(name, "lime"): np.array([0.2, 0.4]) for name in names} | {("age", "lime"): np.array([0.6, 0.8])}
    finding = maps_finding(sample, maps, fits)
    empty = 1 - 1 / len(names)
    assert finding.key == "explain.maps" and finding.n == 6
    for text in (f"{100 * empty:.0f} % (Grad-CAM)", "0 % (LayerCAM)", "100 % (LIME)", "30 to 70 %", "LayerCAM 4 x 4"):
        assert text in finding.text


@pytest.mark.slow
def test_a_method_is_one_entry_and_so_is_a_baseline(sample, monkeypatch):
    """A sixth map goes through curves, checks, shares, figures and findings."""

    def centred(explained, images, settings):
        """A map of the middle that depends on the weights and the seed."""
        draws = [np.random.default_rng(settings.seed + k).random(images.shape[:3]) for k in range(len(explained))]
        weight = [abs(float(next(output.network.parameters()).detach().flatten()[0])) for output in explained]
        return np.stack([w + draw for w, draw in zip(weight, draws, strict=True)]), None

    monkeypatch.setitem(METHODS, "centre", Method("Centre", "#123456", centred, seeded=True))
    flat = Method("flat map", "#654321", lambda outputs, images, _: (np.ones((len(outputs), *images.shape[:3])), None))
    monkeypatch.setitem(BASELINES, "flat", flat)
    sample = dataclasses.replace(sample, outputs=[sample.outputs[0], sample.outputs[-1]])
    maps, fits = draw_maps(sample)
    numbers = faithfulness.all_curves(sample, maps)
    table = regions.attributions(sample, maps, numbers)
    assert {"centre", "flat"} <= set(table["method"])
    gains = faithfulness.against_baselines(table, sample.outputs)
    assert len(gains) == len(sample.outputs) * len(METHODS) * len(BASELINES)
    sanity = faithfulness.sanity_check(sample, maps, 3)
    stable = faithfulness.stability(sample, maps, 2, 3)
    assert "centre" in set(sanity["method"]) and set(stable["method"]) == {"lime", "centre"}
    shares = regions.against_shuffled(table, regions.shuffled_shares(sample))
    edges = regions.edges_background(table)
    assert "explain.expression.centre_over_edges" in regions.headline(shares, gains)
    findings = [
        maps_finding(sample, maps, fits),
        faithfulness.faithful_finding(gains, sample.outputs),
        faithfulness.sanity_finding(sanity, sample.outputs),
        faithfulness.template_finding(faithfulness.template_shares(sample, maps)),
    ]
    assert all("Centre" in finding.text for finding in findings)
    stabilities = {finding.key for finding in faithfulness.stability_findings(stable, 2)}
    assert stabilities == {"explain.lime_stability", "explain.centre_stability"}
    assert len(regions.background_findings(shares, edges, gains, sanity, sample)) == 2
    drawn = faithfulness.mean_curves(sample, numbers)
    legend = plots.faithfulness_curves(drawn, "").legends[0]
    assert [text.get_text() for text in legend.get_texts()][-5:] == ["LIME", "Centre", "edge map", "noise", "flat map"]
    assert plots.faithfulness_gains(gains, "") and plots.region_heatmap(table, regions.region_area(32))
    rows = plots.mean_maps(sample.backdrop, maps, gains, "").axes
    assert "Centre" in [axis.get_ylabel() for axis in rows]


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


def test_the_noise_of_a_run_is_that_of_its_seed(sample):
    settings = sample.run.settings.model_copy(update={"seed": 5})
    drawn, _ = methods.BASELINES["noise"].maps(sample.outputs, sample.images, settings)
    assert (drawn[-1] == noise_maps((6, 32, 32), 5)).all() and (drawn[0] != noise_maps((6, 32, 32), 0)).any()
