"""What notebook 03 reports of a training: curves, the gap between training and validation, calibration."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib.config import RECIPES, Settings, TrainingSettings
from facelib.evaluation.headline import confidence, metrics_of, reliability
from facelib.finding import Finding
from facelib.models.checkpoints import load_result
from facelib.models.heads import predictions_table
from facelib.models.training import MULTITASK_FOLDER, used_epoch
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute, YearsAttribute, class_attributes
from facelib.statistics import CalibrationError, Estimate, calibration_error, format_value, rate


def record_time(run: RunFolder) -> None:
    """Note in timings.json how long the run's finished training took, in whichever call that was."""
    run.record_time("03.training", load_result(run.path / MULTITASK_FOLDER).seconds)


def recipe_finding(settings: Settings) -> Finding:
    """The recipe that the run is trained by."""
    return Finding("training.recipe", f"Recipe {settings.recipe}: {RECIPES[settings.recipe].about}")


def recipe_table(training: TrainingSettings) -> pd.DataFrame:
    """The training settings that recipes differ in, one row."""
    names = dict.fromkeys(name for recipe in RECIPES.values() for name in recipe.settings)
    names |= dict.fromkeys(("architecture", "learning_rate", "weight_decay"))
    return pd.DataFrame([{name: str(getattr(training, name)) for name in names}])


def curve_titles(attributes: Iterable[Attribute]) -> dict[str, str]:
    """The columns of a training history that are drawn, without their stage, and their titles."""
    titles = {"loss": "Sum of losses"}
    for attribute in attributes:
        if isinstance(attribute, YearsAttribute) and attribute.exact:
            titles[f"{attribute.name}_mae"] = f"{attribute.title}: mean absolute error (years)"
        else:
            titles[attribute.name] = f"{attribute.title}: loss"
    return titles


def curve_finding(history: pd.DataFrame, training: TrainingSettings) -> Finding:
    """Which epoch's weights are used, and their validation loss."""
    used = used_epoch(history, training)
    at = history.loc[used]
    average = f", averaged over steps with a decay of {training.average_decay}" if training.average_decay else ""
    named = {"none": "random weights", "face": "the face network's weights", "imagenet": "ImageNet's weights"}
    start = named.get(training.start_weights, f"the weights of {training.start_weights}")
    dropout = ", with dropout" if training.dropout else ""
    before = " and before averaging" if training.average_decay else ""
    text = (
        f"Training started from {start}. The weights after epoch {used + 1} of {len(history)} are "
        f"used{average}: their loss is {at['validation_loss']:.3g} on validation; on augmented training images it was "
        f"{at['train_loss']:.3g} during that epoch{dropout}{before}."
    )
    return Finding("training.curve", text, n=len(history))


def calibration_gaps(
    run: RunFolder, outputs: dict[str, np.ndarray], labels: pd.DataFrame, rows: np.ndarray,
    temperatures: dict[str, float],
) -> tuple[dict[str, Estimate], dict[str, pd.DataFrame], dict[str, CalibrationError]]:  # fmt: skip
    """The expected calibration error of each class attribute before and after dividing by its temperature.

    Outputs of a network and labels are those of all images, `rows` those that are scored. Returns the errors beyond
    chance by headline key, and the points of the reliability diagram and the error of each panel by its title.
    """
    headline, points, errors = {}, {}, {}
    outputs, labels = {name: values[rows] for name, values in outputs.items()}, labels.iloc[rows].reset_index(drop=True)
    for attribute in class_attributes(run.learned):
        for kind, divisors in {"before": {}, "after": temperatures}.items():
            table = predictions_table(outputs, (attribute,), divisors)
            correct, confident = confidence(labels, table, attribute)
            title = f"{attribute.name}, {kind} dividing"
            points[title] = reliability(correct, confident)
            errors[title] = calibration_error(correct, confident, run.bootstrap)
            headline[f"validation.{attribute.name}.calibration_error_{kind}"] = errors[title].estimate
    return headline, points, errors


def training_gap(
    trained: pd.DataFrame, frame: pd.DataFrame, constant: pd.DataFrame, attributes: Iterable[Attribute]
) -> tuple[dict[str, float], Finding]:
    """How much better a network predicts the images that it was trained on than those of validation.

    Takes the evaluation frames of both splits and the `headline.baselines` of validation. Also returns `train_mae` in
    years, where an age is learned.
    """
    baseline, details, parts = constant.set_index("metric")["value"], {}, []
    for attribute in attributes:
        lead = metrics_of(attribute)[0]
        known = (lead.rows(rows, attribute) for rows in (trained, frame))
        values = [lead.statistic(*(rows[column] for column in lead.columns)) for rows in known]
        if attribute == AGE:
            details["train_mae"] = values[0]
        texts = [format_value(value, lead.unit) for value in (*values, baseline[lead.key])]
        parts.append(f"{lead.title.lower().replace(':', '')}: {texts[0]}, {texts[1]} and {texts[2]}")
    text = f"On training images, on validation and by a no-image baseline: {'; '.join(parts)}."
    return details, Finding("training.gap", text, n=len(frame))


def ood_finding(flags: pd.Series, expected_share: float, n_calibration: int) -> tuple[Estimate, Finding]:
    """The share of validation faces flagged as out-of-distribution beside the expected one."""
    flagged = rate(flags.sum(), len(flags))
    text = (
        f"Of {flagged.n:,} validation faces {flagged} are flagged as out-of-distribution; by the scores of "
        f"{n_calibration:,} calibration faces {100 * expected_share:.1f} % are expected."
    )
    return flagged, Finding("prediction.ood", text, flagged)
