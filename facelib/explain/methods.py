"""The attribution methods and the baselines that they have to beat: one entry each.

Maps, curves, checks, region shares, figures and findings loop over these tables.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import nn

from facelib.config import Settings
from facelib.explain.attribution import FINE_EDGE, Explained, Sample, fine_stage, grad_cam, layer_cam, stage_edges
from facelib.explain.lime_maps import lime_maps
from facelib.finding import Finding, listed

# Maps (outputs, n, px, px), and where a method fits local models their R2 (outputs, n), else None.
Drawn = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Method:
    """One way to draw what outputs depend on."""

    title: str
    colour: str
    maps: Callable[[list[Explained], np.ndarray, Settings], Drawn]  # of outputs and uint8 images (n, px, px, 3)
    edge: Callable[[nn.Module, int], int] | None = None  # of a network and px: places along the edge of an unscaled map
    signed: bool = False  # negative values oppose the output
    seeded: bool = False  # maps depend on the seed of the settings
    images: str = "explained_images"  # the setting of how many faces are explained


@dataclass(frozen=True)
class Baseline:
    """A map that never queries the network, one for all outputs."""

    title: str
    colour: str
    maps: Callable[[np.ndarray, Settings], np.ndarray]  # of images; (n, px, px)


def _each(draw: Callable[[Explained, np.ndarray], np.ndarray]) -> Callable[..., Drawn]:
    """A method that draws one output at a time."""
    return lambda explained, images, settings: (np.stack([draw(output, images) for output in explained]), None)


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
    "grad_cam": Method("Grad-CAM", "#0072B2", _each(grad_cam), edge=lambda network, px: stage_edges(network, px)[-1]),
    "layer_cam": Method("LayerCAM", "#E69F00", _each(layer_cam), edge=lambda network, px: fine_stage(network, px)[1]),
    "lime": Method("LIME", "#009E73", _lime, signed=True, seeded=True, images="lime_images"),
}
BASELINES = {
    "edges": Baseline("edge map", "#777777", lambda images, settings: edge_maps(images)),
    "noise": Baseline("noise", "#111111", lambda images, settings: noise_maps(images.shape[:3], settings.seed)),
}
REGION_METHOD = "layer_cam"  # fine enough to say where in a face a map points


def explained_faces(sample: Sample, name: str) -> Sample:
    """The faces of a sample that a method or a baseline draws."""
    setting = METHODS[name].images if name in METHODS else "explained_images"
    return sample.head(getattr(sample.run.settings.explanation, setting))


def draw_maps(sample: Sample) -> tuple[dict[tuple[str, str], np.ndarray], dict[tuple[str, str], np.ndarray]]:
    """The maps of all methods and baselines, and the R2 of local models, by output and method."""
    maps, fits, settings = {}, {}, sample.run.settings
    for name, method in METHODS.items():
        faces = explained_faces(sample, name)
        with sample.run.timed(f"08.{name}", len(faces.images)):
            drawn, fit = method.maps(faces.outputs, faces.images, settings)
        for k, output in enumerate(faces.outputs):
            maps[output.name, name] = drawn[k]
            fits |= {} if fit is None else {(output.name, name): fit[k]}
    for name, baseline in BASELINES.items():
        drawn = baseline.maps(sample.images, settings)
        maps |= {(output.name, name): drawn for output in sample.outputs}
    return maps, fits


def map_edges(sample: Sample) -> dict[str, int]:
    """Places along the edge of each method's unscaled map, where it has a grid of them."""
    network = sample.outputs[0].network
    return {name: method.edge(network, sample.px) for name, method in METHODS.items() if method.edge}


def maps_finding(sample: Sample, maps: dict, fits: dict) -> Finding:
    """How fine maps are, how many are empty, and how well local models fit."""
    grids = [f"{METHODS[name].title} {edge} x {edge}" for name, edge in map_edges(sample).items()]
    empty = {
        method.title: np.mean([(maps[output.name, name].max(axis=(1, 2)) <= 0).mean() for output in sample.outputs])
        for name, method in METHODS.items()
    }
    fitted = {METHODS[name].title: [np.mean(fit) for (_, method), fit in fits.items() if method == name]
              for name in METHODS}  # fmt: skip
    text = f"Resolution of maps: {listed(grids)}; to separate regions of a face takes {FINE_EDGE} x {FINE_EDGE}. "
    text += f"Empty maps: {listed(f'{share:.0%} ({title})' for title, share in empty.items())}."
    for title, shares in fitted.items():
        if shares:
            text += (
                f" Local models of {title} explain {min(shares):.0%} to {max(shares):.0%} of the variance, by output."
            )
    return Finding("explain.maps", text, n=len(sample.images))
