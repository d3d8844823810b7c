"""Files written whole or not at all, and folders that one process holds.

A killed process leaves nothing that is read: half-written files have hidden names of their own, a lock ends with its
process, and so do the processes that write on its behalf.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from facelib.errors import FacelibError

PARTIAL = ".partial-"  # how the names of half-written files and folders begin
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
REMEDIES = {
    **dict.fromkeys(NO_SPACE, "free some space and repeat the command"),
    **dict.fromkeys(NO_PLACE, "choose a writable folder"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}
MEMORY_GB = 8  # about twice the peak of `full` on 24,000 faces (docs/reliability.md)
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


class Unwritable(FacelibError):
    """A file or folder that cannot be written: a full disk, a read-only folder."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, a full disk, a read-only folder or an impossible name becomes Unwritable, about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise Unwritable(f"{path} cannot be written ({os.strerror(error.errno)}): {REMEDIES[error.errno]}") from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error; see `writing`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL, suffix=path.suffix)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            # mkstemp makes files for the owner alone; these are ordinary files.
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)
            with partial.open("rb") as file:
                os.fsync(file.fileno())  # first: a power cut must not leave the name with half the content
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def standing(path: Path) -> Path:
    """A path, or the nearest of the folders that it is to lie in that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def check_writable(folder: Path) -> None:
    """Refuse a folder, which need not exist yet, in which nothing can be written; see `writing`."""
    with writing(folder):
        handle, name = tempfile.mkstemp(dir=standing(folder), prefix=PARTIAL)
        os.close(handle)
        os.unlink(name)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def held(lock: Path, refusal: FacelibError | None = None) -> Iterator[None]:
    """Hold a lock file, which is removed after the block; one left by a killed process does not block.

    Where another process holds it, `refusal` is raised; without one, wait for that process.
    """
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder = FileLock(lock, timeout=-1 if refusal is None else 0)
        try:
            holder.acquire()
        except Timeout:
            raise refusal from None
    try:
        yield
    finally:
        if os.name == "posix":  # elsewhere an open file cannot be removed
            lock.unlink(missing_ok=True)  # while held: a waiting process notices that the file is gone
        holder.release()


def sweep(leftovers: Iterable[Path]) -> None:
    """Remove what killed processes left half-written; only the holder of the folder may."""
    for path in list(leftovers):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def memory_gb() -> float | None:
    """The machine's memory, in GB; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def end_with_parent() -> None:
    """Kill this process when its parent ends, so that nothing is written after the parent's lock is gone.

    Linux only; elsewhere a notebook's kernel notices within a second.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
