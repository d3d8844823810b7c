"""Where the frontal detector's box lies within an aligned chip: the constants of facelib.analysis.external.

usage: python -m benchmarks.face_box UTKFACE_FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from skimage.feature import Cascade

PHOTOS, PAD = 400, 100


def main() -> None:
    """Print the quartiles of left, top and edge as shares of the chip's edge."""
    paths = sorted(Path(sys.argv[1]).glob("*.jpg"))
    detector = Cascade(data.lbp_frontal_face_cascade_filename())
    boxes, used = [], 0
    for index in np.random.default_rng(0).permutation(len(paths))[:PHOTOS]:
        chip = np.asarray(Image.open(paths[index]).convert("RGB"))
        edge = chip.shape[0]
        padded = np.pad(chip, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="edge")
        found = detector.detect_multi_scale(
            padded, scale_factor=1.1, step_ratio=1, min_size=(80, 80), max_size=padded.shape[:2]
        )
        used += 1
        if found:
            box = max(found, key=lambda box: box["width"])
            boxes.append([(box["c"] - PAD) / edge, (box["r"] - PAD) / edge, box["width"] / edge])
    print(f"found in {len(boxes)} of {used} padded chips")
    for share in (25, 50, 75):
        left, top, width = np.percentile(boxes, share, axis=0)
        print(f"{share} %: left {left:+.2f}  top {top:+.2f}  edge {width:.2f}")


if __name__ == "__main__":
    main()
