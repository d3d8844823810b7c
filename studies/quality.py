"""Spoilt photographs found again: what each quality score makes of photographs that were spoilt on purpose.

A thousand photographs are scored as they are, and two hundred of them after each fault: darkened to 30 %, brightened
to 35 % of the distance from white, contrast cut to 30 %, blurred (Gaussian, 5 of 200 px), shrunk to 40 px, made grey,
a quarter covered by a black border, turned upside down (no upright face), seen from further away (70 % of the size).
Then 540 patches of other pictures and 300 turned photographs are planted among all photographs, and ranked by the
features of the face network: by `facelib.embedding.outliers`, and for comparison by the distance to the tenth nearest
of 2,000 photographs. Prints, for each, the share flagged and the AUROC of the score. What is flagged among untouched
photographs may be poor in truth.

usage: python -m studies.quality UTKFACE_FOLDER, which writes reports/audit/quality.json
"""

import sys

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from facelib.audit.quality import THRESHOLDS, score_quality
from facelib.data.pixels import FaceImages, cache_faces, decode
from facelib.data.readers import FaceSource, read_faces
from facelib.embedding.features import embed, embed_faces
from facelib.embedding.outliers import face_scores
from facelib.embedding.weights import INPUT_PX
from facelib.formats import write_json
from facelib.metrics import auc
from facelib.runs import cache_root
from facelib.statistics import Bootstrap, rate
from studies import AUDIT_RESULTS
from studies.other_things import other_patches

PHOTOGRAPHS, SPOILT, PX = 1000, 200, 64
TURNED = 300
NEIGHBOURS_OF, NEIGHBOUR = 2000, 10


def bordered(image: Image.Image) -> Image.Image:
    """The photograph with its lowest quarter black."""
    image.paste(0, (0, round(0.75 * image.height), image.width, image.height))
    return image


def far(image: Image.Image) -> Image.Image:
    """The photograph at 70 % of its size, its edges drawn out."""
    small = np.asarray(image.resize((round(0.7 * image.width),) * 2))
    margin = (image.width - len(small)) // 2
    return Image.fromarray(np.pad(small, ((margin, margin), (margin, margin), (0, 0)), mode="edge"))


FAULTS = {
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.3),
    "bright": lambda image: image.point(lambda value: 255 - (255 - value) * 0.35),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.3),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(5 * image.width / 200)),
    "tiny": lambda image: image.resize((40, 40)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "border": bordered,
    "face": ImageOps.flip,
    "framing": far,
}


def scored(photographs: list[Image.Image], find_faces: bool) -> pd.DataFrame:
    """Quality scores of photographs."""
    pixels = np.stack([np.asarray(image.resize((PX, PX), Image.Resampling.LANCZOS)) for image in photographs])
    faces = pd.DataFrame({"image_id": range(len(pixels))})
    faces["width"], faces["height"] = np.array([image.size for image in photographs]).T
    return score_quality(faces, FaceImages(pixels, np.arange(len(pixels))), find_faces)


def planted(source: FaceSource) -> dict:
    """Shares flagged and AUROC of pictures without an upright face, planted among all photographs; see the top."""
    _, faces, _ = cache_faces(source, PX, cache_root())
    embedding = embed_faces(faces, lambda: source, cache_root())
    rng = np.random.default_rng(0)
    turned = [decode((source.root / path).read_bytes(), INPUT_PX)[0] for path in rng.choice(faces["path"], TURNED)]
    turned = [np.rot90(picture, way) for picture, way in zip(turned, rng.integers(1, 4, TURNED), strict=True)]
    pictures = np.concatenate([other_patches(INPUT_PX), turned])
    features, descriptors = embed(FaceImages(pictures, np.arange(len(pictures))))
    everything = embedding._replace(
        features=np.vstack([embedding.features, features]), descriptors=np.vstack([embedding.descriptors, descriptors])
    )
    score, is_other = face_scores(everything), np.arange(len(faces) + len(pictures)) >= len(faces)
    flagged = score < THRESHOLDS["upright"]
    points = normalize(everything.features.astype(np.float32))
    sample, rest = np.split(rng.permutation(len(faces)), [NEIGHBOURS_OF])
    rest = np.concatenate([rest[:NEIGHBOURS_OF], np.flatnonzero(is_other)])
    distance = NearestNeighbors(n_neighbors=NEIGHBOUR).fit(points[sample]).kneighbors(points[rest])[0][:, -1]
    return {
        "plain": rate(int(flagged[~is_other].sum()), len(faces)).to_dict(),
        "spoilt": rate(int(flagged[is_other].sum()), len(pictures)).to_dict(),
        "auroc": auc(is_other, -score),
        "interval": Bootstrap(300)(auc, is_other, -score).to_dict(),
        "by neighbours": Bootstrap(300)(auc, is_other[rest], distance).to_dict(),
    }


def main() -> None:
    """Spoil, score and print."""
    source = read_faces(sys.argv[1])
    rows = np.random.default_rng(0).choice(len(source.faces), PHOTOGRAPHS, replace=False)
    photographs = []
    for path in source.faces["path"].iloc[rows]:
        with Image.open(source.root / path) as opened:
            photographs.append(opened.convert("RGB"))
    plain, results = scored(photographs, find_faces=True), {}
    for name, spoil in FAULTS.items():
        # Among untouched ones, since odd framing is judged by what is usual in the data.
        spoiled = [spoil(image.copy()) for image in photographs[:SPOILT]]
        both = scored(photographs + spoiled, name in ("face", "framing"))
        spoilt = both.iloc[PHOTOGRAPHS:]
        area = auc(np.arange(len(both)) >= PHOTOGRAPHS, -both[name].fillna(1.0).to_numpy())
        flagged = {
            side: rate(int(table[f"is_{name}"].sum()), len(table))
            for side, table in (("plain", plain), ("spoilt", spoilt))
        }
        results[name] = {side: estimate.to_dict() for side, estimate in flagged.items()} | {"auroc": area}
        shares = f"{flagged['plain'].value:6.1%} as they are, {flagged['spoilt'].value:6.1%} of the spoilt ones"
        print(f"{name:9} flagged: {shares}; AUROC {area:.3f}", flush=True)
    results["upright"] = planted(source)
    print("planted:", results["upright"])
    write_json(AUDIT_RESULTS / "quality.json", results)


if __name__ == "__main__":
    main()
