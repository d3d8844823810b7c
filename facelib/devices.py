"""Where networks run: device, precision, threads and memory."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import psutil
import torch

LOOK, LOOKS = 0.1, 3  # seconds of a look at what other programs use, and how many
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them


def pick_device() -> torch.device:
    """The first CUDA device where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware: by AVX512-BF16 or AMX."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check)


def has_fast_bfloat16() -> bool:
    """Whether the device of trainings multiplies bfloat16 in hardware: the CUDA device, else the processor."""
    on_card = torch.cuda.is_available()
    return torch.cuda.is_bf16_supported(including_emulation=False) if on_card else processor_has_bfloat16()


@cache
def keep_freed_memory() -> None:
    """Let the process reuse freed memory instead of returning it to the system, where the C library is glibc.

    Every training step frees and allocates the same large tensors. Returned to the system, their pages have to be
    mapped and zeroed anew (`python -m benchmarks.step_memory`).
    """
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        # Either one alone switches off glibc's own adaptation and makes steps slower; older versions refuse the first.
        if mallopt(M_MMAP_THRESHOLD, 2**30):
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def threads_beside_others() -> int:
    """Threads for which others leave cores, 1 to as many as torch uses now, while this process has nothing to do.

    What others use is the least of some short looks, so that only what goes on for a while counts.
    """
    looks = [sum(psutil.cpu_percent(LOOK, percpu=True)) / 100 for _ in range(LOOKS)]
    return max(1, min(torch.get_num_threads(), (psutil.cpu_count() or 1) - round(min(looks))))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread: for work that is shared out by images, or too short to be shared out.

    Worker threads that first run a network meanwhile inherit it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
