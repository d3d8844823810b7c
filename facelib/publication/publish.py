"""A finished run made fit to be published: `python -m facelib.publication.publish RUN` fills reports/utkface.

What is published is laid out like a run folder: numbers, plots, averages, half-precision weights and the tables that
notebooks 05 to 09 read; no face of a person. Slides and report can be made from it, and `restore` makes a run folder of
it. With `--predictor` it is reports/faces that is filled: the network that `facelib predict` loads, and its numbers.
"""

import argparse
import ast
import json
import os
import shutil
import sys
from pathlib import Path

import jinja2
import nbformat
import numpy as np
import pandas as pd
import torch
import yaml
from markupsafe import Markup
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from facelib.data.ingest import load_images
from facelib.errors import FacelibError
from facelib.evaluation.headline import expected_keys, metrics_of
from facelib.finding import Finding, Findings, listed
from facelib.formats import read_json, write_json
from facelib.prediction.predictor import AGE_METHODS, Predictor
from facelib.publication import croissant
from facelib.publication.published_numbers import comparison_table
from facelib.reporting import findings
from facelib.reporting.figures import FRONT, SHOWN, stored
from facelib.reporting.site import TEMPLATES
from facelib.runs import (
    JOINT,
    PROGRESS,
    READINGS,
    REFERENCE,
    RunFolder,
    digest_of_faces,
    open_run,
    project_root,
    read_readings,
    write_readings,
)
from facelib.schema import AGE, NOTEBOOKS, ClassAttribute
from facelib.statistics import Estimate
from facelib.storage import atomic_path, write_text

# Parameters of notebooks that make them show single faces or name a reader's own photographs, and what they have to be.
PRIVATE = {"show_faces": False, "photos": ""}
PAGES = {"README.md": "published.md.j2", "model_card.md": "model_card.md.j2", "data_card.md": "data_card.md.j2"}
MIT = "https://spdx.org/licenses/MIT"
OF_AGE = "age_stages"  # a table and a network of runs that learn age
# What notebooks 05 to 09 read; the embeddings, of 24 MB, are computed anew.
TABLES = ("faces", "splits", "predictions", OF_AGE, "decisions.csv", "label_issues", "quality")
NETWORKS = ("model", OF_AGE)
ROUNDED_FACES = 500  # validation faces on which half precision is compared with single
MOST_ROUNDING = 0.1  # years or probability, on average
README_MEASURES = ("mae", "cs5", "interval_coverage", "mae_routed", "accuracy")


class UnfitToPublish(FacelibError):
    """A run that is unfinished, or that could show a person."""


def check_notebook(path: Path) -> None:
    """Raise UnfitToPublish for an executed notebook that could show single faces, or that is not finished.

    No cell may have failed or been skipped, no picture be attached, and no cell set a parameter in `PRIVATE` otherwise.
    """
    remedy = f"run it again, --from {path.name[:2]}"
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
        if cell.get("attachments"):
            raise UnfitToPublish(f"{path}, cell {number}, has a picture attached: {remedy}")
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None or any(output.output_type == "error" for output in cell.outputs):
            raise UnfitToPublish(f"{path}, cell {number}, did not run to its end: {remedy}")
        for name, value in _assigned(cell.source, path):
            if name in PRIVATE and value != PRIVATE[name]:
                raise UnfitToPublish(
                    f"{path}, cell {number}, sets {name} to {value!r} and could show single faces: {remedy} without it"
                )


def _assigned(source: str, path: Path) -> list[tuple[str, object]]:
    """Every name that a cell assigns, with the constant that it gets; `...` for anything but a constant."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UnfitToPublish(f"{path} has a cell that is not plain Python: run the notebook as shipped") from error
    constants = {
        id(target): node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
    }
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return [(node.id, constants.get(id(node), ...)) for node in stored]


def publish_notebook(path: Path, target: Path, hidden: dict[str, str]) -> None:
    """Write an executed notebook without times, and with the texts in `hidden`, such as folders, replaced."""
    notebook = nbformat.read(path, as_version=4)
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    kernel = {key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**kernel, "parameters": given})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {})
    write_text(target, _without(nbformat.writes(notebook), hidden) + "\n")


def _without(text: str, hidden: dict[str, str]) -> str:
    for name, instead in hidden.items():
        text = text.replace(json.dumps(name)[1:-1], instead)
    return text


def _machine_texts(run: RunFolder) -> dict[str, str]:
    """Folders of this machine that outputs may name, longest first, and what replaces them."""
    paths = [place for each in run.data_sets for place in (each.path, each.images)] + [run.protocol.get("path", "")]
    texts = {path: Path(path).name for path in paths if path}
    texts |= {str(run.path): f"runs/{run.name}", sys.prefix: ".venv", str(project_root()): ".", str(Path.home()): "~"}
    return dict(sorted(texts.items(), key=lambda pair: -len(pair[0])))


def made_by(run: RunFolder, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `TABLES` or `NETWORKS` that a run has: the age stages only where it learns age."""
    return tuple(name for name in names if name != OF_AGE or AGE in run.learned)


def halve(source: Path, target: Path) -> None:
    """Write a network's weights in half precision (float16); UnfitToPublish if it cannot hold one. The header stays."""
    with safe_open(source, framework="pt") as opened:
        header = opened.metadata()
    halved = {key: value.half() if value.is_floating_point() else value for key, value in load_file(source).items()}
    for key, value in halved.items():
        if not torch.isfinite(value).all():
            raise UnfitToPublish(f"{source}: {key} is too large for half precision: train again with weight decay")
    with atomic_path(target) as partial:
        save_file(halved, partial, metadata=header)


def publish_table(run: RunFolder, name: str, target: Path, hidden: dict[str, str]) -> None:
    """Write one of a run's tables, compressed.

    UnfitToPublish if it holds more than numbers and texts, or a text that names a folder of this machine.
    """
    table = run.load_table(name)
    for column in table.select_dtypes(exclude=["number", "bool"]):
        values = table[column].dropna()
        if pd.api.types.infer_dtype(values) not in ("string", "empty"):
            raise UnfitToPublish(f"{run.table_path(name)}: {column} holds more than text: run its notebook again")
        named = [text for text in values.unique() if os.path.isabs(text) or any(place in text for place in hidden)]
        if named:
            raise UnfitToPublish(
                f"{run.table_path(name)}: {column} names a folder of this machine: change {named[0]!r}"
            )
    with atomic_path(target / run.table_path(name).name) as partial:
        if name.endswith(".csv"):
            shutil.copy(run.table_path(name), partial)
        else:
            table.to_parquet(partial, index=False, compression="zstd", compression_level=12)


def measure_rounding(run: RunFolder, published: Path) -> dict:
    """How far half precision moves predictions of validation faces: their number, and mean and max by column.

    Compared with the run's predictions table, so that it holds for a run restored with half-precision weights, too.
    UnfitToPublish if a mean is above `MOST_ROUNDING`.
    """
    rows = np.flatnonzero(run.load_table("splits")["split"] == "validation")[:ROUNDED_FACES]
    faces, columns = run.load_table("faces"), [column for attribute in run.learned for column in attribute.columns]
    table = run.load_table("predictions").query("model == 'predictor'").set_index("image_id")
    before = table.loc[faces["image_id"].iloc[rows], columns].reset_index(drop=True)
    predictor, images = Predictor.load(published), load_images(run, faces)[rows]
    after = predictor.predictions(predictor.outputs(images), images, None)[columns]
    moved = (after - before).abs().agg(["mean", "max"]).dropna(axis=1)
    if (too_far := moved.loc["mean"] > MOST_ROUNDING).any():
        raise UnfitToPublish(f"half precision moves {too_far.idxmax()} by {moved.loc['mean'].max():.3f} on average")
    return {"faces": len(rows), **moved.to_dict()}


def versions(target: Path, faces: str = "") -> list[dict]:
    """The models published so far, oldest first: when they were tested, on which faces, with what result.

    `faces`, a `digest_of_test_faces`, leaves those tested on others out.
    """
    path = target / "versions.csv"
    published = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if path.exists() else []
    return [version for version in published if faces in ("", version["faces"])]


def digest_of_test_faces(run: RunFolder) -> str:
    """A digest of the names of a run's test faces."""
    splits = run.load_table("splits")
    return digest_of_faces(splits.loc[(splits["split"] == "test") & splits["representative"], "image_id"])


def lead_results(run: RunFolder) -> dict[str, Estimate]:
    """A run's test result in the first metric of each learned attribute, by key below `test.`."""
    results, keys = run.results(), (metrics_of(attribute)[0].key for attribute in run.learned)
    return {key: results[f"test.{key}"] for key in keys}


def add_version(run: RunFolder, target: Path) -> None:
    """Add a run to the list of published versions; the last one, tested again, is not listed twice.

    Test faces that scored earlier versions are not quite unseen: a reader has to know how many, with what results.
    """
    results = lead_results(run)
    log = read_readings(run.require(READINGS))
    version = {"tested": log[-1]["date"], **{key: estimate.text for key, estimate in results.items()}}
    version |= {"n": str(max(estimate.n for estimate in results.values())), "faces": digest_of_test_faces(run)}
    before = versions(target)
    if not before or {**before[-1], "tested": version["tested"]} != version:
        with atomic_path(target / "versions.csv") as partial:
            pd.DataFrame([*before, version]).to_csv(partial, index=False)


def data_name(run: RunFolder) -> str:
    """The names of the folders or tables of a run's data, such as `UTKFace`; empty for synthetic faces."""
    return listed(Path(each.path).name for each in run.data_sets)


def sources(run: RunFolder) -> list[tuple[str, int, int]]:
    """The data sets of a run, with their faces and how many of them are tested."""
    faces, splits = run.load_table("faces"), run.load_table("splits")
    if "source" not in faces:
        return []
    tested = (splits["split"] == "test") & splits["representative"]
    counts = pd.DataFrame({"n": 1, "tested": tested}).groupby(faces["source"]).sum()
    return list(counts.itertuples(name=None))


def is_utkface(run: RunFolder) -> bool:
    """Whether UTKFace is among a run's data by its name: how its labels were made is known."""
    return "utkface" in data_name(run).lower()


def limits_of(run: RunFolder, scored: int = 1) -> Findings:
    """What a run's numbers cannot say.

    `scored` models were scored on these test faces so far, this one among them.
    """
    clauses = [f"One training with one seed on {findings.data_sets_text(run)}"]
    clauses += ["labels estimated by an algorithm and checked by a person"] * is_utkface(run)
    clauses += [persons] if (persons := findings.persons_limit(run)) else []
    if scored > 1:
        clauses.append(
            f"{scored - 1} earlier version{'s were' if scored > 2 else ' was'} scored on the same test faces"
        )
    limits = Findings([Finding("summary.limits", f"{'; '.join(clauses)}.")])
    limits += findings.chosen(run.findings(), ("split.sessions",), run.learned)
    return limits


def blocks(run: RunFolder, target: Path) -> list[tuple[str, str, str]]:
    """What publication writes between marks: the page below the project's root, the name of the marks, the text."""
    scored = len(versions(target, digest_of_test_faces(run)))
    rows = findings.headline_rows(run, README_MEASURES)[:6]
    return [
        ("README.md", "limits", _bullets(limits_of(run, scored))),
        ("README.md", "results", findings.markdown_summary(rows)),
        ("docs/method.md", "comparison", comparison_table(run)),
    ]


def _bullets(found: Findings) -> str:
    return "".join(f"- {finding._repr_markdown_()}\n" for finding in found)


def update_page(page: Path, name: str, text: str) -> None:
    """Put a text between the two marks of a name on a page; UnfitToPublish if it has no such marks."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    whole = page.read_text(encoding="utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise UnfitToPublish(f"{page} has no place for the {name}: put {begin.strip()} and {end} around it")
    write_text(page, whole.split(begin)[0] + begin + text + end + whole.split(end)[1])


def _write_pages(run: RunFolder, target: Path, rounding: dict) -> None:
    """The summary and the two cards, in Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        finalize=lambda value: value if isinstance(value, Markup) else findings.plain(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    measured, splits, whole = run.findings(), run.load_table("splits"), (target / "tables").exists()
    rows = [row for row in findings.headline_rows(run) if whole or row["of"] != OF_AGE]  # not of stages cut short
    predictor = read_json(run.require("checkpoints/predictor.json"))
    facts = {
        "run": run,
        "restorable": whole,
        "findings": findings,
        "quoted": lambda *keys: findings.chosen(measured, keys, run.learned),
        "data_name": data_name(run),
        "is_utkface": is_utkface(run),
        "sources": sources(run),
        "rows": rows,
        "summary": Markup(findings.markdown_summary(rows)),
        "faces": splits[splits["representative"]].groupby("split").size().map("{:,}".format).to_dict(),
        "age_method": AGE_METHODS[predictor["age_method"]] if AGE in run.learned else "",
        "noise": [(row, Estimate.from_dict(row)) for row in run.details("02_clean").get("label_noise", [])],
        "figures": {
            path.name: SHOWN[name].alt
            for name in FRONT
            if (path := stored(run, name)) and (whole or name != "two_stages")
        },
        "provenance": findings.provenance(run) | course(run),
        "predictor": predictor,
        "megabytes": lambda folder: sum(path.stat().st_size for path in (target / folder).iterdir()) / 1e6,
        "rounded": rounding["faces"],
        "moved": {
            attribute.name: {
                "unit": attribute.unit or "probability",
                "mean": np.mean([rounding[column]["mean"] for column in columns]),
                "max": max(rounding[column]["max"] for column in columns),
            }
            for attribute in run.learned
            for columns in [attribute.columns if isinstance(attribute, ClassAttribute) else attribute.columns[:1]]
        },
        "versions": versions(target, digest := digest_of_test_faces(run)),
        "others": [version for version in versions(target) if version["faces"] != digest],
        "readings": sum(reading["faces"] == digest for reading in read_readings(target / READINGS)),
    }
    name = f"{data_name(run) or 'synthetic faces'}: labels, splits and predictions of run {run.name}"
    about = " ".join(map(str, facts["quoted"]("data.faces", "data.ages", "data.imbalance", "copies.groups")))
    terms = MIT if run.is_synthetic else "Non-commercial research only, as the photographs, which are not included."
    if whole:
        write_json(target / "croissant.json", croissant.card(run, target, name, about, terms))
    for name, template in PAGES.items():
        write_text(target / name, environment.get_template(template).render(**facts))


def course(run: RunFolder) -> dict[str, str]:
    """How long the notebooks took, and whether one state of the package ran them all."""
    done = read_json(run.require(PROGRESS))
    states = dict.fromkeys(facts["package"] for facts in done.values())
    by_state = (f"{state}: {listed(name[:2] for name in done if done[name]['package'] == state)}" for state in states)
    numbers = listed(name[:2] for name in done)
    code = "; ".join(by_state) if len(states) > 1 else f"one state of the package ran notebooks {numbers}"
    seconds = sum(facts["seconds"] for facts in done.values())
    return {
        "Time": f"{seconds / 60:.0f} min for the notebooks, of which two may have run at once; "
        f"{training_seconds(run) / 60:.0f} min of training, in these or earlier calls",
        "Code": code,
    }


def training_seconds(run: RunFolder) -> float:
    """The seconds of a run's trainings, whose epochs may have been learned in several calls."""
    timings = read_json(run.require("timings.json"))
    return sum(facts["seconds"] for name, facts in timings.items() if name.endswith(".training"))


def publish(run: RunFolder, target: Path, restorable: bool = True) -> Path:
    """Fill a folder with what of a finished run may be published, in place of an earlier publication; its README.md.

    What is not `restorable` has neither notebooks nor tables, of the networks the predictor's alone, and needs no
    notebook after 06. UnfitToPublish if the run is unfinished or could show a person, or half precision changes what
    the model predicts.
    """
    results = run.results()
    if missing := [key for key in expected_keys(run.learned) if key not in results]:
        raise UnfitToPublish(f"run {run.name!r} has not measured {missing[0]}: finish it with `facelib run` first")
    for name in NOTEBOOKS if restorable else NOTEBOOKS[:6]:
        run.require(f"notebooks/{name}.ipynb")
    notebooks, hidden = sorted((run.path / "notebooks").glob("*.ipynb")), _machine_texts(run)
    for path in notebooks if not run.is_synthetic else ():
        check_notebook(path)
    for old in ("notebooks", "figures", "metrics", "checkpoints", "tables"):
        shutil.rmtree(target / old, ignore_errors=True)
    (target / "croissant.json").unlink(missing_ok=True)
    for path in notebooks if restorable else ():
        publish_notebook(path, target / "notebooks" / path.name, hidden)
    for folder in ("figures", "metrics"):
        shutil.copytree(run.path / folder, target / folder)
    for name in ("results.json", "timings.json"):
        shutil.copy(run.require(name), target / name)
    write_readings(target / READINGS, [*read_readings(target / READINGS), *read_readings(run.require(READINGS))])
    for name in made_by(run, TABLES) if restorable else ():
        publish_table(run, name, target / "tables", hidden)
    write_text(target / "params.yaml", _without(yaml.safe_dump(run.params, sort_keys=False), hidden))
    write_text(target / PROGRESS, _without(run.require(PROGRESS).read_text(encoding="utf-8"), hidden))
    whole = restorable or read_json(run.require("checkpoints/predictor.json"))["age_method"] != "direct"
    for name in made_by(run, NETWORKS):
        if name == OF_AGE and not whole:
            continue
        halve(run.require(f"checkpoints/{name}.safetensors"), target / "checkpoints" / f"{name}.safetensors")
    for name in ("ood.safetensors", "predictor.json"):  # the last says that a folder holds a predictor
        shutil.copy(run.require(f"checkpoints/{name}"), target / "checkpoints" / name)
    rounding = measure_rounding(run, target)
    write_json(target / "rounding.json", rounding)
    add_version(run, target)
    _write_pages(run, target, rounding)
    return target / "README.md"


def main(name: str, predictor: bool = False) -> None:
    """Publish a run on photographs as the reference, or as the predictor."""
    run, root = open_run(name), project_root()
    if run.is_synthetic:
        raise UnfitToPublish(f"run {name!r} is of synthetic faces: only runs on photographs are published")
    if predictor:
        page = publish(run, root / JOINT, restorable=False)
    else:
        page = publish(run, root / REFERENCE)
        for file, marks, text in blocks(run, page.parent):
            update_page(root / file, marks, text)
    print(f"published: {page}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--predictor", action="store_true", help="fill reports/faces")
    options = parser.parse_args()
    try:
        main(options.run, options.predictor)
    except FacelibError as error:
        sys.exit(f"publish: {error}")
