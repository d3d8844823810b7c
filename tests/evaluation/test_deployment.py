"""What decides in use, by hand: even errors, age limits, equalised odds, withheld answers."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation import deployment
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap, rate


def frame_of(**columns) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    for attribute in (AGE, GENDER, ETHNICITY):
        if attribute.name in frame:
            frame[attribute.group_column] = attribute.groups(frame[attribute.name])
    if "age_pred" in frame:
        frame["age_unrounded"] = frame["age_pred"]
    return frame.assign(group_id=np.arange(len(frame)))


def test_every_year_weighs_the_same():
    frame = frame_of(age=[20.0, 20, 20, 80], age_pred=[21.0, 21, 24, 90], gender=[0.0, 0, 1, 1], gender_pred=0.0)
    table = deployment.even_errors(frame, (AGE, GENDER), Bootstrap(20), 1).set_index("averaged_over")
    # Errors 1, 1, 4 and 10: 16 over faces; 2 and 10 over years; 1, 4 and 10 over years and genders.
    assert table["value"].tolist() == [4.0, 6.0, 5.0] and table["cells"].tolist() == [1, 2, 3]
    assert table.index.tolist() == ["faces", "single years", "gender x single years"]
    assert (table["left_out"] == 0).all() and (table["n"] == 4).all()
    finding = deployment.even_finding(table.reset_index())
    assert "5 y" in finding.text and "over gender x single years" in finding.text and finding.n == 4
    large = deployment.even_errors(frame, (AGE, GENDER), Bootstrap(20), 2).set_index("averaged_over")
    assert large["value"].tolist() == [4.0, 2.0, 1.0] and large["left_out"].tolist() == [0, 1, 2]
    elsewhere = deployment.even_errors(frame.assign(gender=np.nan), (AGE, GENDER), Bootstrap(20), 1)
    assert elsewhere["averaged_over"].tolist() == ["faces", "single years"]  # genders are of faces without ages


def test_age_limits_by_hand():
    frame = frame_of(
        age=[10.0, 16, 17, 20, 30, 40], age_pred=[9.0, 18, 26, 17.9, 24, 41], gender=[0.0, 1, 1, 0, 0, 1],
        gender_pred=0.0,
    )  # fmt: skip
    table = deployment.age_limits(frame, (AGE, GENDER), min_group=1).set_index(["limit", "threshold", "group"])
    everyone = table.xs("all faces", level="group")
    assert everyone["false_positive"].tolist() == pytest.approx([2 / 3, 1 / 4, 1 / 3])
    assert everyone["false_negative"].tolist() == pytest.approx([1 / 3, 1 / 2, 2 / 3])
    assert everyone[["n_below", "n_above"]].to_numpy().tolist() == [[3, 3], [4, 2], [3, 3]]
    female = table.loc[(18, 18, "female")]
    assert (female["n_below"], female["false_positive"], female["false_negative"]) == (2, 1.0, 0.0)
    assert female["false_positive_low"] == pytest.approx(rate(2, 2).low)
    masked = deployment.age_limits(frame, (AGE, GENDER), min_group=3)
    assert masked.loc[masked["group"] == "female", "false_positive"].isna().all()
    finding = deployment.limits_finding(table.reset_index())
    assert "66.7 %" in finding.text and "labelled female, 100.0 %" in finding.text and finding.n == 6
    passing = deployment.pass_rates(frame, min_group=1).set_index(["threshold", "year"])["value"]
    assert passing[18].to_dict() == {10: 0, 16: 1, 17: 1, 20: 0, 30: 1, 40: 1} and passing[25].sum() == 2


def test_equalised_odds_by_hand_and_a_planted_gap_is_found():
    rng = np.random.default_rng(0)
    gender, ethnicity = rng.integers(0, 2, 800).astype(float), rng.integers(0, 2, 800).astype(float)
    wrong = rng.random(800) < np.where((ethnicity == 1) & (gender == 1), 0.3, 0.05)
    frame = frame_of(gender=gender, gender_pred=np.where(wrong, 1 - gender, gender), ethnicity=ethnicity)
    rates, gaps = deployment.error_rates(frame.assign(ethnicity_pred=0.0), (GENDER, ETHNICITY), 10, seed=0)
    black = rates.set_index("group").loc["Black"]
    rows = frame[frame["ethnicity"] == 1]
    assert black["true_positive"] == (rows["gender_pred"] == 1)[rows["gender"] == 1].mean()
    assert black["false_positive"] == (rows["gender_pred"] == 1)[rows["gender"] == 0].mean()
    assert black["n_true_positive"] == (rows["gender"] == 1).sum()
    assert gaps["rate"].tolist() == ["true positive", "false positive"]
    assert (gaps["p_adjusted"] < 0.05).tolist() == [True, False]
    row = gaps.iloc[0]
    assert (row["lowest"], row["highest"]) == ("Black", "White") and row["low"] < 0.25 < row["high"]
    finding = deployment.odds_finding(gaps, UTKFACE_ATTRIBUTES)
    ends = [f"{100 * row[end]:.1f}" for end in ("difference", "low", "high")]
    assert finding.text == (
        "Equalised odds are violated: for gender by ethnicity the true positive rates (female is positive) of Black "
        f"and White differ by {ends[0]} points ({ends[1]} to {ends[2]})."
    )
    chance = deployment.odds_finding(gaps.assign(p_adjusted=0.5), UTKFACE_ATTRIBUTES)
    assert chance.text == "No gap exceeds chance for gender by ethnicity."


def test_withholding_the_least_sure_answers_by_hand():
    sure = np.linspace(0.99, 0.51, 10)
    right = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 1])
    frame = frame_of(
        gender=np.zeros(10), gender_pred=1.0 - right, age=[30.0] * 8 + [2, 2], age_pred=[30.0] * 8 + [4, 8],
        p_gender_male=sure, p_gender_female=1 - sure, age_spread=np.arange(10.0),
    )  # fmt: skip
    frame = frame.assign(age_unrounded=frame["age_pred"] + 0.4)  # errors are of ages in whole years
    shares, groups = deployment.selective(frame, (AGE, GENDER), min_group=1)
    gender = shares[shares["attribute"] == "gender"].set_index("answered")["value"]
    assert gender.to_dict() == pytest.approx({1.0: 0.8, 0.9: 7 / 9, 0.8: 7 / 8, 0.5: 1.0})
    age = shares[shares["attribute"] == "age"].set_index("answered")["value"]
    assert age.to_dict() == pytest.approx({1.0: 0.8, 0.9: 2 / 9, 0.8: 0, 0.5: 0})
    babies = groups[groups["group"] == "0-4"].set_index("attribute")
    assert babies["answered"].to_dict() == {"age": 0, "gender": 0} and (babies["n"] == 2).all()
    finding = deployment.selective_finding(shares, groups)
    assert "gender accuracy is 87.5 %" in finding.text and "age band 0-4 are kept" in finding.text


@pytest.mark.parametrize("banded", [False, True])
def test_faces_without_ages_or_other_attributes_have_a_sentence_instead(banded):
    gender = np.arange(40) % 2.0
    frame = frame_of(gender=gender, gender_pred=gender, p_gender_male=1 - gender, p_gender_female=gender)
    attributes = (GENDER,)
    if banded:  # ages are known by their bands alone
        frame = frame.assign(age=np.nan, age_pred=30.0, age_unrounded=30.0, age_spread=3.0, age_band="30-45")
    even = deployment.even_errors(frame, UTKFACE_ATTRIBUTES if banded else attributes, Bootstrap(5), 1)
    limits = deployment.age_limits(frame, attributes, 5)
    assert even.empty and limits.empty and deployment.pass_rates(frame, 5).empty
    for finding in (deployment.even_finding(even), deployment.limits_finding(limits)):
        assert finding.text.endswith("need ages in years, which these faces are not labelled with.") and finding.n == 0
    rates, gaps = deployment.error_rates(frame, attributes, 5, seed=0)
    assert rates.empty and "need two classes" in deployment.odds_finding(gaps, UTKFACE_ATTRIBUTES).text
    shares, groups = deployment.selective(frame, (AGE, GENDER) if banded else attributes, 5)
    assert set(shares["attribute"]) == set(groups["attribute"]) == {"gender"}
    silent = deployment.selective(frame[:0], attributes, 5)
    assert deployment.selective_finding(*silent).text == "Nothing says how confident these predictions are."
