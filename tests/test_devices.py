"""Devices: memory that a process keeps for reuse."""

import mmap
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from facelib import devices

FAULTS = """
import ctypes, resource, sys, torch
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: all pages are small ones
from facelib.devices import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(megabytes * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(64)
print(faults(48))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries return memory by their own rules")
def test_freed_memory_is_reused_without_new_pages():
    def faults(way: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
        return int(done.stdout)

    pages = 48 * 2**20 // mmap.PAGESIZE  # more than glibc keeps by itself
    assert faults("returned") >= pages
    assert faults("kept") < pages / 10


@pytest.mark.parametrize("problem", [TypeError, OSError, AttributeError])
def test_a_c_library_without_mallopt_is_left_alone(problem, monkeypatch):
    def refuse(_):
        raise problem

    monkeypatch.setattr(devices.ctypes, "CDLL", refuse)
    devices.keep_freed_memory.__wrapped__()  # raises nothing


def test_a_refused_threshold_leaves_the_other_as_it_is(monkeypatch):
    asked = []

    def refuse(number, _):
        asked.append(number)
        return 0

    monkeypatch.setattr(devices.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=refuse))
    devices.keep_freed_memory.__wrapped__()
    assert asked == [devices.M_MMAP_THRESHOLD]


@pytest.mark.parametrize(
    ("looks", "threads"),
    [
        ([[3, 0, 9, 2]] * 3, 4),
        ([[100, 0, 5, 0]] * 3, 3),
        ([[100, 100, 0, 0], [0, 0, 0, 0], [100, 100, 0, 0]], 4),  # nothing that goes on
        ([[100] * 4] * 3, 1),
        ([[60, 60, 60, 60]] * 3, 2),
    ],
)
def test_threads_are_spared_for_what_others_use_for_a_while(monkeypatch, looks, threads):
    seen = iter(looks)
    fake = SimpleNamespace(cpu_percent=lambda interval, percpu: next(seen), cpu_count=lambda: 4)
    monkeypatch.setattr(devices, "psutil", fake)
    monkeypatch.setattr(devices.torch, "get_num_threads", lambda: 4)
    assert devices.threads_beside_others() == threads
