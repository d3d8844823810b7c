"""Wall time and peak memory of a command with all its child processes.

usage: python -m benchmarks.run_cost [--into FILE.json] COMMAND [ARGUMENT ...]
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil

from facelib.formats import write_json
from facelib.runs import processor

INTERVAL = 2  # seconds between two looks


def tree_bytes(root: psutil.Process) -> int:
    """Proportional set size of a process and its descendants: shared pages are counted once."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it ended between the list and the look
            continue
    return total


def main() -> int:
    """Run the command, print what it took, keep it where a file is named, and pass on its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    start, peak = time.perf_counter(), 0
    command = subprocess.Popen(options.command)
    root = psutil.Process(command.pid)
    while command.poll() is None:
        peak = max(peak, tree_bytes(root))
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    minutes, rest = divmod(round(seconds), 60)
    print(f"{minutes}:{rest:02d} min, peak {peak / 1e9:.1f} GB")
    if options.into and not command.returncode:
        write_json(options.into, {"device": processor(), "seconds": seconds, "peak_gb": peak / 1e9})
    return command.returncode


if __name__ == "__main__":
    sys.exit(main())
