"""The same call on a dask cluster gives the same tables."""

import logging

import numpy as np
import pandas as pd
import pytest

from facelib.audit.duplicates import find_copies, perceptual_hashes
from facelib.audit.quality import score_quality
from facelib.data import cache_faces, read_faces
from facelib.data.cluster import ClusterUnreachable, on_cluster

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


def audit(folder, cache) -> dict:
    images, faces, rejected = cache_faces(read_faces(folder), 64, cache)
    hashes = perceptual_hashes(images)
    return {
        "pixels": images[np.arange(len(images))],
        "hashes": hashes,
        "faces": faces,
        "rejected": rejected,
        "pairs": find_copies(faces, images, hashes),
        "quality": score_quality(faces, images),
    }


def test_two_processes_of_a_cluster_make_identical_tables(faces_folder, tmp_path):
    here = audit(faces_folder, tmp_path / "here")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.ERROR
        ) as cluster,
        on_cluster(cluster.scheduler_address),
    ):
        idle = cluster.scheduler.transition_counter
        there = audit(faces_folder, tmp_path / "there")
        assert cluster.scheduler.transition_counter > idle + 10  # it was the cluster that worked
    for name, value in here.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, there[name])
        else:
            np.testing.assert_array_equal(value, there[name])
    assert len(here["pairs"]) > 5 and len(here["quality"]) == 96


def test_without_an_address_the_work_stays_here():
    with on_cluster(""):
        pass


def test_a_cluster_that_does_not_answer_is_said(monkeypatch):
    monkeypatch.setattr("facelib.data.cluster.TIMEOUT", "1s")
    with (
        pytest.raises(ClusterUnreachable, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"),
        on_cluster("tcp://127.0.0.1:9"),
    ):
        pass
    with pytest.raises(ClusterUnreachable, match="no dask scheduler answers at nonsense"), on_cluster("nonsense"):
        pass
