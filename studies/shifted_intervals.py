"""Age intervals on other people's photographs: what is left of the promised 90 %, and what restores it.

A run's intervals, intervals reweighted by how likely a face is in the new data (its calibration faces, no new label),
and intervals fitted on some labelled faces of the new data, measured on the others. Where labels are bands, an interval
*reaches* a label if it overlaps the band, and *holds* it if the whole band lies within. Writes reports/external:
intervals.json, intervals.md.

usage: python -m studies.shifted_intervals RUN DATA [--labels MAP] [--most 3000] [--out DIR]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facelib.data.ingest import read_data_set
from facelib.data.pixels import cache_faces
from facelib.formats import write_json
from facelib.prediction import Predictor
from facelib.prediction.calibration import COVERAGE, fit_age_intervals
from facelib.runs import DataSet, RunFolder, cache_root, open_run
from facelib.schema import AGE, MAX_AGE
from facelib.statistics import rate
from facelib.storage import write_text
from studies import EXTERNAL_RESULTS
from studies.pages import interval, table

SIZES, DRAWS = (50, 100, 200, 500), 100  # labelled new faces to fit on, and random choices of them
OPENING = """# Age intervals on other photographs

Made by `python -m studies.shifted_intervals {run} path/to/{data}`: {n:,} faces of {data} with an age or a band of ages.
An interval *reaches* a label if it overlaps its band, and *holds* it if the whole band lies within; of ages in years
both are one. The promise is {promise:.0%}.
{table}
The effective number of reweighted calibration faces is {effective:.0f} of {own:,}. {answer}
"""


def bands_of(faces: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """First and last year of each age label, the same where the age is known; nan where nothing is."""
    first, last = (
        faces[AGE.name].fillna(faces[column]) if column in faces else faces[AGE.name] for column in AGE.band_columns
    )
    return first.to_numpy(float), last.to_numpy(float)


def covered(low: np.ndarray, high: np.ndarray, first: np.ndarray, last: np.ndarray) -> dict:
    """Shares of labels that intervals reach and hold, and their mean width in years."""
    reached, held = (low <= last) & (high >= first), (low <= first) & (high >= last)
    width = float(np.mean(high - low))
    return {
        name: rate(int(part.sum()), len(part)).to_dict() for name, part in (("reached", reached), ("held", held))
    } | {"width": width}


def weighted_half_widths(
    residuals: np.ndarray, weights: np.ndarray, new_weights: np.ndarray, coverage: float = COVERAGE
) -> np.ndarray:
    """Half-widths (m,) of intervals for other faces than those calibrated on, by weighted split-conformal prediction.

    From "Conformal Prediction Under Covariate Shift" (NeurIPS 2019): `weights` (n,) and `new_weights` (m,) are how much
    likelier a face is among the new ones than among those calibrated on, whose absolute residuals (n,) are in years.
    Holds a share `coverage` if the two differ in their faces alone and not in how faces are labelled; `MAX_AGE` where
    the faces calibrated on say nothing about a new one.

    Examples
    --------
    >>> weighted_half_widths(np.arange(1.0, 101), np.ones(100), np.ones(1)).tolist()
    [91.0]
    """
    order = np.argsort(residuals)
    mass = np.cumsum(weights[order])
    wanted = coverage * (mass[-1] + new_weights)
    place = np.searchsorted(mass, wanted * (1 - 1e-12))
    return np.append(residuals[order], MAX_AGE)[place]


def likelihood_ratios(own: np.ndarray, other: np.ndarray, most: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    """How much likelier each face is among the others than among the own, by a linear classifier of features.

    Takes features (n, width) and (m, width). Each half of the rows is scored by a classifier of the other half. Ratios
    are limited to `most`: beyond, single faces would decide. Returns those of the own (n,) and of the others (m,).
    """
    features = np.concatenate([own, other]).astype(float)
    is_other = np.repeat([0, 1], [len(own), len(other)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=200))
    p = cross_val_predict(model, features, is_other, cv=2, method="predict_proba")[:, 1]
    ratio = np.minimum(p / np.maximum(1 - p, 1e-12) * len(own) / len(other), most)
    return ratio[: len(own)], ratio[len(own) :]


def refitted(ages: np.ndarray, first: np.ndarray, last: np.ndarray, size: int, seed: int) -> dict:
    """Coverage on the other faces of intervals of one width fitted on `size` of these, mean over `DRAWS` choices.

    A band counts as the age in it that is nearest to the prediction, so that 90 % of the bands are reached.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        order = rng.permutation(len(ages))
        fitting, scored = order[:size], order[size:]
        nearest = np.clip(ages[fitting], first[fitting], last[fitting])
        low, high = fit_age_intervals(nearest, ages[fitting], most=1)(ages[scored])
        part = covered(low, high, first[scored], last[scored])
        found.append([part["reached"]["value"], part["held"]["value"], part["width"]])
    reached, held, width = np.array(found).T

    def spread(values: np.ndarray) -> dict:
        low, high = np.percentile(values, [2.5, 97.5])
        return {"value": float(values.mean()), "low": float(low), "high": float(high), "n": len(ages) - size}

    return {"reached": spread(reached), "held": spread(held), "width": float(width.mean())}


def study(run: RunFolder, data: DataSet, most: int) -> dict:
    """What each kind of interval reaches and holds of the new labels."""
    predictor, seed = Predictor.load(run), run.settings.seed
    source = read_data_set(data).sample(most, seed)
    images, faces, _ = cache_faces(source, predictor.image_px, cache_root())
    first, last = bands_of(faces)
    known = np.flatnonzero(np.isfinite(first) & np.isfinite(last))
    first, last, images = first[known], last[known], images.take(known)
    outputs = predictor.outputs(images)
    table = predictor.predictions(outputs, images)
    ages, new = table["age_pred"].to_numpy(), outputs["features"]
    found = {"the run's": covered(table["age_low"].to_numpy(), table["age_high"].to_numpy(), first, last)}
    own, splits = run.load_table("faces"), run.load_table("splits")
    rows = np.flatnonzero((splits["split"] == "calibration") & splits["representative"] & own[AGE.name].notna())
    predictions = run.load_table("predictions").query("model == 'predictor'").set_index("image_id")
    predicted = predictions.loc[own["image_id"].iloc[rows], "age_pred"].to_numpy()
    residuals = np.abs(own[AGE.name].to_numpy()[rows] - predicted)
    weights, new_weights = likelihood_ratios(run.load_array("embeddings")[rows].astype(float), new)
    half = weighted_half_widths(residuals, weights, new_weights)
    low, high = np.clip(ages - half, 0, MAX_AGE), np.clip(ages + half, 0, MAX_AGE)
    found["reweighted by the features"] = covered(low, high, first, last)
    for size in (size for size in SIZES if size <= len(ages) / 2):
        found[f"fitted on {size} new faces"] = refitted(ages, first, last, size, seed)
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return {"n": len(ages), "calibration_faces": len(rows), "effective": effective, "intervals": found}


def page(run: RunFolder, data: str, measured: dict) -> str:
    """The page, with what can be promised."""
    rows = [
        [name, interval(part["reached"], ".1%"), interval(part["held"], ".1%"), f"{part['width']:.1f} y"]
        for name, part in measured["intervals"].items()
    ]
    kept = [name for name, part in measured["intervals"].items() if part["reached"]["high"] >= COVERAGE]
    void = "the run's" not in kept
    answer = "On these photographs the promise of the run's intervals is void." if void else "The run's intervals hold."
    answer += f" Kinds compatible with it: {', '.join(kept)}." if kept else " No kind keeps it."
    return OPENING.format(
        run=run.name, data=data, n=measured["n"], promise=COVERAGE, effective=measured["effective"],
        own=measured["calibration_faces"], answer=answer,
        table=table(["intervals", "reached", "held", "mean width"], rows),
    )  # fmt: skip


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--labels", default="")
    parser.add_argument("--most", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=EXTERNAL_RESULTS)
    options = parser.parse_args()
    run, name = open_run(options.run), Path(options.data).name
    measured = study(run, DataSet(options.data, labels=options.labels), options.most)
    text = page(run, name, measured)
    write_json(options.out / "intervals.json", {"run": run.name, "data": name} | measured)
    write_text(options.out / "intervals.md", text)
    print(text)


if __name__ == "__main__":
    main()
