"""How fast a network learns beside other programs, by the number of threads and by how they wait for each other.

Threads of one product wait for the slowest, which another program may have pushed off its core: they look again and
again (the library's default), or sleep. Every round measures each way alone, and beside one and two programs that never
pause, in new processes; products are in bfloat16 where trainings use it. The loss after the steps says whether the ways
give the same results.

usage: python -m benchmarks.threads [--rounds 5], which writes reports/training/threads.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from benchmarks import TRAINING_RESULTS, beside
from facelib.formats import write_json
from facelib.runs import processor

CORES = len(os.sched_getaffinity(0))
WAYS = {
    f"{CORES} threads, the default": {"OMP_NUM_THREADS": str(CORES)},
    f"{CORES} threads, asleep while they wait": {"OMP_NUM_THREADS": str(CORES), "OMP_WAIT_POLICY": "PASSIVE"},
    "1 thread": {"OMP_NUM_THREADS": "1"},
}
BUSY = (0, 1, 2)
# torch comes before facelib, which would set how threads wait.
STEPS = """
import json, time, torch
from facelib.devices import has_fast_bfloat16
from facelib.models.resnet import ResNet
torch.manual_seed(0)
network, images = ResNet((2, 2, 2, 2)).to(memory_format=torch.channels_last), torch.rand(64, 3, 64, 64)
images, classes = images.contiguous(memory_format=torch.channels_last), torch.arange(64)
optimizer, done = torch.optim.AdamW(network.parameters(), 1e-3), []
while len(done) < 3 or (done[-1] - done[1] < 6 and len(done) < 60):
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
        loss = torch.nn.functional.cross_entropy(network(images), classes)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    done.append(time.perf_counter())
    if len(done) == 3:
        third = loss.item()
print(json.dumps({"images_per_second": 64 * (len(done) - 2) / (done[-1] - done[1]), "loss": third}))
"""


def measure(way: str, busy: int) -> dict:
    """Images a second, and the loss of the third step, in a new process beside `busy` others that never pause."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")} | WAYS[way]
    with beside(busy):
        done = subprocess.run(
            [sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, dict] = {way: {busy: [] for busy in BUSY} for way in WAYS}
    for _ in range(options.rounds):
        for busy in BUSY:
            for way in WAYS:
                found[way][busy].append(measure(way, busy))
    results = {
        way: {
            "images_per_second": {
                busy: statistics.median(round_["images_per_second"] for round_ in rounds)
                for busy, rounds in by_busy.items()
            },
            "losses": sorted({round_["loss"] for rounds in by_busy.values() for round_ in rounds}),
        }
        for way, by_busy in found.items()
    }
    for way, facts in results.items():
        print(way, *(f"beside {busy}: {speed:.1f}/s" for busy, speed in facts["images_per_second"].items()), sep="\n  ")
    write_json(TRAINING_RESULTS / "threads.json", {"device": processor(), "cores": CORES, "ways": results})


if __name__ == "__main__":
    main()
