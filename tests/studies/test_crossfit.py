"""Repeated trainings: what each holds out, that none sees the run's test split, and that finished ones stay."""

import numpy as np
import pandas as pd
import pytest

from facelib.audit import decisions
from facelib.config import resolve
from facelib.data.ingest import ingest, load_images
from facelib.data.splits import split_faces
from facelib.formats import read_json
from facelib.runs import RunFolder, start_run
from studies import crossfit


@pytest.fixture
def run(drawn_faces) -> RunFolder:
    """A small run after notebook 02, every two rows of which are one person."""
    small = {"image_px": 32, "epochs": 1, "batch_size": 32, "warmup_epochs": 0}
    run = start_run("small", "smoke", overrides=drawn_faces | small)
    _, faces, _ = ingest(run)
    person_id = np.arange(len(faces)) // 2
    splits = split_faces(faces, np.arange(len(faces)), run.attributes, 0, person_id=person_id)
    run.save_table(splits, "splits")
    decisions.write(pd.DataFrame(columns=decisions.COLUMNS, dtype=object), run.table_path("decisions.csv"))
    return run


def test_every_face_outside_the_test_split_is_predicted_once_by_a_network_that_saw_no_face_of_its_person(run):
    faces, splits, rows = crossfit.outside_test(run)
    assert len(faces) == (run.load_table("splits")["split"] != "test").sum() == len(rows)
    trainings = {each.name: each for each in crossfit.planned(run, faces, splits)}
    assert len(trainings) == 2 * crossfit.FOLDS + crossfit.SPLITS * crossfit.SEEDS
    for way in ("folds", "sessions"):
        scored = np.zeros(len(faces), int)
        for number in range(crossfit.FOLDS):
            table = trainings[f"{way}-{number}"].splits
            scored += ((table["split"] == "test") & table["representative"]).to_numpy()
            assert table["split"].groupby(table["person_id"]).nunique().max() == 1
        assert (scored == 1).all()
    drawn = [(trainings[f"folds-{k}"].splits["split"] == "calibration").to_numpy() for k in range(crossfit.FOLDS)]
    assert (drawn[0] & drawn[1]).sum() < 0.5 * min(drawn[0].sum(), drawn[1].sum())  # each fold draws its own
    for number in range(crossfit.FOLDS):
        table = trainings[f"sessions-{number}"].splits
        scored = ((table["split"] == "test") & table["representative"]).to_numpy()
        assert not faces["session"][scored].isin(faces["session"][table["split"] == "train"]).any()
    first, second = (trainings[f"repeats-{k}-0"].splits["split"] for k in (0, 1))
    assert (first != second).any() and first.equals(trainings["repeats-0-1"].splits["split"])
    assert trainings["repeats-0-0"].seed != trainings["repeats-0-1"].seed


def test_without_sessions_the_other_trainings_remain(run):
    faces, splits, _ = crossfit.outside_test(run)
    names = [each.name for each in crossfit.planned(run, faces.drop(columns="session"), splits)]
    assert len(names) == crossfit.FOLDS + crossfit.SPLITS * crossfit.SEEDS
    assert not any(name.startswith("sessions") for name in names)


@pytest.mark.slow
def test_a_finished_training_is_kept_and_one_of_other_settings_is_not_mixed_with_it(run, tmp_path):
    faces, splits, rows = crossfit.outside_test(run)
    images, said = load_images(run, run.load_table("faces")).take(rows), []
    training = crossfit.planned(run, faces, splits)[0]
    crossfit.train(run, training, faces, images, run.settings, tmp_path, said.append)
    predicted, stored = crossfit.results_of(tmp_path, training.name)
    table = pd.read_parquet(predicted)
    held = training.splits[training.splits["split"] == "test"]
    assert table["image_id"].tolist() == held["image_id"].tolist()
    assert (table["age_low"] <= table["age_pred"]).all() and table["p_gender_male"].between(0, 1).all()
    facts = read_json(stored)
    assert facts["epochs"] == 1 and facts["n"]["test"] == len(held) and facts["seconds"]["training"] > 0
    assert not (run.path / "crossfit" / training.name).exists()  # the checkpoints of a finished training
    crossfit.train(run, training, faces, images, run.settings, tmp_path, said.append)
    assert len(said) == 1
    other = resolve("smoke", run.settings.flat() | {"epochs": 2})
    with pytest.raises(SystemExit, match="other settings"):
        crossfit.train(run, training, faces, images, other, tmp_path, said.append)
