"""Label issues: planted wrong labels rank first, clean ones are left in peace."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelib.audit.label_issues import (
    MAX_AGE_CHANCE,
    MAX_PROBABILITY,
    age_spread,
    doubted_findings,
    find_issues,
    joint_suspicion,
    most_doubted,
    suspicion,
)
from facelib.schema import ETHNICITY, UTKFACE_ATTRIBUTES

N, PLANTED = 1200, 30
P_ETHNICITY = list(ETHNICITY.columns)


def predicted(age_pred, p_female, p_ethnicity=0.2) -> pd.DataFrame:
    """A table of predictions; `p_ethnicity` is one number or (n, 5)."""
    table = pd.DataFrame({"age_pred": age_pred, "p_gender_female": p_female}, index=range(np.size(age_pred)))
    table["p_gender_male"] = 1 - table["p_gender_female"]
    return table.assign(**dict.fromkeys(P_ETHNICITY, 0.2)) if np.isscalar(p_ethnicity) else table.assign(
        **dict(zip(P_ETHNICITY, p_ethnicity.T, strict=True)))  # fmt: skip


def simulate(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, np.ndarray]]:
    """Faces with planted wrong labels, predictions that know the true ones roughly, and which rows are wrong."""
    rng = np.random.default_rng(seed)
    age, gender, ethnicity = rng.uniform(1, 90, N).round(), rng.integers(0, 2, N), rng.integers(0, 5, N)
    p_female = 1 / (1 + np.exp(-rng.normal(5.0 * (2 * gender - 1), 1.2)))
    logits = rng.normal(0, 1, (N, 5)) + 7 * np.eye(5)[ethnicity]
    p_ethnicity = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scoring = predicted(age + rng.normal(0, 1 + age / 40), p_female, p_ethnicity)
    wrong = {name: rng.choice(N, PLANTED, replace=False) for name in ("age", "gender", "ethnicity")}
    age[wrong["age"]] = np.where(age[wrong["age"]] > 45, age[wrong["age"]] - 40, age[wrong["age"]] + 40)
    gender[wrong["gender"]] = 1 - gender[wrong["gender"]]
    ethnicity[wrong["ethnicity"]] = (ethnicity[wrong["ethnicity"]] + 2) % 5
    faces = pd.DataFrame(
        {"image_id": [f"{k}.jpg" for k in range(N)], "age": age, "gender": gender, "ethnicity": ethnicity}
    )
    return faces, scoring, wrong


@pytest.fixture(scope="module")
def simulated():
    faces, scoring, wrong = simulate()
    return faces, scoring, wrong, find_issues(faces, scoring, UTKFACE_ATTRIBUTES)


@pytest.mark.parametrize("attribute", ["age", "gender", "ethnicity"])
def test_planted_wrong_labels_rank_first_and_are_flagged(simulated, attribute):
    faces, _, wrong, issues = simulated
    of = issues[issues["attribute"] == attribute]
    planted = set(faces["image_id"].iloc[wrong[attribute]])
    worst = set(of.sort_values("score")["image_id"].head(PLANTED))
    assert len(worst & planted) >= 0.9 * PLANTED
    flagged = set(of.loc[of["is_issue"], "image_id"])
    assert len(flagged & planted) >= 0.9 * PLANTED
    assert len(flagged - planted) <= 0.02 * N


def test_scores_run_from_zero_to_one_and_tables_say_what_was_given(simulated):
    faces, scoring, _, issues = simulated
    assert list(issues.columns) == ["image_id", "attribute", "given", "suggested", "score", "is_issue"]
    assert issues["score"].between(0, 1).all() and len(issues) == 3 * N
    age = issues[issues["attribute"] == "age"]
    assert (age["given"].to_numpy() == faces["age"]).all()
    assert (age["suggested"].to_numpy() == scoring["age_pred"].round()).all()
    gender = issues[issues["attribute"] == "gender"]
    assert (gender["suggested"].to_numpy() == (scoring["p_gender_female"] > 0.5)).all()


def test_unknown_labels_have_no_row(simulated):
    faces, scoring, _, issues = simulated
    partly = faces.copy()
    partly.loc[::3, "age"] = np.nan
    partly.loc[1::3, "gender"] = -1
    partly["ethnicity"] = -1
    found = find_issues(partly, scoring, UTKFACE_ATTRIBUTES)
    assert found["attribute"].value_counts().to_dict() == {"age": 2 * N // 3, "gender": 2 * N // 3}
    assert set(found.loc[found["attribute"] == "gender", "given"]) == {0, 1}
    same = found[found["attribute"] == "gender"].merge(issues, on=["image_id", "attribute"])
    assert (same["given_x"] == same["given_y"]).all() and (same["suggested_x"] == same["suggested_y"]).all()


def test_what_no_network_learned_has_no_row(simulated):
    faces, scoring, _, issues = simulated
    unlearned = scoring.assign(p_gender_female=np.nan, p_gender_male=np.nan, age_pred=np.nan)
    found = find_issues(faces, unlearned, UTKFACE_ATTRIBUTES)
    assert set(found["attribute"]) == {"ethnicity"}
    pd.testing.assert_frame_equal(found, issues[issues["attribute"] == "ethnicity"].reset_index(drop=True))


def test_absent_classes_flag_only_certain_contradictions(simulated):
    faces, scoring, wrong, _ = simulated
    two = faces["ethnicity"].isin([0, 1]).to_numpy()
    found = find_issues(faces[two].assign(age=np.nan, gender=-1), scoring[two], UTKFACE_ATTRIBUTES)
    assert len(found) == two.sum()
    given = scoring.loc[two, P_ETHNICITY].to_numpy()[np.arange(two.sum()), found["given"].astype(int)]
    assert (found["is_issue"] == (given < MAX_PROBABILITY)).all()
    planted = set(faces["image_id"].iloc[wrong["ethnicity"]]) & set(found["image_id"])
    flagged = found[found["is_issue"]]
    assert (flagged["given"] != flagged["suggested"]).all()
    assert len(planted & set(flagged["image_id"])) > len(planted) / 2


def test_an_unsure_network_flags_nothing():
    rng = np.random.default_rng(0)
    given = rng.integers(0, 2, 400)
    faces = pd.DataFrame(
        {"image_id": [f"{k}.jpg" for k in range(400)], "age": np.nan, "gender": given, "ethnicity": -1}
    )
    scoring = predicted(np.full(400, 30.0), rng.uniform(0.2, 0.8, 400))
    assert not find_issues(faces, scoring, UTKFACE_ATTRIBUTES)["is_issue"].any()


def test_one_class_alone_can_be_scored():
    faces = pd.DataFrame({"image_id": list("abc"), "age": np.nan, "gender": 1, "ethnicity": -1})
    scoring = predicted(np.full(3, 30.0), np.array([0.9, 0.6, 0.01]))
    found = find_issues(faces, scoring, UTKFACE_ATTRIBUTES)
    assert found["is_issue"].tolist() == [False, False, True]
    assert found["score"].is_monotonic_decreasing and found["suggested"].tolist() == [1, 1, 0]


def test_the_age_score_is_the_chance_of_an_age_near_the_label():
    age_pred = np.linspace(20, 60, 400)
    residual = np.tile([1.5, -1.5], 200)  # years; their median is 0, that of their size 1.5
    residual[100:104] = 3, -3, 12, -30
    faces = pd.DataFrame({"image_id": [str(k) for k in range(400)], "gender": -1, "ethnicity": -1})
    scoring = predicted(age_pred, 0.5)
    found = find_issues(faces.assign(age=age_pred + residual), scoring, UTKFACE_ATTRIBUTES)
    near, far = ((residual + side) / (1.4826 * 1.5) for side in (-2.5, 2.5))
    expected = stats.t.cdf(far, df=4) - stats.t.cdf(near, df=4)
    np.testing.assert_allclose(found["score"], expected, rtol=1e-6, atol=1e-12)
    assert (found["is_issue"] == (expected < MAX_AGE_CHANCE)).all() and found["is_issue"].iloc[103]


def test_a_small_slip_where_ages_are_sure_is_no_worse_than_a_large_one_where_they_are_not():
    rng = np.random.default_rng(2)
    age_pred = np.concatenate([rng.uniform(0, 5, 2000), rng.uniform(60, 90, 2000)])
    residual = rng.normal(0, np.where(age_pred < 10, 1.0, 10.0))
    residual[[0, 2000]] = 5, 45  # five spreads of toddlers; four and a half of pensioners
    faces = pd.DataFrame({"image_id": range(4000), "age": age_pred + residual, "gender": -1, "ethnicity": -1})
    scoring = predicted(age_pred, 0.5)
    score = find_issues(faces, scoring, UTKFACE_ATTRIBUTES)["score"]
    assert score[2000] < score[0] < np.percentile(score, 20)


def test_a_face_whose_age_the_models_do_not_know_is_doubted_less():
    rng = np.random.default_rng(3)
    own = np.tile([2.0, 8.0], 2000)  # what the models say of each face, at the same ages
    age_pred = rng.uniform(30, 40, 4000)
    residual = rng.normal(0, 0.5 * own)  # they are twice as unsure as they need be
    residual[:2] = 8, 8
    faces = pd.DataFrame({"image_id": range(4000), "age": age_pred + residual, "gender": -1, "ethnicity": -1})
    scoring = predicted(age_pred, 0.5)
    alike = find_issues(faces, scoring, UTKFACE_ATTRIBUTES)["score"]
    assert alike[0] == pytest.approx(alike[1], rel=0.2)
    apart = find_issues(faces, scoring.assign(age_spread=own), UTKFACE_ATTRIBUTES)["score"]
    # Student's t of 8 years at a spread of about half of 2 years, and of half of 8.
    for score, near in zip(apart[:2], (1.0, 4.0), strict=True):
        low, high = (stats.t.cdf((8 + 2.5) / s, 4) - stats.t.cdf((8 - 2.5) / s, 4) for s in (0.8 * near, 1.25 * near))
        assert min(low, high) < score < max(low, high)
    assert apart[0] < apart[1] / 10


def test_photographs_doubted_in_several_attributes_come_first():
    issues = pd.DataFrame(
        [
            ("a", "gender", 0.2, True), ("a", "age", 0.03, True),
            ("b", "age", 0.001, True), ("b", "gender", 0.9, False),
            ("c", "age", 0.5, False), ("c", "gender", 0.1, True),
        ],
        columns=["image_id", "attribute", "score", "is_issue"],
    )  # fmt: skip
    joint = joint_suspicion(issues)
    # The scores of the two attributes do not compare, their ranks among three do.
    assert joint.to_numpy().tolist() == [
        ["a", 2, "age, gender", 2 / 3],
        ["b", 1, "age", 1 / 3],
        ["c", 1, "gender", 1 / 3],
    ]
    assert joint_suspicion(issues.assign(is_issue=False)).empty
    assert most_doubted(issues)["image_id"].tolist() == ["a", "b", "c"]
    assert most_doubted(issues, photographs=1)["image_id"].tolist() == ["a"]
    (finding,) = doubted_findings(issues)
    assert (finding.key, finding.estimate.value, finding.estimate.n) == ("labels.doubted", 4 / 6, 6)
    assert "2 of 3 gender labels" in finding.text and "1 image has" in finding.text
    assert doubted_findings(issues[:0]) == []


def test_suspicion_ranks_within_each_attribute(simulated):
    issues = simulated[3]
    first = issues.iloc[np.argsort(suspicion(issues), kind="stable")].head(30)
    assert first["attribute"].value_counts().to_dict() == {"age": 10, "gender": 10, "ethnicity": 10}


def test_without_a_label_there_is_an_empty_table():
    faces = pd.DataFrame({"image_id": ["a"], "age": [np.nan], "gender": [-1], "ethnicity": [-1]})
    scoring = predicted([30.0], 0.5)
    found = find_issues(faces, scoring, UTKFACE_ATTRIBUTES)
    assert found.empty and found["is_issue"].dtype == bool


def test_the_spread_of_ages_follows_the_noise_and_not_a_few_wrong_labels():
    rng = np.random.default_rng(0)
    age_pred = rng.uniform(0, 80, 4000)
    sd_years = np.where(age_pred < 40, 2.0, 8.0)
    residual = rng.normal(0, sd_years)
    residual[rng.choice(4000, 100, replace=False)] += 60
    spread = age_spread(age_pred, residual)
    assert np.median(spread[age_pred < 35]) == pytest.approx(2, rel=0.15)
    assert np.median(spread[age_pred > 45]) == pytest.approx(8, rel=0.15)
    assert (age_spread(age_pred, np.zeros(4000)) == 0.5).all()  # never so small that every residual is an issue
