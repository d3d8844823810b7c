"""Standardised rates: by hand, a bias that is only age mix vanishes, a real one stays, thin ages are left out."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation import claims
from facelib.evaluation.gaps import gap_table
from facelib.evaluation.standardised import MIN_CELL, resample, same_ages_finding, standardise
from facelib.schema import ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, age_band
from facelib.statistics import Bootstrap


def simulate(n: int = 4000, mixed: bool = True, seed: int = 0) -> pd.DataFrame:
    """Faces whose errors depend on age alone: babies' genders are guessed, old ages are missed by far.

    With `mixed`, women and Black people are young, men and White people old.
    """
    rng = np.random.default_rng(seed)
    gender, ethnicity = rng.integers(0, 2, n).astype(float), rng.integers(0, 5, n).astype(float)
    younger = 0.5 + mixed * (0.2 * (gender == 1) - 0.2 * (gender == 0) + 0.15 * (ethnicity == 1))
    age = np.where(rng.random(n) < younger, rng.integers(0, 30, n), rng.integers(30, 90, n)).astype(float)
    frame = pd.DataFrame({"age": age, "gender": gender, "ethnicity": ethnicity, "group_id": np.arange(n)})
    wrong = rng.random(n) < np.where(age < 5, 0.4, 0.05)
    frame["gender_pred"] = np.where(wrong, 1 - gender, gender)
    frame["ethnicity_pred"] = np.where(rng.random(n) < 0.2, (ethnicity + 1) % 5, ethnicity)
    frame["age_pred"] = age + rng.normal(0, 1, n) * (2 + age / 8)
    return named(frame)


def named(frame: pd.DataFrame) -> pd.DataFrame:
    groups = {attribute.group_column: attribute.groups(frame[attribute.name]) for attribute in (GENDER, ETHNICITY)}
    return frame.assign(age_band=age_band(frame["age"]), **groups)


def gap_of(frame: pd.DataFrame, by: list[str], metric: str) -> pd.Series:
    _, gaps = standardise(frame, [by], UTKFACE_ATTRIBUTES, Bootstrap(400), 10)
    return gaps.set_index("metric").loc[metric]


def test_standardised_rates_by_hand():
    # Men: 20 babies, 8 of them wrong, and 80 adults, 4 wrong. Women: 60 babies, 30 wrong, and 40 adults, none wrong.
    parts = [(0, 2, 20, 8), (0, 40, 80, 4), (1, 2, 60, 30), (1, 40, 40, 0)]
    rows = [(g, a, g if k >= wrong else 1 - g) for g, a, n, wrong in parts for k in range(n)]
    frame = pd.DataFrame(rows, columns=["gender", "age", "gender_pred"]).astype(float)
    frame = named(frame.assign(ethnicity=np.nan, ethnicity_pred=0.0, age_pred=frame["age"], group_id=range(200)))
    rates, gaps = standardise(frame, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(50), 1)
    found = rates[rates["metric"] == "gender_accuracy"].set_index("group")
    assert found.loc["male", "raw"] == pytest.approx(0.88) and found.loc["female", "raw"] == pytest.approx(0.70)
    # 80 of all 200 faces are babies: 0.4 x 0.6 + 0.6 x 0.95, and 0.4 x 0.5 + 0.6 x 1.
    assert found.loc["male", "standardised"] == pytest.approx(0.81)
    assert found.loc["female", "standardised"] == pytest.approx(0.80)
    assert found["covered"].tolist() == [1, 1] and found["n"].tolist() == [100, 100]
    row = gaps.set_index("metric").loc["gender_accuracy"]
    assert (row["lowest"], row["highest"]) == ("female", "male")
    assert [row[way] for way in ("raw", "standardised", "explained")] == pytest.approx([0.18, 0.01, 0.17])
    assert set(rates["metric"]) == {"age_mae", "gender_accuracy"}  # nobody labelled ethnicity


@pytest.mark.parametrize(
    ("by", "metric"), [("gender_name", "age_mae"), ("ethnicity_name", "age_mae"), ("gender_name", "gender_accuracy")]
)
def test_a_bias_that_is_only_age_mix_vanishes(by, metric):
    gap = gap_of(simulate(), [by], metric)
    assert gap["raw_low"] > 0 and gap["answer"] == "adds to it"
    assert gap["standardised_low"] < 0 < gap["standardised_high"]
    assert abs(gap["standardised"]) < 0.5 * gap["raw"]


def test_a_real_bias_stays():
    frame = simulate(mixed=False)
    worse = (frame["gender"] == 1) & (np.random.default_rng(3).random(len(frame)) < 0.15)
    frame.loc[worse, "gender_pred"] = 0.0
    gap = gap_of(frame, ["gender_name"], "gender_accuracy")
    assert gap["lowest"] == "female" and gap["standardised_low"] > 0.08
    assert abs(gap["explained"]) < 0.02 and gap["standardised"] == pytest.approx(gap["raw"], abs=0.02)


def test_a_real_bias_that_the_age_mix_hides_appears():
    # Women are younger, whose ages are easier; at every age the network does worse on them.
    frame = simulate()
    women = frame["gender"] == 1
    frame.loc[women, "age_pred"] += 1.5 * (frame["age_pred"] - frame["age"])[women]
    rates, _ = standardise(frame, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(200), 10)
    mae = rates[rates["metric"] == "age_mae"].set_index("group")
    ratio = mae["standardised"]["female"] / mae["standardised"]["male"]
    assert ratio == pytest.approx(2.5, rel=0.1) and ratio > mae["raw"]["female"] / mae["raw"]["male"] + 0.5


def test_ages_that_a_group_hardly_has_are_left_out_for_all():
    frame = simulate(mixed=False)
    thin = frame.index[(frame["ethnicity"] == 4) & (frame["age"] >= 75)]
    frame = frame.drop(thin[MIN_CELL - 1 :])
    rates, gaps = standardise(frame, [["ethnicity_name"]], UTKFACE_ATTRIBUTES, Bootstrap(50), 10)
    covered = (frame["age"] < 75).mean()
    assert rates["covered"].unique() == pytest.approx([covered]) and (gaps["covered"] == rates["covered"].iloc[0]).all()
    young = frame[frame["age"] < 75]
    shares = young["age_band"].value_counts(normalize=True)
    white = young[young["ethnicity"] == 0]
    by_band = (white["age_pred"] - white["age"]).abs().groupby(white["age_band"], observed=True).mean()
    found = rates[(rates["group"] == "White") & (rates["metric"] == "age_mae")]["standardised"].iloc[0]
    assert found == pytest.approx((by_band * shares[by_band.index]).sum())


def test_groups_without_an_age_in_common_cannot_be_compared():
    frame = simulate(400)
    frame = frame[(frame["gender"] == 1) == (frame["age"] < 30)]
    rates, gaps = standardise(frame, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(50), 10)
    assert rates["standardised"].isna().all() and rates["raw"].notna().all() and (rates["covered"] == 0).all()
    assert set(gaps["answer"]) == {"inconclusive"}
    assert claims.assess_at_equal_ages(frame, Bootstrap(50))["answer"].iloc[1] == "inconclusive"


def test_missing_labels_small_and_empty_groups_are_no_obstacle():
    frame = simulate(200)
    ageless = pd.Categorical([None] * 200, frame["age_band"].cat.categories)
    without = {"gender": {"gender_name": None}, "age": {"age_band": ageless}}
    poorer = [frame.assign(**{name: np.nan}, **also) for name, also in without.items()]
    for poor in (frame.iloc[:0], *poorer):
        rates, gaps = standardise(poor, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(20), 10)
        assert rates.empty and gaps.empty and "standardised_low" in rates and "answer" in gaps
        assert set(claims.assess_at_equal_ages(poor, Bootstrap(20))["answer"]) == {"inconclusive"}
    rates, gaps = standardise(frame, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(20), 150)
    assert gaps.empty and rates.empty
    one = frame[frame["gender"] == 1]
    rates, gaps = standardise(one, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(20), 10)
    assert gaps.empty and set(rates["group"]) == {"female"}


def test_the_interval_is_that_of_the_bootstrap_over_copy_groups():
    frame = simulate(600, seed=2)
    pairs = pd.concat([frame, frame], ignore_index=True)  # every face twice tells no more than once
    once, _ = standardise(frame, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(1000), 10)
    twice, _ = standardise(pairs, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(1000), 10)
    for table in (once, twice):
        assert (table["standardised_low"] < table["standardised"]).all()
    widths = [(table["standardised_high"] - table["standardised_low"]).to_numpy() for table in (once, twice)]
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)
    error = (frame["age_pred"] - frame["age"]).abs()[frame["gender"] == 1]
    raw = once[(once["group"] == "female") & (once["metric"] == "age_mae")].iloc[0]
    assert (raw["raw_high"] - raw["raw_low"]) / 3.92 == pytest.approx(error.std() / np.sqrt(len(error)), rel=0.1)


def test_a_group_without_errors_has_no_interval():
    frame = simulate(400)
    frame.loc[frame["gender"] == 1, "gender_pred"] = 1.0
    rates, _ = standardise(frame, [["gender_name"]], UTKFACE_ATTRIBUTES, Bootstrap(30), 10)
    women = rates[rates["metric"] == "gender_accuracy"].set_index("group").loc["female"]
    assert women["raw"] == 1 and np.isnan(women["raw_low"]) and np.isnan(women["standardised_high"])
    values = np.array([[1.0, 1, 0, 1]])
    drawn = resample(values, pd.Series(list("aabb")), pd.Series(["0-4"] * 4), np.arange(4), Bootstrap(30))
    assert drawn.raw()[0, 0].tolist() == [1, 0.5] and drawn.covered == 0 and np.isnan(drawn.standardised()).all()


def test_gaps_by_age_band_are_not_standardised_and_the_others_are_all_there():
    groupings = [["age_band"], ["gender_name"], ["age_band", "gender_name"], ["gender_name", "ethnicity_name"]]
    rates, gaps = standardise(simulate(800), groupings, UTKFACE_ATTRIBUTES, Bootstrap(20), 10)
    assert rates["by"].unique().tolist() == gaps["by"].unique().tolist() == ["gender", "gender x ethnicity"]
    assert gaps["metric"].tolist() == ["age_mae", "gender_accuracy", "ethnicity_accuracy"] * 2


def test_only_gaps_beyond_chance_are_counted():
    frame, groupings = simulate(), [["gender_name"], ["ethnicity_name"]]
    table = gap_table(frame, groupings, UTKFACE_ATTRIBUTES, 10, seed=0)
    _, gaps = standardise(frame, groupings, UTKFACE_ATTRIBUTES, Bootstrap(200), 10)
    tested = gaps.merge(table[["by", "metric", "p_adjusted"]], on=["by", "metric"])
    clear = tested[tested["p_adjusted"] < 0.05]
    finding = same_ages_finding(gaps, table)
    assert 0 < len(clear) < len(gaps) and finding.n == len(frame)
    assert finding.text.startswith(f"{len(clear)} of {len(gaps)} gaps")
    assert f"The groups' ages widen {(clear['answer'] == 'adds to it').sum()} of these" in finding.text
    row = clear[clear["metric"] == "age_mae"].nlargest(1, "raw").iloc[0]
    assert f"{row['explained']:.2f} y ({row['explained_low']:.2f}" in finding.text
    assert same_ages_finding(gaps[:0], table).n == 0


# --- the claims -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_claim_that_only_the_age_mix_supports_is_not_found_any_more():
    # Every group is alike at each age, Asian men are young adults, and young adults are called female more often.
    rng = np.random.default_rng(4)
    frame = simulate(20_000, mixed=False)
    men, young = frame["gender"] == 0, frame["age"].between(18, 29)
    frame = frame[~(men & (frame["ethnicity"] == 2) & ~young & (rng.random(len(frame)) < 0.85))].copy()
    wrong = (frame["gender"] == 0) & frame["age"].between(18, 29) & (rng.random(len(frame)) < 0.4)
    frame.loc[wrong, "gender_pred"] = 1.0
    raw = claims.assess(frame, Bootstrap(200)).iloc[2]
    standardised = claims.assess_at_equal_ages(frame, Bootstrap(200)).iloc[0]
    assert (
        raw["claim"] == standardised["claim"] and raw["answer"] == "supported" and standardised["answer"] != "supported"
    )
    assert standardised["value"] < 1.2 and raw["value"] > 1.5


def test_claims_about_a_real_bias_stay_found():
    frame = simulate(8000, mixed=False)
    asian_men = (frame["gender"] == 0) & (frame["ethnicity"] == 2)
    frame.loc[asian_men & (np.random.default_rng(5).random(len(frame)) < 0.2), "gender_pred"] = 1.0
    frame.loc[asian_men, "age_pred"] += 4 * np.sign(frame["age_pred"] - frame["age"])[asian_men]
    assert claims.assess_at_equal_ages(frame, Bootstrap(200))["answer"].tolist() == ["supported", "supported"]


def test_a_spread_that_is_only_age_mix_is_no_spread():
    frame = simulate(8000)
    raw, standardised = (
        claims.assess(frame, Bootstrap(20)).iloc[4],
        claims.assess_at_equal_ages(frame, Bootstrap(20)).iloc[1],
    )
    assert raw["answer"] == "supported" and standardised["answer"] != "supported"
    assert standardised["value"] < 0.35 * raw["value"]
