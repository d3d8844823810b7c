"""Several processes: two of them compute the gradients that one computes, and the command trains under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# One step of a network whose batch statistics are held (on a processor they are not synchronised), without dropout.
STEP = """
import sys
import numpy as np, pandas as pd, torch
from facelib.config import Profile
from facelib.data import FaceImages
from facelib.models.batches import Batches, rank_and_world
from facelib.models import training
from facelib.models.losses import multitask_losses
from facelib.models.network import FaceNet

training.has_fast_bfloat16 = lambda: False
profile = Profile("test", batch_size=8, epochs=1, optimizer="sgd", learning_rate=1.0, weight_decay=0.0, warmup_epochs=0,
                  average_decay=0.0, low_px_share=0.0)
rng = np.random.default_rng(0)
images = FaceImages(rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8))
# One process knows three ages, the other one: the mean is over all four all the same.
ages = [20.0, 30.0, np.nan, np.nan, 40.0, np.nan, 70.0, np.nan]
labels = pd.DataFrame({"age": ages, "gender": [0, 1, -1, 1, 0, 0, 1, -1], "ethnicity": [0, 1, 2, 3, 4, -1, 1, 2]})
torch.manual_seed(0)
network = FaceNet(dropout=0.0)


class Held(training.FaceModule):
    def on_train_epoch_start(self):
        self.network.eval()

    def on_after_backward(self):
        self.gradients = {name: p.grad.clone() for name, p in self.network.named_parameters()}


losses = lambda outputs, batch: multitask_losses(outputs, batch, 20.0)
module = Held(network, losses, profile, 1, 1.0)
training.fit(module, Batches(images, labels), np.arange(8))
if rank_and_world()[0] == 0:
    torch.save(module.gradients, sys.argv[1])
"""


def torchrun(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Two processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_compute_the_gradients_of_one(tmp_path):
    script = tmp_path / "step.py"
    script.write_text(STEP)
    root = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "one.pt")], env={**os.environ, "PYTHONPATH": root}, check=True
    )
    done = torchrun(str(script), str(tmp_path / "two.pt"), PYTHONPATH=root)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert set(one) == set(two)
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert max(gradient.abs().max() for gradient in one.values()) > 0.01
