"""Figures of attribution: a row per method of the table, signs, regions, curves and gains with their numbers."""

import numpy as np
import pandas as pd
import pytest

from facelib.explain.methods import BASELINES, METHODS
from facelib.explain.regions import REGIONS, SHARES, region_area, region_map
from facelib.plots.explain import (
    attribution_grid,
    faithfulness_curves,
    faithfulness_gains,
    mean_maps,
    region_heatmap,
    region_outline,
)

HEADS = ("age", "ethnicity_white")


def picture(px: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (px, px, 3), dtype=np.uint8)


def some_maps() -> dict[tuple[str, str], np.ndarray]:
    """Three maps for each output, method and baseline, from -1 to 1."""
    maps = np.linspace(-1, 1, 3 * 64).reshape(3, 8, 8)
    return {(head, name): maps for name in (*METHODS, *BASELINES) for head in HEADS}


def gains_table(lost: tuple[str, str, str] = ("", "", "")) -> pd.DataFrame:
    """Gains in which each method beats each baseline, but for one of head, method and baseline."""
    rows = [
        {"head": head, "method": name, "baseline": baseline, "value": 0.1, "low": 0.05, "high": 0.2, "n": 20,
         "unit": "years" if head == "age" else "probability",
         "answer": "inconclusive" if (head, name, baseline) == lost else "better"}
        for head in HEADS for name in METHODS for baseline in BASELINES
    ]  # fmt: skip
    return pd.DataFrame(rows)


def shares_table() -> pd.DataFrame:
    rows = [(head, name) for _ in range(3) for head in HEADS for name in (*METHODS, *BASELINES)]
    shares = np.random.default_rng(0).dirichlet(np.ones(len(REGIONS)), len(rows))
    return pd.DataFrame(rows, columns=["head", "method"]).join(pd.DataFrame(shares, columns=SHARES))


def test_a_grid_has_a_row_for_each_method_and_signed_maps_are_centred_at_zero(texts):
    maps = {key: values[0] for key, values in some_maps().items() if key[1] in METHODS}
    figure = attribution_grid(picture(), maps, "Maps", {("age", "lime"): "a note"})
    assert len(figure.axes) == len(METHODS) * len(HEADS)
    rows = {axis.get_ylabel(): axis.images[1] for axis in figure.axes[:: len(HEADS)]}
    assert list(rows) == [method.title for method in METHODS.values()]
    for name, method in METHODS.items():
        low, high = rows[method.title].get_clim()
        assert low == (-high if method.signed else maps["age", name].min())
        assert rows[method.title].get_cmap().name == ("PiYG" if method.signed else "magma")
    shown = texts(figure)
    assert "a note" in shown and "Maps" in shown and "LIME: green supports" in shown and "ethnicity\nwhite" in shown


def test_mean_maps_mark_those_that_do_not_beat_every_baseline():
    figure = mean_maps(picture(), some_maps(), gains_table(lost=("age", "lime", "noise")), "Means")
    notes = [axis.get_xlabel() for axis in figure.axes]
    at = list(METHODS).index("lime") * len(HEADS)
    assert notes[at].startswith("not shown") and not any(note for k, note in enumerate(notes) if k != at)
    np.testing.assert_allclose(figure.axes[0].images[1].get_array(), some_maps()["age", "grad_cam"].mean(axis=0))


def test_the_outline_names_every_region(texts):
    figure = region_outline(picture(32), region_map(32))
    assert (figure.axes[1].images[1].get_array() == region_map(32)).all()
    assert all(name.replace("_", " and ") in texts(figure) for name in REGIONS)


@pytest.mark.slow
def test_the_heatmap_shows_mean_shares_in_per_cent_and_edges_once():
    table, area = shares_table(), region_area(32)
    figure = region_heatmap(table, area)
    panels = figure.axes[: len(METHODS) + 1]
    assert [panel.get_title(loc="left") for panel in panels] == [
        f"{title}: % of attribution" for title in (*(method.title for method in METHODS.values()), "edge map")
    ]
    means = table[(table["method"] == "grad_cam") & (table["head"] == "age")][SHARES].mean()
    numbers = [text.get_text() for text in panels[0].texts[: len(REGIONS)]]
    assert numbers == [f"{100 * share:.0f}" for share in means]
    assert [label.get_text() for label in panels[-1].get_yticklabels()] == ["any output"]
    colours = panels[0].collections[0].get_array()[0]
    np.testing.assert_allclose(colours, np.log2(means.to_numpy() / list(area.values())))


def test_curves_have_a_colour_per_method_and_baselines_are_dashed():
    numbers = {
        (head, name): np.linspace(1, 0, 12).reshape(2, 6, 1) + k * 0.1
        for k, name in enumerate((*METHODS, *BASELINES)) for head in ("age", "ethnicity")
    }  # fmt: skip
    figure = faithfulness_curves(numbers, "Curves")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == [entry.title for entry in (METHODS | BASELINES).values()]
    for name, entry in (METHODS | BASELINES).items():
        line = lines[entry.title]
        assert line.get_color() == entry.colour and line.get_linestyle() == ("--" if name in BASELINES else "-")
        np.testing.assert_allclose(line.get_ydata(), numbers["age", name][0, :, 0])
    assert len(figure.axes) == 4 and len({entry.colour for entry in (METHODS | BASELINES).values()}) == len(lines)


def test_gains_have_their_intervals_and_units(texts):
    figure = faithfulness_gains(gains_table(), "Gains")
    age, white = figure.axes
    against_edges = age.containers[0]
    assert list(against_edges.lines[0].get_xdata()) == pytest.approx([0.1] * len(METHODS))
    assert sorted(against_edges.lines[2][0].get_segments()[0][:, 0]) == pytest.approx([0.05, 0.2])
    assert (age.get_xlabel(), white.get_xlabel()) == ("years", "probability")
    assert "against edge map" in texts(figure) and "against noise" in texts(figure)


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda: mean_maps(picture(), some_maps(), gains_table(), "Means"),
        lambda: region_outline(picture(32), region_map(32)),
        lambda: region_heatmap(shares_table(), region_area(32)),
        lambda: faithfulness_gains(gains_table(), "Gains"),
    ],
)
def test_a_figure_is_drawn_the_same_twice(draw, assert_drawn_the_same_twice):
    assert_drawn_the_same_twice(draw)
