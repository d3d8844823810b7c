"""The pipeline: notebooks in order, stopped at the first failure, resumed once it is fixed."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event

import nbformat
import pandas as pd
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat import v4

from facelib import pipeline
from facelib.errors import FacelibError, NotebookFailed, RunConflict, UnknownSetting
from facelib.pipeline import (
    discard,
    executed_notebooks,
    locked,
    notebook_parameters,
    notebook_path,
    numbered,
    split_parameters,
)
from facelib.runs import RunFolder, project_root, start_run
from facelib.schema import AGE, BRANCHES, GENDER, NOTEBOOKS, UTKFACE_ATTRIBUTES, WRITES, ClassAttribute, named

PARAMETERS = 'run = ""  # name of the run folder'


@pytest.fixture
def run(empty_runs) -> RunFolder:
    """A run whose faces have been read."""
    run = start_run("small", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    return run


# --- names and parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [("3", "03_train_multitask"), ("03", "03_train_multitask"), ("09_external_photos", "09_external_photos")],
)
def test_a_notebook_is_known_by_its_number_or_name(given, name):
    assert numbered(given) == name


@pytest.mark.parametrize("given", ["0", "10", "12", "03_train", "train", "-1"])
def test_an_unknown_number_says_which_there_are(given):
    with pytest.raises(UnknownSetting, match=f"no notebook '{given}': choose 01 to 09"):
        numbered(given)


def test_pairs_are_split_into_settings_and_notebook_parameters():
    given = {"epochs": "3", "show_faces": "true", "seed": "1", "photos": "x.jpg"}
    assert split_parameters(given) == ({"epochs": "3", "seed": "1"}, {"show_faces": True, "photos": "x.jpg"})
    assert split_parameters({}) == ({}, {})


@pytest.mark.parametrize("key", ["epoch", "run", "profile", "data", "Epochs", ""])
def test_an_unknown_key_is_refused_with_those_that_exist(key):
    with pytest.raises(UnknownSetting, match=rf"parameter '{key}': choose one of .*epochs.*photos"):
        split_parameters({key: "3"})


# --- labels that a run does not have ----------------------------------------------------------------------


def tagged_notebook() -> nbformat.NotebookNode:
    """A heading, and code that needs nothing, age, age (again), any classes, and both gender and age."""
    tags = ([], ["needs-age"], ["needs-age"], ["needs-classes"], ["needs-gender", "needs-age"])
    cells = [v4.new_code_cell(f"cell {k}", metadata={"tags": list(some)}) for k, some in enumerate(tags)]
    return v4.new_notebook(cells=[v4.new_markdown_cell("## Heading"), *cells])


@pytest.mark.parametrize(
    ("learned", "expected"),
    [
        (("age", "gender", "ethnicity"), ["cell 0", "cell 1", "cell 2", "cell 3", "cell 4"]),
        (("age", "ethnicity"), ["cell 0", "cell 1", "cell 2", "cell 3", "gender"]),
        (("gender",), ["cell 0", "age", "cell 3", "age"]),
        (("age",), ["cell 0", "cell 1", "cell 2", "classes", "gender"]),
    ],
)
def test_cells_for_what_a_run_does_not_learn_are_left_out_and_named(run, learned, expected):
    run.set_attributes(UTKFACE_ATTRIBUTES, named(UTKFACE_ATTRIBUTES, learned))
    notebook = tagged_notebook()
    fitting = pipeline.leave_out(notebook, run)
    nbformat.validate(fitting)
    assert len(fitting.cells) == len(expected) + 1
    for cell, text in zip(fitting.cells[1:], expected, strict=True):
        assert cell.source == text if text.startswith("cell") else text in cell.source and cell.cell_type == "markdown"
    assert len(notebook.cells) == 6  # the source stays whole


def test_cells_that_name_classes_are_left_out_of_a_run_with_other_classes(run):
    other, marked = ClassAttribute("ethnicity", "Ethnicity", ("Asian", "White")), replace(GENDER, sensitive=True)
    run.set_attributes([marked, other], [marked, other])
    cells = [v4.new_code_cell(tag, metadata={"tags": [f"needs-{tag}"]}) for tag in ("gender", "classes", "ethnicity")]
    texts = [cell.source for cell in pipeline.leave_out(v4.new_notebook(cells=cells), run).cells]
    assert texts == ["gender", "classes", "*Skipped: this run has no labels of ethnicity like UTKFace's.*"]


def test_only_known_needs_are_tagged():
    tags = {tag for name in NOTEBOOKS for cell in cells_of(name) for tag in cell.metadata.get("tags", [])}
    needs = {f"needs-{attribute.name}" for attribute in UTKFACE_ATTRIBUTES}
    needs |= {f"needs-{need}" for need in pipeline.NEEDS}
    assert tags <= {"parameters", *needs} and {"parameters", "needs-age", "needs-years", "needs-sources"} <= tags


def test_bands_of_ages_have_the_cells_of_ages_but_not_those_of_years(run):
    run.set_attributes([replace(AGE, bands=((0, 2), (3, 9)))], [AGE])
    cells = [v4.new_code_cell(tag, metadata={"tags": [f"needs-{tag}"]}) for tag in ("age", "years", "sources")]
    texts = [cell.source for cell in pipeline.leave_out(v4.new_notebook(cells=cells), run).cells]
    assert texts == ["age", "*Skipped: this run has no ages in years.*"]  # one data set is nothing to tell


def test_a_run_with_nothing_to_learn_is_refused(run):
    run.set_attributes(UTKFACE_ATTRIBUTES, ())
    with pytest.raises(UnknownSetting, match="'small' has nothing to learn"):
        pipeline.execute(run, say=lambda line: None)


@pytest.fixture
def blank(monkeypatch) -> list[str]:
    """Notebooks are executed as empty ones; the list gathers their names."""
    made = []

    def write(source: str, out: str, **_) -> None:
        made.append(Path(source).stem)
        nbformat.write(v4.new_notebook(), out)

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", write)
    monkeypatch.setattr(pipeline, "AT_ONCE", 1)  # in this process
    return made


def test_what_is_forgotten_is_run_again(run, blank):
    """A notebook that is run by hand forgets what follows from it; the next `facelib run` makes that anew."""
    pipeline.execute(run, say=lambda line: None)
    run.forget(NOTEBOOKS[6:])
    blank.clear()
    pipeline.execute(run, say=lambda line: None)
    assert blank == list(NOTEBOOKS[6:])


def test_each_notebook_is_noted_with_the_package_that_ran_it(run, blank, monkeypatch):
    """The package may change during a long run: the next notebook's process reads it as it is then."""
    states = iter(["before", "after"])
    monkeypatch.setattr(pipeline, "package_fingerprint", lambda: next(states))
    pipeline.execute(run, last="02", say=lambda line: None)
    assert [facts.package for facts in pipeline._load_finished(run).values()] == ["before", "after"]


def test_decisions_made_after_the_cleaning_are_pointed_out(run, blank):
    def decide(*actions: str) -> None:
        rows = [{"image_id": f"{k}.jpg", "issue": "age", "action": action} for k, action in enumerate(actions)]
        run.save_table(pd.DataFrame(rows), "decisions.csv")

    def said() -> list[str]:
        lines = []
        pipeline.execute(run, last="02", say=lines.append)
        return [line for line in lines if "decisions.csv has changed since: --from 02" in line]

    decide("", "")
    assert said() == []
    decide("")  # another proposal decides nothing
    assert said() == []
    decide("", "drop")
    (line,) = said()
    assert line.startswith("02_clean  finished earlier")
    pipeline.execute(run, first="02", last="02", say=lambda line: None)
    assert said() == []
    run.table_path("decisions.csv").write_text('image_id,issue,action\n"' + "x" * 200_000, encoding="utf-8")
    assert len(said()) == 1  # a damaged file is for the notebook to report


# --- the faces are read once, before the notebooks --------------------------------------------------------


@pytest.mark.slow
def test_a_run_begins_with_its_faces_and_an_existing_one_is_not_read_again(drawn_faces, monkeypatch):
    read = []
    ingest = pipeline.ingest
    monkeypatch.setattr(pipeline, "ingest", lambda run, source=None: (read.append(run.name), ingest(run, source)))
    for again in (False, False, True):
        with pipeline.prepared("drawn", "smoke", settings=drawn_faces, read_again=again) as run:
            assert len(run.load_table("faces")) == 200 and run.learned == UTKFACE_ATTRIBUTES
    assert read == ["drawn", "drawn"]


def test_unusable_data_is_refused_before_anything_is_removed(run, tmp_path):
    run.save_table(pd.DataFrame({"image_id": ["a"]}), "faces")
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(FacelibError, match="holds no usable face"),
        pipeline.prepared("small", "smoke", str(tmp_path / "empty"), fresh=True),
    ):
        pass
    assert run.table_path("faces").exists()


# --- the notebooks as they are kept -----------------------------------------------------------------------


def cells_of(name: str) -> list:
    notebook = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


def test_the_folder_holds_the_notebooks_that_run_and_no_others():
    assert sorted(path.stem for path in (project_root() / "notebooks").glob("*.ipynb")) == sorted(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_one_cell_of_parameters_which_names_the_run(name):
    tagged = [cell for cell in cells_of(name) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and tagged[0].cell_type == "code"
    values = {}
    exec(tagged[0].source, values)
    assert values["run"] == ""
    assert "run" in notebook_parameters()[name]
    # IPython takes a first line such as `run: str` for its command %run.
    assert not any(cell.source.startswith(("run:", "run ?")) for cell in cells_of(name))
    first = tagged[0].source.splitlines()[0]
    assert ":" not in first.partition("=")[0]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_parameter_has_a_comment(name):
    (cell,) = (cell for cell in cells_of(name) if "parameters" in cell.metadata.get("tags", []))
    assert all("  # " in line for line in cell.source.splitlines() if line.strip())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_without_outputs(name):
    for cell in cells_of(name):
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_short_cells_without_definitions_and_opens_with_a_title(name):
    cells = cells_of(name)
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    for cell in cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert len(lines) <= 12, lines[0]
            assert not any(line.startswith(("class ", "def ")) for line in lines)


# --- the lock ---------------------------------------------------------------------------------------------

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_killed_one_does_not_block(run):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunConflict, match="'small' is being written by another process"), locked(run.path):
            pass
        assert (run.path / "params.yaml").exists()
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    assert (run.path / ".lock").exists()
    with locked(run.path):
        pass
    assert not (run.path / ".lock").exists()


def test_whoever_holds_the_lock_holds_it_alone(run):
    with locked(run.path), pytest.raises(RunConflict, match="another process"), locked(run.path):
        pass


def test_the_lock_is_let_go_after_an_error(run):
    with pytest.raises(ZeroDivisionError), locked(run.path):
        raise ZeroDivisionError
    with locked(run.path):
        pass


def test_a_fresh_start_keeps_what_a_person_decided_and_how_often_the_test_split_was_read(run):
    decided = pd.DataFrame({"image_id": ["a.jpg"], "issue": ["quality"], "action": ["drop"]})
    run.save_table(decided, "decisions.csv")
    run.save_table(decided, "other.csv")
    run.log_test_read("05_evaluate", ["a.jpg"])
    readings = (run.path / "test_reads.csv").read_text()
    discard(run.path)
    assert sorted(str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()) == [
        "tables/decisions.csv",
        "test_reads.csv",
    ]
    assert (run.path / "test_reads.csv").read_text() == readings and "05_evaluate" in readings
    pd.testing.assert_frame_equal(run.load_table("decisions.csv"), decided)


def test_only_run_folders_are_discarded(run, tmp_path):
    precious = tmp_path / "photographs"
    precious.mkdir()
    (precious / "a.jpg").touch()
    with pytest.raises(RunConflict, match="is not a run folder and is not removed"):
        discard(precious)
    assert (precious / "a.jpg").exists()
    discard(run.path)
    assert list(run.path.iterdir()) == []
    discard(run.path)  # nothing there, nothing to do


# --- running and resuming ---------------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path, monkeypatch) -> Path:
    """A folder of two small notebooks that take the place of the project's."""
    folder = tmp_path / "sources"
    folder.mkdir()
    monkeypatch.setattr(pipeline, "NOTEBOOKS", ("01_first", "02_second"))
    monkeypatch.setattr(pipeline, "notebook_path", lambda name: folder / f"{name}.ipynb")
    monkeypatch.setattr(pipeline, "package_fingerprint", lambda: "unchanged")
    return folder


def write_notebook(path: Path, parameters: str, *codes: str) -> None:
    """A notebook that notes each of its runs in a file below the run folder."""
    note = (
        "import os\nfrom pathlib import Path\nfolder = Path(os.environ['FACELIB_RUNS']) / run\n"
        f"with (folder / 'log.txt').open('a') as log:\n    log.write('{path.stem[:2]} ' + run + '\\n')"
    )
    cells = [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), v4.new_code_cell(note)]
    notebook = v4.new_notebook(cells=cells + [v4.new_code_cell(code) for code in codes])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def log_of(run: RunFolder) -> list[str]:
    return (run.path / "log.txt").read_text().split("\n")[:-1]


@pytest.mark.slow
def test_a_failure_stops_the_run_and_once_fixed_only_the_rest_is_run(run, sources):
    write_notebook(sources / "01_first.ipynb", PARAMETERS, "1 + 1")
    write_notebook(sources / "02_second.ipynb", PARAMETERS, "answer = 1\nanswer / 0")
    said = []
    # The fourth that was executed: the run's own parameters are a cell of their own.
    message = r"02_second, cell 4, which begins 'answer = 1': ZeroDivisionError: division by zero"
    with pytest.raises(NotebookFailed, match=message):
        pipeline.execute(run, say=said.append)
    assert log_of(run) == ["01 small", "02 small"]
    assert len(said) == 1 and said[0].startswith("01_first  4 cells")
    failed = nbformat.read(run.path / "notebooks" / "02_second.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in failed.cells for output in cell.get("outputs", []))

    write_notebook(sources / "02_second.ipynb", PARAMETERS, "answer = 1")
    said.clear()
    steps = pipeline.execute(run, say=said.append)
    assert steps and {step.text[:2] for step in steps} == {"02"}  # of what was executed
    assert log_of(run) == ["01 small", "02 small", "02 small"]  # the first is not run again
    assert said[0] == "01_first  finished earlier" and said[1].startswith("02_second")
    assert [path.stem for path in executed_notebooks(run)] == ["01_first", "02_second"]

    said.clear()
    assert pipeline.execute(run, say=said.append) == []
    assert len(log_of(run)) == 3 and all("finished earlier" in line for line in said)

    pipeline.execute(run, first="1", last="1", say=said.append)  # what follows is unfinished again
    assert log_of(run)[3:] == ["01 small"]
    pipeline.execute(run, say=said.append)
    assert log_of(run)[3:] == ["01 small", "02 small"]


@pytest.mark.slow
def test_a_changed_package_is_reported_and_parameters_reach_the_notebooks_that_have_them(run, sources, monkeypatch):
    write_notebook(sources / "01_first.ipynb", PARAMETERS)
    write_notebook(
        sources / "02_second.ipynb",
        PARAMETERS + "\nproposals = 500  # at most",
        "(folder / 'proposals.txt').write_text(repr(proposals))",
    )
    pipeline.execute(run, parameters={"proposals": 7}, say=lambda line: None)
    assert (run.path / "proposals.txt").read_text() == "7"
    monkeypatch.setattr(pipeline, "package_fingerprint", lambda: "another")
    said = []
    pipeline.execute(run, say=said.append)
    assert said == [
        f"{name}  finished earlier; the package has changed since: --from {name[:2]}"
        for name in ("01_first", "02_second")
    ]


@pytest.fixture
def threads(monkeypatch) -> None:
    """Threads take the place of processes, so that tests can replace what these execute."""
    monkeypatch.setattr(pipeline, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))
    monkeypatch.setattr(pipeline, "AT_ONCE", 2)


def test_branches_run_two_at_once_and_what_comes_before_them_one_after_the_other(run, blank, threads, monkeypatch):
    write, both = pipeline.papermill.execute_notebook, Barrier(2)
    first = list(BRANCHES)[:2]

    def meet(source: str, out: str, **kwargs) -> None:
        if Path(source).stem in first:
            both.wait(timeout=30)  # passes where a second one runs meanwhile
        write(source, out, **kwargs)

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", meet)
    said = []
    pipeline.execute(run, say=said.append)
    assert [line.split()[0] for line in said[:4]] == blank[:4] == list(NOTEBOOKS[:4])
    assert sorted(blank[4:]) == sorted(BRANCHES) == list(NOTEBOOKS[4:])
    assert list(pipeline._load_finished(run)) == list(NOTEBOOKS)  # in order, whichever finished first

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", write)
    blank.clear()
    pipeline.execute(run, first="09", say=said.append)
    assert blank == ["09_external_photos"]
    blank.clear()
    run.forget(["06_groups"])
    pipeline.execute(run, say=said.append)
    assert blank == ["06_groups", "09_external_photos"]  # which reads it, as the others do not


@pytest.mark.parametrize("name", BRANCHES)
def test_a_notebook_that_reads_another_ones_results_waits_for_it(name):
    """What a branch leaves is named by no other, but for the errors that are told beside predicted photographs."""
    rooms = [path for room in ("audit", "evaluation", "explain", "models", "plots", "prediction")
             for path in (project_root() / "facelib" / room).glob("*.py")]  # fmt: skip
    left = [f'"{name}"', ".results()", ".findings()", *(f'load_table("{Path(file).stem}' for file in WRITES[name])]
    texts = {path: path.read_text("utf-8").replace('\\"', '"') for path in rooms + list(map(notebook_path, BRANCHES))}
    readers = {path.stem for path, text in texts.items() if any(each in text for each in left)} - {name}
    readers -= {"external_validation"}  # of `facelib evaluate`
    assert readers == ({"photos"} if name in BRANCHES["09_external_photos"] else set())
    assert {path.stem for path, text in texts.items() if "facelib.prediction import photos" in text} == {
        "09_external_photos"
    }


def test_after_a_failure_what_runs_is_finished_and_nothing_else_is_begun(run, blank, threads, monkeypatch):
    write, told = pipeline.papermill.execute_notebook, Event()

    def fail(source: str, out: str, **kwargs) -> None:
        write(source, out, **kwargs)
        if Path(source).stem == "08_explain":
            raise DeadKernelError
        if Path(source).stem == "05_evaluate":
            assert told.wait(timeout=30)

    def say(line: str) -> None:
        if line == "08_explain  failed; what runs beside it is finished first":
            told.set()

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", fail)
    with pytest.raises(NotebookFailed, match="08_explain: the kernel died"):
        pipeline.execute(run, say=say)
    finished = pipeline._load_finished(run)
    assert set(blank[4:]) == {"08_explain", "05_evaluate"} and list(finished)[4:] == ["05_evaluate"]


@pytest.mark.slow
@pytest.mark.skipif(pipeline.CORES < 2, reason="one core runs one notebook at a time")
def test_failures_of_notebooks_in_processes_of_their_own_are_told(run):
    said, done = [], []
    with pytest.raises(NotebookFailed, match=r"(?s)^0[58]_e.*, cell \d.*MissingFromRun"):
        pipeline._execute_at_once(run, {name: {} for name in BRANCHES}, lambda *one: done.append(one), said.append)
    assert {path.name[:2] for path in (run.path / "notebooks").iterdir()} == {"05", "08"} and done == []
    assert sorted(line[:2] for line in said) == ["05", "08"] and all("failed" in line for line in said)


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "threads"), [("", "3"), ("7", "7")])
def test_a_process_has_its_threads_unless_the_caller_chose_how_many(chosen, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    if not chosen:
        monkeypatch.delenv("OMP_NUM_THREADS")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=pipeline._share, initargs=(3,)) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == threads
        if os.name == "posix":  # Ctrl-C goes to the command alone
            assert pool.submit(os.getpgrp).result() != os.getpgrp()


@pytest.mark.slow
def test_a_killed_process_is_a_failed_notebook(run, monkeypatch):
    monkeypatch.setattr(pipeline, "_share", os._exit)  # its processes end as they begin
    with pytest.raises(NotebookFailed, match="process died"):
        pipeline._execute_at_once(run, {"05_evaluate": {}}, print, lambda line: None)


def test_running_from_a_notebook_on_forgets_all_that_follow(run, blank):
    pipeline.execute(run, say=lambda line: None)
    for name in NOTEBOOKS:
        run.notebook(name).save({})
    pipeline.execute(run, first="07", last="07", say=lambda line: None)
    finished, left = pipeline._load_finished(run), [path.stem for path in executed_notebooks(run)]
    assert list(finished) == left == list(NOTEBOOKS[:7])
    assert sorted(path.stem for path in (run.path / "metrics").iterdir()) == list(NOTEBOOKS[:6])


def test_a_step_is_named_by_its_notebook_and_heading(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# Train\n\nText."),
        nbformat.v4.new_code_cell("first", metadata={"papermill": {"duration": 2.5}}),
        nbformat.v4.new_markdown_cell("No heading."),
        nbformat.v4.new_code_cell("not executed"),
        nbformat.v4.new_markdown_cell("## Losses"),
        nbformat.v4.new_code_cell("second", metadata={"papermill": {"duration": 0.5}}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "03_train.ipynb")
    found = pipeline.timed_steps(tmp_path / "03_train.ipynb")
    assert found == [pipeline.Step("03 Train", 2.5), pipeline.Step("03 Losses", 0.5)]


def test_a_run_without_notebooks_says_how_to_make_them(run):
    with pytest.raises(FacelibError, match="'small' has no executed notebook: run `facelib run --run small` first"):
        executed_notebooks(run)
