"""The same audit on a dask cluster gives the same tables and descriptors."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facelib.audit.report import Audit
from facelib.data.cluster import ClusterUnreachable, on_cluster
from facelib.embedding import features

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.mark.slow
def test_two_processes_of_a_cluster_make_identical_tables(installed, faces_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 16)
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "here"))
    list(Audit(str(faces_folder), tmp_path / "audit_here"))
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "there"))
    worked = {}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.ERROR
    ) as cluster:
        monkeypatch.chdir(faces_folder.parent)  # where the workers are not
        for line in Audit(faces_folder.name, tmp_path / "audit_there", cluster=cluster.scheduler_address):
            worked[Path(line.partition(":")[0]).name] = cluster.scheduler.transition_counter
    decoded, compared, recognised, scored = (
        worked[name] for name in ("rejected.csv", "duplicates.csv", "persons.csv", "quality.csv")
    )
    assert 3 < decoded < compared - 10 and recognised < scored - 3  # it was the cluster that worked, at every stage
    tables = sorted(path.name for path in (tmp_path / "audit_here").iterdir())
    assert {"audit.csv", "decisions.csv", "duplicates.csv", "persons.csv", "quality.csv"} <= set(tables)
    assert tables == sorted(path.name for path in (tmp_path / "audit_there").iterdir())
    for name in tables:
        assert (tmp_path / "audit_here" / name).read_bytes() == (tmp_path / "audit_there" / name).read_bytes(), name
    arrays = [np.load(path) for side in ("here", "there") for path in (tmp_path / side).glob("*/descriptors.npy")]
    assert len(arrays) == 2 and len(pd.read_csv(tmp_path / "audit_here" / "duplicates.csv")) > 5
    np.testing.assert_array_equal(*arrays)


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
