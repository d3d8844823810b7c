"""Recipes side by side: trained on the split of one run, from the same start, scored on validation.

Each call trains one variant with the settings of a recipe and keeps what it says of the run's validation faces in
runs/recipes/. The run needs notebooks 01 and 02: `facelib run --to 02`. `--compare` puts recipes beside a first one
into a file of reports/training. A recipe is one variant, or several trainings of it that differ by their seed (`--set
seed=1`): their intervals are over seeds and faces, and of single trainings over faces alone, which two trainings of the
same settings may exceed. Time is processor time, which other programs on the machine do not lengthen much: of all of
train_multitask, the mean of a recipe's trainings. What else a recipe needs (networks that make its labels, say) is to
be given by `--costs`, in minutes, and is added.

usage: python -m studies.recipes RUN VARIANT [--px 64] [--set KEY=VALUE ...]
       python -m studies.recipes --finished FOLDER VARIANT, what the network of a run or a published one says
       python -m studies.recipes --compare NAME[=VARIANT,VARIANT...] [...] [--costs NAME=MINUTES ...] [--into FILE]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from facelib import metrics
from facelib.audit import decisions
from facelib.config import Settings, resolve
from facelib.data.ingest import load_images
from facelib.data.pixels import resize
from facelib.formats import write_json
from facelib.models.checkpoints import load_result
from facelib.models.heads import predictions_table
from facelib.models.network import predict_outputs
from facelib.models.training import train_multitask
from facelib.runs import RunFolder, open_run, runs_root
from facelib.schema import ETHNICITY, GENDER, OLD_YEARS, UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap, Estimate
from facelib.storage import atomic_path
from studies import TRAINING_RESULTS
from studies.pages import interval

LABELLED = ["image_id", *(attribute.name for attribute in UTKFACE_ATTRIBUTES)]


def train_variant(run: str, name: str, settings: Settings) -> None:
    """Train one variant and keep its predictions of the validation faces."""
    prepared = open_run(run)
    faces = prepared.load_table("faces")
    labels, rows = decisions.load_training(prepared)
    images, validation = resize(load_images(prepared, faces), settings.data.image_px), rows["validation"]
    folder = runs_root() / "recipes"
    begun = any((folder / name).glob("*.ckpt"))
    wall, processor = time.perf_counter(), time.process_time()
    network, history = train_multitask(
        images, labels, rows["train"], validation, prepared.learned, settings, folder / name, faces["image_id"]
    )
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    # The processor time of epochs that an earlier call trained is not known any more. A checkpoint there was no help if
    # it was of other settings: then all of the training's time is this call's.
    resumed = begun and load_result(folder / name).seconds > seconds["wall"]
    given = faces.iloc[validation][LABELLED].reset_index(drop=True)
    table = given.join(predictions_table(predict_outputs(network, images.take(validation)), prepared.learned))
    facts = {"run": run, "seconds": None if resumed else seconds, "epochs": len(history)}
    facts["settings"] = settings.flat()
    keep(name, table, facts)


def keep(name: str, table: pd.DataFrame, facts: dict) -> None:
    """Keep a variant's predictions of the validation faces, what is known of it, and its measures."""
    folder = runs_root() / "recipes"
    with atomic_path(folder / f"{name}.parquet") as partial:
        table.to_parquet(partial, index=False)
    write_json(folder / f"{name}.json", facts | {"measures": measure(table)})


def keep_finished(folder: Path, name: str) -> None:
    """Keep what the multitask network of a finished run, or of a published one, says as a variant."""
    finished = RunFolder(folder)
    split, predictions = finished.load_table("splits"), finished.load_table("predictions")
    own = predictions[predictions["model"] == "multitask"].reset_index(drop=True)
    columns = [column for column in own if column.startswith("p_")]
    judged = (split["representative"] & (split["split"] == "validation")).to_numpy()
    table = finished.load_table("faces")[LABELLED].join(own[["age_pred", *columns]])[judged].reset_index(drop=True)
    epochs = finished.details("03_train_multitask")["epochs"]
    facts = {"run": folder.name, "seconds": None, "epochs": epochs, "settings": finished.settings.flat()}
    keep(name, table, facts)


def errors(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What each face adds to each measure; all but the age error are better when larger."""
    age_error = np.abs(metrics.whole_years(table["age_pred"]) - table["age"].to_numpy())
    unrounded = np.abs(table["age_pred"] - table["age"])
    aged = table["age"].notna()
    gender, ethnicity = (
        np.where(a.is_known(table[a.name]), a.decode(table) == table[a.name], np.nan) for a in (GENDER, ETHNICITY)
    )
    old, other = (table["age"] >= 5).to_numpy(), (table["ethnicity"] == ETHNICITY.parse("Other")).to_numpy()
    return {
        "age.mae": age_error,
        "age.mae_gt45": np.where(table["age"] > OLD_YEARS, age_error, np.nan),
        "age.cs5": np.where(aged, unrounded <= 5, np.nan),
        "gender.accuracy": gender,
        "gender.accuracy_age5plus": np.where(old, gender, np.nan),
        "ethnicity.accuracy": ethnicity,
        "ethnicity.recall_other": np.where(other, ethnicity, np.nan),
    }


def measure(table: pd.DataFrame) -> dict[str, Estimate]:
    """Each measure with its interval."""
    return {
        name: Bootstrap()(np.mean, values[np.isfinite(values)], unit="years" if "mae" in name else "share")
        for name, values in errors(table).items()
    }


def over_seeds(values: np.ndarray, bootstrap: Bootstrap, stream: int = 0) -> np.ndarray:
    """Draws (resamples + 1,) of the mean of values (seeds, n), the mean itself first: faces and seeds are resampled.

    Faces are drawn alike in each call, so that differences of two recipes are paired; seeds by `stream`, independent
    between recipes. The few seeds' deviations are widened by sqrt(k / (k - 1)), since k draws of k vary too little; one
    seed varies not at all.

    Examples
    --------
    >>> draws = over_seeds(np.array([[1.0, 1.0], [3.0, 3.0]]), Bootstrap(100))
    >>> float(draws[0]), bool(draws[1:].min() < 1)
    (2.0, True)
    """
    seeds, n = values.shape
    means = bootstrap.weights(np.arange(n)) @ values.T / n
    if seeds == 1:
        return means[:, 0]
    chosen = np.random.default_rng([bootstrap.seed, stream]).integers(0, seeds, (bootstrap.resamples, seeds))
    centre = means.mean(axis=1)
    moved = np.take_along_axis(means[1:], chosen, axis=1).mean(axis=1) - centre[1:]
    return np.append(centre[0], centre[1:] + np.sqrt(seeds / (seeds - 1)) * moved)


def read_recipe(name: str, variants: list[str]) -> tuple[dict[str, np.ndarray], dict, pd.DataFrame]:
    """What each face adds to each measure in each training (seeds, n), what is known of the recipe, and its labels."""
    folder = runs_root() / "recipes"
    tables = [pd.read_parquet(folder / f"{variant}.parquet") for variant in variants]
    facts = [json.loads((folder / f"{variant}.json").read_text("utf-8")) for variant in variants]
    settings = [{**each["settings"], "seed": None} for each in facts]
    if any(other != settings[0] for other in settings):
        raise SystemExit(f"the trainings of {name} differ by more than their seed: {', '.join(variants)}")
    if len({each["settings"]["seed"] for each in facts}) < len(facts):
        raise SystemExit(f"two trainings of {name} have one seed: {', '.join(variants)}")
    for variant, table, each in zip(variants, tables, facts, strict=True):
        if not table[LABELLED].equals(tables[0][LABELLED]) or each["run"] != facts[0]["run"]:
            raise SystemExit(f"{variant} was scored on other faces or labels than {variants[0]}: train it again")
    values = [errors(table) for table in tables]
    timed = [each["seconds"] for each in facts if each["seconds"]]
    seconds = {key: float(np.mean([each[key] for each in timed])) for key in timed[0]} if timed else None
    known = {"run": facts[0]["run"], "epochs": float(np.mean([each["epochs"] for each in facts])), "seconds": seconds}
    known |= {"trainings": variants, "seeds": len(facts), "settings": facts[0]["settings"]}
    return {key: np.stack([each[key] for each in values]) for key in values[0]}, known, tables[0][LABELLED]


def compare(recipes: dict[str, list[str]], costs: dict[str, float] | None = None) -> dict[str, dict]:
    """Each recipe's measures over its trainings, and the paired differences of all others from the first.

    `costs` are minutes of processor time, by recipe, that its trainings do not count.
    """
    bootstrap, found, first = Bootstrap(), {}, {}
    for stream, (name, variants) in enumerate(recipes.items()):
        values, known, labels = read_recipe(name, variants)
        if (costs or {}).get(name) and known["seconds"]:
            known["seconds"] = {key: value + 60 * costs[name] for key, value in known["seconds"].items()}
        known["measures"], minus = {}, {}
        if first and (known["run"] != first["run"] or not labels.equals(first["labels"])):
            raise SystemExit(f"{name} was scored on other faces or labels than {first['name']}: train it again")
        first = first or {"name": name, "labels": labels, "run": known["run"], "draws": {}}
        for key, part in values.items():
            rows = np.isfinite(part).all(axis=0)
            draws, n = over_seeds(part[:, rows], bootstrap, stream), int(rows.sum())
            unit = "years" if "mae" in key else "share"
            possible = draws.clip(0, 1 if unit == "share" else None)  # widened draws may lie beyond
            known["measures"][key] = bootstrap.of_draws(possible, n, unit).to_dict()
            first["draws"].setdefault(key, draws)
            minus[key] = bootstrap.of_draws(draws - first["draws"][key], n).to_dict()
        found[name] = known | ({} if name == first["name"] else {f"minus {first['name']}": minus})
    return found


def recipes_of(texts: list[str]) -> dict[str, list[str]]:
    """Trainings by recipe, of arguments such as `face=face_0,face_1`.

    Examples
    --------
    >>> recipes_of(["face=face_0,face_1", "reference"])
    {'face': ['face_0', 'face_1'], 'reference': ['reference']}
    """
    pairs = (text.partition("=") for text in texts)
    return {name: (variants or name).split(",") for name, _, variants in pairs}


def main() -> None:
    """Train one variant, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("variant", nargs="?")
    parser.add_argument("--px", default="64")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--finished", nargs=2, metavar=("FOLDER", "VARIANT"))
    parser.add_argument("--compare", nargs="+", metavar="NAME=VARIANTS")
    parser.add_argument("--costs", nargs="+", default=[], metavar="NAME=MINUTES")
    parser.add_argument("--into", type=Path, default=Path("recipes.json"))
    options = parser.parse_args()
    if options.compare:
        costs = {name: float(minutes) for name, _, minutes in (text.partition("=") for text in options.costs)}
        found = compare(recipes_of(options.compare), costs)
        write_json(TRAINING_RESULTS / options.into, found)
    elif options.finished:
        folder, name = options.finished
        keep_finished(Path(folder), name)
        found = compare({name: [name]})
    else:
        changed = dict(pair.split("=", 1) for pair in options.set)
        settings = resolve("full", {"image_px": options.px, **changed})
        print(
            f"{options.variant}: recipe {settings.recipe}, {settings.training.epochs} epochs, {options.px} px",
            flush=True,
        )
        train_variant(options.run, options.variant, settings)
        found = compare({options.variant: [options.variant]})
    for name, facts in found.items():
        minutes = f"{facts['seconds']['processor'] / 60:.1f} min of processor" if facts["seconds"] else "time not known"
        values = ", ".join(f"{key} {value['value']:.3f}" for key, value in facts["measures"].items())
        print(f"{name}: {facts['epochs']:g} epochs, {facts['seeds']} seeds, {minutes}; {values}")
        for key, value in next((facts[key] for key in facts if key.startswith("minus")), {}).items():
            print(f"    {key:26} {interval(value, '+.3f')}")


if __name__ == "__main__":
    main()
