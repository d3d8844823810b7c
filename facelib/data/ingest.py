"""A run's faces: read from its data, or drawn, and decoded into the cache."""

from pathlib import Path

import pandas as pd

from facelib.data.pixels import FaceImages, cache_faces, cache_key, is_cached, map_cached
from facelib.data.protocols import follow, identify
from facelib.data.readers import FaceSource, read_faces, read_utkface
from facelib.errors import UnreadableData
from facelib.runs import RunFolder, cache_root
from facelib.schema import ATTRIBUTES, labelled
from facelib.synthetic.dataset import DRAWING_VERSION, write_synthetic_faces

MIN_FACES = 200  # with fewer, a split may be left empty
SYNTHETIC_PX = 128  # edge of the drawn files, pixels


def synthetic_folder(run: RunFolder) -> Path:
    """Where a run's synthetic faces and the truth about them are kept, beside the pixel caches."""
    profile = run.profile
    return cache_root() / f"synthetic-{profile.synthetic_images}-seed{profile.seed}-v{DRAWING_VERSION}"


def read_source(run: RunFolder) -> FaceSource:
    """The faces that a run is about: its data, sampled to the profile's size, or synthetic ones, drawn on first use.

    Raises
    ------
    UnreadableData
        If nothing can be read, or the lists of the run's protocol are not those that it began with.
    MissingFromRun
        If the run was restored without its photographs.
    """
    run.check_photographs()
    profile, published = run.profile, run.protocol
    lists = published.get("path", "")
    if published and identify(Path(lists))["digest"] != published["digest"]:
        raise UnreadableData(f"the lists in {lists} changed since run {run.name!r} began: choose another --run name")
    if run.is_synthetic:
        folder = write_synthetic_faces(synthetic_folder(run), profile.synthetic_images, profile.seed, SYNTHETIC_PX)
        return _followed(read_utkface(folder, source="synthetic"), lists)
    data = run.params["data"]
    return read_labelled(data["path"], data["images"], lists).sample(profile.images, profile.seed)


def _followed(source: FaceSource, lists: str) -> FaceSource:
    """The faces of a source that the lists in a folder name; all of them where there is no such folder."""
    return follow(source, Path(lists)) if lists else source


def read_labelled(path: str, images: str = "", lists: str = "") -> FaceSource:
    """Read real data for the notebooks, which need one attribute or more; of a published split the faces it names.

    Raises
    ------
    UnreadableData
        If nothing can be read, or no face has a label.
    """
    source = _followed(read_faces(path, images or None), lists)
    if not labelled(source.faces):
        raise UnreadableData(
            f"{path} has labels of none of {', '.join(ATTRIBUTES)}, and the notebooks need one of them: "
            "`facelib audit` works without"
        )
    if len(source.faces) < MIN_FACES:
        raise UnreadableData(f"{path} holds {len(source.faces)} usable faces: four splits need {MIN_FACES}")
    return source


def ingest(run: RunFolder) -> tuple[FaceImages, pd.DataFrame, pd.DataFrame]:
    """Read and decode a run's faces: images, faces table, rejected table (see `cache_faces`).

    The digest of the contents goes into the run's params.yaml as the data's fingerprint.
    """
    source = read_source(run)
    run.update_params(data={"fingerprint": cache_key(source.faces, run.profile.image_px)})
    return cache_faces(source, run.profile.image_px, cache_root())


def load_images(run: RunFolder, faces: pd.DataFrame) -> FaceImages:
    """The images of a run's faces table, from the cache; decoded anew if the cache was removed."""
    folder = cache_root() / run.params["data"]["fingerprint"]
    if not is_cached(folder):
        ingest(run)
    return map_cached(folder, faces)
