"""The same command twice: are results.json, tables and metrics the same, bit for bit?

usage: python -m benchmarks.repeated [--profile smoke] [--data PATH] [--out reports/robustness]
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from safetensors.torch import save

from benchmarks import ROBUSTNESS_RESULTS
from facelib.formats import write_json
from facelib.models.checkpoints import load_checkpoint
from facelib.runs import project_root

# What says when, where and how fast a run was, and no more; the report and the executed notebooks show some of it.
ABOUT_THE_RUN = {"params.yaml", "timings.json", "progress.json", "test_reads.csv", "presentation.pdf"}
SHOWING_IT = {"notebooks", "report"}


def start(root: Path, profile: str, data: str = "") -> subprocess.Popen:
    """Begin or resume a run in a process of its own."""
    command = [sys.executable, "-m", "facelib.cli", "run", "--profile", profile, "--run", "run"]
    folders = {"FACELIB_RUNS": str(root), "FACELIB_CACHE": str(root / "cache")}
    environment = os.environ | folders | {"PYTHONPATH": str(project_root())}
    root.mkdir(parents=True, exist_ok=True)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    # Elsewhere than in the project, since a kernel leaves its working directory out of what it imports from.
    data = ["--data", str(Path(data).resolve())] if data else []
    return subprocess.Popen([*command, *data], cwd=root, env=environment, **streams)


def finish(process: subprocess.Popen) -> None:
    """Wait for a run; what it said on stderr becomes an error where it failed."""
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}: {said.strip()[-500:]}")


def digests(run: Path) -> dict[str, str]:
    """A digest of everything that a run measured, by file.

    Tables are taken by their values, trainings by their weights and losses, and other files by their bytes.
    """
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run)
        if path.is_file() and name.parts[0] not in SHOWING_IT and str(name) not in ABOUT_THE_RUN:
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content = pd.read_parquet(path).to_csv().encode()
            elif path.suffix == ".ckpt":
                training = load_checkpoint(path)
                weights = {name: value.contiguous() for name, value in training.pop("weights").items()}
                content = save(weights) + repr(training | {"seconds": 0}).encode()
            found[str(name)] = hashlib.sha256(content).hexdigest()
    return found


def differing(one: dict[str, str], two: dict[str, str]) -> list[str]:
    """Files that are not in both, or not the same."""
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def main() -> None:
    """Run twice, each from nothing, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--data", default="", help="as of facelib run; none: synthetic faces")
    parser.add_argument("--out", type=Path, default=ROBUSTNESS_RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for name in ("once", "twice"):
            root = Path(scratch) / name  # caches and drawn faces of its own, too
            finish(start(root, options.profile, options.data))
            found.append(digests(root / "run"))
    results = {
        "profile": options.profile,
        "files": len(found[0]),
        "results_json_same": "results.json" in found[0] and found[0]["results.json"] == found[1].get("results.json"),
        "differing": differing(*found),
    }
    write_json(options.out / f"repeated_{options.profile}.json", results)
    print(results)


if __name__ == "__main__":
    main()
