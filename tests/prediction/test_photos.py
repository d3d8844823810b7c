"""External photographs: each face is found and aligned as in training; without one there are no numbers."""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage import data

from facelib.data import detection
from facelib.data.alignment import Frame
from facelib.data.pixels import FaceImages
from facelib.embedding.features import embed
from facelib.errors import DamagedRun
from facelib.formats import write_json
from facelib.models.network import predict_outputs
from facelib.prediction import photos as external
from facelib.prediction.answers import NO_FACE, FaceCrop, FaceResult, NoFace, PhotoResult, faces_table, photo_results
from facelib.prediction.calibration import AgeIntervals
from facelib.prediction.ood import OodScore
from facelib.prediction.photos import (
    UnreadablePhoto,
    crop_faces,
    crops_of,
    example_file,
    list_photos,
    predict_all,
    predict_photos,
    read_photo,
    read_turned,
    ready_crop,
    sensitive_caveat,
    young_errors,
)
from facelib.prediction.predictor import Predictor, scaled
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute
from facelib.synthetic.drawing import draw_face

pytest.importorskip("dlib")
ONES = {"gender": 1.0, "ethnicity": 1.0}  # temperatures


@pytest.fixture(scope="module")
def astronaut() -> FaceCrop:
    return crop_faces(Image.fromarray(data.astronaut()))[0][0]


# --- cropping ---------------------------------------------------------------------------------------------


def test_the_astronauts_face_is_cropped_as_it_was_found(astronaut):
    (face,) = detection.find_faces(Image.fromarray(data.astronaut())).faces
    assert (astronaut.frame, astronaut.score, astronaut.detector) == (face.frame, face.score, "hog")
    assert astronaut.image.shape == (200, 200, 3)
    left, top, edge = face.frame.box
    square = Image.fromarray(data.astronaut()[top : top + edge, left : left + edge]).resize((64, 64))
    small = Image.fromarray(astronaut.image).resize((64, 64))
    assert np.abs(np.asarray(small, int) - np.asarray(square)).mean() < 12  # turned by 3 degrees


def test_a_ready_crop_is_the_whole_picture_or_its_centre():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 10:50] = 100
    crop = ready_crop(Image.fromarray(picture))
    assert (
        (crop.image == 100).all()
        and crop.image.shape == (40, 40, 3)
        and crop.frame == Frame(30, 20, 40)
        and crop.score is None
    )


# --- reading ----------------------------------------------------------------------------------------------


def test_a_photograph_is_turned_upright(tmp_path):
    picture = Image.fromarray(np.dstack([np.arange(60, dtype=np.uint8).reshape(6, 10)] * 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    assert (np.asarray(read_photo(tmp_path / "turned.png")[0]) == np.rot90(np.asarray(picture), -1)).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_photographs_of_every_mode_become_rgb(mode, tmp_path):
    Image.new("RGB", (8, 6), "red").convert(mode).save(tmp_path / "photo.png")
    assert np.asarray(read_photo(tmp_path / "photo.png")[0]).shape == (6, 8, 3)


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
    for name in ("b.png", "a.JPG", "c.txt", "e.jfif", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "deeper" / "still").mkdir(parents=True)
    (tmp_path / "deeper" / "still" / "d.webp").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "deeper")
    files, refused = list_photos([tmp_path / "c.txt", tmp_path, tmp_path / "gone.jpg", tmp_path / "empty"])
    # A named file is tried even with another ending.
    expected = ("c.txt", "a.JPG", "b.png", "deeper/still/d.webp", "e.jfif", "gone.jpg")
    assert files == [tmp_path / name for name in expected]
    reasons = ["linked is a link to a folder, which is not followed", ".hidden.png is hidden"]
    reasons += ["c.txt is not an image file by its name", "empty holds no photograph: it takes .jpg"]
    assert len(refused) == 4 and all(reason in said for reason, said in zip(reasons, refused, strict=True))


def test_jfif_is_jpeg(tmp_path):
    Image.fromarray(data.astronaut()).save(tmp_path / "a.jfif", "JPEG")
    assert list_photos([tmp_path])[0] == [tmp_path / "a.jfif"] and read_photo(tmp_path / "a.jfif")[0].size == (512, 512)


def test_a_picture_of_a_telephone_says_what_it_needs(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    wanted = "is not an image" if "pillow_heif" in sys.modules else "is a HEIC picture, which needs `pip install"
    with pytest.raises(UnreadablePhoto, match=wanted):
        read_photo(tmp_path / "a.heic")


def test_a_picture_of_a_telephone_is_read(tmp_path):
    pytest.importorskip("pillow_heif")
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.heic")
    photo, _ = read_photo(tmp_path / "a.heic")
    assert photo.size == (64, 48) and photo.getpixel((30, 20))[0] > 240


def test_a_large_jpeg_is_searched_at_half_its_size_and_answered_in_its_own_pixels(tmp_path, monkeypatch):
    Image.fromarray(data.astronaut()).save(tmp_path / "a.jpg", quality=95)
    whole, (full,) = read_photo(tmp_path / "a.jpg"), crops_of(tmp_path / "a.jpg")[1]
    half = read_photo(tmp_path / "a.jpg", 200)
    assert (whole[0].size, whole[1], half[0].size, half[1]) == ((512, 512), 1, (256, 256), 2)
    monkeypatch.setattr(external, "SEARCHED_PX", 200)
    (reduced,) = crops_of(tmp_path / "a.jpg")[1]
    assert reduced.frame.box == pytest.approx(full.frame.box, abs=4)


# --- predicting -------------------------------------------------------------------------------------------


def results(files, predictor: Predictor, **options) -> list[PhotoResult]:
    return list(predict_photos(files, predictor, **options))


def faces_of(path: Path, predictor: Predictor, **options) -> list[dict]:
    (photo,) = results([path], predictor, **options)
    return [face.to_dict() for face in photo.faces]


def test_each_face_of_a_photograph_is_predicted(tmp_path, tiny_predictor, astronaut, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path))
    path = example_file()
    assert (np.asarray(read_photo(path)[0]) == data.astronaut()).all() and example_file() == path
    (answer,) = tiny_predictor.photos([str(path)])
    face = answer.to_dict(distribution=True)
    assert face["photo"] == str(path) and face["face"] == 0 and face["face_found"]
    left, top, edge = astronaut.frame.box
    assert face["box"] == {"left": left, "top": top, "edge": edge, "angle": round(astronaut.frame.angle, 1)}
    image = crop_faces(read_photo(path)[0])[0][0].image[None]
    row = tiny_predictor(image).iloc[0]
    assert isinstance(face["age_years"], int) and face["age_years"] == pytest.approx(row["age_pred"], abs=0.5)
    assert face["age_low"] == pytest.approx(row["age_low"], abs=0.05)
    assert face["gender"] == pytest.approx({"male": row["p_gender_male"], "female": row["p_gender_female"]}, abs=1e-4)
    assert face["ood_percentile"] == row["ood_percentile"]
    assert json.loads(json.dumps(face)) == face
    # The median of the distribution is the age.
    ages = np.array(face["age_distribution"])
    assert len(ages) == 117 and ages.sum() == pytest.approx(1, abs=0.01)
    assert np.abs(np.searchsorted(ages.cumsum(), 0.5) - row["age_pred"]) <= 1
    assert "age_distribution" not in answer.to_dict()


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


@pytest.mark.slow
def test_a_photograph_on_its_side_is_answered_as_if_upright_and_says_so(tmp_path, tiny_predictor):
    Image.fromarray(data.astronaut()).rotate(90).save(tmp_path / "side.png")
    Image.fromarray(data.astronaut()).save(tmp_path / "upright.png")
    side, upright = results([tmp_path / "side.png", tmp_path / "upright.png"], tiny_predictor)
    assert (side.rotation, upright.rotation) == (90, 0)
    assert "turned by 90 degrees" in str(side.faces[0]) and "turned" not in str(upright.faces[0])
    given, expected = (photo.faces[0].to_dict() | {"photo": "", "rotation": 0} for photo in (side, upright))
    assert given == expected
    assert (np.asarray(read_turned(side)) == data.astronaut()).all()


def test_without_a_face_there_is_no_number(tmp_path, tiny_predictor):
    Image.new("RGB", (90, 60), "grey").save(tmp_path / "grey.png")
    (answer,) = tiny_predictor.photos([tmp_path / "grey.png"])
    assert isinstance(answer, NoFace) and not answer.found
    assert answer.to_dict() == {"photo": str(tmp_path / "grey.png"), "face_found": False, "warnings": [NO_FACE]}
    assert str(answer) == f"{tmp_path / 'grey.png'}: {NO_FACE}"


def test_ready_crops_are_predicted_as_they_are(tmp_path, tiny_predictor, noise_images):
    Image.fromarray(noise_images[0]).save(tmp_path / "crop.png")
    (face,) = faces_of(tmp_path / "crop.png", tiny_predictor, crops=True)
    row = tiny_predictor(noise_images[:1]).iloc[0]
    assert face["age_low"] == pytest.approx(row["age_low"], abs=0.06)
    assert face["detector"] == "given" and "detection_score" not in face


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
    photos = results(small_photos, tiny_predictor, crops=True)
    assert [photo.path for photo in photos] == small_photos
    assert len(batches) == 7 and sum(batches) == sum(len(photo.faces) for photo in photos)
    assert batches[0] == sum(len(photo.faces) for photo in photos[: external.BATCH_PHOTOS])
    assert [photo.path.name for photo in photos if photo.reason] == ["100.png"]
    assert photos[100].faces == [] and "100.png is not an image" in photos[100].reason
    for k in (0, 31, 32, 101, 199):
        for alone, many in zip(faces_of(small_photos[k], tiny_predictor, crops=True), photos[k].faces, strict=True):
            many = many.to_dict()
            assert (alone["box"], alone["photo"]) == (many["box"], many["photo"])
            for name, rounding in {"age_years": 1, "age_low": 0.11, "age_high": 0.11, "gender": 2e-4}.items():
                assert alone[name] == pytest.approx(many[name], abs=rounding)
            assert alone["ood_percentile"] == many["ood_percentile"]


def test_photographs_are_read_a_limited_number_ahead(small_photos, tiny_predictor, monkeypatch):
    """So that the crops of a large folder are never in memory together."""
    taken = []
    monkeypatch.setattr(external, "MOST_AHEAD", external.BATCH_PHOTOS)
    photos = predict_photos((taken.append(file) or file for file in small_photos), tiny_predictor, crops=True)
    next(photos)
    assert len(taken) == external.BATCH_PHOTOS < len(small_photos)
    assert len(list(photos)) == len(small_photos) - 1


def test_open_predictions_leave_the_number_of_threads_alone(tiny_predictor):
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # unlike the one that predictions take
    try:
        first, second = (predict_photos([example_file()] * 2, tiny_predictor) for _ in range(2))
        next(first), next(second)
        assert torch.get_num_threads() == 2
        assert len(list(first)) == len(list(second)) == 1 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_search_that_the_system_ends_is_one_sentence(small_photos, tiny_predictor, monkeypatch):
    def ended(*_):
        raise external.TerminatedWorkerError("killed")

    monkeypatch.setattr(external, "crops_of", ended)
    with pytest.raises(external.SearchEnded, match="lack of memory"):
        results(small_photos[:1], tiny_predictor)


@pytest.mark.slow
def test_processes_answer_as_threads_do(small_photos, tiny_predictor, monkeypatch):
    files = [example_file(), *small_photos[98:102]]
    alone = results(files, tiny_predictor)
    monkeypatch.setattr(external, "MANY_PHOTOS", 1)
    monkeypatch.setattr(external.joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(external, "crops_of", None)  # in this process, which is not to search
    shared = results(files, tiny_predictor)
    assert [(photo.path, photo.reason) for photo in shared] == [(photo.path, photo.reason) for photo in alone]
    lines = [[str(face) for photo in photos for face in photo.answers] for photos in (shared, alone)]
    assert lines[0] == lines[1] and shared[0].faces


def test_processes_are_as_silent_as_the_command_about_damaged_files(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # five entries, none of which follows
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg", exif=exif)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        crops_of(tmp_path / "a.jpg")
        assert "Corrupt EXIF" in str(said.pop().message) and not said
        external._crops_in_process(tmp_path / "a.jpg", False)
        assert not said


def test_other_pictures_are_flagged(tmp_path, installed, tiny_network, noise_images):
    """Calibrated on the distance of the picture itself, which is familiar; one with other features is not."""
    features, _ = embed(FaceImages(scaled(noise_images[:1], 150), np.arange(1)))
    arrays = features[0], np.eye(256)[:, :160], np.zeros(256), np.zeros(1), np.linspace(0.01, 0.02, 50)
    score = OodScore(*(np.asarray(array, np.float32) for array in arrays))
    predictor = Predictor(tiny_network, None, "direct", ONES, AgeIntervals((), (5.0,)), score, 32, True)
    Image.fromarray(noise_images[0]).save(tmp_path / "known.png")
    Image.new("RGB", (32, 32), "orange").save(tmp_path / "other.png")
    near, far = (faces_of(tmp_path / name, predictor, crops=True)[0] for name in ("known.png", "other.png"))
    assert (near["ood_percentile"], near["out_of_distribution"]) == (0, False)
    assert (far["ood_percentile"], far["out_of_distribution"]) == (100, True)
    assert far["warnings"][0] == (
        "out of distribution: less like the training faces than 100 % of held-out faces; its 90 % age interval "
        "may cover less there"
    )


# --- results ----------------------------------------------------------------------------------------------

EXPRESSION = ClassAttribute("expression", classes=("calm", "glad", "sad"))
ROW = {
    "age_pred": 30.6, "age_spread": 4.0, "age_low": 21.26, "age_high": 41.0, "p_gender_male": 0.75,
    "p_gender_female": 0.25, "p_expression_calm": 0.2, "p_expression_glad": 0.7, "p_expression_sad": 0.1,
    "ood_percentile": 50.0, "out_of_distribution": False,
}  # fmt: skip


def face(attributes=(AGE, GENDER, EXPRESSION), young: dict | None = None, **values) -> FaceResult:
    crop = FaceCrop(np.zeros((4, 4, 3), np.uint8), Frame(2.5, 3.5, 3, 7.04), 1.234, "hog")
    return FaceResult("a.jpg", 0, crop, pd.Series(ROW | values), attributes, 90, young=young or {})


def test_a_face_as_a_line():
    assert str(face()) == (
        "a.jpg: face at left 1, top 2, edge 3 px, turned by 90 degrees: 31 years (21-41), gender male (p = 0.75), "
        "expression glad (p = 0.70)"
    )
    far = "; OUT OF DISTRIBUTION: less like the training faces than 99.4 % of held-out faces"
    flagged = {"ood_percentile": 99.4, "out_of_distribution": True}
    assert str(face(**flagged)).endswith(f"{far}; its 90 % age interval may cover less there")
    assert str(face((GENDER,), **flagged)).endswith(far)


def test_a_face_as_a_dictionary():
    assert face().to_dict(distribution=True) == {
        "photo": "a.jpg",
        "face": 0,
        "face_found": True,
        "rotation": 90,
        "box": {"left": 1, "top": 2, "edge": 3, "angle": 7.0},
        "detector": "hog",
        "detection_score": 1.23,
        "age_years": 31,
        "age_low": 21.3,
        "age_high": 41.0,
        "gender": {"male": 0.75, "female": 0.25},
        "expression": {"calm": 0.2, "glad": 0.7, "sad": 0.1},
        "ood_percentile": 50.0,
        "out_of_distribution": False,
        "warnings": [],
    }


def test_without_the_face_network_a_face_says_that_it_may_be_unfamiliar():
    unknown = face(ood_percentile=np.nan)
    assert {"ood_percentile", "out_of_distribution"}.isdisjoint(unknown.to_dict())
    (warning,) = unknown.warnings
    assert "is not known without the face network: pip install" in warning and "nan" not in str(unknown)
    assert photo_results([PhotoResult(Path("a"), [unknown])])[1][1].text.startswith("0 of 1 faces are flagged")


def test_an_age_learned_from_bands_has_no_interval():
    bands = replace(AGE, bands=((0, 9), (20, 29), (40, 49)))
    child = face((bands,), age_pred=9.0, age_low=np.nan, age_high=np.nan, ood_percentile=99.5, out_of_distribution=True)
    facts = child.to_dict()
    assert facts["age_years"] == 9 and {"age_low", "age_high"}.isdisjoint(facts) and facts["such_faces"]
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert ": 9 years, no interval; OUT OF" in str(child) and "may cover" not in str(child) and "nan" not in str(child)


def test_a_face_that_looks_under_18_carries_the_error_of_such_faces():
    measured = {"age_band": "5-17", "n": 237, "age_mae": 3.43, "gender_accuracy": 0.848, "ethnicity_accuracy": 0.8}
    young = {"5-17": measured | {"age_mae_low": 2.9}}
    child = face(young=young, age_pred=17.4)
    text = "looks under 18: of 237 test faces labelled 5-17, age is off by 3.4 years on average and gender is right for"
    assert child.warnings == [f"{text} 85 %"] and str(child).endswith(f"; {text} 85 %")
    facts = {"age_band": "5-17", "n": 237, "age_mae": 3.43, "gender_accuracy": 0.848}
    assert child.to_dict()["such_faces"] == facts  # nothing of an attribute that is not reported
    assert face(young=young, age_pred=17.6).warnings == [] and face(young=young).warnings == []  # 18 years
    (unknown,) = face(young=young, age_pred=2.0).warnings
    assert unknown == "looks under 18, and the run has not measured its error for such faces"


def test_the_errors_of_young_faces_are_those_of_notebook_06(tmp_path):
    assert young_errors(tmp_path) == {}
    rows = [{"age_band": band, "n": n, "age_mae": 1.0} for n, band in enumerate(("0-4", "5-17", "18-29"))]
    write_json(tmp_path / "metrics" / "06_groups.json", {"details": {"groups": {"age_band": rows}}})
    assert young_errors(tmp_path) == {"0-4": rows[0], "5-17": rows[1]}
    write_json(tmp_path / "metrics" / "06_groups.json", {"details": {"groups": {}}})
    assert young_errors(tmp_path) == {}
    write_json(tmp_path / "metrics" / "06_groups.json", {"details": 3})
    with pytest.raises(DamagedRun):
        young_errors(tmp_path)


def test_no_attribute_can_overwrite_the_facts_about_a_face():
    facts = face(attributes=(), young={}).to_dict()
    for name in (*facts, "age_distribution", "such_faces"):
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
    assert str(face(attributes=())).endswith("degrees: no prediction")


def test_the_table_has_a_row_for_each_answer_and_a_column_for_each_part():
    table = faces_table([face((GENDER,)).to_dict(), NoFace("b.jpg").to_dict()])
    first, second = table.to_dict("records")
    assert first == {
        "photo": "a.jpg", "face": 0, "face_found": True, "rotation": 90, "detector": "hog", "detection_score": 1.23,
        "ood_percentile": 50.0, "out_of_distribution": False, "warnings": "", "box_left": 1, "box_top": 2,
        "box_edge": 3, "box_angle": 7.0, "gender_male": 0.75, "gender_female": 0.25,
    }  # fmt: skip
    assert {name for name, value in second.items() if value == value} == {"photo", "face_found", "warnings"}


def test_photographs_are_counted():
    photos = [
        PhotoResult(Path("a"), [face(), face(out_of_distribution=True)], rotation=90),
        PhotoResult(Path("b"), []),
    ]
    headline, findings = photo_results(photos)
    assert {key: estimate.value for key, estimate in headline.items()} == {
        "external.photos": 2,
        "external.not_found": 1,
        "external.out_of_distribution": 1,
    }
    assert [(finding.key, finding.n) for finding in findings] == [("photos.faces", 2), ("photos.ood", 2)]
    assert "1 of 2 photographs, 1 of them after a rotation; nothing is predicted for the other 1" in findings[0].text
    assert "1 of 2 faces" in findings[1].text
    assert "0 of 0 faces" in photo_results(photos[1:])[1][1].text


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
