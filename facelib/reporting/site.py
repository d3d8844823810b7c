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
from facelib.reporting import findings
from facelib.runs import RunFolder, package_fingerprint
from facelib.schema import NOTEBOOKS
from facelib.storage import PARTIAL, write_text, writing

TEMPLATES = Path(__file__).parent / "templates"
MADE_FROM = ".made-from"  # of a run: the state that its report was made from
SHORT_TITLES = (
    "Explore", "Clean", "Train", "Two stages", "Evaluate", "Groups", "Error clusters", "Explain", "Photos",
)  # fmt: skip
TITLES = dict(zip(NOTEBOOKS, SHORT_TITLES, strict=True))
# Figures of the front page, in order, by pattern of their files; `{}` stands for the words of the file's name.
FRONT_FIGURES = {
    "01_average_faces.png": "Average faces by group, each over many images",
    "04_two_stage_errors.svg": "Age error of direct and two-stage prediction; oracle rows know the true bin",
    "05_age_scatter.svg": "Predicted against labelled age",
    "06_age_bias.svg": "Mean of predicted minus labelled age, by age band",
    "06_age_limits.svg": "Who passes an age limit of 18 or 25 years, by labelled age",
    "05_selective.svg": "Accuracy against the share answered, and whose faces are answered",
    "06_*_by_age.svg": "{}: accuracy, test split",
    "06_age_error_by_*.svg": "{}, test split",
    "08_mean_maps.png": "Mean attribution maps over an average face",
    "02_copies_disagree.svg": "Copies, and how often their labels differ",
}


def front_figures(run: RunFolder) -> dict[str, str]:
    """The figures of the front page that a run has: name of the file, and what it shows."""
    return {
        path.name: text.format(path.stem[3:].replace("_", " ").capitalize())
        for pattern, text in FRONT_FIGURES.items()
        for path in sorted((run.path / "figures").glob(pattern))
    }


def build_report(run: RunFolder, notebooks: list[Path]) -> Path:
    """Render report/ of a run: the front page, which is returned, summary.md and executed notebooks in their order.

    A report of the same package and files stays as it is.

    DamagedRun if a file of the run is not what facelib writes.
    """
    page, made_from = run.path / "report" / "index.html", run.path / MADE_FROM
    state = _state(run, notebooks)
    if page.exists() and made_from.exists() and made_from.read_text("utf-8") == state:
        return page
    exporter = _exporter()
    with as_written(run.path), writing(run.path / "report"), _appearing(run.path / "report") as site:
        _write_site(run, [(path, _notebook_body(exporter, path)) for path in notebooks], site)
    write_text(made_from, state)
    return page


def _state(run: RunFolder, notebooks: list[Path]) -> str:
    """A digest of everything that a report is made from: the package, and the run's files by size and time."""
    digest = hashlib.sha256(f"{package_fingerprint()} {[path.name for path in notebooks]}".encode())
    for path in sorted(path for path in TEMPLATES.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    for path in sorted(path for path in run.path.rglob("*") if path.is_file()):
        name, facts = path.relative_to(run.path), path.stat()
        if name.parts[0] not in ("report", "checkpoints") and not name.name.startswith("."):
            digest.update(f"{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


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


def _write_site(run: RunFolder, notebooks: list[tuple[Path, str]], site: Path) -> None:
    """Render all pages, from notebooks and their bodies, into an empty folder."""
    # Names and labels come from data: every template escapes what it prints.
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    stems = [path.stem for path, _ in notebooks]
    pages = [{"file": f"{stem}.html", "number": stem[:2], "short": TITLES[stem]} for stem in stems]
    environment.globals |= {"run": run, "pages": pages, "findings": findings}

    def write(file: str, template: str, **content) -> None:
        text = environment.get_template(template).render(current=file, **content)
        (site / file).write_text(text, encoding="utf-8")

    shown, rows = front_figures(run), findings.headline_rows(run)
    (site / "figures").mkdir()
    for file in shown:
        shutil.copy(run.path / "figures" / file, site / "figures" / file)
    write("index.html", "front.html.j2", title=findings.title(run), headline=rows, figures=shown)
    (site / "summary.md").write_text(findings.markdown_summary(rows), encoding="utf-8")
    for (_, body), page, before, after in zip(notebooks, pages, [None, *pages], [*pages[1:], None], strict=False):
        content = {"title": page["short"], "body": body, "contents": _contents(body), "before": before, "after": after}
        write(page["file"], "notebook_page.html.j2", **content)
    day, night = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    night = f"@media (prefers-color-scheme: dark) {{\n{night}\n.highlight {{ background: var(--panel); }}\n}}\n"
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    (site / "style.css").write_text(f"{day}\n{night}{style}", encoding="utf-8")


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
    # The only active element that the page's policy allows: it sends the reader to another page.
    return re.sub(r"<(?=meta\b)", "&lt;", body, flags=re.IGNORECASE)


def _contents(body: str) -> list[dict[str, str]]:
    """Anchor and text of each second-level heading of a rendered notebook, for its table of contents."""
    headings = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', body, re.DOTALL)
    # The text is escaped again by the template that prints it.
    plain = [(anchor, unescape(re.sub(r"<[^>]*>", "", text)).rstrip("¶").strip()) for anchor, text in headings]
    return [{"anchor": unescape(anchor), "text": text} for anchor, text in plain if text]
