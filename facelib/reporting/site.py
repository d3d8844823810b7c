"""The report of a run: one static site that needs no network to read, whatever names and labels its data hold."""

import contextlib
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
from facelib.reporting import findings
from facelib.runs import RunFolder, as_written
from facelib.schema import NOTEBOOKS
from facelib.storage import PARTIAL, writing

TEMPLATES = Path(__file__).parent / "templates"
SHORT = ("Explore", "Clean", "Train", "Two stages", "Evaluate", "Error clusters", "Explain", "External photos")

FRONT_FIGURES = {
    "01_average_faces.png": "Average faces by age band and gender, each over many images",
    "04_two_stage_errors.svg": "What a two-stage age error can mean: routed, soft, and told the true bin",
    "05_age_scatter.svg": "Predicted against labelled age",
    "05_age_bias.svg": "Who is predicted too young or too old",
    "05_gender_by_age.svg": "Gender accuracy by age band",
    "05_age_error_by_ethnicity.svg": "Age error by age band and ethnicity label",
    "07_mean_maps.png": "Mean attribution maps over an average face",
    "02_copies_disagree.svg": "Copies, and how often their labels disagree",
}


def _notebook_body(path: Path) -> str:
    """An executed notebook as an HTML fragment with its code folded away."""
    config = Config()
    config.HTMLExporter.preprocessors = [CoalesceStreamsPreprocessor]
    exporter = nbconvert.HTMLExporter(
        config=config,
        template_name="notebook",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    try:
        body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
    except Exception as error:  # nbformat and nbconvert pass on whatever a damaged notebook makes them stumble over
        reason = str(error).strip().partition("\n")[0][:200]
        raise DamagedRun(f"{path} is no executed notebook ({reason}): run it again, --from {path.name[:2]}") from error
    # The one thing in a body that can act and that the page's policy does not forbid: sending the reader elsewhere.
    return re.sub(r"<(?=meta\b)", "&lt;", body, flags=re.IGNORECASE)


def _contents(body: str) -> list[dict[str, str]]:
    """Anchor and text of each second-level heading of a rendered notebook, for its table of contents."""
    headings = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', body, re.DOTALL)
    # The text is escaped again by the template that prints it.
    plain = [(anchor, unescape(re.sub(r"<[^>]*>", "", text)).rstrip("¶").strip()) for anchor, text in headings]
    return [{"anchor": unescape(anchor), "text": text} for anchor, text in plain if text]


def build_report(run: RunFolder, notebooks: list[Path]) -> Path:
    """Render the front page, every executed notebook and summary.md into report/ of a run.

    Parameters
    ----------
    run : RunFolder
    notebooks : list of Path
        Executed notebooks, in order.

    Returns
    -------
    Path
        The front page.

    Raises
    ------
    DamagedRun
        If a file of the run is not what facelib writes.
    """
    with as_written(run.path), writing(run.path / "report"), _appearing(run.path / "report") as site:
        _write_site(run, notebooks, site)
    return run.path / "report" / "index.html"


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


def _write_site(run: RunFolder, notebooks: list[Path], site: Path) -> None:
    """Render all pages into an empty folder."""
    # Names and labels come from data: every template escapes what it prints.
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    pages = [
        {"file": f"{path.stem}.html", "number": path.stem[:2], "short": SHORT[NOTEBOOKS.index(path.stem)]}
        for path in notebooks
    ]
    common = {
        "run": run.name,
        "pages": pages,
        "commit": run.params["commit"],
        "synthetic": run.is_synthetic,
    }
    (site / "figures").mkdir()
    figures = []
    for file, alt in FRONT_FIGURES.items():
        if (run.path / "figures" / file).exists():
            shutil.copy(run.path / "figures" / file, site / "figures" / file)
            # No link to the picture itself: opened alone, an SVG file may run scripts.
            page = next((page["file"] for page in pages if page["number"] == file[:2]), "index.html")
            figures.append({"file": file, "alt": alt, "page": page})
    headline = findings.headline_rows(run)
    (site / "summary.md").write_text(findings.markdown_summary(headline), encoding="utf-8")
    rendered = {page["file"][:-5]: page["file"] for page in pages}
    front = environment.get_template("front.html.j2").render(
        **common,
        title="Report",
        current="index.html",
        profile=run.profile.name,
        faces=findings.kind_of_faces(run),
        answers=[
            {"question": answer.question, "finding": answer.finding, "details": answer.details,
             "page": rendered.get(answer.notebook)}
            for answer in findings.answers(run)
        ],
        headline=headline,
        leaks=run.results().get("splits.leaking_pairs", {}).get("value"),
        claims=findings.claim_rows(run),
        data_rows=findings.data_rows(run),
        figures=figures,
        provenance=findings.provenance(run),
    )  # fmt: skip
    (site / "index.html").write_text(front, encoding="utf-8")
    template = environment.get_template("notebook_page.html.j2")
    for number, (path, page) in enumerate(zip(notebooks, pages, strict=True)):
        body = _notebook_body(path)
        text = template.render(
            **common,
            title=page["short"],
            current=page["file"],
            body=body,
            contents=_contents(body),
            before=pages[number - 1] if number else None,
            after=pages[number + 1] if number + 1 < len(pages) else None,
        )
        (site / page["file"]).write_text(text, encoding="utf-8")
    code_colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark_colours = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    dark = f"@media (prefers-color-scheme: dark) {{\n{dark_colours}\n.highlight {{ background: var(--panel); }}\n}}\n"
    (site / "style.css").write_text(f"{code_colours}\n{dark}{style}", encoding="utf-8")
