"""The package's rooms: imports run one way only, and what needs no network loads no network library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import facelib

PACKAGE = Path(facelib.__file__).parent
# Each room may enter those before it; errors and schema enter nothing of ours.
ROOMS = ("errors", "schema", "spreadsheets", "storage", "metrics", "statistics", "finding", "formats", "config", "runs")
ROOMS += (
    "devices",
    "synthetic",
    "data",
    "embedding",
    "models",
    "prediction",
    "audit",
    "evaluation",
    "explain",
)
ROOMS += ("plots", "reporting", "publication", "pipeline", "doctor", "cli")
GROUND = {"errors", "schema"}
LINUX_ALONE = (
    "O_NONBLOCK",
    "O_CLOEXEC",
    "O_NOFOLLOW",
    "sched_getaffinity",
    "getuid",
    "getloadavg",
    "sysconf",
    "AF_UNIX",
)


def rooms_entered(source: str, parents: tuple[str, ...]) -> set[str]:
    """Rooms that a module's source imports, at any depth; `parents` are its packages below facelib."""
    entered = set()
    for node in ast.walk(ast.parse(source)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["facelib", *parents][: len(parents) + 2 - node.level] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            modules = [f"{stem}.{alias.name}" for alias in node.names] if stem == "facelib" else [stem]
        entered |= {module.split(".")[1] for module in modules if module.startswith("facelib.")}
    return entered


def trespasses(package: Path) -> list[str]:
    """Imports that run against the order of rooms, and modules that belong to no room."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        room, parents = parts[0], parts[:-1]
        if room == "__init__":
            allowed = set()
        elif room in ROOMS:
            allowed = set() if room in GROUND else {room, *ROOMS[: ROOMS.index(room)]}
        else:
            found.append(f"{path.relative_to(package)} is in no room")
            continue
        entered = rooms_entered(path.read_text(encoding="utf-8"), parents)
        found += [f"{path.relative_to(package)} imports {other}" for other in sorted(entered - allowed)]
    return found


@pytest.mark.slow
def test_imports_run_one_way_only():
    assert trespasses(PACKAGE) == []


def test_a_planted_trespass_is_found(tmp_path):
    (tmp_path / "data").mkdir()
    planted = {
        "__init__.py": "",
        "schema.py": "from facelib.errors import FacelibError",
        "metrics.py": "import numpy, facelib.schema",
        "runs.py": "def later():\n    import facelib.models.network",
        "data/__init__.py": "from facelib.data.readers import x\nfrom facelib import schema, audit",
        "data/readers.py": "from ..reporting import plots\nfrom . import pixels\nfrom facelib.runs import y",
        "helpers.py": "",
    }
    for name, source in planted.items():
        (tmp_path / name).write_text(source)
    assert trespasses(tmp_path) == [
        "data/__init__.py imports audit",
        "data/readers.py imports reporting",
        "helpers.py is in no room",
        "runs.py imports models",
        "schema.py imports errors",
    ]


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "helper", "common", "misc"])
def test_no_module_is_named_for_nothing(name):
    assert not list(PACKAGE.rglob(f"{name}.py")) and not list(PACKAGE.rglob(f"{name}/"))


def test_every_module_says_what_it_is():
    modules = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in PACKAGE.rglob("*.py")}
    assert [path.relative_to(PACKAGE).as_posix() for path, docstring in modules.items() if not docstring] == []


@pytest.mark.slow
def test_what_needs_no_network_loads_no_network_library():
    modules = ["schema", "metrics", "statistics", "config", "runs", "prediction"]
    modules += [f"data.{name}" for name in ("ingest", "readers", "splits")]
    modules += [f"embedding.{name}" for name in ("weights", "features", "persons", "outliers")]
    modules += [f"audit.{name}" for name in ("duplicates", "quality", "decisions")]
    modules += [f"reporting.{name}" for name in ("site", "slides", "explorer")]
    code = f"import sys, {', '.join(f'facelib.{name}' for name in modules)}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


# And synthetic/: the attributes, the readers, what published columns mean, drawing.
NAMED = {"schema.py", "data/readers.py", "data/published.py", "data/label_maps.py"}
MOST_NAMING = 5


def test_attributes_are_named_in_few_files():
    """Code that names an attribute has to change when one is added; templates count too."""
    naming = [
        name
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".j2", ".typ", ".csv")
        and any(word in path.read_text() for word in ("gender", "ethnicity"))
        if (name := path.relative_to(PACKAGE).as_posix()) not in NAMED and not name.startswith("synthetic/")
    ]
    assert len(naming) <= MOST_NAMING, naming


@pytest.mark.slow
def test_every_module_is_imported_where_there_is_no_linux():
    """Names that Windows or macOS lack are taken away, after the libraries, which have their own ways, are loaded."""
    code = f"""
import importlib, os, pkgutil, socket, sys
import dask, filelock, ipywidgets, lightning, matplotlib.pyplot, nbconvert, papermill, sklearn, torchvision, typer
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in {LINUX_ALONE!r}:
    for module in (os, socket):
        if hasattr(module, name):
            delattr(module, name)
import facelib
found = [each.name for each in pkgutil.walk_packages(facelib.__path__, "facelib.") if "__main__" not in each.name]
for name in found:
    importlib.import_module(name)
print(len(found))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 60
