"""papermill over the notebooks: order, progress, resume."""

import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from facelib.config import Profile
from facelib.errors import FacelibError, NotebookFailed, RunConflict, UnknownSetting
from facelib.runs import RunFolder, package_fingerprint, project_root, write_json, write_text
from facelib.schema import NOTEBOOKS

# What a person did, and how often the test split was looked at, outlives a run that begins anew.
LASTING = ("tables/decisions.csv", "test_reads.csv")


@dataclass(frozen=True)
class Finished:
    """What is remembered of a finished notebook: its code, the parameters given, its cells and its time."""

    package: str
    parameters: dict
    cells: int
    seconds: float


def notebook_path(name: str) -> Path:
    """The source of a notebook."""
    return project_root() / "notebooks" / f"{name}.ipynb"


def notebook_parameters() -> dict[str, set[str]]:
    """Names that each notebook's parameter cell defines."""
    return {name: set(papermill.inspect_notebook(str(notebook_path(name)))) for name in NOTEBOOKS}


def split_parameters(given: dict[str, str]) -> tuple[dict[str, str], dict]:
    """Settings of the profile and parameters of notebooks among `-p KEY VALUE` pairs.

    Raises
    ------
    UnknownSetting
        If a key is neither.
    """
    settings = {key: value for key, value in given.items() if key in Profile.__dataclass_fields__}
    known = set.union(*notebook_parameters().values()) - {"run", "profile", "data"}
    for key in given.keys() - settings.keys() - known:
        allowed = ", ".join(sorted((known | set(Profile.__dataclass_fields__)) - {"name"}))
        raise UnknownSetting(f"there is no setting or notebook parameter {key!r}: choose one of {allowed}")
    # Read as YAML, so that `false` is no text that counts as true.
    return settings, {key: yaml.safe_load(value) for key, value in given.items() if key not in settings}


def numbered(number: str) -> str:
    """The notebook of a number such as 5 or 05, or of its name.

    Examples
    --------
    >>> numbered("3")
    '03_train_multitask'
    """
    for name in NOTEBOOKS:
        if number in (name, name[:2], name[1:2]):
            return name
    raise UnknownSetting(f"there is no notebook {number!r}: choose 01 to {NOTEBOOKS[-1][:2]}")


@contextmanager
def locked(run: RunFolder):
    """Hold a run folder against a second process; a lock left by a process that died is no obstacle.

    Raises
    ------
    RunConflict
        If another living process holds it.
    """
    with (run.path / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunConflict(
                f"run {run.name!r} is being written by another process: wait, or choose another --run"
            ) from None
        yield


def discard(path: Path) -> None:
    """Remove a run folder so that it can begin anew, but for a person's decisions and the log of test readings.

    Anything that is not a run folder is left alone.

    Raises
    ------
    RunConflict
        If the folder was not made by facelib.
    """
    if not path.exists():
        return
    if not (path / "params.yaml").exists():
        raise RunConflict(f"{path} is not a run folder and is not removed: choose another --run name")
    with locked(RunFolder(path)):
        kept = {name: (path / name).read_text("utf-8") for name in LASTING if (path / name).exists()}
        shutil.rmtree(path)
        for name, text in kept.items():
            write_text(path / name, text)


def _load_finished(run: RunFolder) -> dict[str, Finished]:
    path = run.path / "progress.json"
    if not path.exists():
        return {}
    return {name: Finished(**facts) for name, facts in json.loads(path.read_text(encoding="utf-8")).items()}


def _save_finished(run: RunFolder, finished: dict[str, Finished]) -> None:
    write_json(run.path / "progress.json", {name: asdict(facts) for name, facts in finished.items()})


def execute(run: RunFolder, first: str = "", last: str = "", parameters: dict | None = None, say=print) -> None:
    """Run the notebooks that are not finished yet, in order, into the run folder.

    Parameters
    ----------
    run : RunFolder
    first, last : str
        Numbers of the first notebook to do again and of the last to run; empty: go on, to the end.
    parameters : dict, optional
        Notebook parameters by name, each passed to the notebooks that have it.
    say : callable
        Takes one line of progress.

    Raises
    ------
    NotebookFailed
        At the first cell that raises; the message names notebook, cell and error.
    """
    names = list(NOTEBOOKS)
    stop = names.index(numbered(last)) if last else len(names) - 1
    with locked(run):
        finished = _load_finished(run)
        if first:
            finished = {name: finished[name] for name in names[: names.index(numbered(first))] if name in finished}
        package, accepted = package_fingerprint(), notebook_parameters()
        for number, name in enumerate(names[: stop + 1]):
            chosen = {key: value for key, value in (parameters or {}).items() if key in accepted[name]}
            if name in finished and chosen == {key: finished[name].parameters.get(key) for key in chosen}:
                stale = (
                    ""
                    if finished[name].package == package
                    else f"; the package changed since: --from {name[:2]} redoes it"
                )
                say(f"{name}  done before{stale}")
                continue
            # What follows was made from what this one wrote.
            finished = {done: finished[done] for done in names[:number]}
            _save_finished(run, finished)
            run.forget(names[number:])
            finished[name] = _execute_one(run, name, chosen, package)
            _save_finished(run, finished)
            minutes, seconds = divmod(round(finished[name].seconds), 60)
            say(f"{name}  {finished[name].cells} cells  {minutes}:{seconds:02d}")


def _execute_one(run: RunFolder, name: str, parameters: dict, package: str) -> Finished:
    """Execute one notebook into the run folder."""
    output = run.path / "notebooks" / f"{name}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    # Notebook kernels are children of this process: they find the run through its environment.
    os.environ["FACELIB_RUNS"] = str(run.path.parent)
    try:
        # The kernel listens on sockets in a folder of its own, which no other user and no other run reaches.
        with tempfile.TemporaryDirectory(prefix="facelib-") as sockets:
            papermill.execute_notebook(
                str(notebook_path(name)),
                str(output),
                parameters={"run": run.name, **parameters},
                progress_bar={"desc": name, "leave": False} if sys.stderr.isatty() else False,
                kernel_name="python3",
                cwd=str(Path.cwd()),  # where a caller's relative paths begin
                store_widget_state=False,  # the state of a panel would hold its pictures
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
            )
    except PapermillExecutionError as error:
        source = error.source.strip().splitlines()
        raise NotebookFailed(
            f"{name}, cell {error.exec_count}, which begins {source[0] if source else ''!r}: "
            f"{error.ename}: {error.evalue} (executed so far: {output})"
        ) from error
    cells = sum(cell.cell_type == "code" for cell in nbformat.read(output, as_version=4).cells)
    return Finished(package, parameters, cells, round(time.perf_counter() - start, 2))


def executed_notebooks(run: RunFolder) -> list[Path]:
    """The executed notebooks of a run, in order.

    Raises
    ------
    FacelibError
        If there is none.
    """
    paths = [run.path / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    found = [path for path in paths if path.exists()]
    if not found:
        raise FacelibError(f"run {run.name!r} has no executed notebook: run `facelib run --run {run.name}` first")
    return found
