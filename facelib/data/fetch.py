"""Download of the public forms of UTKFace through kagglehub; their own terms apply."""

import shutil
from pathlib import Path

from facelib.errors import FacelibError

DATASETS = {"utkface": "jangedoo/utkface-new", "utkface-csv": "nipunarora8/age-gender-and-ethnicity-face-data-csv"}


class FetchFailed(FacelibError):
    """A data set that could not be downloaded."""


def fetch_dataset(name: str, to: Path) -> Path:
    """Download a data set into a folder of its name.

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
    target = to / name
    if target.exists():
        return target
    import kagglehub

    try:
        downloaded = Path(kagglehub.dataset_download(DATASETS[name]))
    except Exception as error:  # kagglehub passes on whatever its transport raises
        raise FetchFailed(
            f"{DATASETS[name]} could not be downloaded from Kaggle ({type(error).__name__}): download it in a browser, "
            f"unpack it into {target}, and pass that folder as --data"
        ) from error
    to.mkdir(parents=True, exist_ok=True)
    shutil.copytree(downloaded, target)
    return target
