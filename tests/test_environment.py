"""pyproject.toml, requirements.lock, environment.yml and what is installed say the same."""

import importlib.metadata
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from facelib.runs import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ALL_WANTED = PROJECT["dependencies"] + [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
WANTED = [Requirement(text) for text in ALL_WANTED]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^ ;\\]+)", LOCK)}
NAMED = [
    "torch", "torchvision", "pandas", "numpy", "seaborn", "matplotlib", "scikit-learn", "lime", "grad-cam", "imagehash",
    "jupyterlab", "papermill", "nbval",
]  # fmt: skip


@pytest.mark.parametrize("requirement", WANTED, ids=lambda requirement: requirement.name)
def test_the_lock_pins_what_the_project_wants(requirement):
    pinned = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned)
    assert importlib.metadata.version(requirement.name) == pinned


@pytest.mark.parametrize("name", NAMED)
def test_the_named_packages_are_dependencies(name):
    assert name in {requirement.name for requirement in WANTED}


def test_every_pin_has_a_hash():
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", LOCK)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)


def test_known_bad_releases_are_not_admitted():
    by_name = {requirement.name: requirement.specifier for requirement in WANTED}
    assert not any(by_name["lightning"].contains(version) for version in ("2.6.2", "2.6.3"))
    assert not by_name["torch"].contains("2.13.0")


def test_conda_installs_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, pip = environment["dependencies"]
    assert python == "python=3.11" and pip == {"pip": ["-r requirements.lock"]}
    assert PROJECT["requires-python"] == ">=3.11"
