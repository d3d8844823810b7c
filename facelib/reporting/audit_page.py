"""The page of an audit: what was found, how sure it is, and what a reader has to decide; it needs no network.

It works as a form: decisions are marked, and a script saves them as the decisions.csv that the next audit reads. The
page may run this script alone, which its policy names by digest.
"""

import io
from pathlib import Path

import jinja2
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from facelib.audit import decisions
from facelib.audit.planting import ALL
from facelib.audit.report import Audit, readable
from facelib.data.pixels import decode_chunk
from facelib.plots import audit as plots
from facelib.plots.explore import label_distributions
from facelib.plots.style import use_style
from facelib.reporting.inline import data_uri, digest, jpeg_uri
from facelib.reporting.site import TEMPLATES
from facelib.schema import ClassAttribute
from facelib.spreadsheets import guard
from facelib.statistics import SHARE, Bootstrap, Estimate
from facelib.storage import write_text

PICTURE_PX = 112
LISTED = 30  # persons, leaks
# Sections of what a reader decides about, by the `sort` of a proposal: title, and what to look for.
SECTIONS = {
    "copies": (
        "Copies whose labels contradict",
        "Copies of one photograph with different labels. Correct the label that is wrong; keep one that is right.",
    ),
    "labels": (
        "Doubted labels",
        "Labels that models which never saw them find implausible. Keep what is right, correct what is not.",
    ),
    "quality": (
        "Poor images, and pictures without an upright face",
        "Drop what should not be used; keep the others.",
    ),
    "pairs": (
        "Copies to confirm",
        "Photographs that share less detail than most copies, the least alike first. Keep a photograph that is no copy "
        "of the other: the next audit will not join them.",
    ),
    "decided": ("Decided before", "Decisions of earlier audits; change what you judge otherwise now."),
}


def write_page(audit: Audit, show_faces: bool = False) -> Path:
    """Write index.html beside the tables of a finished audit, with pictures of faces only if asked for."""
    use_style()
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "audit_page.css"))
    script = (TEMPLATES / "audit_page.js").read_text(encoding="utf-8")
    # Names and labels come from data: the template escapes what it prints.
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    page = environment.get_template("audit_page.html.j2").render(
        audit=audit, show_faces=show_faces, style=style, script=script, digests=[digest(style), digest(script)],
        figures=_figures(audit), rates=_rates(audit), sections=_sections(audit, show_faces), persons=_persons(audit),
        leaks=_leaks(audit), summary=readable(audit.summary).to_dict("records"), listed=LISTED,
        tables=sorted(path.name for path in audit.out.glob("*.csv")),
    )  # fmt: skip
    write_text(audit.out / "index.html", page)
    return audit.out / "index.html"


def _figures(audit: Audit) -> dict[str, str]:
    """Figures as data URIs, by what they show."""
    figures = {}
    if audit.attributes:
        figures["The labels"] = label_distributions(audit.faces, audit.attributes)
    if len(audit.conflicts):
        shown = plots.copies_disagree(audit.conflicts, audit.differing, Bootstrap())
        figures["Copies, and how often their labels differ"] = shown
    if audit.issues is not None and len(audit.issues):
        figures["Scores of labels, 0 worst"] = plots.label_issue_scores(audit.issues)
    figures["Quality scores, 0 worst; left of the line they are flagged"] = plots.quality_scores(audit.scored)
    return {title: data_uri(_svg(figure), "image/svg+xml") for title, figure in figures.items()}


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _rates(audit: Audit) -> list[dict]:
    """Of each attribute: how many planted errors are flagged, and how many other labels."""
    if audit.rates is None:
        return []
    rows = audit.rates[audit.rates["group"] == ALL]
    texts = [str(Estimate(row.value, row.low, row.high, row.n, SHARE)) for row in rows.itertuples()]
    return (
        rows.assign(text=texts)
        .pivot(index="attribute", columns="measure", values="text")
        .reset_index()
        .to_dict("records")
    )


def _sections(audit: Audit, show_faces: bool) -> list[dict]:
    """Title, text and candidates of each section that has some."""
    rows, attributes = audit.decisions, decisions.by_issue(audit.attributes)
    sort = rows["sort"].where(rows["action"] == "", "decided")
    beside = _beside(audit)
    needed = {name for image_id in rows["image_id"] for name in (image_id, *beside.get(image_id, ()))}
    pictures = _pictures(audit, needed) if show_faces else {}
    names = [f"{a.name} " + pd.Series(a.label_names(audit.faces), audit.faces["image_id"]) for a in attributes.values()]
    candidates = []
    for row in rows.itertuples():
        attribute, labels = attributes.get(row.issue), ", ".join(name[row.image_id] for name in names)
        value, choices = row.value, ()
        if isinstance(attribute, ClassAttribute):
            choices = (*attribute.classes, "unknown")
            value = attribute.label_name(decisions.new_label(attribute, value)) if value else ""
        looked_at = (row.image_id, *(beside.get(row.image_id, ()) if row.sort in ("copies", "pairs") else ()))
        shown = {name: pictures[name] for name in looked_at if name in pictures}
        form = {"relabels": attribute is not None, "choices": {guard(name): name for name in choices}, "value": value}
        saved = [guard(text) for text in (row.image_id, row.issue, row.reason)]
        facts = {"image_id": row.image_id, "issue": row.issue, "reason": row.reason, "action": row.action}
        candidates.append(facts | form | {"labels": labels, "saved": saved, "pictures": shown})
    groups = pd.Series(range(len(rows)), dtype=int).groupby(sort.to_numpy()).groups
    return [
        {"name": name, "title": title, "text": text, "candidates": [candidates[at] for at in groups[name]]}
        for name, (title, text) in SECTIONS.items()
        if name in groups
    ]


def _beside(audit: Audit) -> dict[str, list[str]]:
    """Copies to show beside an image: the closest one, then others of its group, three at most."""
    members = audit.copies.groupby("group_id")["image_id"].agg(list)
    return {
        row.image_id: [row.copy, *(name for name in members[row.group_id] if name not in (row.image_id, row.copy))][:3]
        for row in audit.copies.itertuples()
    }


def _pictures(audit: Audit, image_ids: set[str]) -> dict[str, str]:
    """Small JPEGs of some images as data URIs."""
    rows = audit.source.faces[audit.source.faces["image_id"].isin(image_ids)]
    pixels, _ = decode_chunk(audit.source.items(rows.index), list(rows["sha256"]), PICTURE_PX)
    return {name: jpeg_uri(Image.fromarray(part)) for name, part in zip(rows["image_id"], pixels, strict=True)}


def _persons(audit: Audit) -> list[dict]:
    """The persons with most images: their number, and the names of some."""
    if audit.persons is None:
        return []
    images = audit.persons.groupby("person_id")["image_id"].agg(list)
    largest = images[images.map(len).sort_values(ascending=False, kind="stable").index].head(LISTED)
    return [{"n": len(names), "names": names[:6]} for names in largest]


def _leaks(audit: Audit) -> list[dict] | None:
    """The first test images with a copy or a recognised person in training; None where no split was given."""
    return None if audit.crossing is None else audit.crossing.head(LISTED).to_dict("records")
