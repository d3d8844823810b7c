"""The command `facelib`: run, train, restore, audit, predict, evaluate, formats, report, slides, fetch, doctor."""

import atexit
import contextlib
import functools
import gc
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from facelib.errors import FacelibError, NotebookFailed, UnknownSetting

app = typer.Typer(
    help="A reference analysis of age, gender and ethnicity prediction from faces. For research on data sets and "
    "models; not for deciding about a person.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Data = Annotated[
    list[str] | None, typer.Option(help="Labelled faces, in a form of `facelib formats`; may be repeated.")
]
Images = Annotated[
    list[str] | None, typer.Option(help="Folder that a table's paths are relative to; one for each --data.")
]
LabelMap = Annotated[
    list[str] | None,
    typer.Option(
        "--labels", metavar="MAP", help="Label map (docs/data.md): YAML file or one line; one for each --data."
    ),
]
Attributes = Annotated[str, typer.Option(help="Attributes to use, such as age,expression: any columns of classes.")]
FindFaces = Annotated[bool, typer.Option("--faces/--no-faces", help="Search every image for a face, 30 ms each.")]
Align = Annotated[
    bool, typer.Option("--align", help="Find and align the largest face of each image; not for UTKFace or its CSV.")
]
RunName = Annotated[str, typer.Option("--run", help="Name of the run folder below runs/; the profile's, else demo.")]


def show_version(wanted: bool) -> None:
    """Print the installed version and exit."""
    if wanted:
        from importlib.metadata import version

        say(f"facelib {version('facelib')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of all commands."""
    if debug:
        os.environ["FACELIB_DEBUG"] = "1"


say = functools.partial(print, flush=True)  # one line of progress


def data_sets(data: list[str] | None, images: list[str] | None, labels: list[str] | None) -> list:
    """The data sets that a command names; folders and label maps are one for all, or one for each, empty for none.

    Raises
    ------
    UnknownSetting
        If their numbers differ.
    """
    from facelib.data.label_maps import map_text, parse_map
    from facelib.runs import DataSet

    data, columns = data or [], {"--images": images or [""], "--labels": labels or [""]}
    for option, values in columns.items():
        if len(values) not in (1, len(data)):
            raise UnknownSetting(
                f"{option} is given {len(values)} times and --data {len(data)} times: give one for each"
            )
    images, labels = (values * len(data) if len(values) == 1 else values for values in columns.values())
    texts = [map_text(given) for given in labels]
    for text in filter(None, texts):
        parse_map(text)
    return [DataSet(*each) for each in zip(data, images, texts, strict=True)]


def attribute_names(given: str) -> list[str]:
    """The names in an option such as `age,expression`."""
    return given.replace(",", " ").split()


@app.command("run")
def run_notebooks(
    data: Data = None,
    labels: LabelMap = None,
    attributes: Attributes = "",
    profile: Annotated[str, typer.Option(help="smoke, demo, quick or full.")] = "",
    run: RunName = "",
    first: Annotated[str, typer.Option("--from", help="Run this notebook and all later ones again.")] = "",
    last: Annotated[str, typer.Option("--to", help="Stop after this notebook.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin the run folder anew.")] = False,
    images: Images = None,
    protocol: Annotated[
        Path | None, typer.Option(help="Folder with train.csv and test.csv that name files: train and test by them.")
    ] = None,
    align: Align = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", metavar="KEY VALUE", help="A setting or notebook parameter; may be repeated."),
    ] = None,
) -> None:
    """Run the notebooks into a run folder, resuming where an earlier call stopped, and render the report.

    Without --data it draws synthetic faces; several data sets are trained on together.
    """
    from facelib import pipeline
    from facelib.reporting.site import build_report
    from facelib.runs import RunFolder
    from facelib.schema import NOTEBOOKS

    given = dict(pair.split("=", 1) for pair in parameter or []) | ({"align": "true"} if align else {})
    settings, parameters = pipeline.split_parameters(given)
    settings |= {"attributes": attributes} if attributes else {}
    again, end = (pipeline.numbered(number) if number else "" for number in (first, last))
    if end and again > end:
        raise UnknownSetting(f"--from {again} is after --to {end}: exchange them")
    read_again = again == NOTEBOOKS[0]
    given = data_sets(data, images, labels)
    with pipeline.prepared(run, profile, given, protocol, settings, fresh, read_again) as folder:
        split = f", split as in {folder.protocol['name']}" if folder.protocol else ""
        source = " and ".join(each.path for each in folder.data_sets) or "synthetic faces"
        say(f"run {folder.name}: profile {folder.settings.profile}, {source}{split}")
        for note in folder.params["data"].get("notes", ()):
            complain(note)
        longest = pipeline.execute(folder, first, last, parameters, say)
        if longest:
            say("longest: " + "; ".join(f"{step.text} {step.seconds:.0f} s" for step in longest))
        folder = RunFolder(folder.path)  # the notebooks have added to its parameters
        say(f"report: {build_report(folder, pipeline.executed_notebooks(folder))}")


@app.command()
def train(run: Annotated[str, typer.Argument(help="Name of the run folder below runs/.")]) -> None:
    """Train a run's network before notebook 03, also under torchrun; notebook 03 then loads it.

    The run needs notebooks 01 and 02: `facelib run --to 02`. Afterwards `facelib run` resumes.
    """
    # The name is not an option here: torchrun would take `--run` for its own `--run-path`.
    from facelib import pipeline, runs
    from facelib.audit.decisions import load_training
    from facelib.prediction.assemble import train_run

    folder = runs.open_run(run)
    first = int(os.environ.get("RANK", 0)) == 0  # of the processes that torchrun started
    with pipeline.locked(folder.path) if first else contextlib.nullcontext():
        _, history = train_run(folder, *load_training(folder))
    if first:
        say(f"trained {len(history)} epochs: resume with `facelib run --run {folder.name} --from 03`")


@app.command()
def restore(
    folder: Annotated[Path | None, typer.Argument(help="A published run; the reference by default.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="The labelled faces that it was made from; each, if there were several.")
    ] = None,
    run: Annotated[str, typer.Option("--run", help="Name of the new run folder; the published folder's.")] = "",
    images: Images = None,
) -> None:
    """Make a run folder from a published run, on which notebooks 05 to 09 open without any training.

    Without --data only those parts open that need none of its photographs: 05, 06, and 09 up to its last study.
    """
    from facelib import runs
    from facelib.publication.restore import restore_run

    source = (folder or runs.published_run()).resolve()
    name, _ = runs.run_name(run or source.name)
    restored = restore_run(source, runs.runs_root() / name, data_sets(data, images, None), say)
    say(f"run {name}, {restored.params['restored']}: `make lab RUN={name}`, or `facelib run --run {name}` from 05 on")


@app.command()
def audit(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the tables and index.html, which shows them.")],
    labels: LabelMap = None,
    attributes: Attributes = "",
    split: Annotated[Path | None, typer.Option(help="Folder with train.csv and test.csv that name files.")] = None,
    images: Images = None,
    network: Annotated[
        bool, typer.Option("--network/--no-network", help="Find persons and score labels, by a face network.")
    ] = True,
    faces: FindFaces = False,
    align: Align = False,
    cluster: Annotated[str, typer.Option(help="Address of a dask scheduler for the work on images.")] = "",
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Put pictures of the faces to decide about into the page.")
    ] = False,
) -> None:
    """Find copies, persons, leaks, doubtful labels and poor images of any labelled faces, without a run.

    A face-recognition network takes most of the time; --no-network leaves out what needs it. The page index.html shows
    the tables, and takes a reader's decisions.
    """
    from facelib.audit.report import Audit
    from facelib.reporting.audit_page import write_page

    sets, names = data_sets(data, images, labels), attribute_names(attributes)
    done = Audit(sets, out, split, network, faces, cluster, names, align)
    for line in done:
        say(line)
    say(f"page: {write_page(done, show_faces)}")


@app.command()
def predict(
    photos: Annotated[list[Path], typer.Argument(help="Photographs, or folders: every image below them.")],
    run: Annotated[str, typer.Option("--run", help="Name of a finished run; none: the published predictor.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per face.")] = False,
    table: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", dir_okay=False, help="Write a table of all faces in place of the lines."),
    ] = None,
    crops: Annotated[bool, typer.Option("--crops", help="The pictures are aligned faces: search nothing.")] = False,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Write photographs with boxes and answers into a folder."),
    ] = None,
    ethnicity: Annotated[
        bool, typer.Option("--ethnicity", help="Add sensitive attributes: the probabilities of ethnicity labels.")
    ] = False,
) -> None:
    """Age with a 90 % interval, the probability of each class, and the face's box, for each face found.

    Where no face is found, nothing is predicted. Faces far from the training faces are flagged as out of distribution.
    What is unreadable or left out of a folder is named on stderr; the exit code is 2 only if nothing can be read. For
    illustration and research; not for deciding about a person.
    """
    atexit.register(gc.freeze)  # the process ends then, and nothing needs to be collected
    with uncollected():
        from tqdm import tqdm

        from facelib import runs
        from facelib.formats import write_csv
        from facelib.prediction import Predictor
        from facelib.prediction.answers import draw_faces, faces_table
        from facelib.prediction.photos import list_photos, predict_photos, read_turned, sensitive_caveat
        from facelib.storage import atomic_path, check_writable

        path = runs.published_predictor() if not run else runs.open_run(run).path
        predictor = Predictor.load(path)
    for folder in (table and table.parent, draw):
        if folder:
            check_writable(folder)  # before the work
    if predictor.synthetic:
        print("trained on drawn faces: predictions for photographs mean nothing", file=sys.stderr)
    if ethnicity:
        print(sensitive_caveat(path, predictor.attributes), file=sys.stderr)
    elif all(attribute.sensitive for attribute in predictor.attributes):
        print("only sensitive attributes were trained: they are predicted with --ethnicity", file=sys.stderr)
    files, left_out = list_photos(photos)
    for reason in left_out:
        complain(reason)
    answers, unreadable = [], 0
    photographs = predict_photos(files, predictor, ethnicity, crops)
    for number, photo in enumerate(watched(photographs, len(files))):
        with tqdm.external_write_mode():  # above the bar, where there is one
            if photo.reason:
                complain(photo.reason)
                unreadable += 1
                continue
            for face in photo.answers if as_json or not table else []:
                say(json.dumps(face.to_dict(distribution=True)) if as_json else one_line(str(face)))
        answers += [face.to_dict() for face in photo.answers]
        if draw:
            with atomic_path(draw / f"{number:04}_{photo.path.stem}.jpg") as partial:
                draw_faces(read_turned(photo), photo.faces).save(partial, quality=90)
    if unreadable == len(files):
        raise typer.Exit(2)
    if table:
        write_csv(faces_table(answers), table)
    if table or left_out or len(files) > 1:
        print(summary(answers, len(files), unreadable, len(left_out)), file=sys.stderr)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage meanwhile: imports make many objects, which all stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def watched(photographs: Iterable, total: int) -> Iterator:
    """The same photographs, with a progress bar on a terminal and a line every hundred in a log."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    bar = tqdm(photographs, unit="photo", total=total, leave=False, disable=not terminal or total < 2)
    for number, photograph in enumerate(bar):
        if number and number % 100 == 0 and not terminal:
            print(f"{number:,} of {total:,} photographs", file=sys.stderr, flush=True)
        yield photograph


def summary(answers: list[dict], photographs: int, unreadable: int, left_out: int) -> str:
    """Numbers of photographs and faces, of what was left out, and of predictions that should not be relied on."""
    faces = [answer for answer in answers if answer["face_found"]]
    return (
        f"{photographs:,} photographs, {unreadable:,} unreadable, {len(answers) - len(faces):,} without a face found; "
        f"{len(faces):,} faces; {sum(face.get('out_of_distribution', False) for face in faces):,} out of distribution; "
        f"{left_out:,} other files and folders left out"
    )


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="Labelled faces, in a form of `facelib formats`; any may be missing.")],
    out: Annotated[Path, typer.Option(help="Folder for results.json and the tables.")] = Path("evaluation"),
    labels: LabelMap = None,
    run: RunName = "",
    images: Images = None,
    faces: FindFaces = False,
    align: Align = False,
) -> None:
    """Evaluate a trained run on other labelled faces, cropped like its own, and report how far the two differ."""
    from facelib import runs
    from facelib.evaluation.external_validation import evaluate_table

    (given,) = data_sets([data], images, labels)
    for line in evaluate_table(runs.open_run(run), given.resolved(), out, faces, align):
        say(line)


@app.command()
def formats() -> None:
    """List the forms of labelled faces that --data takes, and where their terms stand."""
    from facelib.data.published import ALL_FORMS

    for form in ALL_FORMS:
        seen = "" if form.seen else "; tested on its form alone"
        say(f"{form.about}{seen}\n    recognised by {form.recognised}\n    {form.terms}")
        for labels in filter(None, (form.labels, *form.choices, form.further)):
            say(f'    --labels "{labels}"')


@app.command()
def report(
    run: RunName = "",
    show_faces: Annotated[bool, typer.Option("--show-faces", help="Show real faces, for local use only.")] = False,
) -> None:
    """Rebuild a run's report from its tables and executed notebooks."""
    from facelib import pipeline, runs
    from facelib.reporting.site import build_report

    folder = runs.open_run(run)
    say(f"report: {build_report(folder, pipeline.executed_notebooks(folder), show_faces)}")


@app.command()
def slides(
    run: RunName = "",
    out: Annotated[Path, typer.Option(help="The PDF to write.")] = Path("presentation.pdf"),
) -> None:
    """Typeset the slides from a run's results and figures."""
    from facelib import runs
    from facelib.reporting.slides import build_slides

    say(f"slides: {build_slides(runs.open_run(run), out)}")


@app.command()
def doctor() -> None:
    """Say what is missing or slow on this machine."""
    from facelib.doctor import findings

    for state, topic, text in findings():
        say(f"{state:8} {topic:24} {text}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="utkface or utkface-csv.")],
    to: Annotated[Path | None, typer.Option(help="Folder to put it in; data/raw by default.")] = None,
    archive: Annotated[Path | None, typer.Option(help="A downloaded .zip or .tar file to unpack instead.")] = None,
) -> None:
    """Download a public data set from Kaggle; its own terms apply (non-commercial research)."""
    from facelib.data.fetch import fetch_dataset
    from facelib.runs import project_root

    say(f"data: {fetch_dataset(name, to or project_root() / 'data' / 'raw', archive)}")


def join_pairs(arguments: list[str]) -> list[str]:
    """`-p KEY VALUE` as `-p KEY=VALUE`, since typer's repeated options take one word each.

    FacelibError if a key has no value.

    Examples
    --------
    >>> join_pairs(["run", "-p", "epochs", "3", "--fresh"])
    ['run', '-p', 'epochs=3', '--fresh']
    """
    words, joined = iter(arguments), []
    for word in words:
        joined.append(word)
        if word == "-p":
            key = next(words, "")
            value = None if "=" in key else next(words, None)
            if "=" not in key and (value is None or value.startswith("--")):
                raise FacelibError("-p takes a key and a value")
            joined.append(key if value is None else f"{key}={value}")
    return joined


def main() -> None:
    """Entry point: an error that a user can cause is one line on stderr.

    Exit code 2 is for usage and input errors, 1 for a failed notebook and an interrupted command.
    """
    warnings.filterwarnings("ignore", module="PIL")  # faults of photographs are rows of rejected.csv
    # joblib's, where a search is stopped early
    warnings.filterwarnings("ignore", r"\d+ tasks (which were still being processed|have been successfully executed)")
    os.environ["PYTHONSAFEPATH"] = "1"  # child processes import nothing from the working directory
    try:
        sys.exit(app(join_pairs(sys.argv[1:]) or ["--help"], standalone_mode=False))
    except (FacelibError, TyperException, OSError) as error:
        if os.environ.get("FACELIB_DEBUG"):
            raise
        refuse(*sentence(error))
    except (KeyboardInterrupt, typer.Abort):
        refuse("stopped; repeat the command to resume a run", 1)


def sentence(error: Exception) -> tuple[str, int]:
    """The message of an error, and the exit code: 2 for what a user can fix in the call or the data, else 1."""
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        command = f"facelib {context.info_name}" if context and context.parent else "facelib"
        return f"{error.format_message().rstrip('.')}: see {command} --help", 2
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}: fix this and rerun the command", 1
    # A failed notebook is not a usage error.
    return str(error), 1 if isinstance(error, NotebookFailed) else 2


def one_line(text: str) -> str:
    """A text on one line of printable characters; others become escapes."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line)


def complain(reason: str) -> None:
    """Print a reason on one line of stderr."""
    print("facelib: " + one_line(reason), file=sys.stderr)


def refuse(reason: str, code: int) -> None:
    """Print a reason and exit."""
    complain(reason)
    sys.exit(code)


if __name__ == "__main__":
    main()
