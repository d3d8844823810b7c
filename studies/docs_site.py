"""The pages of this repository as one site with the published report, readable without a network.

usage: python -m studies.docs_site [FOLDER], by default build/docs
"""

import os
import re
import shutil
import sys
from html import escape, unescape
from pathlib import Path

import jinja2
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from facelib.reporting.site import TEMPLATES, render_site, style_sheet
from facelib.runs import RunFolder, project_root
from facelib.schema import NOTEBOOKS

ROOT = project_root()
REFERENCE = ROOT / "reports" / "utkface"


def sources() -> list[Path]:
    """The Markdown pages, in the order of the navigation."""
    docs = sorted((ROOT / "docs").glob("*.md"))
    return [ROOT / "README.md", *docs, ROOT / "data" / "README.md", *sorted((ROOT / "reports").rglob("*.md"))]


def file_of(page: Path) -> str:
    """The name of a page in the site: `reports/audit/README.md` is `reports-audit.html`.

    Examples
    --------
    >>> file_of(ROOT / "README.md"), file_of(ROOT / "docs" / "data.md")
    ('index.html', 'docs-data.html')
    """
    parts = page.relative_to(ROOT).with_suffix("").parts
    return "-".join(part for part in parts if part != "README") + ".html" if parts != ("README",) else "index.html"


def anchor(heading: str) -> str:
    """The anchor of a heading's text, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def body(page: Path, site: Path) -> str:
    """A page as HTML: links lead to pages of the site, else to files of the checkout; pictures are copied."""
    html = markdown2html_mistune(page.read_text(encoding="utf-8"))
    html = re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", html)
    pages = {source.resolve(): file_of(source) for source in sources()}

    def heading(match: re.Match) -> str:
        name = anchor(unescape(re.sub(r"<[^>]*>", "", match[2])))
        return f'<h{match[1]} id="{escape(name)}">{match[2]}</h{match[1]}>'

    def link(match: re.Match) -> str:
        kind, target = match[1], unescape(match[2])
        path, hash_, place = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        file = (page.parent / path).resolve()
        if file in pages:
            target = pages[file] + hash_ + place
        elif kind == "src":
            (site / "files").mkdir(exist_ok=True)
            name = "-".join(file.relative_to(ROOT).parts)
            shutil.copy(file, site / "files" / name)
            target = f"files/{name}"
        else:
            target = os.path.relpath(file, site)
        return f'{kind}="{escape(target)}"'

    html = re.sub(r"<h([1-6])[^>]*>(.*?)</h\1>", heading, html, flags=re.DOTALL)
    return re.sub(r'\b(href|src)="([^"]*)"', link, html)


def build(site: Path) -> Path:
    """Render the site into a folder, which is replaced; its front page."""
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    named = [page for page in sources() if page.parent in (ROOT, ROOT / "docs")]
    navigation = [{"file": file_of(page), "number": "", "short": page.stem.capitalize()} for page in named]
    navigation[0]["short"] = "Start"
    navigation += [{"file": "reports.html", "number": "", "short": "Reports"}]
    if (REFERENCE / "results.json").exists():
        run = RunFolder(REFERENCE)
        (site / "report").mkdir()
        render_site(run, [REFERENCE / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS], site / "report")
        navigation.append({"file": "report/index.html", "number": "", "short": "The reference run"})
    template = environment.get_template("document.html.j2")
    for page in sources():
        html, name = body(page, site), file_of(page)
        title = re.search(r"(?m)^# (.*)$", page.read_text(encoding="utf-8"))
        text = template.render(body=html, title=title[1] if title else name, pages=navigation, current=name)
        (site / name).write_text(text, encoding="utf-8")
    (site / "style.css").write_text(style_sheet(), encoding="utf-8")
    return site / "index.html"


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"))
