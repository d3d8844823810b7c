"""Archives of strangers, unpacked into one folder and nowhere else."""

import contextlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from facelib.errors import FacelibError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 20 * 2**30  # unpacked; UTKFace has a hundredth
COPIED = 2**20  # bytes at a time
# What the standard library raises over damaged archives.
UNPACKING_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


class UnsafeArchive(FacelibError):
    """An archive that cannot be unpacked, or had better not be."""


def unpack(archive: Path, part: str, to: Path) -> None:
    """Unpack the files at or below `part` of a .zip or .tar archive into `to`.

    Parameters
    ----------
    archive : Path
    part : str
        Name of a folder or a file in the archive.
    to : Path
        A folder that exists; receives `part`.

    Raises
    ------
    UnsafeArchive
        If the file is no archive or holds no `part`; if a member would lie outside, is a link or a device, or is too
        large.
    """
    left = MAX_BYTES
    try:
        for number, (name, size, opened) in enumerate(_members(archive)):
            steps = PurePosixPath(name.replace("\\", "/")).parts or ("",)
            if "\0" in name or name.startswith(("/", "\\")) or ".." in steps or ":" in "".join(steps[:1]):
                raise UnsafeArchive(f"{archive} holds {name!r}, which leads out of its folder: it is not unpacked")
            if opened is None:
                raise UnsafeArchive(f"{archive} holds {name!r}, a link or a device: it is not unpacked")
            if number >= MAX_MEMBERS or size > left:
                raise UnsafeArchive(
                    f"{archive} would unpack to more than {MAX_BYTES / 2**30:.0f} GB: it is not unpacked"
                )
            if steps[0] == part:
                target = to.joinpath(*steps)
                target.parent.mkdir(parents=True, exist_ok=True)
                left -= _copy(opened, target, left, archive)
    except FileExistsError as error:
        raise UnsafeArchive(f"{archive} holds {name!r} twice: it is not unpacked") from error
    except UNPACKING_ERRORS as error:
        if isinstance(error, OSError) and error.errno:  # the disk's fault
            raise
        raise UnsafeArchive(f"{archive} cannot be unpacked ({error}): download it again") from error
    if not (to / part).exists():
        raise UnsafeArchive(f"{archive} holds no {part}: give the archive of that data set")


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, size as claimed and content of each member that is no folder; no content for what is no regular file."""
    if not archive.is_file():
        raise UnsafeArchive(f"there is no file {archive}: --archive takes a .zip or .tar file")
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(archive):
            packed = stack.enter_context(zipfile.ZipFile(archive))
            for entry in packed.infolist():
                if not entry.is_dir():
                    is_link = (entry.external_attr >> 28) == 0o12
                    yield entry.filename, entry.file_size, None if is_link else packed.open(entry)
        elif tarfile.is_tarfile(archive):
            packed = stack.enter_context(tarfile.open(archive))
            for member in packed:
                if not member.isdir():
                    yield member.name, member.size, packed.extractfile(member) if member.isreg() else None
        else:
            raise UnsafeArchive(f"{archive} is neither a .zip nor a .tar file: give the archive as it was downloaded")


def _copy(opened: IO[bytes], target: Path, limit: int, archive: Path) -> int:
    """Copy a member's content, whose size may be another than it claims; bytes copied."""
    copied = 0
    with opened, target.open("xb") as written:
        while chunk := opened.read(COPIED):
            copied += len(chunk)
            if copied > limit:
                raise UnsafeArchive(f"{archive} unpacks to more than {MAX_BYTES / 2**30:.0f} GB: it is not unpacked")
            written.write(chunk)
    return copied
