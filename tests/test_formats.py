"""JSON and CSV files: what goes in comes out, and what facelib did not write is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from facelib.errors import DamagedRun
from facelib.formats import read_csv, read_json, write_csv, write_json
from facelib.statistics import Estimate


def test_json_holds_what_measurements_are_made_of(tmp_path):
    content = {
        "estimate": Estimate(np.float64(1.5), 1.0, float("nan"), np.int64(3), "years"),
        "flags": np.array([True, False]),
        "by_code": {0: np.int8(4)},
        "text": "naïve",
    }
    write_json(tmp_path / "x.json", content)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {
        "estimate": {"value": 1.5, "low": 1.0, "high": None, "n": 3, "unit": "years"},
        "flags": [True, False],
        "by_code": {"0": 4},
        "text": "naïve",
    }


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DamagedRun, match=r"x\.json is not what facelib writes"):
        read_json(tmp_path / "x.json")


def test_formulas_are_escaped_in_the_file_and_restored(tmp_path):
    table = pd.DataFrame({"image_id": ["=1+1", "face.jpg"], "age": [31, 7]})
    write_csv(table, tmp_path / "x.csv")
    assert "'=1+1" in (tmp_path / "x.csv").read_text()
    pd.testing.assert_frame_equal(read_csv(tmp_path / "x.csv"), table)
