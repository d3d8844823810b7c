"""What is shown of a run: the findings of the right keys in order, numbers with interval and n, nothing invented."""

import dataclasses

import pytest

from facelib.evaluation.headline import expected_keys, metrics_of
from facelib.finding import Finding
from facelib.reporting import findings
from facelib.schema import AGE, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Estimate

SMILE = ClassAttribute("smile", classes=("no", "yes"))


def test_questions_are_answered_by_findings_of_their_keys(filled):
    answers = {answer.question: answer for answer in findings.answers(filled)}
    assert [answer.lead.key for answer in answers.values()] == [row.lead for row in findings.QUESTIONS]
    good = answers["How good is the model?"]
    assert [finding.key for finding in good.details] == ["test.age", "test.gender", "test.ethnicity"]
    assert good.lead == filled.findings()["test.baselines"] and good.notebook == "05_evaluate"
    assert [finding.key for finding in answers["What data?"].details] == ["data.ages", "data.imbalance"]


def test_a_question_without_its_finding_is_left_out(begun):
    assert findings.answers(begun) == []
    begun.notebook("01_explore").save({}, [Finding("data.faces", "9 faces.", n=9), Finding("odd", "Odd.", n=1)])
    (answer,) = findings.answers(begun)
    assert answer.lead.text == "9 faces." and answer.details == ()


def test_a_run_of_another_attribute_is_shown_by_its_own_findings(begun, fill):
    begun.set_attributes((AGE, SMILE), (SMILE,))
    fill(begun)
    good = next(answer for answer in findings.answers(begun) if answer.question == "How good is the model?")
    assert [finding.key for finding in good.details] == ["test.smile"]
    assert findings.title(begun) == "Smile from faces"
    assert [row["name"] for row in findings.headline_rows(begun)] == ["Smile: accuracy"]
    assert {"name": "Smile labels flagged by out-of-fold models", "value": "7"} in findings.data_rows(begun)


def test_the_title_names_what_is_learned(begun):
    assert findings.title(begun) == "Age, gender and ethnicity from faces"
    begun.set_attributes(UTKFACE_ATTRIBUTES, (AGE, GENDER))
    assert findings.title(begun) == "Age and gender from faces"


def test_headline_rows_carry_interval_n_baseline_and_the_cleaned_value(filled):
    filled.notebook("04_age_two_stage").save({"by_time.age.mae": Estimate(6.5, 6, 7, 9, "years")})
    age, gender, _ = findings.headline_rows(filled)
    expected = {"name": "Age: mean absolute error", "value": "4.86 y", "interval": "4.50 to 5.20"}
    assert age == expected | {
        "key": "age.mae",
        "of": "age",
        "n": "1,234",
        "cleaned": "4.70 y",
        "baseline": "15.20 y",
        "by_time": "6.50 y",
    }
    assert findings.scores_in_brief(filled).startswith("Age error 4.86 y; Gender 91.2 %")
    assert gender["by_time"] == "" and "| 6.50 y |" in findings.markdown_summary([age])
    assert "time" not in findings.markdown_summary([gender])
    assert (gender["value"], gender["interval"], gender["cleaned"]) == ("91.2 %", "90.0 to 93.0", "")


def test_each_data_set_has_a_row_below_that_of_all(begun):
    begun.set_attributes((GENDER, SMILE), (GENDER, SMILE))
    keys = "test.gender", "test_a.gender", "test_b.gender", "test_cleaned.gender", "test.smile", "test_b.smile"
    sizes = dict.fromkeys(keys, 9) | {"test_b.gender": 5, "by_time.gender": 5}
    measured = {f"{key}.accuracy": Estimate(0.5, 0.4, 0.6, n, "share") for key, n in sizes.items()}
    begun.notebook("05_evaluate").save(measured)
    rows = {row["name"]: row["by_time"] for row in findings.headline_rows(begun)}
    assert list(rows) == ["Gender: accuracy", "Gender: accuracy, a", "Gender: accuracy, b", "Smile: accuracy, b"]
    assert list(rows.values()) == ["", "", "50.0 %", ""]  # b alone has stamps


def test_every_expected_metric_has_a_row_and_some_can_be_chosen(begun):
    keys = [key for key in expected_keys(begun.learned) if key.startswith("test.")]
    begun.notebook("05_evaluate").save({key: Estimate(0.5, 0.4, 0.6, 9, "share") for key in keys})
    metrics = [metric for attribute in begun.learned for metric in metrics_of(attribute)]
    titles = [metric.title for metric in metrics if f"test.{metric.key}" in keys]  # no bands without labels in bands
    assert [row["name"] for row in findings.headline_rows(begun)] == titles and len(titles) == len(keys)
    chosen = [row["name"] for row in findings.headline_rows(begun, ("accuracy", "mae"))]
    assert chosen == ["Age: mean absolute error", "Gender: accuracy", "Ethnicity: accuracy"]


def test_an_attribute_s_lead_is_its_first_metric():
    assert [metrics_of(attribute)[0].key for attribute in (AGE, GENDER, SMILE)] == [
        "age.mae", "gender.accuracy", "smile.accuracy",
    ]  # fmt: skip


def test_claims_stand_beside_their_answer_at_one_age_mix(filled):
    (claim,) = findings.claim_rows(filled)
    assert (claim["answer"], claim["same_ages"]) == ("inconclusive", "not supported")
    assert (claim["value"], claim["interval"], claim["smallest"], claim["n"]) == ("0.012", "-0.020 to 0.040", "n/a", 77)


def test_data_rows_are_in_per_cent_and_numbers(filled):
    rows = {row["name"]: row["value"] for row in findings.data_rows(filled)}
    assert rows["Faces used"] == "1,320" and rows["Pairs of detected copies across the split"] == "0"
    assert [value for name, value in rows.items() if name.startswith("Share of copy groups")] == ["25.0 %"]


@pytest.mark.parametrize("name", ["a|b", "<b>x</b>"])
def test_the_summary_is_a_table_whatever_an_attribute_is_called(begun, name):
    odd = dataclasses.replace(SMILE, name=name)
    begun.set_attributes((odd,), (odd,))
    begun.notebook("05_evaluate").save({f"test.{name}.accuracy": Estimate(0.9, 0.8, 0.95, 1234, "share")})
    *_, row = findings.markdown_summary(findings.headline_rows(begun)).splitlines()
    assert row.replace("\\|", "").count("|") == 6 and "<b>" not in row
    assert row.endswith("| 90.0 % | 80.0 to 95.0 | 1,234 |  |")


def test_provenance_holds_what_a_second_run_needs(filled):
    facts = findings.provenance(filled)
    assert facts["Seed"] == 0 and "epochs 2" in facts["Settings"] and "torch" in facts["Versions"]
    assert facts["Split"] == "its own" and "Restored" not in facts
    filled.update_params(
        restored="with photographs", protocol={"name": "lists", "path": "/data/lists", "digest": "0" * 20}
    )
    facts = findings.provenance(filled)
    assert "lists" in facts["Split"] and "0" * 20 in facts["Split"] and facts["Restored"].endswith("with photographs")
