"""Gaps between groups: difference and ratio by hand, chance subtracted, planted gaps found."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation.gaps import gap_finding, gap_table
from facelib.evaluation.groups import group_metrics
from facelib.schema import UTKFACE_ATTRIBUTES, age_band, class_attributes
from facelib.statistics import largest_gap


def simulate(n: int, seed: int = 0) -> pd.DataFrame:
    """Faces whose errors have nothing to do with who is shown."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.integers(1, 90, n).astype(float), "group_id": np.arange(n)})
    for attribute in class_attributes(UTKFACE_ATTRIBUTES):
        name, names = attribute.name, attribute.classes
        frame[name] = rng.integers(0, len(names), n).astype(float)
        frame[f"{name}_name"] = frame[name].map(dict(enumerate(names)))
        wrong = rng.random(n) < 0.1
        frame[f"{name}_pred"] = np.where(wrong, (frame[name] + 1) % len(names), frame[name])
    frame["age_pred"] = frame["age"] + rng.normal(0, 6, n)
    return frame.assign(age_band=age_band(frame["age"]))


def test_difference_and_ratio_by_hand():
    frame = simulate(300)
    table = gap_table(frame, [["ethnicity_name"], ["gender_name", "age_band"]], UTKFACE_ATTRIBUTES, min_group=1, seed=0)
    measured = [metric.key for metric in group_metrics(UTKFACE_ATTRIBUTES) if metric.key != "age_coverage"]
    assert table["metric"].tolist() == measured * 2  # there are no intervals
    row = table[(table["by"] == "gender x age band") & (table["metric"] == "gender_accuracy")].iloc[0]
    right = (frame["gender"] == frame["gender_pred"]).groupby([frame["gender_name"], frame["age_band"].astype(str)])
    rates = right.mean()
    assert (row["groups"], row["left_out"], row["n"]) == (14, 0, 300)
    assert row["difference"] == pytest.approx(rates.max() - rates.min())
    assert row["ratio"] == pytest.approx(rates.min() / rates.max())
    assert rates[tuple(row["lowest"].split(", "))] == row["lowest_value"] == rates.min()
    assert rates[tuple(row["highest"].split(", "))] == row["highest_value"] == rates.max()
    assert table.loc[table["metric"] == "age_bias", "ratio"].isna().all()


def test_p_values_are_adjusted_for_all_rows():
    frame = simulate(200)
    table = gap_table(frame, [["ethnicity_name"]], UTKFACE_ATTRIBUTES, min_group=1, seed=3)
    error = frame["age_pred"] - frame["age"]
    right = [(frame[name] == frame[f"{name}_pred"]).astype(float) for name in ("gender", "ethnicity")]
    plain = [largest_gap(values, frame["ethnicity_name"], 3).p for values in (error.abs(), error, *right)]
    ranks = np.argsort(np.argsort(plain)) + 1
    expected = [min(p * 4 / rank for p, rank in zip(plain, ranks, strict=True) if p >= own) for own in plain]
    assert table["p_adjusted"].tolist() == pytest.approx(np.minimum(expected, 1))
    assert (table["p_adjusted"] > plain).any()


def test_tiny_groups_are_left_out_and_counted():
    frame = simulate(400)
    frame.loc[frame["ethnicity"] == 4, ["ethnicity", "ethnicity_name"]] = [0.0, "White"]
    frame.loc[:3, ["ethnicity", "ethnicity_name"]] = [4.0, "Other"]
    frame.loc[:3, "age_pred"] = frame.loc[:3, "age"] + 80  # they would be the worst by far
    row = (
        gap_table(frame, [["ethnicity_name"]], UTKFACE_ATTRIBUTES, min_group=10, seed=0)
        .set_index("metric")
        .loc["age_mae"]
    )
    assert (row["groups"], row["left_out"], row["n"]) == (4, 1, 396) and row["highest"] != "Other"


def test_a_planted_gap_is_the_only_one_found():
    frame = simulate(3000)
    worse = frame["ethnicity_name"] == "Indian"
    frame.loc[worse, "age_pred"] += np.random.default_rng(5).normal(0, 9, worse.sum())
    table = gap_table(frame, [["ethnicity_name"], ["gender_name"]], UTKFACE_ATTRIBUTES, min_group=10, seed=0)
    found = table[table["p_adjusted"] < 0.05]
    assert found[["by", "metric", "highest"]].to_numpy().tolist() == [["ethnicity", "age_mae", "Indian"]]
    assert found["low"].iloc[0] > 0
    finding = gap_finding(table)
    assert finding.text.startswith("In 1 of 8 comparisons") and "Indian" in finding.text and finding.n == 3000


@pytest.mark.parametrize("min_group", [10, 10_000])
def test_unlabelled_attributes_and_too_few_groups_are_no_obstacle(min_group):
    frame = simulate(120).assign(gender=np.nan, gender_name=None)
    table = gap_table(frame, [["ethnicity_name"], ["gender_name"]], UTKFACE_ATTRIBUTES, min_group, seed=0)
    assert set(table["metric"]) == {"age_mae", "age_bias", "ethnicity_accuracy"}
    compared = table["groups"] >= 2
    assert compared.any() == (min_group == 10)
    assert table.loc[~compared, ["difference", "p_adjusted", "low"]].isna().all(axis=None)
    told = "In 1 of 3 comparisons" if min_group == 10 else "No grouping has two groups"
    assert gap_finding(table).text.startswith(told)
    none = gap_table(simulate(0), [["gender_name"]], UTKFACE_ATTRIBUTES, min_group, seed=0)
    assert none.empty and gap_finding(none).n == 0
