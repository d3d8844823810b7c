"""Robustness against misalignment: faces cropped wider, shifted and turned, as a worse detector would crop them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from facelib.data.alignment import CHIP_PX, Frame, cut, whole_frame
from facelib.evaluation.headline import evaluation_frame, metrics_of
from facelib.finding import Finding, listed
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute, ClassAttribute
from facelib.statistics import SHARE, YEARS, Bootstrap, Estimate, format_value, rate

if TYPE_CHECKING:
    from facelib.prediction.predictor import Predictor  # loads torch


@dataclass(frozen=True)
class Misalignment:
    """One way to crop a face wrongly.

    Attributes
    ----------
    label : str
        Of an axis, with the unit of the amounts.
    phrase : str
        What is done to a face, with a place for the amount.
    move : callable
        The frame of a face by an amount, to a side of +1 or -1.
    aligned : float
        The amount that leaves a face as it is.
    amounts, reported : tuple of float
        Those that are studied, `aligned` among them, and that in the finding.
    """

    label: str
    phrase: str
    move: Callable[[Frame, float, int], Frame]
    aligned: float
    amounts: tuple[float, ...]
    reported: float


MISALIGNMENTS = {
    # 1.8 adds 40 % of the crop on each side.
    "scale": Misalignment(
        "Crop width, 1 = aligned", "cropped {:g} times as wide", lambda frame, amount, side: frame.moved(zoom=amount),
        1.0, (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.8), 1.4,
    ),
    "shift": Misalignment(
        "Shift, share of the edge", "shifted by {:g} of the crop's edge",
        lambda frame, amount, side: frame.moved(right=side * amount, down=side * amount / 2),
        0.0, (0.0, 0.03, 0.06, 0.1, 0.15, 0.2), 0.1,
    ),
    "rotation": Misalignment(
        "Rotation, degrees", "rotated by {:g} degrees", lambda frame, amount, side: frame.moved(turn=side * amount),
        0.0, (0.0, 5.0, 10.0, 15.0, 25.0, 40.0), 15.0,
    ),
}  # fmt: skip


def misalign(images: np.ndarray, kind: str, amount: float) -> np.ndarray:
    """Aligned faces (n, px, px, 3) cropped wrongly, black beyond the image; every second one to the other side."""
    if amount == MISALIGNMENTS[kind].aligned:
        return images
    px, move = images.shape[1], MISALIGNMENTS[kind].move
    frames = (move(whole_frame(px, px), amount, 1 - 2 * (row % 2)) for row in range(len(images)))
    return np.stack([cut(Image.fromarray(image), frame, px) for image, frame in zip(images, frames, strict=True)])


def misalign_one(predictor: "Predictor", photo: Image.Image, frame: Frame) -> pd.DataFrame:
    """Predictions for one face of a photograph by each of `MISALIGNMENTS`, in the columns kind and amount."""
    rows = [(kind, amount) for kind, way in MISALIGNMENTS.items() for amount in way.amounts]
    crops = [cut(photo, MISALIGNMENTS[kind].move(frame, amount, 1), CHIP_PX) for kind, amount in rows]
    return pd.DataFrame(rows, columns=["kind", "amount"]).join(predictor(np.stack(crops)))


def variation(table: pd.DataFrame, attributes: Iterable[Attribute]) -> Finding:
    """Finding photos.crop: how much the predictions of `misalign_one` vary with each misalignment."""
    texts = []
    for kind, rows in table.groupby("kind", sort=False):
        ranges = [
            f"{np.ptp(attribute.probabilities(rows), axis=0).max():.2f} in the probabilities of {attribute.name}"
            if isinstance(attribute, ClassAttribute)
            else f"{np.ptp(attribute.decode(rows)):.1f} {attribute.unit} in {attribute.name}"
            for attribute in attributes
        ]
        if rows["ood_percentile"].notna().all():
            ranges.append(f"{np.ptp(rows['ood_percentile']):.0f} points in the out-of-distribution percentile")
        texts.append(
            f"With {kind} from {rows['amount'].min():g} to {rows['amount'].max():g} they vary by {listed(ranges)}"
        )
    return Finding("photos.crop", f"The predictions for one face vary with its crop. {'. '.join(texts)}.", n=1)


def sample_faces(run: RunFolder, attributes: Iterable[Attribute], most: int) -> np.ndarray:
    """Rows of `most` validation faces or fewer, one per copy group, labelled with any of the attributes."""
    faces, splits = run.load_table("faces"), run.load_table("splits")
    usable = splits["representative"] & (splits["split"] == "validation")
    usable &= np.any([attribute.has_label(faces) for attribute in attributes], axis=0)
    return np.sort(np.random.default_rng(run.settings.seed).permutation(np.flatnonzero(usable))[:most])


def measures(attributes: Iterable[Attribute]) -> dict[str, tuple[str, str]]:
    """Title and unit of what `study_misalignment` measures, by column: the first headline metric of each attribute."""
    leads = [metrics_of(attribute)[0] for attribute in attributes]
    columns = {lead.key.replace(".", "_"): (lead.title.replace(":", ""), lead.unit) for lead in leads}
    return columns | {"out_of_distribution": ("Share out of distribution", SHARE)}


def study_misalignment(
    predictor: "Predictor", images: np.ndarray, labels: pd.DataFrame, bootstrap: Bootstrap, kinds: Iterable[str] = ()
) -> pd.DataFrame:
    """Metrics of the same faces by the amount of each misalignment; of all `kinds` if none is named.

    Takes images uint8 (n, px, px, 3) that are aligned, one per copy group, and their rows of a faces table. Columns:
    kind, amount, n, those of `measures`, and <attribute>_change of an error in years (against the same faces as
    aligned), with _low and _high. Each attribute is scored on the faces that are labelled with it.
    """
    labels = labels.reset_index(drop=True)
    reference, rows = predictor(images), []
    before = _frame(labels, reference, predictor.attributes)
    for kind in kinds or MISALIGNMENTS:
        for amount in MISALIGNMENTS[kind].amounts:
            is_aligned = amount == MISALIGNMENTS[kind].aligned
            table = reference if is_aligned else predictor(misalign(images, kind, amount))
            frame, row = _frame(labels, table, predictor.attributes), {"kind": kind, "amount": amount, "n": len(table)}
            for attribute in predictor.attributes:
                row |= _scores(attribute, frame, before, bootstrap)
            flagged = rate(table["out_of_distribution"].sum(), len(table))
            rows.append(row | flagged.columns("out_of_distribution"))
    return pd.DataFrame(rows)


def _frame(labels: pd.DataFrame, predicted: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """The evaluation frame of a predictor's table for some rows of a faces table."""
    rows = pd.DataFrame({"image_id": range(len(labels)), "split": "validation", "representative": True})
    faces, predictions = labels.assign(image_id=rows["image_id"]), predicted.assign(image_id=rows["image_id"])
    return evaluation_frame(faces, rows.assign(group_id=rows["image_id"]), predictions, ("validation",), attributes)


def _scores(attribute: Attribute, frame: pd.DataFrame, before: pd.DataFrame, bootstrap: Bootstrap) -> dict:
    """One attribute's columns of a row of `study_misalignment`; nan where no face is labelled with it."""
    lead = metrics_of(attribute)[0]
    rows, name = lead.rows(frame, attribute), lead.key.replace(".", "_")
    if not len(rows):
        return Estimate.unknown(0, lead.unit).columns(name)
    *truth, predicted = rows[list(lead.columns)].to_numpy(float).T
    scores = bootstrap(lead.statistic, *truth, predicted).columns(name)
    if lead.unit != YEARS:
        return scores
    aligned = before.loc[rows.index, attribute.prediction].to_numpy(float)

    def change(*arrays: np.ndarray) -> float:
        *true, now, then = arrays
        return lead.statistic(*true, now) - lead.statistic(*true, then)

    return scores | bootstrap(change, *truth, predicted, aligned).columns(f"{attribute.name}_change")


def misalignment_results(study: pd.DataFrame, attributes: Iterable[Attribute]) -> tuple[dict[str, Estimate], Finding]:
    """Changes of the age error, in years, at the reported amounts, and finding photos.misalignment."""
    rows, shown = study.set_index(["kind", "amount"]), measures(attributes)
    headline, texts = {}, []
    first = study["kind"].iloc[0]
    places = [(first, MISALIGNMENTS[first].aligned)] + [
        (kind, MISALIGNMENTS[kind].reported) for kind in study["kind"].unique()
    ]
    for kind, amount in places:
        row, way = rows.loc[(kind, amount)], MISALIGNMENTS[kind]
        values = [f"{title.lower()} {format_value(row[name], unit)}" for name, (title, unit) in shown.items()]
        done = "as aligned" if amount == way.aligned else way.phrase.format(amount)
        texts.append(f"{done[:1].upper()}{done[1:]}: {listed(values)}")
        if amount != way.aligned and f"{AGE.name}_change" in row:
            ends = (row[f"{AGE.name}_change{end}"] for end in ("", "_low", "_high"))
            headline[f"validation.{kind}_{amount:g}.{AGE.name}.mae_change"] = Estimate(*ends, int(row["n"]), YEARS)
    n = int(study["n"].iloc[0])
    text = f"Errors on {n:,} validation faces by their alignment. {'. '.join(texts)}."
    return headline, Finding("photos.misalignment", text, next(iter(headline.values()), None), n)
