"""A run folder from a published one: what `publish` wrote as it is, pixels and embeddings computed anew."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facelib import runs
from facelib.data.ingest import load_images, read_same
from facelib.data.pixels import cache_faces, cache_key, chunks
from facelib.data.readers import FaceSource
from facelib.errors import DamagedRun, MissingFromRun, RunConflict, UnreadableData
from facelib.finding import listed
from facelib.formats import as_written, read_json, write_json
from facelib.models.age_stages import AgeStagesNet
from facelib.models.network import load_network, predict_outputs
from facelib.prediction import Predictor
from facelib.publication.publish import OF_AGE, TABLES, made_by
from facelib.runs import DataSet, RunFolder
from facelib.schema import AGE, NOTEBOOKS
from facelib.storage import PARTIAL, held, sweep, writing

FILES = ("params.yaml", runs.PROGRESS, "results.json", "timings.json", runs.READINGS)
# Folders, and the kinds of files in them, that `publish` writes; other files are not copied.
FOLDERS = {
    "tables": (".parquet", ".csv"),
    "checkpoints": (".safetensors", ".json"),
    "metrics": (".json",),
    "figures": (".svg", ".png"),
    "notebooks": (".ipynb",),
}
DONE = NOTEBOOKS[:4]  # whose results are taken over; `facelib run` resumes after them
CHUNK = 2048  # faces a line of progress


def published_files(source: Path) -> list[Path]:
    """The files of a published run that are copied, relative to its folder.

    MissingFromRun if one is missing; DamagedRun if one is a link, which could lead anywhere, or not a regular file.
    """
    folders = [source / name for name in FOLDERS]
    inside = [file for folder in folders for file in sorted(folder.glob("*")) if file.suffix in FOLDERS[folder.name]]
    files = [*(source / name for name in FILES), *inside]
    for path in [*folders, *files]:
        if path.is_symlink() or (path.exists() and not path.is_dir() and not path.is_file()):
            raise DamagedRun(f"{path} is a link or not a regular file, which no published run holds: get it anew")
        if not path.exists():
            raise MissingFromRun(
                f"{source} is not a published run that can be restored (it has no {path.name}): name another folder"
            )
    return [path.relative_to(source) for path in files]


def check_published(run: RunFolder) -> None:
    """Refuse a published run whose networks or tables are not what `publish` writes; no code in them is run.

    FacelibError in one sentence that names the file.
    """
    faces = run.load_table("faces")
    with as_written(run.table_path("faces")):
        for name in [*faces["path"], *faces["image_id"]]:
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise ValueError(f"{name!r} leads out of the data folder")
        if not faces["sha256"].map(lambda digest: isinstance(digest, str)).all():
            raise ValueError("sha256 holds more than text")
    for name in made_by(run, TABLES):
        table = run.load_table(name)
        with as_written(run.table_path(name)):
            if not table["image_id"].isin(faces["image_id"]).all():
                raise ValueError("it names images that the faces table lacks")
            if name == "splits" and not table["image_id"].equals(faces["image_id"]):
                raise ValueError("its rows are not those of the faces table")
    Predictor.load(run)
    if AGE in run.learned:
        load_network(run.require(f"checkpoints/{OF_AGE}.safetensors"), AgeStagesNet)


def read_published(run: RunFolder) -> FaceSource:
    """The faces at a published run's data path; UnreadableData, which names one, if the run was made from others."""
    if run.protocol:
        raise UnreadableData(
            f"{run.path} follows the lists of {run.protocol['name']}, which are not in it: leave out --data"
        )
    faces, settings = run.load_table("faces"), run.settings.data
    source = read_same(run, faces)
    if cache_key(source.faces, settings.image_px, settings.align) == run.params["data"]["fingerprint"]:
        return source
    names = " and ".join(each.path for each in run.data_sets) or source.root
    what = f"{names} is not the data that {run.path} was made from"
    missing = faces.loc[~faces["sha256"].isin(source.faces["sha256"]), "image_id"]
    if len(missing):
        raise UnreadableData(
            f"{what}: {len(missing):,} of {len(faces):,} photographs are missing or changed, such as "
            f"{missing.iloc[0]!r}; name the folder that has them"
        )
    raise UnreadableData(
        f"{run.path} was made by a facelib that decodes these photographs differently: check out {run.params['commit']}"
    )


def located(run: RunFolder, data: Sequence[DataSet]) -> dict:
    """The `data` of a published run's params.yaml with the places of its data sets, which are given in its order.

    UnreadableData if their numbers differ.
    """
    names = [each.path for each in run.data_sets]
    if len(data) != len(names):
        raise UnreadableData(
            f"{run.path} was made from {listed(names) or 'drawn faces'}, and --data is given {len(data)} times: "
            "name each once, in this order"
        )
    stored = run.params["data"]
    places = [{"path": place.path, "images": place.images} for place in (each.resolved() for each in data)]
    parts = [part | place for part, place in zip([stored, *stored.get("further", ())], places, strict=True)]
    return parts[0] | ({"further": parts[1:]} if parts[1:] else {})


def restore_run(source: Path, path: Path, data: Sequence[DataSet] = (), say=print) -> RunFolder:
    """Make a run folder from a published run, as if notebooks 01 to 04 had just been run.

    `data` are as for `start_run`, their label maps those of the published run. Without data a run on photographs is
    restored without them, and what needs them raises. The folder at `path` is whole when this returns and absent when
    it raises.

    Raises
    ------
    RunConflict
        If there is a run at `path`.
    FacelibError
        If the published run is damaged, or the data are not those that it was made from.
    """
    building = path.with_name(f"{PARTIAL}{path.name}")
    refusal = RunConflict(f"run {path.name!r} is being restored by another process: wait, or choose another --run")
    with held(path.with_name(f".{path.name}.lock"), refusal):
        if path.exists():
            raise RunConflict(f"there is a run {path.name!r} already: choose another --run name, or remove {path}")
        files, published = published_files(source), RunFolder(source)
        check_published(published)
        if data:
            published.params["data"] = located(published, data)
        photographs = read_published(published) if data or published.is_synthetic else None
        sweep([building])
        try:
            with writing(path):
                for file in files:
                    (building / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / file, building / file)
            run = RunFolder(building)
            finished = read_json(building / runs.PROGRESS)
            write_json(building / runs.PROGRESS, {name: finished[name] for name in DONE if name in finished})
            how = runs.WITH_PHOTOGRAPHS if photographs else runs.WITHOUT_PHOTOGRAPHS
            run.update_params(data=published.params["data"], restored=how)
            if photographs:
                cache_faces(photographs, run.settings.data.image_px, runs.cache_root(), run.settings.data.align)
                run.save_array(embed(run, say), "embeddings")
            with writing(path):
                os.rename(building, path)
        finally:
            sweep([building])
    return RunFolder(path)


def embed(run: RunFolder, say=print) -> np.ndarray:
    """The features of a run's network for each face: float16 (n, width), as notebook 03 keeps them."""
    images, parts = load_images(run, run.load_table("faces")), []
    network, _ = load_network(run.require("checkpoints/model.safetensors"))
    for rows in chunks(len(images), CHUNK):
        parts.append(predict_outputs(network, images.take(rows))["features"].astype(np.float16))
        say(f"embeddings  {rows[-1] + 1:,} of {len(images):,} faces")
    return np.concatenate(parts)
