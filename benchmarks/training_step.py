"""The cost of a training step, side by side in one run.

The bare step of the network on one batch that lies in memory, in float32 and bfloat16; the same step behind the
project's pipeline (pixel cache, augmentation of the batch) and behind a plain DataLoader that decodes the files again
in every epoch and changes them one by one; and the share of the processor's measured matrix-multiply peak that the
step reaches. Every round measures all of them. Writes training_step.json.

usage: python -m benchmarks.training_step [DATA] [--px 64 96] [--out DIR]
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from benchmarks import TRAINING_RESULTS
from facelib.config import resolve
from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces
from facelib.devices import processor_has_bfloat16
from facelib.formats import write_json
from facelib.models.augmentation import AUGMENTATIONS, BatchRandom, augment
from facelib.models.batches import Batches, EpochBatches
from facelib.models.network import FaceNet
from facelib.models.training import channels_last
from facelib.runs import processor
from facelib.schema import UTKFACE_ATTRIBUTES
from facelib.synthetic.dataset import write_synthetic_faces

FACES, STEPS, ROUNDS = 1000, 12, 7
PEAK_EDGE = 2048  # edge of the matrices whose product measures the peak


class Decoded(Dataset):
    """What a notebook would write: each file opened, decoded, changed and turned into a tensor on its own."""

    def __init__(self, files: list[Path], labels: np.ndarray, px: int):
        self.files, self.labels = files, labels
        self.change = transforms.Compose(
            [
                transforms.Resize((px, px)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomAffine(12, (0.06, 0.06), (0.88, 1.12)),
                transforms.ColorJitter(0.25, 0.25),
                transforms.RandomGrayscale(0.1),
                transforms.ToTensor(),
                transforms.RandomErasing(0.25),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self.files[row]) as image:
            return self.change(image.convert("RGB")), torch.tensor(self.labels[row])


def step_function(batch: dict, bfloat16: bool) -> Callable[[torch.Tensor], None]:
    """Forward, backward and update of a new network, as a function of the images."""
    torch.manual_seed(0)
    network = FaceNet(UTKFACE_ATTRIBUTES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())

    def step(images: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = sum(network.losses(network(channels_last(images)), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds_per_step(step: Callable, images: Iterator[torch.Tensor]) -> float:
    """Mean of some steps, the making of their images included, after one that warms up."""
    step(next(images))
    start = time.perf_counter()
    for _ in range(STEPS):
        step(next(images))
    return (time.perf_counter() - start) / STEPS


def matmul_peak(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    first, second = (torch.rand(PEAK_EDGE, PEAK_EDGE).to(dtype) for _ in range(2))
    first @ second
    start = time.perf_counter()
    for _ in range(5):
        first @ second
    return 5 * 2 * PEAK_EDGE**3 / (time.perf_counter() - start)


def measure(folder: str, px: int, scratch: Path, workers: int) -> dict:
    """Medians over the rounds of what a step takes each way, in seconds, and their ratios, by round."""
    training, names = resolve("full").training, [attribute.name for attribute in UTKFACE_ATTRIBUTES]
    source = read_faces(folder).sample(FACES)
    images, faces, _ = cache_faces(source, px, scratch)
    batches = Batches(images, faces[names])
    rows = np.arange(len(faces))
    batch = batches[rows[: training.batch_size].tolist()]
    columns = {name: batch[name] for name in names}
    bfloat16 = processor_has_bfloat16()

    def ours() -> Iterator[torch.Tensor]:
        for epoch in itertools.count():
            sampler = EpochBatches(rows, training.batch_size, seed=0)
            sampler.set_epoch(epoch)
            for number, chosen in enumerate(sampler):
                image = batches[chosen]["image"]
                draws = BatchRandom(torch.Generator().manual_seed(number), len(image))
                yield augment(image, draws, AUGMENTATIONS[training.augmentation])

    def plain() -> Iterator[torch.Tensor]:
        loader = DataLoader(
            Decoded(source.items(source.faces.index), faces["age"].to_numpy(), px),
            training.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
        )
        while True:
            for made, _ in loader:
                yield made

    ways = {
        "bare, float32": (False, lambda: itertools.repeat(batch["image"])),
        "bare": (bfloat16, lambda: itertools.repeat(batch["image"])),
        "pixel cache": (bfloat16, ours),
        "plain DataLoader": (bfloat16, plain),
    }
    rounds = []
    for _ in range(ROUNDS):
        taken = {name: seconds_per_step(step_function(columns, low), make()) for name, (low, make) in ways.items()}
        rounds.append(taken | {"peak": matmul_peak(torch.bfloat16 if bfloat16 else torch.float32)})
    counter = FlopCounterMode(display=False)
    with counter:
        step_function(columns, False)(batch["image"])
    flops = counter.get_total_flops()
    peak = max(taken["peak"] for taken in rounds)  # what else runs for a moment can only lower it
    return {
        "px": px,
        "seconds per step": {name: [taken[name] for taken in rounds] for name in ways},
        "pipeline over bare": [taken["pixel cache"] / taken["bare"] for taken in rounds],
        "plain DataLoader over bare": [taken["plain DataLoader"] / taken["bare"] for taken in rounds],
        "bfloat16 over float32, steps a second": [taken["bare, float32"] / taken["bare"] for taken in rounds],
        "share of matrix-multiply peak": [flops / taken["bare"] / peak for taken in rounds],
        "peak, 10^9 operations a second": [taken["peak"] / 1e9 for taken in rounds],
    }


def main() -> None:
    """Measure each edge, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--px", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--workers", type=int, default=2, help="processes of the plain DataLoader")
    parser.add_argument("--out", type=Path, default=TRAINING_RESULTS)
    options = parser.parse_args()
    facts = {
        "device": processor(),
        "threads": torch.get_num_threads(),
        "bfloat16": processor_has_bfloat16(),
        "workers": options.workers,
        "batch": resolve("full").training.batch_size,
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or write_synthetic_faces(Path(scratch) / "drawn", FACES, 0, px=200)
        measured = [measure(folder, px, Path(scratch), options.workers) for px in options.px]
    write_json(options.out / "training_step.json", facts | {"measured": measured})
    for found in measured:
        print(f"{found['px']} px")
        for name, values in (found.pop("seconds per step") | found).items():
            if isinstance(values, list):
                print(f"  {name:40} {', '.join(f'{value:.3g}' for value in values)}")


if __name__ == "__main__":
    main()
