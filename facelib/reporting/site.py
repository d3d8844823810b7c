"""The report of a run: one static site that needs no network, whatever names and labels its data hold."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import jinja2
import nbconvert
import nbformat
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from facelib.errors import DamagedRun
from facelib.formats import as_written
from facelib.reporting import explorer, figures, findings
from facelib.reporting.inline import digest
from facelib.runs import RunFolder, package_fingerprint
from facelib.schema import NOTEBOOKS
from facelib.storage import PARTIAL, write_text, writing

TEMPLATES = Path(__file__).parent / "templates"
MADE_FROM = ".made-from"  # of a run: the state that its report was made from
SHORT_TITLES = ("Explore", "Clean", "Train", "Two stages", "Evaluate", "Groups", "Error clusters", "Explain", "Photos")
TITLES = dict(zip(NOTEBOOKS, SHORT_TITLES, strict=True))


def build_report(run: RunFolder, notebooks: list[Path], show_faces: bool = False) -> Path:
    """Render report/ of a run: the front page, which is returned, explorer, summary.md and notebooks in their order.

    The explorer shows single faces where `style.may_show` allows it. A report of the same package and files stays as
    it is.

    DamagedRun if a file of the run is not what facelib writes.
    """
    page, made_from = run.path / "report" / "index.html", run.path / MADE_FROM
    state = _state(run, notebooks, show_faces)
    if page.exists() and made_from.exists() and made_from.read_text("utf-8") == state:
        return page
    with as_written(run.path), writing(run.path / "report"), _appearing(run.path / "report") as site:
        render_site(run, notebooks, site, show_faces)
    write_text(made_from, state)
    return page


def render_site(run: RunFolder, notebooks: list[Path], site: Path, show_faces: bool = False) -> None:
    """Render all pages of `build_report` into an empty folder."""
    exporter = _exporter()
    bodies = [(path, _notebook_body(exporter, path)) for path in notebooks]
    _write_site(run, bodies, explorer.explorer(run, show_faces), site)


def _state(run: RunFolder, notebooks: list[Path], show_faces: bool) -> str:
    """A digest of everything that a report is made from: the package, and the run's files by size and time."""
    made_by = f"{package_fingerprint()} {[path.name for path in notebooks]} {show_faces}"
    state = hashlib.sha256(made_by.encode())
    for path in sorted(path for path in TEMPLATES.rglob("*") if path.is_file()):
        state.update(path.read_bytes())
    for path in sorted(path for path in run.path.rglob("*") if path.is_file()):
        name, facts = path.relative_to(run.path), path.stat()
        if name.parts[0] not in ("report", "checkpoints") and not name.name.startswith("."):
            state.update(f"{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return state.hexdigest()


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends without an error."""
    new, old = (Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{PARTIAL}{target.name}-")) for _ in range(2))
    try:
        new.chmod(0o755)
        yield new
        if target.exists():
            os.replace(target, old / target.name)
        os.replace(new, target)
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def _write_site(run: RunFolder, notebooks: list[tuple[Path, str]], explored: dict, site: Path) -> None:
    """Render all pages, from notebooks and their bodies, and the explorer's data, into an empty folder."""
    # Names and labels come from data: every template escapes what it prints.
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    stems = [path.stem for path, _ in notebooks]
    pages = [{"file": f"{stem}.html", "number": stem[:2], "short": TITLES[stem]} for stem in stems]
    environment.globals |= {"run": run, "pages": pages, "findings": findings, "explored": bool(explored)}

    def write(file: str, template: str, **content) -> None:
        text = environment.get_template(template).render(current=file, **content)
        (site / file).write_text(text, encoding="utf-8")

    (site / "figures").mkdir()
    names = [*figures.FRONT, *(["scatter"] if "points" in explored else [])]
    drawn = {name: path.name for name, path in figures.shown(run, names, site / "figures").items()}
    rows, facts = findings.headline_rows(run), {"drawn": drawn, "shown": figures.SHOWN}
    write("index.html", "front.html.j2", title=findings.title(run), headline=rows, **facts)
    if explored:
        script = (TEMPLATES / "explorer.js").read_text(encoding="utf-8")
        facts |= {"data": explored, "json": explorer.as_json(explored), "script": script}
        write("explorer.html", "explorer.html.j2", title="Explore the errors", script_hash=digest(script), **facts)
    (site / "summary.md").write_text(findings.markdown_summary(rows), encoding="utf-8")
    for (_, body), page, before, after in zip(notebooks, pages, [None, *pages], [*pages[1:], None], strict=False):
        content = {"title": page["short"], "body": body, "contents": _contents(body), "before": before, "after": after}
        write(page["file"], "notebook_page.html.j2", **content)
    (site / "style.css").write_text(style_sheet(), encoding="utf-8")


def style_sheet() -> str:
    """The style of all pages, that of folded code included."""
    day, night = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    night = f"@media (prefers-color-scheme: dark) {{\n{night}\n.highlight {{ background: var(--panel); }}\n}}\n"
    return f"{day}\n{night}{(TEMPLATES / 'style.css').read_text(encoding='utf-8')}"


def _exporter() -> nbconvert.HTMLExporter:
    """To HTML fragments with the code folded away. Its template is loaded, so that a missing one blames no run."""
    config = Config()
    config.HTMLExporter.preprocessors = [CoalesceStreamsPreprocessor]
    exporter = nbconvert.HTMLExporter(
        config=config,
        template_name="notebook",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.template  # noqa: B018
    return exporter


def _notebook_body(exporter: nbconvert.HTMLExporter, path: Path) -> str:
    """An executed notebook as an HTML fragment."""
    try:
        body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
    except Exception as error:  # of any kind, since nbformat and nbconvert check little of what they read
        reason = str(error).strip().partition("\n")[0][:200]
        raise DamagedRun(f"{path} is no executed notebook ({reason}): run it again, --from {path.name[:2]}") from error
    # A corner of a table is no header: screen readers would announce an empty one.
    body = re.sub(r"<th(\b[^>]*)>(?:\s|&nbsp;)*</th>", r"<td\1></td>", body)
    # A table may be wider than the page: the keyboard has to reach what scrolls.
    body = re.sub(r'<div (?=class="output_html [^"]*output_subarea)', '<div tabindex="0" ', body)
    # The only active element that the page's policy allows: it sends the reader to another page.
    return re.sub(r"<(?=meta\b)", "&lt;", body, flags=re.IGNORECASE)


def _contents(body: str) -> list[dict[str, str]]:
    """Anchor and text of each second-level heading of a rendered notebook, for its table of contents."""
    headings = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', body, re.DOTALL)
    # The text is escaped again by the template that prints it.
    plain = [(anchor, unescape(re.sub(r"<[^>]*>", "", text)).rstrip("¶").strip()) for anchor, text in headings]
    return [{"anchor": unescape(anchor), "text": text} for anchor, text in plain if text]
