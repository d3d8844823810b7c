"""What figures share: average faces, grids of pictures, colours, intervals."""

import numpy as np
import pandas as pd

from facelib.plots import style
from facelib.runs import start_run
from facelib.schema import ETHNICITY, GENDER


def random_images(n: int, px: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


def test_an_average_face_by_hand():
    images = np.zeros((25, 2, 2, 3), np.uint8)
    images[:5] = 250
    average = style.average_face(images)
    assert average.dtype == np.uint8 and (average == 50).all()


def test_too_few_faces_have_no_average():
    assert style.MIN_AVERAGED == 25
    assert style.average_face(random_images(24)) is None and style.average_face(random_images(25)) is not None


def test_a_missing_picture_leaves_a_grey_field(texts):
    pictures = [random_images(1)[0], None, random_images(1)[0]]
    figure = style.image_grid(pictures, ["a", "b", "c"], columns=2, heading="Faces")
    assert [len(axis.images) for axis in figure.axes] == [1, 0, 1, 0] and len(figure.axes[1].patches) == 1
    assert "Faces" in texts(figure)


def test_single_real_faces_are_shown_only_where_asked_for(empty_runs, tmp_path):
    drawn, real = start_run("drawn", "smoke"), start_run("real", "smoke", str(tmp_path))
    assert style.may_show(drawn, False) and style.may_show(drawn, True)
    assert not style.may_show(real, False) and style.may_show(real, True)


def test_a_class_has_the_same_colour_everywhere():
    assert style.class_colours(GENDER) == {"male": style.BLUE, "female": style.ORANGE}
    assert not {*style.class_colours(GENDER).values()} & {*style.class_colours(ETHNICITY).values(), *style.PALETTE}


def test_names_of_lines_stand_beside_their_ends_and_apart():
    figure, ((axis,),) = style.new_figure(height=3)
    axis.set_ylim(0, 10)
    style.label_lines(axis, [("high", 10, "k"), ("higher", 10.5, "k"), ("low", 2, "k"), ("none", np.nan, "k")])
    places = {text.get_text(): text.xy[1] for text in style.finish(figure).axes[0].texts}
    assert list(places) == ["low", "high", "higher"] and places["low"] == 2 and places["higher"] == 10
    assert 0.5 < places["higher"] - places["high"] < 1.5


def test_intervals_leave_masked_rows_out_and_show_counts():
    table = pd.DataFrame({"group": ["young", "old", "none"], "mae": [4.0, 6.0, np.nan], "mae_low": [3.0, 5.5, 0],
                          "mae_high": [5.0, 7.0, 0], "n": [1200, 80, 2]})  # fmt: skip
    figure = style.intervals(table, "group", "mae", "years", "Age error", reference=5.0)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["young  (n = 1,200)", "old  (n = 80)"]
    assert list(figure.axes[0].lines[0].get_xdata()) == [4.0, 6.0]
    assert figure.axes[0].get_title(loc="left") == "Age error"
    alike = style.intervals(table.assign(n=80), "group", "mae", "years", "Age error")
    assert alike.axes[0].get_title(loc="left") == "Age error, n = 80"
    assert [label.get_text() for label in alike.axes[0].get_yticklabels()] == ["young", "old"]
    ends = figure.axes[0].collections[0].get_segments()
    assert [sorted(end[:, 0]) for end in ends] == [[3.0, 5.0], [5.5, 7.0]]
