"""One predictor of a run: networks, temperatures, age intervals and out-of-distribution score as one callable."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import softmax

from facelib.data.dlib_files import WeightsError
from facelib.data.pixels import FaceImages, square
from facelib.embedding.features import embed
from facelib.embedding.weights import INPUT_PX
from facelib.errors import MissingFromRun
from facelib.formats import as_written, read_json, write_json
from facelib.models.age_stages import AgeStagesNet, route
from facelib.models.heads import predictions_table
from facelib.models.network import FaceNet, load_network, predict_outputs
from facelib.prediction.answers import FaceResult, NoFace
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import OodScore, load_ood, unknown_ood
from facelib.prediction.photos import predict_photos, young_errors
from facelib.runs import RunFolder, published_predictor
from facelib.schema import AGE, Attribute, class_attributes

# Ways to predict age; notebook 04 chooses one on validation.
AGE_METHODS = {
    "direct": "the multitask network's own age output",
    "routed": "the regressor of the likeliest age bin",
    "soft": "all bins' regressors, weighted by the bins' probabilities",
    "mean": "the mean of `direct` and `soft`",
}


Images = FaceImages | np.ndarray | list[np.ndarray]


def scaled(images: Images, px: int) -> FaceImages | np.ndarray:
    """Square images at edge px, as `pixels.decode` scales the photographs of a data set."""
    if isinstance(images, list | np.ndarray):
        faces = [image if len(image) == px else square(Image.fromarray(image), px) for image in images]
        return np.stack(faces) if faces else np.empty((0, px, px, 3), np.uint8)
    return images if images.px == px else scaled(images[np.arange(len(images))], px)


def age_estimates(direct: np.ndarray, staged: pd.DataFrame) -> dict[str, np.ndarray]:
    """Ages in years by each of `AGE_METHODS`, from the multitask network's ages (n,) and the table of `route`."""
    routed, soft = (staged[f"age_{way}"].to_numpy() for way in ("routed", "soft"))
    direct = np.asarray(direct, float)
    return {"direct": direct, "routed": routed, "soft": soft, "mean": (direct + soft) / 2}


@dataclass(frozen=True)
class Predictor:
    """Predictions of aligned faces and of photographs."""

    network: FaceNet
    stages: AgeStagesNet | None  # only where the age method uses it
    age_method: str  # of AGE_METHODS
    temperatures: dict[str, float]  # divisors of the logits, by class attribute
    intervals: AgeIntervals
    ood: OodScore
    image_px: int  # edge of aligned faces
    synthetic: bool  # trained on drawn faces
    young: dict[str, dict] = field(default_factory=dict)  # of `photos.young_errors`

    @classmethod
    def load(cls, run: RunFolder | Path | None = None) -> "Predictor":
        """The predictor of a run, or in the folder of a run or a published run; none: `published_predictor`.

        MissingFromRun if notebook 03 has not made it, DamagedRun if a file is not what the notebooks write.
        """
        path = run.path if isinstance(run, RunFolder) else run or published_predictor()
        checkpoints = path / "checkpoints"
        stored = checkpoints / "predictor.json"
        if not stored.exists():
            raise MissingFromRun(f"{path} holds no trained predictor: run notebooks 01 to 03 first")
        network, header = load_network(checkpoints / "model.safetensors")
        ood = load_ood(checkpoints / "ood.safetensors")
        with as_written(stored):
            facts = read_json(stored)
            method, stages = facts["age_method"], None
            if method not in AGE_METHODS:
                raise ValueError(f"age_method is {method!r}")
            if method != "direct":
                stages, _ = load_network(checkpoints / "age_stages.safetensors", AgeStagesNet)
            intervals = AgeIntervals(**{key: tuple(value) for key, value in facts["intervals"].items()})
            names = [attribute.name for attribute in class_attributes(network.attributes)]
            temperatures = {name: float(facts["temperatures"][name]) for name in names}
            px, synthetic = header["image_px"], facts["synthetic"]
        return cls(network, stages, method, temperatures, intervals, ood, px, synthetic, young_errors(path))

    @property
    def crop_px(self) -> int:
        """Edge of aligned faces that is enough for both networks."""
        return max(self.image_px, INPUT_PX)

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.network.attributes

    def __call__(self, images: Images) -> pd.DataFrame:
        """Predict aligned faces: uint8 (n, px, px, 3) or a list of (px, px, 3), which are scaled to `image_px`.

        Returns the `columns` of each attribute, nan for what is not predicted, and the columns of `OodScore`. The face
        network of that score wants 150 px or more: smaller pictures look as unfamiliar as blurred ones.
        """
        return self.predictions(self.outputs(images), images, self.features(images))

    def outputs(self, images: Images) -> dict[str, np.ndarray]:
        """What the multitask network computes for faces as above: its outputs and `features`, by name."""
        return predict_outputs(self.network, scaled(images, self.image_px))

    def features(self, images: Images) -> np.ndarray | None:
        """Features of the face network (n, 256) for faces as above; None where its weights are not installed."""
        pictures = scaled(images, INPUT_PX)
        try:
            return embed(FaceImages(pictures, np.arange(len(pictures))))[0]
        except WeightsError:
            return None

    def age_distribution(self, outputs: dict[str, np.ndarray]) -> np.ndarray | None:
        """Probability of each whole year from 0 on, float (n, 117), by the network's own output; None without one."""
        logits = outputs.get(f"{AGE.name}_logits")
        return None if logits is None else softmax(logits.astype(float), axis=1)

    def predictions(self, outputs: dict[str, np.ndarray], images: Images, features: np.ndarray | None) -> pd.DataFrame:
        """The same from both networks' outputs for these images."""
        table = predictions_table(outputs, self.attributes, self.temperatures)
        if AGE in self.attributes:
            if self.age_method != "direct":
                ways = age_estimates(outputs["age"], route(predict_outputs(self.stages, scaled(images, self.image_px))))
                # The distribution is the network's own and not that of this estimate.
                table = table.assign(age_pred=ways[self.age_method], age_spread=np.nan)
            low, high = self.intervals(table["age_pred"].to_numpy())
            table = table.assign(age_low=low, age_high=high)
        ood = unknown_ood(len(table)) if features is None else self.ood(features)
        columns = [column for attribute in self.attributes for column in attribute.columns]
        return table.reindex(columns=columns).join(ood)

    def photos(
        self, files: Iterable[Path | str], sensitive: bool = False, crops: bool = False
    ) -> Iterator[FaceResult | NoFace]:
        """Find the faces of photographs and predict them: one answer a face, or one for a photograph without.

        See `photos.predict_photos`, which yields the answers by photograph.

        Examples
        --------
        for face in Predictor.load().photos(["family.jpg"]):
            print(face)
        """
        for photo in predict_photos(files, self, sensitive, crops):
            yield from photo.answers


def save_predictor(
    path: Path, age_method: str, temperatures: dict[str, float], intervals: AgeIntervals, synthetic: bool
) -> None:
    """Write what a predictor needs beside its networks and its out-of-distribution score, as JSON."""
    facts = {"age_method": age_method, "temperatures": temperatures, "intervals": asdict(intervals)}
    write_json(path, facts | {"synthetic": synthetic})
