"""The page of runs by published lists and by several seeds: its commands can be typed."""

import dataclasses
import shlex

from benchmarks import protocols
from facelib import pipeline
from facelib.config import PROFILES, resolve_profile


def test_the_commands_ask_for_the_runs_that_they_name():
    settings = vars(PROFILES["full"]) | {"epochs": 6, "learned": "age gender"}
    words = shlex.split(protocols.options({"settings": settings, "parameters": {"bins_tried": [2, 4]}}))
    assert words[:2] == ["--profile", "full"] and set(words[2::3]) == {"-p"}
    settings, parameters = pipeline.split_parameters(dict(zip(words[3::3], words[4::3], strict=True)))
    assert resolve_profile("full", settings) == dataclasses.replace(PROFILES["full"], epochs=6, learned="age gender")
    assert parameters == {"bins_tried": [2, 4]}
