"""How long `facelib run` takes: alone, with notebooks 05 to 09 one at a time, and beside a busy process.

Every round takes each way once, in a run folder of its own, with nothing cached.

usage: python -m benchmarks.report_time [--profile demo] [--rounds 1], which writes reports/robustness/report_time.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import ROBUSTNESS_RESULTS, beside
from facelib import pipeline
from facelib.formats import write_json
from facelib.runs import processor, project_root

ALONE = "alone"
# What is set before the command, and how many other processes never pause.
WAYS = {
    ALONE: ("pass", 0),
    "with notebooks 05 to 09 one at a time": ("pipeline.AT_ONCE = 1", 0),
    "beside a busy process": ("pass", 1),
}
COMMAND = "import sys; from facelib import cli, pipeline; {0}; sys.argv[1:] = ['run', '--profile', '{1}']; cli.main()"


def measure(way: str, profile: str) -> float:
    """Seconds of a run in a new process."""
    setting, busy = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        folders = {"FACELIB_RUNS": folder, "FACELIB_CACHE": str(Path(folder) / "cache")}
        environment = os.environ | folders | {"PYTHONPATH": str(project_root())}
        command = [sys.executable, "-c", COMMAND.format(setting, profile)]
        with beside(busy):
            start = time.perf_counter()
            subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            return time.perf_counter() - start


def main() -> None:
    """Measure, print and save after each round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    if pipeline.AT_ONCE == 1:
        raise SystemExit("this machine has one core or little memory: notebooks run one at a time there anyway")
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            seconds[way].append(round(measure(way, options.profile), 1))
            print(f"{way}: {seconds[way][-1]:.0f} s", flush=True)
        ratios = {
            way: [round(a / b, 2) for a, b in zip(values, seconds[ALONE], strict=True)]
            for way, values in seconds.items()
        }
        found = {
            "profile": options.profile,
            "device": processor(),
            "cores": pipeline.CORES,
            "seconds": seconds,
            "ratio to alone": ratios,
        }
        write_json(ROBUSTNESS_RESULTS / "report_time.json", found)


if __name__ == "__main__":
    main()
