"""Profiles: unknown names refused with what is allowed, text read as values, wrong types refused."""

import dataclasses

import pytest

from facelib.config import CHOICES, PROFILES, RECIPES, Profile, resolve_profile
from facelib.errors import UnknownSetting


def test_a_profile_goes_by_its_name_and_cannot_be_changed():
    for name, profile in PROFILES.items():
        assert resolve_profile(name) == profile and profile.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROFILES["demo"].epochs = 1


def test_profiles_grow_from_smoke_to_full():
    smoke, demo, quick, full = (PROFILES[name] for name in ("smoke", "demo", "quick", "full"))
    assert smoke.images < demo.images < quick.images and full.images is None
    assert smoke.resamples < demo.resamples <= full.resamples


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(UnknownSetting, match=r"'large'.*smoke, demo, quick, full"):
        resolve_profile("large")


@pytest.mark.parametrize("key", ["epoch", "name", ""])
def test_an_unknown_setting_names_the_known_ones(key):
    with pytest.raises(UnknownSetting) as error:
        resolve_profile("demo", {key: 3})
    settings = {field.name for field in dataclasses.fields(Profile)} - {"name"}
    assert repr(key) in str(error.value)
    assert set(str(error.value).split("choose one of ")[1].split(", ")) == settings


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("epochs", "3", 3),
        ("images", "null", None),
        ("images", "500", 500),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", "0.01", 0.01),
        ("weight_decay", "0", 0.0),
        ("weight_decay", 1, 1.0),
        ("start_weights", "imagenet", "imagenet"),
        ("start_weights", "12", "12"),  # a file may be called so
    ],
)
def test_text_is_read_as_a_value_of_the_settings_type(key, text, value):
    read = getattr(resolve_profile("demo", {key: text}), key)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "many"),
        ("epochs", 2.5),
        ("epochs", "2.5"),
        ("epochs", True),
        ("epochs", "true"),
        ("epochs", None),
        ("epochs", [3]),
        ("epochs", "[3]"),
        ("epochs", "["),  # not even YAML
        ("learning_rate", "fast"),
        ("learning_rate", False),
        ("start_weights", 3),
        ("images", "1.5"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(key, value):
    with pytest.raises(UnknownSetting, match=f"setting {key} is .* has to be of type"):
        resolve_profile("demo", {key: value})


def test_settings_that_are_not_named_stay():
    changed = resolve_profile("quick", {"epochs": 1})
    assert changed == dataclasses.replace(PROFILES["quick"], epochs=1)
    assert PROFILES["quick"].epochs != 1


# --- recipes ----------------------------------------------------------------------------------------------


def test_every_recipe_is_made_of_settings_and_says_what_it_is():
    names = {field.name for field in dataclasses.fields(Profile)}
    assert set(RECIPES) == {"reference", "source_a", "source_b"}
    for name, recipe in RECIPES.items():
        assert set(recipe.settings) <= names - {"name", "recipe", "epochs", "image_px"} and recipe.about
        chosen = resolve_profile("full", {"recipe": name})
        assert chosen.recipe == name
        assert all(getattr(chosen, key) == value for key, value in recipe.settings.items())


def test_a_setting_given_by_name_stands_above_the_recipes():
    assert resolve_profile("full", {"recipe": "source_b", "input_px": "64"}).input_px == 64
    assert resolve_profile("full", {"recipe": "source_b"}).grey


def test_a_resolved_profile_resolves_to_itself():
    chosen = resolve_profile("quick", {"recipe": "source_a", "dropout": 0.5, "architecture": "resnet34"})
    settings = dataclasses.asdict(chosen)
    assert resolve_profile(settings.pop("name"), settings) == chosen


@pytest.mark.parametrize("key", CHOICES)
def test_a_choice_that_does_not_exist_names_those_that_do(key):
    with pytest.raises(UnknownSetting, match=f"there is no {key} 'other': choose one of {', '.join(CHOICES[key])}"):
        resolve_profile("demo", {key: "other"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("augmented_epochs", 0), ("input_px", 16), ("image_px", 16), ("opinion_share", 1.5)],
)
def test_numbers_that_no_training_can_use_are_refused(key, value):
    with pytest.raises(UnknownSetting, match=f"setting {key} is {value}, and has to be"):
        resolve_profile("demo", {key: value})


def test_labels_to_learn_are_named():
    assert resolve_profile("demo", {"learned": "age"}).learned == "age"
    for wrong in ("age height", ""):
        with pytest.raises(UnknownSetting, match=r"learned is .* one or more of age, gender, ethnicity"):
            resolve_profile("demo", {"learned": wrong})
