"""JSON and CSV files: written whole or not at all, and refused where facelib did not write them."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from facelib.errors import DamagedRun, FacelibError
from facelib.finding import Finding
from facelib.spreadsheets import guarded, quoting, unguarded
from facelib.statistics import CalibrationError, Estimate
from facelib.storage import atomic_path, write_text


def plain(value):
    """A value that JSON and YAML can hold: numpy types unpacked, estimates as dictionaries, non-finite numbers null."""
    if isinstance(value, CalibrationError | Estimate | Finding):
        return plain(value.to_dict())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, pd.Series | pd.DataFrame):
        return plain(value.reset_index().to_dict("records"))
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_json(path: Path, content) -> None:
    """Write JSON atomically, keys in the order given."""
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """A file that `write_json` wrote.

    Raises
    ------
    DamagedRun
        If it is not a JSON object.
    """
    with as_written(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it does not hold a JSON object")
        return content


@contextlib.contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Within the block, any error while parsing `path` becomes DamagedRun; a FacelibError stays as it is."""
    try:
        yield
    except FacelibError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DamagedRun(
            f"{path} is not what facelib writes ({type(error).__name__}: {reason}): run the notebook that makes it "
            "again, or begin the run anew with --fresh"
        ) from error


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file atomically, formulas escaped; `read_csv` restores the texts."""
    with atomic_path(path) as partial:
        guarded(table).to_csv(partial, index=False, quoting=quoting(table))


def read_csv(path: Path, **options) -> pd.DataFrame:
    """Read a CSV file that `write_csv` wrote; options are those of pandas."""
    return unguarded(pd.read_csv(path, **options))
