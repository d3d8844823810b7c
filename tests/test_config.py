"""Profiles and recipes: unknown names refused with what is allowed, text read as values, wrong values refused."""

import pytest
import yaml
from pydantic import ValidationError

from facelib.config import PROFILES, RECIPES, SECTION_OF, SECTIONS, Settings, resolve, validated
from facelib.errors import UnknownSetting


def value_of(name, text, profile="demo"):
    return resolve(profile, {name: text}).flat()[name]


def test_photographs_are_learned_from_the_face_network_unless_something_else_is_named():
    usual, drawn = resolve("full", photographs=True), resolve("full")
    assert (usual.recipe, usual.training.start_weights, usual.data.image_px) == ("face", "face", 150)
    assert (drawn.recipe, drawn.training.start_weights, drawn.data.image_px) == ("reference", "none", 96)
    assert resolve("full", {"recipe": "reference"}, photographs=True) == drawn
    assert resolve("full", {"start_weights": "none"}, photographs=True) == drawn
    assert resolve("smoke", photographs=True) == resolve("smoke")


def test_a_profile_goes_by_its_name_and_cannot_be_changed():
    for name in PROFILES:
        assert resolve(name).profile == name
    with pytest.raises(ValidationError, match="frozen"):
        resolve("demo").training.epochs = 1


def test_profiles_grow_from_smoke_to_full():
    smoke, demo, quick, full = (resolve(name) for name in ("smoke", "demo", "quick", "full"))
    assert smoke.data.images < demo.data.images < quick.data.images and full.data.images is None
    assert smoke.evaluation.resamples < demo.evaluation.resamples <= full.evaluation.resamples


def test_every_setting_stands_in_one_section_alone():
    fields = [name for model in SECTIONS.values() for name in model.model_fields]
    assert len(fields) == len(set(fields))
    assert set(SECTION_OF) == {*fields, "recipe", "seed"}
    assert all(name in SECTION_OF for profile in PROFILES.values() for name in profile)


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(UnknownSetting, match=r"'large'.*smoke, demo, quick, full"):
        resolve("large")


@pytest.mark.parametrize("name", ["epoch", "profile", "training", "opinion_share", ""])
def test_an_unknown_setting_names_the_known_ones(name):
    with pytest.raises(UnknownSetting) as error:
        resolve("demo", {name: 3})
    assert repr(name) in str(error.value)
    assert set(str(error.value).split("choose one of ")[1].split(", ")) == set(SECTION_OF)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("images", "null", None),
        ("images", "none", None),
        ("images", "500", 500),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", "0.01", 0.01),
        ("weight_decay", "0", 0.0),
        ("weight_decay", 1, 1.0),
        ("grey", "false", False),
        ("attributes", "age gender", ("age", "gender")),
        ("attributes", "age,expression", ("age", "expression")),
        ("start_weights", "imagenet", "imagenet"),
        ("start_weights", "12", "12"),  # a file may be called so
    ],
)
def test_text_is_read_as_a_value_of_the_settings_type(name, text, value):
    read = value_of(name, text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", "many"),
        ("epochs", 2.5),
        ("epochs", "2.5"),
        ("epochs", True),
        ("epochs", "true"),
        ("epochs", None),
        ("epochs", [3]),
        ("epochs", 0),
        ("learning_rate", "fast"),
        ("learning_rate", False),
        ("learning_rate", 0),
        ("start_weights", 3),
        ("images", "1.5"),
        ("images", 0),
        ("sampler", "other"),
        ("architecture", "resnet50"),
        ("augmented_epochs", 0),
        ("input_px", 16),
        ("image_px", 16),
        ("label_smoothing", 1.5),
        ("attributes", 3),
        ("seed", -1),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_name(name, value):
    with pytest.raises(UnknownSetting, match=r"setting .*is .*: ") as error:
        resolve("demo", {name: value})
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_choice_that_does_not_exist_names_those_that_do():
    with pytest.raises(UnknownSetting, match=r"setting sampler is 'other': .*'uniform', 'balanced' or 'sources'"):
        resolve("demo", {"sampler": "other"})


def test_settings_that_are_not_named_stay():
    before, after = resolve("quick").flat(), resolve("quick", {"epochs": 1}).flat()
    assert before.pop("epochs") != after.pop("epochs") and before == after


def test_every_recipe_is_made_of_training_settings_and_says_what_it_is():
    assert set(RECIPES) == {"reference", "face", "face_joint", "source_a", "source_b"}
    for name, recipe in RECIPES.items():
        assert set(recipe.settings) <= set(SECTIONS["training"].model_fields) and recipe.about
        assert "epochs" not in recipe.settings or "start_weights" in recipe.settings  # else the profile's
        chosen = resolve("full", {"recipe": name})
        assert chosen.recipe == name
        assert all(getattr(chosen.training, key) == value for key, value in recipe.settings.items())
    with pytest.raises(UnknownSetting, match="no recipe 'other': choose one of reference, face, "):
        resolve("full", {"recipe": "other"})


def test_a_setting_given_by_name_stands_above_the_recipes():
    assert resolve("full", {"recipe": "source_b", "input_px": "64"}).training.input_px == 64
    assert resolve("full", {"recipe": "source_b"}).training.grey


def test_start_weights_bring_what_they_need_unless_it_is_overridden():
    chosen = resolve("quick", {"start_weights": "face"})
    assert (chosen.training.architecture, chosen.data.image_px) == ("face_resnet", 150)
    assert chosen.training.epochs == resolve("quick").training.epochs
    overridden = resolve("quick", {"start_weights": "face", "image_px": "96", "recipe": "source_a"})
    assert (overridden.data.image_px, overridden.training.age_head) == (96, "linear")
    assert resolve("quick", {"start_weights": "imagenet"}).training.architecture == "resnet18"


def test_settings_survive_a_yaml_file():
    chosen = resolve("quick", {"recipe": "source_a", "dropout": 0.5, "attributes": "age gender"})
    stored = yaml.safe_load(yaml.safe_dump(chosen.model_dump(mode="json")))
    assert validated(stored) == chosen


def test_stored_settings_with_an_unknown_name_are_refused():
    stored = resolve("smoke").model_dump(mode="json")
    stored["training"]["optimizer"] = "sgd"
    with pytest.raises(UnknownSetting, match="setting optimizer"):
        validated(stored)
    assert "optimizer" not in Settings(profile="smoke").flat()
