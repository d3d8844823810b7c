"""README and docs: the commands, options, settings, files and names that they give exist, and the README is short."""

import ast
import importlib.util
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from facelib.cli import app
from facelib.config import PROFILES, RECIPES, SECTION_OF
from facelib.pipeline import notebook_parameters
from facelib.runs import project_root
from facelib.schema import MADE_BY, NOTEBOOKS

ROOT = project_root()
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
COMMANDS = typer.main.get_command(app).commands
MADE_LATER = ("data/raw", "data/cache")  # by commands


def commands(text: str) -> list[list[str]]:
    """The words of each command on a page: indented lines, continued ones joined, and code within a line."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(r"(?m)^    (\S.*)$", joined) + re.findall(r"`([^`\n]+)`", joined)
    words = [shlex.split(line.replace("'", '"'), comments=True) for line in lines if line.count('"') % 2 == 0]
    return [command for command in words if command]


def code(text: str) -> set[str]:
    """Everything between backticks on one line."""
    return set(re.findall(r"`([^`\n]+)`", text))


def unknown_in(command: list[str]) -> list[str]:
    """What a command names that does not exist: a subcommand, an option, a setting, a make target or a module."""
    program, *rest = command
    if Path(program).name == "facelib" or "facelib.cli" in rest:
        rest = rest[rest.index("facelib.cli") + 1 :] if "facelib.cli" in rest else rest
        return unknown_to_facelib([word.strip("[]") for word in rest])
    if program == "make":
        made = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
        given = re.findall(r"(?m)^([A-Z]+) \?=", (ROOT / "Makefile").read_text(encoding="utf-8"))
        return [word for word in rest if word.partition("=")[0] not in [*made, *given]]
    if Path(program).name == "python" and "-m" in rest:
        module = rest[rest.index("-m") + 1]
        return [] if importlib.util.find_spec(module) else [module]
    return []


def unknown_to_facelib(words: list[str]) -> list[str]:
    if not words or words[0].isupper() or words[0].startswith("-"):
        return []
    name, *rest = words
    if name not in COMMANDS:
        return [name]
    options = {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)}
    unknown = [word for word in rest if word.startswith("-") and word not in options]
    for option, value in pairwise(rest):
        if option == "-p":
            unknown += unknown_setting(value)
        if option == "--profile" and value not in {*PROFILES, "NAME"}:
            unknown.append(value)
    return unknown


def unknown_setting(name: str) -> list[str]:
    known = {*SECTION_OF, "NAME", *set.union(*notebook_parameters().values())}
    return [] if name.partition("=")[0] in known else [name]


@by_page
def test_every_command_that_a_page_gives_exists(page):
    text = page.read_text(encoding="utf-8")
    unknown = {" ".join(command): names for command in commands(text) if (names := unknown_in(command))}
    settings = [command[1] for command in commands(text) if command[0] == "-p" and len(command) > 1]
    assert not unknown and not [name for setting in settings for name in unknown_setting(setting)]


def test_a_command_that_does_not_exist_is_found():
    page = "`facelib run --nothing` and `make none`\n\n    facelib evaluat --data x\n    python -m studies.none\n"
    page += "    facelib run -p no_setting 3 --profile huge\n    facelib run --data x  # a comment\n"
    found = [name for command in commands(page) for name in unknown_in(command)]
    assert sorted(found) == ["--nothing", "evaluat", "huge", "no_setting", "none", "studies.none"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@by_page
def test_every_link_of_a_page_leads_somewhere(page):
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert missing == []


@by_page
def test_every_file_that_a_page_names_exists(page):
    folders = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir())
    tables = {Path(name).stem for name in MADE_BY} | {"rejected", "audit", "duplicates"}
    missing = []
    for name in code(page.read_text(encoding="utf-8")):
        if not re.fullmatch(r"[\w./-]+", name) or name.startswith("runs/") or name in MADE_LATER:
            continue
        if name.startswith("tables/"):
            missing += [name] * (name != "tables/" and Path(name).stem not in tables)
        elif name.startswith(folders):
            missing += [name] * (not (ROOT / name).exists())
    assert missing == []


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module of the package, or defined at the top of one."""
    path = ROOT / "facelib" / Path(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = path.parent.with_suffix(".py")
    nodes = ast.parse(module.read_text(encoding="utf-8")).body if module.exists() else []
    targets = [target for node in nodes for target in getattr(node, "targets", [getattr(node, "target", node)])]
    return path.name in {getattr(target, "id", getattr(target, "name", "")) for target in targets}


@by_page
def test_every_name_of_the_package_that_a_page_gives_exists(page):
    modules = {path.stem for path in (ROOT / "facelib").iterdir()}
    named = [name for name in code(page.read_text(encoding="utf-8")) if re.fullmatch(r"[a-z_]+(\.\w+)+", name)]
    files = (".md", ".py", ".csv", ".json", ".yaml", ".parquet", ".npy", ".safetensors")
    inside = [name for name in named if name.partition(".")[0] in modules and not name.endswith(files)]
    assert [name for name in inside if not is_defined(name)] == []


def test_a_name_that_does_not_exist_is_found():
    assert is_defined("schema.Attribute") and is_defined("plots.style") and is_defined("config.SECTION_OF")
    assert not is_defined("schema.Nothing") and not is_defined("plots.nothing") and not is_defined("none.x")


def test_the_readme_is_short_and_lists_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 1300
    assert re.findall(r"(?m)^- \[(\d\d_\w+)\]", text) == list(NOTEBOOKS)


def test_the_profiles_and_recipes_are_those_of_the_settings():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    listed = re.findall(r"(?m)^\| `(\w+)` \|", text)
    assert set(PROFILES) | set(RECIPES) <= set(listed)
