"""Recipes side by side: trained on the split of one run, from the same start, scored on validation.

Each call trains one variant with the settings of a recipe and keeps what it says of the run's validation faces in
runs/recipes/. The run needs notebooks 01 and 02: `facelib run --to 02`. `--compare` puts all variants beside a first
one, with paired bootstrap intervals, into a file of reports/training. Time is processor time, which other programs on
the machine do not lengthen much.

usage: python -m studies.recipes RUN VARIANT [--px 64] [--set KEY=VALUE ...]
       python -m studies.recipes --finished FOLDER VARIANT, what the network of a run or a published one says
       python -m studies.recipes --compare VARIANT [VARIANT ...] [--into recipes.json]
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


def compare(names: list[str]) -> dict[str, dict]:
    """Each variant's measures, and the paired differences of all others from the first."""
    folder, found = runs_root() / "recipes", {}
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    first = errors(tables[names[0]])
    for name, table in tables.items():
        facts = json.loads((folder / f"{name}.json").read_text("utf-8"))
        found[name] = {key: facts[key] for key in ("run", "seconds", "epochs", "settings", "measures")}
        if name == names[0]:
            continue
        if not table[LABELLED].equals(tables[names[0]][LABELLED]) or facts["run"] != found[names[0]]["run"]:
            raise SystemExit(f"{name} was scored on other faces or labels than {names[0]}: train it again")
        paired = {key: values - first[key] for key, values in errors(table).items()}
        found[name][f"minus {names[0]}"] = {
            key: Bootstrap()(np.mean, values[np.isfinite(values)]).to_dict() for key, values in paired.items()
        }
    return found


def main() -> None:
    """Train one variant, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("variant", nargs="?")
    parser.add_argument("--px", default="64")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--finished", nargs=2, metavar=("FOLDER", "VARIANT"))
    parser.add_argument("--compare", nargs="+", metavar="VARIANT")
    parser.add_argument("--into", type=Path, default=Path("recipes.json"))
    options = parser.parse_args()
    if options.compare:
        found = compare(options.compare)
        write_json(TRAINING_RESULTS / options.into, found)
    elif options.finished:
        folder, name = options.finished
        keep_finished(Path(folder), name)
        found = compare([name])
    else:
        settings = dict(pair.split("=", 1) for pair in options.set)
        train_variant(options.run, options.variant, resolve("full", {"image_px": options.px, **settings}))
        found = compare([options.variant])
    for name, facts in found.items():
        minutes = f"{facts['seconds']['processor'] / 60:.1f} min of processor" if facts["seconds"] else "time not known"
        values = ", ".join(f"{key} {value['value']:.3f}" for key, value in facts["measures"].items())
        print(f"{name}: {facts['epochs']} epochs, {minutes}; {values}")
        for key, value in next((facts[key] for key in facts if key.startswith("minus")), {}).items():
            print(f"    {key:26} {interval(value, '+.3f')}")


if __name__ == "__main__":
    main()
