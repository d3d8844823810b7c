"""The comparison with published numbers holds the run's own, with interval, n and protocol."""

import pandas as pd
import pytest

from facelib.publication.published_numbers import ALL_AGES, CORAL_21_60, comparison_table, ours, published
from facelib.runs import start_run
from facelib.schema import AGE, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Estimate

YEARS = ("age.mae", "age.mae_le45", "age.mae_gt45")
SHARES = ("age_stages.bin_accuracy", "gender.accuracy", "gender.accuracy_age5plus", "ethnicity.accuracy")


@pytest.fixture
def run(empty_runs):
    run = start_run("own", "smoke", overrides={"image_px": 96})
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    results = {f"test.{key}": Estimate(k + 0.5, k + 0.25, k + 0.75, 1234, "years") for k, key in enumerate(YEARS, 1)}
    results |= {f"test.{key}": Estimate(k / 10, 0.05, 0.95, 1200, "share") for k, key in enumerate(SHARES, 4)}
    run.notebook("05_evaluate").save(results | {"validation.age.mae": Estimate(1, 1, 1, 9999)})
    return run


def test_the_first_row_is_the_run_itself(run):
    head, _, own, *others = comparison_table(run).splitlines()
    assert "96 px, one test face per group of copies, n = 1,234 | none |" in own
    cells = [cell.strip() for cell in own.strip("|").split("|")]
    titles = [cell.strip() for cell in head.strip("|").split("|")]
    age, gender, ethnicity, bins = cells[3:]
    assert titles[3:] == ["age error (years)", "gender", "ethnicity", "six age bins"]
    assert age == (
        "**1.50 y (1.25 to 1.75)**; error up to 45 years: 2.50 y (2.25 to 2.75); "
        "error over 45 years: 3.50 y (3.25 to 3.75)"
    )
    assert gender.startswith("**50.0 % (5.0 to 95.0)**; ") and "60.0 %" in gender
    assert ethnicity == "**70.0 % (5.0 to 95.0)**" and bins == "**40.0 % (5.0 to 95.0)**"
    assert len(others) == len(published(ALL_AGES)) and {line.count("|") for line in (head, own, *others)} == {8}


def test_a_published_split_is_named(run):
    run.update_params(protocol={"name": "coral_21_60", "path": "/x", "digest": "0" * 20})
    assert "lists of coral_21_60" in ours(run)["protocol"]


def test_a_run_is_compared_in_what_it_learns(run):
    smile = ClassAttribute("smile", classes=("no", "yes"))
    run.set_attributes((AGE, GENDER, smile), (AGE, smile))
    run.notebook("05_evaluate").save(run.results() | {"test.smile.accuracy": Estimate(0.9, 0.8, 0.95, 99, "share")})
    own = ours(run)
    assert own["smile"] == "**90.0 % (80.0 to 95.0)**" and "gender" not in own
    assert "| smile |" in comparison_table(run).splitlines()[0]


@pytest.mark.parametrize("table", [ALL_AGES, CORAL_21_60])
def test_every_published_row_names_its_protocol_and_start_and_a_number(table):
    rows = published(table)
    assert len(rows) and (rows[["who", "protocol", "start"]] != "").all(axis=None)
    numbers = rows.drop(columns=["who", "protocol", "start"])
    assert (numbers != "").any(axis=1).all() and numbers.map(lambda cell: isinstance(cell, str)).all(axis=None)


def test_numbers_of_published_lists_are_not_those_of_all_ages():
    both = pd.concat([published(ALL_AGES), published(CORAL_21_60)])
    assert not both.duplicated(["who", "age"]).any() and (published(CORAL_21_60)["age"] != "").all()
