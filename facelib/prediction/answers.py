"""What is answered for a photograph: one answer a face as a sentence and as a dictionary, or that there is no face."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from facelib import metrics
from facelib.data.alignment import Frame
from facelib.data.dlib_files import INSTALL
from facelib.data.files import printable
from facelib.finding import Finding, Findings, listed
from facelib.prediction.calibration import COVERAGE
from facelib.schema import AGE, Attribute, ClassAttribute
from facelib.statistics import Estimate, count

OOD = "out of distribution"
UNKNOWN_OOD = "whether it is out of distribution is not known without the face network"
NO_FACE = "no face found, so nothing is predicted"
YOUNG = 18  # years: faces that look younger carry the error of such faces
DRAWN_PX = 1600  # longest edge of a drawn photograph
OUTLINE, SHADE = "#e69f00", (0, 0, 0, 160)


@dataclass(frozen=True)
class FaceCrop:
    """A square region of a photograph, cropped as in training.

    Attributes
    ----------
    image : uint8 array (px, px, 3)
    frame : Frame
        In pixels of the photograph turned upright; may reach beyond its borders.
    score : float, optional
        Of the detector; none for a picture that was given as a crop.
    detector : str
        `hog`, `cnn`, or `given`.
    """

    image: np.ndarray
    frame: Frame
    score: float | None = None
    detector: str = "given"


@dataclass(frozen=True)
class FaceResult:
    """The prediction for one face of a photograph."""

    photo: str  # the photograph's name, printable
    face: int  # its number within the photograph, from 0, the largest first
    crop: FaceCrop
    prediction: pd.Series  # its row of a Predictor's table
    attributes: tuple[Attribute, ...]  # those that are reported
    rotation: int = 0  # degrees clockwise by which the photograph was turned, beyond its EXIF entry
    age_distribution: np.ndarray | None = None  # float (117,), of the network's own age output, by whole year
    young: dict = field(default_factory=dict)  # what `young_errors` gives; {} where the run has not measured it

    @property
    def found(self) -> bool:
        return True

    @property
    def flag(self) -> str:
        """How unlike the training faces it is if it is out of distribution, or that this is not known; else empty."""
        if isnan(self.prediction["ood_percentile"]):
            return f"{UNKNOWN_OOD}: {INSTALL}"
        if not self.prediction["out_of_distribution"]:
            return ""
        far = f"less like the training faces than {self.prediction['ood_percentile']:.4g} % of held-out faces"
        intervals = [attribute.name for attribute, values in self._values().items() if "low" in values]
        unkept = f"; its {100 * COVERAGE:.0f} % {listed(intervals)} interval may cover less there" if intervals else ""
        return f"{OOD}: {far}{unkept}"

    @property
    def such_faces(self) -> dict:
        """Errors of test faces of its predicted age band, of the reported attributes, where it looks under 18."""
        by_name = {attribute.name: values for attribute, values in self._values().items()}
        age = by_name.get(AGE.name, {}).get("years", YOUNG)
        if age >= YOUNG:
            return {}
        band = AGE.groups(pd.Series([float(age)])).iloc[0]
        measured = self.young.get(band, {})
        names = {f"{a.name}_accuracy" if isinstance(a, ClassAttribute) else f"{a.name}_mae" for a in self.attributes}
        return {"age_band": band} | {key: value for key, value in measured.items() if key in names | {"n"}}

    @property
    def young_caveat(self) -> str:
        """The error of faces like it where it looks under 18; else empty."""
        facts = self.such_faces
        if not facts:
            return ""
        if "n" not in facts:
            return f"looks under {YOUNG}, and the run has not measured its error for such faces"
        texts = []
        for attribute in self.attributes:
            if (error := facts.get(f"{attribute.name}_mae")) is not None:
                texts.append(f"{attribute.name} is off by {error:.1f} {attribute.unit} on average")
            if (share := facts.get(f"{attribute.name}_accuracy")) is not None:
                texts.append(f"{attribute.name} is right for {100 * share:.0f} %")
        return f"looks under {YOUNG}: of {facts['n']:,} test faces labelled {facts['age_band']}, {listed(texts)}"

    @property
    def warnings(self) -> list[str]:
        """Why its numbers should not be relied on, as sentences."""
        return [text for text in (self.flag, self.young_caveat) if text]

    def summaries(self) -> list[str]:
        """What is predicted of each attribute, such as `26 years (20-33)` and `expression calm (p = 0.90)`."""
        texts = []
        for attribute, values in self._values().items():
            if isinstance(attribute, ClassAttribute):
                likeliest = max(values, key=values.get)
                texts.append(f"{attribute.name} {likeliest} (p = {values[likeliest]:.2f})")
            else:
                interval = " ({low:.0f}-{high:.0f})" if "low" in values else ", no interval"
                texts.append(f"{{years}} years{interval}".format(**values))
        return texts

    def __str__(self) -> str:
        box = "left {}, top {}, edge {} px".format(*self.crop.frame.box)
        place = "given as a crop" if self.crop.score is None else f"face at {box}"
        turned = f", turned by {self.rotation} degrees" if self.rotation else ""
        text = f"{self.photo}: {place}{turned}: {', '.join(self.summaries()) or 'no prediction'}"
        return "; ".join([text, *(warning.replace(OOD, OOD.upper()) for warning in self.warnings)])

    def to_dict(self, distribution: bool = False) -> dict:
        """The face as a plain dictionary; what is not predicted or not known is left out.

        photo, face, face_found, rotation, box (left, top, edge in pixels, angle in degrees clockwise), detector,
        detection_score, age_years (whole), age_low, age_high, the probability of each class below the name of each
        class attribute, ood_percentile, out_of_distribution, such_faces, warnings (sentences); with `distribution` also
        age_distribution, the probability of each year from 0 on by the network's own age output.
        """
        frame = self.crop.frame
        box = dict(zip(("left", "top", "edge"), frame.box, strict=True)) | {"angle": round(frame.angle, 1)}
        facts = {"photo": self.photo, "face": self.face, "face_found": True, "rotation": self.rotation, "box": box}
        facts |= {"detector": self.crop.detector}
        if self.crop.score is not None:
            facts["detection_score"] = round(self.crop.score, 2)
        for attribute, values in self._values().items():
            is_class = isinstance(attribute, ClassAttribute)
            facts |= {attribute.name: values} if is_class else {f"{attribute.name}_{k}": values[k] for k in values}
        if distribution and self.age_distribution is not None and "age_years" in facts:
            facts["age_distribution"] = [round(float(p), 4) for p in self.age_distribution]
        percentile, is_ood = self.prediction[["ood_percentile", "out_of_distribution"]]
        if not isnan(percentile):
            facts |= {"ood_percentile": round(float(percentile), 2), "out_of_distribution": bool(is_ood)}
        return facts | ({"such_faces": self.such_faces} if self.such_faces else {}) | {"warnings": self.warnings}

    def _values(self) -> dict[Attribute, dict]:
        """Rounded numbers of each attribute: probabilities by class, or years, low and high; missing ones left out."""
        reported = {}
        for attribute in self.attributes:
            numbers = [float(self.prediction[column]) for column in attribute.columns]
            if isnan(numbers[0]):
                continue
            if isinstance(attribute, ClassAttribute):
                reported[attribute] = {name: round(p, 4) for name, p in zip(attribute.classes, numbers, strict=True)}
            else:
                years, _, low, high = numbers
                reported[attribute] = {"years": int(metrics.whole_years(years))}
                if not isnan(low):
                    reported[attribute] |= {"low": round(low, 1), "high": round(high, 1)}
        return reported


@dataclass(frozen=True)
class NoFace:
    """That a photograph has no answer: no face was found, or it cannot be read."""

    photo: str
    reason: str = ""  # a sentence; empty where no face was found

    found = False

    @property
    def warnings(self) -> list[str]:
        return [self.reason or NO_FACE]

    def __str__(self) -> str:
        return self.reason or f"{self.photo}: {NO_FACE}"

    def to_dict(self, distribution: bool = False) -> dict:
        """photo, face_found, warnings: no number at all."""
        return {"photo": self.photo, "face_found": False, "warnings": self.warnings}


@dataclass(frozen=True)
class PhotoResult:
    """The faces of one photograph, or the reason, a sentence, why it cannot be read."""

    path: Path
    faces: list[FaceResult]
    reason: str = ""
    rotation: int = 0  # degrees clockwise by which it was turned, beyond its EXIF entry

    @property
    def answers(self) -> list[FaceResult | NoFace]:
        """One answer a face, or one that says that there is none."""
        return list(self.faces) or [NoFace(printable(str(self.path)), self.reason)]


def faces_table(faces: Iterable[dict]) -> pd.DataFrame:
    """Answers of `to_dict` as a table: columns such as `box_left` and `expression_calm`, the warnings as one text."""
    return pd.json_normalize([face | {"warnings": "; ".join(face["warnings"])} for face in faces], sep="_")


def draw_faces(photo: Image.Image, faces: Iterable[FaceResult]) -> Image.Image:
    """A copy of a photograph, turned as its faces are upright, with their frames and what was predicted."""
    scale = min(1.0, DRAWN_PX / max(photo.size))
    drawn = photo.resize(tuple(max(1, round(side * scale)) for side in photo.size), reducing_gap=2.0)
    pen = ImageDraw.Draw(drawn, "RGBA")
    font = ImageFont.load_default(max(12, max(drawn.size) // 60))
    for face in faces:
        corners = face.crop.frame.places(np.array([[0, 0], [1, 0], [1, 1], [0, 1]])) * scale
        pen.polygon([tuple(corner) for corner in corners.tolist()], outline=OUTLINE, width=max(2, font.size // 6))
        text = "\n".join([*face.summaries(), *["see its warnings"] * bool(face.warnings)])
        at = (max(0.0, corners[:, 0].min()), min(corners[:, 1].max() + 2, drawn.height - 1.0))
        left, top, right, bottom = pen.multiline_textbbox(at, text, font=font)
        up = max(0.0, bottom + 4 - drawn.height)  # moved into the picture
        pen.rectangle((left - 2, top - 2 - up, right + 2, bottom + 2 - up), fill=SHADE)
        pen.multiline_text((at[0], at[1] - up), text, font=font, fill="white")
    return drawn


def photo_results(photos: list[PhotoResult]) -> tuple[dict[str, Estimate], Findings]:
    """Numbers of readable photographs, of those without a face and of flagged faces; photos.faces and photos.ood."""
    faces = [face for photo in photos for face in photo.faces]
    total, missed = len(photos), sum(not photo.faces for photo in photos)
    turned = sum(photo.rotation > 0 for photo in photos)
    flagged = count(sum(bool(face.prediction["out_of_distribution"]) for face in faces), "faces")
    text = f"A face was found in {total - missed:,} of {total:,} photographs"
    text += f", {turned:,} of them after a rotation" if turned else ""
    text += f"; nothing is predicted for the other {missed:,}." if missed else "."
    ood = f"{flagged.n:,} of {len(faces):,} faces are flagged as out of distribution"
    if faces and not isnan(first := faces[0].prediction["ood_percentile"]):
        ood += f"; the first is less like the training faces than {first:.1f} % of held-out faces"
    headline = {"external.photos": count(total, "photos"), "external.not_found": count(missed, "photos")}
    findings = [Finding("photos.faces", text, n=total), Finding("photos.ood", f"{ood}.", n=len(faces))]
    return headline | {"external.out_of_distribution": flagged}, Findings(findings)
