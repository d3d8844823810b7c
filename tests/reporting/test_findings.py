"""What a run is said to have found: by the numbers, and by no more than they support."""

import pytest

from facelib.reporting import findings
from facelib.runs import RunFolder, start_run
from facelib.statistics import Estimate


def group(name: str, n: int, accuracy: tuple | None, mae: tuple | None = None, bias: tuple | None = None) -> dict:
    """A row of notebook 05's group tables; a masked number is None."""
    row = {"age_band": name, "n": n}
    for column, numbers in (("gender_accuracy", accuracy), ("mae", mae), ("bias", bias)):
        value, low, high = numbers or (None, None, None)
        row |= {column: value, f"{column}_low": low, f"{column}_high": high}
    return row


def count(n: int) -> Estimate:
    return Estimate(n, n, n, n)


def fill(run: RunFolder, mae: Estimate, groups: list[dict], share: Estimate, leaks: int = 0) -> None:
    """Metrics of all notebooks, as they write them."""
    ages = {"min": 1.0, "50%": 29.0, "max": 90.0}
    run.save_metrics("01_explore", {"data.images": count(1320), "data.rejected": count(3)}, thin_cells=7, ages=ages)
    audit = {"audit.contradicting_groups": Estimate(0.25, 0.1, 0.4, 40, "share"), "splits.leaking_pairs": count(leaks)}
    noise = [
        {"attribute": "age", "assumption": "none", **Estimate(3.93, 3.5, 4.3, 40, "years").to_dict()},
        {"attribute": "age", "assumption": "one of two is right", **Estimate(1.97, 1.7, 2.2, 40, "years").to_dict()},
        {"attribute": "gender", "assumption": "none", **Estimate(0.06, 0.04, 0.08, 40, "share").to_dict()},
    ]
    run.save_metrics("02_clean", audit, random_split_pairs=12.4, label_noise=noise)
    headline = {
        "test.age.mae": mae,
        "test.gender.accuracy": Estimate(0.93, 0.91, 0.95, 158, "share"),
        "test.age.interval_coverage": Estimate(0.9, 0.85, 0.94, 158, "share"),
    }
    details = {
        "baselines": [
            {"metric": "age.mae", **Estimate(15.2, 14, 16, 158, "years").to_dict()},
            {"metric": "gender.accuracy", **Estimate(0.52, 0.45, 0.6, 158, "share").to_dict()},
        ],
        "claims": [
            {"claim": name, "answer": answer, **dict.fromkeys(("value", "low", "high", "smallest_effect"))}
            for name, answer in zip("abc", ("found", "cannot tell", "found"), strict=True)
        ],
        "claims_standardised": [{"claim": "a", "answer": "not found"}, {"claim": "b", "answer": "cannot tell"}],
        "groups": {"age_band": groups},
        "calibration_error": {"gender": 0.02},
    }
    run.save_metrics("05_evaluate_bias", headline, **details)
    answers = (("layer_cam", "better"), ("layer_cam", "better"), ("lime", "better"), ("lime", "cannot tell"))
    paired = [{"head": "age", "method": method, "answer": answer} for method, answer in answers]
    shuffled = [{"head": "age", "method": "layer_cam", "answer": "changes"}]
    details = {"area": {"background": 0.28}, "against_baselines": paired, "random_weights": shuffled}
    run.save_metrics("07_explain", {"explain.age.background_share": share}, **details)


@pytest.fixture
def run(empty_runs) -> RunFolder:
    return start_run("small", "smoke")


def told(run: RunFolder) -> dict[str, findings.Answer]:
    return {answer.question: answer for answer in findings.answers(run)}


def test_clear_numbers_give_clear_answers(run):
    bands = [group("0-4", 20, (0.6, 0.5, 0.7)), group("30-45", 60, (0.98, 0.95, 0.99)), group("75+", 2, None)]
    fill(run, Estimate(4.857, 4.5, 5.2, 158, "years"), bands, Estimate(0.17, 0.15, 0.19, 100, "share"))
    answers = told(run)
    assert len(answers) == 6
    assert answers["What data?"].finding == "1,320 synthetic faces drawn by the package."
    assert "Ages 1 to 90 years, median 29" in answers["What data?"].details
    assert answers["What was wrong with it?"].finding == (
        "40 groups of copies; two labels of one photograph differ by 3.93 y of age on average and in gender for 6.0 %."
    )
    assert "12 pairs" in answers["What was wrong with it?"].details[0]
    good = answers["How good is the model?"]
    assert good.finding == "Age is off by 4.86 y on average; age and gender better than without looking."
    assert "Age: mean absolute error: 4.86 y (4.50 y to 5.20 y)" in good.details
    worse = answers["For whom is it worse?"]
    assert worse.finding == "Worst for ages 0-4 (gender accuracy)."
    assert "Gender accuracy: 60.0 % for ages 0-4 (n = 20), 98.0 % for ages 30-45 (n = 60)" in worse.details
    counts = "2 found, 1 cannot tell; at one age mix “a” goes from found to not found"
    assert f"Claims of an earlier analysis: {counts}" in worse.details
    assert answers["What does it look at?"].finding == "More at the face than its area, by LayerCAM, for age."
    assert "More faithful than edges and noise: layer-cam for age" in answers["What does it look at?"].details
    assert answers["Can I trust these numbers?"].finding.endswith("The numbers say nothing about people.")


def by_gender(ages: str, gender: str, mae: tuple | None) -> dict:
    """A row of the table of ages crossed with genders."""
    return group(ages, 60, (0.9, 0.8, 0.95), mae) | {"gender_name": gender}


def test_what_cancels_on_average_is_said(run):
    bands = [
        group("18-29", 90, (0.97, 0.95, 0.99), (3.1, 2.9, 3.3), (1.9, 1.7, 2.1)),
        group("30-45", 60, (0.98, 0.95, 0.99), (5.6, 5.0, 6.2), (-0.5, -1.2, 0.2)),
        group("75+", 40, (0.96, 0.9, 0.99), (10.0, 8.0, 12.0), (-8.1, -10.5, -5.7)),
        group("60-74", 3, None),
    ]
    fill(run, Estimate(4.7, 4.5, 4.9, 193, "years"), bands, Estimate(0.17, 0.15, 0.19, 100, "share"))
    measured = run.load_metrics("05_evaluate_bias")
    measured["details"]["groups"]["age_band x gender_name"] = [
        by_gender("18-29", "female", (3.0, 2.7, 3.3)),
        by_gender("18-29", "male", (3.2, 2.9, 3.5)),
        by_gender("46-59", "female", (8.5, 7.3, 9.7)),
        by_gender("46-59", "male", (5.9, 5.3, 6.6)),
        by_gender("75+", "female", (20.0, 15.0, 25.0)),
        by_gender("75+", "male", None),
    ]
    measured["details"]["coverage_by_age"] = [
        {"group": "75+", "kind": "plain", "n": 40, "value": 0.6, "low": 0.5, "high": 0.7},
        {"group": "75+", "kind": "by predicted age", "n": 40, "value": 0.79, "low": 0.7, "high": 0.86},
        {"group": "30-45", "kind": "by predicted age", "n": 60, "value": 0.85, "low": 0.8, "high": 0.9},
        {"group": "60-74", "kind": "by predicted age", "n": 1, "value": 0.0, "low": 0.0, "high": 0.9},
    ]
    headline = {key: Estimate(**value) for key, value in measured["headline"].items()}
    headline["test.ethnicity.accuracy"] = Estimate(0.855, 0.84, 0.87, 193, "share")
    run.save_metrics("05_evaluate_bias", headline, **measured["details"])
    answers = told(run)
    worse = answers["For whom is it worse?"].details
    assert "On average ages 75+ are predicted 8.1 y too young and ages 18-29 are predicted 1.9 y too old" in worse
    assert "Age error by gender label at one age: 8.5 y for female and 5.9 y for male at 46-59" in worse
    assert any(
        "least at ages 75+: 79.0 % (70.0 % to 86.0 %)" in line for line in answers["Can I trust these numbers?"].details
    )
    short = findings.in_short(run, versions=3)
    assert "faces labelled female at 46-59 (age error 8.5 y, male 5.9 y)" in short and "18-29 (age error" not in short
    assert "ages 75+ are predicted 8.1 years too young" in short and "scored 2 other versions" in short
    assert "scored 1 other version of it" in findings.in_short(run, versions=2)
    assert "other version" not in findings.in_short(run)
    assert "age intervals held 90.0 % of the labels, fewest at ages 75+ (79 %)" in short


def test_unclear_numbers_give_no_finding(run):
    bands = [group("0-4", 5, (0.4, 0.1, 0.8), (9.5, 6.0, 12.0)), group("30-45", 7, (0.7, 0.4, 0.9), (6.25, 4.0, 8.0))]
    fill(run, Estimate(15.0, 13.5, 16.5, 158, "years"), bands, Estimate(0.27, 0.2, 0.34, 10, "share"))
    answers = told(run)
    assert answers["How good is the model?"].finding.endswith("; gender better than without looking.")
    assert "Not shown to be better than without looking: age" in answers["How good is the model?"].details
    assert answers["For whom is it worse?"].finding == "No group can be told to be worse: too few faces."
    assert "9.50 y for ages 0-4 (n = 5), 6.25 y for ages 30-45" in answers["For whom is it worse?"].details[0]
    assert answers["What does it look at?"].finding == "That cannot be told."


def test_bad_news_is_said(run):
    fill(run, Estimate(17.0, 16.5, 18, 158, "years"), [], Estimate(0.5, 0.4, 0.6, 100, "share"), leaks=4)
    answers = told(run)
    assert answers["Can I trust these numbers?"].finding.startswith("4 pairs of copies lie on both sides")
    assert answers["What does it look at?"].finding.startswith("Past the face, for age")
    assert findings.beats_baseline(run) == {"age": "worse", "gender": "better"}


@pytest.mark.parametrize("lacking", ["against_baselines", "random_weights"])
def test_a_map_that_could_be_had_without_the_network_tells_nothing(run, lacking):
    share = Estimate(0.17, 0.15, 0.19, 100, "share")
    fill(run, Estimate(4.857, 4.5, 5.2, 158, "years"), [], share)
    explained = run.load_metrics("07_explain")
    explained["details"][lacking] = [{**row, "answer": "cannot tell"} for row in explained["details"][lacking]]
    run.save_metrics("07_explain", {"explain.age.background_share": share}, **explained["details"])
    looks = told(run)["What does it look at?"]
    assert looks.finding == "That cannot be told." and any(
        "For age the LayerCAM maps say nothing" in line for line in looks.details
    )


def test_labels_without_age_differ_in_what_there_is(run):
    fill(run, Estimate(4.9, 4.5, 5.2, 158, "years"), [], Estimate(0.17, 0.15, 0.19, 100, "share"))
    measured = run.load_metrics("02_clean")
    noise = [row for row in measured["details"]["label_noise"] if row["attribute"] == "gender"]
    headline = {key: Estimate(**value) for key, value in measured["headline"].items()}
    run.save_metrics("02_clean", headline, label_noise=noise)
    found = told(run)["What was wrong with it?"].finding
    assert found == "40 groups of copies; two labels of one photograph differ in gender for 6.0 %."
    run.save_metrics("02_clean", headline, label_noise=[])
    assert told(run)["What was wrong with it?"].finding == "40 groups of copies."


def test_masked_groups_are_too_few_and_no_groups_are_elsewhere(run):
    share = Estimate(0.17, 0.15, 0.19, 100, "share")
    fill(run, Estimate(4.9, 4.5, 5.2, 158, "years"), [group("0-4", 2, None), group("75+", 3, None)], share)
    assert told(run)["For whom is it worse?"].finding == "No group can be told to be worse: too few faces."
    details = run.load_metrics("05_evaluate_bias")["details"] | {"groups": {}}
    headline = {"test.age.mae": Estimate(4.9, 4.5, 5.2, 158, "years")}
    run.save_metrics("05_evaluate_bias", headline, **details)
    assert told(run)["For whom is it worse?"].finding == "Which groups differ is in notebook 05."


def test_a_run_that_has_only_begun_answers_nothing(run):
    assert findings.answers(run) == []


def test_photographs_are_not_called_synthetic(empty_runs, tmp_path):
    run = start_run("real", "smoke", str(tmp_path))
    fill(run, Estimate(4.9, 4.5, 5.2, 158, "years"), [], Estimate(0.17, 0.15, 0.19, 100, "share"))
    texts = " ".join(f"{answer.finding} {answer.details}" for answer in findings.answers(run))
    assert "Different photographs of one person may." in texts
    assert "synthetic" not in texts and "say nothing about people" not in texts and "1,320 labelled faces" in texts


@pytest.mark.parametrize(
    ("standardised", "named", "said"),
    [
        ((0.02, 0.1), True, ""),
        ((-0.06, 0.03), False, "; at the same ages cannot tell"),
        ((None, None), False, "; at the same ages cannot tell"),
        ((-0.1, -0.02), False, "; at the same ages reversed"),
    ],
)
def test_a_group_that_is_only_of_another_age_is_not_called_worse(run, standardised, named, said):
    fill(run, Estimate(4.7, 4.5, 4.9, 400, "years"), [], Estimate(0.17, 0.15, 0.19, 100, "share"))
    measured = run.load_metrics("05_evaluate_bias")
    labels = (("Asian", (0.88, 0.85, 0.91)), ("Black", (0.96, 0.94, 0.98)), ("White", (0.93, 0.9, 0.95)))
    measured["details"]["groups"]["ethnicity_name"] = [
        group("", 100, accuracy) | {"ethnicity_name": name} for name, accuracy in labels
    ]
    ends = dict(zip(("standardised_low", "standardised_high"), standardised, strict=True))
    measured["details"]["explained_by_age"] = [
        {"by": "gender", "metric": "gender_accuracy", "lowest": "female", "highest": "male"} | dict.fromkeys(ends, 0.0),
        {"by": "ethnicity", "metric": "gender_accuracy", "lowest": "Asian", "highest": "Black"} | ends,
    ]
    headline = {key: Estimate(**value) for key, value in measured["headline"].items()}
    headline["test.ethnicity.accuracy"] = Estimate(0.855, 0.84, 0.87, 400, "share")
    run.save_metrics("05_evaluate_bias", headline, **measured["details"])
    worse = told(run)["For whom is it worse?"]
    assert ("the label Asian" in worse.finding) is named
    assert worse.finding.endswith("or a gap that its ages may explain.") is not named
    assert ("the label Asian" in findings.in_short(run)) is named
    assert "Gender accuracy: 88.0 % for the label Asian (n = 100), 96.0 % for the label Black (n = 100)" + said in (
        worse.details
    )
