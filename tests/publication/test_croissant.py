"""The Croissant card: the shape that the specification 1.0 asks for, and files and columns that exist."""

import hashlib

import pandas as pd
import pytest

from facelib.publication import croissant
from facelib.runs import start_run
from facelib.schema import UTKFACE_ATTRIBUTES


@pytest.fixture
def card(empty_runs, tmp_path) -> dict:
    run = start_run("small", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    (tmp_path / "tables").mkdir()
    faces = pd.DataFrame({"image_id": ["a"], "age": [31.0], "gender": [1], "is_dark": [False]})
    faces.to_parquet(tmp_path / "tables" / "faces.parquet")
    (tmp_path / "tables" / "decisions.csv").write_text("image_id,action\na,keep\n")
    return croissant.card(run, tmp_path, "UTKFace: labels", "What it holds.", "Research only.")


def test_the_card_is_a_croissant_data_set(card):
    assert card["@type"] == "sc:Dataset" and card["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    required = {"name", "description", "license", "url", "distribution", "recordSet", "datePublished", "version"}
    assert required <= set(card)
    words = {"@language", "@vocab", "sc", "cr", "dct", "conformsTo", "dataType"}
    assert words <= set(card["@context"]) and card["@context"]["field"] == "cr:field"


def test_each_file_is_named_with_its_digest(card, tmp_path):
    files = {file["@id"]: file for file in card["distribution"]}
    assert list(files) == ["decisions.csv", "faces.parquet"]
    for file in files.values():
        content = (tmp_path / file["contentUrl"]).read_bytes()
        assert file["@type"] == "cr:FileObject" and file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
    assert files["decisions.csv"]["encodingFormat"] == "text/csv"


def test_each_column_is_a_field_of_a_record_with_its_type(card):
    _, faces = card["recordSet"]
    types = {field["name"]: field["dataType"] for field in faces["field"]}
    assert types == {"image_id": "sc:Text", "age": "sc:Float", "gender": "sc:Integer", "is_dark": "sc:Boolean"}
    source = {"fileObject": {"@id": "faces.parquet"}, "extract": {"column": "gender"}}
    (gender,) = (field for field in faces["field"] if field["name"] == "gender")
    assert gender["source"] == source and gender["description"] == "label: male, female"
    ids = [node["@id"] for part in card["recordSet"] for node in (part, *part["field"])]
    assert len(set(ids)) == len(ids)
