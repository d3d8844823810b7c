"""reports/training/README.md and its figures from what the training benchmarks have measured.

usage: python -m studies.training_summary
"""

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.config import TrainingSettings, resolve
from facelib.plots.style import error_bars, finish, new_figure, title, use_style
from facelib.runs import project_root
from facelib.storage import write_text
from studies import TRAINING_RESULTS
from studies.pages import interval, table

FOLDER = project_root() / TRAINING_RESULTS
# Settings that a training read in earlier versions of the package, by the value that trains as the package does now.
EARLIER = {"learned": "age gender ethnicity", "optimizer": "adamw", "low_px_share": 0.0, "opinion_share": 0.0}
READ = (*TrainingSettings.model_fields, "image_px", "seed", "recipe", *EARLIER)
OPENING = """# How do the recipes compare, and what does a training step cost?

Measured on UTKFace by the commands named below, each of which writes its results into this folder. This page is made
from them by `python -m studies.training_summary`. Intervals are 95 %; differences are paired, over the same faces.
"""
RECIPE_NOTE = """
{how}, then
`python -m studies.recipes --compare {names} --into {file}`.
All were trained from {start} weights at {px} px on the same training faces (75 % of the data, copies reduced to one)
and scored on the same {n:,} validation faces; the test split took no part.

![{alt}]({figure})

Settings that differ from the profile `full` at {px} px, for `{first}`, and from those of `{first}` for all others:

"""
TRAINED = "`python -m studies.recipes RUN NAME --set KEY=VALUE ...` for each, with the settings below"
REMOVED = (
    "An earlier version of the package mixed the out-of-fold predictions of notebook 02's label networks into the "
    "labels, by the share `opinion_share` (soft targets). It is removed, so that these trainings can be repeated with "
    "that version only."
)
# Comparisons by file: title, what is to be known of them, and how they were made.
COMPARISONS = {
    "recipes.json": (
        "Recipes",
        "About the same processor time for each. From scratch and within minutes, a source's recipe is *not as "
        "published*. Source A found ResNet-34 no better than ResNet-18; here it gets the same time, thus fewer epochs. "
        "`reference` and `resnet34` learned with soft targets, which are removed since (below); the time of the label "
        "networks that made them is not counted.",
        TRAINED,
    ),
    "opinions.json": (
        "Soft targets, since removed: a short training",
        f"{REMOVED} The time of the label networks is not counted.",
        TRAINED,
    ),
    "opinions_full.json": (
        "Soft targets, since removed: the profile `full`",
        "Three networks that were published one after the other: the same faces and split, and settings that differ by "
        "the soft targets alone. They improve ethnicity in `full_earlier`, not clearly in `full`: training again, with "
        "small changes of the code and of the label networks, moved it about as far as soft targets did. Their effect "
        "cannot be told from these three.",
        "With the package of commit 9aebf21, whose studies are benchmarks: `git archive COMMIT reports/utkface`\n"
        "for `full` (b8f1f32), `full_earlier` (06b0d79) and `full_without_opinions` (05c8b05), unpacked into FOLDER, "
        "and\n`python -m studies.recipes --finished FOLDER NAME` for each",
    ),
    "ablation.json": (
        "What else was tried for `reference`",
        "On another split of the same faces and without soft targets: compare these rows with each other, not with the "
        "comparisons above.",
        TRAINED,
    ),
}
GREY_NOTE = """
## The 48 x 48 grey CSV

`python -m studies.recipes RUN grey48 --px {px} --set {settings}`, where RUN was begun on the CSV form of UTKFace,
then `python -m studies.recipes --compare grey48 --into grey48.json`: the profile `full` with these settings on that
form, {minutes}, one seed, on {n:,} validation faces. It was tuned on faces of UTKFace, but not on that form. Published
for it, each by a test split of its own: gender 89 to 92 %, ethnicity 76 to 82 %, age error 5.9 to 6.7 years.

"""
DIFFERENCE_NOTE = """
Differences from `{first}` on the same faces; an interval that excludes zero is marked. {seeds}
"""
ONE_SEED = "One seed each: what another start would have changed is not in the intervals."
SEVERAL_SEEDS = "Intervals are over seeds and faces."
STEP_NOTE = """
## A training step

`python -m benchmarks.training_step path/to/UTKFace`, on {device}, {threads} threads, batches of {batch},
{rounds} rounds side by side. *Bare* is the network's step on one batch in memory. The pixel cache and the augmentation
of the whole batch come on top of it in ours; the plain DataLoader decodes the files again in every epoch and changes
them one by one, in {workers} processes.
"""
MEASURES = {
    "age.mae": ("age MAE (years)", ".2f"),
    "age.mae_gt45": ("over 45 (years)", ".2f"),
    "age.cs5": ("within 5 years", ".1%"),
    "age.cs5_whole_years": ("within 5 years, in whole years", ".1%"),
    "gender.accuracy": ("gender", ".1%"),
    "gender.accuracy_age5plus": ("gender, 5 and over", ".1%"),
    "ethnicity.accuracy": ("ethnicity", ".1%"),
    "ethnicity.recall_other": ('recall of "Other"', ".1%"),
}


def learned(facts: dict, key: str) -> bool:
    """Whether a variant learned what a measure is about."""
    settings = facts["settings"]
    names = settings["learned"].split() if "learned" in settings else settings["attributes"]
    return not names or key.partition(".")[0] in names


def usual_at(settings: dict) -> dict:
    """The profile `full`, on which --set is read, at the edge of some settings."""
    return EARLIER | resolve("full").flat() | {"image_px": settings["image_px"]}


def set_of(settings: dict, usual: dict) -> list[str]:
    """KEY=VALUE of what a training reads and what is not as usual."""
    return [f"{key}={settings[key]}" for key in READ if key in settings and settings[key] != usual[key]]


def settings_list(found: dict[str, dict]) -> str:
    """What the first variant sets otherwise than the profile, and each other than the first, recipes included."""
    first = next(iter(found.values()))["settings"]
    lines = []
    for name, facts in found.items():
        own = facts["settings"]
        other = set_of(own, usual_at(own) if own is first else first)
        lines.append(f"- `{name}`: {', '.join(f'`{text}`' for text in other) or 'as the profile is'}\n")
    return "".join(lines)


def measured(found: dict[str, dict]) -> dict[str, tuple[str, str]]:
    """Those of `MEASURES` that the variants have: earlier ones were scored within 5 years in whole years alone."""
    return {key: text for key, text in MEASURES.items() if all(key in facts["measures"] for facts in found.values())}


def variant_table(found: dict[str, dict]) -> str:
    """What each variant is, its time and its measures."""
    rows = []
    for name, facts in found.items():
        values = [
            interval(facts["measures"][key], form) if learned(facts, key) else "not learned"
            for key, (_, form) in measured(found).items()
        ]
        minutes = f"{facts['seconds']['processor'] / 60:.0f}" if facts["seconds"] else "not known"
        rows.append([name, f"{facts['epochs']:g}", f"{facts.get('seeds', 1)}", minutes, *values])
    return table(["", "epochs", "seeds", "processor (min)", *(name for name, _ in measured(found).values())], rows)


def difference_table(found: dict[str, dict]) -> str:
    """Paired differences of each variant from the first."""
    first, rows = next(iter(found)), []
    for name, facts in found.items():
        if name == first:
            continue
        row = []
        for key, (_, form) in measured(found).items():
            value = facts[f"minus {first}"][key]
            clear = "**" if value["low"] > 0 or value["high"] < 0 else ""
            row.append(f"{clear}{interval(value, '+' + form)}{clear}" if learned(facts, key) else "not learned")
        rows.append([name, *row])
    several = all(facts.get("seeds", 1) > 1 for facts in found.values())
    note = DIFFERENCE_NOTE.format(first=first, seeds=SEVERAL_SEEDS if several else ONE_SEED)
    return note + table(["", *(name for name, _ in measured(found).values())], rows)


def recipe_comparison(table: pd.DataFrame) -> Figure:
    """Measures of several recipes with their intervals, a panel each: variant, measure, value, low, high, n."""
    names = {
        "age.mae": "Age MAE (years)\nleft is better",
        "gender.accuracy": "Gender accuracy\nright is better",
        "ethnicity.accuracy": "Ethnicity accuracy\nright is better",
    }
    variants = list(dict.fromkeys(table["variant"]))
    figure, axes = new_figure(len(names), width=11, height=1.5 + 0.32 * len(variants))
    for axis, (measure, heading) in zip(axes.flat, names.items(), strict=True):
        part = table[table["measure"] == measure]
        error_bars(axis, [variants.index(name) for name in part["variant"]], part["value"], part["low"], part["high"])
        axis.set(yticks=range(len(variants)), yticklabels=variants if axis is axes[0, 0] else [], title=heading)
        axis.set(ylim=(len(variants) - 0.5, -0.5))
        if measure != "age.mae":
            axis.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    title(figure, f"Validation, n = {table['n'].max():,}, 95 % intervals")
    return finish(figure)


def argument(name: str, facts: dict) -> str:
    """A recipe as `studies.recipes --compare` takes it."""
    trainings = facts.get("trainings", [name])
    return name if trainings == [name] else f"{name}={','.join(trainings)}"


def comparison(file: str) -> str:
    """One comparison of variants, and its figure."""
    path, (heading, note, how) = FOLDER / file, COMPARISONS[file]
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    rows = [
        {"variant": name, "measure": key, **facts["measures"][key]}
        for name, facts in found.items()
        for key in ("age.mae", "gender.accuracy", "ethnicity.accuracy")
        if learned(facts, key)
    ]
    use_style()
    figure = recipe_comparison(pd.DataFrame(rows))
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None}, bbox_inches="tight")
    first, facts = next(iter(found.items()))
    opening = RECIPE_NOTE.format(
        how=how,
        names=" ".join(map(argument, found, found.values())),
        file=file,
        start={"none": "random"}.get(facts["settings"]["start_weights"], facts["settings"]["start_weights"]),
        px=facts["settings"]["image_px"],
        n=facts["measures"]["age.mae"]["n"],
        alt=f"{heading}, on validation",
        figure=path.with_suffix(".svg").name,
        first=first,
    )
    tables = settings_list(found) + variant_table(found) + difference_table(found)
    return f"\n## {heading}\n\n{note}\n{opening}{tables}"


def grey() -> str:
    """What is reached on the CSV form of the data."""
    path = FOLDER / "grey48.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    (facts,) = found.values()
    taken = facts["seconds"]
    minutes = f"{taken['processor'] / 60:.0f} minutes of processor time" if taken else "in time that is not known"
    own = facts["settings"]
    note = GREY_NOTE.format(
        px=own["image_px"],
        settings=" ".join(set_of(own, usual_at(own))),
        minutes=minutes,
        n=facts["measures"]["age.mae"]["n"],
    )
    return note + variant_table(found)


def training_step() -> str:
    """What a step costs."""
    path = FOLDER / "training_step.json"
    if not path.exists():
        return ""
    facts = json.loads(path.read_text())
    rows = []
    for found in facts["measured"]:
        for name, values in (found.pop("seconds per step") | found).items():
            if name != "px":
                rows.append([f"{found['px']} px", name, ", ".join(f"{value:.3g}" for value in values)])
                rows[-1].append(f"{np.median(values):.3g}")
    rounds = len(facts["measured"][0]["pipeline over bare"])
    return STEP_NOTE.format(**facts, rounds=rounds) + table(["", "", "by round", "median"], rows)


if __name__ == "__main__":
    write_text(FOLDER / "README.md", OPENING + "".join(map(comparison, COMPARISONS)) + grey() + training_step())
