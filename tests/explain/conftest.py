"""A sample of small faces of a run without notebooks, explained for years and three class attributes."""

import numpy as np
import pytest
import torch

from facelib.explain.attribution import Sample, explained_outputs
from facelib.explain.faithfulness import all_curves
from facelib.explain.methods import draw_maps
from facelib.explain.regions import attributions
from facelib.models.age_stages import AgeStagesNet
from facelib.models.network import FaceNet
from facelib.runs import start_run
from facelib.schema import UTKFACE_ATTRIBUTES, ClassAttribute

FOUR = (*UTKFACE_ATTRIBUTES, ClassAttribute("expression", classes=("neutral", "smiling")))
SETTINGS = {"explained_images": 6, "lime_images": 4, "lime_samples": 20, "resamples": 50}


@pytest.fixture(scope="session")
def sample(tmp_path_factory, tiny, small_faces) -> Sample:
    """Six faces, four of them for LIME; the fourth attribute is unknown for one of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        run = start_run("small", "smoke", overrides=SETTINGS)
    run.set_attributes(FOUR, FOUR)
    images, faces = small_faces[0][np.arange(6)], small_faces[1].iloc[:6]
    torch.manual_seed(0)
    network, stages = FaceNet(FOUR, tiny).eval(), AgeStagesNet({"architecture": tiny}).eval()
    labels = faces.set_index("image_id").assign(expression=[0, 0, 1, -1, 0, 0])
    return Sample(run, explained_outputs(network, stages, images, FOUR), images, labels, images[0])


@pytest.fixture(scope="session")
def explained_sample(sample) -> tuple:
    """Of the sample: maps, R2 of local models, curves, and the attributions table."""
    maps, fits = draw_maps(sample)
    numbers = all_curves(sample, maps)
    return maps, fits, numbers, attributions(sample, maps, numbers)
