"""What `facelib doctor` says of a machine."""

import os
import shutil

import pytest

from facelib import devices, doctor


def rows() -> dict[str, tuple[str, str]]:
    return {topic: (state, text) for state, topic, text in doctor.findings()}


def test_every_line_has_a_state_and_a_text():
    found = rows()
    assert {"processor", "memory", "disk", "bfloat16", "Chromium"} <= set(found)
    assert all(state in ("ok", "slow", "missing") and text for state, text in found.values())


def test_a_small_machine_is_told_what_it_lacks(monkeypatch):
    monkeypatch.setattr(doctor, "memory_gb", lambda: 4.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9e9, 8e9, 1e9))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = rows()
    assert found["memory"][0] == "slow" and "4 GB" in found["memory"][1]
    assert found["disk"] == ("missing", "1 GB free for runs and caches (10 wanted)")
    assert all(found[topic][0] == "missing" for topic in ("torch", "dlib", "face recognition models", "Chromium"))


@pytest.mark.parametrize(("load", "threads", "state"), [(0.1, None, "ok"), (8.0, None, "slow"), (8.0, "1", "ok")])
def test_threads_are_judged_by_what_else_runs(load, threads, state, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert rows()["load"][0] == state


@pytest.mark.parametrize(("unit", "state"), [(True, "ok"), (False, "slow")])
def test_a_processor_without_bfloat16_is_slow(unit, state, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(devices, "processor_has_bfloat16", lambda: unit)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert rows()["bfloat16"][0] == state
