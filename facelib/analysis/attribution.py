"""What a network looks at: Grad-CAM, LayerCAM and LIME maps, shared out over facial regions and tested.

A map is not a reason. Beside each method stand an edge map, which never asked the network, and noise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from lime.lime_image import LimeImageExplainer
from pytorch_grad_cam import GradCAM, LayerCAM
from scipy import ndimage
from skimage.draw import disk, ellipse
from skimage.segmentation import slic
from torch import nn

from facelib.metrics import bootstrap
from facelib.models.network import FaceNet, as_tensor, sigmoid, softmax

HEADS = ("age", "gender", "ethnicity")
METHODS = ("grad_cam", "layer_cam", "lime", "edges", "noise")
REGIONS = ("hair", "forehead", "eyes_brows", "nose", "cheeks", "mouth", "jaw", "background")
LIME_SEGMENTS = 40
REMOVED = 0.2  # share of pixels blurred by the faithfulness test


def region_map(px: int) -> np.ndarray:
    """Facial region of each pixel of an aligned crop, as an index into `REGIONS`.

    Drawn from the aligned eye centres (61, 58) and (139, 58) of 200 x 200 and average proportions; it fits an average
    face, and a turned or very young one only roughly.

    Returns
    -------
    int array of shape (px, px)
    """
    edge = 200
    regions = np.full((edge, edge), REGIONS.index("background"))

    def fill(name: str, rows_columns: tuple[np.ndarray, np.ndarray]) -> None:
        regions[rows_columns] = REGIONS.index(name)

    shape = (edge, edge)
    fill("hair", ellipse(72, 100, 95, 92, shape=shape))
    regions[110:] = REGIONS.index("background")
    fill("jaw", ellipse(100, 100, 98, 74, shape=shape))
    rows, columns = np.mgrid[:edge, :edge]
    face = regions == REGIONS.index("jaw")
    regions[face & (rows < 14)] = REGIONS.index("hair")
    regions[face & (rows >= 14) & (rows < 42)] = REGIONS.index("forehead")
    regions[face & (rows >= 42) & (rows < 150)] = REGIONS.index("cheeks")
    regions[face & (rows >= 42) & (rows < 76)] = REGIONS.index("eyes_brows")
    regions[face & (rows >= 60) & (rows < 118) & (np.abs(columns - 100) < 8 + (rows - 60) * 0.28)] = REGIONS.index(
        "nose"
    )
    fill("mouth", ellipse(142, 100, 20, 36, shape=shape))
    for column in (61, 139):
        fill("eyes_brows", disk((55, column), 25, shape=shape))
    scale = (np.arange(px) + 0.5) * edge / px
    return regions[np.ix_(scale.astype(int), scale.astype(int))]


def region_shares(saliency: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Share of each map's mass in each region.

    Parameters
    ----------
    saliency : float array of shape (n, px, px)
        Negative values count as 0.
    regions : int array of shape (px, px)

    Returns
    -------
    float array of shape (n, len(REGIONS))
        Rows sum to 1, or are nan for a map without mass.
    """
    mass = np.maximum(saliency, 0).reshape(len(saliency), -1)
    one_hot = np.eye(len(REGIONS))[regions.ravel()]
    total = mass.sum(axis=1, keepdims=True)
    return np.divide(mass @ one_hot, total, out=np.full((len(mass), len(REGIONS)), np.nan), where=total > 0)


class _Target(nn.Module):
    """One head's number per image, as the two-dimensional output that grad-cam asks for."""

    def __init__(self, network: FaceNet, head: str, classes: np.ndarray | None):
        super().__init__()
        self.network, self.head = network, head
        self.classes = None if classes is None else torch.as_tensor(classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.network(images)[self.head]
        if self.head == "ethnicity":
            # grad-cam may pass a part of the images; the classes belong to the part that `cam_maps` gave.
            output = output.gather(1, self.classes[: len(images), None])[:, 0]
        elif self.head == "gender":
            output = output * self.classes[: len(images)]
        return output[:, None]


def explained_target(outputs: dict[str, np.ndarray], head: str) -> np.ndarray | None:
    """Which way each head is explained: the predicted ethnicity, the predicted gender's sign, age as it is."""
    if head == "ethnicity":
        return outputs["ethnicity"].argmax(axis=1)
    if head == "gender":
        return np.where(outputs["gender"] > 0, 1.0, -1.0).astype(np.float32)
    return None


@contextmanager
def _gradients(network: FaceNet) -> Iterator[None]:
    """Evaluation mode with gradients to the layers, restored afterwards."""
    required = [parameter.requires_grad for parameter in network.parameters()]
    network.eval().requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in zip(network.parameters(), required, strict=True):
            parameter.requires_grad_(flag)


def cam_maps(
    network: FaceNet, images: np.ndarray, head: str, targets: np.ndarray | None, method: str, batch: int = 50
) -> np.ndarray:
    """Grad-CAM of the last layer, or LayerCAM of an earlier one with at least 12 x 12 places.

    Parameters
    ----------
    network : FaceNet
    images : uint8 array (n, px, px, 3)
    head : str
        One of `HEADS`.
    targets : array of shape (n,), optional
        From `explained_target`.
    method : str
        grad_cam (ICCV 2017) or layer_cam (TIP 2021).

    Returns
    -------
    float array of shape (n, px, px), 0 to 1
    """
    layer = network.backbone.resnet.layer4 if method == "grad_cam" else fine_layer(network, images.shape[1])
    make = GradCAM if method == "grad_cam" else LayerCAM
    maps = []
    with _gradients(network):
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            target = _Target(network, head, None if targets is None else targets[part])
            with make(model=target, target_layers=[layer]) as cam:
                maps.append(cam(as_tensor(images[part]), targets=[lambda output: output[0]] * len(images[part])))
    return np.concatenate(maps)


def fine_layer(network: FaceNet, px: int) -> nn.Module:
    """The deepest residual stage whose map still has at least 12 x 12 places at this image size."""
    resnet = network.backbone.resnet
    return next(
        (stage for stage, stride in ((resnet.layer3, 16), (resnet.layer2, 8)) if px / stride >= 12), resnet.layer1
    )


def map_edge(network: FaceNet, px: int, method: str) -> int:
    """Places along the edge of the map behind a method, before it is blown up to the image."""
    resnet = network.backbone.resnet
    strides = {resnet.layer4: 32, resnet.layer3: 16, resnet.layer2: 8, resnet.layer1: 4}
    layer = resnet.layer4 if method == "grad_cam" else fine_layer(network, px)
    return -(-px // strides[layer])


def _score_function(network: FaceNet, head: str, target) -> Callable[[np.ndarray], np.ndarray]:
    """LIME's question: the explained number of images (n, px, px, 3), as (n, 1)."""

    @torch.inference_mode()
    def score(images: np.ndarray) -> np.ndarray:
        output = network(as_tensor(images.astype(np.uint8)))[head].numpy()
        if head == "ethnicity":
            return softmax(output)[:, [target]]
        return (sigmoid(output * target) if head == "gender" else output)[:, None]

    return score


def lime_map(
    network: FaceNet, image: np.ndarray, head: str, target, samples: int, seed: int
) -> tuple[np.ndarray, float]:
    """LIME weights of superpixels: positive where an area supports the explained output, negative where it opposes.

    Parameters
    ----------
    network : FaceNet
    image : uint8 array (px, px, 3)
    head : str
    target : int, float or None
        One entry of `explained_target`.
    samples : int
        Perturbed images.
    seed : int

    Returns
    -------
    float array (px, px)
        Weight of each pixel's superpixel, in the head's unit.
    float
        R2 of the local linear model.
    """
    explainer = LimeImageExplainer(random_state=seed, verbose=False)
    explanation = explainer.explain_instance(
        image,
        _score_function(network, head, target),
        labels=(0,),
        top_labels=None,
        hide_color=None,
        num_features=LIME_SEGMENTS,
        num_samples=samples,
        batch_size=64,
        segmentation_fn=lambda picture: slic(picture, LIME_SEGMENTS, compactness=12, start_label=0),
        random_seed=seed,
    )
    weights = np.zeros(explanation.segments.max() + 1)
    for segment, weight in explanation.local_exp[0]:
        weights[segment] = weight
    return weights[explanation.segments], float(explanation.score)


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Sobel edges of uint8 images (n, px, px, 3): a map that never asked the network."""
    grey = images.mean(axis=3)
    return np.hypot(ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2))


def noise_maps(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Smooth random maps of a shape (n, px, px), about as coarse as a class activation map."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, (0, shape[1] / 12, shape[2] / 12)) * shape[1]


def faithfulness(
    network: FaceNet, images: np.ndarray, saliency: np.ndarray, head: str, targets: np.ndarray | None
) -> np.ndarray:
    """How far the explained output falls when the most salient fifth of the pixels is blurred away.

    Deletion by blur, as in RISE (BMVC 2018), in one step. Larger is more faithful; for age, whose
    explained output has no direction, it is the absolute change.

    Returns
    -------
    float array of shape (n,)
        Probability for gender and ethnicity, years for age.
    """
    px = images.shape[1]
    blurred = ndimage.gaussian_filter(images.astype(float), (0, px / 10, px / 10, 0))
    flat = saliency.reshape(len(saliency), -1)
    # Ties (whole superpixels, flat maps) are broken at random, so that every map removes the same area.
    ties = np.random.default_rng(0).random(flat.shape)
    rank = np.lexsort((ties, -flat), axis=1).argsort(axis=1)
    removed = (rank < REMOVED * flat.shape[1]).reshape(saliency.shape)
    changed = np.where(removed[..., None], blurred, images).astype(np.uint8)
    before, after = (_explained(network, pictures, head, targets) for pictures in (images, changed))
    return np.abs(before - after) if head == "age" else before - after


@torch.inference_mode()
def _explained(network: FaceNet, images: np.ndarray, head: str, targets: np.ndarray | None) -> np.ndarray:
    """The explained number of each image: probability of the explained class, or years."""
    output = torch.cat([network(as_tensor(part))[head] for part in np.array_split(images, len(images) // 256 + 1)])
    output = output.numpy()
    if head == "ethnicity":
        return softmax(output)[np.arange(len(output)), targets]
    return sigmoid(output * targets) if head == "gender" else output


def attribution_rows(
    image_ids: np.ndarray, head: str, method: str, saliency: np.ndarray, faithful: np.ndarray, regions: np.ndarray
) -> pd.DataFrame:
    """Rows of the attributions table: image_id, head, method, share_<region>, faithfulness."""
    shares = pd.DataFrame(region_shares(saliency, regions), columns=[f"share_{name}" for name in REGIONS])
    shares.insert(0, "image_id", image_ids)
    shares.insert(1, "head", head)
    shares.insert(2, "method", method)
    return shares.assign(faithfulness=faithful)


def lime_maps(
    network: FaceNet, images: np.ndarray, head: str, targets: np.ndarray | None, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`lime_map` of several images: maps (n, px, px) and the R2 of each local model (n,)."""
    pairs = [
        lime_map(network, image, head, None if targets is None else targets[row], samples, seed)
        for row, image in enumerate(images)
    ]
    return np.stack([weights for weights, _ in pairs]), np.array([fit for _, fit in pairs])


def against_baselines(table: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Is a method more faithful than edges and noise, on the same faces?

    Parameters
    ----------
    table : DataFrame
        The attributions table.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        head, method, baseline, value (mean paired difference of faithfulness), low, high, n, better (the whole interval
        is above 0).
    """
    wide = table.pivot_table(index=["head", "image_id"], columns="method", values="faithfulness", sort=False)
    rows = []
    for head, part in wide.groupby("head", sort=False):
        for method in METHODS[:3]:
            for baseline in METHODS[3:]:
                gain = (part[method] - part[baseline]).dropna()
                estimate = bootstrap(np.mean, gain, resamples=resamples, seed=seed)
                better = bool(estimate.low > 0)
                rows.append(
                    {"head": head, "method": method, "baseline": baseline, **estimate.to_dict(), "better": better}
                )
    return pd.DataFrame(rows).drop(columns="unit")
