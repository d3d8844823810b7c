"""dlib's published networks, read in numpy from the package that carries them; no code in their files can run.

They are sequences of values as `dlib/serialize.h` writes them. Davis E. King made them and put them into the public
domain (github.com/davisking/dlib-models).
"""

import hashlib
import importlib.util
import math
from pathlib import Path

import numpy as np

from facelib.errors import FacelibError

PACKAGE = "face_recognition_models"
INSTALL = "pip install dlib-bin face-recognition-models==0.3.0"
MAX_BYTES = 64 << 20  # the largest file has 22 MB
MAX_GAP = 1024  # bytes between two tensors of a file: settings of its layers


class WeightsError(FacelibError):
    """Weights of a published network that are missing, damaged or foreign."""


def model_file(name: str) -> Path:
    """A file of the installed package, which is not imported.

    Raises
    ------
    WeightsError
        If it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / "models" / name if spec and spec.origin else None
    if path is None or not path.is_file():
        raise WeightsError(f"{name} is not installed: {INSTALL}")
    return path


def read_model(path: Path, sha256: str) -> bytes:
    """The content of a published file.

    Raises
    ------
    WeightsError
        If it cannot be read, or differs from the published one in a single bit.
    """
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): {INSTALL} --force-reinstall") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(f"{path} is not the published face network: {INSTALL} --force-reinstall")
    return content


def next_tensor(content: bytes, at: int, shape: tuple[int, ...], layer: bytes = b"") -> tuple[np.ndarray, int]:
    """The next tensor of a shape from byte `at` on, flat, and the byte where it ends; of a layer, behind its name.

    It is a view of `content`: a size that a file merely claims reserves no memory.

    Raises
    ------
    WeightsError
        If there is none, or it is not finite.
    """
    size = math.prod(shape)
    header = b"".join(map(_integer, (2, *shape)))  # version 2 of dlib's format of tensors
    name = content.find(_integer(len(layer)) + layer, at, at + MAX_GAP) if layer else at
    start = content.find(header, name, name + MAX_GAP) + len(header)
    if name < 0 or start < len(header) or start + 4 * size > len(content):
        raise WeightsError(f"a network's file lacks its layer {layer.decode()} {shape} at byte {at}")
    values = np.frombuffer(content, "<f4", size, start)
    if not np.isfinite(values).all():
        raise WeightsError(f"a network's file holds numbers that are not finite after byte {start}")
    return values, start + 4 * size


def _integer(value: int) -> bytes:
    """A positive integer as dlib writes it: how many bytes it takes, then these, the lowest first."""
    count = (value.bit_length() + 7) // 8
    return bytes([count]) + value.to_bytes(count, "little")
