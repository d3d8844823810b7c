"""Which findings and results of a run the report, the slides and the published pages show, and in which order.

Findings are worded where they are computed; see `facelib.finding`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from facelib.evaluation.headline import metrics_of
from facelib.finding import Finding, listed
from facelib.runs import RunFolder
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import Estimate


@dataclass(frozen=True)
class Question:
    """A reader's question: keys of the findings that answer it, and the notebook that has all of it."""

    question: str
    lead: str
    details: tuple[str, ...]  # `{attribute}` stands for each learned attribute
    notebook: str
    said: str = ""  # a pattern of what the question, or the caption of the picture, says already
    scores: bool = False  # beside the pictures the headline scores answer it, in place of the lead's first words


QUESTIONS = (
    Question("What data?", "data.faces", ("data.ages", "data.imbalance"), "01_explore", said=", labelled with.*"),
    Question("What was wrong with it?", "copies.groups", ("copies.labels_differ", "labels.doubted"), "02_clean"),
    Question(
        "How good is the model?",
        "test.baselines",
        ("test.{attribute}", "test.by_time"),
        "05_evaluate",
        scores=True,
    ),
    Question(
        "For whom is it worse?",
        "groups.worst",
        ("groups.age_bias", "claims.answers"),
        "06_groups",
        said="^The predictor is worse for ",
    ),
    Question(
        "What would matter in use?",
        "deployment.selective",
        ("deployment.age_limits", "deployment.odds", "deployment.even_errors"),
        "05_evaluate",
    ),
    Question("What does it look at?", "explain.regions", ("explain.background",), "08_explain"),
    Question(
        "Can I trust these numbers?",
        "split.leaks",
        ("split.sessions", "test.readings", "test.calibration", "groups.coverage"),
        "05_evaluate",
    ),
)
DATA_ROWS = {
    "data.images": "Faces used",
    "data.rejected": "Files or rows rejected, with a reason",
    "audit.duplicates.exact_groups": "Groups of byte-identical copies",
    "audit.duplicates.near_groups": "Groups with a near copy",
    "audit.duplicates.altered_groups": "Groups with a copy that is cropped, rotated or filtered",
    "audit.contradicting_groups": "Share of copy groups in which a label differs, even by one year",
    "audit.label_issues.{attribute}": "{title} labels flagged by out-of-fold models",
    "splits.leaking_pairs": "Pairs of detected copies across the split",
    "splits.copied_test_images": "Test images with a copy outside the test split",
    "splits.recognised_test_images": "Test images of a person recognised outside the test split, copies included",
}


BRIEF_WORDS = 12  # of a short answer, unless its first clause has more
BY_TIME = "collection time only"  # the baseline that sees no face: see `evaluation.collection`


@dataclass(frozen=True)
class Answer:
    """The findings that answer one of `QUESTIONS`."""

    question: str
    lead: Finding
    details: tuple[Finding, ...]
    notebook: str
    short: str


def without_brackets(text: str) -> str:
    """A text without what stands in brackets, such as intervals."""
    return re.sub(r" \([^()]*\)", "", text)


def brief(text: str) -> str:
    """The first words of a finding: its first sentence without brackets, up to a colon, of whole clauses.

    Of a gain that has a price, the price is kept.

    Examples
    --------
    >>> brief("Age MAE is 4.69 y (4.49 to 4.91)."), brief("Worse for (a) men; boys. More.")
    ('Age MAE is 4.69 y', 'Worse for men; boys')
    >>> brief("If 80 % are kept, age MAE is 3 y instead of 4 y, but 30 % of men are kept.")
    'If 80 % are kept, 30 % of men are kept'
    """
    clauses = re.split(r": |\. |\.$", without_brackets(text), maxsplit=1)[0].split("; ")
    while len(clauses) > 1 and len(" ".join(clauses).split()) > BRIEF_WORDS:
        clauses.pop()
    short, but, price = "; ".join(clauses).partition(", but ")
    return f"{short.partition(',')[0]}, {price}" if but else short


def chosen(findings: dict[str, Finding], keys: Iterable[str], attributes: Iterable[Attribute]) -> tuple[Finding, ...]:
    """The findings of these keys, in this order; `{attribute}` is filled, and what was not found is left out."""
    filled = dict.fromkeys(key.format(attribute=attribute.name) for key in keys for attribute in attributes)
    return tuple(findings[key] for key in filled if key in findings)


def answers(run: RunFolder) -> list[Answer]:
    """The answers to `QUESTIONS`; a question whose lead finding is missing is left out."""
    findings, attributes = run.findings(), run.learned
    found = []
    for row in QUESTIONS:
        if row.lead in findings:
            details = chosen(findings, row.details, attributes)
            short = scores_in_brief(run) if row.scores else brief(findings[row.lead].text)
            short = re.sub(row.said, "", short) if row.said else short
            short = short[:1].upper() + short[1:]
            found.append(Answer(row.question, findings[row.lead], details, row.notebook, short))
    return found


def title(run: RunFolder) -> str:
    """What a run predicts, such as `Age and expression from faces`."""
    return f"{listed(attribute.title.lower() for attribute in run.learned)} from faces".capitalize()


def faces(run: RunFolder) -> str:
    """What a run's images are: `synthetic faces` or `labelled faces`."""
    return run.label or "labelled faces"


def data_sets_text(run: RunFolder) -> str:
    """How many data sets the run was made from: `one data set`, or a number."""
    return "one data set" if len(run.data_sets) < 2 else f"{len(run.data_sets)} data sets"


def persons_limit(run: RunFolder) -> str:
    """What is not known of persons in training and test, as a clause; empty for synthetic faces."""
    if run.is_synthetic:
        return ""
    crossing = run.results().get("splits.recognised_test_images")
    separated = crossing is not None and crossing.value == 0
    which = (
        "photographs of a person whom the face network did not recognise"
        if separated
        else "different photographs of one person"
    )
    return f"{which} may lie in both training and test"


def sentence(text: str) -> str:
    """What of a finding fits a title or a caption: its first sentence or clause, without what stands in brackets.

    Examples
    --------
    >>> sentence("Age error: 4.5 y (4 to 5) for men; 5 y else. More."), sentence("One `way`.")
    ('Age error: 4.5 y for men', 'One way')
    """
    return re.split(r"[;.] |\.$", without_brackets(text).replace("`", ""), maxsplit=1)[0]


def headline_rows(run: RunFolder, measures: tuple[str, ...] = ()) -> list[dict]:
    """Rows of the headline table, as text: name, key, of, value, interval, n, cleaned, and the baselines, baseline and
    by_time.

    `measures` are ends of keys, such as `mae`; by default all are shown. What was measured on several data sets has a
    row of each below that of all.
    """
    results, rows = run.results(), []
    baselines = {row["metric"]: Estimate.from_dict(row).text for row in run.details("05_evaluate").get("baselines", [])}
    for metric in (metric for attribute in run.learned for metric in metrics_of(attribute)):
        wanted = not measures or metric.key.partition(".")[2] in measures
        if wanted and (estimate := results.get(f"test.{metric.key}")):
            cleaned = results.get(f"test_cleaned.{metric.key}")
            row = {"name": metric.title, "key": metric.key, "of": metric.key.partition(".")[0], "value": estimate.text}
            row |= {
                "n": f"{estimate.n:,}",
                "interval": estimate.interval_text,
                "cleaned": cleaned.text if cleaned else "",
            }
            by_time = results.get(f"by_time.{metric.key}")
            rows.append(row | {"baseline": baselines.get(metric.key, ""), "by_time": by_time.text if by_time else ""})
            each = {key.partition(".")[0]: own for key, own in results.items() if key.partition(".")[2] == metric.key}
            each = {prefix.removeprefix("test_"): own for prefix, own in each.items() if prefix.startswith("test_")}
            parts = {source: own for source, own in each.items() if source not in ("cleaned", "unseen")}
            if len(parts) == 1:
                rows[-1]["name"] += f", {next(iter(parts))}"
            pooled = rows[-1]
            for source, own in parts.items() if len(parts) > 1 else ():
                row = pooled | {"name": f"{metric.title}, {source}", "value": own.text, "interval": own.interval_text}
                timed = by_time.text if by_time and by_time.n == own.n else ""  # of the set that has stamps
                pooled["by_time"] = "" if timed else pooled["by_time"]
                rows.append(row | {"n": f"{own.n:,}", "cleaned": "", "baseline": "", "by_time": timed})
    return rows


def scores_in_brief(run: RunFolder) -> str:
    """The first headline score of each attribute, of each data set where there are several."""
    rows, texts = headline_rows(run), []
    for attribute in run.learned:
        key = metrics_of(attribute)[0].key
        own = [row for row in rows if row["key"] == key]
        name = attribute.title if isinstance(attribute, ClassAttribute) else f"{attribute.title} error"
        texts += [f"{name}{row['name'].removeprefix(own[0]['name'])} {row['value']}" for row in own[1:] or own]
    return "; ".join(texts)


def data_rows(run: RunFolder) -> list[dict]:
    """Rows of what was wrong with the data: name and value."""
    filled = {
        key.format(attribute=attribute.name): name.format(title=attribute.title)
        for key, name in DATA_ROWS.items()
        for attribute in run.learned
    }
    results = run.results()
    return [{"name": name, "value": results[key].text} for key, name in filled.items() if key in results]


def claim_rows(run: RunFolder) -> list[dict]:
    """Rows of the tested claims, numbers as text, with the answer at equal ages where that was asked."""
    details = run.details("06_groups")
    same_ages = {row["claim"]: row["answer"] for row in details.get("claims_standardised", [])}
    rows = []
    for row in details.get("claims", []):
        estimate = Estimate.from_dict(row)
        smallest = Estimate.from_dict(row | {"value": row["smallest_effect"]}).text
        texts = {"value": estimate.text, "interval": estimate.interval_text, "smallest": smallest}
        rows.append(row | texts | {"same_ages": same_ages.get(row["claim"], "")})
    return rows


def plain(text) -> str:
    """Text from a run for Markdown: it is no markup and ends no cell of a table."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def markdown_summary(rows: list[dict]) -> str:
    """`headline_rows` as a table in Markdown; the baseline by time where there is one."""
    titles = {"name": "measure, on the test split", "value": "value", "interval": "95 % interval", "n": "n"}
    titles |= {"baseline": "no-image baseline", **({"by_time": BY_TIME} if any(r["by_time"] for r in rows) else {})}
    columns = tuple(titles)
    lines = [f"| {' | '.join(titles.values())} |", "|---" * len(titles) + "|"]
    lines += [f"| {' | '.join(plain(row[column]) for column in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def split_text(run: RunFolder) -> str:
    """Whose split a run has."""
    if run.protocol:
        return "as published in {name}, lists {digest}".format(**run.protocol)
    earlier = run.settings.data.split_of
    return f"that of run {earlier}, and its own of further images" if earlier else "its own"


def provenance(run: RunFolder) -> dict[str, str]:
    """What it takes to run it again."""
    params = run.params
    restored = {"Restored": f"from a published run, {params['restored']}"} if "restored" in params else {}
    return {
        "Data fingerprint": params["data"].get("fingerprint", "unknown"),
        "Split": split_text(run),
        "Seed": run.settings.seed,
        "Commit": params["commit"],
        "Begun": params["created"],
        "Device": params["device"],
        **restored,
        "Versions": ", ".join(f"{name} {version}" for name, version in params["versions"].items()),
        "Settings": ", ".join(f"{name} {value}" for name, value in run.settings.flat().items() if value != ()),
    }
