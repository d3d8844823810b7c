"""Recipes beside each other: intervals over seeds and faces, equal faces demanded, all costs counted."""

import numpy as np
import pandas as pd
import pytest

from facelib.schema import ETHNICITY, GENDER
from facelib.statistics import Bootstrap
from studies import recipes


def test_intervals_hold_what_another_seed_would_have_changed():
    """Of two recipes with the same expectation: a bootstrap over faces alone calls them different, this rarely."""
    rng, called = np.random.default_rng(0), {"faces": 0, "seeds": 0}
    for _ in range(100):
        faces = rng.normal(5, 3, 400)
        values = [faces + rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 0.5, (3, 400)) for _ in range(2)]
        bootstrap = Bootstrap(200)
        both = [recipes.over_seeds(part, bootstrap, stream) for stream, part in enumerate(values)]
        low, high = np.percentile((both[1] - both[0])[1:], [2.5, 97.5])
        called["seeds"] += not low <= 0 <= high
        one = [recipes.over_seeds(part[:1], bootstrap) for part in values]
        low, high = np.percentile((one[1] - one[0])[1:], [2.5, 97.5])
        called["faces"] += not low <= 0 <= high
    assert called["faces"] > 60 and called["seeds"] < 25  # 3 seeds: not quite the promised 5


@pytest.fixture
def keep(empty_runs):
    """A function that keeps a training of a recipe: its age error in years and its seed."""
    rng, n = np.random.default_rng(0), 300
    labels = pd.DataFrame({"image_id": [f"{k}" for k in range(n)], "age": rng.integers(1, 90, n).astype(float)})
    labels = labels.assign(gender=rng.integers(0, 2, n), ethnicity=rng.integers(0, 5, n))

    def keep(name: str, off: float, seed: int, **facts) -> None:
        table = labels.assign(age_pred=labels["age"] + off)
        for attribute in (GENDER, ETHNICITY):
            table[list(attribute.columns)] = np.eye(len(attribute.classes))[labels[attribute.name]]
        settings = {"seed": seed, "epochs": 3, **facts.pop("settings", {})}
        known = {"run": "base", "seconds": {"processor": 60.0}, "epochs": 3, "settings": settings}
        recipes.keep(name, table, known | facts)

    (empty_runs / "recipes").mkdir(parents=True)
    return keep


def test_a_recipe_of_several_seeds_is_compared_with_all_its_costs(keep):
    for seed, off in enumerate((3.0, 4.0, 5.0)):
        keep(f"slow_{seed}", off, seed)
        keep(f"fast_{seed}", off - 2, seed)
    given = recipes.recipes_of(["slow=slow_0,slow_1,slow_2", "fast=fast_0,fast_1,fast_2"])
    found = recipes.compare(given, {"fast": 2.0})
    assert found["slow"]["measures"]["age.mae"]["value"] == 4 and found["slow"]["seeds"] == 3
    minus = found["fast"]["minus slow"]["age.mae"]
    assert minus["value"] == -2 and minus["low"] < -2.5 < -1.5 < minus["high"]
    assert found["fast"]["seconds"]["processor"] == 180 and found["slow"]["seconds"]["processor"] == 60
    alone = recipes.compare({"slow_0": ["slow_0"], "fast_0": ["fast_0"]})
    assert alone["fast_0"]["minus slow_0"]["age.mae"]["value"] == -2 and alone["fast_0"]["seeds"] == 1


def test_an_interval_of_a_share_lies_between_none_and_all(keep):
    for seed, off in enumerate((3.0, 4.0, 6.0)):  # within 5 years: all, all, none
        keep(f"a_{seed}", off, seed)
    share = recipes.compare({"a": ["a_0", "a_1", "a_2"]})["a"]["measures"]["age.cs5"]
    assert share["value"] == pytest.approx(2 / 3) and share["low"] == 0 and share["high"] == 1


def test_trainings_that_cannot_be_one_recipe_are_refused(keep):
    keep("a", 1.0, 0)
    keep("same", 1.0, 0)
    keep("other", 1.0, 1, settings={"epochs": 9})
    keep("elsewhere", 1.0, 1, run="another")
    for second, reason in (("same", "one seed"), ("other", "more than their seed"), ("elsewhere", "other faces")):
        with pytest.raises(SystemExit, match=reason):
            recipes.compare({"a": ["a", second]})
    with pytest.raises(SystemExit, match="other faces"):
        recipes.compare({"a": ["a"], "b": ["elsewhere"]})
