"""Small faces, a small architecture and an empty folder of runs, for the tests of several rooms."""

import atexit
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SMALL_PX = 32
# Results are compared to the last digit, which a graphics card would not give.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def faces_folder(tmp_path_factory) -> Path:
    """96 synthetic faces of 48 px, with copies and wrong labels among them; truth.csv lies beside the folder."""
    from facelib.synthetic.dataset import write_synthetic_faces

    return write_synthetic_faces(tmp_path_factory.mktemp("synthetic"), 96, seed=1, px=48, n_jobs=1)


@pytest.fixture(scope="session")
def small_faces(faces_folder, tmp_path_factory) -> tuple:
    """The images (32 px) and the faces table of `faces_folder`."""
    from facelib.data.pixels import cache_faces
    from facelib.data.readers import read_utkface

    images, faces, rejected = cache_faces(read_utkface(faces_folder), SMALL_PX, tmp_path_factory.mktemp("cache"))
    assert len(rejected) == 0
    return images, faces


@pytest.fixture(scope="session")
def small_truth(faces_folder, small_faces) -> pd.DataFrame:
    """truth.csv of `small_faces`, in the same order."""
    truth = pd.read_csv(faces_folder.parent / "truth.csv", keep_default_na=False).set_index("image_id")
    return truth.loc[small_faces[1]["image_id"]].reset_index()


@pytest.fixture(scope="session")
def installed() -> Path:
    """The installed weights; tests that need them are skipped elsewhere."""
    from facelib.data.dlib_files import WeightsError
    from facelib.embedding.weights import weights_file

    try:
        return weights_file()
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny() -> Iterator[str]:
    """The name of an architecture with resnet18's stages and strides, a thousandth of its size."""
    from torch import nn

    from facelib.models import network

    def stage(inward: int, outward: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inward, outward, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outward), nn.ReLU()
        )

    class TinyResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = stage(3, 8, 4)
            self.layer1, self.layer2 = stage(8, 8, 1), stage(8, 16, 2)
            self.layer3, self.layer4 = stage(16, 16, 2), stage(16, 24, 2)
            self.fc = nn.Linear(24, 1000)

        def forward(self, images):
            return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images))))).mean((2, 3)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(network.ARCHITECTURES, "tiny", network.Architecture(TinyResNet))
        yield "tiny"


@pytest.fixture
def tiny_network(tiny):
    """An untrained network of the tiny architecture, in evaluation mode; the same for every test."""
    import torch

    from facelib.models.network import FaceNet
    from facelib.schema import UTKFACE_ATTRIBUTES

    torch.manual_seed(0)
    network = FaceNet(UTKFACE_ATTRIBUTES, tiny)
    network.backbone.train()
    with torch.no_grad():  # batch statistics near those of images, so that the outputs are of ordinary size
        for _ in range(30):
            network.backbone(torch.rand(32, 3, SMALL_PX, SMALL_PX))
    return network.eval()


@pytest.fixture(scope="session")
def ood_score():
    """An out-of-distribution score by the length of the face network's features, by which every picture is flagged."""
    from facelib.prediction.ood import OodScore

    arrays = np.zeros(256), np.eye(256)[:, :160], np.zeros(256), np.zeros(1), np.linspace(0.001, 0.01, 50)
    return OodScore(*(array.astype(np.float32) for array in arrays))


@pytest.fixture
def tiny_predictor(tiny_network, ood_score):
    """A predictor of 32 px images with the tiny network's own outputs and age intervals of 5 years to each side."""
    from facelib.prediction.calibration import AgeIntervals
    from facelib.prediction.predictor import Predictor

    temperatures = {"gender": 1.0, "ethnicity": 1.0}
    return Predictor(tiny_network, None, "direct", temperatures, AgeIntervals((), (5.0,)), ood_score, 32, True)


@pytest.fixture
def noise_images() -> np.ndarray:
    """Ten pictures of coarse coloured noise: uint8 (10, 32, 32, 3)."""
    coarse = np.random.default_rng(7).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture
def empty_runs(tmp_path, monkeypatch) -> Path:
    """An empty folder of runs and of caches, and no run or profile named by the environment."""
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # the command sets it, too: so it is as before after the test
    for name in ("FACELIB_RUN", "FACELIB_PROFILE", "FACELIB_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def drawn_cache(tmp_path_factory) -> Path:
    """A cache folder with the 200 synthetic faces of a run whose setting `synthetic_images` is 200."""
    from facelib.data.ingest import read_source
    from facelib.runs import start_run

    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(folder / "runs"))
        patch.setenv("FACELIB_CACHE", str(folder / "cache"))
        read_source(start_run("drawn", "smoke", overrides={"synthetic_images": 200}))
    return folder / "cache"


@pytest.fixture
def drawn_faces(drawn_cache, empty_runs, tmp_path) -> dict[str, int]:
    """Settings of a run on 200 synthetic faces, which need not be drawn again."""
    shutil.copytree(drawn_cache, tmp_path / "cache")
    return {"synthetic_images": 200}


@pytest.fixture
def facelib(empty_runs, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Call the command in this process: exit code, stdout and stderr."""
    from facelib import cli

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["facelib", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        atexit.unregister(gc.freeze)  # of `facelib predict`, for the end of its own process
        return code, *capfd.readouterr()

    return call
