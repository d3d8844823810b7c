"""The report: whole from a small run, readable without a network, and nothing in it that a name smuggled in."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from facelib.evaluation.claims import judge
from facelib.finding import Finding
from facelib.reporting import findings
from facelib.reporting.figures import SHOWN, shown, stored
from facelib.reporting.site import TEMPLATES, TITLES, build_report
from facelib.runs import RunFolder, start_run
from facelib.schema import NOTEBOOKS, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Estimate
from facelib.storage import write_text

SMILE = ClassAttribute("smile", classes=("no", "yes"))
SCRIPT = "<script>alert(1)</script>"
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20" height="10" fill="#0072B2"/></svg>'
)
# Two corners without a name.
TABLE = '<table><thead><tr><th class="blank"> </th><th class="blank">&nbsp;</th><th>error</th></tr></thead></table>'
TABLE += "<table><tbody><tr><td>0-4</td><td>12.5</td></tr></tbody></table>"


class Links(HTMLParser):
    """Every address in a page, by the attribute that holds it; scripts and opened details."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            (tag, name, value or "") for name, value in attrs if name in ("src", "href", "data", "action")
        ]


def write_notebook(path: Path, title: str, outputs: list) -> Path:
    cell = v4.new_code_cell("age_years = 26  # code that is folded\nage_years", outputs=outputs, execution_count=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell(f"# {title}\n\n$x^2$ and text."), cell]), path)
    return path


@pytest.fixture
def run(filled) -> RunFolder:
    stored = filled.load_metrics("06_groups")
    claims = [claim | {"claim": f"Babies {SCRIPT}"} for claim in stored["details"]["claims"]]
    hostile = [Finding("groups.worst", f"Worse for {SCRIPT}.", n=9), Finding("groups.age_bias", "5 % apart.", n=9)]
    filled.notebook("06_groups").save({}, hostile, **stored["details"] | {"claims": claims})
    write_text(filled.path / "figures" / "01_average_faces.png", "picture")
    write_text(filled.path / "figures" / "02_copies_disagree.svg", SVG)
    return filled


@pytest.fixture
def notebooks(run) -> list[Path]:
    display = v4.new_output("display_data", {"image/svg+xml": SVG, "text/plain": "<Figure>"})
    table = v4.new_output("execute_result", {"text/html": TABLE, "text/plain": "0-4 12.5"}, execution_count=1)
    text = v4.new_output("stream", text=f"read {SCRIPT}.jpg\n")
    folder = run.path / "notebooks"
    return [
        write_notebook(folder / "01_explore.ipynb", "Explore", [display, text]),
        write_notebook(folder / "05_evaluate.ipynb", "Evaluate", [table]),
    ]


@pytest.fixture
def site(run, notebooks) -> dict[str, str]:
    front = build_report(run, notebooks)
    assert front == run.path / "report" / "index.html"
    return {path.name: path.read_text(encoding="utf-8") for path in front.parent.glob("*.html")}


def test_there_is_a_page_for_each_notebook_and_a_front_page(site, run):
    assert set(site) == {"index.html", "explorer.html", "01_explore.html", "05_evaluate.html"}
    assert not [path.name for path in run.path.iterdir() if path.name.startswith(".report")]


def test_nothing_is_loaded_from_a_network(site, run):
    for name, text in site.items():
        for tag, attribute, address in Links(text).addresses:
            assert not re.match(r"\s*(https?:|//|ftp:)", address), f"{name}: {tag} {attribute} {address}"
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text), name
    style = (run.path / "report" / "style.css").read_text(encoding="utf-8")
    assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style)


def test_no_page_but_the_explorer_runs_a_script_and_that_is_named_by_its_digest(site):
    allowed = "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    allowed += "base-uri 'none'; form-action 'none'"
    for name, text in site.items():
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1).replace("&#39;", "'")
        if name != "explorer.html":
            assert "script" not in Links(text).tags and policy == allowed, name
    text = site["explorer.html"]
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1).replace("&#39;", "'")
    assert policy == f"{allowed}; script-src 'sha256-{digest}'" and "<" not in data
    assert len(script.splitlines()) <= 200 and not re.search(r"innerHTML|eval\(|fetch\(|import\b", script)


def test_links_among_pages_lead_to_files(site, run):
    for name, text in site.items():
        addresses = [address for _, _, address in Links(text).addresses if not address.startswith(("data:", "#"))]
        assert {"index.html", "01_explore.html", "style.css"} <= set(addresses), name
        for address in addresses:
            assert (run.path / "report" / address.partition("#")[0]).is_file(), f"{name}: {address}"


def test_figures_are_copied_so_that_the_report_can_be_moved(site, run):
    assert (run.path / "report" / "figures" / "01_faces.png").read_text() == "picture"
    assert "figures/01_faces.png" in site["index.html"]


def test_code_is_folded_away(site):
    for name in ("01_explore.html", "05_evaluate.html"):
        details = re.findall(r"<details class=\"code\">(.*?)</details>", site[name], re.S)
        assert len(details) == 1 and "code that is folded" in details[0]
        assert "code that is folded" not in site[name].replace(details[0], "")
        assert "<details open" not in site[name]


def test_outputs_stand_outside_the_fold(site):
    explore = re.sub(r"<details.*?</details>", "", site["01_explore.html"], flags=re.S)
    drawing = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', explore)
    assert "<rect" in (base64.b64decode(drawing.group(1)).decode() if drawing else explore)
    assert "12.5" in re.sub(r"<details.*?</details>", "", site["05_evaluate.html"], flags=re.S)


def test_names_and_labels_are_escaped(site):
    for text in site.values():
        assert SCRIPT not in text
    assert "&lt;script&gt;alert(1)" in site["index.html"]
    assert "&lt;script&gt;alert(1)" in site["01_explore.html"]


def test_a_run_whose_parameters_carry_markup_is_escaped(run, notebooks):
    run.update_params(commit=SCRIPT, device=f'"><img src=x onerror=1>{SCRIPT}', data={"fingerprint": SCRIPT})
    build_report(run, notebooks)
    for path in (run.path / "report").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert SCRIPT not in text and "<img src=x" not in text
        assert path.name == "explorer.html" or "<script" not in text


def test_headline_numbers_carry_unit_interval_n_baseline_and_the_cleaned_value(site):
    row = re.search(r"<tr><th[^>]*>Age: mean absolute error.*?</tr>", site["index.html"], re.S).group()
    cells = re.findall(r">([^<>]+)</", row)
    assert cells == ["Age: mean absolute error", "4.86 y", "4.50 to 5.20", "1,234", "15.20 y", "4.70 y"]
    assert "91.2 %" in site["index.html"]
    assert "inconclusive" in site["index.html"]


@pytest.mark.parametrize("ends", [(1, 3), (-3, -1)])
def test_an_answer_that_decides_a_claim_has_a_colour_of_its_own(ends):
    answer = judge("a claim", "a difference", Estimate(sum(ends) / 2, *ends, 9), 0.95).answer
    assert f".answer.{answer.replace(' ', '-')} " in (TEMPLATES / "style.css").read_text(encoding="utf-8")
    colours = re.search(r"#let answers = (.*)", (TEMPLATES / "slides.typ").read_text(encoding="utf-8")).group(1)
    assert answer in re.findall(r'"?([a-z ]+)"?: rgb', colours)


def test_the_summary_is_the_headline_table_in_markdown(site, run):
    lines = (run.path / "report" / "summary.md").read_text(encoding="utf-8").splitlines()
    assert lines[2] == "| Age: mean absolute error | 4.86 y | 4.50 to 5.20 | 1,234 | 15.20 y |"
    assert all(line.count("|") == 6 for line in lines)


def test_a_corner_of_a_table_is_no_header(site):
    page = site["05_evaluate.html"]
    assert (
        "<th>error</th>" in page and '<td class="blank"></td>' in page and not re.search(r"<th\b[^>]*>\s*</th>", page)
    )


def test_the_keyboard_reaches_a_table_that_scrolls(site):
    outputs = re.findall(r'<div ([^>]*)class="output_html [^"]*output_subarea', site["05_evaluate.html"])
    assert outputs and set(outputs) == {'tabindex="0" '}


def test_synthetic_results_are_labelled_on_every_page(site, tmp_path, notebooks):
    assert all("Synthetic faces" in text for text in site.values())
    real = start_run("real", "smoke", str(tmp_path))
    real.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    front = build_report(real, notebooks)
    assert all("Synthetic faces" not in path.read_text(encoding="utf-8") for path in front.parent.glob("*.html"))


def test_a_rebuilt_report_replaces_the_old_one(run, notebooks):
    build_report(run, notebooks)
    (run.path / "report" / "old.html").touch()
    build_report(run, notebooks[:1])
    assert {path.name for path in (run.path / "report").glob("*_*.html")} == {"01_explore.html"}
    first = (run.path / "report" / "index.html").read_bytes()
    build_report(run, notebooks[:1])
    assert (run.path / "report" / "index.html").read_bytes() == first


def test_a_report_is_rendered_again_only_if_what_it_is_made_from_changed(run, notebooks, monkeypatch):
    front = build_report(run, notebooks)
    rendered = front.stat().st_mtime_ns
    assert build_report(run, notebooks).stat().st_mtime_ns == rendered
    write_notebook(notebooks[0], "Explore anew", [])
    assert "Explore anew" in (build_report(run, notebooks).parent / "01_explore.html").read_text(encoding="utf-8")
    again = front.stat().st_mtime_ns
    assert again > rendered
    monkeypatch.setattr("facelib.reporting.site.package_fingerprint", lambda: "another")
    assert build_report(run, notebooks).stat().st_mtime_ns > again


def test_a_run_that_has_only_begun_has_a_report(begun):
    page = write_notebook(begun.path / "notebooks" / "01_explore.ipynb", "Explore", [])
    assert "run small" in build_report(begun, [page]).read_text(encoding="utf-8")


def test_the_front_page_quotes_findings_and_links_to_their_notebooks(site, run):
    answers = re.search(r'<section class="answers".*?</section>', site["index.html"], re.S).group()
    assert re.findall(r"<h3>(.*?)</h3>", answers) == [row.question for row in findings.QUESTIONS]
    leads = re.findall(r'<p class="finding">(.*?)</p>', answers)
    texts = [run.findings()[row.lead].text.replace("<", "&lt;").replace(">", "&gt;") for row in findings.QUESTIONS]
    assert leads == texts and f"<li>{run.findings()['test.age'].text}</li>" in answers
    assert "<li>5\u00a0% apart.</li>" in answers
    assert answers.count('href="05_evaluate.html"') == 3 and 'href="06_groups.html"' not in answers  # no such page


def test_every_notebook_has_a_short_title():
    assert list(TITLES) == list(NOTEBOOKS) and len(set(TITLES.values())) == len(TITLES)


def test_the_front_page_leads_with_pictures_each_over_its_finding_and_the_questions_beside(site, run):
    page = site["index.html"]
    opening = re.search(r'<div class="opening">.*?</nav></div>', page, re.S).group()
    assert re.findall(r'<img src="figures/([^"]*)"', opening) == ["01_faces.png", "06_age_error.svg"]
    assert re.findall(r"<b>(.*?)</b>", opening) == [row.question for row in findings.QUESTIONS]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", opening)
    assert captions == ["Text of data.faces.", "Age error by age, with its interval."]  # without a finding of its own
    assert opening.count('href="#answer-') == len(findings.QUESTIONS) and 'id="answer-6"' in page
    rest = page.replace(opening, "")
    assert re.findall(r'<a href="([^"]*)"><img src="figures/([^"]*)"', rest)[-1] == ("index.html", "02_copies.svg")
    assert page.index("<figure>") < page.index("<table")  # numbers stand below


def test_figures_are_drawn_from_the_numbers_of_a_run_else_its_own_are_shown(run, tmp_path):
    made = shown(run, ("faces", "age_error", "worse", "two_by_age", "intervals", "two_stages", "maps"), tmp_path)
    assert {name: path.name for name, path in made.items()} == {
        "faces": "01_faces.png", "age_error": "06_age_error.svg", "worse": "06_worse.svg",
        "two_by_age": "06_two_by_age.svg", "intervals": "05_intervals.svg",
    }  # fmt: skip
    assert "Gender accuracy, test split" in made["two_by_age"].read_text(encoding="utf-8")
    assert stored(run, "copies").name == "02_copies_disagree.svg" and stored(run, "maps") is None
    assert SHOWN["two_by_age"].key(run) == "groups.gender" and SHOWN["scatter"].key(run) == "test.age"


def test_a_run_of_another_attribute_has_its_own_front_page(begun, fill, notebooks):
    begun.set_attributes((SMILE,), (SMILE,))
    page = build_report(fill(begun), notebooks).read_text(encoding="utf-8")
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", page)
    assert "Smile from faces" in text and "Text of test.smile." in text
    assert not re.search("gender|ethnicity", text, re.IGNORECASE)


def test_a_page_lists_its_sections_and_its_neighbours(run):
    folder = run.path / "notebooks"
    write_notebook(folder / "01_explore.ipynb", "Explore", [])
    cells = [
        v4.new_markdown_cell(f"# Clean\n\n## Copies & *near* copies {SCRIPT}\n\ntext"),
        v4.new_markdown_cell("## Split"),
    ]
    nbformat.write(v4.new_notebook(cells=cells), folder / "02_clean.ipynb")
    build_report(run, [folder / "01_explore.ipynb", folder / "02_clean.ipynb"])
    text = (run.path / "report" / "02_clean.html").read_text(encoding="utf-8")
    contents = re.search(r'<nav class="contents".*?</nav>', text, re.S).group()
    links = re.findall(r'<a href="#([^"]*)">(.*?)</a>', contents)
    assert [name for _, name in links] == ["Copies &amp; near copies alert(1)", "Split"]
    assert all(f'id="{anchor}"' in text for anchor, _ in links)
    assert '<a href="01_explore.html">← 01 Explore</a>' in text and 'class="next"' not in text
