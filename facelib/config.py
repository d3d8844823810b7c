"""Settings of a run in sections; the profiles smoke to full (how large), and the recipes (how trained)."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from facelib.errors import UnknownSetting

MIN_PX = 32  # smallest edge of a trained image, pixels; below, the last maps of a ResNet are 1 x 1, where bfloat16
# gradients of strided convolutions are garbage


def _as_names(value):
    """Names from text such as `age shape` or `age,shape`."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _none_from_text(value):
    return None if isinstance(value, str) and value.lower() in ("none", "null", "") else value


def _zero_or_large_enough(px: int) -> int:
    if px and px < MIN_PX:
        raise ValueError(f"must be 0, or {MIN_PX} or more")
    return px


Pixels = Annotated[int, Field(ge=MIN_PX)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class Section(BaseModel):
    """Settings of one part of a run; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value, info: ValidationInfo):
        """True would pass for the number 1."""
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("a truth value is not allowed here")
        return value


class DataSettings(Section):
    """Which faces are used, and at which size."""

    images: Annotated[Count | None, BeforeValidator(_none_from_text)] = None  # of a real data set; None: all
    synthetic_images: Count = 1600  # faces drawn where no data is given
    image_px: Pixels = 64  # edge of the cached, trained and explained image
    align: bool = False  # find and align the largest face of each image; off where the images are aligned faces
    attributes: Names = ()  # labels to learn; empty: all that the data has
    # what the test split holds out: copies and recognised persons together, or whole collection sessions
    split: Literal["persons", "sessions"] = "persons"
    split_seed: Annotated[Seed | None, BeforeValidator(_none_from_text)] = None  # None: the run's seed
    split_of: str = ""  # a run whose split is kept for the images that it has


class TrainingSettings(Section):
    """How the multitask network is made and trained: everything that its training reads beside data and seed."""

    epochs: Count = 30
    batch_size: Count = 64
    # none, imagenet (torchvision's download for a ResNet, a package's file for EfficientNet-Lite0), face (the
    # face-recognition network), a file, or a run's name
    start_weights: str = "none"
    head_epochs: int = 2  # with start weights: epochs of the output layers alone, before all layers
    architecture: Literal["resnet18", "resnet34", "face_resnet", "efficientnet_lite0"] = "resnet18"
    # of a torchvision ResNet: its 7 x 7 convolution and pooling; or 3 x 3, stride 2, no pooling
    stem: Literal["pooled", "small"] = "pooled"
    # larger images are scaled to this edge; 0: as they are
    input_px: Annotated[int, AfterValidator(_zero_or_large_enough)] = 0
    grey: bool = False  # the network sees grey images
    age_head: Literal["distribution", "linear"] = "distribution"  # over the years 0-116, decoded by its median
    dropout: Share = 0.2
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    backbone_rate: Factor = 1.0  # learning rate of the backbone, in units of that of the output layers
    layer_decay: Factor = 1.0  # of the learning rate, from each stage of the backbone to the one before it
    frozen_stages: Annotated[int, Field(ge=0)] = 0  # first stages of the backbone that keep their start weights
    weight_decay: float = 0.05
    warmup_epochs: int = 2
    patience: int = 0  # epochs without a better validation loss until training stops, keeping the best; 0: train all
    average_decay: Share = 0.998  # of the running average of the weights, by step; 0: no average
    # flips, turns, shifts, zoom, light, grey, erasing; or flips alone; or the first and coarse, as photographs differ
    augmentation: Literal["faces", "flip", "photographs"] = "faces"
    augmented_epochs: Count = 40  # trainings this long augment in full, shorter ones less in proportion
    rarer_stronger: bool = False  # faces of rarer groups are augmented more
    # every face once an epoch; or faces of rarer groups more often; or as many faces of each data set
    sampler: Literal["uniform", "balanced", "sources"] = "uniform"
    label_smoothing: Share = 0.0  # of class labels


class StageSettings(Section):
    """Two-stage age."""

    age_bins: Annotated[int, Field(ge=2)] = 6
    stage_epochs: Count = 8


class EvaluationSettings(Section):
    """Intervals and group tables."""

    resamples: Count = 1000  # bootstrap samples behind an interval
    min_group: Count = 10  # smaller groups keep their count and are masked in tables


class ExplanationSettings(Section):
    """Attribution maps."""

    explained_images: Count = 200
    lime_images: Count = 25  # an average over fewer real faces is not shown
    lime_samples: Count = 400


class Settings(Section):
    """Everything that sets the size and the course of a run; stands in its params.yaml."""

    profile: str
    recipe: str = "reference"  # a name in RECIPES
    seed: Seed = 0
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    stages: StageSettings = StageSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    explanation: ExplanationSettings = ExplanationSettings()

    @property
    def split_seed(self) -> int:
        """The seed of the split: the run's, unless the split has its own."""
        return self.seed if self.data.split_seed is None else self.data.split_seed

    def flat(self) -> dict:
        """All settings by name, without their sections; `profile` is not among them."""
        return {name: getattr(self if section is None else getattr(self, section), name)
                for name, section in SECTION_OF.items()}  # fmt: skip


SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
# The section of each setting that `-p NAME VALUE` can name; None for those of the run itself.
SECTION_OF: dict[str, str | None] = {"recipe": None, "seed": None} | {
    name: section for section, model in SECTIONS.items() for name in model.model_fields
}


@dataclass(frozen=True)
class Recipe:
    """A named way to train: training settings, and the source behind them."""

    about: str
    settings: dict


# fmt: off
FINE_TUNING = {"start_weights": "face", "head_epochs": 1, "warmup_epochs": 1, "augmented_epochs": 14}
# What a source leaves open is as in `reference`, so that a comparison shows what the source does say.
RECIPES = {
    "reference": Recipe("The project's own, from random weights.", {}),
    "face": Recipe(
        "From the face network's weights: the output layers first, then all layers, the backbone at a small rate, in "
        "few epochs.",
        FINE_TUNING | {"epochs": 7},
    ),
    "face_joint": Recipe(
        "As `face`, for several data sets: an augmentation that covers how photographs differ, and eight epochs.",
        FINE_TUNING | {"epochs": 8, "augmentation": "photographs"},
    ),
    "source_a": Recipe(
        "ResNet-18 or 34, AdamW, absolute error of age and cross entropy of classes, horizontal flips; from start "
        "weights the output layers first, then all. Without start weights: from scratch, not as published.",
        {"age_head": "linear", "dropout": 0.0, "average_decay": 0.0, "augmentation": "flip"},
    ),
    "source_b": Recipe(
        "48 x 48 grey images, a ResNet-18 with a 3 x 3 stem without pooling, weighted sampler, stronger augmentation "
        "for rarer classes, dropout, weight decay, label smoothing, warm-up, cosine, early stopping; age as one number "
        "here, its two stages in notebook 04. From scratch, in fewer epochs: not as published.",
        {
            "stem": "small", "input_px": 48, "grey": True, "age_head": "linear", "dropout": 0.3, "patience": 8,
            "average_decay": 0.0, "augmented_epochs": 1, "rarer_stronger": True, "sampler": "balanced",
            "label_smoothing": 0.1,
        },
    ),
}

# What start weights need, unless a setting overrides it: above profile and recipe.
START_SETTINGS = {
    # At 150 px, for which it was trained. A larger rate of the backbone destroys what it has learned.
    "face": {"architecture": "face_resnet", "image_px": 150, "learning_rate": 2e-3, "backbone_rate": 0.075},
}

PROFILES = {
    "smoke": {
        "synthetic_images": 320, "images": 320, "image_px": 48, "epochs": 2, "head_epochs": 1, "warmup_epochs": 1,
        "stage_epochs": 1, "resamples": 100, "min_group": 3,
        "explained_images": 16, "lime_images": 4, "lime_samples": 60,
    },
    "demo": {
        "images": 1600, "epochs": 8, "batch_size": 32, "stage_epochs": 2, "explained_images": 60, "lime_samples": 250,
    },
    "quick": {"images": 4000, "epochs": 30},
    "full": {
        "image_px": 96, "epochs": 30, "stage_epochs": 3, "resamples": 2000,
        "lime_images": 60, "lime_samples": 500,
    },
}
# fmt: on

# How photographs are learned where no recipe is named, chosen on validation (reports/training). Ethnicity of drawn
# faces is learned better from random weights.
RECIPES_OF_PHOTOGRAPHS = {"quick": "face", "full": "face"}


def resolve(profile: str, overrides: dict | None = None, photographs: bool = False) -> Settings:
    """The settings of one of `PROFILES` with some replaced.

    The overrides, by name, are values or text; they stand above what start weights need, that above the recipe's, and
    the recipe's above the profile's. Without a recipe and start weights among them, `photographs` are learned by
    `RECIPES_OF_PHOTOGRAPHS`.

    Raises
    ------
    UnknownSetting
        If the profile or a setting does not exist, or a value is not allowed.

    Examples
    --------
    >>> resolve("quick", {"epochs": "3"}).training.epochs
    3
    """
    overrides = overrides or {}
    if profile not in PROFILES:
        raise UnknownSetting(f"there is no profile {profile!r}: choose one of {', '.join(PROFILES)}")
    for name in overrides.keys() - SECTION_OF.keys():
        raise UnknownSetting(f"there is no setting {name!r}: choose one of {', '.join(sorted(SECTION_OF))}")
    usual = RECIPES_OF_PHOTOGRAPHS if photographs and "start_weights" not in overrides else {}
    recipe = overrides.get("recipe", usual.get(profile, "reference"))
    if recipe not in RECIPES:
        raise UnknownSetting(f"there is no recipe {recipe!r}: choose one of {', '.join(RECIPES)}")
    nested: dict = {"profile": profile, "recipe": recipe} | {section: {} for section in SECTIONS}
    chosen = PROFILES[profile] | RECIPES[recipe].settings | overrides
    needed = START_SETTINGS.get(chosen.get("start_weights"), {})
    for name, value in (chosen | needed | overrides).items():
        section = SECTION_OF[name]
        (nested if section is None else nested[section])[name] = value
    return validated(nested)


def validated(nested: dict) -> Settings:
    """Settings by section, as params.yaml holds them; UnknownSetting says the first that is not allowed."""
    try:
        return Settings(**nested)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][-1:]))
        message = first["msg"].removeprefix("Value error, ")
        raise UnknownSetting(f"setting {name} is {first['input']!r}: {message[:1].lower()}{message[1:]}") from error
