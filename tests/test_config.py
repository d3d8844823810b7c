"""Profiles: unknown names refused with what is allowed, text read as values, wrong types refused."""

import dataclasses

import pytest

from facelib.config import PROFILES, Profile, resolve_profile
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
