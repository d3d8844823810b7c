"""A finished run made fit to be published: `python -m facelib.publication.publish RUN` fills reports/utkface.

What is published is laid out like a run folder: it holds numbers, plots, averages, half-precision weights and the
tables that notebooks 05 to 08 read, no face of a person. `facelib predict` finds the weights there, slides and report
can be made from it, and `restore` makes a run folder of it.
"""

import ast
import hashlib
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
from facelib.prediction.predictor import AGE_METHODS, load_predictor
from facelib.publication.published_numbers import comparison_table
from facelib.reporting import findings
from facelib.reporting.site import FRONT_FIGURES, TEMPLATES
from facelib.runs import RunFolder, atomic_path, open_run, project_root, read_json, write_json, write_text
from facelib.schema import HEADLINE_KEYS, NOTEBOOKS

# Parameters of notebooks that make them show single faces or name a reader's own photographs, and what they have to be.
PRIVATE = {"show_faces": False, "photos": ""}
PAGES = {"README.md": "published.md.j2", "model_card.md": "model_card.md.j2", "data_card.md": "data_card.md.j2"}
# What notebooks 05 to 08 read; the embeddings, of 24 MB, are computed anew.
TABLES = ("faces", "splits", "predictions", "age_stages", "decisions.csv", "label_issues", "quality")
ROUNDED_FACES = 500  # validation faces on which half precision is compared with single
MOST_ROUNDING = 0.1  # years, on average
VERSIONED = ("age.mae", "gender.accuracy", "ethnicity.accuracy")  # what is said of earlier versions


class UnfitToPublish(FacelibError):
    """A run that is unfinished, or that could show a person."""


def check_notebook(path: Path) -> None:
    """Refuse an executed notebook that could show single faces, or that stopped half-way.

    Raises
    ------
    UnfitToPublish
        If a cell failed or did not run, a picture is attached, or a parameter in `PRIVATE` is anything else anywhere.
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
    """Every name that a cell assigns, and the constant that it gets; `...` for anything that is no constant."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UnfitToPublish(
            f"{path} holds a cell that is no plain Python: run the notebook as it is shipped"
        ) from error
    constants = {
        id(target): node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
    }
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return [(node.id, constants.get(id(node), ...)) for node in stored]


def publish_notebook(path: Path, target: Path, hidden: dict[str, str]) -> None:
    """Write an executed notebook without times and machine-bound texts.

    Parameters
    ----------
    path, target : Path
    hidden : dict of str
        Texts such as folders of this machine, and what stands in their place.
    """
    notebook = nbformat.read(path, as_version=4)
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    kept = {key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**kept, "parameters": given})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {})
    text = nbformat.writes(notebook)
    write_text(target, _without(text, hidden) + "\n")


def _without(text: str, hidden: dict[str, str]) -> str:
    for name, instead in hidden.items():
        text = text.replace(json.dumps(name)[1:-1], instead)
    return text


def _machine_texts(run: RunFolder) -> dict[str, str]:
    """Folders of this machine that outputs may name, longest first."""
    data = run.params["data"]
    texts = {path: Path(path).name for path in (data["path"], data.get("images", "")) if path}
    texts |= {run.protocol["path"]: Path(run.protocol["path"]).name} if run.protocol else {}
    texts |= {str(run.path): f"runs/{run.name}", sys.prefix: ".venv", str(project_root()): ".", str(Path.home()): "~"}
    return dict(sorted(texts.items(), key=lambda pair: -len(pair[0])))


def halve(source: Path, target: Path) -> None:
    """Write a network's weights in half precision (float16), which halves the file; its facts stay.

    Raises
    ------
    UnfitToPublish
        If a weight is beyond what half precision holds.
    """
    with safe_open(source, framework="pt") as opened:
        facts = opened.metadata()
    halved = {key: value.half() if value.is_floating_point() else value for key, value in load_file(source).items()}
    for key, value in halved.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UnfitToPublish(f"{source}: {key} is too large for half precision: train again with weight decay")
    with atomic_path(target) as partial:
        save_file(halved, partial, metadata=facts)


def publish_table(run: RunFolder, name: str, target: Path, hidden: dict[str, str]) -> None:
    """Write one of a run's tables, compressed.

    Raises
    ------
    UnfitToPublish
        If it holds anything but numbers and texts, or a text that names a folder of this machine.
    """
    table = run.load_table(name)
    for column in table.select_dtypes(exclude=["number", "bool"]):
        values = table[column].dropna()
        if pd.api.types.infer_dtype(values) not in ("string", "empty"):
            raise UnfitToPublish(f"{run.table_path(name)}: {column} holds no plain texts: run its notebook again")
        named = [text for text in values.unique() if os.path.isabs(text) or any(place in text for place in hidden)]
        if named:
            raise UnfitToPublish(f"{run.table_path(name)}: {column} names a folder of this machine: mend {named[0]!r}")
    with atomic_path(target / run.table_path(name).name) as partial:
        if name.endswith(".csv"):
            shutil.copy(run.table_path(name), partial)
        else:
            table.to_parquet(partial, index=False, compression="zstd", compression_level=12)


def measure_rounding(run: RunFolder, published: Path) -> dict[str, float]:
    """How far half precision moves predictions of validation faces: years of age, and probability of gender."""
    faces, split = run.load_table("faces"), run.load_table("splits")
    rows = np.flatnonzero(split["split"] == "validation")[:ROUNDED_FACES]
    pictures = load_images(run, faces)[rows]
    before, after = (load_predictor(path)(pictures) for path in (run.path, published))
    moved = (after - before).abs()
    return {
        "faces": len(rows),
        "age_mean": float(moved["age_pred"].mean()),
        "age_most": float(moved["age_pred"].max()),
        "p_female_most": float(moved["p_female"].max()),
    }


def publish(run: RunFolder, target: Path) -> Path:
    """Fill a folder with what of a finished run may be published.

    Parameters
    ----------
    run : RunFolder
        With all notebooks done by `facelib run`.
    target : Path
        What it held of an earlier publication is replaced.

    Returns
    -------
    Path
        Its README.md.

    Raises
    ------
    UnfitToPublish
        If the run is unfinished or could show a person, or half precision changes what the model says.
    """
    if absent := findings.absent_attributes(run):
        raise UnfitToPublish(
            f"run {run.name!r} has no results for {' and '.join(absent)}: a reference is a run on faces with all labels"
        )
    missing = [key for key in HEADLINE_KEYS if key not in run.results()]
    if missing:
        raise UnfitToPublish(f"run {run.name!r} has not measured {missing[0]}: finish it with `facelib run` first")
    notebooks = [run.require(f"notebooks/{name}.ipynb") for name in NOTEBOOKS]
    if not run.is_synthetic:
        for path in notebooks:
            check_notebook(path)
    for old in ("notebooks", "figures", "metrics", "checkpoints", "tables"):
        shutil.rmtree(target / old, ignore_errors=True)
    hidden = _machine_texts(run)
    for path in notebooks:
        publish_notebook(path, target / "notebooks" / path.name, hidden)
    for folder in ("figures", "metrics"):
        shutil.copytree(run.path / folder, target / folder)
    for name in ("results.json", "timings.json", "test_reads.csv"):
        shutil.copy(run.require(name), target / name)
    for name in TABLES:
        publish_table(run, name, target / "tables", hidden)
    write_text(target / "params.yaml", _without(yaml.safe_dump(run.params, sort_keys=False), hidden))
    write_text(target / "progress.json", _without(run.require("progress.json").read_text(encoding="utf-8"), hidden))
    predictor = read_json(run.require("checkpoints/predictor.json"))
    networks = ["model", "age_stages"]  # the second, though predicting may do without, for notebook 07
    for name in networks:
        halve(run.require(f"checkpoints/{name}.safetensors"), target / "checkpoints" / f"{name}.safetensors")
    for name in ("predictor.json", "familiar.safetensors"):
        shutil.copy(run.require(f"checkpoints/{name}"), target / "checkpoints" / name)
    rounding = measure_rounding(run, target)
    if rounding["age_mean"] > MOST_ROUNDING:
        raise UnfitToPublish(f"half precision moves ages by {rounding['age_mean']:.2f} years on average")
    write_json(target / "rounding.json", rounding)
    add_version(run, target)
    _write_pages(run, target, predictor, networks, rounding)
    return target / "README.md"


def versions(target: Path) -> list[dict]:
    """The models that were published so far, oldest first: when they were tested, on which faces, with what result."""
    path = target / "versions.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if path.exists() else []


def digest_of_test_faces(run: RunFolder) -> str:
    """A digest of the names of a run's test faces."""
    split = run.load_table("splits")
    tested = split.loc[(split["split"] == "test") & split["kept"], "image_id"]
    return hashlib.sha256("\n".join(sorted(tested)).encode()).hexdigest()[:12]


def add_version(run: RunFolder, target: Path) -> None:
    """Add a run to the list of published versions; the last one, tested again, is not listed twice.

    Test faces that helped to tell one version from the next are no longer quite unseen: a reader has to know how many
    there were, and what each scored.
    """
    results = run.results()
    listed = {key: findings.shown(results[f"test.{key}"])["value"] for key in VERSIONED}
    log = run.require("test_reads.csv").read_text(encoding="utf-8").splitlines()
    version = {"tested": log[-1].partition(",")[0], **listed, "n": str(results["test.age.mae"]["n"])}
    version["faces"] = digest_of_test_faces(run)
    before = versions(target)
    if not before or {**before[-1], "tested": version["tested"]} != version:
        with atomic_path(target / "versions.csv") as partial:
            pd.DataFrame([*before, version]).to_csv(partial, index=False)


def in_short(run: RunFolder, target: Path) -> str:
    """The README's paragraph; it counts the versions of the model that were scored on the run's test faces."""
    return findings.in_short(run, sum(version["faces"] == digest_of_test_faces(run) for version in versions(target)))


def _write_pages(run: RunFolder, target: Path, predictor: dict, networks: list[str], rounding: dict) -> None:
    """The summary and the two cards, in Markdown."""

    def plain(value):
        # Texts from the run are no markup and end no cell of a table.
        text = str(value)
        return (
            text if isinstance(value, Markup) else text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
        )

    split = run.load_table("splits")
    learned = split[split["kept"]]
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, finalize=plain, trim_blocks=True, lstrip_blocks=True)
    environment.keep_trailing_newline = True
    facts = {
        "run": run,
        "data_name": findings.data_name(run),
        "is_utkface": findings.is_utkface(run),
        "kind": findings.kind_of_faces(run),
        "answers": findings.answers(run),
        "summary": Markup(findings.markdown_summary(findings.headline_rows(run))),
        "data_rows": findings.data_rows(run),
        "claims": findings.claim_rows(run),
        "gaps": findings.widest_gaps(run),
        "learned": learned.groupby("split").size().to_dict(),
        "age_method": AGE_METHODS[predictor["age_method"]],
        "least": {**least, "unit": "share"} if (least := findings.least_covered(run)) else None,
        "noise": findings.details_of(run, "02_clean").get("label_noise", []),
        "estimate": findings.with_interval,
        "results": run.results(),
        "figures": {name: alt for name, alt in FRONT_FIGURES.items() if (run.path / "figures" / name).exists()},
        "provenance": findings.provenance(run) | _course(run),
        "predictor": predictor,
        "weights": {name: (target / "checkpoints" / f"{name}.safetensors").stat().st_size / 1e6 for name in networks},
        "tables": sum(path.stat().st_size for path in (target / "tables").iterdir()) / 1e6,
        "rounding": rounding,
        "versions": [version for version in versions(target) if version["faces"] == digest_of_test_faces(run)],
    }
    for name, template in PAGES.items():
        write_text(target / name, environment.get_template(template).render(**facts))


def _course(run: RunFolder) -> dict[str, str]:
    """How long the notebooks took, and whether one state of the package ran them all."""
    if not (run.path / "progress.json").exists():
        return {}
    done = read_json(run.path / "progress.json")
    states = dict.fromkeys(facts["package"] for facts in done.values())
    code = "one state of the package ran all notebooks" if len(states) == 1 else "; ".join(
        f"{state}: {findings.listed(name[:2] for name in done if done[name]['package'] == state)}" for state in states
    )  # fmt: skip
    time = f"{sum(facts['seconds'] for facts in done.values()) / 60:.0f} min for the notebooks"
    training = read_json(run.path / "timings.json")["03.training"]["seconds"]
    if training > done["03_train_multitask"]["seconds"]:  # by `facelib train`, or in an earlier call
        time += f", and {training / 60:.0f} min for the training, which had run ahead of them"
    return {"Time": time, "Code": code}


def update_page(page: Path, name: str, text: str) -> None:
    """Put a text between the two marks of a name on a page.

    Raises
    ------
    UnfitToPublish
        If the page has no such marks.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    whole = page.read_text(encoding="utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise UnfitToPublish(f"{page} has no place for the {name}: put {begin.strip()} and {end} around it")
    write_text(page, whole.split(begin)[0] + begin + text + end + whole.split(end)[1])


def main(name: str) -> None:
    """Publish a run on photographs as the reference."""
    run, root = open_run(name), project_root()
    if run.is_synthetic:
        raise UnfitToPublish(f"run {name!r} is of synthetic faces: the reference is a run on photographs")
    page = publish(run, root / "reports" / "utkface")
    update_page(root / "README.md", "short", in_short(run, page.parent))
    update_page(root / "README.md", "results", findings.markdown_summary(findings.headline_rows(run)))
    update_page(root / "README.md", "comparison", comparison_table(run))
    print(f"published: {page}")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except FacelibError as error:
        sys.exit(f"publish: {error}")
