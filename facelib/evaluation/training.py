"""What notebook 03 reports of a training: curves, the gap between training and validation, calibration."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib import metrics
from facelib.config import RECIPES, Settings, TrainingSettings
from facelib.evaluation.headline import confidence, reliability, run_frame, scored
from facelib.finding import Finding
from facelib.models.checkpoints import load_result
from facelib.models.training import MULTITASK_FOLDER, kept_epoch
from facelib.runs import RunFolder
from facelib.schema import Attribute, YearsAttribute, class_attributes
from facelib.statistics import Bootstrap, Estimate, calibration_error, rate


def record_time(run: RunFolder) -> None:
    """Note in timings.json how long the run's finished training took, in whichever call that was."""
    run.record_time("03.training", load_result(run.path / MULTITASK_FOLDER).seconds)


def recipe_finding(settings: Settings) -> Finding:
    """The recipe that the run is trained by."""
    return Finding("training.recipe", f"Recipe {settings.recipe}: {RECIPES[settings.recipe].about}", n=1)


def recipe_table(training: TrainingSettings) -> pd.DataFrame:
    """The training settings that recipes differ in, one row."""
    names = dict.fromkeys(name for recipe in RECIPES.values() for name in recipe.settings)
    names |= dict.fromkeys(("architecture", "learning_rate", "weight_decay"))
    return pd.DataFrame([{name: str(getattr(training, name)) for name in names}])


def curve_titles(attributes: Iterable[Attribute]) -> dict[str, str]:
    """The columns of a training history that are drawn, without their stage, and their titles."""
    titles = {"loss": "Sum of losses"}
    for attribute in attributes:
        if isinstance(attribute, YearsAttribute):
            titles[f"{attribute.name}_mae"] = f"{attribute.title}: mean absolute error (years)"
        else:
            titles[attribute.name] = f"{attribute.title}: loss"
    return titles


def curve_finding(history: pd.DataFrame, training: TrainingSettings) -> Finding:
    """Which epoch's weights are kept, and their validation loss."""
    kept = kept_epoch(history, training)
    at = history.loc[kept]
    average = f", averaged over steps with a decay of {training.average_decay}" if training.average_decay else ""
    start = "random" if training.start_weights == "none" else training.start_weights
    text = (
        f"Training started from {start} weights. The weights after epoch {kept + 1} of {len(history)} are "
        f"kept{average}: their loss is {at['validation_loss']:.3g} on validation; on augmented training images it was "
        f"{at['train_loss']:.3g} during that epoch, with dropout."
    )
    return Finding("training.curve", text, n=len(history))


def calibration_gaps(
    run: RunFolder, tables: dict[str, pd.DataFrame], labels: pd.DataFrame, bootstrap: Bootstrap
) -> tuple[dict[str, Estimate], dict[str, pd.DataFrame], dict[str, float]]:
    """The expected calibration error of each class attribute on some rows, by kind of probabilities.

    Parameters
    ----------
    run : RunFolder
    tables : dict of DataFrame
        Predictions by kind, such as before and after dividing by temperatures.
    labels : DataFrame
        In the order of the predictions.
    bootstrap : Bootstrap

    Returns
    -------
    dict of Estimate
        By headline key.
    dict of DataFrame, dict of float
        Points of the reliability diagram and the error of each panel, by its title.
    """
    headline, points, errors = {}, {}, {}
    for attribute in class_attributes(run.learned):
        for kind, table in tables.items():
            correct, confident = confidence(labels, table, attribute)
            estimate = calibration_error(correct, confident, bootstrap)
            headline[f"validation.{attribute.name}.calibration_error_{kind}"] = estimate
            title = f"{attribute.name}, {kind} dividing"
            points[title], errors[title] = reliability(correct, confident), estimate.value
    return headline, points, errors


def training_gap(run: RunFolder, frame: pd.DataFrame, constant: pd.DataFrame) -> tuple[dict[str, float], Finding]:
    """How much better the network predicts the images that it was trained on than those of validation.

    Parameters
    ----------
    run : RunFolder
    frame : DataFrame
        The evaluation frame of validation.
    constant : DataFrame
        From `headline.baselines`.

    Returns
    -------
    dict of float
        `train_mae` in years where an age is learned.
    Finding
    """
    trained, baseline = run_frame(run, ("train",)), constant.set_index("metric")
    details, parts = {}, []
    for attribute in run.learned:
        years = isinstance(attribute, YearsAttribute)
        measure, key = (metrics.mae, "mae") if years else (metrics.accuracy, "accuracy")
        values = []
        for rows in (trained, frame):
            known = rows[scored(rows, attribute)]
            values.append(Estimate(measure(known[attribute.name], known[attribute.prediction]), np.nan, np.nan,
                                   len(known), "years" if years else "share"))  # fmt: skip
        if years:
            details["train_mae"] = values[0].value
        row = baseline.loc[f"{attribute.name}.{key}"]
        none = Estimate(row["value"], np.nan, np.nan, int(row["n"]), values[0].unit)
        what = "error" if years else "accuracy"
        parts.append(f"{attribute.name} {what}: {values[0].text}, {values[1].text} and {none.text}")
    text = f"On training images, on validation and by a no-image baseline: {'; '.join(parts)}."
    return details, Finding("training.gap", text, n=len(frame))


def ood_finding(flags: pd.Series, expected_share: float, n_calibration: int) -> tuple[Estimate, Finding]:
    """The share of validation faces flagged as out-of-distribution beside the expected one."""
    flagged = rate(int(flags.sum()), len(flags))
    text = (
        f"Of {flagged.n:,} validation faces {flagged} are flagged as out-of-distribution; by the distances of "
        f"{n_calibration:,} calibration faces {expected_share:.1%} are expected."
    )
    return flagged, Finding("prediction.ood", text, flagged)
