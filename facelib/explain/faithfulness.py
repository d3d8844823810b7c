"""Do maps show what the network uses? Deletion and insertion curves, and what is left of a map with random weights."""

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy import ndimage, stats
from torch import nn

from facelib.explain.attribution import BASELINES, METHODS, Explained, explained_numbers
from facelib.statistics import bootstrap

STEPS = 5  # of a curve from 0 to the whole picture
BLUR = 0.1  # standard deviation of the blur that removes, as a share of the edge
SAME_MAP = 0.5  # rank correlation above which a map is said to be the same with random weights


def curves(heads: list[Explained], images: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """The explained numbers while the most salient pixels are blurred away, and while they alone come back.

    Deletion and insertion as in RISE (BMVC 2018), with blurred pixels for deleted ones. Age has no direction that would
    be more faithful: its number is minus the distance in years from the unchanged picture's.

    Parameters
    ----------
    heads : list of Explained
        All are read from the same changed pictures; `folded` networks answer sooner.
    images : uint8 array (n, px, px, 3)
    saliency : float array (n, px, px)

    Returns
    -------
    float array of shape (heads, 2, STEPS + 1, n)
        Deletion, insertion; the share of changed pixels rises from 0 to 1 along the third axis.
    """
    px, n = images.shape[1], len(images)
    blurred = ndimage.gaussian_filter(images.astype(np.float32), (0, px * BLUR, px * BLUR, 0)).astype(np.uint8)
    flat = saliency.reshape(n, -1)
    # Ties (whole superpixels, flat maps) are broken at random, so that every map changes the same area.
    ties = np.random.default_rng(0).random(flat.shape)
    rank = np.lexsort((ties, -flat), axis=1).argsort(axis=1).reshape(saliency.shape)
    numbers = np.empty((len(heads), 2, STEPS + 1, n))
    numbers[:, 0, 0] = numbers[:, 1, -1] = explained_numbers(heads, images)
    numbers[:, 0, -1] = numbers[:, 1, 0] = explained_numbers(heads, blurred)
    for step in range(1, STEPS):
        first = (rank < round(step / STEPS * px * px))[..., None]
        numbers[:, 0, step] = explained_numbers(heads, np.where(first, blurred, images))
        numbers[:, 1, step] = explained_numbers(heads, np.where(first, images, blurred))
    for k, head in enumerate(heads):
        if head.classes is None:
            numbers[k] = -np.abs(numbers[k] - numbers[k, 0, 0])
    return numbers


def curve_scores(numbers: np.ndarray) -> pd.DataFrame:
    """Mean heights of the curves of one head.

    Parameters
    ----------
    numbers : float array (2, STEPS + 1, n)
        One head's part of `curves`.

    Returns
    -------
    DataFrame of n rows
        deletion (lower is more faithful), insertion (higher is), faithfulness (insertion minus deletion); probability,
        or years.
    """
    deletion, insertion = np.trapezoid(numbers, dx=1 / STEPS, axis=1)
    return pd.DataFrame({"deletion": deletion, "insertion": insertion, "faithfulness": insertion - deletion})


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
        head, method, baseline, value (mean paired difference of faithfulness), low, high, n, answer: better (the whole
        interval is above 0), worse (below), cannot tell.
    """
    wide = table.pivot_table(index=["head", "image_id"], columns="method", values="faithfulness", sort=False)
    rows = []
    for head, part in wide.groupby("head", sort=False):
        for method in METHODS:
            for baseline in BASELINES:
                gain = (part[method] - part[baseline]).dropna()
                found = bootstrap(np.mean, gain, resamples=resamples, seed=seed)
                answer = found.against(0, "worse", "better")
                rows.append({"head": head, "method": method, "baseline": baseline, **found.to_dict(), "answer": answer})
    return pd.DataFrame(rows).drop(columns="unit")


def verdicts(gains: pd.DataFrame, baseline: str) -> list[str]:
    """One sentence for each method: for which outputs it beats a baseline, with 95 % confidence.

    Examples
    --------
    >>> gains = pd.DataFrame({"head": ["age", "gender"], "method": "lime", "baseline": "edges",
    ...                       "answer": ["better", "worse"]})
    >>> verdicts(gains, "edges")
    ['lime beats the edges for age; is worse than they are for gender.']
    """
    texts = {"better": f"beats the {baseline} for", "cannot tell": f"cannot be told from the {baseline} for",
             "worse": "is worse than they are for" if baseline == "edges" else "is worse than it is for"}  # fmt: skip
    sentences = []
    for method, part in gains[gains["baseline"] == baseline].groupby("method", sort=False):
        named = {answer: part.loc[part["answer"] == answer, "head"].str.replace("_", " ") for answer in texts}
        said = [f"{texts[answer]} {', '.join(heads)}" for answer, heads in named.items() if len(heads)]
        sentences.append(f"{method.replace('_', ' ')} {'; '.join(said)}.")
    return sentences


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """A copy whose weights are shuffled within every tensor: as large as before, and without what was learned."""
    copied = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in copied.parameters():
            order = torch.randperm(values.numel(), generator=generator)
            values.copy_(values.flatten()[order].view_as(values))
    return copied


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation of the pixels of two maps of each image; nan where one of them is flat.

    Parameters
    ----------
    first, second : float arrays (n, px, px)

    Returns
    -------
    float array (n,)
    """
    ranks = [stats.rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    product = (centred[0] * centred[1]).sum(axis=1)
    size = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    return np.divide(product, size, out=np.full(len(first), np.nan), where=size > 0)


def sanity_check(
    heads: list[Explained],
    maps: dict[tuple[str, str], np.ndarray],
    explain: dict[str, Callable[[list[Explained]], list[np.ndarray]]],
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """How alike is a method's map to the one it draws of the same network with random weights?

    The test of Adebayo et al. (NeurIPS 2018): a map that hardly changes shows the picture, not the network.

    Parameters
    ----------
    heads : list of Explained
    maps : dict
        The network's maps (n, px, px) by head and method; the first images are compared.
    explain : dict
        For each method, the maps of heads, one array (at most n, px, px) each.
    resamples, seed : int
        Of the bootstrap; the seed also shuffles the weights.

    Returns
    -------
    DataFrame
        head, method, value (mean rank correlation), low, high, n, answer: changes (the whole interval is below
        `SAME_MAP`), stays (above), cannot tell.
    """
    shuffled = {id(head.network): randomised(head.network, seed) for head in heads}
    asked = [head.of(shuffled[id(head.network)]) for head in heads]
    rows = []
    for method, draw in explain.items():
        for head, drawn in zip(heads, draw(asked), strict=True):
            alike = rank_correlations(maps[head.name, method][: len(drawn)], drawn)
            found = bootstrap(np.mean, alike[np.isfinite(alike)], resamples=resamples, seed=seed)
            answer = found.against(SAME_MAP, "changes", "stays")
            rows.append({"head": head.name, "method": method, **found.to_dict(), "answer": answer})
    return pd.DataFrame(rows).drop(columns="unit")
