"""Speed, memory and robustness, measured side by side; run as modules from the project's root."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROBUSTNESS_RESULTS = Path("reports/robustness")
TRAINING_RESULTS = Path("reports/training")
EXPLAIN_RESULTS = Path("reports/explain")
EXTERNAL_RESULTS = Path("reports/external")


@contextmanager
def beside(busy: int) -> Iterator[None]:
    """Run a block beside some other programs that never pause."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
