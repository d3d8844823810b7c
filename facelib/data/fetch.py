"""Download of the public forms of UTKFace through kagglehub; their own terms apply."""

import os
import shutil
import tempfile
from pathlib import Path

from facelib.data.archives import unpack
from facelib.errors import FacelibError
from facelib.storage import PARTIAL, writing

# The Kaggle data set of each name, and the part to take: the first one holds the same faces several times.
DATASETS = {
    "utkface": ("jangedoo/utkface-new", "UTKFace"),
    "utkface-csv": ("nipunarora8/age-gender-and-ethnicity-face-data-csv", "age_gender.csv"),
}


class FetchFailed(FacelibError):
    """A data set that could not be downloaded."""


def fetch_dataset(name: str, to: Path, archive: Path | None = None) -> Path:
    """Download one of `DATASETS` into a folder of its name, or unpack an archive of it; returns what `--data` takes.

    An existing copy is kept.

    Raises
    ------
    FetchFailed
        If the name is unknown or the download fails; the message says how to continue by hand.
    UnsafeArchive
        See `archives.unpack`.
    """
    if name not in DATASETS:
        raise FetchFailed(f"there is no data set {name!r}: choose {' or '.join(DATASETS)}")
    handle, part = DATASETS[name]
    target = to / name / part
    if target.exists():
        return target
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        arriving = Path(tempfile.mkdtemp(dir=target.parent, prefix=PARTIAL))
        try:
            if archive is None:
                _copy(_download(handle, part, target), arriving / part)
            else:
                unpack(archive, part, arriving)
            # The data appear under their name only when they are whole.
            os.rename(arriving / part, target)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
    return target


def _download(handle: str, part: str, target: Path) -> Path:
    """The wanted part of a data set in kagglehub's own folder."""
    import kagglehub

    try:
        downloaded = Path(kagglehub.dataset_download(handle)) / part
    except Exception as error:  # kagglehub raises anything that its transport does
        raise FetchFailed(
            f"{handle} could not be downloaded from Kaggle ({type(error).__name__}): download it in a browser from "
            f"www.kaggle.com/datasets/{handle}, and pass the file as --archive, or unpack {part} to {target}"
        ) from error
    if not downloaded.exists():
        raise FetchFailed(f"the download of {handle} holds no {part}: look into {downloaded.parent}")
    return downloaded


def _copy(downloaded: Path, to: Path) -> None:
    """Copy a download, but for its links, which could lead to any file of this machine."""
    if downloaded.is_dir():
        shutil.copytree(downloaded, to, ignore=lambda folder, names: [n for n in names if Path(folder, n).is_symlink()])
    else:
        shutil.copy(downloaded, to)
