"""Recipes side by side: trained on the same split, from the same start, scored on validation.

Each call trains one variant with the settings of a recipe and keeps what it says of the validation faces in
runs/recipes/. `--compare` puts all variants beside a first one, with paired bootstrap intervals, into a file of
reports/training. Time is processor time, which other programs on the machine do not lengthen much.

usage: python -m benchmarks.recipes DATA VARIANT [--px 64] [--set KEY=VALUE ...]
       python -m benchmarks.recipes --compare VARIANT [VARIANT ...] [--into recipes.json]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import TRAINING_RESULTS
from facelib import metrics
from facelib.audit import decisions, duplicates
from facelib.config import Profile, resolve_profile
from facelib.data import cache_faces, read_faces
from facelib.data.splits import split_faces
from facelib.models.network import predict_outputs
from facelib.models.out_of_fold import predictions_table
from facelib.models.training import train_multitask
from facelib.runs import cache_root, runs_root, write_json
from facelib.schema import P_ETHNICITY
from facelib.storage import atomic_path

PREPARED_PX = 64  # edge of the images in which copies are searched, pixels


def prepared(data: str, profile: Profile) -> tuple:
    """Images, faces with the labels that training uses, and the split: once for all variants."""
    source = read_faces(data).sample(profile.images, profile.seed)
    small, faces, _ = cache_faces(source, PREPARED_PX, cache_root())
    images, _, _ = cache_faces(source, profile.image_px, cache_root())
    group_id = duplicates.group_copies(len(faces), duplicates.find_copies(faces, small))
    split = split_faces(faces, group_id, profile.seed)
    labels, used = decisions.training_labels(faces, split, decisions.read(Path("none"), faces))
    return images, faces, labels, split.assign(used=used)


def train_variant(data: str, name: str, profile: Profile) -> None:
    """Train one variant and keep its predictions of the validation faces."""
    images, faces, labels, split = prepared(data, profile)
    train, validation = (np.flatnonzero((split["split"] == part) & split["used"]) for part in ("train", "validation"))
    folder = runs_root() / "recipes"
    resumed = any((folder / name).glob("*.ckpt"))  # the time of the epochs before is not known any more
    wall, processor = time.perf_counter(), time.process_time()
    network, history = train_multitask(images, labels, train, validation, profile, folder / name, faces["image_id"])
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    given = faces.iloc[validation][["image_id", "age", "gender", "ethnicity"]].reset_index(drop=True)
    table = given.join(predictions_table(predict_outputs(network, images.take(validation))))
    with atomic_path(folder / f"{name}.parquet") as partial:
        table.to_parquet(partial, index=False)
    facts = {"seconds": None if resumed else seconds, "epochs": len(history), "settings": vars(profile)}
    write_json(folder / f"{name}.json", facts | {"measures": measure(table)})


def errors(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What each face adds to each measure; all but the age error are better when larger."""
    age_error = np.abs(metrics.whole_years(table["age_pred"]) - table["age"].to_numpy())
    old, gender = (table["age"] >= 5).to_numpy(), (table["p_female"] > 0.5) == table["gender"]
    ethnicity = table[list(P_ETHNICITY)].to_numpy().argmax(axis=1) == table["ethnicity"]
    other = (table["ethnicity"] == len(P_ETHNICITY) - 1).to_numpy()
    return {
        "age.mae": age_error,
        "age.mae_gt45": np.where(table["age"] > 45, age_error, np.nan),
        "age.cs5": (age_error <= 5).astype(float),
        "gender.accuracy": gender.to_numpy(float),
        "gender.accuracy_age5plus": np.where(old, gender, np.nan),
        "ethnicity.accuracy": ethnicity.to_numpy(float),
        "ethnicity.recall_other": np.where(other, ethnicity, np.nan),
    }


def measure(table: pd.DataFrame) -> dict[str, metrics.Estimate]:
    """Each measure with its interval."""
    return {
        name: metrics.bootstrap(np.mean, values[np.isfinite(values)], unit="years" if "mae" in name else "share")
        for name, values in errors(table).items()
    }


def compare(names: list[str]) -> dict[str, dict]:
    """Each variant's measures, and the paired differences of all others from the first."""
    folder, found = runs_root() / "recipes", {}
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    first = errors(tables[names[0]])
    for name, table in tables.items():
        facts = json.loads((folder / f"{name}.json").read_text("utf-8"))
        found[name] = {key: facts[key] for key in ("seconds", "epochs", "settings", "measures")}
        if name == names[0]:
            continue
        if not table["image_id"].equals(tables[names[0]]["image_id"]):
            raise SystemExit(f"{name} was scored on other faces than {names[0]}: train it again")
        paired = {key: values - first[key] for key, values in errors(table).items()}
        found[name][f"minus {names[0]}"] = {
            key: metrics.bootstrap(np.mean, values[np.isfinite(values)]).to_dict() for key, values in paired.items()
        }
    return found


def main() -> None:
    """Train one variant, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("variant", nargs="?")
    parser.add_argument("--px", default="64")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--compare", nargs="+", metavar="VARIANT")
    parser.add_argument("--into", type=Path, default=Path("recipes.json"))
    options = parser.parse_args()
    if options.compare:
        found = compare(options.compare)
        write_json(TRAINING_RESULTS / options.into, found)
    else:
        settings = dict(pair.split("=", 1) for pair in options.set)
        train_variant(options.data, options.variant, resolve_profile("full", {"image_px": options.px, **settings}))
        found = compare([options.variant])
    for name, facts in found.items():
        minutes = f"{facts['seconds']['processor'] / 60:.1f} min of processor" if facts["seconds"] else "resumed"
        values = ", ".join(f"{key} {value['value']:.3f}" for key, value in facts["measures"].items())
        print(f"{name}: {facts['epochs']} epochs, {minutes}; {values}")
        for key, value in next((facts[key] for key in facts if key.startswith("minus")), {}).items():
            print(f"    {key:26} {value['value']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})")


if __name__ == "__main__":
    main()
