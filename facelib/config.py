"""The profiles smoke, demo, quick and full (how large a run is), and the recipes (how it trains)."""

import contextlib
import dataclasses
import typing
from dataclasses import dataclass

import yaml

from facelib.errors import UnknownSetting
from facelib.schema import ATTRIBUTES


@dataclass(frozen=True)
class Profile:
    """Everything that sets the size and the course of a run; one value per key, in the run's params.yaml."""

    name: str
    seed: int = 0
    # Data
    images: int | None = None  # faces used of a real data set; None: all
    synthetic_images: int = 1600  # faces drawn where no data is given
    image_px: int = 64  # edge of the cached, trained and explained image, pixels
    # Multitask training
    epochs: int = 30
    batch_size: int = 64
    start_weights: str = "none"  # none, imagenet (torchvision's download), a file, or a run's name
    head_epochs: int = 2  # with start weights: the output layers alone, before all layers
    # What a recipe sets: how the network is made
    recipe: str = "reference"  # a name in RECIPES, whose settings replace the ones below
    learned: str = "age gender ethnicity"  # attributes that are learned, where faces are labelled with them
    architecture: str = "resnet18"  # or resnet34
    stem: str = "pooled"  # torchvision's 7 x 7 convolution and pooling; or small: 3 x 3, stride 2, without pooling
    input_px: int = 0  # larger images are scaled to this edge, pixels; 0: as they are
    grey: bool = False  # the network sees grey images
    age_head: str = "distribution"  # over the years 0-116, decoded by its median; or linear: one number
    dropout: float = 0.2
    # ... and how it learns
    optimizer: str = "adamw"  # or sgd, with Nesterov's momentum 0.9
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: int = 2
    patience: int = (
        0  # epochs without a better validation loss until training stops, the best kept; 0: all, the last kept
    )
    average_decay: float = 0.998  # of the running average of the weights, by step; 0: no average
    low_px_share: float = 0.0  # share of the epochs, the first ones, that are trained at two thirds of the edge
    augmentation: str = "faces"  # flip, turn, shift, zoom, light, grey, blank rectangle; or flip alone
    augmented_epochs: int = 40  # trainings this long change faces in full, shorter ones less in proportion
    rarer_stronger: bool = False  # faces of rarer age bands and ethnicities are changed more
    sampler: str = "uniform"  # every face once an epoch; or balanced: rarer age bands and ethnicities more often
    label_smoothing: float = 0.0  # of gender and ethnicity
    opinion_share: float = 0.3  # of what notebook 02's networks say of a face in what is learned; none of them saw it
    # Networks that score labels (none scores a row it was trained on)
    label_folds: int = 3
    label_px: int = 64
    label_epochs: int = 12
    # Two-stage age
    age_bins: int = 6
    stage_epochs: int = 8
    # Evaluation and explanation
    resamples: int = 1000  # bootstrap samples behind an interval
    min_group: int = 10  # groups with fewer rows are masked in tables
    explained_images: int = 200
    lime_images: int = 25  # an average over fewer real faces is not shown
    lime_samples: int = 400


@dataclass(frozen=True)
class Recipe:
    """A named way to train: settings of `Profile`, and what stands behind them."""

    about: str
    settings: dict


# What a source leaves open is as in `reference`, so that a comparison shows what the source does say.
RECIPES = {
    "reference": Recipe("The project's own.", {}),
    "source_a": Recipe(
        "ResNet-18 or 34, AdamW, absolute error of age and cross entropy of gender, horizontal flips; from start "
        "weights the output layers first, then all. It did not learn ethnicity, which is learned beside the others "
        "here, unless `learned` names age and gender alone. Without start weights: from scratch, not as published.",
        {
            "age_head": "linear",
            "dropout": 0.0,
            "average_decay": 0.0,
            "augmentation": "flip",
            "opinion_share": 0.0,
        },
    ),
    "source_b": Recipe(
        "48 x 48 grey images, a ResNet-18 with a 3 x 3 stem without pooling, weighted sampler, stronger augmentation "
        "for rarer classes, dropout, weight decay, label smoothing, warm-up, cosine, early stopping; age as one number "
        "here, its two stages in notebook 04. From scratch, in fewer epochs: not as published.",
        {
            "stem": "small",
            "input_px": 48,
            "grey": True,
            "age_head": "linear",
            "dropout": 0.3,
            "patience": 8,
            "average_decay": 0.0,
            "augmented_epochs": 1,
            "rarer_stronger": True,
            "sampler": "balanced",
            "label_smoothing": 0.1,
            "opinion_share": 0.0,
        },
    ),
}

CHOICES = {
    "recipe": tuple(RECIPES),
    "architecture": ("resnet18", "resnet34"),
    "stem": ("pooled", "small"),
    "age_head": ("distribution", "linear"),
    "optimizer": ("adamw", "sgd"),
    "augmentation": ("faces", "flip"),
    "sampler": ("uniform", "balanced"),
}

MIN_PX = 32  # the smallest edge of an image that is trained on, pixels

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            synthetic_images=320,
            images=320,
            image_px=48,
            epochs=2,
            head_epochs=1,
            warmup_epochs=1,
            label_epochs=2,
            label_px=32,
            stage_epochs=1,
            resamples=100,
            min_group=3,
            explained_images=16,
            lime_images=4,
            lime_samples=60,
        ),
        Profile(
            "demo",
            epochs=24,
            batch_size=32,
            images=1600,
            label_epochs=8,
            stage_epochs=6,
            explained_images=100,
        ),
        Profile("quick", images=4000, epochs=30, label_epochs=10),
        Profile(
            "full",
            image_px=96,
            epochs=30,
            label_epochs=8,
            stage_epochs=5,
            resamples=2000,
            lime_images=60,
            lime_samples=500,
        ),
    )
}


def _parsed(key: str, value, kind: type):
    """The value of a setting, read from text where it came from the command line."""
    if isinstance(value, str) and kind is not str:
        with contextlib.suppress(yaml.YAMLError):  # what is no YAML stays text, and is refused below
            value = yaml.safe_load(value)
    allowed = typing.get_args(kind) or (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if float in allowed and isinstance(value, str):  # YAML reads 1e-3 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        expected = " or ".join(t.__name__ for t in allowed)
        raise UnknownSetting(f"setting {key} is {value!r}, and has to be of type {expected}")
    return value


def resolve_profile(name: str, overrides: dict | None = None) -> Profile:
    """A named profile with some settings replaced.

    Parameters
    ----------
    name : str
        One of `PROFILES`.
    overrides : dict, optional
        Settings by name; text values are read as YAML scalars.

    Raises
    ------
    UnknownSetting
        If the profile or a setting does not exist, or a value has the wrong type.

    Examples
    --------
    >>> resolve_profile("quick", {"epochs": "3"}).epochs
    3
    """
    if name not in PROFILES:
        raise UnknownSetting(f"there is no profile {name!r}: choose one of {', '.join(PROFILES)}")
    kinds = typing.get_type_hints(Profile)
    for key in overrides or {}:
        if key not in kinds or key == "name":
            allowed = ", ".join(sorted(set(kinds) - {"name"}))
            raise UnknownSetting(f"there is no setting {key!r}: choose one of {allowed}")
    values = {key: _parsed(key, value, kinds[key]) for key, value in (overrides or {}).items()}
    for key, choices in CHOICES.items():
        if key in values and values[key] not in choices:
            raise UnknownSetting(f"there is no {key} {values[key]!r}: choose one of {', '.join(choices)}")
    # A setting that is given by name stands above the recipe's.
    profile = dataclasses.replace(PROFILES[name], **(RECIPES[values.get("recipe", "reference")].settings | values))
    if not profile.learned.split() or set(profile.learned.split()) - set(ATTRIBUTES):
        raise UnknownSetting(f"setting learned is {profile.learned!r}: give one or more of {', '.join(ATTRIBUTES)}")
    if not 0 <= profile.opinion_share <= 1:
        raise UnknownSetting(f"setting opinion_share is {profile.opinion_share:g}, and has to be between 0 and 1")
    if profile.augmented_epochs < 1:
        raise UnknownSetting(f"setting augmented_epochs is {profile.augmented_epochs}, and has to be 1 or more")
    for key in ("image_px", "label_px", "input_px"):
        # Far below, a ResNet's last maps are 1 x 1, where bfloat16 gradients of strided convolutions are garbage.
        if getattr(profile, key) < MIN_PX and (key != "input_px" or profile.input_px):
            raise UnknownSetting(f"setting {key} is {getattr(profile, key)}, and has to be {MIN_PX} or more")
    return profile
