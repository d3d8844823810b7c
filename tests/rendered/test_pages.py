"""Every page of a run's report in Chromium: `make test-browser` makes the run first."""

import os
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat import v4

from facelib import runs
from facelib.audit.report import Audit
from facelib.finding import Finding
from facelib.reporting.audit_page import write_page
from facelib.reporting.findings import QUESTIONS
from facelib.reporting.site import build_report
from facelib.schema import NOTEBOOKS, UTKFACE_ATTRIBUTES
from facelib.statistics import Estimate

pytestmark = pytest.mark.slow

RUN = os.environ.get("FACELIB_RUN") or "smoke"
PHONE = {"width": 390, "height": 844}
PAGES = ["index", "explorer", *NOTEBOOKS]
MOST_WORDS = 120  # above the fold of the front page
MOST_BYTES = 12e6  # of the whole site
PAINT_S = 1.5  # until the front page is first painted, from disk
AXE = runs.project_root() / "node_modules" / "axe-core" / "axe.min.js"
# Elements that reach beyond the window and lie in no box of their own that scrolls.
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter(element => {
  if (element.getBoundingClientRect().right <= window.innerWidth + 1) return false;
  for (let box = element; box !== document.body; box = box.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(box).overflowX)
        && box.getBoundingClientRect().right <= window.innerWidth + 1) return false;
  return true;
}).slice(0, 5).map(element => element.tagName + ' ' + element.className + ' ' + element.textContent.slice(0, 60))
"""
# The least contrast (WCAG) of text against what lies behind it, over the page's texts outside figures.
LEAST_CONTRAST = """
(() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  let least = [99, ''];
  for (const element of document.querySelectorAll('h1, h2, p, li, td, th, a, summary, figcaption, footer, .answer')) {
    if (!element.textContent.trim() || element.closest('svg')) continue;
    let behind = element;
    while (behind && numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const back = behind ? numbers(getComputedStyle(behind).backgroundColor) : [255, 255, 255];
    const [a, b] = [luminance(numbers(getComputedStyle(element).color)), luminance(back)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least[0]) least = [contrast, element.tagName + ' ' + element.textContent.slice(0, 60)];
  }
  return least;
})()
"""
BROKEN_IMAGES = "[...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 80))"
LINKS = "[...document.querySelectorAll('a[href], link[href]')].map(link => link.href)"
# Places on the page that a link names and that are not there, found as HTML says: as written, else decoded.
LOST = """
[...document.querySelectorAll('a[href^="#"]')].map(link => link.hash.slice(1)).filter(place =>
  !document.getElementById(place) && !document.getElementById(decodeURIComponent(place)))
"""


@pytest.fixture(scope="module")
def site() -> Path:
    folder = runs.runs_root() / RUN
    notebooks = [folder / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    if not all(path.exists() for path in notebooks):
        pytest.skip(f"run {RUN!r} has no executed notebooks: `make test-browser` makes them")
    return build_report(runs.open_run(RUN), notebooks).parent


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_whole_without_a_complaint_or_a_request(browser, site, name):
    visit = browser.open((site / f"{name}.html").as_uri())
    assert not visit.complaints and not visit.failures
    outside = [url for url in visit.requests if not url.startswith(("data:", site.as_uri()))]
    assert not outside and len(visit.requests) >= 2  # the page and its style
    assert browser.value(BROKEN_IMAGES) == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_to_places_on_the_page(browser, site, name):
    browser.open((site / f"{name}.html").as_uri())
    for address in browser.value(LINKS):
        if not address.startswith("data:"):
            assert address.startswith(site.as_uri()), address
            assert Path(address.removeprefix("file://").partition("#")[0]).is_file(), address
    assert browser.value(LOST) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(browser, site, name):
    browser.open((site / f"{name}.html").as_uri(), **PHONE)
    assert browser.value("document.documentElement.scrollWidth") <= PHONE["width"]
    assert browser.value(TOO_WIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_texts_can_be_read_by_day_and_by_night(browser, site, name, scheme):
    browser.open((site / f"{name}.html").as_uri(), scheme=scheme)
    contrast, text = browser.value(LEAST_CONTRAST)
    assert contrast >= 4.5, text


# Words of texts that lie above the fold, those that only a screen reader meets left out.
WORDS = """
(() => {
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT), words = [];
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (box.top < innerHeight && box.height && !walker.currentNode.parentElement.closest('.unseen'))
      words.push(...walker.currentNode.textContent.trim().split(/\\s+/).filter(word => word));
  }
  return words.length;
})()
"""


def test_the_front_page_opens_with_pictures_and_the_questions_in_few_words(browser, site):
    browser.open((site / "index.html").as_uri(), width=1280, height=800)
    bottoms = "[...document.querySelectorAll('.questions li')].map(box => box.getBoundingClientRect().bottom)"
    assert len(browser.value(bottoms)) == len(QUESTIONS) and max(browser.value(bottoms)) <= 800
    assert browser.value("document.querySelector('.opening img').getBoundingClientRect().top") < 200
    assert 20 < browser.value(WORDS) <= MOST_WORDS


def test_by_night_drawings_turn_dark_and_photographs_do_not(browser, site):
    browser.open((site / "index.html").as_uri(), scheme="dark")
    look = "image => [image.src.slice(-3), getComputedStyle(image).filter]"
    filters = {
        kind: value != "none"
        for kind, value in browser.value(f"[...document.querySelectorAll('figure img')].map({look})")
    }
    assert filters == {"svg": True, "png": False}
    assert browser.value("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


def test_the_front_page_is_painted_soon_and_the_site_is_small(browser, site):
    browser.open((site / "index.html").as_uri())
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
    assert browser.value(paint) / 1000 < PAINT_S
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < MOST_BYTES


def test_the_explorer_filters_faces_and_tells_them_by_keyboard(browser, site):
    browser.open((site / "explorer.html").as_uri())
    status = "document.getElementById('point-status').textContent"
    assert browser.value("[...document.querySelectorAll('.plain')].every(figure => figure.hidden)")
    before = browser.value(status)
    press = "document.getElementById('points').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    browser.value(press)
    assert "Age: label" in browser.value("document.getElementById('tip').textContent")
    choose = "(select => { select.value = '1'; select.dispatchEvent(new Event('change')); })"
    browser.value(f"{choose}(document.querySelectorAll('#point-controls select')[1])")
    shown, held = (int(text.split(" ")[0].replace(",", "")) for text in (browser.value(status), before))
    assert 0 < shown < held  # one split of three
    groups = "document.querySelectorAll('#groups .dot').length"
    few = browser.value(groups)
    browser.value(f"{choose}(document.querySelectorAll('#group-controls select')[1])")
    assert browser.value(groups) != few > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(browser, site, name, scheme):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    browser.open((site / f"{name}.html").as_uri(), scheme=scheme)
    browser.value(AXE.read_text(encoding="utf-8") + ";0")
    run = (
        "axe.run().then(found => found.violations.map(v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 120))]))"
    )
    answer = browser.ask("Runtime.evaluate", expression=run, awaitPromise=True, returnByValue=True)
    assert answer["result"]["value"] == []


def test_printed_pages_carry_neither_navigation_nor_code(browser, site):
    browser.open((site / "02_clean.html").as_uri())
    display = "name => getComputedStyle(document.querySelector(name)).display"
    hidden = f"['header nav', '.contents', 'details.code'].map({display})"
    assert "none" not in browser.value(hidden)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    printed = browser.value(hidden)
    browser.ask("Emulation.setEmulatedMedia", media="")
    assert printed == ["none"] * 3


@pytest.fixture
def wide_site(browser, empty_runs) -> Path:
    """A report with long names, a wide table and long lines of output; skipped like `browser`."""
    run = runs.start_run("w" * 60, "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    long = Finding("groups.worst", f"Worse for {'name' * 40}.", n=9)
    run.notebook("05_evaluate").save({"test.age.mae": Estimate(4.0, 3.0, 5.0, 9, "years")}, [long])
    run.update_params(device="processor" * 30)
    row = "".join(f"<td>{'name' * 6}</td>" for _ in range(20))
    outputs = [
        v4.new_output("display_data", {"text/html": f"<table><tbody><tr>{row}</tr></tbody></table>"}),
        v4.new_output("stream", text="x" * 500),
    ]
    cells = [v4.new_markdown_cell(f"## {'heading' * 12}\n\n{'text' * 80}"), v4.new_code_cell("1", outputs=outputs)]
    (run.path / "notebooks").mkdir()
    nbformat.write(v4.new_notebook(cells=cells), run.path / "notebooks" / "01_explore.ipynb")
    return build_report(run, [run.path / "notebooks" / "01_explore.ipynb"]).parent


@pytest.mark.parametrize("name", ["index", "01_explore"])
def test_long_names_and_wide_tables_keep_to_their_boxes(browser, wide_site, name):
    browser.open((wide_site / f"{name}.html").as_uri(), **PHONE)
    assert browser.value("document.documentElement.scrollWidth") <= PHONE["width"]
    assert browser.value(TOO_WIDE) == []


def test_faults_on_a_page_are_noticed(browser, tmp_path):
    page = tmp_path / "faulty.html"
    page.write_text(
        "<!DOCTYPE html><title>x</title><img src='gone.png'><img src='http://127.0.0.1:9/x.png'>"
        "<a href='#nowhere'>x</a><p style='width: 900px'>wide</p><p style='color: #999'>faint</p>"
        "<script>console.error('no')</script>"
    )
    visit = browser.open(page.as_uri(), **PHONE)
    assert any("'no'" in text for text in visit.complaints) and len(visit.failures) == 2
    assert "http://127.0.0.1:9/x.png" in visit.requests
    assert browser.value(LOST) == ["nowhere"]
    assert len(browser.value(BROKEN_IMAGES)) == 2 and len(browser.value(TOO_WIDE)) >= 1
    assert browser.value("document.documentElement.scrollWidth") > PHONE["width"]
    assert browser.value(LEAST_CONTRAST)[0] < 4.5


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
    """Press keys one after the other."""
    for key in keys:
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        browser.ask("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_decisions_made_by_keyboard_are_saved_and_taken_up(browser, audited, faces_folder, tmp_path):
    visit = browser.open((audited / "index.html").as_uri())
    browser.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    assert browser.value("document.querySelector('.bar button').disabled")
    press(browser, "j", "2", "j", "1", "j", "1", "0", "1", "k", "k", "2")
    second = "document.querySelectorAll('.candidate select')[1]"
    browser.value(f"{second}.selectedIndex = 1")
    browser.value(f"{second}.dispatchEvent(new Event('change', {{ bubbles: true }}))")
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
    assert saved["action"][:2].tolist() == ["drop", "relabel"]
    (tmp_path / "decisions.csv").replace(audited / "decisions.csv")
    lines = list(Audit(str(faces_folder), audited, network=False))
    assert any("decided by a person: 3 (stale: 0)" in line for line in lines)


def test_the_audits_page_fits_a_phone_and_can_be_read_by_day_and_by_night(browser, audited):
    address = (audited / "index.html").as_uri()
    browser.open(address, **PHONE)
    assert browser.value(TOO_WIDE) == [] and browser.value(LOST) == []
    assert browser.value("document.documentElement.scrollWidth") <= PHONE["width"]
    for scheme in ("light", "dark"):
        browser.open(address, scheme=scheme)
        contrast, text = browser.value(LEAST_CONTRAST)
        assert contrast >= 4.5, text
