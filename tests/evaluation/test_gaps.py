"""Gaps between groups: fairlearn's difference and ratio by hand, chance subtracted, planted gaps found."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation.gaps import gap_table, large_groups, spread_beyond_chance
from facelib.evaluation.headline import GROUP_METRICS
from facelib.schema import ETHNICITIES, GENDERS, age_band


def simulate(n: int, seed: int = 0) -> pd.DataFrame:
    """Faces whose errors have nothing to do with who is shown."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.integers(1, 90, n).astype(float), "group_id": np.arange(n)})
    for name, names in (("gender", GENDERS), ("ethnicity", ETHNICITIES)):
        frame[name] = rng.integers(0, len(names), n).astype(float)
        frame[f"{name}_name"] = frame[name].map(dict(enumerate(names)))
        wrong = rng.random(n) < 0.1
        frame[f"{name}_pred"] = np.where(wrong, (frame[name] + 1) % len(names), frame[name])
    frame["age_pred"] = frame["age"] + rng.normal(0, 6, n)
    return frame.assign(age_band=age_band(frame["age"]))


# --- the range of group means -----------------------------------------------------------------------------


def test_groups_drawn_at_random_lie_apart_by_chance_and_not_beyond_it():
    spreads = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        spreads.append(spread_beyond_chance(rng.normal(size=200), rng.integers(0, 5, 200), seed))
    assert min(spread.difference for spread in spreads) > 0  # a range of noisy means is never 0
    assert abs(np.mean([spread.beyond.value for spread in spreads])) < 0.03
    assert sum(spread.p < 0.05 for spread in spreads) <= 6
    assert sum(spread.beyond.low <= 0 <= spread.beyond.high for spread in spreads) >= 34


def test_a_planted_difference_is_its_size_and_significant():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 2000)
    spread = spread_beyond_chance(rng.normal(size=2000) + 1.0 * (group == 2), group, seed=0)
    assert spread.p < 0.002 and spread.beyond.low > 0.7
    assert spread.difference == pytest.approx(1.0, abs=0.2)
    assert spread.beyond.value == pytest.approx(spread.difference - spread.by_chance)


def test_what_strata_explain_is_no_difference_between_groups():
    # Values depend on the stratum alone; one group lies mostly in the worse one.
    rng = np.random.default_rng(1)
    stratum = rng.integers(0, 2, 3000)
    group = np.where(rng.random(3000) < 0.2 + 0.6 * stratum, "a", "b")
    values = 3.0 * stratum + rng.normal(size=3000)
    plain = spread_beyond_chance(values, group, seed=0)
    within = spread_beyond_chance(values, group, seed=0, strata=stratum)
    assert plain.p < 0.002 and plain.difference > 1.5
    assert within.p > 0.05 and within.difference < 0.15
    means = pd.Series(values).groupby([group, stratum]).mean().unstack()
    expected = means @ np.bincount(stratum) / 3000
    assert within.difference == pytest.approx(abs(expected["a"] - expected["b"]))


def test_a_group_without_a_row_in_a_stratum_is_refused():
    with pytest.raises(ValueError, match="group b has no row"):
        spread_beyond_chance(np.arange(4.0), np.array(list("aabb")), 0, strata=np.array([0, 1, 1, 1]))


# --- the table --------------------------------------------------------------------------------------------


def test_difference_and_ratio_by_hand():
    frame = simulate(300)
    table = gap_table(frame, [["ethnicity_name"], ["gender_name", "age_band"]], min_rows=1, seed=0)
    assert table["metric"].tolist() == list(GROUP_METRICS) * 2
    row = table[(table["by"] == "gender x age band") & (table["metric"] == "gender_accuracy")].iloc[0]
    right = (frame["gender"] == frame["gender_pred"]).groupby([frame["gender_name"], frame["age_band"].astype(str)])
    rates = right.mean()
    assert (row["groups"], row["left_out"], row["n"]) == (14, 0, 300)
    assert row["difference"] == pytest.approx(rates.max() - rates.min())
    assert row["ratio"] == pytest.approx(rates.min() / rates.max())
    assert rates[tuple(row["lowest"].split(", "))] == row["lowest_value"] == rates.min()
    assert rates[tuple(row["highest"].split(", "))] == row["highest_value"] == rates.max()
    assert table.loc[table["metric"] == "bias", "ratio"].isna().all()


def test_tiny_groups_are_left_out_and_counted():
    frame = simulate(400)
    frame.loc[frame["ethnicity"] == 4, ["ethnicity", "ethnicity_name"]] = [0.0, "White"]
    frame.loc[:3, ["ethnicity", "ethnicity_name"]] = [4.0, "Other"]
    frame.loc[:3, "age_pred"] = frame.loc[:3, "age"] + 80  # they would be the worst by far
    row = gap_table(frame, [["ethnicity_name"]], min_rows=10, seed=0).set_index("metric").loc["mae"]
    assert (row["groups"], row["left_out"], row["n"]) == (4, 1, 396) and row["highest"] != "Other"
    shown, names = large_groups(frame, ["ethnicity_name"], 10)
    assert len(shown) == len(names) == 396


def test_a_planted_gap_is_the_only_one_found():
    frame = simulate(3000)
    worse = frame["ethnicity_name"] == "Indian"
    frame.loc[worse, "age_pred"] += np.random.default_rng(5).normal(0, 9, worse.sum())
    table = gap_table(frame, [["ethnicity_name"], ["gender_name"]], min_rows=10, seed=0)
    found = table[table["p_adjusted"] < 0.05]
    assert found[["by", "metric", "highest"]].to_numpy().tolist() == [["ethnicity", "mae", "Indian"]]
    assert found["low"].iloc[0] > 0


@pytest.mark.parametrize("min_rows", [10, 10_000])
def test_unlabelled_attributes_and_too_few_groups_are_no_obstacle(min_rows):
    frame = simulate(120).assign(gender=np.nan, gender_name=None)
    table = gap_table(frame, [["ethnicity_name"], ["gender_name"]], min_rows, seed=0)
    assert set(table["metric"]) == {"mae", "bias", "ethnicity_accuracy"}
    compared = table["groups"] >= 2
    assert compared.any() == (min_rows == 10)
    assert table.loc[~compared, ["difference", "p_adjusted", "beyond_chance"]].isna().all(axis=None)
    assert gap_table(simulate(0), [["gender_name"]], min_rows, seed=0).empty
