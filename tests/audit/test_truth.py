"""The truth about synthetic faces: which labels were made wrong, by image and attribute; and what the audit found."""

import numpy as np
import pandas as pd

from facelib.audit.truth import score_audit, wrong_labels
from facelib.data.ingest import synthetic_folder
from facelib.runs import start_run
from facelib.schema import UTKFACE_ATTRIBUTES

ROWS = [("a", 0, "", "", ""), ("b", 1, "", "", "gender"), ("c", 0, "a", "exact", "age,ethnicity")]


def drawn_run(rows=ROWS):
    run = start_run("drawn", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    synthetic_folder(run).mkdir(parents=True)
    columns = ["image_id", "person", "copy_of", "copy_kind", "mislabelled"]
    pd.DataFrame(rows, columns=columns).to_csv(synthetic_folder(run) / "truth.csv", index=False)
    return run


def test_wrong_labels_come_by_image_and_attribute(empty_runs):
    wrong = wrong_labels(drawn_run(), pd.Series(["c", "a", "b"]))
    assert wrong.index.tolist() == ["c", "a", "b"]
    assert wrong.to_dict("list") == {
        "age": [True, False, False],
        "gender": [False, False, True],
        "ethnicity": [True, False, False],
    }


def test_copies_and_flags_are_scored_by_hand(empty_runs):
    faces = pd.DataFrame({"image_id": list("abc")})
    issues = pd.DataFrame({"image_id": list("abc"), "attribute": "age", "score": [0.5, 0.1, 0.2],
                           "is_issue": [False, True, True]})  # fmt: skip
    run = drawn_run()
    scores = score_audit(run, faces, np.array([0, 1, 0]), issues).set_index("measure")["value"]
    assert scores["exact copies found"] == 1 and scores["groups that hold one person only"] == 1
    assert scores["wrong age labels flagged"] == 1 and scores["flagged age labels wrong"] == 0.5
    assert scores["age ranking, AUROC"] == 0.5  # one right label scores above the wrong one, one below
    apart = score_audit(run, faces, np.array([0, 0, 1]), issues).set_index("measure")["value"]
    assert apart["exact copies found"] == 0 and apart["groups that hold one person only"] == 0


def test_it_is_unknown_of_photographs(empty_runs, tmp_path):
    run = start_run("real", "smoke", str(tmp_path))
    assert wrong_labels(run, pd.Series(["a"])) is None
    assert score_audit(run, pd.DataFrame({"image_id": ["a"]}), np.zeros(1), pd.DataFrame()).empty
