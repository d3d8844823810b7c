"""The truth about synthetic faces: which labels were made wrong, by image and attribute."""

import pandas as pd

from facelib.audit.truth import wrong_labels
from facelib.data.ingest import synthetic_folder
from facelib.runs import start_run


def test_wrong_labels_come_by_image_and_attribute(empty_runs):
    run = start_run("drawn", "smoke")
    folder = synthetic_folder(run)
    folder.mkdir(parents=True)
    rows = [("a", ""), ("b", "gender"), ("c", "age,ethnicity")]
    pd.DataFrame(rows, columns=["image_id", "mislabelled"]).to_csv(folder / "truth.csv", index=False)
    wrong = wrong_labels(run, pd.Series(["c", "a", "b"]))
    assert wrong.index.tolist() == ["c", "a", "b"]
    assert wrong.to_dict("list") == {
        "age": [True, False, False],
        "gender": [False, False, True],
        "ethnicity": [True, False, False],
    }


def test_nobody_knows_it_of_photographs(empty_runs, tmp_path):
    assert wrong_labels(start_run("real", "smoke", str(tmp_path)), pd.Series(["a"])) is None
