"""Untrusted archives, unpacked into one folder and nowhere else."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from facelib.errors import FacelibError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 20 * 2**30  # unpacked; UTKFace has a hundredth
# What the standard library raises over damaged archives.
UNPACKING_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError, OSError,
                    RuntimeError, ValueError)  # fmt: skip


class UnsafeArchive(FacelibError):
    """A corrupt or unsafe archive."""


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
        If the file is not an archive or holds no `part`; if a member would lie outside, is a link or a device, occurs
        twice, or is too large. Nothing is unpacked then.
    """
    try:
        if not archive.is_file():
            raise UnsafeArchive(f"there is no file {archive}: --archive takes a .zip or .tar file")
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for entry in list(_wanted(archive, packed.infolist(), part)):
                    packed.extract(entry, to)  # reads no more than the size that was checked
        elif tarfile.is_tarfile(archive):
            if not hasattr(tarfile, "data_filter"):
                raise UnsafeArchive(f"{archive} is a .tar file, which needs Python 3.11.4 or later: unpack it by hand")
            with tarfile.open(archive) as packed:
                for member in list(_wanted(archive, packed, part)):
                    packed.extract(member, to, filter="data")
        else:
            raise UnsafeArchive(f"{archive} is neither a .zip nor a .tar file: give the archive as it was downloaded")
    except UNPACKING_ERRORS as error:
        if isinstance(error, OSError) and error.errno:  # the disk's fault
            raise
        raise UnsafeArchive(f"{archive} cannot be unpacked ({error}): download it again") from error
    if not (to / part).exists():
        raise UnsafeArchive(f"{archive} holds no {part}: give the archive of that data set")


def _wanted(archive: Path, members, part: str) -> Iterator[zipfile.ZipInfo | tarfile.TarInfo]:
    """The files at or below `part` among an archive's members, all of which are checked."""
    left, seen = MAX_BYTES, set()
    for number, member in enumerate(members):
        if isinstance(member, zipfile.ZipInfo):
            name, size, is_folder = member.filename, member.file_size, member.is_dir()
            is_file = (member.external_attr >> 28) != 0o12  # not a link
        else:
            name, size, is_folder, is_file = member.name, member.size, member.isdir(), member.isreg()
        steps = PurePosixPath(name.replace("\\", "/")).parts or ("",)
        fault = ""
        if "\0" in name or name.startswith(("/", "\\")) or ".." in steps or ":" in steps[0]:
            fault = f"holds {name!r}, which leads out of its folder"
        elif not is_file and not is_folder:
            fault = f"holds {name!r}, a link or a device"
        elif is_file and not is_folder and steps in seen:
            fault = f"holds {name!r} twice"
        elif number >= MAX_MEMBERS or size > left:
            fault = f"would unpack to more than {MAX_BYTES / 2**30:.0f} GB"
        if fault:
            raise UnsafeArchive(f"{archive} {fault}: it is not unpacked")
        if steps[0] == part and not is_folder:
            seen.add(steps)
            left -= size
            yield member
