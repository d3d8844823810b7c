"""The same call on a dask cluster gives the same tables."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facelib.audit.duplicates import find_copies, perceptual_hashes
from facelib.audit.quality import score_quality
from facelib.data.cluster import ClusterUnreachable, on_cluster
from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


def stages(folder, cache) -> Iterator[tuple[str, object]]:
    """What each stage of an audit that runs image by image makes."""
    images, faces, _ = cache_faces(read_faces(folder), 64, cache)
    yield "faces", faces
    hashes = perceptual_hashes(images)
    yield "hashes", hashes
    yield "pairs", find_copies(faces, images, hashes)
    yield "quality", score_quality(faces, images)
    yield "pixels", images[np.arange(len(images))]


@pytest.mark.slow
def test_two_processes_of_a_cluster_make_identical_tables(faces_folder, tmp_path, monkeypatch):
    here = dict(stages(faces_folder, tmp_path / "here"))
    there, worked = {}, []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.ERROR
    ) as cluster:
        monkeypatch.chdir(faces_folder.parent)  # where the workers are not
        with on_cluster(cluster.scheduler_address):
            before = cluster.scheduler.transition_counter
            for name, value in stages(Path(faces_folder.name), tmp_path / "there"):
                there[name] = value
                worked.append(cluster.scheduler.transition_counter - before)
                before = cluster.scheduler.transition_counter
    assert all(transitions > 3 for transitions in worked[:4])  # it was the cluster that worked, at every stage
    assert len(here["pairs"]) > 5 and len(here["quality"]) == 96
    for name, value in here.items():
        same = pd.testing.assert_frame_equal if isinstance(value, pd.DataFrame) else np.testing.assert_array_equal
        same(value, there[name])


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
