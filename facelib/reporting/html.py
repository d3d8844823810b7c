"""The report of a run: one static site that needs no network to read."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jinja2
import nbconvert
import nbformat
import numpy as np
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from facelib.errors import DamagedRun
from facelib.metrics import format_value
from facelib.runs import RunFolder, as_written
from facelib.schema import NOTEBOOKS
from facelib.storage import PARTIAL, writing

TEMPLATES = Path(__file__).parent / "templates"
SHORT = ("Explore", "Clean", "Train", "Two stages", "Evaluate", "Error clusters", "Explain", "External photos")

# Headline keys below test. and test_cleaned. by what a reader calls them, and the baseline they are compared with.
HEADLINE = {
    "age.mae": ("Age: mean absolute error", "age.mae"),
    "age.cs5": ("Age: within 5 years", None),
    "age.bias": ("Age: mean predicted minus labelled", None),
    "age.mae_le45": ("Age: error at 45 and below", None),
    "age.mae_gt45": ("Age: error over 45", None),
    "age.r2": ("Age: R2", None),
    "age.interval_coverage": ("Age: 90 % intervals hold the label", None),
    "age.interval_width": ("Age: width of the 90 % intervals", None),
    "age_stages.bin_accuracy": ("Age bin accuracy", None),
    "age_stages.mae_routed": ("Two-stage age error, routed", None),
    "age_stages.mae_soft": ("Two-stage age error, soft", None),
    "age_stages.mae_oracle_bin": ("Two-stage age error, told the true bin (no prediction)", None),
    "gender.accuracy": ("Gender accuracy", "gender.accuracy"),
    "gender.accuracy_age5plus": ("Gender accuracy, 5 years and over", None),
    "gender.auc": ("Gender: area under the ROC curve", None),
    "ethnicity.accuracy": ("Ethnicity label accuracy", "ethnicity.accuracy"),
    "ethnicity.macro_f1": ("Ethnicity label macro F1", None),
}
DATA_ROWS = {
    "data.images": "Faces used",
    "data.rejected": "Files or rows rejected, with a reason",
    "audit.duplicates.exact_groups": "Groups of byte-identical copies",
    "audit.duplicates.near_groups": "Groups with a near copy",
    "audit.contradicting_groups": "Groups of copies whose labels contradict each other",
    "audit.label_issues.age": "Age labels doubted by networks that never saw them",
    "audit.label_issues.gender": "Gender labels doubted",
    "audit.label_issues.ethnicity": "Ethnicity labels doubted",
    "splits.leaking_pairs": "Pairs of copies across the split",
    "splits.copied_test_images": "Test images with a copy in training",
}
FRONT_FIGURES = {
    "01_average_faces.png": "Average faces by age band and gender, each over at least 25 images",
    "04_two_stage_errors.svg": "What a two-stage age error can mean: routed, soft, and told the true bin",
    "05_age_scatter.svg": "Predicted against labelled age",
    "05_age_bias.svg": "Who is predicted too young or too old",
    "05_gender_by_age.svg": "Gender accuracy by age band",
    "05_age_error_by_ethnicity.svg": "Age error by age band and ethnicity label",
    "07_mean_maps.png": "Mean attribution maps over an average face",
    "02_copies_disagree.svg": "Copies, and how often their labels disagree",
}


def shown(estimate: dict | None) -> dict[str, str]:
    """An estimate as text: shares in percent, everything else with its unit."""
    if estimate is None or estimate["value"] is None:
        return {"value": "", "interval": "", "n": ""}
    values = [np.nan if estimate[key] is None else estimate[key] for key in ("value", "low", "high")]
    if estimate["unit"] == "share":
        value, low, high = (f"{100 * number:.1f} %" if np.isfinite(number) else "n/a" for number in values)
    else:
        unit = "y" if estimate["unit"] == "years" else ""
        value, low, high = (format_value(number, unit) for number in values)
    return {"value": value, "interval": f"{low} to {high}", "n": f"{estimate['n']:,}"}


def _headline_rows(results: dict, baselines: list[dict]) -> list[dict]:
    constant = {row["metric"]: row for row in baselines}
    rows = []
    for key, (name, baseline) in HEADLINE.items():
        if f"test.{key}" in results:
            cleaned = shown(results.get(f"test_cleaned.{key}"))["value"]
            without = shown(constant.get(baseline))["value"]
            rows.append({"name": name, **shown(results[f"test.{key}"]), "cleaned": cleaned, "baseline": without})
    return rows


def claim_rows(claims: list[dict]) -> list[dict]:
    rows = []
    for claim in claims:
        texts = {key: format_value(np.nan if claim[key] is None else claim[key]) for key in ("value", "low", "high")}
        smallest = format_value(np.nan if claim["smallest_effect"] is None else claim["smallest_effect"])
        interval = f"{texts['low']} to {texts['high']}"
        css = claim["answer"].replace(" ", "-")
        rows.append({**claim, "value": texts["value"], "interval": interval, "smallest": smallest, "css": css})
    return rows


def _provenance(run: RunFolder) -> dict[str, str]:
    params = run.params
    versions = ", ".join(f"{name} {version}" for name, version in params["versions"].items())
    profile = ", ".join(f"{key} {value}" for key, value in params["profile"].items() if key != "name")
    return {
        "Data fingerprint": params["data"].get("fingerprint", "unknown"),
        "Split": "as published in {name}, lists {digest}".format(**run.protocol) if run.protocol else "its own",
        "Seed": params["profile"]["seed"],
        "Commit": params["commit"],
        "Begun": params["created"],
        "Device": params["device"],
        "Versions": versions,
        "Settings": profile,
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


def markdown_summary(headline: list[dict]) -> str:
    """The headline table in Markdown, for a README or a mail."""
    lines = ["| measure, on the test split | value | 95 % interval | n | without looking |", "|---|---|---|---|---|"]
    lines += ["| {name} | {value} | {interval} | {n} | {baseline} |".format(**row) for row in headline]
    return "\n".join(lines) + "\n"


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
    results = run.results()
    common = {
        "run": run.name,
        "pages": pages,
        "commit": run.params["commit"],
        "synthetic": run.is_synthetic,
    }
    evaluated = (run.path / "metrics" / "05_evaluate_bias.json").exists()
    details = run.load_metrics("05_evaluate_bias")["details"] if evaluated else {"claims": [], "baselines": []}
    (site / "figures").mkdir()
    figures = []
    for file, alt in FRONT_FIGURES.items():
        if (run.path / "figures" / file).exists():
            shutil.copy(run.path / "figures" / file, site / "figures" / file)
            # No link to the picture itself: opened alone, an SVG file may run scripts.
            page = next((page["file"] for page in pages if page["number"] == file[:2]), "index.html")
            figures.append({"file": file, "alt": alt, "page": page})
    headline = _headline_rows(results, details["baselines"])
    (site / "summary.md").write_text(markdown_summary(headline), encoding="utf-8")
    front = environment.get_template("front.html.j2").render(
        **common,
        title="Report",
        current="index.html",
        profile=run.profile.name,
        images=results.get("data.images", {"value": 0})["value"],
        headline=headline,
        claims=claim_rows(details["claims"]),
        data_rows=[
            {"name": name, "value": shown(results[key])["value"]} for key, name in DATA_ROWS.items() if key in results
        ],
        figures=figures,
        provenance=_provenance(run),
    )
    (site / "index.html").write_text(front, encoding="utf-8")
    template = environment.get_template("notebook_page.html.j2")
    for path, page in zip(notebooks, pages, strict=True):
        text = template.render(**common, title=page["short"], current=page["file"], body=_notebook_body(path))
        (site / page["file"]).write_text(text, encoding="utf-8")
    code_colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark_colours = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    dark = f"@media (prefers-color-scheme: dark) {{\n{dark_colours}\n.highlight {{ background: var(--panel); }}\n}}\n"
    (site / "style.css").write_text(f"{code_colours}\n{dark}{style}", encoding="utf-8")
