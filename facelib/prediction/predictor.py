"""The model that `facelib predict` uses: networks, temperatures and age intervals of one run, as one callable."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from facelib.data.pixels import FaceImages
from facelib.errors import MissingFromRun
from facelib.models.age_stages import AgeStagesNet, route
from facelib.models.network import FaceNet, load_network, predict_outputs, sigmoid, softmax
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import Familiarity, load_familiarity
from facelib.runs import as_written, read_json, write_json
from facelib.schema import ATTRIBUTES, P_ETHNICITY, without_unlearned

# Ways to predict age, and what `04` calls them; one is chosen on validation.
AGE_METHODS = {
    "direct": "the multitask network's own age output",
    "routed": "the regressor of the likeliest age bin",
    "soft": "all bins' regressors, weighted by the bins' probabilities",
    "mean": "the mean of `direct` and `soft`",
}


@dataclass(frozen=True)
class Temperatures:
    """Divisors of the gender and ethnicity logits, fitted on the calibration split."""

    gender: float = 1.0
    ethnicity: float = 1.0


def class_probabilities(outputs: dict[str, np.ndarray], temperatures: Temperatures) -> pd.DataFrame:
    """p_female and p_ethnicity_0 to 4 from a network's logits."""
    table = pd.DataFrame({"p_female": sigmoid(outputs["gender"].astype(float) / temperatures.gender)})
    table[list(P_ETHNICITY)] = softmax(outputs["ethnicity"].astype(float) / temperatures.ethnicity)
    return table


def age_estimates(direct: np.ndarray, staged: pd.DataFrame) -> dict[str, np.ndarray]:
    """Estimates in years by the name of their method.

    Parameters
    ----------
    direct : float array (n,)
        The multitask network's ages.
    staged : DataFrame
        From `route`, of the same faces.
    """
    routed, soft = (staged[f"age_{way}"].to_numpy() for way in ("routed", "soft"))
    direct = np.asarray(direct, float)
    return {"direct": direct, "routed": routed, "soft": soft, "mean": (direct + soft) / 2}


@dataclass(frozen=True)
class Predictor:
    """Age with its interval, gender and ethnicity probabilities of aligned faces."""

    network: FaceNet
    stages: nn.Module | None
    age_method: str
    temperatures: Temperatures
    intervals: AgeIntervals
    familiarity: Familiarity
    image_px: int
    synthetic: bool
    learned: tuple[str, ...] = ATTRIBUTES

    def __call__(self, images: FaceImages | np.ndarray) -> pd.DataFrame:
        """Predict faces cropped and sized as in training.

        Parameters
        ----------
        images : FaceImages or uint8 array (n, image_px, image_px, 3)

        Returns
        -------
        DataFrame
            age_pred, age_low, age_high (years), p_female, p_ethnicity_0 to 4; nan for what the network did not learn.
        """
        return self.judge(predict_outputs(self.network, images), images)

    def judge(self, outputs: dict[str, np.ndarray], images: FaceImages | np.ndarray) -> pd.DataFrame:
        """The same from what `predict_outputs` gave for these images, where its features are wanted too."""
        if self.age_method == "direct":
            age = outputs["age"].astype(float)
        else:
            age = age_estimates(outputs["age"], route(predict_outputs(self.stages, images)))[self.age_method]
        low, high = self.intervals(age)
        ages = pd.DataFrame({"age_pred": age, "age_low": low, "age_high": high})
        return without_unlearned(ages.join(class_probabilities(outputs, self.temperatures)), self.learned)


def save_predictor(
    path: Path, age_method: str, temperatures: Temperatures, intervals: AgeIntervals, synthetic: bool
) -> None:
    """Write what a predictor needs beside its networks, as JSON."""
    facts = {"age_method": age_method, "temperatures": asdict(temperatures), "intervals": asdict(intervals)}
    write_json(path, facts | {"synthetic": synthetic})


def load_predictor(run_path: Path) -> Predictor:
    """The predictor of the run in a folder.

    Raises
    ------
    MissingFromRun
        If the run has not got as far as notebook 03, or as far as an earlier one that kept no familiar.safetensors.
    DamagedRun
        If predictor.json or familiar.safetensors is not what the notebooks write.
    """
    checkpoints = run_path / "checkpoints"
    if not (checkpoints / "predictor.json").exists():
        raise MissingFromRun(f"{run_path} holds no trained predictor: run notebooks 01 to 03 first")
    network, saved = load_network(checkpoints / "model.safetensors")
    familiarity = load_familiarity(checkpoints / "familiar.safetensors", network.backbone.width)
    with as_written(checkpoints / "predictor.json"):
        facts = read_json(checkpoints / "predictor.json")
        stages = None
        if facts["age_method"] != "direct":
            stages, _ = load_network(checkpoints / "age_stages.safetensors", AgeStagesNet)
        return Predictor(
            network,
            stages,
            facts["age_method"],
            Temperatures(**facts["temperatures"]),
            AgeIntervals(**{key: tuple(value) for key, value in facts["intervals"].items()}),
            familiarity,
            saved["image_px"],
            facts["synthetic"],
            tuple(saved.get("learned", ATTRIBUTES)),
        )
