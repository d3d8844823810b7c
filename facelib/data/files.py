"""Safe reading of untrusted data folders.

Nothing outside the folder is opened, no link to a folder is followed, and nothing that could block or fill the memory
is read.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_BYTES = 64 * 2**20  # no photograph of a face is larger


def regular_files(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Paths below `root` of all files that are not hidden, and folders that are not searched, with the reason; sorted.

    Links to folders are not followed, so that none leads out or in circles.
    """
    files, refused = [], []

    def refuse(path: str, reason: str) -> None:
        refused.append((os.path.relpath(path, root), f"is a {reason}"))

    def unreadable(error: OSError) -> None:
        refuse(error.filename, f"folder that cannot be read: {error.strerror}")

    for folder, subfolders, names in os.walk(root, onerror=unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for path in (os.path.join(folder, name) for name in subfolders):
            if os.path.islink(path):
                refuse(path, "link to a folder, which is not followed")
        below = os.path.relpath(folder, root)
        prefix = "" if below == os.curdir else below + os.sep
        files += [prefix + name for name in names if not name.startswith(".")]
    return sorted(files), sorted(refused)


def hidden_entries(root: Path) -> list[str]:
    """Paths below `root` of hidden files and folders, which `regular_files` leaves out; sorted."""
    hidden = []
    for folder, subfolders, names in os.walk(root):
        hidden += [os.path.join(folder, name) for name in (*subfolders, *names) if name.startswith(".")]
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    return sorted(os.path.relpath(path, root) for path in hidden)


def printable(path: str) -> str:
    r"""A path as text that every table can hold: null characters, and bytes that are not UTF-8, as escapes.

    Examples
    --------
    >>> printable("caf\udce9.jpg"), printable("café.jpg")
    ('caf\\xe9.jpg', 'café.jpg')
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", r"\x00")


def is_text(path: str) -> bool:
    """Whether a file's name is UTF-8, so that tables can hold it as it is."""
    return printable(path) == path


def read_below(root: Path, path: str) -> bytes:
    """The content of a file below the resolved folder `root`.

    Raises
    ------
    ValueError
        If a link leads out of the folder, or as `read_file` does.
    """
    with _reasons():
        full = (root / path).resolve()
        if not full.is_relative_to(root):
            raise ValueError("is a link that leads out of the data folder")
    return read_file(full)


def read_file(path: Path) -> bytes:
    """The content of a photograph's file.

    Raises
    ------
    ValueError
        If it does not exist, is not a regular file, is empty or too large, or cannot be read; with the reason.
    """
    with _reasons():
        # A pipe or a device is not even opened, which might block or act; checked again once open, as it may change.
        if not path.is_file():
            raise ValueError("is not a regular file" if path.exists() else "does not exist")
        flags = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))  # where the system has them
        handle = os.open(path, sum(flags, os.O_RDONLY))
        with open(handle, "rb") as opened:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise ValueError("is not a regular file")
            if facts.st_size > MAX_FILE_BYTES:
                raise ValueError(f"is larger than {MAX_FILE_BYTES // 2**20} MB")
            content = opened.read(MAX_FILE_BYTES)
    if not content:
        raise ValueError("is empty")
    return content


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except RuntimeError as error:  # a link to itself before Python 3.13
        raise ValueError(f"cannot be read: {error}") from error
