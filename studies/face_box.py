"""Where the frontal detector's box lies within an aligned chip, and how many chips it finds none in.

Nearly all chips of UTKFace hold a face, so the
share without a find bounds the false-flag rate of `no face` from above; chips turned upside down and patches of
pictures of other things, scikit-image's, show how many non-faces are flagged.

usage: python -m studies.face_box UTKFACE_FOLDER, which writes reports/audit/no_face.json
"""

import sys

import numpy as np
from PIL import Image
from skimage import data

from facelib.data.detection import find_chip_faces
from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces
from facelib.formats import write_json
from facelib.runs import cache_root
from facelib.statistics import rate
from studies import AUDIT_RESULTS

CHIPS = 2000
OTHER_THINGS = ("coffee", "chelsea", "rocket", "brick", "grass", "gravel", "camera", "retina", "immunohistochemistry")


def other_patches(px: int, each: int = 60) -> np.ndarray:
    """Random square patches without a human face: uint8 (n, px, px, 3)."""
    rng, patches = np.random.default_rng(0), []
    for picture in (getattr(data, name)() for name in OTHER_THINGS):
        colour = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
        for _ in range(each):
            edge = int(rng.integers(px, min(colour.shape[:2]) // 2 + px))
            top, left = (int(rng.integers(0, max(1, side - edge))) for side in colour.shape[:2])
            patch = Image.fromarray(colour[top : top + edge, left : left + edge, :3])
            patches.append(np.asarray(patch.resize((px, px))))
    return np.stack(patches)


def main() -> None:
    """Print the shares flagged, and the quartiles of left, top and edge as shares of the chip's edge."""
    results = {}
    for px in (64, 96):
        images, faces, _ = cache_faces(read_faces(sys.argv[1]), px, cache_root())
        chips = images[np.random.default_rng(0).choice(len(faces), CHIPS, replace=False)]
        searched = {"chips": chips, "upside down": chips[:, ::-1], "other things": other_patches(px)}
        boxes = {name: find_chip_faces(images) for name, images in searched.items()}
        for name, found in boxes.items():
            none = rate(int(np.isnan(found[:, 0]).sum()), len(found))
            results[f"{name}, {px} px"] = none.to_dict()
            print(f"{px} px, {name}: no face in {none.value:.1%} ({none.low:.1%} to {none.high:.1%}), n = {none.n:,}")
        for share in (25, 50, 75):
            left, top, width = np.nanpercentile(boxes["chips"], share, axis=0)
            print(f"{px} px, {share} %: left {left:+.2f}  top {top:+.2f}  edge {width:.2f}")
    write_json(AUDIT_RESULTS / "no_face.json", results)


if __name__ == "__main__":
    main()
