"""The attribution methods, and the baselines that they have to beat: one entry each, over which all else loops."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import nn

from facelib.config import Settings
from facelib.explain.attribution import FINE_EDGE, Explained, Maps, Sample, fine_stage, grad_cam, layer_cam, stage_edges
from facelib.explain.lime_maps import lime_maps
from facelib.finding import Finding, listed

# Maps (outputs, n, px, px), and where a method fits local models their R2 (outputs, n), else None.
Drawn = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Method:
    """One way to draw what outputs depend on; a baseline draws one map for all outputs, without the network."""

    title: str
    colour: str
    maps: Callable[[list[Explained], np.ndarray, Settings], Drawn]  # of outputs and uint8 images (n, px, px, 3)
    edge: Callable[[nn.Module, int], int] | None = None  # of a network and px: independent places along a map's edge
    signed: bool = False  # negative values oppose the output
    seeded: bool = False  # maps depend on the seed of the settings
    images: str = "explained_images"  # the setting of how many faces are explained


def _each(draw: Callable[[Explained, np.ndarray], np.ndarray]) -> Callable[..., Drawn]:
    return lambda explained, images, settings: (np.stack([draw(output, images) for output in explained]), None)


def _same(draw: Callable[[np.ndarray, Settings], np.ndarray]) -> Callable[..., Drawn]:
    """A baseline: one map for all outputs."""

    def maps(explained: list[Explained], images: np.ndarray, settings: Settings) -> Drawn:
        return np.broadcast_to(draw(images, settings), (len(explained), *images.shape[:3])), None

    return maps


def _lime(explained: list[Explained], images: np.ndarray, settings: Settings) -> Drawn:
    return lime_maps(explained, images, settings.explanation.lime_samples, settings.seed)


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Sobel edges of uint8 images (n, px, px, 3)."""
    grey = images.mean(axis=3)
    return np.hypot(ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2))


def noise_maps(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Smooth random maps of a shape (n, px, px), about as coarse as a class activation map."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, (0, shape[1] / 12, shape[2] / 12)) * shape[1]


METHODS = {
    "grad_cam": Method("Grad-CAM", "#56B4E9", _each(grad_cam), edge=lambda network, px: stage_edges(network, px)[-1]),
    "layer_cam": Method(
        "LayerCAM", "#D55E00", _each(layer_cam), edge=lambda network, px: fine_stage(network, px)[1] // 2
    ),
    "lime": Method("LIME", "#009E73", _lime, signed=True, seeded=True, images="lime_images"),
}
BASELINES = {
    "edges": Method("edge map", "#777777", _same(lambda images, settings: edge_maps(images))),
    "noise": Method("noise", "#111111", _same(lambda images, settings: noise_maps(images.shape[:3], settings.seed))),
}
REGION_METHOD = "layer_cam"  # the finer of the two that follow a grid; `maps_finding` says how coarse


def explained_faces(sample: Sample, name: str) -> Sample:
    """The faces of a sample that a method or a baseline draws."""
    return sample.head(getattr(sample.run.settings.explanation, (METHODS | BASELINES)[name].images))


def draw_maps(sample: Sample) -> tuple[Maps, Maps]:
    """The maps (n, px, px) of all methods and baselines, and the R2 (n,) of local models."""
    maps, fits = {}, {}
    for name, method in (METHODS | BASELINES).items():
        faces = explained_faces(sample, name)
        with sample.run.timed(f"08.{name}", len(faces.images)):
            drawn, fit = method.maps(faces.outputs, faces.images, sample.run.settings)
        for k, output in enumerate(faces.outputs):
            maps[output.name, name] = drawn[k]
            fits |= {} if fit is None else {(output.name, name): fit[k]}
    return maps, fits


def map_edges(sample: Sample) -> dict[str, int]:
    """Places along the edge of each method's unscaled map, where it has a grid of them."""
    network = sample.outputs[0].network
    return {name: method.edge(network, sample.px) for name, method in METHODS.items() if method.edge}


def maps_finding(sample: Sample, maps: Maps, fits: Maps) -> Finding:
    """How fine maps are, how many are empty, and how well local models fit."""
    grids = listed(f"{METHODS[name].title} {edge} x {edge}" for name, edge in map_edges(sample).items())
    text = f"Resolution of maps: {grids}; below {FINE_EDGE} x {FINE_EDGE}, neighbouring regions of a face run into "
    text += "each other. Empty maps: "
    empty = [
        f"{100 * np.mean([(maps[output.name, name].max(axis=(1, 2)) <= 0).mean() for output in sample.outputs]):.0f} % "
        f"({method.title})"
        for name, method in METHODS.items()
    ]
    text += f"{listed(empty)}."
    for name in dict.fromkeys(name for _, name in fits):
        shares = [fits[output.name, name].mean() for output in sample.outputs]
        text += f" Local models of {METHODS[name].title} explain {100 * min(shares):.0f} to {100 * max(shares):.0f} %"
        text += " of the variance."
    return Finding("explain.maps", text, n=len(sample.images))
