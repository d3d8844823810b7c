"""External photographs: each face is found and cropped as in training; without one the centre is, with a warning."""

import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage import data

from facelib.errors import DamagedRun
from facelib.formats import write_json
from facelib.models.network import predict_outputs
from facelib.prediction import photos as external
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import OodScore, unit_length
from facelib.prediction.photos import (
    NO_FACE,
    FaceCrop,
    FaceResult,
    PhotoResult,
    UnreadablePhoto,
    crop_faces,
    example_file,
    faces_table,
    list_photos,
    photo_results,
    predict_all,
    read_photo,
    rezoom,
    sensitive_caveat,
)
from facelib.prediction.predictor import Predictor
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.synthetic.drawing import draw_face

ONES = {"gender": 1.0, "ethnicity": 1.0}  # temperatures


@pytest.fixture(scope="module")
def astronaut() -> FaceCrop:
    return crop_faces(data.astronaut(), 64)[0]


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
    photo = data.astronaut()
    wider = np.pad(photo, ((0, 0), (200, 0), (0, 0)), mode="edge")
    moved = max(crop_faces(wider, 64), key=lambda crop: overlap(crop.box, (372, 78, 105)))
    assert moved.found and overlap(moved.box, (astronaut.box[0] + 200, *astronaut.box[1:])) > 0.5


def test_faces_come_largest_first(astronaut):
    photo = data.astronaut()
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


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (700, 5)])
def test_odd_shapes_are_no_obstacle(size):
    crops = crop_faces(np.full((*size, 3), 128, np.uint8), 32)
    assert crops[0].image.shape == (32, 32, 3) and not crops[0].found


def test_the_portrait_holds_one_face():
    assert [crop.found for crop in crop_faces(data.astronaut(), 32)] == [True]


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
    with pytest.raises(UnreadablePhoto, match=r"notes\.jpg is not an image: give a photograph"):
        read_photo(tmp_path / "notes.jpg")
    with pytest.raises(UnreadablePhoto, match=r"gone\.jpg does not exist"):
        read_photo(tmp_path / "gone.jpg")


def test_a_truncated_photograph_is_refused(tmp_path):
    Image.fromarray(data.astronaut()).save(tmp_path / "whole.jpg")
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
    # A named file is tried even with another ending.
    assert files == [tmp_path / name for name in ("c.txt", "a.JPG", "b.png", "deeper/still/d.webp", "gone.jpg")]
    assert len(refused) == 2 and "linked is a link to a folder, which is not followed" in refused[0]
    assert "empty holds no photograph: it takes .jpg" in refused[1]


# --- predicting -------------------------------------------------------------------------------------------


def results(files, predictor: Predictor, **options) -> list[PhotoResult]:
    return list(predictor.photos(files, **options))


def faces_of(path: Path, predictor: Predictor, **options) -> list[dict]:
    (photo,) = results([path], predictor, **options)
    return [face.to_dict() for face in photo.faces]


def test_each_face_of_a_photograph_is_predicted(tmp_path, tiny_predictor, astronaut, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path))
    path = example_file()
    assert (read_photo(path) == data.astronaut()).all() and example_file() == path
    face = faces_of(path, tiny_predictor)[0]
    assert face["photo"] == str(path) and face["face"] == 0 and face["face_found"]
    assert tuple(face["box"].values()) == astronaut.box and list(face["box"]) == ["left", "top", "edge"]
    row = tiny_predictor(crop_faces(data.astronaut(), 32)[0].image[None]).iloc[0]
    assert isinstance(face["age_years"], int) and face["age_years"] == pytest.approx(row["age_pred"], abs=0.5)
    assert face["age_low"] == pytest.approx(row["age_low"], abs=0.05)
    assert face["gender"] == pytest.approx({"male": row["p_gender_male"], "female": row["p_gender_female"]}, abs=1e-4)
    assert face["ood_percentile"] == row["ood_percentile"]
    assert json.loads(json.dumps(face)) == face


@pytest.mark.slow
def test_sensitive_attributes_are_reported_only_where_asked_for(tmp_path, tiny_predictor, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path))
    (photo,) = results([example_file()], tiny_predictor)
    assert "ethnicity" not in str(photo.faces[0]) and "ethnicity" not in photo.faces[0].to_dict()
    (photo,) = results([example_file()], tiny_predictor, sensitive=True)
    probabilities = photo.faces[0].to_dict()["ethnicity"]
    assert list(probabilities) == list(ETHNICITY.classes) and sum(probabilities.values()) == pytest.approx(1, abs=1e-3)
    assert f", ethnicity {max(probabilities, key=probabilities.get)} (p = " in str(photo.faces[0])


def test_every_face_of_a_photograph_turned_by_its_exif_is_predicted(tmp_path, tiny_predictor):
    two = Image.fromarray(np.concatenate([data.astronaut()] * 2, axis=1))
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by a quarter, anticlockwise
    two.save(tmp_path / "upright.png")
    two.rotate(-90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright, turned = (faces_of(tmp_path / name, tiny_predictor) for name in ("upright.png", "turned.png"))
    assert len(upright) == 2 and [face["face"] for face in upright] == [0, 1]
    assert [face | {"photo": ""} for face in turned] == [face | {"photo": ""} for face in upright]


@pytest.fixture(scope="module")
def small_photos(tmp_path_factory) -> list[Path]:
    """200 small pictures of six kinds, and a text file among them."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    kinds = [draw_face(10 * k + 5, k % 2, k % 5, rng, 48) for k in range(6)]
    for k in range(200):
        Image.fromarray(np.roll(kinds[k % 6], k // 6, axis=1)).save(folder / f"{k:03}.png")
    (folder / "100.png").write_text("not an image")
    return sorted(folder.iterdir())


@pytest.mark.slow
def test_many_photographs_are_predicted_in_batches_and_each_as_if_alone(small_photos, tiny_predictor, monkeypatch):
    batches = []

    def counted(network, images):
        batches.append(len(images))
        return predict_outputs(network, images)

    monkeypatch.setattr("facelib.prediction.predictor.predict_outputs", counted)
    photos = results(small_photos, tiny_predictor)
    assert [photo.path for photo in photos] == small_photos
    assert len(batches) == 7 and sum(batches) == sum(len(photo.faces) for photo in photos)
    assert batches[0] == sum(len(photo.faces) for photo in photos[: external.BATCH_PHOTOS])
    assert [photo.path.name for photo in photos if photo.reason] == ["100.png"]
    assert photos[100].faces == [] and "100.png is not an image" in photos[100].reason
    for k in (0, 31, 32, 101, 199):
        for alone, many in zip(faces_of(small_photos[k], tiny_predictor), photos[k].faces, strict=True):
            many = many.to_dict()
            assert (alone["box"], alone["photo"]) == (many["box"], many["photo"])
            for name, rounding in {"age_years": 1, "age_low": 0.11, "age_high": 0.11, "gender": 2e-4}.items():
                assert alone[name] == pytest.approx(many[name], abs=rounding)
            assert alone["ood_percentile"] == many["ood_percentile"]


def test_photographs_are_read_as_they_are_consumed_and_answered_a_batch_later(
    small_photos, tiny_predictor, monkeypatch
):
    """So that neither all pictures nor all crops are in memory, and a progress bar shows the progress."""
    taken, read, ahead = [], [], []

    def counted(path):
        ahead.append(len(taken) - len(read))
        read.append(path)
        return read_photo(path)

    monkeypatch.setattr(external, "read_photo", counted)
    photos = tiny_predictor.photos(taken.append(file) or file for file in small_photos)
    next(photos)
    assert len(taken) == external.BATCH_PHOTOS
    assert max(ahead) <= 3 * min(joblib.cpu_count(), external.MOST_READERS)


def test_other_pictures_are_flagged_and_a_missing_face_is_reported(tmp_path, tiny_network):
    """The reference is the picture itself: it is near, and one whose features point elsewhere is not."""
    known = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    features = predict_outputs(tiny_network, known)["features"]
    score = OodScore(unit_length(np.repeat(features, 12, axis=0)), np.linspace(0.001, 0.01, 50))
    predictor = Predictor(tiny_network, None, "direct", ONES, AgeIntervals((), (5.0,)), score, 32, True)
    Image.fromarray(known[0]).save(tmp_path / "known.png")
    Image.new("RGB", (32, 32), "orange").save(tmp_path / "other.png")
    near, far = (faces_of(tmp_path / name, predictor)[0] for name in ("known.png", "other.png"))
    assert (near["ood_percentile"], near["out_of_distribution"], near["warnings"]) == (0, False, [NO_FACE])
    assert (far["ood_percentile"], far["out_of_distribution"]) == (100, True)
    assert far["warnings"] == [
        NO_FACE,
        "out of distribution: farther from the training faces than 100 % of held-out faces",
    ]


# --- results ----------------------------------------------------------------------------------------------

EXPRESSION = ClassAttribute("expression", classes=("calm", "glad", "sad"))
ROW = {
    "age_pred": 30.6, "age_spread": 4.0, "age_low": 21.26, "age_high": 41.0, "p_gender_male": 0.75,
    "p_gender_female": 0.25, "p_expression_calm": 0.2, "p_expression_glad": 0.7, "p_expression_sad": 0.1,
    "ood_percentile": 50.0, "out_of_distribution": False,
}  # fmt: skip


def face(attributes=(AGE, GENDER, EXPRESSION), found: bool = True, **values) -> FaceResult:
    crop = FaceCrop(np.zeros((4, 4, 3), np.uint8), (1, 2, 3), found)
    return FaceResult("a.jpg", 0, crop, pd.Series(ROW | values), attributes)


def test_a_face_as_a_line():
    assert str(face()) == (
        "a.jpg: face at left 1, top 2, edge 3 px: 31 years (21-41), gender male (p = 0.75), expression glad (p = 0.70)"
    )
    assert str(face(found=False)).startswith(
        "a.jpg: NO FACE FOUND, the centre at left 1, top 2, edge 3 px would be: 31"
    )
    flagged = str(face(ood_percentile=99.4, out_of_distribution=True))
    assert flagged.endswith("; OUT OF DISTRIBUTION: farther from the training faces than 99.4 % of held-out faces")


def test_a_face_as_a_dictionary():
    assert face().to_dict() == {
        "photo": "a.jpg",
        "face": 0,
        "face_found": True,
        "box": {"left": 1, "top": 2, "edge": 3},
        "age_years": 31,
        "age_low": 21.3,
        "age_high": 41.0,
        "gender": {"male": 0.75, "female": 0.25},
        "expression": {"calm": 0.2, "glad": 0.7, "sad": 0.1},
        "ood_percentile": 50.0,
        "out_of_distribution": False,
        "warnings": [],
    }


def test_no_attribute_can_overwrite_the_facts_about_a_face():
    for name in face(attributes=()).to_dict():
        with pytest.raises(ValueError, match=f"cannot be called {name}"):
            ClassAttribute(name, classes=("no", "yes"))


@pytest.mark.parametrize("attribute", [AGE, GENDER, EXPRESSION])
def test_what_is_not_predicted_is_left_out(attribute):
    partly = face(**dict.fromkeys(attribute.columns, np.nan))
    lost = {"age": {"age_years", "age_low", "age_high"}}.get(attribute.name, {attribute.name})
    assert set(face().to_dict()) - set(partly.to_dict()) == lost
    phrases = {"age": "31 years", "gender": "gender male", "expression": "expression glad"}
    assert [name for name, phrase in phrases.items() if phrase not in str(partly)] == [attribute.name]
    assert "nan" not in str(partly)
    assert str(face(attributes=())).endswith("px: no prediction")


def test_the_table_has_a_column_for_each_part():
    table = faces_table([face((GENDER,), found=False).to_dict()])
    assert table.to_dict("records") == [
        {"photo": "a.jpg", "face": 0, "face_found": False, "ood_percentile": 50.0, "out_of_distribution": False,
         "warnings": NO_FACE, "box_left": 1, "box_top": 2, "box_edge": 3, "gender_male": 0.75, "gender_female": 0.25}
    ]  # fmt: skip


def test_photographs_are_counted():
    photos = [
        PhotoResult(Path("a"), [face(), face(out_of_distribution=True)]),
        PhotoResult(Path("b"), [face(found=False)]),
    ]
    headline, findings = photo_results(photos)
    assert {key: estimate.value for key, estimate in headline.items()} == {
        "external.photos": 2,
        "external.not_found": 1,
        "external.out_of_distribution": 1,
    }
    assert [(finding.key, finding.n) for finding in findings] == [("photos.faces", 2), ("photos.ood", 3)]
    assert "1 of 2 photographs; in 1 the centre" in findings[0].text and "1 of 3 crops" in findings[1].text


@pytest.mark.slow
def test_all_readable_photographs_are_predicted_and_the_others_named(tmp_path, tiny_predictor, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path))
    photos, refused = predict_all(tiny_predictor)
    assert [photo.path for photo in photos] == [example_file()] and refused == []
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.jpg").write_text("not an image")
    named = f"{tmp_path / 'empty'}:{tmp_path / 'notes.jpg'}:{example_file()}"
    photos, refused = predict_all(tiny_predictor, named, sensitive=True)
    assert len(photos) == 1 and "ethnicity" in photos[0].faces[0].to_dict()
    assert "empty holds no photograph" in refused[0] and "notes.jpg is not an image" in refused[1]
    monkeypatch.chdir(tmp_path)
    photos, refused = predict_all(tiny_predictor, f"{example_file()}:")  # nothing between separators is no folder
    assert len(photos) == 1 and refused == []
    with pytest.raises(UnreadablePhoto, match=r"empty holds.*; .*notes\.jpg is not an image"):
        predict_all(tiny_predictor, named.rpartition(":")[0])


# --- the caveat of sensitive attributes -------------------------------------------------------------------


def test_the_caveat_is_what_the_run_measured(tmp_path):
    def group(name: str, n: int, value: float | None) -> dict:
        ends = {"ethnicity_accuracy_low": 0.2, "ethnicity_accuracy_high": 0.4}
        return {"ethnicity_name": name, "n": n, "ethnicity_accuracy": value} | ends

    caveat = sensitive_caveat(tmp_path, UTKFACE_ATTRIBUTES)
    assert caveat.key == "photos.sensitive" and caveat.estimate is None and "ethnicity" in caveat.text
    assert sensitive_caveat(tmp_path, (AGE, GENDER)).text == "No sensitive attribute is predicted."
    accuracy = {"value": 0.855, "low": 0.84, "high": 0.87, "n": 2316, "unit": "share"}
    measured = {"headline": {"test.ethnicity.accuracy": accuracy, "test.gender.accuracy": accuracy}}
    write_json(tmp_path / "metrics" / "05_evaluate.json", measured)
    caveat = sensitive_caveat(tmp_path, UTKFACE_ATTRIBUTES)
    assert caveat.estimate.n == 2316 and "85.5 % of 2,316 test faces" in caveat.text and "Gender" not in caveat.text
    rows = [group("White", 900, 0.91), group("Other", 120, 0.31), group("Asian", 2, None)]
    write_json(tmp_path / "metrics" / "06_groups.json", {"details": {"groups": {"ethnicity_name": rows}}})
    caveat = sensitive_caveat(tmp_path, UTKFACE_ATTRIBUTES)
    assert "for 31.0 % (20.0 to 40.0) of the 120 labelled Other" in caveat.text


def test_the_caveat_covers_every_sensitive_attribute(tmp_path):
    caveat = sensitive_caveat(tmp_path, (ETHNICITY, ClassAttribute("religion", True, ("a", "b"))))
    assert "ethnicity" in caveat.text and "religion" in caveat.text


@pytest.mark.parametrize("content", [{}, {"headline": {"test.ethnicity.accuracy": {}}}, {"headline": 3}])
def test_damaged_measurements_are_refused(content, tmp_path):
    write_json(tmp_path / "metrics" / "05_evaluate.json", content)
    with pytest.raises(DamagedRun, match="is not what facelib writes"):
        sensitive_caveat(tmp_path, UTKFACE_ATTRIBUTES)
