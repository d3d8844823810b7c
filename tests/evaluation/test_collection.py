"""The baseline by time: neighbours' labels by hand, no test label used, absent where no times are known."""

import numpy as np
import pandas as pd
import pytest

from facelib.evaluation.collection import time_baseline, time_finding, time_predictions
from facelib.schema import AGE, GENDER, UTKFACE_ATTRIBUTES
from facelib.statistics import Bootstrap


def make(n: int = 300) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Faces a second apart whose labels change every 50; every fifth is tested."""
    batch = np.arange(n) // 50
    times = pd.Timestamp("2017-01-16") + pd.to_timedelta(np.arange(n), unit="s")
    faces = pd.DataFrame({"image_id": [f"{k}.jpg" for k in range(n)], "age": 10.0 * batch, "gender": batch % 2})
    faces = faces.assign(ethnicity=batch % 5, collected=times.strftime("%Y-%m-%dT%H:%M:%S.000").to_numpy())
    split = np.where(np.arange(n) % 5 == 0, "test", "train")
    splits = pd.DataFrame({"image_id": faces["image_id"], "split": split, "group_id": range(n), "representative": True})
    return faces, splits


def test_neighbours_in_time_give_their_median_age_and_shares_of_classes():
    faces, splits = make()
    table = time_predictions(faces, splits, UTKFACE_ATTRIBUTES).set_index("image_id")
    inside = table.loc["120.jpg"]  # batch 2: all neighbours share its labels
    assert inside[["age_pred", "p_gender_male", "p_ethnicity_asian"]].tolist() == [20.0, 1.0, 1.0]
    edge = table.loc["100.jpg"]  # the first of its batch: 6 nearest after it, or 5, of 11
    assert edge["p_ethnicity_black"] + edge["p_ethnicity_asian"] == pytest.approx(1)
    assert 0.4 < edge["p_ethnicity_asian"] < 0.6


def test_it_beats_a_constant_where_labels_come_in_batches_and_never_reads_a_test_label():
    faces, splits = make()
    measured = time_baseline(faces, splits, UTKFACE_ATTRIBUTES, Bootstrap(50))
    assert measured["by_time.age.mae"].value < 1 and measured["by_time.gender.accuracy"].value > 0.9
    assert {"by_time.age.r2", "by_time.gender.auc", "by_time.ethnicity.macro_f1"} <= set(measured)
    assert not any("interval" in key or "stages" in key for key in measured)
    spoilt = faces.assign(age=faces["age"].where(splits["split"] == "train", 99.0))
    same = time_predictions(spoilt, splits, [AGE]).equals(time_predictions(faces, splits, [AGE]))
    assert same
    assert "nearest in collection time" in time_finding(measured, UTKFACE_ATTRIBUTES).text


def test_without_times_there_is_no_such_baseline():
    faces, splits = make()
    assert time_baseline(faces.drop(columns="collected"), splits, UTKFACE_ATTRIBUTES, Bootstrap(10)) == {}
    assert "no baseline by time" in time_finding({}, [GENDER]).text
    some = faces.assign(collected=faces["collected"].where(splits["split"] == "test", ""))
    assert time_baseline(some, splits, [AGE], Bootstrap(10)) == {}  # no training face has a time
    few = faces.assign(collected=faces["collected"].where(faces.index < 100, ""))
    assert time_baseline(few, splits, [AGE], Bootstrap(10))["by_time.age.mae"].n == 20
