"""Data with one label alone, through the notebooks."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from facelib.data.readers import read_faces
from facelib.runs import RunFolder
from facelib.schema import NOTEBOOKS, UTKFACE_ATTRIBUTES
from facelib.synthetic.dataset import write_synthetic_faces

# Enough to run each cell, and no more.
SETTINGS = {
    "epochs": 1,
    "resamples": 20,
    "explained_images": 4,
    "lime_samples": 20,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_synthetic_faces(tmp_path_factory.mktemp("synthetic"), 240, seed=3, px=48)


def run_notebooks(root: Path, *arguments: str) -> RunFolder:
    """A smoke run below a folder, by the command."""
    command = [sys.executable, "-m", "facelib.cli", "run", "--profile", "smoke", "--run", "small", *arguments]
    command += [part for key, value in SETTINGS.items() for part in ("-p", f"{key}={value}")]
    environment = os.environ | {"FACELIB_RUNS": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return RunFolder(root / "small")


def scored(run: RunFolder) -> set[str]:
    return {key.split(".")[1] for key in run.results() if key.startswith("test.")}


# Age alone takes three times as long, most of it for the two stages, and shows no more beyond notebook 06.
@pytest.mark.parametrize(
    ("label", "bands", "last"), [("gender", False, "09"), ("age", False, "06"), ("age", True, "08")]
)
def test_a_run_works_with_one_label(photos, tmp_path, label, bands, last):
    faces = read_faces(photos).faces
    if bands:
        decades = (faces["age"] // 20 * 20).astype(int)
        faces["age"] = [f"{first}-{first + 19}" if first < 60 else "60+" for first in decades]
    faces[["path", label]].to_csv(tmp_path / "faces.csv", index=False)
    given = ["--data", str(tmp_path / "faces.csv"), "--images", str(photos)]
    given += ["--labels", "gender: {0: male, 1: female}"] if label == "gender" else []
    run = run_notebooks(tmp_path, "--to", last, *given)
    assert [attribute.name for attribute in run.learned] == [label]
    assert scored(run) - {"age_stages"} == {label}
    predicted = run.load_table("predictions").query("model == 'predictor'")
    for attribute in UTKFACE_ATTRIBUTES:
        known = attribute.columns[0] in predicted and predicted[attribute.columns[0]].notna().all()
        assert known == (attribute.name == label), attribute
    sources = {
        name: "".join(
            cell.source for cell in nbformat.read(run.path / "notebooks" / f"{name}.ipynb", as_version=4).cells
        )
        for name in NOTEBOOKS[: int(last)]
    }
    assert ("has no ages in years" in sources["04_age_two_stage"]) == (label != "age" or bands)
    if bands:
        assert {row["age_band"] for row in run.details("06_groups")["groups"]["age_band"]} == {
            "0-19",
            "20-39",
            "40-59",
            "60+",
        }
        assert set(run.results()) >= {f"test.age.band_{key}" for key in ("accuracy", "off_by_one", "mae_least")}
    front = (run.path / "report" / "index.html").read_text()
    assert "How good is the model?" in front and label.capitalize() in front
