"""The page of runs by published lists: its commands can be typed."""

import shlex

import pytest

from facelib import pipeline
from facelib.config import resolve
from studies import protocols


@pytest.mark.parametrize("recipe", ["reference", "face"])
def test_the_commands_ask_for_the_runs_that_they_name(recipe):
    asked = resolve("full", {"epochs": 9, "attributes": ["age", "gender"], "recipe": recipe})
    settings = {"profile": "full", **asked.flat()}
    words = shlex.split(protocols.options({"settings": settings, "parameters": {"bins_tried": "[2, 4]"}}))
    assert words[:2] == ["--profile", "full"] and set(words[2::3]) == {"-p"} and len(words) < 15
    settings, parameters = pipeline.split_parameters(dict(zip(words[3::3], words[4::3], strict=True)))
    assert resolve("full", settings) == asked and parameters == {"bins_tried": [2, 4]}


def test_the_page_is_of_the_measured_runs_and_others():
    found = protocols.read_json(protocols.FOLDER / "published.json")
    text = protocols.page(found)
    assert text == (protocols.FOLDER / "README.md").read_text(encoding="utf-8")
    rows = protocols.published("coral_21_60")["who"]
    assert len(rows) == 3 and all(who in text for who in rows)
    assert text.count("\n| **this project**") == 2 * len(found) and text.count("\n- from ") == len(found)
