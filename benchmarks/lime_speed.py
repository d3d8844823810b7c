"""LIME of all outputs, images a minute: the project's way and one plain call of lime's `explain_instance`, by turns.

The plain call explains all labels of the network in batches of 64 in float32, once with lime's own superpixels and once
with the project's, so that the superpixels' part in the difference can be seen. Both draw the same number of samples.
Weights are random, or those of a run: they do not change the time. Once on all cores by the clock, as it is used, which
takes an idle machine, and once on one core by processor time, which other work hardly changes.

usage: python -m benchmarks.lime_speed [--run NAME] [--px 96] [--samples 500] [--images 6]
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lime import lime_image

from benchmarks import EXPLAIN_RESULTS
from facelib.devices import processor_has_bfloat16
from facelib.explain.attribution import Explained
from facelib.explain.lime_maps import lime_maps, superpixels
from facelib.formats import write_json
from facelib.models.network import FaceNet, as_tensor, load_network
from facelib.runs import processor, runs_root
from facelib.schema import UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.synthetic.drawing import draw_face

ROUNDS = 3


def explained(network: FaceNet, n: int) -> list[Explained]:
    """Years, one of two classes, and each of more classes, for n images."""
    outputs = []
    for attribute in network.attributes:
        classes = len(attribute.classes) if isinstance(attribute, ClassAttribute) else 0
        for code in {0: [None], 2: [1]}.get(classes, range(classes)):
            codes = code if code is None else np.full(n, code)
            outputs.append(Explained(attribute.name, attribute, network, attribute.name, codes))
    return outputs


def ours(network: FaceNet, images: np.ndarray, samples: int) -> np.ndarray:
    """Maps (outputs, n, px, px)."""
    return lime_maps(explained(network, len(images)), images, samples, seed=0)[0]


def plain(network: FaceNet, images: np.ndarray, samples: int, segmentation=None) -> list[lime_image.ImageExplanation]:
    """One call an image for the same numbers, as lime's documentation has it."""

    @torch.inference_mode()
    def classifier(perturbed: np.ndarray) -> np.ndarray:
        outputs = network(as_tensor(perturbed))
        return np.stack([output.number(outputs) for output in explained(network, len(perturbed))], axis=1)

    return [
        lime_image.LimeImageExplainer(random_state=0).explain_instance(
            image,
            classifier,
            labels=range(len(explained(network, 1))),
            top_labels=None,
            num_samples=samples,
            batch_size=64,
            segmentation_fn=segmentation,
        )
        for image in images
    ]


def images_per_minute(explain: Callable, images: np.ndarray, clock: Callable[[], float]) -> float:
    """Speed over some images, by a clock in seconds."""
    start = clock()
    explain(images)
    return 60 * len(images) / (clock() - start)


def measure(ways: dict[str, Callable], images: np.ndarray, threads: int) -> dict:
    """Images a minute of each way, by turns, and how many times as fast as the others the project's is."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    for explain in ways.values():
        explain(images[:1])  # warms up
    speeds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, explain in ways.items():
            speeds[name].append(images_per_minute(explain, images, clock))
    medians = {name: float(np.median(values)) for name, values in speeds.items()}
    ratios = {name: medians["facelib"] / speed for name, speed in medians.items() if name != "facelib"}
    return {"threads": threads, "clock": clock.__name__, "images per minute": speeds, "facelib over": ratios}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", help="a run whose network is explained")
    parser.add_argument("--px", type=int, default=96, help="edge of the images, pixels")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--out", type=Path, default=EXPLAIN_RESULTS)
    options = parser.parse_args()
    lime_image.tqdm = lambda rows: rows  # a progress bar for every image

    def network() -> FaceNet:
        if options.run:
            return load_network(runs_root() / options.run / "checkpoints" / "model.safetensors")[0]
        torch.manual_seed(0)
        return FaceNet(UTKFACE_ATTRIBUTES).eval()

    # Each way has its own copy: the project's lays the weights out differently in memory.
    fast, slow = network(), network()
    rng = np.random.default_rng(0)
    faces = np.stack([draw_face(30, k % 2, k % 5, rng, options.px) for k in range(options.images)])
    ways = {
        "facelib": lambda images: ours(fast, images, options.samples),
        "plain explain_instance": lambda images: plain(slow, images, options.samples),
        "plain, the same superpixels": lambda images: plain(slow, images, options.samples, superpixels),
    }
    facts = {
        "device": processor(),
        "bfloat16": processor_has_bfloat16(),
        "px": options.px,
        "samples": options.samples,
        "measured": [measure(ways, faces, threads) for threads in sorted({1, torch.get_num_threads()}, reverse=True)],
    }
    write_json(options.out / "lime_speed.json", facts)
    print(f"{options.px} px, {options.samples} samples, bfloat16: {facts['bfloat16']}")
    for measured in facts["measured"]:
        print(f"threads: {measured['threads']}, {measured['clock']}")
        for name, values in measured["images per minute"].items():
            times = f", facelib is {measured['facelib over'][name]:.2f} times as fast" if name != "facelib" else ""
            print(f"  {name:30} {', '.join(f'{value:.1f}' for value in values)} images a minute{times}")


if __name__ == "__main__":
    main()
