"""Tables that lack labels: the notebooks run on what there is, and say what they leave out."""

import json
import os
import subprocess
import sys

import nbformat
import pandas as pd
import pytest

from facelib.data.readers import read_faces
from facelib.reporting.findings import HEADLINE
from facelib.schema import ATTRIBUTES, NOTEBOOKS, PREDICTED
from facelib.synthetic.dataset import write_synthetic_faces

# Enough to run each cell, and no more.
SETTINGS = {
    "epochs": 1,
    "label_epochs": 1,
    "label_folds": 2,
    "resamples": 20,
    "explained_images": 4,
    "lime_samples": 20,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_synthetic_faces(tmp_path_factory.mktemp("synthetic"), 240, seed=3, px=48)


# Age alone takes three times as long, most of it for the two stages, and shows no more beyond notebook 05.
@pytest.mark.parametrize(("there", "last"), [(("gender",), "08"), (("age",), "05")])
def test_a_run_works_with_one_label(photos, tmp_path, there, last):
    faces = read_faces(photos).faces
    faces[["path", *there]].to_csv(tmp_path / "faces.csv", index=False)
    command = [sys.executable, "-m", "facelib.cli", "run", "--profile", "smoke", "--run", "partly", "--to", last]
    command += ["--data", str(tmp_path / "faces.csv"), "--images", str(photos)]
    command += [part for key, value in SETTINGS.items() for part in ("-p", f"{key}={value}")]
    done = subprocess.run(
        command, env=os.environ | {"FACELIB_RUNS": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "partly"
    tested = {key.split(".")[1] for key in json.loads((run / "results.json").read_text()) if key.startswith("test.")}
    assert tested - {"age_stages"} == set(there)
    predicted = pd.read_parquet(run / "tables" / "predictions.parquet").query("model == 'predictor'")
    for attribute, columns in PREDICTED.items():
        known = predicted[columns[0]].notna()  # the others depend on the way to age that is chosen
        assert len(known) and (known.all() if attribute in there else not known.any()), attribute
    sources = {
        name: "".join(cell.source for cell in nbformat.read(run / "notebooks" / f"{name}.ipynb", as_version=4).cells)
        for name in NOTEBOOKS[: int(last)]
    }
    absent = set(ATTRIBUTES) - set(there)
    assert all(f"learns no {name}" in sources["05_evaluate_bias"] for name in absent)
    assert ("learns no age" in sources["04_age_two_stage"]) == ("age" in absent)
    front = (run / "report" / "index.html").read_text()
    assert "How good is the model?" in front
    told = {key: name for key, (name, _) in HEADLINE.items() if key != "gender.accuracy_age5plus"}
    for key, name in told.items():
        assert (name in front) == (key.replace("_", ".").partition(".")[0] in there), name
