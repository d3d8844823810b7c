"""What repeated trainings show: variance components, sessions resampled whole, children by single years, the page."""

import numpy as np
import pandas as pd
import pytest

from facelib.data.splits import split_faces
from facelib.formats import write_json
from facelib.runs import start_run
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap
from studies import crossfit, crossfit_page


def test_components_of_variance_are_recovered_from_many_splits_and_seeds():
    rng = np.random.default_rng(0)
    splits, seeds, sd = 400, 3, {"training": 0.5, "split": 1.0, "faces": 2.0}
    level = rng.normal(0, sd["split"], splits) + rng.normal(0, sd["faces"], splits)
    values = level[:, None] + rng.normal(0, sd["training"], (splits, seeds))
    found = crossfit_page.components(values, np.full(splits, sd["faces"]))
    assert {name: found[name] for name in sd} == pytest.approx(sd, rel=0.3)
    assert found["one training"] == pytest.approx(np.sqrt(5.25), rel=0.1)
    alike = crossfit_page.components(np.array([[1.0, 1.2], [1.1, 1.3], [1.05, 1.25]]), np.full(3, 1.0))
    assert alike["split"] == 0  # the test faces explain more than all of it


def test_differences_by_session_are_paired_and_resampled_by_session():
    rng = np.random.default_rng(0)
    index, session = [f"{k}" for k in range(400)], np.repeat(np.arange(8), 50)
    usual = pd.DataFrame({"age_mae": rng.uniform(0, 10, 400)}, index=index)
    effect = np.repeat(rng.normal(1, 1, 8), 50)  # one number a session: 8 independent differences, not 400
    held = usual + effect[:, None]
    names = pd.Series(session.astype(str), index=index)
    shuffled = usual.sample(frac=1, random_state=0).drop(index="399")  # another copy represents its group there
    found = crossfit_page.session_differences(shuffled, held, names, {"age_mae": "years"}, Bootstrap())["age_mae"]
    assert found["difference"].value == pytest.approx(effect[:-1].mean()) and found["difference"].n == 399
    by_face = Bootstrap()(np.mean, effect)
    width, narrow = (e.high - e.low for e in (found["difference"], by_face))
    assert width > 4 * narrow
    assert found["held out"].value - found["usual"].value == pytest.approx(effect[:-1].mean())


def test_children_are_counted_by_single_years_and_class():
    columns = {"age": [0.0, 0, 0, 1, 17, 18], "gender": [0.0, 0, 1, 1, 1, 0], "gender_pred": [0.0, 1, 1, 0, 1, 1]}
    table = crossfit_page.by_single_year(pd.DataFrame(columns), GENDER)
    assert table[["age", "class", "value", "n"]].to_numpy().tolist() == [
        [0, "male", 0.5, 2], [0, "female", 0.0, 1], [1, "female", 1.0, 1], [17, "female", 0.0, 1]
    ]  # fmt: skip


def test_ages_at_which_a_class_is_wrong_more_often_are_named():
    rows = [(1, "male", 0.2, 0.1, 0.3), (1, "female", 0.6, 0.5, 0.7), (2, "male", 0.3, 0.2, 0.4),
            (2, "female", 0.2, 0.1, 0.3), (3, "male", 0.9, 0.8, 1.0), (3, "female", 0.2, 0.1, 0.3)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["age", "class", "value", "low", "high"])
    assert crossfit_page.children_finding(table) == (
        "Errors are more frequent for faces labelled female at 1; for faces labelled male at 3 years."
    )
    assert "At no age" in crossfit_page.children_finding(table[table["age"] == 2])


@pytest.fixture
def finished(empty_runs, tmp_path):
    """A run of 600 faces whose trainings are all finished: predictions that are worse in held-out sessions."""
    run = start_run("done", "smoke")
    rng, n = np.random.default_rng(0), 600
    faces = pd.DataFrame({"image_id": [f"{k}.png" for k in range(n)], "age": rng.integers(0, 90, n).astype(float)})
    faces = faces.assign(gender=rng.integers(0, 2, n), ethnicity=rng.integers(0, 5, n), width=9, height=9)
    faces["session"] = [f"s{k % 30}" for k in range(n)]
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    run.save_table(faces, "faces")
    run.save_table(split_faces(faces, np.arange(n), UTKFACE_ATTRIBUTES, 0), "splits")
    outside, splits, _ = crossfit.outside_test(run)
    for training in crossfit.planned(run, outside, splits):
        tested = ((training.splits["split"] == "test") & training.splits["representative"]).to_numpy()
        own = outside[tested].reset_index(drop=True)
        off = 8 if training.name.startswith("sessions") else 4
        table = pd.DataFrame({"image_id": own["image_id"], "age_pred": own["age"] + off + rng.normal(0, 1, len(own))})
        table = table.assign(age_spread=1.0, age_low=table["age_pred"] - 9, age_high=table["age_pred"] + 9)
        for attribute in (GENDER, ETHNICITY):
            code = np.where(rng.random(len(own)) < 0.1, 0, own[attribute.name])
            table[list(attribute.columns)] = np.eye(len(attribute.classes))[code]
        predicted, stored = crossfit.results_of(tmp_path, training.name)
        predicted.parent.mkdir(exist_ok=True)
        table.to_parquet(predicted, index=False)
        facts = {"n": {"train": 400}, "seconds": {"training": 60.0}, "settings": run.settings.flat() | {"epochs": 3}}
        facts["commit"] = "c0ffee"
        write_json(stored, facts)
    return run


def test_the_page_shows_what_is_finished_and_says_what_is_not(finished, tmp_path):
    text, stored = crossfit_page.page(finished, tmp_path)
    assert stored["sessions"]["age_mae"]["difference"].value == pytest.approx(4, abs=0.5)
    assert stored["headline"]["crossfit.age.mae"].value == pytest.approx(4, abs=0.5)
    assert stored["headline"]["crossfit.age.mae"].n == (finished.load_table("splits")["split"] != "test").sum()
    assert stored["label_disagreement"].empty and "not measured" in text  # no face has a copy
    assert "--set epochs=3" in text and "at commit c0ffee" in text and "Not finished" not in text
    assert (tmp_path / "children_gender.svg").exists()
    assert 0 < stored["repeats"]["age_mae"]["training"] < stored["repeats"]["age_mae"]["one training"]
    said = crossfit_page.front(finished, stored)
    assert "+4.0" in said and "standard deviations" in said and "bias" not in said
    assert crossfit_page.front(finished, {}) == ""
    for name in ("sessions-2", "repeats-0-1"):
        crossfit.results_of(tmp_path, name)[1].unlink()
    text, stored = crossfit_page.page(finished, tmp_path)
    assert "4 of 5 folds of sessions are finished" in text and "repeats" not in stored
    assert "Not finished: sessions (1), repeats (1)" in text
    assert crossfit_page.front(finished, stored) == ""
    predicted = crossfit.results_of(tmp_path, "folds-0")[0]
    pd.read_parquet(predicted).iloc[1:].to_parquet(predicted)
    with pytest.raises(SystemExit, match="of other faces than run done"):
        crossfit_page.page(finished, tmp_path)


def test_a_run_of_one_attribute_without_sessions_has_a_page(finished, tmp_path):
    finished.save_table(finished.load_table("faces").drop(columns="session"), "faces")
    finished.set_attributes([AGE], [AGE])
    for path in (tmp_path / "trainings").glob("sessions*"):
        path.unlink()
    faces, splits, _ = crossfit.outside_test(finished)
    for training in crossfit.planned(finished, faces, splits):  # the strata are others, and so are the splits
        tested = ((training.splits["split"] == "test") & training.splits["representative"]).to_numpy()
        own = faces[tested].reset_index(drop=True)
        columns = {"age_pred": own["age"], "age_spread": 1.0, "age_low": own["age"] - 1, "age_high": own["age"] + 1}
        own[["image_id"]].assign(**columns).to_parquet(crossfit.results_of(tmp_path, training.name)[0])
    text, stored = crossfit_page.page(finished, tmp_path)
    assert "no session is held out" in text and "claims" not in stored
    assert stored["headline"]["crossfit.age.mae"].value == 0
