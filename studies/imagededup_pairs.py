"""Pairs that imagededup's PHash finds in a folder at its default radius, as JSON; run by studies/copies.py.

Runs in an environment of its own, without this package.
"""

import json
import sys
import time

from imagededup.methods import PHash

if __name__ == "__main__":
    start = time.perf_counter()
    found = PHash(verbose=False).find_duplicates(image_dir=sys.argv[1])
    seconds = time.perf_counter() - start
    pairs = sorted({tuple(sorted((name, other))) for name, others in found.items() for other in others})
    print(json.dumps({"seconds": seconds, "pairs": pairs}))
