"""Damage does what it says, changes are of the same faces, and what harms one group alone is found."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation.groups import group_metrics
from facelib.explain.regions import REGIONS, region_map
from facelib.schema import AGE, GENDER
from facelib.statistics import Bootstrap
from studies import image_damage
from studies.image_damage import DAMAGES, damage


def picture(px: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, px, px, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", DAMAGES)
def test_more_damage_leaves_less_of_the_image(kind):
    images = picture()
    lost = [np.abs(damage(images, kind, amount).astype(float) - images).mean() for amount in DAMAGES[kind].amounts]
    assert all(spoilt > 0 for spoilt in lost)
    assert kind == "covered" or lost == sorted(lost)
    assert damage(images, kind, DAMAGES[kind].amounts[0]).shape == images.shape


def test_a_covered_part_is_hidden_and_the_rest_is_as_it_was():
    images = picture()
    covered, eyes = damage(images, "covered", "eyes"), region_map(64) == REGIONS.index("eyes_brows")
    assert (covered[:, ~eyes] == images[:, ~eyes]).all()
    assert len(np.unique(covered[0][eyes], axis=0)) == 1


def test_harm_to_one_group_alone_is_found_by_group():
    rng, n = np.random.default_rng(0), 400
    before = pd.DataFrame({"gender": np.arange(n) % 2.0, "gender_pred": np.arange(n) % 2.0})
    before["gender_name"] = GENDER.groups(before["gender"])
    after = before.assign(gender_pred=np.where((before["gender"] == 1) & (rng.random(n) < 0.3), 0.0, before["gender"]))
    table = image_damage.changes(after, before, "blur", 4.0, (GENDER,), Bootstrap(200))
    by_group = table[table["by"] == "gender_name"].set_index("group")
    assert by_group.loc["male", "change"] == 0 and by_group.loc["female", "change"] == pytest.approx(-0.3, abs=0.1)
    assert (by_group["p"] < 0.01).all() and by_group["n"].tolist() == [200, 200]
    everyone = table[table["by"] == "all"].iloc[0]
    assert everyone["change"] == pytest.approx(-0.15, abs=0.05) and everyone["value"] == 1 + everyone["change"]
    found = table.assign(amount="4.0")
    metrics = {metric.key: metric for metric in group_metrics((AGE, GENDER))}
    for shown in (found, found.assign(metric="age_coverage"), found.assign(metric="age_mae", change=-found["change"])):
        worst = image_damage.strongest(shown, metrics).iloc[0]
        assert (worst["most"], worst["least"], worst["kind"]) == ("female", "male", "blur")
    alike = image_damage.changes(before, before, "none", "none", (GENDER,), Bootstrap(50))
    assert alike["change"].eq(0).all() and alike["p"].isna().all()
