"""The comparison with published numbers holds the run's own, with interval, n and protocol."""

from types import SimpleNamespace

from facelib.publication.published_numbers import OTHERS, SOURCE_A, SOURCE_B, comparison_table


def run_with(protocol: dict | None) -> SimpleNamespace:
    keys = ("age.mae", "age.mae_le45", "age.mae_gt45", "age_stages.bin_accuracy", "gender.accuracy")
    keys += ("gender.accuracy_age5plus", "ethnicity.accuracy")
    results = {}
    for k, key in enumerate(keys, 1):
        unit = "years" if "mae" in key else "share"
        results[f"test.{key}"] = {"value": k / 10, "low": 0.05, "high": 0.95, "n": 1234, "unit": unit}
    profile = SimpleNamespace(image_px=96, start_weights="none")
    return SimpleNamespace(results=lambda: results, protocol=protocol, profile=profile)


def test_the_first_row_is_the_run_itself():
    head, _, own, *others = comparison_table(run_with(None)).splitlines()
    assert "96 px, one test face per group of copies, n = 1,234" in own
    assert "**0.100 y (0.050 y to 0.950 y)**" in own and "**50.0 % (5.0 % to 95.0 %)**" in own
    assert len(others) == len(OTHERS) + 2 and {line.count("|") for line in (head, own, *others)} == {8}


def test_a_published_split_is_named():
    assert "lists of coral_21_60" in comparison_table(run_with({"name": "coral_21_60"}))


def test_whatever_is_published_names_its_protocol_and_start():
    for row in (SOURCE_A, SOURCE_B, *OTHERS):
        assert row.protocol and row.start and (row.age or row.gender or row.ethnicity)
