"""External validation: shifts computed by hand, planted copies found, missing labels and age bands reported."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import pairwise_distances

from facelib.audit.quality import score_quality
from facelib.data.dlib_files import WeightsError
from facelib.data.label_maps import Field, parse_map
from facelib.data.pixels import cache_faces, cache_key
from facelib.data.published import GREY
from facelib.data.readers import read_utkface
from facelib.data.splits import split_faces
from facelib.embedding import features
from facelib.embedding.features import embed_faces, load_embedding
from facelib.errors import MissingFromRun, UnreadableData
from facelib.evaluation import external_validation
from facelib.evaluation.external_validation import (
    FaceData,
    compare,
    embedding_shift,
    evaluate_table,
    find_copied,
    label_shift,
    quality_shift,
)
from facelib.evaluation.headline import headline_metrics
from facelib.finding import listed
from facelib.metrics import whole_years
from facelib.runs import DataSet, RunFolder, cache_root, start_run
from facelib.schema import AGE, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.statistics import Bootstrap

pytestmark = pytest.mark.slow

RESULTS = ("copies", "groups", "predictions", "rejected", "results", "shift", "unusable_labels")

# --- shifts -----------------------------------------------------------------------------------------------


def labels(ages, genders, ethnicities=None) -> pd.DataFrame:
    return pd.DataFrame({"age": ages, "gender": genders, "ethnicity": ethnicities or [-1] * len(ages)}, dtype=float)


def test_the_label_shift_is_that_of_known_labels_and_its_distance_the_total_variation():
    own = labels([3, 20, 20, 40], [0, 0, 0, 1])
    other = labels([20, 40, 40, 40, np.nan], [0, 1, 1, -1, -1], [0] * 5)
    shift = label_shift(own, other, UTKFACE_ATTRIBUTES).set_index(["topic", "measure"])
    # 1/4, 2/4, 1/4 against 0, 1/4, 3/4; 3/4 and 1/4 against 1/3 and 2/3.
    assert shift.loc[("labels: age", "share of 18-29")].tolist() == [0.5, 0.25, 0.5]
    assert shift.loc[("labels: age", "share of 0-4")].tolist() == [0.25, 0.0, 0.5]
    male = shift.loc[("labels: gender", "share of male")]
    assert male.tolist() == pytest.approx([3 / 4, 1 / 3, 5 / 12])
    assert "labels: ethnicity" not in shift.index.get_level_values(0)  # the run knows none
    banded = pd.DataFrame({"age": np.nan, "age_from": [3, 3, 70, np.nan], "age_to": [9, 9, 116, np.nan]})
    for pair in ((own, banded), (banded, own)):  # 3 and none of 20, 20 and 40 are in the bands
        shift = label_shift(*pair, [AGE]).set_index("measure")[["run", "table", "distance"]]
        assert sorted(shift.loc["share of 3-9"]) == pytest.approx(sorted([1.0, 2 / 3, 1 / 3]))


def test_the_quality_shift_is_the_largest_gap_of_the_cumulative_distributions():
    own = pd.DataFrame({"dark": [0.1, 0.2, 0.3, 0.4], "face": [1.0, 1.0, 1.0, 0.0], "framing": [0.5] * 4})
    other = pd.DataFrame({"dark": [0.3, 0.4, 0.5, 0.6], "face": [0.0, 1.0, 0.0, 1.0], "framing": [0.9] * 4})
    shift = quality_shift(own, other).set_index("measure")
    assert shift.loc["median score: dark", ["run", "table", "distance"]].tolist() == pytest.approx([0.25, 0.45, 0.5])
    assert shift.loc["share with a face found", ["run", "table", "distance"]].tolist() == [0.75, 0.5, 0.25]
    assert len(shift) == 2


def test_embeddings_of_one_kind_are_not_separated_and_moved_ones_are():
    rng = np.random.default_rng(0)
    own, same, moved = (rng.normal(mean, 1, (150, 6)) for mean in (0, 0, 3))
    alike, apart = (embedding_shift(own, other, Bootstrap(50)) for other in (same, moved))
    assert alike["auc"].low < 0.6 and alike["distance"].value == pytest.approx(1, abs=0.2)
    assert apart["auc"].value > 0.95 and apart["distance"].low > 2 and apart["distance"].n == 150


def test_the_embedding_distance_is_that_to_the_nearest_own_face_in_units_of_their_own():
    rng = np.random.default_rng(1)
    own, other = rng.normal(5, [1, 20, 3], (40, 3)), rng.normal(6, [2, 20, 3], (30, 3))
    scaled = [(part - own.mean(axis=0)) / own.std(axis=0) for part in (own, other)]
    within = pairwise_distances(scaled[0]) + np.diag(np.full(40, np.inf))
    expected = pairwise_distances(scaled[1], scaled[0]).min(axis=1).mean() / within.min(axis=1).mean()
    assert embedding_shift(own, other, Bootstrap(20))["distance"].value == pytest.approx(expected)


def test_faces_are_told_apart_on_held_out_faces_of_a_sample(monkeypatch):
    rng = np.random.default_rng(2)
    own, same = rng.normal(size=(120, 100)), rng.normal(size=(90, 100))  # so wide that any labels could be learned
    found = embedding_shift(own, same, Bootstrap(50))
    assert abs(found["auc"].value - 0.5) < 0.15 and found["auc"].n == 210
    monkeypatch.setattr(external_validation, "MOST", 40)
    assert [one.n for one in embedding_shift(own, same, Bootstrap(20)).values()] == [80, 40]


def test_a_handful_of_embeddings_is_not_measured():
    assert embedding_shift(np.zeros((50, 4)), np.zeros((9, 4)), Bootstrap(20)) == {}


# --- age bands --------------------------------------------------------------------------------------------


def test_predictions_are_judged_by_the_band_where_the_age_is_not_known():
    frame = pd.DataFrame(
        {
            "age": [np.nan, np.nan, np.nan, np.nan, 25.0, np.nan],
            "age_from": [20, 20, 20, 70, 20, np.nan],
            "age_to": [29, 29, 29, 116, 29, np.nan],
            # Inside; 30: 1 year over; 33: 4 years over; 9 years under; known; nothing known.
            "age_pred": [29.4, 30.4, 32.6, 61.0, 90.0, 90.0],
            "group_id": range(6),
        }
    )
    frame = frame.assign(age_from_next=frame["age_from"], age_to_next=frame["age_to"])
    bands, frame["age_pred"] = (replace(AGE, bands=((20, 29), (70, 116))),), whole_years(frame["age_pred"])
    found = headline_metrics(frame, bands, "transfer", Bootstrap(20))
    assert found["transfer.age.band_accuracy"].value == pytest.approx(1 / 4)
    assert found["transfer.age.band_mae_least"].value == pytest.approx(14 / 4)
    assert found["transfer.age.band_mae_least"].n == 4
    twice = headline_metrics(pd.concat([frame, frame]), bands, "transfer", Bootstrap(20))  # copies are drawn together
    assert [(one.low, one.high) for one in twice.values()] == [(one.low, one.high) for one in found.values()]
    assert headline_metrics(frame.drop(columns=["age_from", "age_to"]), bands, "transfer", Bootstrap(20)) == {}
    exact = headline_metrics(frame.assign(age_unrounded=frame["age_pred"]), (AGE,), "transfer", Bootstrap(20))
    assert exact["transfer.age.mae"].value == 65 and exact["transfer.age.mae"].n == 1  # of the known age alone
    assert exact["transfer.age.band_accuracy"].n == 4


def face_data(faces, images, rows, quality=None) -> FaceData:
    """Some of the small faces, with features of noise."""
    features = np.random.default_rng(len(rows)).normal(size=(len(rows), 4))
    return FaceData(faces.iloc[rows].reset_index(drop=True), images.take(np.array(rows)), quality, features)


# --- copies -----------------------------------------------------------------------------------------------


def test_planted_copies_are_found_exact_and_near(small_faces, small_truth):
    images, faces = small_faces
    near = small_truth[small_truth["copy_kind"] == "reencoded"].iloc[0]
    singles = np.flatnonzero(~small_truth["person"].duplicated(keep=False))
    row = {name: number for number, name in enumerate(faces["image_id"])}
    own, other = [*singles[:20], row[near["copy_of"]]], [*singles[20:30], singles[0], row[near["image_id"]]]
    group_id, copied = find_copied(face_data(faces, images, own), face_data(faces, images, other))
    assert len(group_id) == 12 and len(set(group_id)) == 12
    assert copied["image_id"].tolist() == [faces["image_id"][singles[0]], near["image_id"]]
    assert copied["copy_in_run"].tolist() == [faces["image_id"][singles[0]], near["copy_of"]]
    assert copied["kind"].tolist() == ["exact", "near"]


# --- the whole --------------------------------------------------------------------------------------------


def test_predictions_are_compared_without_a_network(small_faces, small_truth):
    images, faces = small_faces
    singles = np.flatnonzero(~small_truth["person"].duplicated(keep=False))
    quality = pd.DataFrame({"dark": np.linspace(0, 1, 12)})
    own, other = face_data(faces, images, singles[:12], quality), face_data(faces, images, singles[11:26], quality / 2)
    age = other.faces["age"]
    predictions = pd.DataFrame({"age_pred": age + 2.4, "age_low": age - 1, "age_high": age + 1, "age_spread": 1.0})
    predictions["out_of_distribution"] = age > age.median()
    results, tables = compare(own, other, predictions, (AGE,), Bootstrap(20), min_group=3)
    assert results["transfer.age.mae"].value == 2 and results["transfer.age.mae"].n == 15
    assert results["transfer_unseen.age.mae"].n == 14 and tables["copies"]["kind"].tolist() == ["exact"]
    assert results["transfer.age.interval_coverage"].value == 1 and "shift.embedding.auc" in results
    assert results["shift.out_of_distribution"].value == (age > age.median()).mean()
    assert set(tables) == {"shift", "groups", "copies", "predictions"}
    assert set(tables["groups"]["grouping"]) == {"age_band"} and tables["groups"]["n"].sum() == 15
    assert (tables["predictions"]["age_pred"] == age + 2).all() and tables["predictions"]["representative"].all()
    expected = [label_shift(own.faces, other.faces, (AGE,)), quality_shift(own.quality, other.quality)]
    pd.testing.assert_frame_equal(tables["shift"], pd.concat(expected))


def test_of_copies_within_the_other_data_one_counts(small_faces, small_truth):
    images, faces = small_faces
    singles = np.flatnonzero(~small_truth["person"].duplicated(keep=False))
    rows, quality = [*singles[12:26], singles[11], singles[11], singles[20], singles[20]], pd.DataFrame()
    own, other = face_data(faces, images, singles[:12], quality), face_data(faces, images, rows, quality)
    other = replace(other, faces=other.faces.assign(image_id=[f"{number}.jpg" for number in range(len(rows))]))
    ages = other.faces["age"]
    predictions = pd.DataFrame({"age_pred": ages + 1, "age_low": ages - 1, "age_high": ages + 1, "age_spread": 1.0})
    predictions["out_of_distribution"] = False
    results, tables = compare(own, other, predictions, (AGE,), Bootstrap(20), min_group=3)
    kept = tables["predictions"]["representative"].to_numpy()
    assert kept.sum() == 15 and tables["copies"]["image_id"].tolist() == ["14.jpg", "15.jpg"]
    assert results["transfer.age.mae"].n == 15 and results["transfer_unseen.age.mae"].n == 14
    expected = embedding_shift(own.features, other.features[kept], Bootstrap(20))
    assert results["shift.embedding.distance"] == expected["distance"] and expected["distance"].n == 15


def _from_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = pixels.reshape(len(pixels), -1)
    return flat[:, ::260][:, :256].astype(np.float16), flat[:, :128].astype(np.float32)


@pytest.fixture
def run(empty_runs, tiny_network, ood_score, faces_folder, monkeypatch) -> RunFolder:
    """A run on the 96 small faces, with an untrained predictor and all that is asked of it.

    Pixels stand in for the features of the face network, which would take seconds.
    """
    from facelib.models.network import save_network
    from facelib.prediction.calibration import AgeIntervals
    from facelib.prediction.ood import save_ood
    from facelib.prediction.predictor import save_predictor

    folder = start_run("tiny", "smoke", str(faces_folder))
    source = read_utkface(faces_folder)
    images, faces, _ = cache_faces(source, 48, cache_root())
    folder.update_params(data={"fingerprint": cache_key(source.faces, 48)})
    folder.set_attributes(source.attributes, source.attributes)
    folder.save_table(faces, "faces")
    group_id = faces.groupby("sha256").ngroup().to_numpy()
    folder.save_table(split_faces(faces, group_id, source.attributes, 0), "splits")
    folder.save_table(score_quality(faces, images, find_faces=False, n_jobs=1), "quality")
    monkeypatch.setattr(features, "_embed_pixels", _from_pixels)
    embed_faces(faces, lambda: source, cache_root())
    checkpoints = folder.path / "checkpoints"
    checkpoints.mkdir()
    save_network(tiny_network, checkpoints / "model.safetensors", image_px=48)
    temperatures = {"gender": 1.0, "ethnicity": 1.0}
    save_predictor(checkpoints / "predictor.json", "direct", temperatures, AgeIntervals((), (5.0,)), synthetic=True)
    save_ood(ood_score, checkpoints / "ood.safetensors")
    return folder


@pytest.fixture(scope="module")
def other_faces(tmp_path_factory):
    """40 other synthetic faces, all with different pictures, in a folder of their own."""
    from facelib.synthetic.dataset import write_synthetic_faces

    return write_synthetic_faces(tmp_path_factory.mktemp("other"), 40, seed=5, px=48, n_jobs=1)


def evaluate(run, data, out, images="", labels="") -> tuple[str, dict]:
    printed = "\n".join(evaluate_table(run, DataSet(str(data), str(images), labels), out, search_faces=False))
    return printed, json.loads((out / "results.json").read_text())["results"]


def test_other_faces_are_evaluated_with_all_tables(run, other_faces, tmp_path):
    printed, results = evaluate(run, other_faces, tmp_path / "out")
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted(RESULTS)
    assert "faces: 40, rejected: 0" in printed and "0 of 40 (none)" in printed
    assert "transfer_unseen.age.mae" not in results
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    rows = predictions[predictions["representative"]]
    ages = rows["image_id"].str.split("_").str[0].astype(float)
    assert results["transfer.age.mae"]["value"] == pytest.approx((rows["age_pred"] - ages).abs().mean())
    assert results["transfer.age.mae"]["n"] == len(rows) == predictions["group_id"].nunique()
    groups = pd.read_csv(tmp_path / "out" / "groups.csv")
    assert set(groups["grouping"]) >= {"age_band", "gender_name", "gender_name x ethnicity_name"}
    assert groups.loc[groups["grouping"] == "gender_name", "n"].sum() == len(rows)
    assert set(pd.read_csv(tmp_path / "out" / "shift.csv")["topic"]) == {
        "labels: age", "labels: gender", "labels: ethnicity", "quality",
    }  # fmt: skip


def test_the_printed_shift_is_the_largest_of_each_topic(run, other_faces, tmp_path):
    printed, _ = evaluate(run, other_faces, tmp_path / "out")
    shift = pd.read_csv(tmp_path / "out" / "shift.csv")
    for topic, rows in shift.groupby("topic"):
        far = rows.loc[(rows["run"] - rows["table"]).abs().idxmax()]
        most = f"(most: {far['measure']} {far['run']:.2f} in the run, {far['table']:.2f} here)"
        assert f"shift of {topic}: {rows['distance'].max():.2f} of 1 {most}" in printed


def test_a_run_is_compared_by_faces_that_are_not_its_test_split_and_features_that_it_has_not_memorised(
    run, other_faces, tmp_path, monkeypatch
):
    taken = []
    monkeypatch.setattr(external_validation, "compare", lambda own, *others: taken.append(own) or compare(own, *others))
    evaluate(run, other_faces, tmp_path / "out")
    faces, splits = run.load_table("faces"), run.load_table("splits")
    used = (splits["split"] != "test").to_numpy()
    assert (
        taken[0].faces["image_id"].tolist() == faces["image_id"][used].tolist() and len(taken[0].images) == used.sum()
    )
    held = splits["split"].isin(["validation", "calibration"]) & splits["representative"]
    np.testing.assert_array_equal(taken[0].features, load_embedding(run, faces).features[held])


def test_without_the_face_network_the_rest_is_measured(run, other_faces, tmp_path, monkeypatch):
    def missing(*_):
        raise WeightsError("not installed")

    for name in ("facelib.evaluation.external_validation.embed_faces", "facelib.embedding.network._shared_network"):
        monkeypatch.setattr(name, missing)
    printed, results = evaluate(run, other_faces, tmp_path / "out")
    assert "not measured: shift.embedding and faces out of distribution, since not installed" in printed
    assert "transfer.age.mae" in results and not any(key.startswith("shift") for key in results)
    assert pd.read_csv(tmp_path / "out" / "predictions.csv")["ood_percentile"].isna().all()


def test_copies_of_what_the_run_learned_from_are_reported_and_left_out_of_a_second_number(run, other_faces, tmp_path):
    splits = run.load_table("splits").set_index("image_id")["split"]
    learned, tested = (splits.index[splits == name] for name in ("train", "test"))
    data = tmp_path / "data"
    shutil.copytree(other_faces, data)
    for name in (learned[0], tested[0]):  # an image that the run did not learn from is no leak
        shutil.copy(run.params["data"]["path"] + "/" + name, data / name.replace("_2017", "_2099"))
    printed, results = evaluate(run, data, tmp_path / "out")
    assert "the run's training images: 1 of 42 (1 exact)" in printed and "age.mae, without copies" in printed
    assert pd.read_csv(tmp_path / "out" / "copies.csv")["copy_in_run"].tolist() == [learned[0]]
    assert results["transfer_unseen.age.mae"]["n"] == results["transfer.age.mae"]["n"] - 1


@pytest.mark.parametrize("attribute", ["age", "gender", "ethnicity"])
def test_a_table_with_one_label_gives_its_numbers_alone(run, other_faces, tmp_path, attribute):
    faces = read_utkface(other_faces).faces
    faces[["path", attribute]].to_csv(tmp_path / "one.csv", index=False)
    codes = parse_map(GREY.labels).fields.get(attribute, Field("age"))
    labels = f"{attribute}: {{column: {attribute}, {', '.join(f'{k}: {v}' for k, v in codes.meanings.items())}}}"
    printed, results = evaluate(run, tmp_path / "one.csv", tmp_path / "out", other_faces, labels)
    others = [name for name in ("age", "gender", "ethnicity") if name != attribute]
    assert f"no face is labelled with it: {listed(others)}" in printed
    assert {key.split(".")[1] for key in results if key.startswith("transfer.")} == {attribute}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["about"]["labels"] == [attribute]
    groups = pd.read_csv(tmp_path / "out" / "groups.csv")
    assert (groups["n"] > 0).all() and set(groups["grouping"]) == {
        f"{attribute}_{'band' if attribute == 'age' else 'name'}"
    }
    assert ("age_mae" in groups) == (attribute == "age")


def test_age_bands_stand_in_for_ages(run, other_faces, tmp_path):
    faces = read_utkface(other_faces).faces
    decade = (faces["age"] // 10 * 10).astype(int)
    table = faces[["path"]].assign(
        gender=faces["gender"].map(GENDER.label_name), age=[f"{first}-{first + 9}" for first in decade]
    )
    table.to_csv(tmp_path / "bands.csv", index=False)
    printed, results = evaluate(run, tmp_path / "bands.csv", tmp_path / "out", images=other_faces)
    assert "no face is labelled with it: ethnicity" in printed and "measured by its bands: age" in printed
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("image_id")
    rows = predictions[predictions["representative"]]
    first = decade.set_axis(faces["image_id"])[rows.index]
    inside = np.floor(rows["age_pred"] + 0.5).between(first, first + 9)
    assert results["transfer.age.band_accuracy"]["value"] == pytest.approx(inside.mean())
    assert "transfer.age.mae" not in results and "transfer.gender.accuracy" in results


def test_a_column_of_classes_is_read_with_those_that_the_run_learned(run, tiny, other_faces, tmp_path):
    from facelib.models.network import FaceNet, save_network
    from facelib.prediction.calibration import AgeIntervals
    from facelib.prediction.predictor import save_predictor

    mood = ClassAttribute("mood", classes=("calm", "glad", "sad"))
    save_network(FaceNet((AGE, mood), tiny).eval(), run.path / "checkpoints" / "model.safetensors", image_px=48)
    facts = "direct", {"mood": 1.0}, AgeIntervals((), (5.0,))
    save_predictor(run.path / "checkpoints" / "predictor.json", *facts, synthetic=True)
    faces = read_utkface(other_faces).faces
    moods = ["glad"] * 20 + ["Sad"] * 18 + ["odd", ""]  # none is calm, and the run knows no odd face
    faces[["path"]].assign(mood=moods).to_csv(tmp_path / "moods.csv", index=False)
    printed, results = evaluate(run, tmp_path / "moods.csv", tmp_path / "out", images=other_faces)
    written = pd.read_csv(tmp_path / "out" / "predictions.csv")
    mood_of = pd.Series(moods, faces["image_id"])  # by name: a row without any label is left out
    counted = written["representative"] & written["image_id"].map(mood_of).isin(["glad", "Sad"])
    assert results["transfer.mood.accuracy"]["n"] == counted.sum() > 30 and "mood 'odd' is none of" in (
        tmp_path / "out" / "rejected.csv"
    ).read_text(encoding="utf-8")
    assert "measured" not in printed.replace("not measured, since no face is labelled with it: age", "")


def test_what_cannot_be_evaluated_is_refused(run, other_faces, tmp_path):
    names = [path.name for path in other_faces.iterdir()]
    pd.DataFrame({"path": names, "gender": ""}).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(UnreadableData, match=r"none\.csv has no label of age, gender, ethnicity"):
        evaluate(run, tmp_path / "none.csv", tmp_path / "out", images=other_faces)
    with pytest.raises(MissingFromRun, match="holds no trained predictor"):
        evaluate(start_run("begun", "smoke"), other_faces, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UnreadableData, match=r"--out .* is a file"):
        evaluate(run, other_faces, tmp_path / "file")


def test_only_what_the_run_learned_is_measured(run, tiny, other_faces, tmp_path):
    from facelib.models.network import FaceNet, save_network

    gender = ClassAttribute("gender", classes=("man", "woman", "unclear"))  # of other classes than the faces'
    save_network(FaceNet((AGE, gender), tiny).eval(), run.path / "checkpoints" / "model.safetensors", image_px=48)
    run.notebook("05_evaluate").save({"test.age.mae": Bootstrap(5)(np.mean, [4.0, 4.0], unit="years")})
    printed, results = evaluate(run, other_faces, tmp_path / "out")
    assert "did not learn it: gender and ethnicity" in printed and "no face is labelled with it: gender" in printed
    assert {key.split(".")[1] for key in results if key.startswith("transfer.")} == {"age"}
    line = next(line for line in printed.splitlines() if line.startswith("age.mae "))
    assert line.endswith(" 4 y")  # the run's own
