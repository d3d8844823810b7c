"""The site of the docs: every page, links that lead to its pages and places, nothing that is loaded or run."""

import re
from pathlib import Path

import pytest

from studies import docs_site


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    patch = pytest.MonkeyPatch()
    patch.setattr(docs_site, "REFERENCE", Path("none"))  # the report has tests of its own
    folder = tmp_path_factory.mktemp("site")
    docs_site.build(folder)
    patch.undo()
    return folder


def test_every_page_is_there_and_its_links_lead_somewhere(site):
    assert {docs_site.file_of(page) for page in docs_site.sources()} == {path.name for path in site.glob("*.html")}
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text and "default-src 'none'" in text
        for target in re.findall(r'(?:href|src)="([^"]*)"', text):
            path, _, place = target.partition("#")
            if "://" in target or target.startswith(("data:", "mailto:")):
                continue
            file = page.parent / path if path else page
            assert file.exists(), (page.name, target)
            if place and file.suffix == ".html":
                assert f'id="{place}"' in file.read_text(encoding="utf-8"), (page.name, target)


def test_an_anchor_is_made_as_github_makes_it():
    assert docs_site.anchor("Limits, and responsible use") == "limits-and-responsible-use"
