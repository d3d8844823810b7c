"""External photographs: the face is found and cropped as in training, or the centre is, and it is said."""

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facelib.cli import describe_face
from facelib.errors import DamagedRun
from facelib.models.network import predict_outputs
from facelib.prediction import photos as external
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import Familiarity, unit_length
from facelib.prediction.photos import (
    FaceCrop,
    PhotoAnswer,
    UnreadablePhoto,
    crop_faces,
    example_file,
    example_photo,
    faces_table,
    list_photos,
    predict_photos,
    read_photo,
    rezoom,
    worth_of_ethnicity,
)
from facelib.prediction.predictor import Predictor, Temperatures
from facelib.runs import write_json
from facelib.schema import ATTRIBUTES, ETHNICITIES, P_ETHNICITY, without_unlearned
from facelib.synthetic.drawing import draw_face


@pytest.fixture(scope="module")
def astronaut() -> FaceCrop:
    return crop_faces(example_photo(), 64)[0]


@pytest.fixture
def predictor(tiny_network, familiarity) -> Predictor:
    return Predictor(tiny_network, None, "direct", Temperatures(), AgeIntervals((), (5.0,)), familiarity, 32, True)


def overlap(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """Intersection over union of two squares (left, top, edge)."""
    sides = [max(0, min(first[k] + first[2], second[k] + second[2]) - max(first[k], second[k])) for k in (0, 1)]
    shared = sides[0] * sides[1]
    return shared / (first[2] ** 2 + second[2] ** 2 - shared)


# --- finding ----------------------------------------------------------------------------------------------


def test_the_astronauts_face_is_found(astronaut):
    assert astronaut.found and astronaut.image.shape == (64, 64, 3) and astronaut.image.dtype == np.uint8
    # Her eyes are at about (204, 108) and (245, 107): 41 px apart, so an aligned crop is about 105 px wide.
    assert overlap(astronaut.box, (172, 78, 105)) > 0.5


def test_the_box_moves_with_the_photograph(astronaut):
    photo = example_photo()
    wider = np.pad(photo, ((0, 0), (200, 0), (0, 0)), mode="edge")
    moved = max(crop_faces(wider, 64), key=lambda crop: overlap(crop.box, (372, 78, 105)))
    assert moved.found and overlap(moved.box, (astronaut.box[0] + 200, *astronaut.box[1:])) > 0.5


def test_faces_come_largest_first(astronaut):
    photo = example_photo()
    larger = np.asarray(Image.fromarray(photo).resize((768, 768)))[:512]
    crops = crop_faces(np.concatenate([photo, larger], axis=1), 32)
    left, top, edge = astronaut.box
    assert overlap(crops[0].box, (512 + left * 3 // 2, top * 3 // 2, edge * 3 // 2)) > 0.5
    assert overlap(crops[1].box, astronaut.box) > 0.5


@pytest.mark.parametrize(
    ("height", "width", "box"), [(200, 300, (50, 0, 200)), (300, 200, (0, 50, 200)), (90, 90, (0, 0, 90))]
)
def test_a_photograph_without_a_face_gives_its_centre(height, width, box):
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    crops = crop_faces(photo, 32)
    assert len(crops) == 1 and not crops[0].found and crops[0].box == box
    left, _, edge = box
    assert crops[0].image[..., 0].mean() == pytest.approx(photo[:, left : left + edge, 0].mean(), abs=1)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (700, 5)])
def test_odd_shapes_are_no_obstacle(size):
    crops = crop_faces(np.full((*size, 3), 128, np.uint8), 32)
    assert crops[0].image.shape == (32, 32, 3) and not crops[0].found


def test_the_portrait_holds_one_face():
    assert [crop.found for crop in crop_faces(example_photo(), 32)] == [True]


# --- cropping ---------------------------------------------------------------------------------------------


def test_zooming_keeps_the_centre():
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[95:106, 115:126] = 255  # centred on row 100.5, column 120.5
    crop = FaceCrop(np.zeros((40, 40, 3), np.uint8), (100, 80, 40), True)
    for zoom in (1.0, 0.5, 2.0):
        image = rezoom(photo, crop, zoom, 40).mean(axis=2)
        centre = (image * np.arange(40)[:, None]).sum() / image.sum(), (image * np.arange(40)).sum() / image.sum()
        assert centre == pytest.approx((20, 20), abs=1)
        assert (image > 127).mean() == pytest.approx((11 / (40 * zoom)) ** 2, rel=0.15)


def test_a_crop_beyond_the_border_is_black_there():
    crop = FaceCrop(np.zeros((40, 40, 3), np.uint8), (-50, 0, 100), True)
    image = rezoom(np.full((100, 100, 3), 200, np.uint8), crop, 1.0, 40)
    assert image[:, :16].max() < 3 and image[:, 24:].min() > 197  # the filter rings a little at the border


# --- reading ----------------------------------------------------------------------------------------------


def test_a_photograph_is_turned_upright(tmp_path):
    picture = Image.fromarray(np.dstack([np.arange(60, dtype=np.uint8).reshape(6, 10)] * 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    assert (read_photo(tmp_path / "turned.png") == np.rot90(np.asarray(picture), -1)).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_photographs_of_every_mode_become_rgb(mode, tmp_path):
    Image.new("RGB", (8, 6), "red").convert(mode).save(tmp_path / "photo.png")
    assert read_photo(tmp_path / "photo.png").shape == (6, 8, 3)


def test_unreadable_photographs_say_why(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    with pytest.raises(UnreadablePhoto, match=r"notes\.jpg is no image: give a photograph"):
        read_photo(tmp_path / "notes.jpg")
    with pytest.raises(UnreadablePhoto, match=r"gone\.jpg does not exist"):
        read_photo(tmp_path / "gone.jpg")


def test_a_truncated_photograph_is_refused(tmp_path):
    Image.fromarray(example_photo()).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:9000])
    with pytest.raises(UnreadablePhoto, match="half"):
        read_photo(tmp_path / "half.jpg")


def test_the_photographs_of_a_folder_are_all_below_it_by_name(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "deeper" / "still").mkdir(parents=True)
    (tmp_path / "deeper" / "still" / "d.webp").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "deeper")
    files, refused = list_photos([tmp_path / "c.txt", tmp_path, tmp_path / "gone.jpg", tmp_path / "empty"])
    # A file that is named is tried whatever it is called.
    assert files == [tmp_path / name for name in ("c.txt", "a.JPG", "b.png", "deeper/still/d.webp", "gone.jpg")]
    assert len(refused) == 2 and "linked is a link to a folder, which is not followed" in refused[0]
    assert "empty holds no photograph: it takes .jpg" in refused[1]


# --- predicting -------------------------------------------------------------------------------------------


def answers(files, predictor, **options) -> list[PhotoAnswer]:
    return list(predict_photos(files, predictor, **options))


def faces_of(path: Path, predictor, **options) -> list[dict]:
    (answer,) = answers([path], predictor, **options)
    return answer.faces


def test_each_face_of_a_photograph_is_predicted(tmp_path, predictor, astronaut, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path))
    path = example_file()
    assert (read_photo(path) == example_photo()).all() and example_file() == path
    face = faces_of(path, predictor)[0]
    assert face["photo"] == str(path) and face["face"] == 0 and face["face_found"]
    assert tuple(face["box"].values()) == astronaut.box and list(face["box"]) == ["left", "top", "edge"]
    images = crop_faces(example_photo(), 32)[0].image[None]
    row = predictor(images).iloc[0]
    assert isinstance(face["age_years"], int) and face["age_years"] == pytest.approx(row["age_pred"], abs=0.5)
    assert face["age_low"] <= face["age_years"] <= face["age_high"]
    features = predict_outputs(predictor.network, images)["features"]
    assert face["distance_percentile"] == predictor.familiarity(features)["distance_percentile"][0]
    assert "ethnicity" not in face  # only where asked for
    asked = faces_of(path, predictor, ethnicity=True)[0]
    assert list(asked["ethnicity"]) == list(ETHNICITIES)
    assert sum(asked["ethnicity"].values()) == pytest.approx(1, abs=1e-3)


def test_every_face_of_a_photograph_turned_by_its_exif_is_predicted(tmp_path, predictor):
    two = Image.fromarray(np.concatenate([example_photo()] * 2, axis=1))
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by a quarter, anticlockwise
    two.save(tmp_path / "upright.png")
    two.rotate(-90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright, turned = (faces_of(tmp_path / name, predictor) for name in ("upright.png", "turned.png"))
    assert len(upright) == 2 and [face["face"] for face in upright] == [0, 1]
    drop = {"photo"}
    assert [{k: v for k, v in face.items() if k not in drop} for face in turned] == [
        {k: v for k, v in face.items() if k not in drop} for face in upright
    ]


@pytest.fixture(scope="module")
def small_photos(tmp_path_factory) -> list[Path]:
    """200 small pictures of seven kinds, one of which is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    kinds = [draw_face(10 * k + 5, k % 2, k % 5, rng, 48) for k in range(6)]
    for k in range(200):
        Image.fromarray(np.roll(kinds[k % 6], k // 6, axis=1)).save(folder / f"{k:03}.png")
    (folder / "100.png").write_text("no picture")
    return sorted(folder.iterdir())


def test_many_photographs_are_predicted_in_batches_and_each_as_if_alone(small_photos, predictor, monkeypatch):
    batches = []

    def counted(network, images):
        batches.append(len(images))
        return predict_outputs(network, images)

    monkeypatch.setattr(external, "predict_outputs", counted)
    given = answers(small_photos, predictor)
    assert [answer.path for answer in given] == small_photos
    assert len(batches) == 7 and sum(batches) == sum(len(answer.faces) for answer in given)
    assert batches[0] == sum(len(answer.faces) for answer in given[: external.BATCH_PHOTOS])
    assert [answer.path.name for answer in given if answer.reason] == ["100.png"]
    assert given[100].faces == [] and "100.png is no image" in given[100].reason
    for k in (0, 31, 32, 101, 199):
        alone = faces_of(small_photos[k], predictor)
        for one, many in zip(alone, given[k].faces, strict=True):
            assert one["box"] == many["box"] and one["photo"] == many["photo"]
            for name, rounding in {"age_years": 1, "age_low": 0.11, "age_high": 0.11, "p_female": 2e-4}.items():
                assert one[name] == pytest.approx(many[name], abs=rounding)
            assert one["distance_percentile"] == many["distance_percentile"]


def test_photographs_are_read_as_they_are_taken_and_answered_a_batch_later(small_photos, predictor, monkeypatch):
    """So that neither all pictures nor all crops are in memory, and a progress bar says how far it got."""
    taken, read, ahead = [], [], []

    def counted(path):
        ahead.append(len(taken) - len(read))
        read.append(path)
        return read_photo(path)

    monkeypatch.setattr(external, "read_photo", counted)
    several = predict_photos((taken.append(file) or file for file in small_photos), predictor)
    next(several)
    assert len(taken) == external.BATCH_PHOTOS
    assert max(ahead) <= 3 * min(joblib.cpu_count(), external.MOST_READERS)


def test_a_stranger_is_flagged_and_a_missing_face_is_said(tmp_path, tiny_network):
    """The reference is the picture itself: it is near, and one whose features point elsewhere is not."""
    known = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    features = predict_outputs(tiny_network, known)["features"]
    familiarity = Familiarity(unit_length(np.repeat(features, 12, axis=0)), np.linspace(0.001, 0.01, 50))
    predictor = Predictor(tiny_network, None, "direct", Temperatures(), AgeIntervals((), (5.0,)), familiarity, 32, True)
    Image.fromarray(known[0]).save(tmp_path / "known.png")
    Image.new("RGB", (32, 32), "orange").save(tmp_path / "stranger.png")
    near, far = (faces_of(tmp_path / name, predictor)[0] for name in ("known.png", "stranger.png"))
    assert (near["distance_percentile"], near["unlike_training"], near["warnings"]) == (0, False, [external.NO_FACE])
    assert (far["distance_percentile"], far["unlike_training"]) == (100, True)
    assert far["warnings"][1] == "unlike the training faces: farther from them than 100 % of held-out faces"


def test_nothing_is_said_of_what_was_not_learned():
    crop = FaceCrop(np.zeros((4, 4, 3), np.uint8), (1, 2, 3), True)
    said = {"age_pred": 30.6, "age_low": 21.26, "age_high": 41.0, "p_female": 0.25, **dict.fromkeys(P_ETHNICITY, 0.2)}
    row = pd.DataFrame([said | {"distance_percentile": 50.0, "unlike_training": False}])
    everything = external.describe_faces([crop], row, ethnicity=True)[0]
    assert (everything["age_years"], everything["age_low"], everything["p_female"]) == (31, 21.3, 0.25)
    assert "ethnicity" in everything and "ethnicity" not in external.describe_faces([crop], row, ethnicity=False)[0]
    for attribute, lost in {
        "age": {"age_years", "age_low", "age_high"}, "gender": {"p_female"}, "ethnicity": {"ethnicity"}
    }.items():  # fmt: skip
        partly = without_unlearned(row, set(ATTRIBUTES) - {attribute})
        face = external.describe_faces([crop], partly, ethnicity=True)[0]
        assert set(everything) - set(face) == lost
        text = describe_face(face | {"photo": "a.jpg"})
        for name, phrase in {"age": "31 years", "gender": "male (p = 0.75)", "ethnicity": "ethnicity label"}.items():
            assert (phrase in text) == (name != attribute)
        assert "nan" not in text
    nothing = without_unlearned(row, ["ethnicity"])
    silent = external.describe_faces([crop], nothing, ethnicity=False)[0]
    assert describe_face(silent | {"photo": "a.jpg"}).endswith("px: nothing is said without --ethnicity")


def test_the_table_has_a_column_for_each_part():
    face = {"photo": "a", "box": {"left": 1, "top": 2, "edge": 3}, "warnings": ["b", "c"], "ethnicity": {"White": 0.5}}
    assert faces_table([face]).to_dict("records") == [
        {"photo": "a", "warnings": "b; c", "left": 1, "top": 2, "edge": 3, "ethnicity_White": 0.5}
    ]


# --- what a guess is worth --------------------------------------------------------------------------------


def test_what_a_guess_of_the_ethnicity_label_is_worth_is_what_the_run_measured(tmp_path):
    def group(name: str, n: int, value: float | None) -> dict:
        return {
            "ethnicity_name": name, "n": n, "ethnicity_accuracy": value, "ethnicity_accuracy_low": 0.2,
            "ethnicity_accuracy_high": 0.4,
        }  # fmt: skip

    rows = [group("White", 900, 0.91), group("Other", 120, 0.31), group("Asian", 2, None)]
    content = {
        "headline": {"test.ethnicity.accuracy": {"value": 0.855, "n": 2316}},
        "details": {"groups": {"ethnicity_name": rows}},
    }
    assert "is not measured for these weights yet" in worth_of_ethnicity(tmp_path)
    assert worth_of_ethnicity(tmp_path, ["age", "gender"]) == "These weights did not learn the ethnicity label."
    write_json(tmp_path / "metrics" / "05_evaluate_bias.json", content)
    said = worth_of_ethnicity(tmp_path)
    assert "right for 86% of the run's 2,316 test faces, and for 31% (20% to 40%) of the 120 labelled Other" in said
    write_json(tmp_path / "metrics" / "05_evaluate_bias.json", {"headline": {}})
    with pytest.raises(DamagedRun, match=r"05_evaluate_bias\.json is not what facelib writes"):
        worth_of_ethnicity(tmp_path)
