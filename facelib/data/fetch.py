"""Download of the public forms of UTKFace through kagglehub; their own terms apply."""

import shutil
from pathlib import Path

from facelib.errors import FacelibError

# The Kaggle data set of each name, and the part of it that is wanted: the first one holds the same faces several times.
DATASETS = {
    "utkface": ("jangedoo/utkface-new", "UTKFace"),
    "utkface-csv": ("nipunarora8/age-gender-and-ethnicity-face-data-csv", "age_gender.csv"),
}


class FetchFailed(FacelibError):
    """A data set that could not be downloaded."""


def fetch_dataset(name: str, to: Path) -> Path:
    """Download a data set into a folder of its name, and return what `--data` takes.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    to : Path
        The folder to put it in; an existing copy is kept.

    Raises
    ------
    FetchFailed
        If the name is unknown or the download fails; the message says how to go on by hand.
    """
    if name not in DATASETS:
        raise FetchFailed(f"there is no data set {name!r}: choose {' or '.join(DATASETS)}")
    handle, part = DATASETS[name]
    target = to / name / part
    if target.exists():
        return target
    import kagglehub

    try:
        downloaded = Path(kagglehub.dataset_download(handle)) / part
    except Exception as error:  # kagglehub passes on whatever its transport raises
        raise FetchFailed(
            f"{handle} could not be downloaded from Kaggle ({type(error).__name__}): download it in a browser from "
            f"www.kaggle.com/datasets/{handle}, unpack {part} to {target}, and pass that as --data"
        ) from error
    if not downloaded.exists():
        raise FetchFailed(f"the download of {handle} holds no {part}: look into {downloaded.parent}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if downloaded.is_dir():
        shutil.copytree(downloaded, target)
    else:
        shutil.copy(downloaded, target)
    return target
