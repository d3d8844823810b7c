"""The drawn face: one portrait that shows a given age, gender and group.

A face is a height field lit by one lamp: relief gives the shading, soft masks give the colours. All
geometry is in *chip units*, the pixels of a 200 x 200 UTKFace chip with the eyes near (61, 58) and (139,
58); `px` only sets the sampling. The five groups are artificial on purpose: a hue of a fantasy palette, an
outline exponent, a faint pattern. Every cue overlaps between neighbouring labels, so that no network can be
perfect.
"""

import math
from collections import namedtuple

import numpy as np
from PIL import Image, ImageFilter

from facelib.schema import MAX_AGE

DRAWING_VERSION = 2  # raise it with every change of the pictures, so that old and new stay apart

LEFT_EYE, RIGHT_EYE = (61.0, 58.0), (139.0, 58.0)  # chip units
CHIP = 200.0  # side of a chip in chip units

# Skin of each group: hue in OKLCH degrees and chroma (slate blue, rose, violet, jade, ochre). The order
# and the equal lightness are chosen so that no group looks like the people whose code it shares, and none
# looks like the norm.
GROUP_HUES = (240.0, 352.0, 298.0, 164.0, 92.0)
GROUP_CHROMAS = (0.060, 0.072, 0.066, 0.058, 0.070)
GROUP_OUTLINES = (2.25, 2.55, 2.1, 2.7, 2.4)  # superellipse exponent: 2 is an ellipse, more is squarer
HUE_SD_DEGREES = 18.0
GENDER_AXIS_SD = 0.45  # the two genders lie at -1 and 1 of the axis from which every gender cue is drawn

# Hair and cloth: (lightness, chroma, hue) in OKLCH, independent of every label.
HAIR_COLOURS = (
    (0.27, 0.018, 290), (0.32, 0.045, 50), (0.40, 0.065, 52), (0.50, 0.09, 50),
    (0.70, 0.08, 80), (0.30, 0.025, 265), (0.36, 0.05, 345), (0.60, 0.065, 65),
)  # fmt: skip
CLOTH_COLOURS = (
    (0.45, 0.06, 255), (0.90, 0.015, 85), (0.55, 0.09, 30), (0.50, 0.06, 165),
    (0.72, 0.08, 85), (0.35, 0.03, 280),
)  # fmt: skip
IRIS_COLOURS = ((0.36, 0.06, 55), (0.42, 0.07, 75), (0.48, 0.07, 240), (0.47, 0.07, 150), (0.30, 0.03, 50))


def _oklch(lightness: float, chroma: float, hue_degrees: float) -> np.ndarray:
    """Linear sRGB of an OKLCH colour, clipped to the gamut (Björn Ottosson, 2020)."""
    a = chroma * math.cos(math.radians(hue_degrees))
    b = chroma * math.sin(math.radians(hue_degrees))
    l3 = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m3 = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s3 = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * l3 - 3.3077115913 * m3 + 0.2309699292 * s3
    green = -1.2684380046 * l3 + 2.6097574011 * m3 - 0.3413193965 * s3
    blue = -0.0041960863 * l3 - 0.7034186147 * m3 + 1.7076147010 * s3
    return np.clip(np.array([red, green, blue], np.float32), 0.0, 1.0)


def _mix(first, second, share):
    return first + (second - first) * share


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def _step(distance, width):
    """Smooth step from 0 to 1 as `distance` crosses zero, `width` wide."""
    t = np.clip(distance / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _blend(image: np.ndarray, colour, alpha) -> None:
    """Lay `colour`, one per image or one per pixel, over `image` (3, H, W) in place."""
    if colour.ndim == 1:
        colour = colour[:, None, None]
    image += alpha * (colour - image)


class _Canvas:
    """Sampling positions of one picture: `x`, `y` in the face's chip units, `u`, `v` in the frame's."""

    def __init__(self, px: int, pose: "_Pose"):
        self.px = px
        self.unit = CHIP / px  # chip units per pixel
        self.edge = 1.5 * self.unit  # width of an antialiased edge
        centres = ((np.arange(px) + 0.5) * self.unit).astype(np.float32)
        self.u, self.v = centres[None, :], centres[:, None]
        self.cos, self.sin, self.pose = math.cos(pose.roll), math.sin(pose.roll), pose
        du, dv = (self.u - 100.0 - pose.dx) / pose.scale, (self.v - 58.0 - pose.dy) / pose.scale
        self.x = self.cos * du + self.sin * dv + 100.0
        self.y = -self.sin * du + self.cos * dv + 58.0

    def crop(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """Rows and columns that hold a box given in face units."""
        x, y = np.array([x0, x0, x1, x1]) - 100.0, np.array([y0, y1, y0, y1]) - 58.0
        us = (self.cos * x - self.sin * y) * self.pose.scale + 100.0 + self.pose.dx
        vs = (self.sin * x + self.cos * y) * self.pose.scale + 58.0 + self.pose.dy

        def span(values):
            ends = (values.min() - 1) / self.unit, (values.max() + 2) / self.unit
            return slice(*(int(min(max(end, 0), self.px)) for end in ends))

        return span(vs), span(us)

    def bump(self, field: np.ndarray, x: float, y: float, sx: float, sy: float, height: float) -> None:
        """Add a Gaussian hill to `field` in place."""
        rows, cols = self.crop(x - 3 * sx, y - 3 * sy, x + 3 * sx, y + 3 * sy)
        dx, dy = (self.x[rows, cols] - x) / sx, (self.y[rows, cols] - y) / sy
        field[rows, cols] += height * np.exp(-0.5 * (dx * dx + dy * dy))

    def arc(self, start, end, bulge: float, width: float, blunt: bool = False):
        """Where a curved stroke lies and how strongly, 0 to 1.

        The stroke is a parabola over its chord that leaves it by `bulge`; its profile is a Gaussian of sd
        `width` that fades to its ends, or only to its end if it is `blunt`.
        """
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0)
        cx, cy = (x1 - x0) / length, (y1 - y0) / length
        pad = abs(bulge) + 3 * width
        box = self.crop(min(x0, x1) - pad, min(y0, y1) - pad, max(x0, x1) + pad, max(y0, y1) + pad)
        dx, dy = self.x[box] - x0, self.y[box] - y0
        along = (dx * cx + dy * cy) * (2.0 / length) - 1.0  # -1 at the start, 1 at the end
        window = np.clip(1.0 - along * along, 0.0, 1.0)
        across = (dy * cx - dx * cy - bulge * window) / width
        fade = np.where(along < 0, _step(along + 0.9, 0.3), np.sqrt(window)) if blunt else window
        return box, (np.exp(-0.5 * across * across) * fade).astype(np.float32)


def _noise(rng: np.random.Generator, px: int, cell: float) -> np.ndarray:
    """Smooth noise of unit scale with features about `cell` chip units wide."""
    side = max(2, round(CHIP / cell) + 1)
    grid = Image.fromarray(rng.standard_normal((side, side)).astype(np.float32))
    return np.asarray(grid.resize((px, px), Image.Resampling.BICUBIC))


_Pose = namedtuple("_Pose", "roll yaw pitch dx dy scale")
# Drawing parameters; `child` and `old` run from 0 to 1, `masculine` from about -1 to 1.
_Person = namedtuple(
    "_Person",
    "apparent_age child old masculine adult outline pattern skin blush lip hair iris cloth hair_style hairline "
    "hair_length wave parting beard lashes brow smile open_mouth glasses width chin jaw eye nose mouth",
)
_Landmarks = namedtuple("_Landmarks", "head nose mouth mouth_half")  # points in chip units, and half a width
_Light = namedtuple("_Light", "direction key ambient rim")
# All that a painting function may look at; `strands` is the brightness of the hair, (H, W).
_Scene = namedtuple("_Scene", "canvas person pose marks light strands")


def _sample_pose(rng: np.random.Generator) -> _Pose:
    return _Pose(
        roll=math.radians(rng.normal(0, 1.6)),
        yaw=float(np.clip(rng.normal(0, 0.45), -1, 1)), pitch=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        dx=rng.normal(0, 1.3), dy=rng.normal(0, 1.3), scale=1 + np.clip(rng.normal(0, 0.015), -0.03, 0.03),
    )  # fmt: skip


def _sample_hair(rng, age: float, adult: float, masculine: float) -> tuple[str, float, float]:
    """Style, height of the hairline and length of the hair (both as y in chip units)."""
    if age < 2.5 and rng.random() < 0.75 - 0.2 * age:
        return "fuzz", rng.uniform(2, 12), 40.0
    if rng.random() < _mix(0.2 - 0.4 * masculine, 0.07 + 0.7 * _sigmoid(-4 * masculine), adult):
        fringe = rng.random() < 0.3
        return "long", rng.uniform(30, 40) if fringe else rng.uniform(8, 20), rng.uniform(130, 290)
    loss = max(0.0, rng.normal((age - 38) / 45, 0.3)) * _sigmoid(4 * masculine) if age > 20 else 0.0
    if loss > 0.75:
        return "bald", -40.0, 85.0
    return "short", rng.uniform(10, 26) - 38 * loss, rng.uniform(64, 84) + 8 * (1 - masculine)


def _sample_person(age_years: float, gender: int, group: int, rng: np.random.Generator) -> _Person:
    age = max(0.3, age_years + rng.normal(0, 0.5 + 0.06 * age_years))
    child = math.exp(-((age / 9.0) ** 1.1))
    old = float(np.clip((age - 24) / 62, 0, 1.15))
    adult = _sigmoid((age - 12) / 2.2)
    axis = rng.normal(-1.0 if gender else 1.0, GENDER_AXIS_SD) * (0.2 + 0.8 * adult)

    def cue(sd: float = 0.35) -> float:
        return axis + rng.normal(0, sd)

    hue = rng.normal(GROUP_HUES[group], HUE_SD_DEGREES)
    chroma = GROUP_CHROMAS[group] * rng.uniform(0.75, 1.2) * (1 - 0.2 * min(old, 1))
    light = float(np.clip(rng.normal(0.755, 0.045), 0.62, 0.85))
    style, hairline, length = _sample_hair(rng, age, adult, axis)
    grey = float(np.clip((age - 48 + rng.normal(0, 7)) / 22, 0, 1))
    hair_l, hair_c, hair_h = HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))]
    if style == "fuzz":
        hair_l = max(hair_l, 0.45)
    hair = _oklch(hair_l * rng.uniform(0.9, 1.1), hair_c, hair_h)
    hair = _mix(hair, _oklch(rng.uniform(0.78, 0.9), 0.008, 260), grey)
    beard = 0.0
    if axis > 0.25 and age > 17:
        beard = float(rng.choice([0.0, rng.uniform(0.15, 0.4), rng.uniform(0.75, 1)], p=[0.4, 0.38, 0.22]))
    lip_l = light - 0.13 - 0.05 * (cue() < -0.7) * adult
    return _Person(
        apparent_age=age, child=child, old=old, masculine=axis, adult=adult,
        outline=max(1.95, rng.normal(GROUP_OUTLINES[group], 0.09) - 0.15 * child),
        pattern=group if rng.random() < 0.9 else int(rng.integers(5)),
        skin=_oklch(light, chroma, hue), blush=_oklch(light - 0.07, chroma + 0.05, 18), hair=hair,
        lip=_oklch(lip_l, chroma * 0.6 + 0.075 + 0.02 * max(0.0, -cue()) * adult, 14),
        iris=_oklch(*IRIS_COLOURS[rng.integers(len(IRIS_COLOURS))]),
        cloth=_oklch(*CLOTH_COLOURS[rng.integers(len(CLOTH_COLOURS))]),
        hair_style=style, hairline=hairline, hair_length=length,
        wave=rng.uniform(0, 0.05) * (rng.random() < 0.6), parting=rng.uniform(-26, 26), beard=beard,
        lashes=float(np.clip(0.35 - 0.5 * cue(), 0, 1)) * (0.35 + 0.65 * adult),
        brow=float(np.clip(1 + 0.38 * cue(), 0.5, 1.7)) * (0.55 + 0.45 * adult),
        smile=rng.normal(0.75, 0.55), open_mouth=max(0.0, rng.normal(-0.2, 0.9)),
        glasses=bool(rng.random() < 0.005 + 0.09 * adult * min(1, old + 0.2)),
        width=79 + 3.0 * cue() * adult + 4.5 * child + 2.5 * old + rng.normal(0, 1.6),
        chin=186 - 15 * child + 2.5 * cue() * adult + 1.5 * old + rng.normal(0, 2),
        jaw=max(0.0, 0.22 - 0.07 * cue() * adult - 0.1 * child - 0.06 * old + rng.normal(0, 0.02)),
        eye=0.96 + 0.34 * child - 0.1 * old - 0.06 * cue() * adult + rng.normal(0, 0.035),
        nose=1.0 - 0.42 * child + 0.16 * old + 0.07 * cue() * adult + rng.normal(0, 0.04),
        mouth=1.0 - 0.24 * child + 0.04 * cue() * adult + rng.normal(0, 0.05),
    )  # fmt: skip


def _landmarks(person: _Person, pose: _Pose) -> _Landmarks:
    lift = 3.0 * pose.pitch
    nose_y = 58 + 49 * person.nose**0.75 - 3 * person.child
    mouth_y = _mix(nose_y + 29 + 2 * person.old, person.chin, 0.12) - 2
    nose, mouth = (100 + 9 * pose.yaw, nose_y + lift), (100 + 5 * pose.yaw, mouth_y + lift * 0.6)
    return _Landmarks((100 - 4 * pose.yaw, 80.0), nose, mouth, 26.0 * person.mouth)


def _head_radius(scene: _Scene, grow: float = 0.0) -> np.ndarray:
    """Superellipse radius: below 1 inside the head."""
    canvas, person, marks = scene.canvas, scene.person, scene.marks
    dy = canvas.y - marks.head[1]
    below = np.clip(dy / (person.chin - marks.head[1]), 0, 1.3)
    taper = 1.0 - person.jaw * below * below + 0.05 * person.old * np.sin(np.clip(below, 0, 1) * math.pi) * below
    a = np.abs(canvas.x - marks.head[0]) / ((person.width + grow) * taper)
    b = np.where(dy > 0, dy / (person.chin - marks.head[1] + grow), dy / -(104.0 + grow))
    return (a**person.outline + b**person.outline) ** (1.0 / person.outline)


def _relief(scene: _Scene, radius: np.ndarray, rng) -> np.ndarray:
    """Height of the head over the picture plane in chip units."""
    canvas, person, pose, marks = scene.canvas, scene.person, scene.pose, scene.marks
    depth = 1.0 - radius**2.3
    rounded = np.sqrt(np.clip(depth, 0.03, 1.0))
    field = 74.0 * (rounded + 2.9 * np.minimum(depth - 0.03, 0.0))  # falls on at the edge: no bright outline
    (nose_x, nose_y), (mouth_x, mouth_y) = marks.nose, marks.mouth
    young, old, size = person.child, person.old, person.nose
    for eye_x, eye_y in (LEFT_EYE, RIGHT_EYE):
        side = math.copysign(1, eye_x - 100)
        canvas.bump(field, eye_x, eye_y + 2, 17, 11, -5.5 - 2.5 * old + 2.5 * young)
        canvas.bump(field, eye_x - 4 * side, eye_y - 21, 22, 8, 2.2 + 1.3 * person.masculine * person.adult)
        canvas.bump(field, 100 + 45 * side + 3 * pose.yaw, 108 + 12 * old, 22, 19, 4.0 + 3.5 * young)
        canvas.bump(field, nose_x + 11.5 * side * size, nose_y, 6 * size, 5.5 * size, 4.6 * size)
        canvas.bump(field, 100 + 52 * side, person.chin - 32, 14, 13, 5.0 * max(0.0, old - 0.35))
    ridge_x = _mix(100.0, nose_x, np.clip((canvas.y - 48) / (nose_y - 48), 0, 1.2))
    rise = _step(canvas.y - (58 + nose_y) / 2, nose_y - 44) * _step(nose_y + 4 - canvas.y, 13)
    across = (canvas.x - ridge_x) / (6.5 * size + 1.0)
    field += (14.5 * size - 3 * young) * rise * np.exp(-0.5 * across * across)
    canvas.bump(field, nose_x, nose_y - 2, 8 * size, 7 * size, 7.5 * size)
    canvas.bump(field, mouth_x, mouth_y, 27, 15, 4.5)
    canvas.bump(field, 100 + 3 * pose.yaw, person.chin - 15, 15, 10, 6.0)
    canvas.bump(field, 100 + 4 * pose.yaw, mouth_y + 17, 15, 4.5, -3.0)
    _add_wrinkles(scene, field, rng)
    rough = 0.02 + 0.18 * max(0.0, old - 0.1) ** 1.5
    field += rough * _noise(rng, canvas.px, 2.6) + 1.2 * max(0.0, old - 0.35) * _noise(rng, canvas.px, 15)
    return field


def _add_wrinkles(scene: _Scene, field: np.ndarray, rng) -> None:
    """Cut folds and lines into the relief, deeper with age."""
    canvas, person, marks = scene.canvas, scene.person, scene.marks

    def cut(start, end, bulge, depth, width=1.5):
        if depth > 0.05:
            box, stroke = canvas.arc(start, end, bulge, max(width, 0.75 * canvas.unit))
            field[box] -= depth * stroke

    old, grown = person.old * rng.uniform(0.85, 1.15), 1 - person.child
    lines = max(0.0, old - 0.15) ** 1.2
    for y in (27, 17.5, 8, -1.5):  # forehead
        half, slant, depth = rng.uniform(34, 50), rng.normal(0, 2), 2.4 * lines * rng.uniform(0.5, 1.3)
        cut((100 - half, y), (100 + half, y + slant), rng.normal(-3, 2), depth)
    for (x, y), side in ((LEFT_EYE, -1), (RIGHT_EYE, 1)):
        for slope in (-9, 0, 9):  # crow's feet
            end = (x + (22 + rng.uniform(11, 17)) * side, y + 1.5 * slope + rng.normal(0, 1))
            cut((x + 22 * side, y + 0.5 * slope), end, 1.5 * side, 1.9 * lines * rng.uniform(0.6, 1.2), 1.2)
        bag = (0.2 + 2.6 * max(0.0, old - 0.1)) * grown
        cut((x - 17, y + 13), (x + 17, y + 13), 8 + 2 * old, bag, 1.9)
        cut((x - 16, y + 19), (x + 18, y + 18), 8, 1.6 * (old - 0.45), 1.6)
        cut((98 + 7 * side, 38), (99 + 6 * side, 52), side, 2.2 * (lines - 0.1), 1.4)  # frown
    (nose_x, nose_y), (mouth_x, mouth_y), half = marks.nose, marks.mouth, marks.mouth_half
    for side in (-1, 1):  # from the nose past the mouth, and from its corners to the chin
        fold = (0.35 + 3.0 * max(0.0, old - 0.05) + 0.6 * max(0.0, person.smile)) * grown
        end = (mouth_x + (half + 9) * side, mouth_y - 2 + 8 * old)
        cut((nose_x + 17 * side * person.nose, nose_y - 3), end, -5 * side, fold, 2.3)
        start, end = (half + 2) * side + mouth_x, (half + 5) * side + mouth_x
        cut((start, mouth_y + 5), (end, mouth_y + 26), -2 * side, 2.6 * (old - 0.35), 1.9)


def _pattern(canvas: _Canvas, code: int, rng) -> np.ndarray:
    """Faint decoration of the skin, one kind for each group, between about -1 and 1."""
    phase = rng.uniform(0, 2 * math.pi)
    x, y = canvas.x, canvas.y
    kinds = (
        lambda: _noise(rng, canvas.px, 9) * 0.6,
        lambda: np.sin(x * 0.62 + phase) * np.sin(y * 0.62),
        lambda: np.sin(np.hypot(x - 100, y - 96) * 0.5 + phase),
        lambda: np.sin((x + y) * 0.36 + phase),
        lambda: np.sin(y * 0.52 + 1.2 * np.sin(x * 0.06 + phase)),
    )
    return kinds[code]()


def _skin_albedo(scene: _Scene, rng) -> np.ndarray:
    """Colour (3, H, W) of the bare skin before any light."""
    canvas, person, marks = scene.canvas, scene.person, scene.marks
    px, old = canvas.px, person.old
    tone = 1.0 + 0.030 * _pattern(canvas, person.pattern, rng)
    tone = tone + (0.010 + 0.035 * old**1.5) * _noise(rng, px, 5)
    tone = tone + 0.030 * _noise(rng, px, 4)  # each skin is unique, which tells copies from lookalikes
    albedo = person.skin[:, None, None] * tone
    flush = np.zeros_like(tone)
    strength = 0.25 + 0.25 * person.child
    for side in (-1, 1):
        canvas.bump(flush, 100 + 48 * side, 108, 20, 15, strength)
    canvas.bump(flush, *marks.nose, 13, 11, 0.75 * strength)
    canvas.bump(flush, 100, person.chin - 10, 18, 10, 0.35 * strength)
    if old > 0.15:
        flush += np.clip(_noise(rng, px, 22) - 0.3, 0, 1) * 0.28 * (old - 0.15)
    _blend(albedo, person.blush, np.clip(flush, 0, 1))
    for _ in range(rng.poisson(16 * max(0.0, old - 0.45))):
        spot = np.zeros_like(tone)
        size = rng.uniform(1.5, 4.5)
        canvas.bump(spot, rng.uniform(35, 165), rng.uniform(5, 150), size, size * 0.8, rng.uniform(0.25, 0.55))
        _blend(albedo, person.skin * np.float32(0.45), spot)
    return albedo


def _paint_beard(scene: _Scene, albedo, field, rng) -> None:
    """Stubble or beard over cheeks, chin and upper lip."""
    canvas, person, marks = scene.canvas, scene.person, scene.marks
    mouth_x, mouth_y = marks.mouth
    dx = np.abs(canvas.x - mouth_x)
    edge = mouth_y - 2 - np.clip((dx - 26) / (person.width - 30), 0, 1.2) ** 1.6 * (mouth_y - 70)
    full = person.beard > 0.5
    ragged = 1.5 * _noise(rng, canvas.px, 6)
    jaw = _step(canvas.y - edge + ragged, 16.0 if full else 32.0)
    lip = _step(30 - dx, 20) * _step(canvas.y - marks.nose[1] - 16 + 0.1 * dx + 0.4 * ragged, 10)
    cover = np.maximum(jaw, lip)
    curls = _noise(rng, canvas.px, 3.4)
    colour = person.hair[:, None, None] * (0.9 + 0.1 * curls)
    _blend(albedo, colour, cover * min(person.beard, 0.95))
    if full:
        field += cover * (2.0 + 0.12 * curls)


def _mouth_curves(scene: _Scene, box):
    """Upper edge, opening and lower edge of the lips as y over the box, and the position across the mouth."""
    canvas, person, marks = scene.canvas, scene.person, scene.marks
    mouth_x, mouth_y = marks.mouth
    across = (canvas.x[box] - mouth_x) / marks.mouth_half
    arch = np.clip(1 - across * across, 0, 1)
    full = (1 - 0.45 * person.old) * (1 - 0.12 * person.masculine * person.adult) * (0.85 + 0.15 * person.adult)
    line = mouth_y + 5.5 * person.smile * (0.4 - across * across) + 0.8 * np.exp(-((across / 0.3) ** 2))
    bow = 1 - 0.25 * np.exp(-((across / 0.17) ** 2))
    gap = min(person.open_mouth, 1.2) * 4.2 * arch
    upper, lower = line - 0.3 * gap, line + gap
    return across, upper - 5.6 * full * arch**0.75 * bow, upper, lower, lower + 7.6 * full * arch**0.7


def _paint_lips(scene: _Scene, albedo, field):
    """Colour and swell the lips; return the box and mask of the opening between them."""
    canvas, marks = scene.canvas, scene.marks
    (mouth_x, mouth_y), half = marks.mouth, marks.mouth_half
    box = canvas.crop(mouth_x - half - 4, mouth_y - 18, mouth_x + half + 4, mouth_y + 24)
    across, top, upper, lower, bottom = _mouth_curves(scene, box)
    y = canvas.y[box]
    ends = _step(0.97 - np.abs(across), 0.1)
    lips = ends * _step(np.minimum(y - top, bottom - y), 1.6 * canvas.edge)
    _blend(albedo[:, *box], scene.person.lip, 0.8 * lips)
    low = np.clip((y - lower) / np.maximum(bottom - lower, 0.5), 0, 1)
    high = np.clip((upper - y) / np.maximum(upper - top, 0.5), 0, 1)
    field[box] += ends * (2.6 * np.sin(low * math.pi) + 1.3 * np.sin(high * math.pi))
    return box, ends * _step(np.minimum(y - upper, lower - y) + 0.5, 1.2 * canvas.edge), y - upper


def _paint_mouth_opening(scene: _Scene, image, opening) -> None:
    person = scene.person
    box, inside, depth = opening
    view = image[:, *box]
    _blend(view, person.lip * np.float32(0.16), inside * 0.9)
    if person.open_mouth > 0.5 and person.apparent_age > 2:
        teeth = inside * _step(depth - 0.5, 1.5) * _step(4.2 * person.open_mouth - depth, 2.0)
        _blend(view, np.array([0.80, 0.78, 0.72], np.float32) * (1 - 0.25 * min(person.old, 1)), teeth * 0.92)


def _sample_light(rng: np.random.Generator, backdrop: np.ndarray) -> _Light:
    angle, height = rng.uniform(-1.25, 1.25), rng.uniform(0.25, 0.8)
    direction = np.array([math.sin(angle) * 0.75, -height, 0.95], np.float32)
    warmth = rng.normal(0, 0.045)
    tint = np.array([1 + warmth, 1.0, 1 - 1.2 * warmth], np.float32)
    strength = rng.uniform(0.80, 1.05)
    ambient = (0.8 + 0.2 * backdrop / backdrop.mean()) * np.float32(0.30 * rng.uniform(0.8, 1.15))
    rim = backdrop * np.float32(rng.uniform(0.2, 0.6))
    return _Light(direction / np.linalg.norm(direction), tint * np.float32(strength), ambient, rim)


def _shade(albedo: np.ndarray, field: np.ndarray, light: _Light, unit: float, occlusion: np.ndarray) -> np.ndarray:
    """Wrapped diffuse light, a soft gloss and a rim, with warm half shadows as in skin."""
    down, right = np.gradient(field, unit)
    norm = 1.0 / np.sqrt(1.0 + down * down + right * right)
    lx, ly, lz = light.direction
    facing = (lz - lx * right - ly * down) * norm
    wrap = np.array([0.34, 0.22, 0.18], np.float32)[:, None, None]
    diffuse = np.clip((facing + wrap) / (1 + wrap), 0, None)
    half = light.direction + np.array([0, 0, 1], np.float32)  # between lamp and eye: the mirror direction
    hx, hy, hz = half / np.linalg.norm(half)
    gloss = np.clip((hz - hx * right - hy * down) * norm, 0, 1) ** 26
    colour = albedo * (light.key[:, None, None] * diffuse + light.ambient[:, None, None]) * occlusion
    colour += (0.085 * gloss * occlusion) * light.key[:, None, None]
    return colour + light.rim[:, None, None] * (0.22 * (1 - norm) ** 3)


def _occlusion(scene: _Scene) -> np.ndarray:
    """Soft contact shadows, 1 in the open."""
    canvas, person, marks, light = scene.canvas, scene.person, scene.marks, scene.light
    shade = np.zeros_like(canvas.x)
    lean = -10 * light.direction[0]
    for eye_x, eye_y in (LEFT_EYE, RIGHT_EYE):
        canvas.bump(shade, eye_x, eye_y - 4, 19, 9, 0.13 + 0.07 * person.old)
    nose_x, nose_y = marks.nose
    canvas.bump(shade, nose_x + lean, nose_y + 10 * person.nose, 12 * person.nose, 4.5, 0.2)
    for side in (-1, 1):
        canvas.bump(shade, nose_x + 6.5 * side * person.nose, nose_y + 5.5 * person.nose, 2.4, 1.3, 0.6)
        canvas.bump(shade, _mix(100, nose_x, 0.2) + 13 * side, 52, 6, 11, 0.14)
    canvas.bump(shade, marks.mouth[0], marks.mouth[1] + 15, 15, 4, 0.14)
    return 1.0 - np.clip(shade, 0, 0.9)


def _paint_head(scene: _Scene, image: np.ndarray, rng):
    """Paint the head and return the opening of its mouth, for the teeth."""
    radius = _head_radius(scene)
    field = _relief(scene, radius, rng)
    albedo = _skin_albedo(scene, rng)
    if scene.person.beard:
        _paint_beard(scene, albedo, field, rng)
    opening = _paint_lips(scene, albedo, field)
    head = _shade(albedo, field, scene.light, scene.canvas.unit, _occlusion(scene))
    _blend(image, head, _step((1 - radius) * scene.person.width, scene.canvas.edge))
    return opening


def _lid_curves(person: _Person, across, outer):
    """Upper and lower lid as y below the eye; `across` runs from -1 to 1, `outer` towards the ear."""
    arch = np.clip(1 - across * across, 0, 1)
    droop = max(0.0, person.old - 0.3)
    slant = outer * (1.6 * droop - 0.8)
    upper = -(9.9 * person.eye - 2.6 * droop) * arch**0.62 * (1 - 0.12 * outer) + 3.0 * droop * outer * arch
    lower = 7.6 * person.eye * arch**0.75 * (1 + 0.12 * outer)
    return upper + slant, lower + slant


def _paint_eyeball(view, person: _Person, light: _Light, x, y, inside, shadow, edge: float) -> None:
    """White, iris, pupil and two reflections; `x`, `y` count from the pupil."""
    white = np.array([0.83, 0.82, 0.80], np.float32) * (0.55 + 0.45 * light.key)
    _blend(view, white[:, None, None] * shadow, inside)
    radius = 9.2 * (0.7 + 0.3 * person.eye)
    r = np.hypot(x, y + 0.6)
    glow = 0.6 + 0.9 * np.clip(r / radius, 0, 1) ** 2 + 0.5 * np.clip(y / radius, -0.6, 1)
    glow = glow * (1 - 0.75 * _step(r - radius + 1.3, 2.6)) * np.minimum(shadow + 0.15, 1)
    _blend(view, person.iris[:, None, None] * glow, inside * _step(radius - r, edge))
    _blend(view, np.full(3, 0.006, np.float32), inside * _step(radius * 0.46 - r, edge))
    lamp = math.copysign(3.6, light.direction[0])
    for dx, dy, size, strength in ((lamp, -4.0, 2.5, 0.92), (-0.8 * lamp, 3.4, 1.5, 0.4)):
        spark = _step(size * person.eye - np.hypot(x - dx, y - dy), edge)
        _blend(view, np.ones(3, np.float32), inside * spark * strength)


def _paint_eye(scene: _Scene, image, centre, gaze) -> None:
    canvas, person = scene.canvas, scene.person
    (x0, y0), side = centre, math.copysign(1, centre[0] - 100)
    half = 19.5 * (0.6 + 0.4 * person.eye)
    box = canvas.crop(x0 - half - 8, y0 - 22, x0 + half + 8, y0 + 20)
    view = image[:, *box]
    x, y = canvas.x[box] - x0, canvas.y[box] - y0
    across = x / half
    upper, lower = _lid_curves(person, across, across * side)
    inside = _step(np.minimum(y - upper, lower - y), canvas.edge) * _step(0.98 - np.abs(across), 0.08)
    shadow = 1.0 - 0.50 * np.exp(-np.clip(y - upper, 0, None) / 3.0) - 0.22 * across * across
    _paint_eyeball(view, person, scene.light, x - gaze[0], y - gaze[1], inside, shadow, canvas.edge)

    dark = person.hair * np.float32(0.12) + np.float32(0.007)
    thick = 1.1 + 1.9 * person.lashes * (0.55 + 0.45 * np.clip(across * side, -1, 1))
    lash = _step(thick - np.abs(y - upper + 0.4 * thick), canvas.edge) * _step(1.03 - np.abs(across), 0.1)
    _blend(view, dark, lash * (0.55 + 0.4 * person.lashes))
    rim = np.exp(-(((y - lower) / 1.1) ** 2)) * _step(0.98 - np.abs(across), 0.15)
    _blend(view, person.lip * np.float32(0.45), rim * 0.35)
    lid = upper - 4.2 - 0.8 * person.eye + 1.6 * max(0.0, person.old - 0.3)
    crease = np.exp(-(((y - lid) / 1.1) ** 2)) * _step(0.92 - np.abs(across), 0.3)
    _blend(view, person.skin * np.float32(0.32), crease * (0.34 + 0.25 * min(person.old, 1)))
    if person.lashes > 0.45:
        start, tip = (x0 + (half - 2.5) * side, y0 - 2.0), (x0 + (half + 6) * side, y0 - 7.5 - 2 * person.lashes)
        wing, stroke = canvas.arc(start, tip, -1.2 * side, 1.1, blunt=True)
        _blend(image[:, *wing], dark, stroke * person.lashes)


def _paint_brow(scene: _Scene, image, centre) -> None:
    canvas, person = scene.canvas, scene.person
    (x0, y0), side = centre, math.copysign(1, centre[0] - 100)
    lift = 20.5 - 1.6 * person.masculine * person.adult + 2.0 * (person.eye - 1) * 10 * 0.6
    inner, outer = (x0 - 20 * side, y0 - lift + 2.5), (x0 + 23 * side, y0 - lift + 3.5 + 2 * person.old)
    bow = 5.0 - 1.6 * person.masculine * person.adult
    box, stroke = canvas.arc(inner, outer, -bow * side, 2.1 * person.brow, blunt=True)
    colour = _mix(person.hair, person.skin * np.float32(0.2), 0.35) * np.float32(0.8)
    strength = (0.35 + 0.55 * person.adult) * min(1.0, 0.55 + 0.4 * person.brow)
    _blend(image[:, *box], colour, np.clip(stroke * 1.25, 0, 1) * strength)


def _strands(canvas: _Canvas, person: _Person, rng) -> np.ndarray:
    """Brightness of hair strands that flow from the crown, about 0.7 to 1.3."""
    x, y = canvas.x - 100 - person.parting, canvas.y + 62
    angle = np.arctan2(x, y) + person.wave * np.sin(canvas.y * 0.11 + 0.03 * x)
    coarse, fine = rng.standard_normal(48), rng.standard_normal(200)
    t = (angle / math.pi + 1) / 2
    flow = np.interp(t, np.linspace(0, 1, 48), coarse) * 0.13 + np.interp(t, np.linspace(0, 1, 200), fine) * 0.09
    return (1.0 + flow).astype(np.float32)


def _lit_hair(scene: _Scene, soft: float) -> np.ndarray:
    """Hair colour (3, H, W) under the light, with a gloss band."""
    canvas, person, light = scene.canvas, scene.person, scene.light
    strands, (lx, ly, _) = scene.strands, light.direction
    facing = 0.72 + 0.5 * ((canvas.x - 100) / 100 * lx + (canvas.y - 70) / 110 * ly)
    distance = np.hypot(canvas.x - 100 - person.parting - 30 * lx, canvas.y + 62)
    band = np.exp(-(((distance - 84) / 14) ** 2)) * np.clip(strands - 0.75, 0, 1)
    base = person.hair[:, None, None] * (light.key * 0.85 + light.ambient)[:, None, None]
    return base * (np.clip(facing, 0.25, 1.3) * strands * soft) + (0.10 * soft * band) * light.key[:, None, None]


def _front_hair_mask(scene: _Scene) -> np.ndarray:
    """Hair over forehead and temples: the skull's outline less an opening for the face."""
    canvas, person, marks, strands = scene.canvas, scene.person, scene.marks, scene.strands
    volume = {"short": 7.0, "long": 11.0, "fuzz": 2.0, "bald": 2.0}[person.hair_style]
    skull = _step(1.0 - _head_radius(scene, volume), 0.035)
    half = person.width - (3.0 if person.hair_style == "long" else 5.0)
    rise = np.where(canvas.y < 96.0, (96.0 - canvas.y) / (96.0 - person.hairline), 0.0)
    rise = rise * (1.0 + 0.16 * person.parting / 26 * (canvas.x - 100) / 80)
    a = np.abs(canvas.x - marks.head[0]) / half
    power = 2.6 if person.hairline < 26 else 3.6
    outside = _step((a**power + rise**power) ** (1 / power) - 1.0 + 0.08 * (strands - 1.0), 0.05)
    if person.hair_style == "long":
        sheet = _step(person.width + volume - np.abs(canvas.x - marks.head[0]), 3 * canvas.edge)
        skull = np.where(canvas.y > 80, sheet, skull)
        return skull * outside * _step(person.hair_length - 8 - canvas.y + 30 * (strands - 1.0), 8)
    return skull * outside * _step(person.hair_length - canvas.y + 24 * (strands - 1.0), 14)


def _paint_back_hair(scene: _Scene, image) -> None:
    """The sheet of long hair behind the head."""
    canvas, person, marks = scene.canvas, scene.person, scene.marks
    sway = (2.0 + 70 * person.wave) * np.sin(canvas.y * 0.06 + person.parting)
    sheet = person.width + 15 + sway - np.abs(canvas.x - marks.head[0])
    ends = person.hair_length - canvas.y - 0.0022 * (canvas.x - 100) ** 2 + 14 + 30 * (scene.strands - 1.0)
    mask = _step(sheet, 2 * canvas.edge) * _step(ends, 6)
    _blend(image, _lit_hair(scene, 0.62), mask)


def _paint_front_hair(scene: _Scene, image) -> None:
    mask = _front_hair_mask(scene)
    drop = max(1, round(4.0 / scene.canvas.unit))
    shadow = np.zeros_like(mask)
    shadow[drop:] = mask[:-drop]
    image *= 1.0 - 0.30 * np.clip(shadow - mask, 0, 1)
    opacity = {"fuzz": 0.4, "bald": 0.55}.get(scene.person.hair_style, 1.0)
    _blend(image, _lit_hair(scene, 1.0), mask * opacity)


def _paint_glasses(scene: _Scene, image) -> None:
    canvas, person, light = scene.canvas, scene.person, scene.light
    colour = person.cloth * np.float32(0.12)
    for eye_x, eye_y in (LEFT_EYE, RIGHT_EYE):
        box = canvas.crop(eye_x - 34, eye_y - 26, eye_x + 34, eye_y + 32)
        a, b = np.abs(canvas.x[box] - eye_x) / 29.5, np.abs(canvas.y[box] - eye_y - 3) / 23.0
        r = ((a**3.2 + b**3.2) ** (1 / 3.2) - 1.0) * 25
        view = image[:, *box]
        sheen = _step(-r, canvas.edge) * (0.05 + 0.07 * _step(canvas.x[box] - eye_x + canvas.y[box] - eye_y, 8))
        _blend(view, light.key, sheen)
        _blend(view, colour, _step(1.7 - np.abs(r), canvas.edge) * 0.93)
    for start, end, bulge in (((91, 58), (109, 58), -4), ((31, 55), (8, 52), 0), ((169, 55), (192, 52), 0)):
        box, stroke = canvas.arc(start, end, bulge, 1.5)
        _blend(image[:, *box], colour, np.clip(stroke * 1.5, 0, 1) * 0.9)


def _paint_background(canvas: _Canvas, rng) -> tuple[np.ndarray, np.ndarray]:
    """Backdrop (3, H, W) of two muted colours and out-of-focus shapes, and its mean colour."""
    hue = rng.uniform(0, 360)
    first = _oklch(rng.uniform(0.45, 0.88), rng.uniform(0.01, 0.06), hue)
    second = _oklch(rng.uniform(0.40, 0.85), rng.uniform(0.01, 0.06), hue + rng.normal(0, 60))
    angle = rng.uniform(0, 2 * math.pi)
    ramp = ((canvas.u - 100) * math.cos(angle) + (canvas.v - 100) * math.sin(angle)) / 260 + 0.5
    image = _mix(first[:, None, None], second[:, None, None], np.clip(ramp, 0, 1))
    for _ in range(rng.integers(0, 5)):
        x, y, size = rng.uniform(0, 200), rng.uniform(0, 200), rng.uniform(12, 40)
        distance = np.hypot(canvas.u - x, canvas.v - y)
        tone = _oklch(rng.uniform(0.4, 0.92), rng.uniform(0.01, 0.07), hue + rng.normal(0, 60))
        _blend(image, tone, _step(size - distance, rng.uniform(8, 25)) * rng.uniform(0.2, 0.6))
    return image.astype(np.float32), (first + second) / 2


def _paint_body(scene: _Scene, image) -> None:
    canvas, person, light = scene.canvas, scene.person, scene.light
    dx = np.abs(canvas.x - 100)
    neck_half = _mix(48, 58, max(0.0, person.masculine) * person.adult) - 10 * person.child
    fall = np.clip((canvas.x - 100) / 60 * light.direction[0] + 0.62, 0.25, 1)
    tone = fall * (0.55 - 0.2 * _step(person.chin + 6 - canvas.y, 26))
    neck = person.skin[:, None, None] * ((light.key + light.ambient)[:, None, None] * tone)
    flare = 0.018 * np.clip(canvas.y - 165, 0, 40) ** 2
    _blend(image, neck, _step(neck_half - dx + flare, canvas.edge) * (canvas.y > 110))
    scoop = 9 * np.sqrt(np.clip(1 - (dx / 50) ** 2, 0, 1))
    shoulder = canvas.y - 187 - scoop - 0.2 * np.clip(dx - 50, 0, None)
    cloth = person.cloth[:, None, None] * (light.key[:, None, None] * (0.45 + 0.4 * fall))
    _blend(image, cloth, _step(shoulder, canvas.edge))


def _paint_ears(scene: _Scene, image) -> None:
    canvas, person, marks, light = scene.canvas, scene.person, scene.marks, scene.light
    for side in (-1, 1):
        x0, y0 = marks.head[0] + (person.width - 1) * side, 74 + 4 * person.old
        box = canvas.crop(x0 - 14, y0 - 26, x0 + 14, y0 + 28)
        dx, dy = (canvas.x[box] - x0) / 10.5, (canvas.y[box] - y0) / (20 + 3 * person.old)
        r = np.sqrt(dx * dx + dy * dy * (1 - 0.15 * dy))
        lit = 0.62 + 0.3 * side * light.direction[0] + 0.16 * np.cos(r * 5) - 0.1 * dy
        colour = (light.key + light.ambient)[:, None, None] * lit
        colour = _mix(person.skin, person.blush, 0.15)[:, None, None] * colour
        _blend(image[:, *box], colour, _step((1 - r) * 11, canvas.edge))


def _develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Camera: exposure, white balance, vignette, blur, grain; a few pictures come out badly."""
    px = image.shape[1]
    fault = rng.choice(["none", "dark", "blurred", "grey"], p=[0.91, 0.025, 0.03, 0.035])
    exposure = rng.uniform(0.88, 1.18) * (rng.uniform(0.18, 0.35) if fault == "dark" else 1.0)
    balance = 1 + rng.normal(0, 0.025, 3)
    image = image * (exposure * balance).astype(np.float32)[:, None, None]
    ramp = ((np.arange(px) + 0.5) / px * 2 - 1).astype(np.float32) ** 2
    image *= 1 - rng.uniform(0.02, 0.12) * (ramp[:, None] + ramp[None, :])
    image = np.clip(image, 0, None)
    image = image * (1 + image * 0.12) / (1 + image * 0.30)  # soft shoulder: highlights roll off
    srgb = 1.055 * np.clip(image, 0.0031, None) ** np.float32(1 / 2.4) - 0.055
    grain = rng.gamma(2.0, 0.0025) + (0.012 if fault == "dark" else 0)
    srgb += np.float32(grain) * rng.standard_normal((1, px, px), dtype=np.float32)
    srgb += np.float32(grain * 0.5) * rng.standard_normal((3, px, px), dtype=np.float32)
    pixels = (np.clip(srgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    blur = (rng.uniform(2.2, 4.0) if fault == "blurred" else max(0.0, rng.normal(0.2, 0.45))) * px / CHIP
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if blur > 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    if fault == "grey":
        picture = picture.convert("L").convert("RGB")
    return np.asarray(picture)


def draw_face(
    age_years: float, gender: int, group: int, rng: np.random.Generator, px: int = 200, **features: float
) -> np.ndarray:
    """Draw one face, aligned like a UTKFace chip.

    Parameters
    ----------
    age_years : float
        True age, 0 to 116; the face shows it with noise that grows with age.
    gender, group : int
        0 or 1; abstract group, 0 to 4, which stands where real data have an ethnicity code.
    rng : numpy.random.Generator
        Everything else about the person and the photo.
    px : int
        Edge of the picture, which is uint8 (px, px, 3).
    **features
        Drawing parameters to set in place of random ones, such as `smile` (about 0.75 with a deviation of 0.55).

    Raises
    ------
    ValueError
        If a label is out of range, or a feature does not exist.

    Examples
    --------
    >>> draw_face(30, gender=1, group=2, rng=np.random.default_rng(0), px=64).shape
    (64, 64, 3)
    """
    if not 0 <= age_years <= MAX_AGE or gender not in (0, 1) or group not in range(len(GROUP_HUES)):
        raise ValueError(f"age {age_years}, gender {gender}, group {group}: allowed are 0 to {MAX_AGE}, 0 or 1, 0 to 4")
    if unknown := features.keys() - set(_Person._fields):
        raise ValueError(f"there is no feature {min(unknown)}")
    person, pose = _sample_person(age_years, gender, group, rng)._replace(**features), _sample_pose(rng)
    canvas = _Canvas(px, pose)
    image, backdrop = _paint_background(canvas, rng)
    strands = _strands(canvas, person, rng)
    scene = _Scene(canvas, person, pose, _landmarks(person, pose), _sample_light(rng, backdrop), strands)

    if person.hair_style == "long":
        _paint_back_hair(scene, image)
    _paint_body(scene, image)
    _paint_ears(scene, image)
    opening = _paint_head(scene, image, rng)
    _paint_mouth_opening(scene, image, opening)
    gaze = rng.normal(0, 1.0, 2)
    for eye in (LEFT_EYE, RIGHT_EYE):
        _paint_eye(scene, image, eye, gaze)
        _paint_brow(scene, image, eye)
    _paint_front_hair(scene, image)
    if person.glasses:
        _paint_glasses(scene, image)
    return _develop(image, rng)
