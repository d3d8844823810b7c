"""The page of an audit in Chromium: decisions made by keyboard are saved, and the next audit takes them up."""

import time
from pathlib import Path

import pandas as pd
import pytest
from test_pages import LEAST_CONTRAST, LOST, PHONE, TOO_WIDE

from facelib.audit.report import Audit
from facelib.reporting.audit_page import write_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def audited(browser, faces_folder, tmp_path_factory) -> Path:
    """The folder of an audit, with faces on its page; skipped like `browser`."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_CACHE", str(folder / "cache"))
        done = Audit(str(faces_folder), folder / "audit", network=False)
        list(done)
        write_page(done, show_faces=True)
        yield done.out


def press(browser, *keys: str) -> None:
    for key in keys:
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        browser.ask("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_decisions_made_by_keyboard_are_saved_and_taken_up(browser, audited, faces_folder, tmp_path):
    visit = browser.open((audited / "index.html").as_uri())
    browser.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    assert browser.value("document.querySelector('.bar button').disabled")
    press(browser, "j", "2", "j", "1", "j", "1", "0", "k", "k", "2")
    browser.value("document.querySelectorAll('select')[2].selectedIndex = 1")
    browser.value("document.querySelectorAll('select')[2].dispatchEvent(new Event('change', { bubbles: true }))")
    assert browser.value("document.querySelector('[role=status]').textContent").startswith("3 of ")
    browser.value("document.querySelector('.bar button').click()")
    end = time.monotonic() + 10
    while not (tmp_path / "decisions.csv").exists():
        assert time.monotonic() < end, "nothing was saved"
        time.sleep(0.05)
    assert not visit.complaints and not visit.failures
    assert all(url.startswith(("data:", "blob:", audited.as_uri())) for url in visit.requests)
    saved = pd.read_csv(tmp_path / "decisions.csv", keep_default_na=False)
    proposed = pd.read_csv(audited / "decisions.csv", keep_default_na=False)
    assert saved["action"].tolist().count("relabel") == 1 and saved["image_id"][0] == proposed["image_id"][0]
    assert saved["action"][:2].tolist() == ["drop", "keep"]
    (tmp_path / "decisions.csv").replace(audited / "decisions.csv")
    lines = list(Audit(str(faces_folder), audited, network=False))
    assert any("decided by a person: 3 (stale: 0)" in line for line in lines)


def test_the_page_fits_a_phone_and_can_be_read_by_day_and_by_night(browser, audited):
    address = (audited / "index.html").as_uri()
    browser.open(address, **PHONE)
    assert browser.value(TOO_WIDE) == [] and browser.value(LOST) == []
    assert browser.value("document.documentElement.scrollWidth") <= PHONE["width"]
    for scheme in ("light", "dark"):
        browser.open(address, scheme=scheme)
        contrast, text = browser.value(LEAST_CONTRAST)
        assert contrast >= 4.5, text
