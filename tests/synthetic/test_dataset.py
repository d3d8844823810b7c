"""The synthetic data set: bytes that repeat, planted copies and wrong labels where truth.csv says."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facelib.schema import ETHNICITY, GENDER, MAX_AGE
from facelib.synthetic import dataset as synthetic
from facelib.synthetic.dataset import write_synthetic_faces

PX = 64
TRUTH_DIGEST = "684ccec35e661ef41e17a4b96b8105e2816e204d460f20c5bc833226ab9a6169"  # of 300 files, seed 5, version 2


def read_truth(folder: Path) -> pd.DataFrame:
    truth = pd.read_csv(folder / "truth.csv", keep_default_na=False)
    given = truth["image_id"].str.extract(r"^(\d+)_([01])_([0-4])_(\d{17})\.jpg\.chip\.jpg$")
    assert given.notna().all(axis=None), "a name that UTKFace's readers cannot parse"
    names = ["given_age", "given_gender", "given_ethnicity"]
    return truth.assign(stamp=given[3], **given[[0, 1, 2]].astype(int).set_axis(names, axis="columns"))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def load(folder: Path, image_id: str) -> np.ndarray:
    with Image.open(folder / "faces" / image_id) as picture:
        return np.asarray(picture.convert("RGB"), float)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    assert write_synthetic_faces(folder, 300, seed=5, px=PX, n_jobs=1) == folder / "faces"
    return folder


@pytest.fixture(scope="module")
def truth(folder) -> pd.DataFrame:
    return read_truth(folder)


# --- bytes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bytes_repeat_for_any_number_of_processes(tmp_path):
    write_synthetic_faces(tmp_path / "one", 110, seed=3, px=32, n_jobs=1)
    write_synthetic_faces(tmp_path / "two", 110, seed=3, px=32, n_jobs=2)
    write_synthetic_faces(tmp_path / "other", 110, seed=4, px=32, n_jobs=1)
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert not set(one.values()) & set(other.values())


def test_the_same_labels_give_another_face_with_another_seed(tmp_path):
    drawn = synthetic.drawn_attributes(())
    file = synthetic._plan(1, 0, drawn)
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        synthetic._write_person(tmp_path / str(seed), file, synthetic._looks(file[0], drawn, 0), seed=seed, px=32)
    assert len(set(digests(tmp_path).values())) == 2


@pytest.mark.slow
def test_a_complete_folder_is_left_as_it_is(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_synthetic_faces(folder, 300, seed=5, px=PX) == folder / "faces"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_interrupted_folder_is_completed_and_a_foreign_one_refused(tmp_path):
    write_synthetic_faces(tmp_path, 20, seed=1, px=32)
    whole = digests(tmp_path)
    (tmp_path / "truth.csv").unlink()
    next((tmp_path / "faces").iterdir()).unlink()
    with pytest.raises(FileExistsError, match="foreign"):
        write_synthetic_faces(tmp_path, 20, seed=2, px=32)
    write_synthetic_faces(tmp_path, 20, seed=1, px=32)
    assert digests(tmp_path) == whole


@pytest.mark.parametrize("n", [0, 1, 7])
def test_tiny_sets_can_be_written(tmp_path, n):
    assert len(list(write_synthetic_faces(tmp_path, n, seed=0, px=32).iterdir())) == n


@pytest.mark.slow
def test_importing_loads_no_network_library():
    code = "import sys, facelib.synthetic.dataset; print({'torch', 'cv2', 'matplotlib'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert result.stdout.strip() == "set()"


# --- planted copies and wrong labels ----------------------------------------------------------------------


def test_truth_has_one_row_per_file(folder, truth):
    labels = ["age", "gender", "ethnicity"]
    assert list(truth.columns[:8]) == ["image_id", "person", *labels, "copy_of", "copy_kind", "mislabelled"]
    assert sorted(truth["image_id"]) == sorted(path.name for path in (folder / "faces").iterdir())
    assert truth["stamp"].is_unique
    assert set(truth["gender"]) <= set(range(len(GENDER.classes)))
    assert set(truth["ethnicity"]) <= set(range(len(ETHNICITY.classes)))
    assert truth["age"].between(1, MAX_AGE).all()


def test_shares_are_those_of_the_constants():
    plan = pd.DataFrame([file.row() for file in synthetic._plan(6000, 2, synthetic.drawn_attributes(()))])
    originals = plan[plan["copy_of"] == ""]
    assert (plan["copy_kind"] == "exact").mean() == pytest.approx(synthetic.EXACT_COPY_SHARE, abs=0.001)
    near = plan.loc[plan["copy_kind"].isin(synthetic.NEAR_COPY_KINDS), "copy_kind"].value_counts()
    assert near.sum() / len(plan) == pytest.approx(synthetic.NEAR_COPY_SHARE, abs=0.001)
    assert len(near) == len(synthetic.NEAR_COPY_KINDS) and near.max() - near.min() <= 1
    assert (plan["mislabelled"] != "").mean() == pytest.approx(synthetic.MISLABELLED_SHARE, abs=0.001)
    assert (originals["gender"] == 0).mean() == pytest.approx(synthetic.MALE_SHARE, abs=0.03)
    copies = plan[plan["copy_of"] != ""]
    assert (copies["mislabelled"] != "").mean() == pytest.approx(0.15, abs=0.005)
    groups = originals["ethnicity"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(groups, synthetic.GROUP_SHARES, atol=0.03)
    counts = originals["age"].value_counts()
    assert counts.idxmax() == 26
    assert counts[1] > 2 * counts[8]
    assert originals["age"].max() > 90


def test_names_say_the_truth_except_where_mislabelled(truth):
    wrong_anywhere = False
    for attribute in ("age", "gender", "ethnicity"):
        wrong = truth["mislabelled"].str.split(",").map(lambda names, attribute=attribute: attribute in names)
        assert ((truth[f"given_{attribute}"] != truth[attribute]) == wrong).all()
        wrong_anywhere |= bool(wrong.any())
    assert wrong_anywhere
    off_years = (truth["given_age"] - truth["age"]).abs()
    assert off_years[off_years > 0].min() >= synthetic.MIN_AGE_SHIFT_YEARS
    assert truth["given_age"].between(1, MAX_AGE).all()


def test_some_copies_contradict_their_original(truth):
    originals = truth.set_index("image_id")
    copies = truth[truth["copy_of"] != ""]
    of = originals.loc[copies["copy_of"]].reset_index()
    same = ["person", "age", "gender", "ethnicity"]
    assert (copies[same].to_numpy() == of[same].to_numpy()).all()
    assert (of["copy_of"] == "").all()
    given = ["given_age", "given_gender", "given_ethnicity"]
    contradicts = (copies[given].to_numpy() != of[given].to_numpy()).any(axis=1)
    assert 0 < contradicts.sum() < len(copies) / 2


def test_exact_copies_and_only_they_are_byte_identical(folder, truth):
    digest = digests(folder / "faces")
    twins = dict(zip(truth["image_id"], truth["copy_of"].where(truth["copy_kind"] == "exact", ""), strict=True))
    assert sum(map(bool, twins.values())) == 9
    assert all(digest[name] == digest[original] for name, original in twins.items() if original)
    assert len(set(digest.values())) == len(digest) - 9


def test_near_copies_resemble_their_original_and_other_people_do_not(folder, truth):
    def fingerprint(image_id, kind=""):
        grey = load(folder, image_id).mean(axis=2)
        grey = grey[:, ::-1] if kind == "mirrored" else grey
        return grey.reshape(16, PX // 16, 16, PX // 16).mean(axis=(1, 3)).ravel()

    near = truth[truth["copy_kind"].isin(synthetic.NEAR_COPY_KINDS)]
    assert set(near["copy_kind"]) == set(synthetic.NEAR_COPY_KINDS)
    other_people = truth.loc[truth["copy_of"] == "", "image_id"].head(40)
    for row in near.itertuples():
        copy = fingerprint(row.image_id, row.copy_kind)
        own = np.corrcoef(copy, fingerprint(row.copy_of))[0, 1]
        others = [np.corrcoef(copy, fingerprint(name))[0, 1] for name in other_people if name != row.copy_of]
        assert own > 0.9, row.copy_kind
        assert own > max(others), row.copy_kind


# --- an attribute on request ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extra(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("extra")
    write_synthetic_faces(folder, 400, seed=5, px=PX, n_jobs=1, attributes=["age", "expression"])
    return folder


def test_names_and_pictures_of_the_ordinary_set_do_not_depend_on_the_table_of_further_attributes(folder):
    truth = synthetic.read_truth(folder)
    assert "expression" not in truth and len(list((folder / "faces").iterdir())) == 300
    digest = hashlib.sha256((folder / "truth.csv").read_bytes()).hexdigest()
    assert digest == TRUTH_DIGEST  # a set of another version gets another DRAWING_VERSION


@pytest.mark.slow
def test_an_extra_attribute_has_true_and_given_labels_and_planted_errors(extra):
    truth = read_truth(extra)
    wrong = truth["mislabelled"].str.split(",").map(lambda names: "expression" in names)
    assert 0 < wrong.sum() < 20 and ((truth["expression"] != truth["expression_given"]) == wrong).all()
    assert set(truth["expression"]) == set(truth["expression_given"]) == {0, 1}
    of = truth.set_index("image_id").loc[truth["copy_of"][truth["copy_of"] != ""], "expression"]
    assert (truth["expression"][truth["copy_of"] != ""].to_numpy() == of.to_numpy()).all()


def test_an_extra_attribute_is_visible(extra):
    truth = read_truth(extra)
    adults = truth[(truth["copy_of"] == "") & truth["age"].between(18, 60)]
    mouths = {name: load(extra, name)[34:46, 18:46].mean(axis=2) for name in adults["image_id"]}
    smiling, neutral = (
        np.mean([mouths[name] for name in adults.loc[adults["expression"] == code, "image_id"]], axis=0)
        for code in (1, 0)
    )
    corners, middle = (smiling - neutral)[:, [0, 1, 2, -3, -2, -1]], (smiling - neutral)[:, 10:18]
    assert np.abs(corners).max() > 4 or np.abs(middle).max() > 4  # grey levels; the averages of the two differ
