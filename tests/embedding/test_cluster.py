"""The same features on a dask cluster."""

import logging

import numpy as np
import pytest

from facelib.data.cluster import on_cluster
from facelib.data.pixels import FaceImages
from facelib.embedding import features
from facelib.embedding.features import embed

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.mark.slow
def test_two_processes_of_a_cluster_compute_identical_features(installed, small_faces, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 16)
    pixels = small_faces[0][np.arange(48)]
    images = FaceImages(pixels, np.arange(48))
    here = embed(images)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.ERROR
        ) as cluster,
        on_cluster(cluster.scheduler_address),
    ):
        before = cluster.scheduler.transition_counter
        there = embed(images)
        worked = cluster.scheduler.transition_counter - before
    assert worked > 3  # it was the cluster that worked
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)
