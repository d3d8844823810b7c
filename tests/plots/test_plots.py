"""Figures: each drawn from small tables, closed, labelled, and with the numbers it was given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from facelib import schema
from facelib.plots import all as plots
from facelib.runs import start_run


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    assert plt.get_fignums() == []  # a figure left open would be shown twice in a notebook


@pytest.fixture
def faces() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    faces = pd.DataFrame({"age": rng.integers(1, 90, 60).astype(float)})
    faces["gender"], faces["ethnicity"] = rng.integers(-1, 2, 60), rng.integers(-1, 5, 60)
    faces.loc[0, "age"] = np.nan
    return faces


def texts(figure: Figure) -> str:
    """All words of a figure."""
    figure.canvas.draw()
    return " | ".join(text.get_text() for text in figure.findobj(plt.Text) if text.get_text())


def random_images(n: int, px: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


# --- average faces ----------------------------------------------------------------------------------------


def test_an_average_face_by_hand():
    images = np.zeros((25, 2, 2, 3), np.uint8)
    images[:5] = 250
    average = plots.average_face(images)
    assert average.dtype == np.uint8 and (average == 50).all()


def test_too_few_faces_have_no_average():
    assert plots.MIN_AVERAGED == 25
    assert plots.average_face(random_images(24)) is None and plots.average_face(random_images(25)) is not None


def test_a_missing_picture_leaves_a_grey_field():
    figure = plots.image_grid(
        [random_images(1)[0], None, random_images(1)[0]], ["a", "b", "c"], columns=2, title="Faces"
    )
    drawn = [len(axis.images) for axis in figure.axes]
    assert drawn == [1, 0, 1, 0] and len(figure.axes[1].patches) == 1
    assert "Faces" in texts(figure)


def test_single_real_faces_are_shown_only_where_asked_for(empty_runs, tmp_path):
    drawn, real = start_run("drawn", "smoke"), start_run("real", "smoke", str(tmp_path))
    assert plots.may_show(drawn, False) and plots.may_show(drawn, True)
    assert not plots.may_show(real, False) and plots.may_show(real, True)


# --- figures with their numbers ---------------------------------------------------------------------------


def test_distributions_count_the_known_labels(faces):
    figure = plots.label_distributions(faces, ", synthetic faces")
    assert "n = 59, synthetic faces" in texts(figure)
    counted = sum(bar.get_width() for bar in figure.axes[1].patches)
    assert counted == ((faces["gender"] >= 0) & (faces["ethnicity"] >= 0)).sum()


def test_the_imbalance_table_shows_each_cells_count(faces):
    figure = plots.joint_imbalance(faces)
    known = faces[(faces["gender"] >= 0) & (faces["ethnicity"] >= 0) & faces["age"].notna()]
    numbers = [int(text.get_text()) for text in figure.axes[0].texts]
    assert sum(numbers) == len(known)


def test_intervals_leave_masked_rows_out_and_show_counts():
    table = pd.DataFrame(
        {
            "group": ["young", "old", "none"],
            "mae": [4.0, 6.0, np.nan],
            "mae_low": [3.0, 5.5, 0],
            "mae_high": [5.0, 7.0, 0],
            "n": [1200, 80, 2],
        }
    )
    figure = plots.intervals(table, "group", "mae", "years", "Age error", reference=5.0)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["young  (n = 1,200)", "old  (n = 80)"]
    points = figure.axes[0].lines[0].get_xdata()
    assert list(points) == [4.0, 6.0]
    ends = figure.axes[0].collections[0].get_segments()
    assert [sorted(end[:, 0]) for end in ends] == [[3.0, 5.0], [5.5, 7.0]]


def test_flagged_shares_and_counts_are_in_the_titles():
    quality = pd.DataFrame({"dark": [0.1, 0.5, 0.6, 0.7], "is_dark": [True, False, False, False]})
    quality = quality.assign(blur=0.5, is_blur=False)
    shown = texts(plots.quality_scores(quality))
    assert "dark\n25.0% flagged" in shown and "blurred\n0.0% flagged" in shown
    issues = pd.DataFrame(
        {
            "attribute": ["age"] * 3 + ["gender"] * 2,
            "score": [0.1, 0.8, 0.9, 0.2, 0.9],
            "is_issue": [True, False, False, False, False],
        }
    )
    shown = texts(plots.label_issue_scores(issues))
    assert "age: 1 of 3 flagged" in shown and "gender: 0 of 2 flagged" in shown


def test_disagreeing_copies_are_counted():
    conflicts = pd.DataFrame({"size": [2, 2, 3]})
    apart = pd.DataFrame(
        {
            "attribute": ["age"] * 4 + ["gender"] * 5,
            "differ": [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0],
            "difference": [0.0, 0.0, 3.0, 12.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        }
    )
    figure = plots.copies_disagree(conflicts, apart)
    shown = texts(figure)
    assert "3 groups of copies" in shown and "Age labels, n = 4 groups" in shown
    assert [patch.get_height() for patch in figure.axes[0].patches] == [2, 1]
    assert [patch.get_width() for patch in figure.axes[1].patches] == [0.5, 0.2]
    assert "0 groups of copies" in texts(plots.copies_disagree(conflicts[:0], apart[:0]))


def test_rankings_say_what_was_planted_and_what_chance_gives():
    curves = pd.DataFrame({"attribute": ["age", "age"], "recall": [1.0, 0.5], "precision": [0.1, 0.8]})
    results = {"age.auroc": {"value": 0.91234, "n": 200}, "age.precision_at_k": {"value": 0.5, "n": 20}}
    figure = plots.ranking_curves(curves, results)
    shown = texts(figure)
    assert "age: 20 planted, AUROC 0.912" in shown and "among 200 images" in shown
    assert [0.1, 0.1] in [list(line.get_ydata()) for line in figure.axes[0].lines]


def test_doubted_labels_are_named():
    issues = pd.DataFrame({"attribute": ["gender", "age"], "given": [0.0, 30.0], "suggested": [1.0, 8.0]})
    shown = texts(plots.doubted_gallery(random_images(2), issues, "Doubted"))
    assert "male,\nnot female?" in shown and "30 y,\nnot 8 y?" in shown


def test_faces_are_named_by_their_labels_and_unknown_ones_are_called_so(faces):
    some = pd.DataFrame({"age": [26.0, 4.0], "gender": [1, -1], "ethnicity": [2, -1]})
    shown = texts(plots.face_gallery(random_images(2), some, "Faces"))
    assert "26, female\nAsian" in shown and "4, unknown\nunknown" in shown


# --- every other figure is drawn --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "there", [("age",), ("gender",), ("ethnicity",), ("age", "ethnicity"), ("gender", "ethnicity")]
)
def test_label_figures_show_the_attributes_that_there_are(faces, there):
    blank = {"age": np.nan, "gender": -1, "ethnicity": -1}
    partly = faces.assign(**{name: value for name, value in blank.items() if name not in there})
    figure = plots.label_distributions(partly)
    assert len(figure.axes) == ("age" in there) + bool(set(there) - {"age"})
    known = partly[np.all([schema.is_known(partly[name]) for name in there], axis=0)]
    numbers = [int(text.get_text().replace(",", "")) for text in plots.joint_imbalance(partly).axes[0].texts]
    assert sum(numbers) == len(known) > 0


def test_labels_of_two_sets_of_faces_are_drawn_one_by_one(faces):
    half = np.arange(len(faces)) < len(faces) // 2
    apart = faces.assign(
        age=np.nan, gender=faces["gender"].where(half, -1), ethnicity=faces["ethnicity"].mask(half, -1)
    )
    bars = plots.label_distributions(apart).axes[0].patches
    assert sum(bar.get_width() for bar in bars) == (apart["ethnicity"] >= 0).sum()
    numbers = [int(text.get_text()) for text in plots.joint_imbalance(apart).axes[0].texts]
    assert sum(numbers) == (apart["gender"] >= 0).sum()
