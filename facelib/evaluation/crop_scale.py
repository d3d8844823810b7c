"""What the width of the crop costs: labelled faces, cropped tighter and wider than in training."""

import numpy as np
import pandas as pd

from facelib import metrics, statistics
from facelib.models.network import predict_outputs
from facelib.prediction.photos import FaceCrop, rezoom
from facelib.prediction.predictor import Predictor

# Widths of the crop, 1 as in training; 1.8 is a margin of 40 % of the face on each side.
ZOOMS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.8)


def zoom_chips(chips: np.ndarray, zoom: float) -> np.ndarray:
    """Chips cropped `zoom` times as wide about their centre, of the same size.

    Beyond the chip it is black, as where a training chip reaches beyond its photograph; a wider crop of a photograph
    would show what is around the face.

    Parameters
    ----------
    chips : uint8 array (n, px, px, 3)
    zoom : float
    """
    px = chips.shape[1]
    return np.stack([rezoom(chip, FaceCrop(chip, (0, 0, px), True), zoom, px) for chip in chips])


def study_margin(
    predictor: Predictor, chips: np.ndarray, labels: pd.DataFrame, resamples: int, seed: int, zooms=ZOOMS
) -> pd.DataFrame:
    """Errors of the same faces by the width of their crop.

    Parameters
    ----------
    predictor : Predictor
    chips : uint8 array (n, px, px, 3)
        Cropped as in training, one a person or group of copies.
    labels : DataFrame
        `age` (years) and `gender`, all known, in the order of the chips.
    resamples, seed : int
        Of the bootstrap.
    zooms : sequence of float
        With 1, to which the others are compared.

    Returns
    -------
    DataFrame
        zoom, n; mae (years), change (years, against zoom 1 on the same faces), gender_accuracy and unlike_training
        (share flagged), each with _low and _high, 95 %.
    """
    age, gender = labels["age"].to_numpy(float), labels["gender"].to_numpy(int)
    options = {"resamples": resamples, "seed": seed}
    errors, judged = {}, {}
    for zoom in zooms:
        cropped = zoom_chips(chips, zoom)
        outputs = predict_outputs(predictor.network, cropped)
        table = predictor.judge(outputs, cropped)
        errors[zoom] = np.abs(metrics.whole_years(table["age_pred"]) - age)
        right = (table["p_female"] >= 0.5).to_numpy() == (gender == 1)
        judged[zoom] = int(right.sum()), int(predictor.familiarity(outputs["features"])["unlike_training"].sum())
    rows = []
    for zoom in zooms:
        measured = {
            "mae": statistics.bootstrap(np.mean, errors[zoom], **options),
            "change": statistics.bootstrap(np.mean, errors[zoom] - errors[1.0], **options),
            "gender_accuracy": statistics.rate(judged[zoom][0], len(chips)),
            "unlike_training": statistics.rate(judged[zoom][1], len(chips)),
        }
        row = {"zoom": zoom, "n": len(chips)}
        for name, estimate in measured.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row)
    return pd.DataFrame(rows)
