"""Making a run's predictor: train, predict every face, calibrate, save. Notebooks 03 and 04 call it."""

import numpy as np
import pandas as pd

from facelib.data.ingest import load_images
from facelib.data.pixels import FaceImages
from facelib.models.age_stages import AgeStagesNet, route, train_age_stages
from facelib.models.network import FaceNet, predict_outputs, save_network
from facelib.models.out_of_fold import predictions_table
from facelib.models.training import MULTITASK_FOLDER, train_multitask
from facelib.prediction.calibration import AgeIntervals, fit_age_intervals, fit_temperature
from facelib.prediction.ood import fit_ood, save_ood
from facelib.prediction.predictor import Predictor, save_predictor
from facelib.runs import RunFolder, read_json
from facelib.schema import AGE, NOTEBOOKS, Attribute, class_attributes

PREDICTOR, MODEL, OOD, STAGES = "predictor.json", "model.safetensors", "ood.safetensors", "age_stages.safetensors"
Rows = dict[str, np.ndarray]  # int arrays: train, validation, calibration


def train_run(run: RunFolder, labels: pd.DataFrame, rows: Rows) -> tuple[FaceNet, pd.DataFrame]:
    """Train the multitask network of a run, or resume its training; see `training.train_multitask`.

    Writes only checkpoints/multitask, so that several processes can call it. A finished training is loaded.

    Parameters
    ----------
    run : RunFolder
        With what notebook 02 leaves.
    labels, rows
        From `audit.decisions.load_training`.

    Returns
    -------
    FaceNet
    DataFrame
        Losses by epoch.
    """
    faces = run.load_table("faces")
    return train_multitask(
        load_images(run, faces),
        labels,
        rows["train"],
        rows["validation"],
        run.learned,
        run.settings,
        run.path / MULTITASK_FOLDER,
        faces["image_id"],
    )


def predict_run(run: RunFolder, network: FaceNet, images: FaceImages) -> dict[str, np.ndarray]:
    """Outputs of a trained network for all images of its run.

    Saves checkpoints/model.safetensors and tables/embeddings.npy.
    """
    facts = {"image_px": images.px, "synthetic": run.is_synthetic}
    run.save_checkpoint(lambda path: save_network(network, path, **facts), MODEL)
    with run.timed("03.prediction", len(images)):
        outputs = predict_outputs(network, images)
    run.save_array(outputs["features"].astype(np.float16), "embeddings")
    return outputs


def labelled_rows(labels: pd.DataFrame, rows: np.ndarray, attribute: Attribute) -> np.ndarray:
    """Those of some rows whose label of an attribute is known; none where the labels lack the attribute."""
    if attribute.name not in labels:
        return rows[:0]
    return rows[attribute.is_known(labels[attribute.name])[rows]]


def fit_temperatures(
    outputs: dict[str, np.ndarray], labels: pd.DataFrame, calibration: np.ndarray, attributes: tuple[Attribute, ...]
) -> dict[str, float]:
    """The temperature of each class attribute, fitted on the calibration rows that are labelled with it."""
    temperatures = {}
    for attribute in class_attributes(attributes):
        known = labelled_rows(labels, calibration, attribute)
        y_true = labels[attribute.name].to_numpy()[known].astype(int)
        temperatures[attribute.name] = fit_temperature(outputs[attribute.name][known], y_true)
    return temperatures


def from_network(
    run: RunFolder,
    network: FaceNet,
    images: FaceImages,
    outputs: dict[str, np.ndarray],
    labels: pd.DataFrame,
    rows: Rows,
    temperatures: dict[str, float],
) -> tuple[Predictor, pd.DataFrame]:
    """The predictor that uses the multitask network's own outputs, and the predictions of all models.

    Saves checkpoints/ood.safetensors, checkpoints/predictor.json and tables/predictions, and removes what notebooks
    from 04 on left: it was measured with another network.

    Parameters
    ----------
    run, network, images
    outputs, temperatures
        From `predict_run` and `fit_temperatures`.
    labels, rows
        From `audit.decisions.load_training`.

    Returns
    -------
    Predictor
    DataFrame
        The predictions table, with models multitask, label_scorer and predictor.
    """
    splits = run.load_table("splits")
    train, calibration = (
        outputs["features"][splits["representative"] & (splits["split"] == part)] for part in ("train", "calibration")
    )
    ood = fit_ood(train, calibration, run.settings.seed)
    run.forget(NOTEBOOKS[3:])
    run.save_checkpoint(lambda path: save_ood(ood, path), OOD)
    multitask = predictions_table(outputs, run.learned, temperatures)
    scores = run.load_table("label_scores").drop(columns=["image_id", "fold"])
    ages = multitask["age_pred"].to_numpy() if AGE in run.learned else np.empty(0)
    _save(run, "direct", temperatures, _age_intervals(ages, labels, rows))
    predictor = Predictor.load(run)
    columns = [column for attribute in run.learned for column in attribute.columns]
    models = {"multitask": multitask, "label_scorer": scores, "predictor": predictor.predictions(outputs, images)}
    parts = [
        splits[["image_id", "split"]]
        .assign(model=model, out_of_fold=(model == "label_scorer") | (splits["split"] != "train"))
        .join(table.reindex(columns=columns))
        for model, table in models.items()
    ]
    predictions = pd.concat(parts, ignore_index=True)
    run.save_table(predictions, "predictions")
    return predictor, predictions


def train_stages(
    run: RunFolder, network: FaceNet, images: FaceImages, labels: pd.DataFrame, rows: Rows
) -> tuple[AgeStagesNet, dict[str, np.ndarray]]:
    """Fine-tune the two-stage age network of a run; its network, and its outputs for all images.

    Saves checkpoints/age_stages.safetensors and tables/age_stages. Rows whose age is unknown are left out.
    """
    aged = {part: labelled_rows(labels, rows[part], AGE) for part in ("train", "validation")}
    with run.timed("04.training", len(aged["train"]) * run.settings.stages.stage_epochs):
        stages, _ = train_age_stages(
            network,
            images,
            labels["age"].to_numpy(),
            aged["train"],
            aged["validation"],
            run.settings,
            run.path / "checkpoints" / "age_stages",
        )
    run.save_checkpoint(lambda path: save_network(stages, path, image_px=images.px), STAGES)
    outputs = predict_outputs(stages, images)
    run.save_table(run.load_table("splits")[["image_id"]].join(route(outputs)), "age_stages")
    return stages, outputs


def choose_age(run: RunFolder, method: str, ages: np.ndarray, labels: pd.DataFrame, rows: Rows) -> Predictor:
    """Let the run's predictor predict age in another way, with intervals fitted anew.

    Saves checkpoints/predictor.json and the predictor's rows of tables/predictions.

    Parameters
    ----------
    run : RunFolder
    method : str
        One of `predictor.AGE_METHODS`.
    ages : float array (n,)
        Its estimates for all images of the run, years.
    labels, rows
        From `audit.decisions.load_training`.
    """
    temperatures = read_json(run.path / "checkpoints" / PREDICTOR)["temperatures"]
    intervals = _age_intervals(ages, labels, rows)
    _save(run, method, temperatures, intervals)
    predictions = run.load_table("predictions")
    low, high = intervals(ages)
    multitask = predictions[predictions["model"] == "multitask"]
    spread = multitask["age_spread"] if method == "direct" else np.nan
    replaced = multitask.assign(model="predictor", age_pred=ages, age_spread=spread, age_low=low, age_high=high)
    others = predictions[predictions["model"] != "predictor"]
    run.save_table(pd.concat([others, replaced], ignore_index=True), "predictions")
    return Predictor.load(run)


def _age_intervals(ages: np.ndarray, labels: pd.DataFrame, rows: Rows) -> AgeIntervals:
    known = labelled_rows(labels, rows["calibration"], AGE) if len(ages) else []
    return fit_age_intervals(labels["age"].to_numpy()[known], ages[known]) if len(known) else fit_age_intervals([], [])


def _save(run: RunFolder, method: str, temperatures: dict[str, float], intervals: AgeIntervals) -> None:
    facts = (method, temperatures, intervals, run.is_synthetic)
    run.save_checkpoint(lambda path: save_predictor(path, *facts), PREDICTOR)
