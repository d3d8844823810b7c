"""The page of runs by published lists and by several seeds: its commands can be typed."""

import shlex

from facelib import pipeline
from facelib.config import resolve
from studies import protocols


def test_the_commands_ask_for_the_runs_that_they_name():
    asked = resolve("full", {"epochs": 6, "attributes": ["age", "gender"]})
    settings = {"profile": "full", **asked.flat()}
    words = shlex.split(protocols.options({"settings": settings, "parameters": {"bins_tried": "[2, 4]"}}))
    assert words[:2] == ["--profile", "full"] and set(words[2::3]) == {"-p"}
    settings, parameters = pipeline.split_parameters(dict(zip(words[3::3], words[4::3], strict=True)))
    assert resolve("full", settings) == asked and parameters == {"bins_tried": [2, 4]}


def test_the_page_is_of_the_measured_runs_and_others(tmp_path):
    text = protocols.page()
    rows = protocols.published("coral_21_60")["who"]
    assert len(rows) == 3 and all(who in text for who in rows)
    assert "opinion" not in text and text.count("\n| ") > 10
