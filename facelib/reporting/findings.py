"""What a run found, as sentences and rows computed from its results: for the report, the slides and published pages."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.runs import RunFolder
from facelib.schema import ATTRIBUTES, ETHNICITIES
from facelib.statistics import format_value

# Headline keys below test. and test_cleaned. by what a reader calls them, and the baseline they are compared with.
HEADLINE = {
    "age.mae": ("Age: mean absolute error", "age.mae"),
    "age.cs5": ("Age: within 5 years", None),
    "age.bias": ("Age: mean predicted minus labelled (opposite errors cancel)", None),
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
    "audit.contradicting_groups": "Share of all groups of copies in which a label differs, be it by a year of age",
    "audit.label_issues.age": "Age labels doubted by networks that never saw them",
    "audit.label_issues.gender": "Gender labels doubted",
    "audit.label_issues.ethnicity": "Ethnicity labels doubted",
    "splits.leaking_pairs": "Pairs of copies found across the split",
    "splits.copied_test_images": "Test images with a copy in training",
}
# Where groups are compared: the table of notebook 05, its column, what is measured, and whether more is better.
GAPS = (
    ("age_band", "mae", "Age error", "ages {}", False),
    ("age_band", "gender_accuracy", "Gender accuracy", "ages {}", True),
    ("ethnicity_name", "ethnicity_accuracy", "Ethnicity label accuracy", "the label {}", True),
    ("ethnicity_name", "gender_accuracy", "Gender accuracy", "the label {}", True),
)


@dataclass(frozen=True)
class Answer:
    """One of a reader's questions.

    Attributes
    ----------
    question : str
    finding : str
        The answer in one sentence that the numbers of the run support.
    details : tuple of str
        The numbers behind it.
    notebook : str
        Where all of it is.
    """

    question: str
    finding: str
    details: tuple[str, ...]
    notebook: str


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


def with_interval(estimate: dict | None) -> str:
    """An estimate as a sentence holds it, such as `4.86 y (4.50 y to 5.20 y)`."""
    text = shown(estimate)
    return f"{text['value']} ({text['interval']})" if text["value"] else "not measured"


def details_of(run: RunFolder, notebook: str) -> dict:
    """Everything beside the headline that a notebook measured; empty where it has not run."""
    measured = (run.path / "metrics" / f"{notebook}.json").exists()
    return run.load_metrics(notebook)["details"] if measured else {}


def absent_attributes(run: RunFolder) -> list[str]:
    """The attributes of which a run that was evaluated has no test results; none of a run that was not."""
    tested = {key.split(".")[1] for key in run.results() if key.startswith("test.")}
    return [name for name in ATTRIBUTES if tested and name not in tested]


def headline_rows(run: RunFolder) -> list[dict]:
    """Rows of the headline table: name, value, interval, n, cleaned, baseline."""
    results = run.results()
    constant = {row["metric"]: row for row in details_of(run, "05_evaluate_bias").get("baselines", [])}
    rows = []
    for key, (name, baseline) in HEADLINE.items():
        if f"test.{key}" in results:
            cleaned = shown(results.get(f"test_cleaned.{key}"))["value"]
            without = shown(constant.get(baseline))["value"]
            rows.append({"name": name, **shown(results[f"test.{key}"]), "cleaned": cleaned, "baseline": without})
    return rows


def data_rows(run: RunFolder) -> list[dict]:
    """Rows of what was wrong with the data: name and value."""
    results = run.results()
    return [{"name": name, "value": shown(results[key])["value"]} for key, name in DATA_ROWS.items() if key in results]


def claim_rows(run: RunFolder) -> list[dict]:
    """Rows of the tested claims, with their numbers as text, and the answer at one age mix where that was asked."""
    details, rows = details_of(run, "05_evaluate_bias"), []
    same_ages = {claim["claim"]: claim["answer"] for claim in details.get("claims_standardised", [])}
    for claim in details.get("claims", []):
        texts = {key: format_value(np.nan if claim[key] is None else claim[key]) for key in ("value", "low", "high")}
        smallest = format_value(np.nan if claim["smallest_effect"] is None else claim["smallest_effect"])
        interval = f"{texts['low']} to {texts['high']}"
        css = claim["answer"].replace(" ", "-")
        rows.append(
            {
                **claim,
                "value": texts["value"],
                "interval": interval,
                "smallest": smallest,
                "css": css,
                "same_ages": same_ages.get(claim["claim"], ""),
            }
        )
    return rows


def markdown_summary(headline: list[dict]) -> str:
    """The headline table in Markdown, for a README or a mail."""
    lines = ["| measure, on the test split | value | 95 % interval | n | without looking |", "|---|---|---|---|---|"]
    lines += ["| {name} | {value} | {interval} | {n} | {baseline} |".format(**row) for row in headline]
    return "\n".join(lines) + "\n"


def provenance(run: RunFolder) -> dict[str, str]:
    """What it takes to run it again."""
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
        **({"Restored": f"from a published run, {params['restored']}"} if "restored" in params else {}),
        "Versions": versions,
        "Settings": profile,
    }


def data_name(run: RunFolder) -> str:
    """The name of the folder or table of a run's data; empty for synthetic faces."""
    return Path(run.params["data"]["path"]).name


def is_utkface(run: RunFolder) -> bool:
    """Whether a run's data are, by their name, UTKFace, of which it is known how labels were made."""
    return "utkface" in data_name(run).lower()


def kind_of_faces(run: RunFolder) -> str:
    """What the faces of a run are."""
    return "synthetic faces drawn by the package" if run.is_synthetic else "labelled faces"


def compare(estimate: dict, other: dict, more_is_better: bool) -> str:
    """`better`, `worse` or `cannot tell`, by whether two intervals lie apart, which asks for more than a paired test.

    Examples
    --------
    >>> compare({"low": 4, "high": 5}, {"low": 14, "high": 16}, more_is_better=False)
    'better'
    >>> compare({"low": 4, "high": 15}, {"low": 14, "high": 16}, more_is_better=False)
    'cannot tell'
    """
    if None in (estimate["low"], estimate["high"], other["low"], other["high"]):
        return "cannot tell"
    above, below = estimate["low"] > other["high"], estimate["high"] < other["low"]
    if not above and not below:
        return "cannot tell"
    return "better" if above == more_is_better else "worse"


def beats_baseline(run: RunFolder) -> dict[str, str]:
    """For age, gender and ethnicity: does the model do better than an answer that looks at no face; see `compare`."""
    results, constant = run.results(), details_of(run, "05_evaluate_bias").get("baselines", [])
    return {
        row["metric"].partition(".")[0]: compare(results[f"test.{row['metric']}"], row, row["metric"] != "age.mae")
        for row in constant
        if f"test.{row['metric']}" in results
    }


def widest_gaps(run: RunFolder) -> list[dict]:
    """The worst and the best group of each comparison in `GAPS`, with their numbers as text.

    Groups whose numbers are masked take no part. `apart` says whether the two intervals lie apart, `same_ages` whether
    the gap is there at one age mix too (`yes`, `reversed`, `cannot tell`, or nothing where that was not measured),
    `stands` whether neither speaks against it.
    """
    measured = details_of(run, "05_evaluate_bias")
    groups = measured.get("groups", {})
    gaps = []
    for table, column, what, named, more in GAPS:
        rows = [row for row in groups.get(table, []) if row.get(column) is not None]
        if len(rows) < 2:
            continue
        worst, best = sorted((min(rows, key=lambda row: row[column]), max(rows, key=lambda row: row[column])),
                             key=lambda row: row[column], reverse=not more)  # fmt: skip
        ends = [{"low": row[f"{column}_low"], "high": row[f"{column}_high"]} for row in (worst, best)]
        unit = "years" if column == "mae" else "share"
        texts = [shown({"value": row[column], **end, "n": row["n"], "unit": unit})
                 for row, end in zip((worst, best), ends, strict=True)]  # fmt: skip
        same_ages = next(
            (
                _at_one_age_mix(row)
                for row in measured.get("explained_by_age", [])
                if (row["by"], row["metric"]) == (table.removesuffix("_name"), column)
                and {row["lowest"], row["highest"]} == {worst[table], best[table]}
            ),
            "",
        )
        apart = compare(*ends, more) == "worse"
        gaps.append(
            {
                "what": what,
                "worst": named.format(worst[table]),
                "best": named.format(best[table]),
                "worst_value": texts[0],
                "best_value": texts[1],
                "apart": apart,
                "same_ages": same_ages,
                "stands": apart and same_ages in ("", "yes"),
            }
        )
    return gaps


def _at_one_age_mix(row: dict) -> str:
    """Whether a gap of `explained_by_age`, highest less lowest, is there when both groups have the same ages."""
    low, high = row["standardised_low"], row["standardised_high"]
    if low is None or high is None or low <= 0 <= high:
        return "cannot tell"
    return "yes" if low > 0 else "reversed"


def cancelling_bias(run: RunFolder) -> list[dict]:
    """The age bands predicted furthest too young and too old, where the interval of the mean leaves no doubt of it.

    Each has `ages`, `way` (`too young` or `too old`) and `by`, years as text.
    """
    rows = [row for row in details_of(run, "05_evaluate_bias").get("groups", {}).get("age_band", [])
            if row.get("bias") is not None]  # fmt: skip
    ends = {
        "too young": min((row for row in rows if row["bias_high"] < 0), key=lambda row: row["bias"], default=None),
        "too old": max((row for row in rows if row["bias_low"] > 0), key=lambda row: row["bias"], default=None),
    }
    return [{"ages": row["age_band"], "way": way, "by": f"{abs(row['bias']):.1f}"} for way, row in ends.items() if row]


def gaps_at_one_age(run: RunFolder) -> list[dict]:
    """Age bands in which the age errors of the two gender labels have intervals that lie apart.

    Each has `ages`, `worse` and `better`, the labels, and `worse_mae` and `better_mae`, years as text. The labels'
    errors over all ages say less: they differ in age.
    """
    bands: dict[str, list[dict]] = {}
    for row in details_of(run, "05_evaluate_bias").get("groups", {}).get("age_band x gender_name", []):
        if row.get("mae") is not None:
            bands.setdefault(row["age_band"], []).append(row)
    found = []
    for ages, rows in bands.items():
        worse, better = max(rows, key=lambda row: row["mae"]), min(rows, key=lambda row: row["mae"])
        if worse["mae_low"] > better["mae_high"]:
            ends = {"worse": worse["gender_name"], "better": better["gender_name"]}
            found.append(
                {"ages": ages, **ends, "worse_mae": f"{worse['mae']:.1f}", "better_mae": f"{better['mae']:.1f}"}
            )
    return found


def least_covered(run: RunFolder) -> dict | None:
    """The age band whose labels the predictor's intervals hold least often, of those with `min_group` faces."""
    rows = [row for row in details_of(run, "05_evaluate_bias").get("coverage_by_age", [])
            if row["kind"] == "by predicted age" and row["n"] >= run.profile.min_group]  # fmt: skip
    return min(rows, key=lambda row: row["value"], default=None)


def claim_counts(run: RunFolder) -> str:
    """How many tested claims were found, such as `2 found, 3 cannot tell`, and which are not at one age mix."""
    claims = claim_rows(run)
    answers = [claim["answer"] for claim in claims]
    counts = {answer: answers.count(answer) for answer in ("found", "not found", "cannot tell")}
    text = ", ".join(f"{count} {answer}" for answer, count in counts.items() if count)
    for claim in claims:
        if claim["same_ages"] not in ("", claim["answer"]):
            said = claim["claim"].partition(" (")[0]
            text += f"; at one age mix “{said}” goes from {claim['answer']} to {claim['same_ages']}"
    return text


def looks_at_face(run: RunFolder) -> dict[str, str]:
    """For each output: is the LayerCAM map's share on the background below or above the background's area."""
    area = details_of(run, "07_explain").get("area", {}).get("background")
    found = {}
    for key, share in run.results().items():
        head = key.removeprefix("explain.").removesuffix(".background_share")
        if key == f"explain.{head}.background_share" and area is not None and share["low"] is not None:
            below, above = share["high"] < area, share["low"] > area
            found[head] = "the face" if below else "past the face" if above else "cannot tell"
    return found


def trusted_maps(run: RunFolder) -> list[str]:
    """Outputs whose LayerCAM maps beat edges and noise, and change when the network's weights are shuffled."""
    checked = details_of(run, "07_explain").get("random_weights", [])
    changes = {row["head"] for row in checked if row["method"] == "layer_cam" and row["answer"] == "changes"}
    return [head for head, methods in faithful_methods(run).items() if "layer-cam" in methods and head in changes]


def faithful_methods(run: RunFolder) -> dict[str, list[str]]:
    """For each output, the attribution methods that beat edges and noise with 95 % confidence."""
    beaten: dict[str, dict[str, list[bool]]] = {}
    for row in details_of(run, "07_explain").get("against_baselines", []):
        beaten.setdefault(row["head"], {}).setdefault(row["method"].replace("_", "-"), []).append(
            row["answer"] == "better"
        )
    return {head: [name for name, won in methods.items() if all(won)] for head, methods in beaten.items()}


def listed(names) -> str:
    """Names as a sentence lists them.

    Examples
    --------
    >>> listed(["age"]), listed(["age", "gender", "ethnicity"]), listed([])
    ('age', 'age, gender and ethnicity', 'none')
    """
    *first, last = list(names) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def _span(shares: list[float]) -> str:
    """The lowest and the highest of some sorted shares, in percent."""
    ends = dict.fromkeys(f"{100 * share:.1f} %" for share in (shares[0], shares[-1]))
    return " to ".join(ends)


def outputs_named(heads) -> list[str]:
    """Names of explained outputs as a reader knows them; all labels of ethnicity together are one.

    Examples
    --------
    >>> outputs_named(["age_bin", "ethnicity_asian"])
    ['age bin', 'ethnicity asian']
    """
    labels = {f"ethnicity_{name.lower()}" for name in ETHNICITIES}
    if labels <= set(heads):
        heads = [*(head for head in heads if head not in labels), "every_ethnicity_label"]
    return [head.replace("_", " ") for head in heads]


def in_short(run: RunFolder, versions: int = 1) -> str:
    """What a run on photographs with all labels found, for whom it is worse and what to trust, as one paragraph.

    Parameters
    ----------
    run : RunFolder
    versions : int
        Models that were scored on these test faces so far, this one among them.
    """
    results = run.results()
    text = {key: shown(results[f"test.{key}"]) for key in ("age.mae", "gender.accuracy", "ethnicity.accuracy")}
    age, gender, ethnicity = text.values()
    worse = []
    for gap in widest_gaps(run):
        if gap["stands"]:
            values = f"{gap['worst_value']['value']}, {gap['best_value']['value']} for {gap['best']}"
            worse.append(f"{gap['worst']} ({gap['what'].lower()} {values})")
    worse += [
        "faces labelled {worse} at {ages} (age error {worse_mae} y, {better} {better_mae} y)".format(**gap)
        for gap in gaps_at_one_age(run)
    ]
    skewed = " and ".join(
        f"ages {end['ages']} are predicted {end['by']} years {end['way']}" for end in cancelling_bias(run)
    )
    skewed = f" On average {skewed}." if skewed else ""
    others = f"{versions - 1} other version{'s' if versions > 2 else ''}"
    others = f"; the same test faces scored {others} of it" if versions > 1 else ""
    origin = "labels partly made by a machine, " if is_utkface(run) else ""
    least = least_covered(run)
    least = f", fewest at ages {least['group']} ({100 * least['value']:.0f} %)" if least else ""
    held = f"The 90 % age intervals held {shown(results['test.age.interval_coverage'])['value']} of the labels{least}."
    return (
        f"**What was found.** On {age['n']} test faces of {data_name(run)}, age is off by {age['value']} on average, "
        f"the gender label is right for {gender['value']} and the ethnicity label for {ethnicity['value']}. It is "
        f"worse for {'; '.join(worse) or 'no group that can be told'}.{skewed}\n\n"
        "**Can it be trusted?** As a description of one model on one data set: one seed, no other photographs, "
        f"{origin}and different photographs of one person possibly on both sides of the split{others}. {held}\n"
    )


def answers(run: RunFolder) -> list[Answer]:
    """What a reader wants to know first; a question whose notebook has not run is left out."""
    results = run.results()
    questions = (
        (["data"], _what_data),
        (["audit"], _what_was_wrong),
        (["test"], _how_good),
        (["test"], _for_whom),
        (["explain"], _looks_at),
        (["splits", "test"], _trust),
    )
    measured = {key.partition(".")[0] for key in results}
    return [answer(run, results) for topics, answer in questions if measured.issuperset(topics)]


def _what_data(run: RunFolder, results: dict) -> Answer:
    details = details_of(run, "01_explore")
    ages = details.get("ages", {})
    lines = [f"{shown(results.get('data.rejected'))['value'] or 'No number of'} files or rows rejected, with a reason"]
    if ages.get("min") is not None:
        lines.insert(0, "Ages {min:.0f} to {max:.0f} years, median {50%:.0f}".format(**ages))
    if "thin_cells" in details:
        labels = listed(details.get("labelled", ATTRIBUTES)).replace("age", "age band")
        lines.append(f"{details['thin_cells']} cells of {labels} hold fewer than 30 images")
    finding = f"{results['data.images']['value']:,} {kind_of_faces(run)}."
    return Answer("What data?", finding, tuple(lines), "01_explore")


def _what_was_wrong(run: RunFolder, results: dict) -> Answer:
    groups = results["audit.contradicting_groups"]["n"]
    noise = {row["attribute"]: shown(row)["value"] for row in details_of(run, "02_clean").get("label_noise", [])
             if row["assumption"] == "none"}  # fmt: skip
    crossing = details_of(run, "02_clean").get("random_split_pairs")
    doubted = [f"{shown(results[key])['value']} {name}"
               for name in ATTRIBUTES if (key := f"audit.label_issues.{name}") in results]  # fmt: skip
    lines = [f"Labels doubted by networks that never saw them: {listed(doubted)}"]
    if crossing is not None:
        lines.insert(0, f"A random split would put {crossing:.0f} pairs of copies on both sides")
    parts = [f"by {noise['age']} of age on average"] if "age" in noise else []
    parts += [f"in {name} for {noise[name]}" for name in ("gender", "ethnicity") if name in noise]
    finding = f"{groups:,} groups of copies{'; two labels of one photograph differ ' * bool(parts)}"
    finding += f"{listed(parts) if parts else ''}."
    return Answer("What was wrong with it?", finding, tuple(lines), "02_clean")


def _how_good(run: RunFolder, results: dict) -> Answer:
    verdicts = beats_baseline(run)
    better = [name for name, verdict in verdicts.items() if verdict == "better"]
    unclear = [name for name, verdict in verdicts.items() if verdict != "better"]
    if verdicts and not better:
        finding = "No output is shown to be better than an answer that looks at no face."
    else:
        texts = [f"age is off by {shown(results['test.age.mae'])['value']} on average"] * ("test.age.mae" in results)
        finding = "; ".join(texts + [f"{listed(better)} better than without looking"] * bool(better))
        finding = f"{finding[0].upper()}{finding[1:]}."
    lines = [f"{HEADLINE[key][0]}: {with_interval(results[f'test.{key}'])}"
             for key in ("age.mae", "gender.accuracy", "ethnicity.accuracy") if f"test.{key}" in results]  # fmt: skip
    if better and unclear:
        lines.append(f"Not shown to be better than without looking: {listed(unclear)}")
    return Answer("How good is the model?", finding, tuple(lines), "05_evaluate_bias")


def _for_whom(run: RunFolder, results: dict) -> Answer:
    gaps = widest_gaps(run)
    told = [gap for gap in gaps if gap["stands"]]
    if told:
        worst: dict[str, list[str]] = {}
        for gap in told:
            worst.setdefault(gap["worst"], []).append(gap["what"].lower())
        finding = "Worst for " + "; ".join(f"{group} ({', '.join(whats)})" for group, whats in worst.items()) + "."
    else:
        compared = {table for table, *_ in GAPS} & set(details_of(run, "05_evaluate_bias").get("groups", {}))
        untold = "No group can be told to be worse: too few faces"
        untold += ", or a gap that its ages may explain." if any(gap["apart"] for gap in gaps) else "."
        finding = untold if compared else "Which groups differ is in notebook 05."
    lines = [
        f"{gap['what']}: {gap['worst_value']['value']} for {gap['worst']} (n = {gap['worst_value']['n']}), "
        f"{gap['best_value']['value']} for {gap['best']} (n = {gap['best_value']['n']})"
        + (f"; at the same ages {gap['same_ages']}" if gap["same_ages"] in ("cannot tell", "reversed") else "")
        for gap in gaps
    ]
    if skewed := cancelling_bias(run):
        lines.append(
            "On average " + listed(f"ages {end['ages']} are predicted {end['by']} y {end['way']}" for end in skewed)
        )
    if unequal := gaps_at_one_age(run):
        texts = ["{worse_mae} y for {worse} and {better_mae} y for {better} at {ages}".format(**gap) for gap in unequal]
        lines.append(f"Age error by gender label at one age: {'; '.join(texts)}")
    if claims := claim_counts(run):
        lines.append(f"Claims of an earlier analysis: {claims}")
    return Answer("For whom is it worse?", finding, tuple(lines), "05_evaluate_bias")


def _looks_at(run: RunFolder, results: dict) -> Answer:
    found = looks_at_face(run)
    area = details_of(run, "07_explain").get("area", {}).get("background")
    trusted = trusted_maps(run)
    at_face = outputs_named([head for head in trusted if found.get(head) == "the face"])
    past = outputs_named([head for head in trusted if found.get(head) == "past the face"])
    finding = (
        f"More at the face than its area, by LayerCAM, for {listed(at_face)}." if at_face else "That cannot be told."
    )
    if past:
        finding = f"Past the face, for {listed(past)}: LayerCAM lies more on the background than its area."
    shares = sorted(results[f"explain.{head}.background_share"]["value"] for head in found)
    lines = (
        [f"Share of the LayerCAM map on the background: {_span(shares)} over {len(shares)} outputs"] if shares else []
    )
    if lines:
        lines[0] += f"; it is {100 * area:.1f} % of the picture"
        if edges := details_of(run, "07_explain").get("edges_background"):
            lines[0] += f" and {shown(edges)['value']} of a map of edges"
    won: dict[str, list[str]] = {}
    for head, methods in faithful_methods(run).items():
        for method in methods:
            won.setdefault(method, []).append(head)
    if untold := [head for head in found if head not in trusted]:
        lines.append(
            f"For {listed(outputs_named(untold))} the LayerCAM maps say nothing of that: no better than edges or "
            "noise, or not shown to change with random weights"
        )
    if won:
        texts = [f"{method} for {listed(outputs_named(heads))}" for method, heads in won.items()]
        lines.append(f"More faithful than edges and noise: {'; '.join(texts)}")
    return Answer("What does it look at?", finding, tuple(lines), "07_explain")


def _trust(run: RunFolder, results: dict) -> Answer:
    leaks = results.get("splits.leaking_pairs", {}).get("value")
    finding = (
        "No copy that the audit found lies on both sides of the split."
        if leaks == 0
        else f"{leaks} pairs of copies lie on both sides of the split: the numbers flatter."
    )
    if run.is_synthetic:
        finding += " The numbers say nothing about people."
    elif leaks == 0:
        finding += " Different photographs of one person may."
    reads = run.path / "test_reads.csv"
    tested = max(estimate["n"] for key, estimate in results.items() if key.startswith("test."))
    which = f"as listed by {run.protocol['name']}" if run.protocol else "one per group of copies"
    lines = [f"{tested:,} test faces, {which}; one seed"]
    if reads.exists():
        times = len(reads.read_text(encoding="utf-8").splitlines()) - 1
        lines.append(f"This run read the test labels {times} time{'s' if times != 1 else ''}, in one notebook")
    if held := results.get("test.age.interval_coverage"):
        lines.append(f"90 % age intervals hold {with_interval(held)} of the labels")
        if least := least_covered(run):
            lines[-1] += f", least at ages {least['group']}: {with_interval({**least, 'unit': 'share'})}"
    if errors := details_of(run, "05_evaluate_bias").get("calibration_error"):
        parts = [f"{head} {value:.3f}" for head, value in errors.items() if value is not None]
        lines.append(f"Calibration error: {listed(parts)}")
    return Answer("Can I trust these numbers?", finding, tuple(lines), "05_evaluate_bias")
