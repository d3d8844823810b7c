"""Figures of notebook 02: counts, shares and labels are those of the tables."""

import numpy as np
import pandas as pd

from facelib.data.pixels import FaceImages
from facelib.plots import audit as plots
from facelib.runs import start_run
from facelib.schema import UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap, Estimate


def test_flagged_shares_and_counts_are_in_the_titles(texts):
    quality = pd.DataFrame({"dark": [0.1, 0.5, 0.6, 0.7], "is_dark": [True, False, False, False]})
    words = texts(plots.quality_scores(quality.assign(blur=0.5, is_blur=False)))
    assert "dark\n25.0% flagged" in words and "blurred\n0.0% flagged" in words
    issues = pd.DataFrame(
        {
            "attribute": ["age"] * 3 + ["gender"] * 2,
            "score": [0.1, 0.8, 0.9, 0.2, 0.9],
            "is_issue": [True, False, False, False, False],
        }
    )
    words = texts(plots.label_issue_scores(issues))
    assert "age: 1 of 3 flagged" in words and "gender: 0 of 2 flagged" in words


def test_disagreeing_copies_are_counted(texts):
    conflicts = pd.DataFrame({"size": [2, 2, 3]})
    pairs = pd.DataFrame(
        {
            "attribute": ["age"] * 4 + ["gender"] * 5,
            "differ": [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0],
            "difference": [0.0, 0.0, 3.0, 12.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        }
    )
    figure = plots.copies_disagree(conflicts, pairs, Bootstrap(20))
    words = texts(figure)
    assert "3 groups of copies" in words and "Age labels, n = 4 groups" in words
    assert [patch.get_height() for patch in figure.axes[0].patches] == [2, 1]
    assert figure.axes[1].lines[0].get_xdata().tolist() == [0.5, 0.2]
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[-1].get_yticklabels(which="both")]
    assert not any("mathdefault" in label for label in labels)
    assert "0 groups of copies" in texts(plots.copies_disagree(conflicts[:0], pairs[:0], Bootstrap(20)))


def test_rankings_say_what_was_planted_and_what_chance_gives(texts):
    curves = pd.DataFrame({"attribute": ["age", "age"], "recall": [1.0, 0.5], "precision": [0.1, 0.8]})
    results = {"age.auroc": Estimate(0.91234, 0.9, 0.92, 200), "age.precision_at_k": Estimate(0.5, 0.3, 0.7, 20)}
    figure = plots.ranking_curves(curves, results)
    assert "age: 20 of 200 planted, AUROC 0.912" in texts(figure)
    assert [0.1, 0.1] in [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert plots.ranking_curves(curves[:0], {}).axes[0].lines[:] == []


def test_doubted_labels_are_named_and_single_faces_shown_only_where_allowed(empty_runs, tmp_path, texts):
    drawn, real = start_run("drawn", "smoke"), start_run("real", "smoke", str(tmp_path))
    for run in (drawn, real):
        run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    faces = pd.DataFrame({"image_id": ["a", "b"]})
    images = FaceImages(np.zeros((2, 8, 8, 3), np.uint8), np.arange(2))
    issues = faces.assign(
        attribute=["gender", "age"], given=[0.0, 30.0], suggested=[1.0, 8.0], score=0.1, is_issue=True
    )
    words = texts(plots.doubted_gallery(drawn, images, faces, issues, False))
    assert "male,\nnot female?" in words and "30 y,\nnot 8 y?" in words
    assert plots.doubted_gallery(real, images, faces, issues, False) is None
    assert plots.doubted_gallery(drawn, images, faces, issues.assign(is_issue=False), False) is None
