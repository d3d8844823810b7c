"""Folders of arrays that are computed once: built whole or not at all, and checked by their checksums."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from facelib.errors import DamagedRun
from facelib.formats import read_json, write_json
from facelib.storage import PARTIAL, held, sweep, writing


def is_whole(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder holds files as they were written into it: their SHA-256 digests are computed anew."""
    try:
        about = read_json(folder / "about.json")
        return all(about.get(name) == _checksum(folder / name) for name in names)
    except (DamagedRun, OSError):
        return False


def build_folder(
    folder: Path, names: Iterable[str], fill: Callable[[Path], dict], is_usable: Callable[[Path], bool]
) -> None:
    """Build a folder that takes its name only when it is complete, unless it is usable already.

    Parameters
    ----------
    folder : Path
        Replaced where it is not usable.
    names : iterable of str
        Files that `fill` writes.
    fill : callable
        Writes the files into the temporary folder it is given; returns facts for `about.json`, where their digests are
        added.
    is_usable : callable
        Asked again once the lock is held, since another process may have built the folder.

    Raises
    ------
    Unwritable
        See `facelib.storage.writing`.
    """
    with held(folder.with_name(f".{folder.name}.lock")), writing(folder):
        if is_usable(folder):
            return
        sweep(folder.parent.glob(f"{PARTIAL}{folder.name}-*"))
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{PARTIAL}{folder.name}-"))
        try:
            facts = fill(building)
            write_json(building / "about.json", facts | {name: _checksum(building / name) for name in names})
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
