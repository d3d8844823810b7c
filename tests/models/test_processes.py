"""Several processes: two of them compute the gradients that one computes, and the command trains under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from facelib import cli
from facelib.audit import decisions
from facelib.data.ingest import ingest
from facelib.data.splits import split_faces
from facelib.models import training
from facelib.prediction.assemble import train_run
from facelib.runs import open_run, start_run
from facelib.schema import UTKFACE_ATTRIBUTES

pytestmark = pytest.mark.slow

# One step of a network with frozen batch statistics (on a processor they are not synchronised), without dropout.
STEP = """
import sys
import numpy as np, pandas as pd, torch
from facelib.config import TrainingSettings
from facelib.data.pixels import FaceImages
from facelib.models.batches import Batches, rank_and_world
from facelib.models import training
from facelib.models.network import FaceNet
from facelib.schema import UTKFACE_ATTRIBUTES

training.has_fast_bfloat16 = lambda: False
settings = TrainingSettings(batch_size=8, average_decay=0.0)
rng = np.random.default_rng(0)
images = FaceImages(rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8))
# One process has three ages, the other has one: the mean is over all four.
ages = [20.0, 30.0, np.nan, np.nan, 40.0, np.nan, 70.0, np.nan]
labels = pd.DataFrame({"age": ages, "gender": [0, 1, -1, 1, 0, 0, 1, -1], "ethnicity": [0, 1, 2, 3, 4, -1, 1, 2]})
torch.manual_seed(0)
network = FaceNet(UTKFACE_ATTRIBUTES, dropout=0.0)


class Held(training.FaceModule):
    def on_train_epoch_start(self):
        self.network.eval()

    def on_after_backward(self):
        self.gradients = {name: p.grad.clone() for name, p in self.network.named_parameters()}


module = Held(network, network.losses, settings, 0, 1, 1e-3)
training.fit(module, Batches(images, labels), np.arange(8))
if rank_and_world()[0] == 0:
    torch.save(module.gradients, sys.argv[1])
"""


def torchrun(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Two processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_compute_the_gradients_of_one(tmp_path, monkeypatch):
    script = tmp_path / "step.py"
    script.write_text(STEP)
    root = str(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "one.pt")])
    monkeypatch.setattr(training, "has_fast_bfloat16", training.has_fast_bfloat16)  # STEP replaces it
    exec(STEP, {"__name__": "step"})
    done = torchrun(str(script), str(tmp_path / "two.pt"), PYTHONPATH=root)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert set(one) == set(two)
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert max(gradient.abs().max() for gradient in one.values()) > 0.01


@pytest.fixture
def prepared_run(drawn_faces) -> str:
    """The name of a run that notebooks 01 and 02 would have left: 200 small synthetic faces, split, undecided."""
    settings = drawn_faces | {"image_px": "32", "batch_size": "16", "epochs": "1"}
    folder = start_run("prepared", "smoke", overrides=settings)
    _, faces, rejected = ingest(folder)
    folder.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    folder.save_table(faces, "faces")
    folder.save_table(rejected, "rejected.csv")
    folder.save_table(split_faces(faces, np.arange(len(faces)), UTKFACE_ATTRIBUTES, 0), "splits")
    decisions.write(pd.DataFrame(columns=decisions.COLUMNS), folder.table_path("decisions.csv"))
    return "prepared"


def test_a_run_is_trained_by_two_processes_and_loaded_without_training(prepared_run, monkeypatch):
    done = torchrun("-m", "facelib.cli", "train", prepared_run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("trained 1 epochs: ") == 1
    folder = open_run(prepared_run)
    saved = torch.load(folder.path / training.MULTITASK_FOLDER / "finished.ckpt", weights_only=True)["weights"]

    def trained_again(*_):
        raise AssertionError("the network was trained although it had been")

    monkeypatch.setattr(training.FaceModule, "training_step", trained_again)
    network, history = train_run(folder, *decisions.load_training(folder))
    assert len(history) == 1
    for name, value in network.state_dict().items():
        assert torch.equal(value, saved[name])


def test_a_run_that_is_not_prepared_is_not_trained(empty_runs, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["facelib", "train", "nothing"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "there is no run 'nothing' yet" in capsys.readouterr().err
