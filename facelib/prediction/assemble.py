"""Making a run's predictor: train, predict every face, calibrate, save; for notebooks 03 and 04 and `facelib train`.

Labels and rows are those of `audit.decisions.load_training`.
"""

import numpy as np
import pandas as pd

from facelib.data.ingest import load_images
from facelib.data.pixels import FaceImages
from facelib.embedding.features import load_embedding
from facelib.models.age_stages import AgeStagesNet, route, train_age_stages
from facelib.models.checkpoints import load_result
from facelib.models.heads import predictions_table
from facelib.models.network import FaceNet, predict_outputs, save_network
from facelib.models.training import MULTITASK_FOLDER, train_multitask
from facelib.prediction.calibration import fit_age_intervals, fit_temperature
from facelib.prediction.ood import OodScore, fit_ood, save_ood
from facelib.prediction.predictor import Predictor, save_predictor
from facelib.runs import RunFolder
from facelib.schema import AGE, NOTEBOOKS, Attribute, class_attributes

Rows = dict[str, np.ndarray]  # int arrays train, validation and calibration


def train_run(run: RunFolder, labels: pd.DataFrame, rows: Rows) -> tuple[FaceNet, pd.DataFrame]:
    """Train the multitask network of a run, or load or resume its training: the network, and its losses by epoch.

    Writes only checkpoints/multitask, so that several processes can call it.
    """
    faces, both = run.load_table("faces"), (rows["train"], rows["validation"])
    images, folder = load_images(run, faces), run.path / MULTITASK_FOLDER
    return train_multitask(images, labels, *both, run.learned, run.settings, folder, faces["image_id"])


def predict_run(run: RunFolder, network: FaceNet, images: FaceImages) -> dict[str, np.ndarray]:
    """Outputs of a run's network for all its images; saves checkpoints/model.safetensors and tables/embeddings.npy."""
    facts = {"image_px": images.px, "synthetic": run.is_synthetic}
    run.save_checkpoint(lambda path: save_network(network, path, **facts), "model.safetensors")
    with run.timed("03.prediction", len(images)):
        outputs = predict_outputs(network, images)
    run.save_array(outputs["features"].astype(np.float16), "embeddings")
    return outputs


def labelled_rows(labels: pd.DataFrame, rows: np.ndarray, attribute: Attribute) -> np.ndarray:
    """Those of some rows whose label of an attribute is known."""
    return rows[attribute.is_known(labels[attribute.name])[rows]]


def fit_temperatures(
    outputs: dict[str, np.ndarray], labels: pd.DataFrame, rows: Rows, attributes: tuple[Attribute, ...]
) -> dict[str, float]:
    """The temperature of each class attribute, fitted on the calibration rows that are labelled with it."""
    temperatures = {}
    for attribute in class_attributes(attributes):
        known = labelled_rows(labels, rows["calibration"], attribute)
        y_true = labels[attribute.name].to_numpy()[known].astype(int)
        temperatures[attribute.name] = fit_temperature(outputs[attribute.name][known], y_true)
    return temperatures


def fit_run_ood(run: RunFolder, splits: pd.DataFrame) -> OodScore:
    """The out-of-distribution score of a run's training and calibration faces, one of each group of copies."""
    parts = (np.flatnonzero(splits["representative"] & (splits["split"] == part)) for part in ("train", "calibration"))
    return fit_ood(load_embedding(run, run.load_table("faces")), *parts)


def from_network(
    run: RunFolder, outputs: dict[str, np.ndarray], labels: pd.DataFrame, rows: Rows, temperatures: dict[str, float]
) -> tuple[Predictor, pd.DataFrame]:
    """The predictor that uses the network's own age, and the predictions of all models.

    Saves checkpoints/ood.safetensors and predictor.json, and tables/predictions with the models multitask, label_scorer
    and predictor; removes what notebooks from 04 on measured, since it was with another network.
    """
    run.forget(NOTEBOOKS[3:])
    splits = run.load_table("splits")
    ood = fit_run_ood(run, splits)
    run.save_checkpoint(lambda path: save_ood(ood, path), "ood.safetensors")
    multitask = predictions_table(outputs, run.learned, temperatures)
    columns = [column for attribute in run.learned for column in attribute.columns]
    models = {"multitask": multitask, "label_scorer": run.load_table("label_scores")}
    parts = [
        splits[["image_id", "split"]]
        .assign(model=model, out_of_fold=(model == "label_scorer") | (splits["split"] != "train"))
        .join(table.reindex(columns=columns))
        for model, table in models.items()
    ]
    ages = multitask["age_pred"].to_numpy() if AGE in run.learned else None
    return _save(run, pd.concat(parts, ignore_index=True), "direct", temperatures, ages, labels, rows)


def train_stages(
    run: RunFolder, network: FaceNet, images: FaceImages, labels: pd.DataFrame, rows: Rows
) -> tuple[AgeStagesNet, dict[str, np.ndarray]]:
    """Fine-tune the two-stage age network of a run: the network, and its outputs for all images.

    Saves checkpoints/age_stages.safetensors and tables/age_stages. Every row has a known age.
    """
    both, ages = (rows["train"], rows["validation"]), labels["age"].to_numpy()
    folder = run.path / "checkpoints" / "age_stages"
    stages, _ = train_age_stages(network, images, ages, *both, run.settings, folder)
    run.record_time("04.training", load_result(folder).seconds)  # in whichever call that was
    run.save_checkpoint(lambda path: save_network(stages, path, image_px=images.px), "age_stages.safetensors")
    outputs = predict_outputs(stages, images)
    run.save_table(run.load_table("splits")[["image_id"]].join(route(outputs)), "age_stages")
    return stages, outputs


def choose_age(run: RunFolder, method: str, ages: np.ndarray, labels: pd.DataFrame, rows: Rows) -> Predictor:
    """The run's predictor with another of `AGE_METHODS`, whose `ages` (n,) of all images are given, in years.

    Fits its intervals, and saves checkpoints/predictor.json and the predictor's rows of tables/predictions.
    """
    predictions = run.load_table("predictions").query("model != 'predictor'")
    return _save(run, predictions, method, Predictor.load(run).temperatures, ages, labels, rows)[0]


def _save(
    run: RunFolder, predictions: pd.DataFrame, method: str, temperatures: dict[str, float], ages: np.ndarray | None,
    labels: pd.DataFrame, rows: Rows,
) -> tuple[Predictor, pd.DataFrame]:  # fmt: skip
    """Fit age intervals, save the predictor, and add its rows to the predictions."""
    added, intervals = predictions.query("model == 'multitask'").assign(model="predictor"), fit_age_intervals([], [])
    if ages is not None:
        known = labelled_rows(labels, rows["calibration"], AGE)
        intervals = fit_age_intervals(labels["age"].to_numpy()[known], ages[known])
        low, high = intervals(ages)
        added = added.assign(age_pred=ages, age_low=low, age_high=high)
        if method != "direct":
            added["age_spread"] = np.nan  # the network's own
    facts = method, temperatures, intervals, run.is_synthetic
    run.save_checkpoint(lambda path: save_predictor(path, *facts), "predictor.json")
    predictions = pd.concat([predictions, added], ignore_index=True)
    run.save_table(predictions, "predictions")
    return Predictor.load(run), predictions
