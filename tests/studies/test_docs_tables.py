"""The tables of README and docs that are made from what was measured."""

from facelib.formats import write_json
from studies import CROSS_DATA_RESULTS, docs_tables


def measured(value: float) -> dict:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 1234}


def test_the_networks_stand_beside_each_other_on_each_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(docs_tables, "ROOT", tmp_path)
    results = tmp_path / CROSS_DATA_RESULTS / "results.json"
    joint = {"fairface": {"gender.accuracy": measured(0.95), "race.accuracy": measured(0.65)}}
    alone = {"fairface": {"gender.accuracy": measured(0.94), "age.band_miss": measured(0.1)}, "utkface": {}}
    gains = {"faces minus utkface, on utkface": {"all": {"gender.accuracy": measured(0.031)}}}
    gains["faces minus utkface, on fairface"] = {"all": {"gender.accuracy": measured(0.2)}}
    matrix = {"faces (face_joint)": joint, "utkface (face_top)": alone}
    write_json(results, {"test": {"matrix": matrix, "gains": gains}})
    assert "it differs from the reference by gender +3.1 points (+2.1 to +4.1)\n" in docs_tables.photographs()
    lines = docs_tables.photographs().splitlines()[-4:]
    assert lines[0] == "| FairFace, test faces | n | the reference network | learned from both |"
    assert lines[2] == "| gender | 1,234 | 94.0 % (93.0 to 95.0) | 95.0 % (94.0 to 96.0) |"
    assert lines[3] == "| seven races | 1,234 | - | 65.0 % (64.0 to 66.0) |"
    write_json(results, {"test": {"matrix": dict(reversed(matrix.items())), "gains": gains}})
    assert docs_tables.photographs().splitlines()[-4:] == lines
