"""A run's faces: read from its data, or drawn, and decoded into the cache."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from facelib import schema
from facelib.data.pixels import FaceImages, cache_faces, cache_key, decode_chunk, is_cached, map_cached
from facelib.data.protocols import follow, identify
from facelib.data.readers import FaceSource, read_faces, read_utkface
from facelib.data.sources import join
from facelib.errors import UnknownSetting, UnreadableData
from facelib.finding import listed
from facelib.runs import DataSet, RunFolder, cache_root
from facelib.schema import UTKFACE_ATTRIBUTES, Attribute, ClassAttribute
from facelib.synthetic import dataset

MIN_FACES = 200  # with fewer, a split may be left empty
SYNTHETIC_PX = 128  # edge of the drawn files, pixels


def synthetic_folder(run: RunFolder) -> Path:
    """Where a run's synthetic faces and their truth are kept, beside the pixel caches."""
    parts = ["synthetic", run.settings.data.synthetic_images, f"seed{run.settings.seed}", f"v{dataset.DRAWING_VERSION}"]
    extra = dataset.drawn_attributes(run.settings.data.attributes)[len(UTKFACE_ATTRIBUTES) :]
    return cache_root() / "-".join([*map(str, parts), *(row.attribute.name for row in extra)])


def read_source(run: RunFolder) -> FaceSource:
    """The faces of a run: its data, sampled to the size in its settings, or synthetic ones, drawn if need be.

    Raises
    ------
    UnreadableData
        If nothing can be read, or the lists of the run's protocol changed since it began.
    MissingFromRun
        If the run was restored without its photographs.
    """
    run.check_photographs()
    lists = run.protocol.get("path", "")
    if lists and identify(Path(lists))["digest"] != run.protocol["digest"]:
        raise UnreadableData(f"the lists in {lists} changed since run {run.name!r} began: choose another --run name")
    if run.is_synthetic:
        return _followed(_drawn(run), lists)
    return _sampled(run, read_labelled(run.data_sets, lists, run.settings.data.attributes))


def _sampled(run: RunFolder, source: FaceSource) -> FaceSource:
    return source if run.is_synthetic else source.sample(run.settings.data.images, run.settings.seed)


def _drawn(run: RunFolder) -> FaceSource:
    """A run's synthetic faces, with the attributes that its settings name beside those of the file names."""
    folder, data = synthetic_folder(run), run.settings.data
    faces = dataset.write_synthetic_faces(
        folder, data.synthetic_images, run.settings.seed, SYNTHETIC_PX, attributes=data.attributes
    )
    source = read_utkface(faces, source="synthetic")
    attributes = tuple(row.attribute for row in dataset.drawn_attributes(data.attributes))
    truth = dataset.read_truth(folder).loc[source.faces["image_id"]]
    extra = {a.name: truth[a.name + dataset.GIVEN].to_numpy(a.dtype) for a in attributes[len(UTKFACE_ATTRIBUTES) :]}
    return dataclasses.replace(source, faces=source.faces.assign(**extra), attributes=attributes)


def _followed(source: FaceSource, lists: str) -> FaceSource:
    """The faces of a source that the lists in a folder name; all of them without such a folder."""
    return follow(source, Path(lists)) if lists else source


def read_data_set(data: DataSet, attributes: Iterable[str | ClassAttribute] = ()) -> FaceSource:
    """Read one data set; see `readers.read_faces`."""
    return read_faces(data.path, data.images or None, data.labels, tuple(attributes))


def read_data_sets(data: Iterable[DataSet], attributes: Iterable[str] = ()) -> FaceSource:
    """Read several data sets as one; see `sources.join`.

    Raises
    ------
    UnreadableData
        If one cannot be read.
    """
    data, attributes = tuple(data), tuple(attributes)
    if len(data) == 1:
        return read_data_set(data[0], attributes)
    return join([read_data_set(each, attributes) for each in data])


def read_labelled(data: Iterable[DataSet], lists: str = "", attributes: Iterable[str] = ()) -> FaceSource:
    """Read real data for the notebooks, which need one attribute or more; of a published split the faces it names.

    Raises
    ------
    UnreadableData
        If nothing can be read, no face has a label, or there are fewer than `MIN_FACES`.
    """
    data = tuple(data)
    path, source = " and ".join(each.path for each in data), _followed(read_data_sets(data, attributes), lists)
    if not schema.labelled(source.faces, source.attributes):
        names = ", ".join(attribute.name for attribute in source.attributes)
        raise UnreadableData(
            f"{path} has labels of none of {names}, and the notebooks need one of them: `facelib audit` works without"
        )
    if len(source.faces) < MIN_FACES:
        raise UnreadableData(f"{path} holds {len(source.faces)} usable faces: four splits need {MIN_FACES}")
    return source


def ingest(run: RunFolder, source: FaceSource | None = None) -> tuple[FaceImages, pd.DataFrame, pd.DataFrame]:
    """A run's images, faces table and rejected table; read, decoded and saved once, then loaded.

    Notes in params.yaml a digest of the contents and the attributes, labelled and learned. `source` is from
    `read_labelled`, where the data were read before.

    Raises
    ------
    UnknownSetting
        If the data have no label that is to be learned, or no face has all of them.
    """
    if source is None and run.table_path("faces").exists() and run.table_path("rejected.csv").exists():
        faces = run.load_table("faces")
        return load_images(run, faces), faces, run.load_table("rejected.csv")
    with run.timed("01.ingest"):
        source = read_source(run) if source is None else _sampled(run, source)
        images, faces, rejected = cache_faces(source, run.settings.data.image_px, cache_root(), run.settings.data.align)
    attributes = schema.labelled(faces, source.attributes)
    learned = chosen(attributes, run.settings.data.attributes)
    _check_together(faces, learned, "data")
    fingerprint = cache_key(source.faces, run.settings.data.image_px, run.settings.data.align)
    run.update_params(data={"fingerprint": fingerprint})
    run.set_attributes(attributes, learned)
    run.save_table(rejected, "rejected.csv")
    run.save_table(source.unusable, "unusable_labels.csv")
    run.update_params(data={"notes": source.about()})
    run.save_table(faces, "faces")
    return images, faces, rejected


def chosen(attributes: tuple[Attribute, ...], names: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes of some names; all without a name.

    Raises
    ------
    UnknownSetting
        If one of the names is none of theirs.
    """
    names = [name.lower() for name in names] or [attribute.name for attribute in attributes]
    named = schema.named(attributes, names)
    if absent := set(names) - {attribute.name for attribute in named}:
        known = listed(attribute.name for attribute in attributes)
        raise UnknownSetting(f"no face has a label of {listed(sorted(absent))}: attributes can be {known}")
    return named


def _check_together(faces: pd.DataFrame, learned: tuple[Attribute, ...], place: str) -> None:
    """Refuse labels of different faces of one source, which make groups incomparable."""
    for _, part in faces.groupby("source" if "source" in faces else np.zeros(len(faces)), sort=False):
        own = schema.labelled(part, learned)
        if schema.all_known(part, own).any():
            continue
        names = " and ".join(attribute.name for attribute in own)
        raise UnknownSetting(
            f"no face of the {place} has labels of {names} all at once, so that groups cannot be compared: "
            f"learn fewer, such as -p attributes {learned[0].name}"
        )


def settle_learned(run: RunFolder, faces: pd.DataFrame, splits: pd.DataFrame) -> tuple[Attribute, ...]:
    """The attributes that a run learns once its faces are split: without those that some split has no label of.

    Raises
    ------
    UnknownSetting
        If nothing is left, or no face of a split has all labels that are learned.
    """
    parts = {name: faces[(splits["split"] == name) & splits["representative"]] for name in schema.SPLITS}
    learned = chosen(run.attributes, run.settings.data.attributes)
    for part in parts.values():
        learned = schema.labelled(part, learned)
    if not learned:
        raise UnknownSetting("no attribute has a label in every split: give more labelled faces")
    for name, part in parts.items():
        _check_together(part, learned, f"{name} split")
    run.set_attributes(run.attributes, learned)
    return learned


def read_same(run: RunFolder, faces: pd.DataFrame) -> FaceSource:
    """The source of a run whose faces table exists, without files that it did not use where it was read differently.

    A later version of the package may read more of the same files.
    """
    source, data = read_source(run), run.settings.data
    if cache_key(source.faces, data.image_px, data.align) == run.params["data"]["fingerprint"]:
        return source
    used = source.faces["sha256"].isin(faces["sha256"])
    return dataclasses.replace(source, faces=source.faces[used])


def decode_images(run: RunFolder, faces: pd.DataFrame, px: int) -> np.ndarray:
    """Some rows of a run's faces table at another edge than its own, decoded at every call: uint8 (n, px, px, 3)."""
    source = read_same(run, faces)
    positions = pd.Series(source.faces.index, source.faces["sha256"])
    items = source.items(positions[~positions.index.duplicated()].loc[faces["sha256"]].to_numpy())
    return decode_chunk(items, faces["sha256"].tolist(), px, run.settings.data.align)[0]


def load_images(run: RunFolder, faces: pd.DataFrame) -> FaceImages:
    """The images of a run's faces table, from the cache; decoded again if the cache was removed.

    Raises
    ------
    UnreadableData
        If the cache was removed and the data changed.
    """
    folder = cache_root() / run.params["data"]["fingerprint"]
    if not is_cached(folder):
        align = run.settings.data.align
        cache_faces(read_same(run, faces), run.settings.data.image_px, cache_root(), align)
        if not folder.exists():
            raise UnreadableData(f"the data of run {run.name!r} changed since it began: begin it anew with --fresh")
    return map_cached(folder, faces)
