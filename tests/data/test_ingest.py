"""A run's faces: read once, its attributes noted, an attribute that the data lack refused, one drawn on request."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from facelib.data import ingest as module
from facelib.data.ingest import decode_images, ingest, load_images, read_labelled, settle_learned, synthetic_folder
from facelib.data.splits import split_faces
from facelib.errors import UnknownSetting, UnreadableData
from facelib.runs import DataSet, RunFolder, start_run
from facelib.schema import SPLITS, UTKFACE_ATTRIBUTES


def names(attributes) -> list[str]:
    return [attribute.name for attribute in attributes]


@pytest.fixture
def table(tmp_path):
    """Writes a table of 240 pictures with some columns of labels; returns its path."""

    def write(**labels):
        rows = [f"photos/{k}.png" for k in range(240)]
        (tmp_path / "photos").mkdir()
        for k, path in enumerate(rows):
            Image.new("RGB", (8, 8), (k, 90, 40)).save(tmp_path / path)
        pd.DataFrame({"path": rows, **labels}).to_csv(tmp_path / "faces.csv", index=False)
        return tmp_path / "faces.csv"

    return write


def test_faces_are_read_once_and_then_loaded(empty_runs, table, monkeypatch):
    path, reads = table(age=30, gender=["male", "female"] * 120), []
    read = module.read_faces
    monkeypatch.setattr(module, "read_faces", lambda *given: reads.append(given) or read(*given))
    source = read_labelled([DataSet(str(path))])
    run = start_run("real", "smoke", str(path))
    images, faces, rejected = ingest(run, source)
    again = RunFolder(run.path)
    assert names(again.attributes) == names(again.learned) == ["age", "gender"]
    loaded = ingest(again)
    assert len(reads) == 1
    pd.testing.assert_frame_equal(loaded[1], faces)
    assert len(loaded[2]) == len(rejected) == 0 and (loaded[0][[0, 239]] == images[[0, 239]]).all()


def test_some_rows_are_decoded_anew_at_another_edge(empty_runs, table):
    run = start_run("real", "smoke", str(table(age=30)))
    _, faces, _ = ingest(run)
    images = decode_images(run, faces.iloc[[7, 3, 7]], 12)
    assert images.shape == (3, 12, 12, 3)
    shades = [
        Image.open(Path(run.params["data"]["path"]).parent / faces["path"][k]).getpixel((4, 4))[0] for k in (7, 3)
    ]
    assert images[:, 6, 6, 0].tolist() == [shades[0], shades[1], shades[0]]


def test_a_source_that_is_handed_over_is_sampled_like_one_that_is_read(empty_runs, table):
    path = table(age=30)
    runs = [start_run(name, "smoke", str(path), {"images": "210"}) for name in ("one", "two")]
    one, two = (
        ingest(run, source)[1] for run, source in zip(runs, (None, read_labelled([DataSet(str(path))])), strict=True)
    )
    assert len(one) == 210
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize(("labels", "named"), [({"age": 30}, "age gender"), ({"age": 30, "gender": ""}, "gender")])
def test_an_attribute_that_the_data_lack_is_refused_with_those_there_are(empty_runs, table, labels, named):
    run = start_run("real", "smoke", str(table(**labels)), {"attributes": named})
    with pytest.raises(UnknownSetting, match=r"no face has a label of gender: attributes can be age$"):
        ingest(run)


def test_labels_of_different_faces_are_refused_unless_fewer_are_learned(empty_runs, table):
    path = str(table(age=[30, ""] * 120, gender=["", "female"] * 120))
    with pytest.raises(UnknownSetting, match=r"labels of age and gender all at once.*-p attributes age"):
        ingest(start_run("both", "smoke", path))
    run = start_run("one", "smoke", path, {"attributes": "gender"})
    ingest(run)
    assert names(run.attributes) == ["age", "gender"] and names(run.learned) == ["gender"]


def test_what_a_split_has_no_label_of_is_not_learned(empty_runs):
    run = start_run("drawn", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    splits = pd.DataFrame({"split": list(SPLITS) * 2, "representative": [True] * 4 + [False] * 4})
    faces = pd.DataFrame({"age": 30.0, "gender": 0, "ethnicity": [1, 1, 1, -1, 2, 2, 2, 2]})
    assert names(settle_learned(run, faces, splits)) == ["age", "gender"]  # the test label is a copy's
    assert names(RunFolder(run.path).learned) == ["age", "gender"]
    full = faces.assign(ethnicity=1)
    assert names(settle_learned(run, full, splits)) == ["age", "gender", "ethnicity"]  # another split, another answer
    with pytest.raises(UnknownSetting, match="no attribute has a label in every split"):
        settle_learned(run, faces[["ethnicity"]].assign(age=float("nan"), gender=-1), splits)
    several = pd.concat([splits, splits])
    apart = pd.concat([full.assign(gender=-1), full.assign(age=float("nan"))])
    with pytest.raises(UnknownSetting, match="no face of the train split has labels of age and gender"):
        settle_learned(run, apart.assign(ethnicity=-1), several)


def test_data_that_changed_after_their_cache_was_removed_are_refused(empty_runs, table, tmp_path):
    run = start_run("real", "smoke", str(table(age=30)))
    faces = ingest(run)[1]
    (tmp_path / "cache" / run.params["data"]["fingerprint"] / "about.json").unlink()
    assert len(load_images(run, faces)) == 240  # decoded again
    (tmp_path / "cache" / run.params["data"]["fingerprint"]).rename(tmp_path / "gone")
    Image.new("RGB", (8, 8), (1, 1, 1)).save(tmp_path / "photos" / "7.png")
    with pytest.raises(UnreadableData, match="changed since it began"):
        load_images(run, faces)


@pytest.mark.slow
def test_a_fourth_attribute_is_drawn_where_the_settings_name_it(drawn_faces):
    plain = start_run("plain", "smoke", overrides=drawn_faces)
    run = start_run("four", "smoke", overrides=drawn_faces | {"attributes": "age gender ethnicity expression"})
    assert synthetic_folder(plain).name == "synthetic-200-seed0-v2"
    assert synthetic_folder(run).name == "synthetic-200-seed0-v2-expression"
    _, faces, _ = ingest(run)
    assert names(run.attributes) == names(run.learned) == ["age", "gender", "ethnicity", "expression"]
    truth = module.dataset.read_truth(synthetic_folder(run)).loc[faces["image_id"]]
    assert (faces["expression"].to_numpy() == truth["expression_given"].to_numpy()).all()
    assert (faces["expression"].to_numpy() != truth["expression"].to_numpy()).any()
    split = split_faces(faces, faces.index.to_numpy(), run.attributes, 0)
    assert "expression" in names(settle_learned(run, faces, split))


@pytest.mark.slow
def test_only_the_named_attributes_of_drawn_faces_are_learned(drawn_faces):
    run = start_run("two", "smoke", overrides=drawn_faces | {"attributes": "expression,age"})
    ingest(run)
    assert names(run.attributes) == ["age", "gender", "ethnicity", "expression"]
    assert names(run.learned) == ["age", "expression"]
    with pytest.raises(UnknownSetting, match="no face has a label of hair: attributes can be age, gender and eth"):
        ingest(start_run("hair", "smoke", overrides=drawn_faces | {"attributes": "hair"}))
