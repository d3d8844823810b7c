"""papermill over the notebooks: order, progress, resume."""

import csv
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread

import joblib
import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from facelib.config import SECTION_OF, resolve
from facelib.data.ingest import ingest, read_labelled
from facelib.data.protocols import identify
from facelib.errors import DamagedRun, FacelibError, NotebookFailed, RunConflict, UnknownSetting
from facelib.formats import read_json, write_json
from facelib.runs import (
    PROGRESS,
    READINGS,
    DataSet,
    RunFolder,
    package_fingerprint,
    project_root,
    run_name,
    runs_root,
    start_run,
)
from facelib.schema import BRANCHES, NOTEBOOKS, UTKFACE_ATTRIBUTES, class_attributes
from facelib.spreadsheets import unguard
from facelib.storage import MEMORY_GB, PARTIAL, end_with_parent, held, memory_gb, sweep, writing

# A person's decisions and the log of test readings outlast a fresh start.
DECISIONS = "tables/decisions.csv"
LASTING = (DECISIONS, READINGS)
CLEANING = "02_clean"  # the notebook that takes up the decisions
LOCK = ".lock"
LONGEST = 5  # steps that a run names
CORES = joblib.cpu_count()  # that this process may use
# How many of `BRANCHES` run at once; two take 4 GB at `full`.
AT_ONCE = min(2, CORES) if (memory_gb() or MEMORY_GB) >= MEMORY_GB else 1
# What a cell may need beside attributes, by the end of its tag, for a reader; empty where cells are left out unsaid.
NEEDS = {"years": "ages in years", "classes": "classes", "sources": "", "protocol": ""}
# Run by a notebook's kernel before its first cell.
TIE_TO_PARENT = "__import__('facelib.storage', fromlist=['storage']).end_with_parent()"


@dataclass(frozen=True)
class Step:
    """A cell by its notebook's number and the heading that it stands below, and how long it took."""

    text: str
    seconds: float


@dataclass(frozen=True)
class Finished:
    """What is remembered of a finished notebook: its code, parameters, cells, time, and a digest of the decisions."""

    package: str
    parameters: dict
    cells: int
    seconds: float
    decided: str = ""


def notebook_path(name: str) -> Path:
    """The source of a notebook."""
    return project_root() / "notebooks" / f"{name}.ipynb"


def notebook_parameters() -> dict[str, set[str]]:
    """Names that each notebook's parameter cell defines."""
    return {name: set(papermill.inspect_notebook(str(notebook_path(name)))) for name in NOTEBOOKS}


def split_parameters(given: dict[str, str]) -> tuple[dict[str, str], dict]:
    """Settings of the run and parameters of notebooks among `-p KEY VALUE` pairs.

    Raises
    ------
    UnknownSetting
        If a key is neither.
    """
    settings = {key: value for key, value in given.items() if key in SECTION_OF}
    known = set.union(*notebook_parameters().values()) - {"run", "profile", "data"}
    for key in given.keys() - settings.keys() - known:
        allowed = ", ".join(sorted(known | set(SECTION_OF)))
        raise UnknownSetting(f"there is no setting or notebook parameter {key!r}: choose one of {allowed}")
    return settings, {key: _parsed(key, value) for key, value in given.items() if key not in settings}


def _parsed(key: str, value: str):
    """A notebook parameter, read as YAML, so that `false` is not a text that counts as true."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UnknownSetting(
            f"parameter {key} is {value!r}, which is not YAML: quote it, as in '\"{value}\"'"
        ) from None


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
def prepared(
    run: str = "",
    profile: str = "",
    data: str | Sequence[DataSet] = "",
    protocol: Path | None = None,
    settings: dict | None = None,
    fresh: bool = False,
    read_again: bool = False,
) -> Iterator[RunFolder]:
    """Hold a run folder whose faces are read: what notebook 01 and all later ones take up.

    Wrong settings and unusable data are refused before anything is made or removed.

    Parameters
    ----------
    run, profile, data, settings
        See `runs.start_run`.
    protocol : Path, optional
        A folder with train.csv and test.csv.
    fresh : bool
        Begin the run folder anew.
    read_again : bool
        Read the faces although an earlier call did.
    """
    name, resolved = run_name(run, profile)
    path = runs_root() / name
    wanted = resolve(resolved, settings).data.attributes
    data = [DataSet(data)] if data and isinstance(data, str) else data
    published = identify(protocol) if protocol else None
    if fresh:
        check_discardable(path)
    begins = fresh or not (path / "params.yaml").exists()
    source = read_labelled(data, published["path"] if published else "", wanted) if data and begins else None
    with locked(path):
        if fresh:
            discard(path)
        folder = start_run(name, profile, data, settings, published)
        if read_again:
            folder.table_path("faces").unlink(missing_ok=True)
        if not folder.table_path("faces").exists():
            ingest(folder, source)
        yield folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run folder, or raise RunConflict where another process does; what a killed process left is removed."""
    refusal = RunConflict(f"run {path.name!r} is being written by another process: wait, or choose another --run")
    with held(path / LOCK, refusal):
        sweep(path.rglob(f"{PARTIAL}*"))
        yield


def check_discardable(path: Path) -> None:
    """Raise RunConflict for a folder that holds files and is no run folder: it is not begun anew."""
    if path.exists() and not (path / "params.yaml").exists() and _others(path):
        raise RunConflict(f"{path} is not a run folder and is not removed: choose another --run name")


def _others(path: Path) -> list[Path]:
    """All of a folder's files that a fresh start removes; params.yaml, which makes it a run folder, last."""
    files = [file for file in sorted(path.rglob("*")) if file.is_symlink() or not file.is_dir()]
    others = [file for file in files if file.relative_to(path).as_posix() not in (*LASTING, LOCK)]
    return sorted(others, key=lambda file: (file == path / "params.yaml", file != path / PROGRESS))


def discard(path: Path) -> None:
    """Empty a run folder so that it can begin anew; a person's decisions and the log of test readings stay.

    The list of finished notebooks goes first: interrupted at any moment, this leaves a run folder that begins anew.
    RunConflict if facelib did not make the folder.
    """
    check_discardable(path)
    for file in _others(path):
        file.unlink()
    for folder in sorted(path.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _load_finished(run: RunFolder) -> dict[str, Finished]:
    path = run.path / PROGRESS
    try:
        return {name: Finished(**facts) for name, facts in read_json(path).items()} if path.exists() else {}
    except TypeError as error:
        raise DamagedRun(
            f"{path} is no list of finished notebooks ({error}): begin the run anew with --fresh"
        ) from error


def _save_finished(run: RunFolder, finished: dict[str, Finished]) -> None:
    write_json(run.path / PROGRESS, {name: asdict(facts) for name, facts in finished.items()})


def execute(run: RunFolder, first: str = "", last: str = "", parameters: dict | None = None, say=print) -> list[Step]:
    """Run the notebooks that are not finished yet into the run folder, which the caller holds (`locked`).

    Parameters
    ----------
    run : RunFolder
    first, last : str
        Numbers of the first notebook to run again and of the last to run; empty: resume, run to the end.
    parameters : dict, optional
        Notebook parameters by name, each passed to the notebooks that have it.
    say : callable
        Takes one line of progress.

    Returns
    -------
    The cells that took longest among those executed, the longest first.

    Raises
    ------
    NotebookFailed
        At the first cell that raises; a notebook that runs at the same time is finished before.
    """
    names, steps = list(NOTEBOOKS), []
    stop = names.index(numbered(last)) if last else len(names) - 1
    finished = _load_finished(run)
    if first:
        begun = names.index(numbered(first))
        run.forget(names[begun:])
        finished = {name: finished[name] for name in names[:begun] if name in finished}
    accepted = notebook_parameters()
    branches: dict[str, dict] = {}  # the unfinished ones, with their parameters

    def done(name: str, facts: Finished) -> None:
        finished[name] = facts
        _save_finished(run, {known: finished[known] for known in names if known in finished})
        minutes, seconds = divmod(round(facts.seconds), 60)
        say(f"{name}  {facts.cells} cells  {minutes}:{seconds:02d}")
        steps.extend(timed_steps(run.path / "notebooks" / f"{name}.ipynb"))

    for number, name in enumerate(names[: stop + 1]):
        chosen = {key: value for key, value in (parameters or {}).items() if key in accepted[name]}
        if name in finished and chosen == {key: finished[name].parameters.get(key) for key in chosen}:
            stale = ""
            if finished[name].package != package_fingerprint():
                stale += f"; the package has changed since: --from {name[:2]}"
            if name == CLEANING and finished[name].decided != decided_digest(run):
                stale += "; decisions.csv has changed since: --from 02 applies it"
            say(f"{name}  finished earlier{stale}")
            continue
        # What follows was made from what this one wrote.
        outdated = names[number:]
        if name in BRANCHES:
            outdated = [name, *(other for other in BRANCHES if name in BRANCHES[other])]
        finished = {known: facts for known, facts in finished.items() if known not in outdated}
        _save_finished(run, finished)
        run.forget(outdated)
        if name in BRANCHES:
            branches[name] = chosen
        else:
            done(name, _execute_one(run, name, chosen))
    if AT_ONCE > 1 and branches:
        _execute_at_once(run, branches, done, say)
    else:
        for name, chosen in branches.items():
            done(name, _execute_one(run, name, chosen))
    return sorted(steps, key=lambda step: -step.seconds)[:LONGEST]


def _execute_at_once(run: RunFolder, parameters: dict[str, dict], done: Callable[[str, Finished], None], say) -> None:
    """Run some of `BRANCHES`, `AT_ONCE` at a time, and hand each to `done` as it finishes.

    Each has its share of the cores, also where one is left, so that results repeat: threads of one computation that
    wait for each other are slow where another program takes a core. After a failure what runs is awaited, and nothing
    else is begun.
    """
    waiting = [name for name in BRANCHES if name in parameters]
    lines, running, failed = list(range(AT_ONCE)), {}, None
    spawn, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    with ProcessPoolExecutor(AT_ONCE, mp_context=spawn, initializer=_share, initargs=(CORES // AT_ONCE,)) as pool:
        try:
            while running or (waiting and not failed):
                unfinished = {*waiting, *(name for name, _ in running.values())}
                ready = [name for name in waiting if not unfinished & set(BRANCHES[name])]
                for name, line in [] if failed else list(zip(ready, lines, strict=False)):
                    waiting.remove(name)
                    lines.remove(line)
                    running[pool.submit(_execute_one, run, name, parameters[name], line)] = name, line
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name, line = running.pop(future)
                    lines.append(line)
                    if error := future.exception():
                        say(f"{name}  failed" + "; what runs beside it is finished first" * bool(running))
                        failed = failed or error
                    else:
                        done(name, future.result())
        except BaseException:  # interrupted: nobody waits for the rest
            for process in set(multiprocessing.active_children()) - set(others):
                process.terminate()
            raise
    if isinstance(failed, BrokenProcessPool):
        raise NotebookFailed("a notebook's process died (out of memory, or killed): repeat the command") from failed
    if failed:
        raise failed


def _share(threads: int) -> None:
    """Begin a process that executes notebooks on some threads, unless the caller chose how many."""
    end_with_parent()
    Thread(target=_follow, args=(multiprocessing.parent_process(),), daemon=True).start()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C interrupts the command, which ends this process
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process with its parent where the system does not."""
    parent.join()
    os._exit(1)


def decided_digest(run: RunFolder) -> str:
    """A digest of a person's decisions, in any order and without proposals.

    Empty where nothing is decided, or where the file cannot be read, which notebook 02 reports.
    """
    names, decided = ("image_id", "issue", "action", "value"), []
    path = run.path / DECISIONS
    with suppress(OSError, csv.Error), path.open(newline="", encoding="utf-8-sig", errors="replace") as opened:
        for row in csv.DictReader(opened):
            image, issue, action, value = (unguard((row.get(name) or "").strip()) for name in names)
            decided += [repr((image, issue, action.lower(), value))] if action else []
    return hashlib.sha256("\n".join(sorted(decided)).encode()).hexdigest()[:16] if decided else ""


def timed_steps(path: Path) -> list[Step]:
    """The cells of an executed notebook with the times that papermill stores in them."""
    steps, heading = [], ""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading = cell.source.partition("\n")[0].lstrip("# ")
        elif seconds := cell.metadata.get("papermill", {}).get("duration"):
            steps.append(Step(f"{path.stem[:2]} {heading}", seconds))
    return steps


def _execute_one(run: RunFolder, name: str, parameters: dict, line: int = 0) -> Finished:
    """Run one notebook; its bar of progress stands on a line of the terminal."""
    package = package_fingerprint()  # it may change during a long run
    decided = decided_digest(run) if name == CLEANING else ""  # before it runs: later decisions are not applied
    output = run.path / "notebooks" / f"{name}.ipynb"
    partial = output.with_name(f"{PARTIAL}{output.name}")
    start = time.perf_counter()
    # Notebook kernels are children of this process: they find the run through its environment.
    os.environ["FACELIB_RUNS"] = str(run.path.parent)
    # Silence loky's resource tracker when a kernel is killed.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:joblib.externals.loky.backend.resource_tracker")
    try:
        # The kernel's sockets lie in a folder of its own, out of reach of other users and runs.
        with writing(output), tempfile.TemporaryDirectory(prefix="facelib-") as sockets:
            output.parent.mkdir(parents=True, exist_ok=True)
            if not run.learned:
                raise UnknownSetting(
                    f"run {run.name!r} has nothing to learn: no attribute is labelled in every split; label more "
                    "faces, or name other -p attributes"
                )
            fitting = Path(sockets) / f"{name}.ipynb"
            nbformat.write(leave_out(nbformat.read(notebook_path(name), as_version=4), run), fitting)
            papermill.execute_notebook(
                str(fitting),
                str(partial),
                parameters={"run": run.name, **parameters},
                progress_bar={"desc": name, "leave": False, "position": line} if sys.stderr.isatty() else False,
                kernel_name="python3",
                cwd=str(Path.cwd()),  # where a caller's relative paths begin
                store_widget_state=False,  # the state of a panel would hold its pictures
                config=Config({"KernelManager": _transport(sockets)}),
                # The working directory holds no modules of the project, and a killed kernel's stderr is of no use to a
                # reader; output of cells takes another way.
                extra_arguments=[
                    f"--IPKernelApp.exec_lines={TIE_TO_PARENT}",
                    "--IPKernelApp.ignore_cwd=True",
                    "--IPKernelApp.no_stderr=True",
                ],
            )
    except PapermillExecutionError as error:
        source = error.source.strip().splitlines()
        raise NotebookFailed(
            f"{name}, cell {error.exec_count}, which begins {source[0] if source else ''!r}: "
            f"{error.ename}: {error.evalue} (executed so far: {output})"
        ) from error
    except DeadKernelError as error:
        raise NotebookFailed(f"{name}: the kernel died (out of memory, or killed): repeat the command") from error
    finally:  # papermill writes after each cell; the notebook gets its name only when it is whole
        with suppress(FileNotFoundError):
            os.replace(partial, output)
    cells = sum(cell.cell_type == "code" for cell in nbformat.read(output, as_version=4).cells)
    return Finished(package, parameters, cells, round(time.perf_counter() - start, 2), decided)


def _transport(folder: str) -> dict[str, str]:
    """How a kernel is spoken to: through sockets in a folder, and where the system has none through local ports."""
    return {"transport": "ipc", "ip": f"{folder}/kernel"} if os.name == "posix" else {}


def leave_out(notebook: nbformat.NotebookNode, run: RunFolder) -> nbformat.NotebookNode:
    """A notebook without the cells for attributes that a run does not learn, and a sentence in their place.

    Cells for several data sets or a published split are left out without one.

    A cell's tags name what it needs: `needs-age` an attribute, or one of `NEEDS`.
    """
    exact = {attribute.kind for attribute in run.learned if attribute.exact}
    others = {"sources": len(run.data_sets) > 1, "protocol": run.protocol}
    learned = {attribute.name for attribute in run.learned}
    available = learned | exact | {name for name, has in others.items() if has}
    utkface = {attribute.name: attribute.classes for attribute in class_attributes(UTKFACE_ATTRIBUTES)}
    # Cells that need an attribute of classes by its name may name its classes, too.
    available -= {a.name for a in class_attributes(run.learned) if utkface.get(a.name, a.classes) != a.classes}
    cells, before = [], set()
    for cell in notebook.cells:
        needs = {tag.removeprefix("needs-") for tag in cell.metadata.get("tags", ()) if tag.startswith("needs-")}
        missing = needs - available
        if not missing:
            cells.append(cell)
        elif not missing <= before:
            absent = [
                text
                for name in sorted(missing)
                if (text := NEEDS.get(name, f"labels of {name}" + " like UTKFace's" * (name in learned)))
            ]
            text = f"*Skipped: this run has no {' or '.join(absent)}.*"
            cells += [nbformat.v4.new_markdown_cell(text, id=cell.id)] if absent else []
        before = missing
    return nbformat.from_dict({**notebook, "cells": cells})


def executed_notebooks(run: RunFolder) -> list[Path]:
    """The executed notebooks of a run, in order; a FacelibError if there is none."""
    paths = [run.path / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    if not (found := [path for path in paths if path.exists()]):
        raise FacelibError(f"run {run.name!r} has no executed notebook: run `facelib run --run {run.name}` first")
    return found
