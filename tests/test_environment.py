"""pyproject.toml, requirements.lock, environment.yml and what is installed say the same."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.vulnerabilities import summarise
from facelib.runs import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNLOCKED = {"heic"}  # extras that `make setup` leaves to the user
EXTRAS = [extra for name, extra in PROJECT["optional-dependencies"].items() if name not in UNLOCKED]
ALL_WANTED = PROJECT["dependencies"] + [text for extra in EXTRAS for text in extra]
WANTED = [Requirement(text) for text in ALL_WANTED]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^ ;\\]+)", LOCK)}
# Releases that carried somebody else's code, and a name that was never the project's it pretended to belong to.
ANY = ("*",)
COMPROMISED = {
    "lightning": ("2.6.2", "2.6.3"),
    "num2words": ("0.5.15", "0.5.16"),
    "torchtriton": ANY,
    "ultralytics": ("8.3.41", "8.3.42", "8.3.45", "8.3.46"),
}
NAMED = [
    "torch", "torchvision", "pandas", "numpy", "seaborn", "matplotlib", "scikit-learn", "lime", "grad-cam", "imagehash",
    "jupyterlab", "papermill", "nbval",
]  # fmt: skip


@pytest.mark.parametrize("requirement", WANTED, ids=lambda requirement: requirement.name)
def test_the_lock_pins_what_the_project_wants(requirement):
    pinned = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned)
    assert importlib.metadata.version(requirement.name).partition("+")[0] == pinned  # 2.15.0+cpu is 2.15.0


@pytest.mark.parametrize("name", NAMED)
def test_the_named_packages_are_dependencies(name):
    assert name in {requirement.name for requirement in WANTED}


def test_every_pin_has_a_hash():
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", LOCK)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)


@pytest.mark.parametrize(("name", "versions"), COMPROMISED.items())
def test_compromised_releases_are_neither_locked_nor_admitted(name, versions):
    assert PINS.get(canonicalize_name(name)) not in versions
    assert not (versions == ANY and canonicalize_name(name) in PINS)
    for requirement in WANTED:
        if canonicalize_name(requirement.name) == name:
            assert versions != ANY and not any(requirement.specifier.contains(version) for version in versions)


def test_a_release_that_breaks_others_is_not_admitted():
    by_name = {requirement.name: requirement.specifier for requirement in WANTED}
    assert not by_name["torch"].contains("2.13.0")


def test_the_lock_is_installed_by_its_hashes_and_from_no_other_place():
    makefile = (ROOT / "Makefile").read_text()
    assert makefile.count(" -r ") == makefile.count("--require-hashes -r $(VENV)/requirements.lock") == 1
    assert not re.search(r"(?m)^(-|[A-Za-z0-9._-]+ ?@)|https?://|file:", LOCK)


@pytest.mark.skipif(sys.platform == "win32", reason="the Makefile's shell is not Windows'")
@pytest.mark.parametrize("index", ["", "an-index"])
def test_an_index_of_cpu_wheels_takes_cuda_and_nothing_else_out_of_the_lock(index):
    (command,) = re.findall(r"(?m)^\tawk (.*) > \$\(VENV\)", (ROOT / "Makefile").read_text())
    command = command.replace("$(TORCH_INDEX)", index)
    kept = subprocess.run(["bash", "-c", f"awk {command}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    gone = {line.partition("==")[0] for line in set(LOCK.splitlines()) - set(kept.splitlines()) if line[:1].isalpha()}
    cuda = {name for name in PINS if re.match("nvidia|cuda|triton", name)}
    assert gone == (cuda if index else set()) and len(cuda) > 5
    assert all("--hash=sha256:" in block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", kept) if "==" in block)


# --- the check against databases of vulnerabilities -------------------------------------------------------


def test_a_package_that_a_database_does_not_know_counts_as_unchecked():
    known = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1"}]}
    unknown = {"name": "numpy", "version": "1.0", "skip_reason": "not found"}
    found = summarise(2, {"pypi": [known, unknown], "osv": None})
    assert found == {"pins": 2, "checked": {"pypi": 1, "osv": 0}, "vulnerabilities": ["pillow 1.0 CVE-1"]}


def test_conda_installs_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, pip = environment["dependencies"]
    assert python == "python=3.11" and pip == {"pip": ["-r requirements.lock"]}
    assert PROJECT["requires-python"] == ">=3.11"
