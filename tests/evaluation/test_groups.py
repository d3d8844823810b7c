"""Group tables recomputed on masks, and which groups are called worse."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation.groups import (
    age_findings,
    bias_directions,
    children,
    children_finding,
    compared_rows,
    comparison_findings,
    comparisons,
    coverage_findings,
    group_metrics,
    group_table,
    group_tables,
    groupings,
    large_groups,
    numbers,
    source_tables,
    stacked,
)
from facelib.evaluation.standardised import source_comparisons
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Bootstrap, Estimate

SMILE = ClassAttribute("smile", classes=("no", "yes"))
FEW = Bootstrap(20)


def simulate(n: int = 300, seed: int = 0, attributes=UTKFACE_ATTRIBUTES) -> pd.DataFrame:
    """An evaluation frame whose errors have nothing to do with who is shown; some labels are unknown."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.integers(1, 90, n).astype(float), "group_id": np.arange(n)})
    frame["age_pred"] = frame["age"] + rng.integers(-9, 10, n)
    for attribute in attributes[1:]:
        name, k = attribute.name, len(attribute.classes)
        frame[name] = rng.integers(0, k, n).astype(float)
        frame[attribute.prediction] = np.where(rng.random(n) < 0.1, (frame[name] + 1) % k, frame[name])
        frame.loc[frame.index % 13 == k, name] = np.nan
    frame.loc[::17, "age"] = np.nan
    return frame.assign(**{attribute.group_column: attribute.groups(frame[attribute.name]) for attribute in attributes})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return simulate()


# --- tables -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [["gender_name"], ["age_band"], ["ethnicity_name", "age_band"]])
def test_group_tables_equal_their_recomputation(by, frame):
    table = group_table(frame, by, UTKFACE_ATTRIBUTES, FEW, min_group=1)
    known = frame.dropna(subset=["age", "gender", "ethnicity"])
    assert table["n"].sum() == len(known) < len(frame)
    for _, row in table.iterrows():
        part = known[np.logical_and.reduce([known[name].astype(str) == row[name] for name in by])]
        assert row["n"] == len(part) > 0
        assert row["age_mae"] == pytest.approx((part["age_pred"] - part["age"]).abs().mean())
        assert row["age_bias"] == pytest.approx((part["age_pred"] - part["age"]).mean())
        assert row["gender_accuracy"] == pytest.approx((part["gender"] == part["gender_pred"]).mean())
        assert row["ethnicity_accuracy"] == pytest.approx((part["ethnicity"] == part["ethnicity_pred"]).mean())
        assert row["gender_accuracy_low"] <= row["gender_accuracy"] <= row["gender_accuracy_high"]


def test_small_groups_keep_their_count_and_lose_their_metrics(frame):
    whole = group_table(frame, ["age_band"], UTKFACE_ATTRIBUTES, FEW, min_group=1)
    limit = int(whole["n"].median()) + 1
    table = group_table(frame, ["age_band"], UTKFACE_ATTRIBUTES, FEW, min_group=limit)
    assert table["n"].tolist() == whole["n"].tolist()
    small = table["n"] < limit
    assert small.any() and not small.all()
    measured = [name for name in table if name not in ("age_band", "n")]
    assert len(measured) == 12 and (table[measured].isna().all(axis=1) == small).all()


def test_groups_are_in_order_of_age_and_of_the_classes(frame):
    tables = group_tables(frame, UTKFACE_ATTRIBUTES, FEW, min_group=1)
    assert tables["age_band"]["age_band"].tolist() == ["0-4", "5-17", "18-29", "30-45", "46-59", "60-74", "75+"]
    assert tables["ethnicity_name"]["ethnicity_name"].tolist() == list(ETHNICITY.classes)
    crossed = tables["gender_name x ethnicity_name"]
    assert crossed["gender_name"].tolist() == ["male"] * 5 + ["female"] * 5


def test_an_attribute_without_labels_or_predictions_leaves_the_others_their_numbers(frame):
    for without in (frame.assign(gender=np.nan), frame.assign(gender_pred=np.nan)):
        table = group_table(without, ["ethnicity_name"], UTKFACE_ATTRIBUTES, FEW, 5).set_index("ethnicity_name")
        assert "gender_accuracy" not in table
        rows = without.dropna(subset=["age", "ethnicity"])
        assert table["n"].sum() == len(rows)
        for name, group in rows.groupby("ethnicity_name", observed=True):
            assert table.loc[name, "age_mae"] == pytest.approx((group["age"] - group["age_pred"]).abs().mean())


def test_groups_are_made_of_the_labels_that_there_are(frame):
    names = ["age_band", "gender_name", "ethnicity_name"]
    pairs = [["age_band", "gender_name"], ["age_band", "ethnicity_name"], ["gender_name", "ethnicity_name"]]
    assert groupings(frame, UTKFACE_ATTRIBUTES) == [[name] for name in names] + pairs
    unlabelled = groupings(frame.assign(ethnicity_name=np.nan), UTKFACE_ATTRIBUTES)
    assert unlabelled == [["age_band"], ["gender_name"], ["age_band", "gender_name"]]
    half = np.arange(len(frame)) % 2 == 0  # the labels of two sets of faces: no row has both
    apart = frame.assign(age=frame["age"].where(half), gender=frame["gender"].mask(half))
    assert ["age_band", "gender_name"] in groupings(apart, UTKFACE_ATTRIBUTES)
    measured, rows = compared_rows(apart, ["ethnicity_name"], UTKFACE_ATTRIBUTES)  # what is never labelled beside ages
    assert [metric.key for metric in measured] == ["age_mae", "age_bias", "ethnicity_accuracy"]  # no intervals
    assert rows["age"].notna().all() and 0 < len(rows) <= half.sum()


@pytest.mark.slow
def test_a_fourth_attribute_is_a_group_and_has_a_metric():
    attributes = (*UTKFACE_ATTRIBUTES, SMILE)
    tables = group_tables(simulate(attributes=attributes), attributes, FEW, min_group=5)
    assert len(tables) == 10 and set(tables["smile_name"]["smile_name"]) == {"no", "yes"}
    assert "smile_accuracy" in tables["age_band"] and "gender_name x smile_name" in tables
    assert [metric.key for metric in group_metrics((AGE, SMILE))] == [
        "age_mae", "age_bias", "age_coverage", "smile_accuracy",
    ]  # fmt: skip


def test_stacked_tables_keep_each_groupings_rows(frame):
    tables = group_tables(frame, UTKFACE_ATTRIBUTES, FEW, min_group=1)
    table = stacked(tables)
    assert table["grouping"].value_counts().to_dict() == {name: len(part) for name, part in tables.items()}
    assert list(table)[:5] == ["grouping", "age_band", "gender_name", "ethnicity_name", "n"]
    assert table.loc[table["grouping"] == "age_band", "gender_name"].isna().all()
    assert list(stacked({})) == ["grouping", "n"]


def test_large_groups_have_names_and_enough_rows(frame):
    large, names = large_groups(frame.dropna(), ["gender_name", "ethnicity_name"], 20)
    assert len(large) == len(names) and names.value_counts().min() >= 20
    assert (names == large["gender_name"].astype(str) + ", " + large["ethnicity_name"].astype(str)).all()


# --- for whom it is worse ---------------------------------------------------------------------------------


def table_of(column: str, rows: dict[str, tuple], metric: str) -> pd.DataFrame:
    """A group table of one metric: n, value, low, high by group; a masked number is nan."""
    ends = ["n", metric, f"{metric}_low", f"{metric}_high"]
    return pd.DataFrame.from_dict(rows, "index", columns=ends).rename_axis(column).reset_index()


ACCURACY = {"0-4": (20, 0.6, 0.5, 0.7), "30-45": (60, 0.98, 0.95, 0.99), "75+": (2, np.nan, np.nan, np.nan)}


def test_the_worst_and_the_best_group_are_compared_without_masked_ones():
    tables = {"age_band": table_of("age_band", ACCURACY, "gender_accuracy")}
    row = comparisons(tables, (AGE, GENDER)).iloc[0]
    assert row[["attribute", "what", "by", "worst", "best"]].tolist() == [
        "gender", "Gender accuracy", "age band", "ages 0-4", "ages 30-45",
    ]  # fmt: skip
    assert row["worst_value"] == Estimate(0.6, 0.5, 0.7, 20, "share") and row["best_value"].n == 60
    assert row["apart"] and row["stands"] and row["same_ages"] == ""
    lead, gender = comparison_findings(comparisons(tables, (AGE, GENDER)), 82)
    assert (lead.key, lead.n, gender.key) == ("groups.worst", 82, "groups.gender")
    assert "ages 0-4" in lead.text and "60.0 %" in lead.text and "98.0 %" in lead.text
    assert "n = 20" in gender.text and "n = 60" in gender.text


def test_the_largest_age_error_is_the_worst():
    rows = {"0-4": (9, 2.0, 1.5, 2.5), "75+": (9, 8.0, 7.0, 9.0)}
    row = comparisons({"age_band": table_of("age_band", rows, "age_mae")}, (AGE,)).iloc[0]
    assert (row["worst"], row["best"], row["worst_value"].text) == ("ages 75+", "ages 0-4", "8 y")


def test_overlapping_intervals_and_masked_groups_are_not_called_worse():
    rows = {"0-4": (5, 0.4, 0.1, 0.8), "30-45": (7, 0.7, 0.4, 0.9)}
    compared = comparisons({"age_band": table_of("age_band", rows, "gender_accuracy")}, (AGE, GENDER))
    assert not compared["apart"].any() and not compared["stands"].any()
    lead, _ = comparison_findings(compared, 12)
    assert lead.text == "No group is shown to be worse."
    rows = {"0-4": (5, *[np.nan] * 3), "30-45": (7, 0.7, 0.4, 0.9)}
    assert comparisons({"age_band": table_of("age_band", rows, "gender_accuracy")}, (AGE, GENDER)).empty
    assert len(comparison_findings(comparisons({}, (AGE, GENDER)), 0)) == 1


@pytest.mark.parametrize(("least", "worse"), [((0.86, 0.84, 0.88), True), ((0.89, 0.86, 0.91), False)])
def test_intervals_that_keep_their_promise_do_not_make_a_group_worse(least, worse):
    rows = {"0-4": (900, 0.99, 0.98, 1.0), "30-45": (900, *least)}
    compared = comparisons({"age_band": table_of("age_band", rows, "age_coverage")}, (AGE,))
    assert compared["stands"].all()
    lead, _ = comparison_findings(compared, 1800)
    assert ("30-45" in lead.text) == worse
    assert worse or lead.text == "No group is shown to be worse."


@pytest.mark.parametrize(
    ("standardised", "same_ages"),
    [
        ((0.02, 0.1), "yes"),
        ((-0.06, 0.03), "inconclusive"),
        ((np.nan, np.nan), "inconclusive"),
        ((-0.1, -0.02), "reversed"),
    ],
)
def test_a_group_that_is_only_of_another_age_is_not_called_worse(standardised, same_ages):
    labels = {"Asian": (100, 0.88, 0.85, 0.91), "Black": (100, 0.96, 0.94, 0.98), "White": (100, 0.93, 0.9, 0.95)}
    tables = {"ethnicity_name": table_of("ethnicity_name", labels, "gender_accuracy")}
    ends = dict(zip(("standardised_low", "standardised_high"), standardised, strict=True))
    other = {"by": "gender", "metric": "gender_accuracy", "lowest": "Asian", "highest": "Black"}
    gap = {"by": "ethnicity", "metric": "gender_accuracy", "lowest": "Asian", "highest": "Black"}
    explained = pd.DataFrame([other | dict.fromkeys(ends, 0.5), gap | ends])
    compared = comparisons(tables, UTKFACE_ATTRIBUTES, explained)
    assert compared["same_ages"].tolist() == [same_ages] and compared["apart"].all()
    assert compared["stands"].tolist() == [same_ages == "yes"]
    lead, gender = comparison_findings(compared, 300)
    assert ("faces labelled Asian" in lead.text) == (same_ages == "yes")
    assert lead.text.endswith("worse: ages may explain the gaps.") != (same_ages == "yes")
    assert ("equal ages" in gender.text) == (same_ages != "yes")
    # Of another pair of groups it says nothing.
    elsewhere = comparisons(tables, UTKFACE_ATTRIBUTES, explained.assign(lowest="White"))
    assert elsewhere["same_ages"].tolist() == [""]


def test_each_measure_is_compared_by_the_groups_that_it_is_about(frame):
    tables = group_tables(frame, UTKFACE_ATTRIBUTES, FEW, min_group=1)
    compared = comparisons(tables, UTKFACE_ATTRIBUTES)
    pairs = list(zip(compared["what"], compared["by"], strict=True))
    groups = ("age band", "gender", "ethnicity")
    assert pairs == [(what, by) for what in ("Age error", "Gender accuracy", "Ethnicity accuracy") for by in groups]
    assert {finding.key for finding in comparison_findings(compared, 300)} == {
        "groups.worst", "groups.age", "groups.gender", "groups.ethnicity",
    }  # fmt: skip


def test_the_intervals_of_ages_are_a_measure_of_groups():
    frame = simulate(600).assign(age_low=lambda rows: rows["age_pred"] - 8, age_high=lambda rows: rows["age_pred"] + 8)
    frame.loc[frame["gender"] == 1, ["age_low", "age_high"]] += 5
    tables = group_tables(frame, UTKFACE_ATTRIBUTES, FEW, min_group=1)
    known = frame.dropna(subset=["age", "gender", "ethnicity"])
    held = known["age"].between(known["age_low"], known["age_high"]).groupby(known["gender_name"], observed=True).mean()
    assert tables["gender_name"].set_index("gender_name")["age_coverage"].to_dict() == pytest.approx(held.to_dict())
    compared = comparisons(tables, UTKFACE_ATTRIBUTES)
    assert coverage_findings(compared, 600) == []  # not measured at equal ages
    (finding,) = coverage_findings(compared.assign(same_ages="yes"), 600)
    assert "for faces labelled female and" in finding.text and "equal ages" in finding.text
    assert coverage_findings(compared.assign(stands=False), 600) == []


def test_biases_in_both_directions_and_what_regression_alone_gives():
    """Predictions that are right on average at every answer are too young for old labels, by regression alone."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age_pred": rng.choice([10.0, 40, 65], 6000), "group_id": np.arange(6000)})
    frame["age"] = (frame["age_pred"] + rng.normal(0, 8, 6000)).clip(0, 116).round()
    table = bias_directions(frame, min_group=10).set_index(["grouped_by", "age_band"])
    by_prediction = table.loc["prediction"]
    assert by_prediction["bias"].abs().max() < 0.6
    old = table.loc[("label", "75+")]
    label = frame["age"] >= 75
    assert old["bias"] == pytest.approx((frame["age_pred"] - frame["age"])[label].mean()) and old["bias"] < -8
    assert old["regression_alone"] == pytest.approx(old["bias"], abs=1) and old["n"] == label.sum()
    assert old["bias_low"] < old["bias"] < old["bias_high"]
    # With a bias of its own, regression alone does not explain it.
    shifted = bias_directions(frame.assign(age_pred=frame["age_pred"] - 6), 10).set_index(["grouped_by", "age_band"])
    assert shifted.loc[("prediction", "46-59"), "bias"] == pytest.approx(-6, abs=0.6)
    assert shifted.loc[("prediction", "46-59"), "regression_alone"] > -2
    skewed, _ = age_findings(table.reset_index(), {}, (AGE,), 6000)
    assert "faces labelled 75+ are predicted" in skewed.text
    assert (
        f"({old['regression_alone']:+.1f} y expected from errors that average 0 at every predicted age)" in skewed.text
    )
    assert bias_directions(frame.drop(columns="age"), 10).empty
    banded = bias_directions(frame.assign(age=np.nan), 10)
    assert banded.empty and "need ages in years" in age_findings(banded, {}, (GENDER,), 9)[0].text


def test_children_are_shown_by_single_years(frame):
    table = children(frame, UTKFACE_ATTRIBUTES, FEW, min_group=1)
    young = frame.dropna(subset=["age", "gender", "ethnicity"]).query("age <= 17")
    assert table["n"].sum() == len(young) and table["single_year"].astype(int).is_monotonic_increasing
    row = table.iloc[0]
    part = young[young["age"] == int(row["single_year"])]
    assert row["age_mae"] == pytest.approx((part["age_pred"] - part["age"]).abs().mean())
    finding = children_finding(table, UTKFACE_ATTRIBUTES, 300)
    assert finding.text.startswith("By single years up to 17: age error from") and "gender accuracy" in finding.text
    masked = children(frame, UTKFACE_ATTRIBUTES, FEW, 99)
    assert "too few faces" in children_finding(masked, UTKFACE_ATTRIBUTES, 9).text
    none = children(frame.drop(columns=["age", "age_pred"]), (GENDER,), FEW, 1)
    assert none.empty and "too few faces" in children_finding(none, (GENDER,), 9).text


def test_what_cancels_on_average_and_unequal_errors_at_one_age_are_findings():
    bias = {"18-29": (90, 1.9, 1.7, 2.1), "30-45": (60, -0.5, -1.2, 0.2), "75+": (40, -8.1, -10.5, -5.7)}
    bias["60-74"] = (3, *[np.nan] * 3)
    by_label = table_of("age_band", bias, "bias").assign(grouped_by="label", regression_alone=-1.0)
    cells = {
        ("18-29", "female"): (60, 3.0, 2.7, 3.3),
        ("18-29", "male"): (60, 3.2, 2.9, 3.5),
        ("46-59", "female"): (60, 8.5, 7.3, 9.7),
        ("46-59", "male"): (60, 5.9, 5.3, 6.6),
        ("75+", "female"): (60, 20.0, 15.0, 25.0),
        ("75+", "male"): (2, *[np.nan] * 3),
    }
    rows = [(*key, *numbers) for key, numbers in cells.items()]
    columns = ["age_band", "gender_name", "n", "age_mae", "age_mae_low", "age_mae_high"]
    tables = {"age_band x gender_name": pd.DataFrame(rows, columns=columns)}
    skewed, unequal = age_findings(by_label, {"": tables}, (AGE, GENDER), 193)
    assert (
        "faces labelled 75+ are predicted 8.1 y too young (-1.0 y expected from errors that average 0 at every pred"
        in skewed.text
    )
    assert "faces labelled 18-29 are predicted 1.9 y too old" in skewed.text and "30-45" not in skewed.text
    by_prediction = by_label.assign(grouped_by="prediction")
    (other, _) = age_findings(by_prediction, {"": tables}, (AGE, GENDER), 193)
    assert (
        "faces predicted as 75+ are predicted 8.1 y too young (-1.0 y expected from errors that average 0 at every lab"
        in other.text
    )
    assert "8.5 y for female and 5.9 y for male at 46-59" in unequal.text
    assert "18-29" not in unequal.text and "75+" not in unequal.text and unequal.n == 193
    wider = tables["age_band x gender_name"].assign(age_mae=[9.5, 3.2, *[8.5, 5.9, 20.0, np.nan]])
    wider.loc[0, ["age_mae_low", "age_mae_high"]] = 9.0, 10.0
    of_many = {f"set {k}": {"age_band x gender_name": wider} for k in range(4)}
    text = age_findings(by_label, of_many, (AGE, GENDER), 193)[1].text
    assert "the 5 widest of 8: 9.5 y for female and 3.2 y for male at 18-29 in set 3" in text
    assert text.count("at 18-29") == 4 and text.count("at 46-59") == 1
    nothing = age_findings(by_label[:0], {}, (AGE, GENDER), 0)
    assert [finding.key for finding in nothing] == ["groups.age_bias", "groups.same_age_gaps"]


# --- ages by bands alone, and several data sets -----------------------------------------------------------


@pytest.fixture
def both() -> pd.DataFrame:
    """Ages in years from one data set, where a smile is labelled too, and by two bands from another."""
    first = pd.DataFrame({"source": "utkface", "age": [20.0, 40.0], "smile": [0.0, 1.0], "gender": [0.0, 1.0]})
    first = first.assign(age_pred=[23.0, 39.0], smile_pred=[0.0, 0.0], gender_pred=[0.0, 0.0])
    second = pd.DataFrame({"source": "fairface", "age_from": [3.0, 3, 70], "age_to": [9.0, 9, 116]})
    second = second.assign(age_pred=[9.0, 12.0, 61.0], gender=[0.0, 0.0, 1.0], gender_pred=[0.0, 1.0, 1.0])
    frame = pd.concat([first, second], ignore_index=True)
    for attribute in (AGE, GENDER, SMILE):
        frame[attribute.group_column] = attribute.groups_of(frame)
    return frame.assign(group_id=range(5))


def test_bands_have_group_numbers_of_their_own(both):
    faces = pd.concat([both[both["source"] == "fairface"]] * 2, ignore_index=True).assign(group_id=range(6))
    banded = AGE.labelled_in(faces)
    faces = faces.assign(age_band=banded.groups_of(faces))
    table = group_table(faces, ["age_band"], (banded, GENDER), FEW, min_group=1).set_index("age_band")
    assert table["age_band_accuracy"].tolist() == [0.5, 0.0] and table["age_band_mae_least"].tolist() == [1.5, 9.0]
    assert table["age_band_bias"].tolist() == [1.5, -9.0] and table["n"].tolist() == [4, 2]
    skewed, _ = age_findings(bias_directions(faces, 1), {"": {"age_band": table.reset_index()}}, (banded, GENDER), 3)
    assert "faces labelled 70+ are predicted at least 9.0 y too young" in skewed.text


def test_numbers_of_all_are_those_that_every_data_set_allows_and_each_has_its_own(both):
    attributes = (AGE, GENDER, SMILE)
    by_gender = group_table(both, ["gender_name"], attributes, FEW, min_group=1)
    assert by_gender["n"].tolist() == [3, 2] and not {"age_mae", "age_band_accuracy", "smile_accuracy"} & set(by_gender)
    assert by_gender["gender_accuracy"].tolist() == [pytest.approx(2 / 3), 0.5]
    each = source_tables(both, attributes, FEW, min_group=1)
    assert each["utkface"]["gender_name"]["age_mae"].tolist() == [3.0, 1.0]
    assert each["fairface"]["gender_name"]["age_band_mae_least"].tolist() == [1.5, 9.0]
    assert "smile_name" in each["utkface"] and "smile_name" not in each["fairface"]
    shown = numbers(each["fairface"])
    assert list(shown)[:3] == ["by", "group", "n"] and set(shown["by"]) == {"age band", "gender"}
    assert shown["group"].notna().all() and not any(name.endswith(("_low", "_high")) for name in shown)


def test_each_data_set_is_compared_by_itself_and_at_equal_ages(both):
    many = pd.concat([both] * 20, ignore_index=True).assign(group_id=range(100))
    parts = source_tables(many, (AGE, GENDER, SMILE), FEW, min_group=1)
    found = source_comparisons(many, (AGE, GENDER, SMILE), parts, FEW, min_group=1)
    found = found.set_index(["attribute", "by", "best"]).sort_index()
    age = found.loc[("age", "gender", "faces labelled female in utkface")]
    assert (age["what"], age["worst"], age["worst_value"].value) == ("Age error", "faces labelled male in utkface", 3)
    banded = found.loc[("age", "age band", "ages 3-9 in fairface")].iloc[-1]
    assert banded["worst"] == "ages 70+ in fairface" and banded["worst_value"].value == 9
    assert set(found.loc["smile", "best_value"].map(lambda value: value.n)) == {20}  # utkface alone has it
    assert (found.xs("gender", level="by")["same_ages"] != "").any()
