"""reports/training/README.md and its figures from what the training benchmarks have measured.

usage: python -m studies.training_summary
"""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.config import TrainingSettings, resolve
from facelib.embedding.weights import read_weights, weights_file
from facelib.formats import read_json
from facelib.plots.style import error_bars, finish, new_figure, title, use_style
from facelib.runs import project_root
from facelib.storage import write_text
from studies import TRAINING_RESULTS
from studies.pages import interval, table

FOLDER = project_root() / TRAINING_RESULTS
READ = (*TrainingSettings.model_fields, "image_px", "seed", "recipe")
OPENING = """# How do the recipes compare, and what does a training step cost?

Measured on UTKFace by the commands named below, each of which writes its results into this folder. This page is made
from them by `python -m studies.training_summary`. Intervals are 95 %; differences are paired, over the same faces.
"""
RECIPE_NOTE = """
## Recipes

`{first}` is the recipe `face`, which photographs are trained with by default. `source_a` is source A's recipe with the
face network, its weights and its learning rates in place of a ResNet with ImageNet's weights: the output layers are
trained first, then all layers. `source_b` is source B's recipe from random weights, on grey images of 48 px and for few
epochs, which is not as published. All predict three attributes; source A itself had no ethnicity. Time is CPU time, the
mean over the trainings that were timed.

`python -m studies.recipes RUN NAME --set KEY=VALUE ...` for each training, with the settings below and a seed of its
own, or `--finished FOLDER NAME` for the training of a finished run; then `python -m studies.recipes --compare {names}`.
All were trained on the same training faces (copies reduced to one) and scored on the same {n:,} validation faces; the
test split took no part. The settings of `{first}` alone were tuned on validation faces of UTKFace.

![Recipes, on validation](recipes.svg)

Settings that differ from the profile `full`, for `{first}`, and from those of `{first}` for the others:

"""
START_NOTE = """
## Fine-tuning the face network

The face network scales the output of each convolution. Folded into the filters, the scales change no output of the
start, but make filters {larger} times larger. An update of AdamW is about as large as the learning rate whatever the
size of a filter. At that of `face` it is {apart} of a filter's mean absolute value with unfolded scales, most in the
upper layers, and {folded} with folded scales. `scales_apart` is the code of commit 114c4c3, `scales_folded` the same
recipe by today's code (`--set recipe=face frozen_stages=3`), `all_stages` the recipe `face`; `twelve_epochs` trains
longer, at a smaller rate; it was not chosen, because it costs more. How much of the gain in age error is from folding
is the first row of the differences. A smaller rate with unfolded scales was not tried.

`python -m studies.recipes RUN NAME --px 150 --set KEY=VALUE ...` for each, then
`python -m studies.recipes --compare {names} --into face_start.json`; one seed, {n:,} validation faces of a split of
its own. `face_top` is `face` with the first three of six stages frozen.

"""
GREY_NOTE = """
## The 48 x 48 grey CSV

`python -m studies.recipes RUN grey48 --px {px} --set {settings}`, where RUN was begun on the CSV form of UTKFace,
then `python -m studies.recipes --compare grey48 --into grey48.json`: the profile `full` with these settings on that
form, {minutes}, one seed, on {n:,} validation faces. It was tuned on faces of UTKFace, but not on that form. Published
for it, in one stage, each by a test split of its own: gender 89 to 92 %, ethnicity 76 to 82 %, age error 5.9 to 6.7
years.

"""
DIFFERENCE_NOTE = """
Differences from `{first}` on the same faces; an interval that excludes zero is marked. {seeds}
"""
ONE_SEED = "For a recipe of one seed, what another start would have changed is not in the intervals."
SEVERAL_SEEDS = "Intervals are over seeds and faces."
STEP_NOTE = """
## A training step

`python -m benchmarks.training_step path/to/UTKFace`, on {device}, {threads} threads, batches of {batch},
{rounds} rounds side by side. *Bare* is the network's step on one batch in memory. The pixel cache and the augmentation
of the whole batch come on top of it in ours; the plain DataLoader decodes the files again in every epoch and changes
them one by one, in {workers} processes.
"""
MEMORY_NOTE = """
## Memory and update of a step

`python -m benchmarks.step_memory`, on {device}, {rounds} rounds side by side: seconds of a step of `face`, and
their ratio to those of the first row in the same round. glibc returns freed memory to the system, whose pages have to
be mapped and zeroed again in every step; a training keeps it.
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


def usual_at(settings: dict) -> dict:
    """The profile `full`, on which --set is read, at the edge of some settings."""
    return resolve("full").flat() | {"image_px": settings["image_px"]}


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
        same = "as the profile is" if own is first else "the same"
        lines.append(f"- `{name}`: {', '.join(f'`{text}`' for text in other) or same}\n")
    return "".join(lines)


def measured(found: dict[str, dict]) -> dict[str, tuple[str, str]]:
    """Those of `MEASURES` that the variants have: earlier ones were scored within 5 years in whole years alone."""
    return {key: text for key, text in MEASURES.items() if all(key in facts["measures"] for facts in found.values())}


def variant_table(found: dict[str, dict]) -> str:
    """What each variant is, its time and its measures."""
    rows = []
    for name, facts in found.items():
        values = [interval(facts["measures"][key], form) for key, (_, form) in measured(found).items()]
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
            clear = "**" if value["low"] is not None and (value["low"] > 0 or value["high"] < 0) else ""
            row.append(f"{clear}{interval(value, '+' + form)}{clear}")
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


def comparison() -> str:
    """The comparison of recipes, and its figure."""
    found = read_json(FOLDER / "recipes.json")
    rows = [
        {"variant": name, "measure": key, **facts["measures"][key]}
        for name, facts in found.items()
        for key in ("age.mae", "gender.accuracy", "ethnicity.accuracy")
    ]
    use_style()
    figure = recipe_comparison(pd.DataFrame(rows))
    figure.savefig(FOLDER / "recipes.svg", metadata={"Date": None}, bbox_inches="tight")
    first, facts = next(iter(found.items()))
    names = " ".join(map(argument, found, found.values()))
    opening = RECIPE_NOTE.format(names=names, n=facts["measures"]["age.mae"]["n"], first=first)
    return opening + settings_list(found) + variant_table(found) + difference_table(found)


def face_start() -> str:
    """How the start from the face network is best used."""
    found = read_json(FOLDER / "face_start.json")
    names = " ".join(map(argument, found, found.values()))
    convolutions = read_weights(weights_file()).convolutions
    scales = np.array([np.abs(layer.scale).mean() for layer in convolutions])
    training = resolve("full", {"recipe": "face"}).training
    filters = {
        "apart": [layer.filters for layer in convolutions],
        "folded": [layer.filters * layer.scale[:, None, None, None] for layer in convolutions],
    }
    shares = {}
    for way, layers in filters.items():
        updates = training.learning_rate * training.backbone_rate / np.array([np.abs(part).mean() for part in layers])
        shares[way] = f"{100 * updates.min():.1g} to {100 * updates.max():.0f} %"
    n = next(iter(found.values()))["measures"]["age.mae"]["n"]
    opening = START_NOTE.format(names=names, n=n, larger=f"{scales.min():.0f} to {scales.max():.0f}", **shares)
    return opening + settings_list(found) + variant_table(found) + difference_table(found)


def grey() -> str:
    """What is reached on the CSV form of the data."""
    found = read_json(FOLDER / "grey48.json")
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
    facts = read_json(FOLDER / "training_step.json")
    rows = []
    for found in facts["measured"]:
        for name, values in (found.pop("seconds per step") | found).items():
            if name != "px":
                rows.append([f"{found['px']} px", name, ", ".join(f"{value:.3g}" for value in values)])
                rows[-1].append(f"{np.median(values):.3g}")
    rounds = len(facts["measured"][0]["pipeline over bare"])
    return STEP_NOTE.format(**facts, rounds=rounds) + table(["", "", "by round", "median"], rows)


def step_memory() -> str:
    """What kept memory and one kernel for all updates save."""
    facts = read_json(FOLDER / "step_memory.json")
    rows = [
        [way, f"{np.median(seconds):.3f}", ", ".join(f"{share:.2f}" for share in facts["shares"].get(way, ())) or "1"]
        for way, seconds in facts["seconds"].items()
    ]
    note = MEMORY_NOTE.format(device=facts["device"], rounds=len(next(iter(facts["seconds"].values()))))
    return note + table(["", "seconds, median", "ratio by round"], rows)


if __name__ == "__main__":
    write_text(FOLDER / "README.md", OPENING + comparison() + face_start() + grey() + training_step() + step_memory())
