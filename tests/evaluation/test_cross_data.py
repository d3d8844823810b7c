"""The parts of the study of several data sets, by hand-computed values."""

import numpy as np
import pandas as pd
import pytest

from facelib.formats import write_json
from facelib.schema import ETHNICITY
from studies.cross_data import (
    FAIRFACE,
    GAINS,
    MARK,
    RECIPES,
    check_settings,
    difference,
    findings,
    five_of,
    held,
    in_bands,
    joined,
    judged_elsewhere,
    matrix_table,
    mean_shift,
    mix_weights,
    name_of,
    nearest_label,
    over_draws,
    settings_of,
)


def faces(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    empty = {name: np.full(n, np.nan) for name in ("age", "age_from", "age_to")}
    return pd.DataFrame(empty | {"gender": np.zeros(n), "five": np.zeros(n)} | columns)


def test_seven_races_become_five_labels_and_middle_eastern_either_of_two():
    classes = "White", "East Asian", "Middle Eastern"
    codes = pd.Series([classes.index("East Asian"), classes.index("Middle Eastern"), -1])
    other, white, asian = (float(ETHNICITY.parse(name)) for name in ("Other", "White", "Asian"))
    np.testing.assert_array_equal(five_of(codes, classes), [asian, other, np.nan])
    np.testing.assert_array_equal(five_of(codes, classes, "White"), [asian, white, np.nan])


def test_an_interval_holds_an_age_or_meets_a_band():
    frame = faces(age=[40.0, 40, np.nan, np.nan, np.nan], age_from=[np.nan, np.nan, 20, 20, np.nan],
                  age_to=[np.nan, np.nan, 29, 29, np.nan])  # fmt: skip
    low, high = np.array([30.0, 41, 29, 30, 0]), np.array([50.0, 60, 40, 40, 99])
    assert held(frame, low, high).tolist()[:4] == [1, 0, 1, 0] and np.isnan(held(frame, low, high)[4])
    assert held(frame, np.full(5, np.nan), np.full(5, np.nan)).isna().all()  # not calibrated yet


def test_weights_give_a_data_set_the_mix_of_another():
    # Three of four are women here, one of two there: a woman counts 2/3, a man 2.
    ours, theirs = faces(age=[30.0] * 4, gender=[1.0, 1, 1, 0]), faces(age=[31.0, 33.0], gender=[0.0, 1.0])
    weights = mix_weights(ours, theirs)
    assert weights == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    assert mean_shift(np.array([1.0, 1, 1, 0]), weights) == pytest.approx(0.5 - 0.75)


def test_groups_that_the_other_data_set_lacks_have_no_weight():
    weights = mix_weights(faces(age=[30.0, 5.0]), faces(age=[30.0]))
    assert weights.tolist() == [2.0, 0.0]
    assert np.isnan(mean_shift(np.ones(2), np.zeros(2)))


def test_the_nearest_age_of_a_band_stands_for_it():
    frame = faces(age=[40.0, np.nan, np.nan], age_from=[np.nan, 20, 20], age_to=[np.nan, 29, 29])
    assert nearest_label(frame, np.array([30.0, 35.0, 22.5])).tolist() == [40.0, 29.0, 22.5]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_name_stands_for_its_settings(recipe):
    settings = settings_of(name_of("utkface", recipe, seed=2))
    assert settings.seed == 2 and RECIPES[recipe].items() <= settings.flat().items()
    assert settings.data.image_px == RECIPES[recipe].get("image_px", 150)
    assert settings.training.frozen_stages == (3 if recipe == "ImageNet" else 0)
    assert settings_of(name_of("utkface", recipe)).seed == 0


def test_the_page_says_first_what_learning_from_both_changes():
    change = {"value": 0.031, "low": 0.01, "high": 0.05, "n": 9}
    found = {
        "shift": {
            "utkface from face; both": {
                "gender.accuracy": {
                    "FairFace minus UTKFace": {"value": -0.07, "low": -0.09, "high": -0.05, "n": 9},
                    "learning from both": change,
                }
            }
        },
        "gains": {"both minus own": {"all": dict.fromkeys(GAINS, change)}},
        "calibration": {"both": {"utkface": {FAIRFACE: {"coverage": change}}}},
    }
    tested = {"test": {"gains": {"faces (face_joint) minus utkface (face)": {"all": {"gender.accuracy": change}}}}}
    published, on_fairface, on_utkface, intervals = findings(found | tested).splitlines()
    assert published == "- Test faces, joint network minus reference network: gender +3.1 points (+1.0 to +5.0)."
    assert findings(found).splitlines() == [on_fairface, on_utkface, intervals]
    assert on_fairface.startswith(
        "- Short trainings, validation faces, trained on UTKFace (face weights), gender: "
        "FairFace minus UTKFace -7.0 points (-9.0 to -5.0). On the same"
    )
    assert "predicted by a network trained on both +3.1 points (+1.0 to +5.0). The changes overlap" in on_fairface
    assert difference(np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])) == 0
    assert np.isnan(difference(np.ones(2), np.ones(2)))
    assert "age MAE (years) +0.03 (+0.01 to +0.05)" in on_utkface
    assert "coverage of the 90 % age intervals of both on FairFace: 3.1 % (1.0 to 5.0) fitted on UTKFace." in intervals


def test_ages_are_judged_by_the_bands_of_another_data_set():
    like = pd.DataFrame({"age": np.nan, "age_from": [10, 0, 3, 10], "age_to": [19, 2, 9, 19]})
    frame = pd.DataFrame({"age": [2, 2, 9, 90, np.nan], "age_pred": [2.4, 2.6, 3.0, 10.0, 5.0]})
    assert in_bands(frame, like).fillna(-1).tolist() == [1, 0, 1, 1, -1]


def test_results_stand_beside_those_of_networks_that_were_trained_elsewhere():
    known = {"networks": {"a": 1}, "judged_on": {"a": "these"}, "test": {"scored": "once"}}
    both = joined(known, {"networks": {"b": 2}, "judged_on": {"b": "others"}})
    assert both == known | {"networks": {"a": 1, "b": 2}, "judged_on": {"a": "these", "b": "others"}}
    assert joined(known, {"networks": {}}) == known and joined({}, known) == known


def test_networks_that_were_judged_on_other_faces_are_marked():
    measured = {"gender.accuracy": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 10}}
    names = name_of("both", "face"), name_of("both", "face", 1), name_of("utkface", "face")
    elsewhere = judged_elsewhere(dict(zip(names, ("these", "others", "these"), strict=True)))
    rows = matrix_table({name: {FAIRFACE: measured} for name in names}, {}, elsewhere).splitlines()[-3:]
    assert [MARK in row for row in rows] == [False, False, True]
    assert rows[0].startswith("| UTKFace (") and "seed 1" in rows[2]  # another seed stands below the first


def test_draws_are_summed_up_by_their_mean_and_range():
    fits = [{"t": 1.0, "held": {"value": v, "low": v - 9, "high": v + 9, "n": 5}} for v in (0.8, 0.9, 1.0)]
    assert over_draws(fits) == {"t": 1.0, "held": {"value": pytest.approx(0.9), "low": 0.8, "high": 1.0, "n": 5}}


def test_a_network_of_other_settings_is_refused(tmp_path):
    name = name_of("both", "face")
    made = settings_of(name).flat() | {"recipe": "reference"}
    write_json(tmp_path / f"{name}.json", {"settings": made})
    check_settings(tmp_path, name)  # the recipe's name is not what decides
    write_json(tmp_path / f"{name}.json", {"settings": made | {"epochs": 2}})
    with pytest.raises(SystemExit, match=r"other settings \(epochs\)"):
        check_settings(tmp_path, name)
