"""Do maps show what the network uses? Deletion and insertion curves, random weights, and other seeds."""

import copy
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import torch
from scipy import ndimage, stats
from torch import nn

from facelib.explain.attribution import Explained, Maps, Sample, explained_numbers, folded, titles
from facelib.explain.methods import BASELINES, METHODS, explained_faces
from facelib.finding import Finding, listed
from facelib.statistics import CONFIDENCE, mean

STEPS = 5  # of a curve from 0 to the whole picture
BLUR = 0.1  # standard deviation of the blur that removes pixels, as a share of the edge
SAME_MAP = 0.5  # rank correlation above which a map counts as unchanged by random weights
MIN_CHECKED = 20  # maps below which no answer is given whether random weights change them


def curves(explained: list[Explained], images: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """The explained numbers while the most salient pixels are blurred away, and while they alone come back.

    Deletion and insertion as in RISE (BMVC 2018), with blurred pixels for deleted ones. Years have no direction that
    would be more faithful: their number is minus the distance from the unchanged picture's.

    Images are uint8 (n, px, px, 3), saliency (n, px, px); `folded` networks are faster. Returns deletion and insertion
    (outputs, 2, STEPS + 1, n); the share of changed pixels rises from 0 to 1 along the third axis.
    """
    px, n = images.shape[1], len(images)
    blurred = ndimage.gaussian_filter(images.astype(np.float32), (0, px * BLUR, px * BLUR, 0)).astype(np.uint8)
    flat = saliency.reshape(n, -1)
    # Ties (whole superpixels, flat maps) are broken at random, so that every map changes the same area.
    ties = np.random.default_rng(0).random(flat.shape)
    rank = np.lexsort((ties, -flat), axis=1).argsort(axis=1).reshape(saliency.shape)
    numbers = np.empty((len(explained), 2, STEPS + 1, n))
    numbers[:, 0, 0] = numbers[:, 1, -1] = explained_numbers(explained, images)
    numbers[:, 0, -1] = numbers[:, 1, 0] = explained_numbers(explained, blurred)
    for step in range(1, STEPS):
        first = (rank < round(step / STEPS * px * px))[..., None]
        numbers[:, 0, step] = explained_numbers(explained, np.where(first, blurred, images))
        numbers[:, 1, step] = explained_numbers(explained, np.where(first, images, blurred))
    for k, output in enumerate(explained):
        if output.classes is None:
            numbers[k] = -np.abs(numbers[k] - numbers[k, 0, 0])
    return numbers


def all_curves(sample: Sample, maps: Maps) -> Maps:
    """`curves` of every map: float arrays (2, STEPS + 1, n)."""
    numbers, quick = {}, replace(sample, outputs=folded(sample.outputs))
    with sample.run.timed("08.faithfulness", len(sample.images)):
        for name in (*METHODS, *BASELINES):
            faces = explained_faces(quick, name)
            for outputs in [faces.outputs] if name in BASELINES else [[output] for output in faces.outputs]:
                values = curves(outputs, faces.images, maps[outputs[0].name, name])
                numbers |= {(output.name, name): part for output, part in zip(outputs, values, strict=True)}
    return numbers


def mean_curves(sample: Sample, numbers: Maps) -> Maps:
    """`all_curves` on the faces that every method explains, the classes of an attribute averaged."""
    common, members = min(values.shape[2] for values in numbers.values()), {}
    for name in (*METHODS, *BASELINES):
        for output in sample.outputs:
            members.setdefault((output.family, name), []).append(numbers[output.name, name][:, :, :common])
    return {key: np.mean(values, axis=0) for key, values in members.items()}


def curve_scores(numbers: np.ndarray) -> pd.DataFrame:
    """Mean heights of curves (2, STEPS + 1, n), in n rows: deletion, insertion, and faithfulness, their difference."""
    deletion, insertion = np.trapezoid(numbers, dx=1 / STEPS, axis=1)
    return pd.DataFrame({"deletion": deletion, "insertion": insertion, "faithfulness": insertion - deletion})


def against_baselines(table: pd.DataFrame, explained: list[Explained]) -> pd.DataFrame:
    """Whether each method is more faithful than each baseline on the same faces of the attributions table.

    head (the output), method, baseline, value (mean paired difference of faithfulness), low, high, n, unit, answer:
    better (the whole interval is above 0), worse (below), inconclusive. The intervals are simultaneous over all
    rows, at 95 % (Bonferroni).
    """
    wide = table.pivot_table(index=["head", "image_id"], columns="method", values="faithfulness", sort=False)
    rows, tests = [], list(product(explained, METHODS, BASELINES))
    for output, method, baseline in tests:
        part = wide.loc[output.name]
        differences = (part[method] - part[baseline]).dropna()
        gain = mean(differences, unit=output.unit, confidence=1 - (1 - CONFIDENCE) / len(tests))
        row = {"head": output.name, "method": method, "baseline": baseline, **gain.to_dict()}
        rows.append(row | {"answer": gain.against(0, "worse", "better")})
    return pd.DataFrame(rows)


def beats_all(gains: pd.DataFrame) -> pd.Series:
    """Whether a method beats every baseline: bool by head and method."""
    return gains.groupby(["head", "method"], sort=False)["answer"].agg(lambda answers: (answers == "better").all())


def faithful_finding(gains: pd.DataFrame, explained: list[Explained]) -> Finding:
    """For which outputs each method beats every baseline."""
    wins = {name: won.xs(name, level="method") for won in [beats_all(gains)] for name in METHODS}
    texts = [f"{METHODS[name].title} for {listed(titles(won.index[won], explained))}" for name, won in wins.items()]
    baselines = listed(baseline.title for baseline in BASELINES.values())
    text = f"More faithful than every baseline ({baselines}), with 95 % confidence for all tests together: "
    text += f"{'; '.join(texts)}. Other maps may show the picture's outlines rather than what the network uses."
    return Finding("explain.faithful", text, n=int(gains["n"].max()))


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """A copy whose weights are shuffled within every tensor: of the same scale, and without what was learned."""
    copied = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in copied.parameters():
            order = torch.randperm(values.numel(), generator=generator)
            values.copy_(values.flatten()[order].view_as(values))
    return copied


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation of the pixels of two maps (n, px, px) of each image: (n,), nan where one of them is flat."""
    return (_unit_ranks(first) * _unit_ranks(second)).sum(axis=1)


def _unit_ranks(maps: np.ndarray) -> np.ndarray:
    """Ranks of each map's pixels, centred and of length 1, so that products are correlations; nan where it is flat."""
    ranks = stats.rankdata(maps.reshape(len(maps), -1), axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.divide(centred, size, out=np.full(centred.shape, np.nan), where=size > 0)


def template_shares(sample: Sample, maps: Maps) -> pd.DataFrame:
    """How alike the maps of different faces are: head (the output), method, value (mean rank correlation), n.

    What all faces share is a template of the method and the network, and says nothing of the single face.
    """
    rows = []
    for output, name in product(sample.outputs, METHODS):
        ranks = _unit_ranks(maps[output.name, name])
        ranks = ranks[np.isfinite(ranks[:, 0])]
        n = len(ranks)
        # The squared length of the sum holds each pair twice, and each map with itself.
        alike = ((ranks.sum(axis=0) ** 2).sum() - n) / (n * (n - 1)) if n > 1 else np.nan
        rows.append({"head": output.name, "method": name, "value": alike, "n": n})
    return pd.DataFrame(rows)


def template_finding(shares: pd.DataFrame) -> Finding:
    """The range of `template_shares` of each method."""
    texts = []
    for name, rows in shares.dropna(subset="value").groupby("method", sort=False):
        span = " to ".join(dict.fromkeys(f"{value:.2f}" for value in (rows["value"].min(), rows["value"].max())))
        texts.append(f"{span} ({METHODS[name].title})")
    text = f"Maps of different faces by one network have a mean rank correlation of {listed(texts)}, by output: so much"
    return Finding("explain.template", f"{text} of a map is a fixed template.", n=int(shares["n"].max()))


def sanity_check(sample: Sample, maps: Maps, faces: int) -> pd.DataFrame:
    """How alike each map is to the one that its method draws of the same network with random weights.

    The test of Adebayo et al. (NeurIPS 2018): a map that hardly changes shows the picture, not the network. At most
    `faces` are compared, the first that every method explains. A table of head (the output), method, value (mean rank
    correlation), low, high, n, answer: changes (the whole interval is below `SAME_MAP`), stays (above), inconclusive;
    too few, where fewer than `MIN_CHECKED` faces have a map that is not flat.
    """
    run, few = sample.run, sample.head(min(faces, *map(len, maps.values())))
    shuffled = {id(output.network): randomised(output.network, run.settings.seed) for output in few.outputs}
    outputs, rows = [replace(output, network=shuffled[id(output.network)]) for output in few.outputs], []
    for name, method in METHODS.items():
        for output, drawn in zip(outputs, method.maps(outputs, few.images, run.settings)[0], strict=True):
            alike = rank_correlations(maps[output.name, name][: len(drawn)], drawn)
            estimate = mean(alike[np.isfinite(alike)])
            answer = estimate.against(SAME_MAP, "changes", "stays") if estimate.n >= MIN_CHECKED else "too few"
            rows.append({"head": output.name, "method": name, **estimate.to_dict(), "answer": answer})
    return pd.DataFrame(rows).drop(columns="unit")


def sanity_finding(sanity: pd.DataFrame, explained: list[Explained]) -> Finding:
    """Mean correlation of each method, and the maps that are not shown to change."""
    means = sanity.dropna(subset=["value"]).groupby("method", sort=False)["value"].mean()
    text = "Mean rank correlation of maps with those of a network with shuffled weights: "
    text += f"{listed(f'{value:.2f} ({METHODS[name].title})' for name, value in means.items())}. "
    unchanged = sanity[sanity["answer"] != "changes"].groupby("method", sort=False)["head"]
    names = [f"{METHODS[name].title} of {listed(titles(list(heads), explained))}" for name, heads in unchanged]
    text += f"Not shown to be below {SAME_MAP}, with 95 % confidence: {'; '.join(names) or 'none'}."
    return Finding("explain.random_weights", text, n=int(sanity["n"].max()))


def stability(sample: Sample, maps: Maps, seeds: int, faces: int) -> pd.DataFrame:
    """How alike maps of a face are under other seeds: head, method, value (mean rank correlation), low, high, n."""
    run, few, rows = sample.run, sample.head(min(faces, *map(len, maps.values()))), []
    others = [run.settings.model_copy(update={"seed": run.settings.seed + 1000 * k}) for k in range(1, seeds)]
    for name, method in METHODS.items():
        redrawn = [method.maps(few.outputs, few.images, settings)[0] for settings in others if method.seeded]
        for k, output in enumerate(few.outputs if method.seeded else []):
            draws = [maps[output.name, name][: len(few.images)], *(drawn[k] for drawn in redrawn)]
            alike = np.mean([rank_correlations(*pair) for pair in combinations(draws, 2)], axis=0)
            rows.append({"head": output.name, "method": name, **run.bootstrap(np.nanmean, alike).to_dict()})
    return pd.DataFrame(rows).drop(columns="unit")


def stability_findings(stable: pd.DataFrame, seeds: int) -> list[Finding]:
    """Mean and least stability of each method that draws at random, as `explain.<method>_stability`."""
    findings = []
    for name, part in stable.groupby("method", sort=False):
        least, title = part.loc[part["value"].idxmin()], METHODS[name].title
        text = f"Mean rank correlation of {title} maps of one face over {seeds} seeds: {part['value'].mean():.2f}; "
        text += f"it is lowest for {least['head'].replace('_', ' ')}, {least['value']:.2f}."
        findings.append(Finding(f"explain.{name}_stability", text, n=int(part["n"].max())))
    return findings
