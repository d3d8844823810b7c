"""The tables of README and docs that are made from what was measured."""

from facelib.formats import write_json
from studies import CROSS_DATA_RESULTS, CROSSFIT_RESULTS, docs_tables


def measured(value: float) -> dict:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 1234}


def test_the_networks_stand_beside_each_other_on_each_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(docs_tables, "ROOT", tmp_path)
    results = tmp_path / CROSS_DATA_RESULTS / "results.json"
    joint = {"fairface": {"gender.accuracy": measured(0.95), "race.accuracy": measured(0.65)}}
    alone = {"fairface": {"gender.accuracy": measured(0.94), "age.band_miss": measured(0.1)}, "utkface": {}}
    both = {"gender.accuracy": measured(0.031), "age.mae": measured(0.05)}
    gains = {"faces minus utkface, on utkface": {"all": both}}
    gains["faces minus utkface, on fairface"] = {"all": {"gender.accuracy": measured(0.2)}}
    matrix = {"faces (face_joint)": joint, "utkface (face)": alone}
    write_json(results, {"test": {"matrix": matrix, "gains": gains}})
    said = docs_tables.photographs()
    assert "by +0.05 (+0.04 to +0.06) years, its gender" in said
    lines = docs_tables.photographs().splitlines()[-4:]
    assert lines[0] == "| FairFace, 1,234 test faces | reference network | joint network |"
    assert lines[2] == "| gender | 94.0 % (93.0 to 95.0) | 95.0 % (94.0 to 96.0) |"
    assert lines[3] == "| seven races | - | 65.0 % (64.0 to 66.0) |"
    write_json(results, {"test": {"matrix": dict(reversed(matrix.items())), "gains": gains}})
    assert docs_tables.photographs().splitlines()[-4:] == lines


def test_the_worst_groups_stand_beside_those_of_all_faces(tmp_path, monkeypatch):
    monkeypatch.setattr(docs_tables, "ROOT", tmp_path)
    monkeypatch.setattr(docs_tables, "published_run", lambda: tmp_path / "run")
    row = {"what": "Gender accuracy", "stands": True}
    row |= {f"{end}_value": measured(value) | {"unit": "share"} for end, value in (("worst", 0.7), ("best", 0.9))}
    compared = [
        row | {"by": "age band", "worst": "ages 0-4", "best": "ages 75+"},
        row | {"by": "gender", "worst": "faces labelled male", "best": "faces labelled female", "stands": False},
    ]
    write_json(tmp_path / "run" / "metrics" / "06_groups.json", {"details": {"comparisons": compared}})
    gap = {"by": "age band", "lowest": "5-17", "highest": "75+", "lowest_value": 0.66, "highest_value": 0.9}
    gaps = [gap | {"metric": "gender_accuracy"}, gap | {"metric": "age_mae"}]
    write_json(tmp_path / CROSSFIT_RESULTS / "results.json", {"gaps": gaps})
    (line,) = docs_tables.worse().splitlines()[2:]
    ends = "0-4, 70.0 % (69.0 to 71.0) | 1,234 | 75+, 90.0 % (89.0 to 91.0) | 1,234"
    assert line == f"| Gender accuracy | {ends} | 5-17, 66.0 % |"
