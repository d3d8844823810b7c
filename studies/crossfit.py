"""One recipe trained again and again: cross-fitted, with whole sessions held out, and over seeds and splits.

Every training leaves the run's own test split out. `sessions` and `folds` each deal all other faces to five folds, by
collection session and by person, and predict each fold by a network that saw none of it. `repeats` draws three further
splits of the same faces and trains each with three seeds. Predictions go to reports/crossfit/trainings, so that another
machine can continue; the page is made by `studies.crossfit_page`.

A training that was stopped continues at its last epoch, and finished ones are not repeated. Several processes share
the trainings: start the command once for each core.

usage: python -m studies.crossfit RUN [--only PART ...] [--set KEY=VALUE ...] [--out DIR]

RUN needs notebooks 01 and 02 (`facelib run --to 02`); its settings are the recipe, of which --set replaces some.
"""

import argparse
import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import decisions
from facelib.config import Settings, resolve
from facelib.data.ingest import load_images
from facelib.data.pixels import FaceImages, resize
from facelib.data.sessions import has_sessions
from facelib.data.splits import deal_sessions, fold_of_groups, hold_out, split_faces, stratum
from facelib.errors import RunConflict
from facelib.formats import read_json, write_json
from facelib.models.checkpoints import TRAINING_VERSION, load_result
from facelib.models.heads import predictions_table
from facelib.models.network import predict_outputs
from facelib.models.training import train_multitask
from facelib.prediction.assemble import fit_temperatures, labelled_rows
from facelib.prediction.calibration import fit_age_intervals
from facelib.runs import RunFolder, git_commit, open_run
from facelib.schema import AGE
from facelib.storage import atomic_path, held
from studies import CROSSFIT_RESULTS

FOLDS, SPLITS, SEEDS = 5, 3, 3
PARTS = ("sessions", "folds", "repeats")


@dataclass(frozen=True)
class Training:
    """One training: its name, the table of its splits (of `outside_test`), and the seed of its network."""

    name: str
    splits: pd.DataFrame
    seed: int


def outside_test(run: RunFolder) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """The faces and splits of a run without its test split, and their rows in the run's tables."""
    splits = run.load_table("splits")
    rows = np.flatnonzero(splits["split"] != "test")
    faces = run.load_table("faces").iloc[rows].reset_index(drop=True)
    return faces, splits.iloc[rows].reset_index(drop=True), rows


def planned(run: RunFolder, faces: pd.DataFrame, splits: pd.DataFrame) -> list[Training]:
    """All trainings of a run, in their order; none by session where the faces have none."""
    group_id, person_id = (splits[name].to_numpy() for name in ("group_id", "person_id"))
    seed, split_seed, attributes = run.settings.seed, run.settings.split_seed, run.attributes

    def holding_out(name: str, fold: np.ndarray) -> list[Training]:
        # A seed of its own for each fold: one seed would draw nearly the same calibration faces in all.
        first = split_seed + 1 + SPLITS
        tables = (hold_out(faces, fold == k, group_id, attributes, first + k, person_id) for k in range(FOLDS))
        return [Training(f"{name}-{k}", table, seed) for k, table in enumerate(tables)]

    shares = [1 / FOLDS] * FOLDS
    dealt = deal_sessions(faces, shares, attributes, split_seed) if has_sessions(faces) else None
    by_session = [] if dealt is None else holding_out("sessions", dealt)
    folds = holding_out("folds", fold_of_groups(person_id, stratum(faces, attributes).to_numpy(), FOLDS, split_seed))
    tables = [split_faces(faces, group_id, attributes, split_seed + 1 + k, person_id=person_id) for k in range(SPLITS)]
    repeats = [
        Training(f"repeats-{k}-{number}", table, seed + number)
        for number in range(SEEDS)
        for k, table in enumerate(tables)
    ]
    return [*by_session[:1], *folds, *repeats, *by_session[1:]]


def results_of(out: Path, name: str) -> tuple[Path, Path]:
    """The files of one training's predictions, and of its facts, which is there when it is finished."""
    folder = out / "trainings"
    return folder / f"{name}.parquet", folder / f"{name}.json"


def training_key(training: Training, settings: Settings, labels: pd.DataFrame) -> str:
    """A digest of what decides on a training's result: predictions of another one are not mixed with it."""
    facts = TRAINING_VERSION, settings.training.model_dump(), settings.data.image_px, training.seed
    digest = hashlib.sha256(repr(facts).encode())
    for table in (training.splits[["image_id", "split", "representative"]], labels):
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def train(
    run: RunFolder,
    training: Training,
    faces: pd.DataFrame,
    images: FaceImages,
    settings: Settings,
    out: Path,
    say=print,
) -> None:
    """Train one network, predict its test split, and keep predictions and facts in `results_of`.

    Does nothing where that is done. SystemExit where it was done with other settings, splits or labels.
    """
    path, facts_path = results_of(out, training.name)
    checkpoints = run.path / "crossfit" / training.name
    decided = decisions.read(run.require("tables/decisions.csv"), run.load_table("faces"), run.attributes)
    decided = decided[decided["image_id"].isin(faces["image_id"])]
    labels, used = decisions.training_labels(faces, training.splits, decided, run.attributes)
    key = training_key(training, settings, labels)
    if facts_path.exists():
        if read_json(facts_path)["key"] != key:
            raise SystemExit(
                f"{facts_path} is of other settings, splits or labels: remove {facts_path.parent}, or repeat them"
            )
        return
    rows = {
        name: np.flatnonzero((training.splits["split"] == name) & used)
        for name in ("train", "validation", "calibration")
    }
    rows["test"] = np.flatnonzero(training.splits["split"] == "test")  # all copies: their labels measure label noise
    own = settings.model_copy(update={"seed": training.seed})
    wall, processor = time.perf_counter(), time.process_time()
    both = rows["train"], rows["validation"]
    network, history = train_multitask(images, labels, *both, run.learned, own, checkpoints, faces["image_id"])
    calibrating = np.arange(len(rows["calibration"]))
    asked = np.concatenate([rows["calibration"], rows["test"]])
    outputs = predict_outputs(network, images.take(asked))
    temperatures = fit_temperatures(outputs, labels.iloc[asked], {"calibration": calibrating}, run.learned)
    table = predictions_table(outputs, run.learned, temperatures)
    if AGE in run.learned:
        known = labelled_rows(labels.iloc[asked], calibrating, AGE)
        given, ages = labels[AGE.name].to_numpy()[asked], table["age_pred"].to_numpy()
        low, high = fit_age_intervals(given[known], ages[known])(ages)
        table = table.assign(age_low=low, age_high=high)
    tested = table.iloc[len(calibrating) :].assign(image_id=faces["image_id"].to_numpy()[rows["test"]])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        tested.to_parquet(partial, index=False)
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    # Epochs that an earlier call trained count in the training's own time alone.
    seconds["training"] = load_result(checkpoints).seconds
    facts = {"key": key, "seconds": seconds, "epochs": len(history), "commit": git_commit(), "seed": training.seed}
    facts |= {"n": {name: len(part) for name, part in rows.items()}, "settings": own.flat()}
    write_json(facts_path, facts)
    shutil.rmtree(checkpoints)
    minutes = (
        f"{seconds['training'] / 60:.1f} min of training, {seconds['processor'] / 60:.1f} of processor in this call"
    )
    say(f"{training.name}: {len(rows['train']):,} faces, {len(history)} epochs, {minutes}")


def main() -> None:
    """Train what is not trained yet, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=CROSSFIT_RESULTS)
    options = parser.parse_args()
    run = open_run(options.run)
    given = dict(pair.split("=", 1) for pair in options.set)
    settings = resolve(run.settings.profile, run.settings.flat() | given)
    faces, splits, rows = outside_test(run)
    images = resize(load_images(run, run.load_table("faces")).take(rows), settings.data.image_px)
    trainings = [each for each in planned(run, faces, splits) if each.name.partition("-")[0] in options.only]
    if "sessions" in options.only and not has_sessions(faces):
        print("no session is held out: the data do not say which images were collected together")
    for training in trainings:
        lock = run.path / "crossfit" / f".{training.name}.lock"
        try:
            with held(lock, RunConflict(f"{training.name} is being trained by another process")):
                train(run, training, faces, images, settings, options.out)
        except RunConflict as conflict:
            print(conflict)
    done = [each for each in trainings if results_of(options.out, each.name)[1].exists()]
    print(f"{len(done)} of {len(trainings)} trainings finished; then python -m studies.crossfit_page {run.name}")


if __name__ == "__main__":
    main()
