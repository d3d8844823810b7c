"""The page of an audit: what the tables hold, no face unless asked for, and one script, named by its digest."""

import base64
import hashlib
import json
import re
from html import escape
from html.parser import HTMLParser

import pandas as pd
import pytest

from facelib.audit.report import Audit
from facelib.data.readers import read_faces
from facelib.reporting.audit_page import write_page
from facelib.runs import DataSet


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and those that were not closed."""

    def __init__(self, page: str):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def audit(faces_folder, tmp_path_factory) -> Audit:
    """An audit without the face network; one file is a person's decision already."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_CACHE", str(folder / "cache"))
        done = Audit(str(faces_folder), folder / "audit", network=False)
        list(done)
        first = pd.read_csv(done.out / "decisions.csv", keep_default_na=False).iloc[[0]]
        first.assign(action="drop").to_csv(done.out / "decisions.csv", index=False)
        again = Audit(str(faces_folder), folder / "audit", network=False)
        list(again)
        yield again


@pytest.fixture(scope="module")
def page(audit) -> str:
    return write_page(audit).read_text(encoding="utf-8")


def test_the_page_is_whole_and_holds_what_the_tables_hold(audit, page):
    elements = Elements(page)
    assert elements.open == []
    candidates = [attributes for _, attributes in elements.found if attributes.get("class") == "candidate"]
    table = pd.read_csv(audit.out / "decisions.csv", keep_default_na=False)
    assert len(candidates) == len(table) > 3 and [c["data-before"] for c in candidates].count("drop") == 1
    for row in table.itertuples():
        assert escape(row.image_id) in page and escape(row.reason) in page
    summary = pd.read_csv(audit.out / "audit.csv")
    assert all(escape(measure) in page for measure in summary["measure"])
    assert all(finding.text in page for finding in audit.findings) and len(audit.findings) == 2
    places = {attributes.get("id") for _, attributes in elements.found}
    links = [attributes["href"] for tag, attributes in elements.found if tag == "a"]
    assert all(link[1:] in places if link.startswith("#") else (audit.out / link).is_file() for link in links)


def test_the_policy_names_the_script_and_the_style_that_the_page_holds(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in policy or f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")


def test_faces_are_shown_only_where_they_are_asked_for(audit, page):
    assert "image/jpeg" not in page and "must not be shared" not in page
    shown = write_page(audit, show_faces=True).read_text(encoding="utf-8")
    assert "must not be shared" in shown
    pictures = [a for tag, a in Elements(shown).found if tag == "img" and a["src"].startswith("data:image/jpeg")]
    assert {picture["alt"] for picture in pictures} >= set(audit.decisions["image_id"])
    assert len(pictures) > len(audit.decisions)  # copies stand side by side


def test_names_of_files_are_no_markup(faces_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    content, name = next(iter(faces_folder.iterdir())).read_bytes(), "<img src=x onerror=alert(1)>\"'&.jpg"
    (tmp_path / "faces").mkdir()
    for copy in (name, "b.jpg"):
        (tmp_path / "faces" / copy).write_bytes(content)
    table = tmp_path / "table.csv"
    pd.DataFrame({"path": [name, "b.jpg"], "gender": ["male", "female"]}).to_csv(table, index=False)
    done = Audit([DataSet(str(table), str(tmp_path / "faces"))], tmp_path / "out", network=False)
    list(done)
    elements = Elements(write_page(done, show_faces=True).read_text(encoding="utf-8"))
    pictures = [attributes for tag, attributes in elements.found if tag == "img"]
    assert not any("onerror" in attributes for attributes in pictures) and name in {a["alt"] for a in pictures}
    saved = [json.loads(attributes["data-saved"]) for _, attributes in elements.found if "data-saved" in attributes]
    assert [name, "label:gender"] in [row[:2] for row in saved]


def test_bands_of_ages_stand_beside_a_candidate(faces_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    faces = read_faces(faces_folder).faces
    first = (faces["age"] // 20 * 20).astype(int)
    faces.assign(age=first.astype(str) + "-" + (first + 19).astype(str))[["path", "age"]].to_csv(tmp_path / "bands.csv")
    done = Audit([DataSet(str(tmp_path / "bands.csv"), str(faces_folder))], tmp_path / "audit", network=False)
    list(done)
    page = write_page(done).read_text(encoding="utf-8")
    assert re.search(r'<span class="note">age \d+-\d+</span>', page) and "age unknown" not in page
