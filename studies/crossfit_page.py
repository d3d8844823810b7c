"""reports/crossfit/README.md from what the trainings of `studies.crossfit` predicted.

usage: python -m studies.crossfit_page RUN [--out DIR]

Works with the trainings that are finished; a part of the page whose trainings are not says so.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.evaluation import claims, gaps, groups, label_noise
from facelib.evaluation.headline import MONDRIAN, coverage_table, evaluation_frame, headline_metrics, results_table
from facelib.finding import listed
from facelib.formats import read_json, write_json
from facelib.plots.style import class_colours, error_bars, finish, new_figure, title, use_style
from facelib.publication.publish import update_page
from facelib.runs import RunFolder, open_run, project_root
from facelib.schema import AGE, ETHNICITY, GENDER, ClassAttribute, class_attributes
from facelib.statistics import SHARE, YEARS, Bootstrap, Estimate, format_value, rate
from facelib.storage import write_text
from studies import CROSSFIT_RESULTS
from studies.crossfit import FOLDS, SEEDS, SPLITS, Training, outside_test, planned, results_of
from studies.pages import table

CHILD_YEARS = 17  # the oldest child, counted by single years
OPENING = """# Cross-fitted errors outside the test split, and on unseen sessions

Made by `python -m studies.crossfit {run}{settings}`, then `python -m studies.crossfit_page {run}`, on the {faces:,}
faces outside the run's test split, at commit {commit}. The recipe: `{recipe}`, {epochs} epochs from {start}
weights at {px} px. Ages are the network's own output. Probabilities and intervals are calibrated on each training's own
calibration rows. Intervals are 95 %, by bootstrap over groups of copies, unless stated otherwise; they leave out what
another training or calibration changes.

| trainings | finished | faces trained on | minutes each |
|---|---|---|---|
{trainings}
"""
ALL = """
## Faces outside the test split, cross-fitted

Five folds by recognised person; each face is predicted by the network that saw no recognised photograph of its person.
One face per group of copies, labels as given, n = {n:,}. A fold trains on four fifths of the faces that the run's
network had.
"""
SESSIONS = """
## Held-out collection sessions against the usual split

The same faces, predicted by networks that trained on other faces of their collection sessions (folds by person), and by
networks that saw no face of these sessions. {sessions} sessions, {n:,} faces. These intervals are by bootstrap over
sessions: they say what other sessions may show, and are wider than those above, over faces. The networks were
trained on {usual:,} and {held:,} faces on average. {finished}
"""
REPEATS = """
## Training, split and faces

{splits} further splits of the same faces, each trained with {seeds} seeds; standard deviations. *By training*: between
seeds on one split. *By split*: between splits beyond training and sampling of the test faces (0 where these explain all
of it). *By faces*: bootstrap over the test faces. *One training* is all three together: the 95 % interval of a single
run's number reaches 1.96 times as far to each side. Three splits and three seeds give a rough estimate.
"""
MISSING = "\n*Not finished: {parts}. Repeat the command to continue.*\n"


# --- frames -----------------------------------------------------------------------------------------------


def frames(run: RunFolder, trainings: list[Training], faces: pd.DataFrame, out: Path) -> dict[str, pd.DataFrame]:
    """The evaluation frame of each finished training, by name; SystemExit if one tested other faces."""
    found = {}
    for training in trainings:
        predicted, facts = results_of(out, training.name)
        if facts.exists():
            predictions = pd.read_parquet(predicted)
            tested = training.splits.query("split == 'test' and representative")["image_id"]
            if not tested.isin(predictions["image_id"]).all():
                raise SystemExit(f"{predicted} is of other faces than run {run.name}: choose another --out")
            found[training.name] = evaluation_frame(faces, training.splits, predictions, ("test",), run.attributes)
    return found


def values_of(run: RunFolder, frame: pd.DataFrame) -> pd.DataFrame:
    """What each face adds to each group metric, nan where the label is unknown; by image_id."""
    metrics = groups.group_metrics(run.learned)
    values = groups.row_values(frame, metrics)
    for metric in metrics:
        known = frame[metric.attribute.name].notna() & frame[metric.attribute.prediction].notna()
        values[metric.key] = values[metric.key].where(known)
    return values.set_index(frame["image_id"])


# --- measures ---------------------------------------------------------------------------------------------


def session_differences(
    usual: pd.DataFrame, held: pd.DataFrame, session: pd.Series, units: dict[str, str], bootstrap: Bootstrap
) -> dict[str, dict[str, Estimate]]:
    """Means of both tables of `values_of` on the images in both, and held minus usual, resampled by session.

    Copies in two sessions are represented by one image in a split by persons, and by another where one session is
    tested: these are left out. `session` names the session of each image_id; `units` are those of the measures.
    """
    both = held.index.intersection(usual.index)
    usual, held, sessions, measured = usual.loc[both], held.loc[both], session.loc[both].to_numpy(), {}
    for name, unit in units.items():
        rows = (held[name].notna() & usual[name].notna()).to_numpy()
        columns = {"usual": usual[name][rows], "held out": held[name][rows]}
        columns["difference"] = columns["held out"] - columns["usual"]
        measured[name] = {
            key: bootstrap(np.mean, part, groups=sessions[rows], unit=unit) for key, part in columns.items()
        }
    return measured


def components(values: np.ndarray, sampling: np.ndarray) -> dict[str, float]:
    """Standard deviations by training, split and faces of one measure, and of all three together.

    `values` are (splits, seeds); `sampling` (splits,) is the standard error of each split's mean over its test faces.
    A nested analysis of variance: the variance of the splits' means holds that of splits, of faces, and of training
    divided by the number of seeds.

    Examples
    --------
    >>> parts = components(np.array([[1.0, 3.0], [11.0, 13.0]]), np.array([1.0, 1.0]))
    >>> {name: round(value, 3) for name, value in parts.items()}
    {'training': 1.414, 'split': 6.928, 'faces': 1.0, 'one training': 7.141}
    """
    training = values.var(axis=1, ddof=1).mean()
    faces = np.mean(sampling**2)
    split = max(0.0, values.mean(axis=1).var(ddof=1) - faces - training / values.shape[1])
    variances = {"training": training, "split": split, "faces": faces, "one training": training + split + faces}
    return {name: float(np.sqrt(variance)) for name, variance in variances.items()}


def repeats(tables: dict[str, pd.DataFrame], bootstrap: Bootstrap) -> dict[str, dict]:
    """Mean and `components` of each measure over `values_of` of all repeated trainings, by name repeats-SPLIT-SEED."""
    measured = {}
    by_split = [[tables[f"repeats-{k}-{seed}"] for seed in range(SEEDS)] for k in range(SPLITS)]
    for name in by_split[0][0]:
        values = np.array([[part[name].mean() for part in parts] for parts in by_split])
        sampling = []
        for parts in by_split:
            mean = pd.concat([part[name] for part in parts], axis=1).mean(axis=1).dropna()
            estimate = bootstrap(np.mean, mean)
            sampling.append((estimate.high - estimate.low) / (2 * 1.96))
        measured[name] = {"mean": float(values.mean()), "values": values.tolist()}
        measured[name] |= components(values, np.array(sampling))
    return measured


def by_single_year(frame: pd.DataFrame, attribute: ClassAttribute, oldest: int = CHILD_YEARS) -> pd.DataFrame:
    """Share of wrong classes of children by labelled age in years and by class: age, class, value, low, high, n."""
    known = frame[frame[attribute.name].notna() & frame[attribute.prediction].notna() & (frame[AGE.name] <= oldest)]
    rows = []
    for (age, code), part in known.groupby([AGE.name, attribute.name]):
        wrong = rate(int((part[attribute.name] != part[attribute.prediction]).sum()), len(part))
        rows.append({"age": int(age), "class": attribute.label_name(int(code)), **wrong.to_dict()})
    return pd.DataFrame(rows, columns=["age", "class", *Estimate.__dataclass_fields__])


# --- the page ---------------------------------------------------------------------------------------------


def children_figure(children: pd.DataFrame, attribute: ClassAttribute, note: str):
    """Errors of children by single years, a line a class."""
    figure, axes = new_figure()
    for place, (name, part) in enumerate(children.groupby("class", sort=False)):
        at = part["age"] + 0.2 * (place - 0.5)
        look = {"fmt": "o-", "markersize": 4, "label": name, "color": class_colours(attribute)[name]}
        error_bars(axes[0, 0], at, part["value"], part["low"], part["high"], vertical=True, **look)
    axes[0, 0].set(xlabel="labelled age, years", ylabel=f"share with the wrong {attribute.name}", ylim=(0, None))
    axes[0, 0].legend()
    title(figure, f"{attribute.title} errors of children, cross-fitted, n = {children['n'].sum():,}{note}")
    return finish(figure)


def children_finding(children: pd.DataFrame) -> str:
    """At which single years one class is wrong more often than another, with intervals apart."""
    more = {}
    for age, part in children.groupby("age"):
        worst, best = part.loc[part["value"].idxmax()], part.loc[part["value"].idxmin()]
        if worst["low"] > best["high"]:
            more.setdefault(worst["class"], []).append(str(age))
    texts = [f"for faces labelled {name} at {listed(ages)}" for name, ages in more.items()]
    return f"Errors are more frequent {'; '.join(texts)} years." if texts else "At no age do the intervals lie apart."


def with_interval(row: dict, unit: str = "", key: str = "") -> str:
    """A number of a table's row, value, low and high or `key`, `key`_low and `key`_high, as text."""
    names = (key, f"{key}_low", f"{key}_high") if key else ("value", "low", "high")
    return str(Estimate(*(row[name] for name in names), n=int(row["n"]), unit=unit))


def claims_table(tested: pd.DataFrame) -> str:
    """The answers to claims, and what decides them."""
    rows = []
    for row in tested.to_dict("records"):
        answer = ": ".join(text for text in (row["answer"], row["ruled_out"]) if text)
        numbers = with_interval(row), format_value(row["smallest_effect"]), f"{row['n']:,}"
        rows.append([row["claim"], answer, row["measure"], *numbers])
    return table(["claim", "answer", "what is measured", "value", "smallest effect that n shows", "n"], rows)


def gaps_table(apart: pd.DataFrame, metrics: dict[str, groups.GroupMetric]) -> str:
    """Both ends of each gap between groups, and how far random groups lie apart."""
    rows = []
    for row in apart[apart["groups"] > 1].to_dict("records"):
        unit = metrics[row["metric"]].unit
        ends = (f"{format_value(row[f'{end}_value'], unit)}, {row[end]}" for end in ("lowest", "highest"))
        apart_by = Estimate(row["difference"], row["low"], row["high"], row["n"], unit).change_text(unit)
        chance = points_of(row["by_chance"], unit)
        rows.append([row["by"], metrics[row["metric"]].title, *ends, apart_by, chance, f"{row['p_adjusted']:.3f}"])
    return table(["by", "measure", "lowest", "highest", "difference", "by chance", "adjusted p"], rows)


def coverages_table(coverage: pd.DataFrame) -> str:
    """How many labels the intervals cover in each group, and how wide they are."""
    rows = [
        [str(row["group"]), with_interval(row, SHARE), format_value(row["width"], YEARS), f"{row['n']:,}"]
        for row in coverage.to_dict("records")
    ]
    return table(["faces", "coverage", "mean width", "n"], rows)


def all_faces(run: RunFolder, frame: pd.DataFrame, out: Path) -> tuple[str, dict]:
    """The part of the page on all faces, and its numbers."""
    attributes, bootstrap, min_group = run.learned, run.bootstrap, run.settings.evaluation.min_group
    measured = headline_metrics(frame, attributes, "crossfit", bootstrap)
    text = ALL.format(n=len(frame)) + table(
        ["measure", "value", "95 % interval", "n"],
        [
            [row["metric"], (e := Estimate(*(row[key] for key in Estimate.__dataclass_fields__))).text, e.interval_text,
             f"{e.n:,}"]
            for row in results_table(measured, attributes, "crossfit").to_dict("records")
        ],
    )  # fmt: skip
    stored = {"headline": measured}
    if {AGE, GENDER, ETHNICITY} <= set(attributes):
        tested, same_ages = claims.assess(frame, bootstrap), claims.assess_at_equal_ages(frame, bootstrap)
        text += "\n### Source A's claims\n\nIntervals are simultaneous for all five claims (Bonferroni).\n"
        text += claims_table(tested)
        text += f"\n{claims.claims_finding(tested, same_ages).text}\n"
        stored |= {"claims": tested, "claims_at_one_age_mix": same_ages}
    apart = gaps.gap_table(frame, groups.groupings(frame, attributes), attributes, min_group, run.settings.seed)
    metrics = {metric.key: metric for metric in groups.group_metrics(attributes)}
    text += (
        "\n### Gaps between groups\n\nIntervals of differences allow for the choice of the two groups that lie "
        "furthest apart; they are not adjusted for age. *By chance* is the mean difference of random groups of these "
        "sizes. p is from permutations, "
        "adjusted for all rows.\n"
    )
    text += gaps_table(apart, metrics)
    text += f"\n{gaps.gap_finding(apart).text}\n"
    stored["gaps"] = apart
    if AGE in attributes:
        aged = frame.dropna(subset=[AGE.name])
        kinds = {MONDRIAN: (aged["age_low"].to_numpy(), aged["age_high"].to_numpy())}
        by = [attribute.group_column for attribute in attributes]
        coverage = pd.concat([coverage_table(aged, column, kinds) for column in by], ignore_index=True)
        text += "\n### Coverage of the 90 % intervals\n" + coverages_table(coverage)
        stored["coverage"] = coverage
        for attribute in (a for a in class_attributes(attributes) if not a.sensitive):
            children = by_single_year(frame, attribute)
            if len(children):
                name = f"children_{attribute.name}.svg"
                children_figure(children, attribute, run.note).savefig(out / name, metadata={"Date": None})
                text += f"\n### Children by single years: {attribute.name}\n\n"
                text += f"![Share of wrong labels by age]({name})\n\n{children_finding(children)}\n"
                stored[f"children_{attribute.name}"] = children
    return text, stored


def two_labels(
    run: RunFolder, faces: pd.DataFrame, splits: pd.DataFrame, parts: list[pd.DataFrame], frame: pd.DataFrame
):
    """The part of the page on photographs with two labels, and its numbers: the parts hold each of them out once."""
    predictions = pd.concat(parts).set_index("image_id").loc[faces["image_id"]].reset_index()
    group_id, everywhere = splits["group_id"].to_numpy(), np.ones(len(faces), bool)
    measured = label_noise.label_disagreement(faces, group_id, everywhere, predictions, run.learned, run.bootstrap)
    noise = label_noise.noise_alone(frame[:0], pd.DataFrame(), run.bootstrap)
    if AGE in run.learned:
        differences = label_noise.copies_held_out(faces, group_id, everywhere, predictions, AGE)
        noise = label_noise.noise_alone(frame, differences, run.bootstrap)
    differing = [
        [row["attribute"], row["quantity"], with_interval(row, row["unit"]), f"{row['n']:,}"]
        for row in measured.to_dict("records")
    ]
    too_young = [
        [row["age_band"], *(with_interval(row, YEARS, key) for key in ("bias", "noise")), f"{row['n']:,}"]
        for row in noise.to_dict("records")
    ]
    text = "\n## Label disagreement\n"
    text += table(["attribute", "differing", "by", "n"], differing) if differing else ""
    text += "".join(f"\n{finding.text}\n" for finding in label_noise.disagreement_findings(measured, noise))
    header = ["labelled age", "predicted minus labelled", "by noise of the labels alone", "n"]
    text += table(header, too_young) if too_young else ""
    return text, {"label_disagreement": measured, "label_noise_bias": noise}


def page(run: RunFolder, out: Path) -> tuple[str, dict]:
    """The whole page, and the numbers behind it."""
    faces, splits, _ = outside_test(run)
    trainings = planned(run, faces, splits)
    found = frames(run, trainings, faces, out)
    facts = {name: read_json(results_of(out, name)[1]) for name in found}
    if not found:
        raise SystemExit(f"no training of run {run.name} is finished: python -m studies.crossfit {run.name}")
    kinds = {kind: [t.name for t in trainings if t.name.startswith(kind)] for kind in ("folds", "sessions", "repeats")}
    lines = []
    for kind, names in kinds.items():
        own = [facts[name] for name in names if name in facts]
        sizes = f"{np.mean([f['n']['train'] for f in own]):,.0f}" if own else ""
        minutes = f"{np.mean([f['seconds']['training'] for f in own]) / 60:.1f}" if own else ""
        lines.append(f"| {kind} | {len(own)} of {len(names)} | {sizes} | {minutes} |")
    first = next(iter(facts.values()))["settings"]
    usual = run.settings.flat()
    changed = [f"{key}={value}" for key, value in first.items() if key != "seed" and usual[key] != _tuple(value)]
    note = {"settings": f" --set {' '.join(changed)}" if changed else "", "trainings": "\n".join(lines)}
    note |= {"recipe": first["recipe"], "epochs": first["epochs"], "start": first["start_weights"]}
    note |= {"px": first["image_px"], "commit": next(iter(facts.values()))["commit"]}
    text = OPENING.format(run=run.name, faces=len(faces), **note)
    stored = {"trainings": facts}
    values = {name: values_of(run, frame) for name, frame in found.items()}
    folds = [name for name in kinds["folds"] if name in found]
    if len(folds) == FOLDS:
        frame = pd.concat([found[name] for name in folds], ignore_index=True)
        part, numbers = all_faces(run, frame, out)
        text, stored = text + part, stored | numbers
        part, numbers = two_labels(
            run, faces, splits, [pd.read_parquet(results_of(out, name)[0]) for name in folds], frame
        )
        text, stored = text + part, stored | numbers
        held = [name for name in kinds["sessions"] if name in found]
        if held:
            usual_values = pd.concat([values[name] for name in folds])
            held_values = pd.concat([values[name] for name in held])
            session = faces.set_index("image_id")["session"]
            units = {metric.key: metric.unit for metric in groups.group_metrics(run.learned)}
            measured = session_differences(usual_values, held_values, session, units, run.bootstrap)
            sizes = [np.mean([facts[name]["n"]["train"] for name in names]) for names in (folds, held)]
            both = held_values.index.intersection(usual_values.index)
            number = session.loc[both].nunique()
            finished = "" if len(held) == FOLDS else f"{len(held)} of {FOLDS} folds of sessions are finished."
            facts_held = {"sessions": number, "n": len(both), "usual": round(sizes[0]), "held": round(sizes[1])}
            text += SESSIONS.format(finished=finished, **facts_held) + measures_table(run, measured)
            stored["sessions"] = measured
    if all(name in found for name in kinds["repeats"]):
        measured = repeats(values, run.bootstrap)
        rows = []
        for metric in groups.group_metrics(run.learned):
            own = measured[metric.key]
            deviations = (points_of(own[part], metric.unit) for part in ("training", "split", "faces", "one training"))
            rows.append([metric.title, format_value(own["mean"], metric.unit), *deviations])
        text += REPEATS.format(splits=SPLITS, seeds=SEEDS)
        text += table(["measure", "mean", "by training", "by split", "by faces", "one training"], rows)
        stored["repeats"] = measured
    unfinished = [f"{kind} ({sum(n not in found for n in names)})" for kind, names in kinds.items()
                  if not set(names) <= set(found)]  # fmt: skip
    if not kinds["sessions"]:
        text += "\n*The data do not say which images were collected together: no session is held out.*\n"
    return text + (MISSING.format(parts=", ".join(unfinished)) if unfinished else ""), stored


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def measures_table(run: RunFolder, measured: dict[str, dict[str, Estimate]]) -> str:
    """`session_differences` as a table; differences of shares in percentage points."""
    rows = []
    for metric in groups.group_metrics(run.learned):
        own = measured[metric.key]
        rows.append(
            [
                metric.title,
                *(f"{own[key]}" for key in ("usual", "held out")),
                own["difference"].change_text(metric.unit),
            ]
        )
    return table(["measure", "sessions trained on", "sessions held out", "difference"], rows)


def front(run: RunFolder, stored: dict) -> str:
    """What the README says of it: held-out sessions, and what another seed and split change. Empty before that."""
    metrics = [metric for metric in groups.group_metrics(run.learned) if metric.more_is_better is not None]
    texts = []
    held = [name for name in stored.get("trainings", ()) if name.startswith("sessions")]
    if len(held) == FOLDS and (measured := stored.get("sessions")):
        phrases = [
            f"{metric.title.lower()} {own['held out'].text} against {own['usual'].text} "
            f"({own['difference'].change_text(metric.unit).replace(' (', ', ')}"
            for metric in metrics
            for own in [measured[metric.key]]
        ]
        n = max(own["usual"].n for own in measured.values())
        texts.append(
            "Without training faces of the same collection session ([cross-fitted](reports/crossfit/README.md) on the "
            f"{n:,} faces outside the test split; intervals over sessions): {listed(phrases)}."
        )
    if measured := stored.get("repeats"):
        phrases = [
            f"{metric.title.lower()} by {points_of(measured[metric.key]['one training'], metric.unit)}"
            for metric in metrics
            if not metric.title.endswith(groups.WITHIN_INTERVALS)
        ]
        texts.append(f"Another seed, split and set of test faces moves {listed(phrases)} (standard deviations).")
    return f"{' '.join(texts)}\n" if texts else ""


def points_of(value: float, unit: str) -> str:
    """A difference, of shares in percentage points."""
    return f"{100 * value:.1f} points" if unit == SHARE else f"{value:.2f} y"


def main() -> None:
    """Write the page and its numbers; and the README's paragraph, unless the page goes elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--out", type=Path, default=CROSSFIT_RESULTS)
    options = parser.parse_args()
    use_style()
    options.out.mkdir(parents=True, exist_ok=True)
    run = open_run(options.run)
    text, stored = page(run, options.out)
    write_json(options.out / "results.json", stored)
    write_text(options.out / "README.md", text)
    if options.out == CROSSFIT_RESULTS:
        update_page(project_root() / "README.md", "crossfit", front(run, stored))
    print(text)


if __name__ == "__main__":
    main()
