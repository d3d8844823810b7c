"""The browser of errors: a cluster and an order are chosen, pages are turned, pictures only where they are given."""

import numpy as np
import pandas as pd
import pytest

from facelib.data.pixels import FaceImages
from facelib.reporting.error_panel import ROWS, ErrorBrowser


@pytest.fixture
def errors() -> pd.DataFrame:
    """Twenty errors: cluster 0 has 12, cluster 1 has 5, and 3 are in none."""
    return pd.DataFrame(
        {
            "image_id": [f"<b>{k:02d}</b>" for k in range(20)],
            "cluster": [0] * 12 + [1] * 5 + [-1] * 3,
            "missed": "gender",
            "age error": [float(k * 7 % 20) for k in range(20)],
            "gender label score": [np.nan, *np.linspace(0.9, 0.1, 19)],
            "mood confidence": np.linspace(0, 1, 20),
            "age interval width": 8.0,
        }
    )


def shown(browser: ErrorBrowser) -> list[int]:
    return browser.page.index.tolist()


def test_the_first_page_has_the_largest_errors_of_all(errors):
    browser = ErrorBrowser(errors)
    assert [title for title, _ in browser.cluster.options] == [
        "all errors (20)", "in no cluster (3)", "cluster 0 (12)", "cluster 1 (5)",
    ]  # fmt: skip
    assert browser.page["age error"].tolist() == [19, 18, 17, 16, 15, 14, 13, 12] and len(browser.page) == ROWS
    assert browser.number.value == 1 and browser.status.value == "of 3"


def test_pages_are_turned_to_their_ends(errors):
    browser, seen = ErrorBrowser(errors), []
    for number in (1, 2, 3, 9):  # beyond the last page is the last page
        browser.number.value = number
        seen += [row for row in shown(browser) if row not in seen]
    assert sorted(seen) == list(range(20)) and len(browser.page) == 4 and browser.number.value == 3
    browser.number.value = 2
    assert len(browser.page) == ROWS


def test_choosing_a_cluster_or_an_order_begins_at_the_first_page(errors):
    browser = ErrorBrowser(errors)
    browser.number.value = 2
    browser.cluster.value = 1
    assert browser.number.value == browser.number.max == 1 and sorted(shown(browser)) == list(range(12, 17))
    browser.cluster.value = 0
    browser.sort.value = "most suspicious gender label"
    assert shown(browser) == [11, 10, 9, 8, 7, 6, 5, 4]
    browser.number.value = 2
    assert shown(browser) == [3, 2, 1, 0]  # what has no score comes last
    browser.sort.value = "image"
    assert browser.number.value == 1 and shown(browser) == list(range(8))


def test_whatever_the_table_has_can_be_sorted_by(errors):
    browser = ErrorBrowser(errors)
    titles = (
        "largest age error",
        "most suspicious gender label",
        "most confident mood",
        "widest age interval",
        "image",
    )
    assert browser.sort.options == titles
    browser.sort.value = "most confident mood"
    assert shown(browser) == [19, 18, 17, 16, 15, 14, 13, 12]
    assert ErrorBrowser(errors[["image_id", "cluster", "missed"]]).sort.options == ("image",)


def test_names_are_shown_as_text_and_numbers_short(errors):
    text = ErrorBrowser(errors).table.value
    assert "&lt;b&gt;17&lt;/b&gt;" in text and "<b>" not in text and "19.00" in text


def test_pictures_are_those_of_the_page_and_only_where_given(errors):
    assert ErrorBrowser(errors).pictures.children == ()
    pixels = np.arange(20, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3) * 12
    opened = []

    class Counted(FaceImages):
        def __getitem__(self, rows):
            opened.append(rows)
            return super().__getitem__(rows)

    browser = ErrorBrowser(errors, Counted(pixels, np.arange(20)))
    assert opened == shown(browser)  # no picture of another page is read
    browser.cluster.value = 1
    assert len(browser.pictures.children) == 5
    image, label = browser.pictures.children[0].children
    assert bytes(image.value).startswith(b"\x89PNG") and label.value == "gender"


def test_without_errors_there_is_one_empty_page(errors):
    browser = ErrorBrowser(errors[:0], FaceImages(np.zeros((0, 8, 8, 3), np.uint8), np.arange(0)))
    assert browser.status.value == "of 1" and browser.page.empty
