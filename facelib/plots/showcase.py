"""The README's picture of synthetic faces: `python -m facelib.plots.showcase OUT.png`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from facelib.synthetic.drawing import GROUP_HUES, draw_face

AGES = (1, 6, 14, 24, 35, 48, 60, 72, 86)  # years, a column each
PX, GAP = 96, 4


def draw_showcase(seed: int = 3) -> Image.Image:
    """A row for each abstract group, a column for each age, the two classes of the second label alternating."""
    step = PX + GAP
    sheet = Image.new("RGB", (len(AGES) * step - GAP, len(GROUP_HUES) * step - GAP), "white")
    for group in range(len(GROUP_HUES)):
        for column, age in enumerate(AGES):
            face = draw_face(age, (group + column) % 2, group, np.random.default_rng([seed, group, column]), px=2 * PX)
            picture = Image.fromarray(face).resize((PX, PX), Image.Resampling.LANCZOS)
            sheet.paste(picture, (column * step, group * step))
    return sheet


if __name__ == "__main__":
    draw_showcase().save(Path(sys.argv[1]), optimize=True)
