"""Time of a training step that a fused optimizer and memory kept for reuse save.

The step of the recipe `face` at its size, on images in memory and from random weights, which cost the same. Every
round measures each way in a new process, since memory that is kept is kept for good. Writes step_memory.json.

usage: python -m benchmarks.step_memory [--rounds 5]
"""

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks import TRAINING_RESULTS
from facelib.formats import write_json
from facelib.runs import processor

USUAL = "memory returned, updates by parameter"
WAYS = {
    USUAL: (False, False),
    "updates in one kernel": (True, False),
    "freed memory kept": (False, True),
    "both": (True, True),
}
STEPS = """
import sys, time, torch
from facelib.config import resolve
from facelib.devices import keep_freed_memory, processor_has_bfloat16
from facelib.models.augmentation import AUGMENTATIONS, BatchRandom, augment
from facelib.models.network import FaceNet
from facelib.models.training import channels_last
from facelib.schema import UTKFACE_ATTRIBUTES
fused, kept = (word == "True" for word in sys.argv[1:])
if kept:
    keep_freed_memory()
torch.manual_seed(0)
settings = resolve("full", {"recipe": "face"})
training, n, px = settings.training, settings.training.batch_size, settings.data.image_px
network = FaceNet(UTKFACE_ATTRIBUTES, training.architecture).to(memory_format=torch.channels_last)
parameters = list(network.parameters())
optimizer = torch.optim.AdamW(parameters, fused=fused)
images, done = torch.rand(n, 3, px, px), []
labels = {"age": 80 * torch.rand(n)} | {name: torch.randint(0, 2, (n,)).float() for name in ("gender", "ethnicity")}
for step in range(18):
    draws = BatchRandom(torch.Generator().manual_seed(step), n)
    changed = channels_last(augment(images, draws, AUGMENTATIONS[training.augmentation]))
    with torch.autocast("cpu", torch.bfloat16, enabled=processor_has_bfloat16()):
        loss = sum(network.losses(network(changed), labels).values())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    done.append(time.perf_counter())
print((done[-1] - done[2]) / (len(done) - 3))
"""


def seconds(way: str) -> float:
    """Seconds of a step, on average after the first three, in a new process."""
    words = map(str, WAYS[way])
    done = subprocess.run([sys.executable, "-c", STEPS, *words], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds = [{way: seconds(way) for way in WAYS} for _ in range(options.rounds)]
    found = {way: [round_[way] for round_ in rounds] for way in WAYS}
    shares = {way: [round_[way] / round_[USUAL] for round_ in rounds] for way in WAYS if way != USUAL}
    write_json(TRAINING_RESULTS / "step_memory.json", {"device": processor(), "seconds": found, "shares": shares})
    print(json.dumps({way: round(statistics.median(values), 3) for way, values in (found | shares).items()}, indent=1))


if __name__ == "__main__":
    main()
