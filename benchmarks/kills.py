"""Runs killed at random moments and resumed: do they end with the results of a run that was left alone?

usage: python -m benchmarks.kills [--profile smoke] [--kills 27] [--seed 0] [--out reports/robustness]

Every other kill takes the command alone and leaves its children to end by themselves; the others take all of them at
once. After each kill the same command is given again, at once.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks import ROBUSTNESS_RESULTS
from benchmarks.repeated import differing, digests, finish, start
from facelib.formats import write_json
from facelib.storage import PARTIAL

KILLS_A_RUN = 3  # a run is finished and compared after so many


def kill(pid: int, children: bool) -> None:
    """End a process, or all of its tree, as a power cut would: nothing can be tidied up."""
    root = psutil.Process(pid)
    for process in [root, *(root.children(recursive=True) if children else [])]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def leftovers(root: Path) -> list[str]:
    """Locks and half-written files below a folder."""
    found = [path for pattern in (f"{PARTIAL}*", ".lock", ".*.lock") for path in root.rglob(pattern)]
    return sorted(str(path.relative_to(root)) for path in found)


def main() -> None:
    """One undisturbed run, then killed ones until there were enough kills; counts, and what differed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--data", default="", help="as of facelib run; none: synthetic faces")
    parser.add_argument("--kills", type=int, default=27)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROBUSTNESS_RESULTS)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    done = {"profile": options.profile, "kills": 0, "survived": 0, "moments_s": [], "differing": [], "leftovers": []}
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        finish(start(Path(scratch) / "alone", options.profile, options.data))
        whole_s = time.perf_counter() - begun
        expected = digests(Path(scratch) / "alone" / "run")
        while done["kills"] < options.kills:
            root = Path(scratch) / f"killed-{done['kills']}"
            ended, kills = False, 0
            while kills < min(KILLS_A_RUN, options.kills - done["kills"]) and not ended:
                process = start(root, options.profile, options.data)
                moment = float(rng.uniform(0, whole_s / KILLS_A_RUN))
                with contextlib.suppress(psutil.TimeoutExpired):
                    psutil.Process(process.pid).wait(moment)
                    ended = True  # before its turn came
                if not ended:
                    kill(process.pid, children=bool(kills % 2))
                    kills += 1
                    done["moments_s"].append(round(moment, 1))
                process.communicate()
            finish(start(root, options.profile, options.data))
            different = differing(expected, digests(root / "run"))
            done["kills"] += kills
            done["survived"] += 0 if different else kills
            done["differing"] += [f"{root.name}: {name}" for name in different]
            done["leftovers"] += [f"{root.name}: {name}" for name in leftovers(root)]
            write_json(options.out / f"kills_{options.profile}.json", done)
            print(f"{done['survived']} of {done['kills']} kills survived", flush=True)


if __name__ == "__main__":
    main()
