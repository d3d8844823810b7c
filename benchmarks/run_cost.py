"""Wall time and peak memory of a command with all its child processes.

usage: python -m benchmarks.run_cost COMMAND [ARGUMENT ...]
"""

import subprocess
import sys
import time

import psutil

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
    """Run the command, print what it took, and pass on its exit code."""
    start, peak = time.perf_counter(), 0
    command = subprocess.Popen(sys.argv[1:])
    root = psutil.Process(command.pid)
    while command.poll() is None:
        peak = max(peak, tree_bytes(root))
        time.sleep(INTERVAL)
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    print(f"{minutes}:{seconds:02d} min, peak {peak / 1e9:.1f} GB")
    return command.returncode


if __name__ == "__main__":
    sys.exit(main())
