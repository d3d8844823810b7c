"""The run folder: tables, arrays, checkpoints, metrics and figures, by which alone the notebooks meet."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from facelib import schema
from facelib.config import Settings, resolve, validated
from facelib.errors import DamagedRun, MissingFromRun, RunConflict, UnknownSetting
from facelib.finding import Finding, Findings
from facelib.formats import as_written, plain, read_csv, read_json, write_csv, write_json
from facelib.schema import Attribute
from facelib.statistics import Bootstrap, Estimate
from facelib.storage import PARTIAL, atomic_path, held, write_text

# `restored` in params.yaml, of a run that was made from a published one.
WITH_PHOTOGRAPHS, WITHOUT_PHOTOGRAPHS = "with photographs", "without photographs"
PROGRESS = "progress.json"  # finished notebooks, written by the pipeline
READINGS = "test_reads.csv"  # each scoring of a test split; outlasts fresh starts, and publications continue it
READING_COLUMNS = ("date", "notebook", "commit", "profile", "faces", "n")
# Published runs, below the root: the reference, and the joint network.
REFERENCE, JOINT = "reports/utkface", "reports/faces"
VERSIONED = ("torch", "torchvision", "lightning", "numpy", "pandas", "scikit-learn", "pillow", "matplotlib")


def project_root() -> Path:
    """The checkout that this package is installed from, or else the working directory."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def runs_root() -> Path:
    """Where run folders live: FACELIB_RUNS, else `runs/` of the project."""
    return Path(os.environ.get("FACELIB_RUNS") or project_root() / "runs")


def cache_root() -> Path:
    """Where decoded photographs are kept: FACELIB_CACHE, else `data/cache/` of the project."""
    return Path(os.environ.get("FACELIB_CACHE") or project_root() / "data" / "cache")


def git_commit() -> str:
    """The commit of the checkout, with `+` where files differ from it; `unknown` outside a git checkout."""
    describe = ["git", "-C", str(project_root()), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_fingerprint() -> str:
    """A digest of the package's source, noted with each finished notebook."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def digest_of_faces(image_ids: Iterable[str]) -> str:
    """A digest of the names of some faces, by which test splits are told apart."""
    return hashlib.sha256("\n".join(sorted(image_ids)).encode()).hexdigest()[:12]


def read_readings(path: Path) -> list[dict[str, str]]:
    """The rows of a log of test readings, texts by `READING_COLUMNS`; none without a file."""
    if not path.exists():
        return []
    with as_written(path):
        table = read_csv(path, dtype=str, keep_default_na=False)
        return table.reindex(columns=list(READING_COLUMNS), fill_value="").to_dict("records")


def write_readings(path: Path, rows: Iterable[dict]) -> None:
    """Write a log of test readings by date, each once."""
    table = pd.DataFrame(rows, columns=list(READING_COLUMNS)).astype(str)
    write_csv(table.drop_duplicates().sort_values("date", kind="stable"), path)


def processor() -> str:
    """The processor's name, its number of cores, and OMP_NUM_THREADS where it is set: results depend on it."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    name = model[1].strip() if model else platform.processor() or platform.machine()
    threads = os.environ.get("OMP_NUM_THREADS")
    return f"{name}, {os.cpu_count()} cores" + (f", threads: {threads}" if threads else "")


# Forms of the texts in params.yaml; the fingerprint names a folder of the cache.
PARAMS_TEXTS = {"commit": r".*", "created": r".*", "device": r".*"}
DATA_TEXTS = {"path": r"[^\0]*", "images": r"[^\0]*", "labels": r"[^\0]*", "fingerprint": r"[0-9a-f]{20}"}
PROTOCOL_TEXTS = {"name": r".*", "path": r"[^\0]+", "digest": r"[0-9a-f]{20}"}


def _load_params(text: str) -> dict:
    """Parameters from YAML without aliases: a few nested ones expand beyond any memory."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
        raise ValueError("it holds aliases")
    params = yaml.safe_load(text)
    if not isinstance(params, dict):
        raise ValueError("it does not hold parameters")
    return params


def _check_params(params: dict) -> None:
    """Refuse parameters of the wrong form; a ValueError names the first."""
    protocols = [(params["protocol"], PROTOCOL_TEXTS)] if "protocol" in params else []
    data = [(part, DATA_TEXTS) for part in (params["data"], *params["data"].get("further", ()))]
    for part, forms in [(params, PARAMS_TEXTS), *data, *protocols]:
        for key, form in forms.items():
            value = part.get(key, "") if key in ("images", "labels", "fingerprint") else part[key]
            if not isinstance(value, str) or (value and not re.fullmatch(form, value, re.DOTALL)):
                raise ValueError(f"{key} is {value!r}")
    if not all(isinstance(text, str) for pair in params["versions"].items() for text in pair):
        raise ValueError(f"versions is {params['versions']!r}")


@dataclass(frozen=True)
class DataSet:
    """Labelled faces that a command names: a folder or a table, its pictures' folder, and the text of a label map."""

    path: str
    images: str = ""
    labels: str = ""

    def resolved(self) -> "DataSet":
        """The same with absolute paths."""
        return DataSet(
            *(str(Path(place).resolve()) if place else "" for place in (self.path, self.images)), self.labels
        )

    def to_dict(self) -> dict[str, str]:
        """As params.yaml holds it: without a label map where there is none."""
        return {key: value for key, value in asdict(self).items() if value or key != "labels"}


class RunFolder:
    """One run's tables, arrays, checkpoints, metrics and figures, from `start_run` or `open_run`."""

    def __init__(self, path: Path):
        self.path = path
        with as_written(path / "params.yaml"):
            self.params = _load_params((path / "params.yaml").read_text(encoding="utf-8"))
            try:
                self.settings: Settings = validated(self.params["settings"])
            except UnknownSetting as error:
                raise DamagedRun(f"{path}/params.yaml: {error}; begin the run anew with --fresh") from error
            _check_params(self.params)
            self._attributes = tuple(map(schema.attribute_from_dict, self.params.get("attributes", [])))

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def is_synthetic(self) -> bool:
        """Whether the run's faces were drawn by the package."""
        return not self.params["data"]["path"]

    @property
    def data_sets(self) -> tuple[DataSet, ...]:
        """The labelled faces that the run was made from; none where they were drawn."""
        data = self.params["data"]
        keys = DataSet.__dataclass_fields__
        parts = [data, *data.get("further", ())] if data["path"] else []
        return tuple(DataSet(**{key: part.get(key, "") for key in keys}) for part in parts)

    @property
    def protocol(self) -> dict[str, str]:
        """The published split that the run follows: name, path and digest of its lists; empty if it makes its own."""
        return self.params.get("protocol", {})

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes that the run's faces are labelled with; MissingFromRun if they are not read yet."""
        if "attributes" not in self.params:
            raise MissingFromRun(f"run {self.name!r} has no faces yet: run notebook {schema.NOTEBOOKS[0]} first")
        return self._attributes

    @property
    def learned(self) -> tuple[Attribute, ...]:
        """Those of `attributes` that the run's networks learn."""
        return schema.named(self.attributes, self.params["learned"])

    def set_attributes(self, attributes: Iterable[Attribute], learned: Iterable[Attribute]) -> None:
        """Note in params.yaml what the faces are labelled with, and what is learned of it."""
        self._attributes = tuple(attributes)
        stored = [attribute.to_dict() for attribute in self._attributes]
        self.update_params(attributes=stored, learned=[attribute.name for attribute in learned])

    @property
    def bootstrap(self) -> Bootstrap:
        """The bootstrap of the run's settings."""
        return Bootstrap(self.settings.evaluation.resamples, self.settings.seed)

    def notebook(self, name: str) -> "NotebookResults":
        """What the notebook of a name, such as `05_evaluate`, leaves in this run."""
        return NotebookResults(self, name)

    @property
    def label(self) -> str:
        """What figures and tables of this run say about its data; empty for real photographs."""
        return "synthetic faces" if self.is_synthetic else ""

    @property
    def note(self) -> str:
        """`label` as the end of a title."""
        return f"; {self.label}" if self.label else ""

    def require(self, name: str) -> Path:
        """The path of a file of this run; where it is missing, MissingFromRun names the notebook that makes it."""
        path = self.path / name
        if not path.exists():
            maker = schema.MADE_BY.get(name, "an earlier notebook")
            raise MissingFromRun(f"run {self.name!r} has no {name} yet: run notebook {maker} first")
        return path

    def check_photographs(self) -> None:
        """Raise MissingFromRun if this run was restored without its images."""
        if self.params.get("restored") == WITHOUT_PHOTOGRAPHS:
            raise MissingFromRun(
                f"run {self.name!r} was restored without its photographs: "
                "`facelib restore --data PATH` with another --run name restores them"
            )

    def update_params(self, **values) -> None:
        """Merge values into params.yaml, one level deep."""
        for key, value in values.items():
            known = self.params.get(key)
            self.params[key] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
        write_text(self.path / "params.yaml", yaml.safe_dump(plain(self.params), sort_keys=False))

    def save_table(self, table: pd.DataFrame, name: str) -> None:
        """Save a table below tables/: CSV if the name ends so, else parquet."""
        if (path := self.table_path(name)).suffix == ".csv":
            write_csv(table, path)
        else:
            with atomic_path(path) as partial:
                table.to_parquet(partial, index=False)

    def load_table(self, name: str) -> pd.DataFrame:
        """Load a table saved by `save_table`; see `require`."""
        path = self.require(f"tables/{self.table_path(name).name}")
        with as_written(path):
            return read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)

    def table_path(self, name: str) -> Path:
        """Where a table is, or would be: parquet unless the name has another ending."""
        return self.path / "tables" / (name if "." in name else f"{name}.parquet")

    def save_array(self, array: np.ndarray, name: str) -> None:
        """Save an array as tables/<name>.npy."""
        with atomic_path(self.path / "tables" / f"{name}.npy") as partial:
            np.save(partial, array)

    def load_array(self, name: str) -> np.ndarray:
        """Load an array saved by `save_array`."""
        self.check_photographs()  # arrays are computed from images
        path = self.require(f"tables/{name}.npy")
        with as_written(path):
            return np.load(path, allow_pickle=False)

    def save_checkpoint(self, write, name: str) -> Path:
        """Let `write(path)` make checkpoints/<name>, atomically."""
        path = self.path / "checkpoints" / name
        with atomic_path(path) as partial:
            write(partial)
        return path

    def gather_results(self) -> None:
        """Write results.json anew from all notebooks' metrics."""
        with self._alone():
            results = {}
            for path in sorted((self.path / "metrics").glob("*.json")):
                with as_written(path):
                    results |= read_json(path)["headline"]
            write_json(self.path / "results.json", results)

    def _alone(self) -> contextlib.AbstractContextManager:
        """Hold the files that several notebooks add to, which may run at once."""
        return held(self.path / f"{PARTIAL}shared.lock")

    def forget(self, notebooks: Iterable[str]) -> None:
        """Remove the metrics, figures and outputs of notebooks, which then count as unfinished."""
        notebooks = set(notebooks)
        if (self.path / PROGRESS).exists():
            kept = {name: facts for name, facts in read_json(self.path / PROGRESS).items() if name not in notebooks}
            write_json(self.path / PROGRESS, kept)
        for name in notebooks:
            (self.path / "metrics" / f"{name}.json").unlink(missing_ok=True)
            (self.path / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)
            for figure in (self.path / "figures").glob(f"{name[:2]}_*"):
                figure.unlink()
        self.gather_results()

    def load_metrics(self, notebook: str) -> dict:
        """What a notebook measured: a dictionary with `headline`, `findings` and `details`."""
        path = self.path / "metrics" / f"{notebook}.json"
        if not path.exists():
            raise MissingFromRun(f"run {self.name!r} has no metrics of {notebook} yet: run that notebook first")
        return read_json(path)

    def details(self, notebook: str) -> dict:
        """What a notebook measured beside the headline; empty where it has not run."""
        path = self.path / "metrics" / f"{notebook}.json"
        return read_json(path)["details"] if path.exists() else {}

    def findings(self) -> dict[str, Finding]:
        """All findings so far by key, in the order of the notebooks."""
        found = {}
        for path in sorted((self.path / "metrics").glob("*.json")):
            with as_written(path):
                found |= {stored["key"]: Finding.from_dict(stored) for stored in read_json(path)["findings"]}
        return found

    def results(self) -> dict[str, Estimate]:
        """All headline metrics measured so far, by flat key."""
        path = self.path / "results.json"
        if not path.exists():
            return {}
        with as_written(path):
            return {key: Estimate.from_dict(stored) for key, stored in read_json(path).items()}

    @contextlib.contextmanager
    def timed(self, key: str, images: int | None = None) -> Iterator[None]:
        """Record the seconds that a block takes, and images per second, in timings.json."""
        start = time.perf_counter()
        yield
        self.record_time(key, time.perf_counter() - start, images)

    def record_time(self, key: str, seconds: float, images: int | None = None) -> None:
        """Record seconds that were measured elsewhere; see `timed`."""
        path = self.path / "timings.json"
        timing = {"seconds": round(seconds, 2), "device": self.params.get("device")}
        if images:
            timing["images_per_second"] = round(images / seconds, 1)
        with self._alone():
            write_json(path, (read_json(path) if path.exists() else {}) | {key: timing})

    def log_test_read(self, notebook: str, image_ids: Iterable[str]) -> None:
        """Log in `READINGS` that a notebook scores these test faces: when, by which commit, on which faces."""
        path, image_ids = self.path / READINGS, list(image_ids)
        row = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "notebook": notebook, "commit": git_commit()}
        row |= {"profile": self.settings.profile, "faces": digest_of_faces(image_ids), "n": len(image_ids)}
        with self._alone():
            write_readings(path, [*read_readings(path), row])


class NotebookResults:
    """What one of the notebooks (`schema.NOTEBOOKS`) of a run saves and shows."""

    def __init__(self, run: RunFolder, name: str):
        if name not in schema.NOTEBOOKS:
            raise ValueError(f"{name!r} is not one of {', '.join(schema.NOTEBOOKS)}")
        self.run, self.name = run, name

    def show(self, figure, name: str, raster: bool = False):
        """Save a figure as figures/<NN>_<name>.svg, or .png where it holds pictures, and return it."""
        suffix = "png" if raster else "svg"
        with atomic_path(self.run.path / "figures" / f"{self.name[:2]}_{name}.{suffix}") as partial:
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(partial, dpi=144, bbox_inches="tight", metadata=metadata)
        return figure

    def save(self, headline: dict[str, Estimate], findings: Iterable[Finding] = (), **details) -> None:
        """Save what the notebook measured, and gather all notebooks' headline metrics into results.json.

        `headline` has flat keys such as `test.age.mae`; the report, slides and pages quote the findings, whose keys are
        unique; details are anything else that JSON can hold.
        """
        content = {"headline": headline, "findings": list(findings), "details": details}
        write_json(self.run.path / "metrics" / f"{self.name}.json", content)
        self.run.gather_results()


def run_name(name: str = "", profile: str = "") -> tuple[str, str]:
    """The names of the run and its profile: as given, else from FACELIB_RUN and FACELIB_PROFILE, else demo.

    RunConflict if the name would lead out of the folder of all runs.
    """
    profile = profile or os.environ.get("FACELIB_PROFILE") or "demo"
    name = name or os.environ.get("FACELIB_RUN") or profile
    if Path(name).name != name or name.startswith(".") or not name.isprintable():
        raise RunConflict(f"a run's name is one word without slashes, and {name!r} is not: choose another --run name")
    return name, profile


def found_before(notebook: str, name: str = "", profile: str = "") -> Findings:
    """What a notebook found when it last ran in a run, for the top of its page; nothing where it has not run."""
    path = runs_root() / run_name(name, profile)[0]
    if not (path / "metrics" / f"{notebook}.json").exists():
        return Findings()
    stored = RunFolder(path).load_metrics(notebook)["findings"]
    return Findings(map(Finding.from_dict, stored))


def published_run() -> Path:
    """The published reference, laid out like a run folder; MissingFromRun if this checkout has none."""
    path = project_root() / REFERENCE
    if not (path / "checkpoints" / "predictor.json").exists():
        raise MissingFromRun("no reference run is published here: name another, or publish one with `make reference`")
    return path


def published_predictor() -> Path:
    """The published joint network, trained on several data sets; the reference network where there is none."""
    path = project_root() / JOINT
    return path if (path / "checkpoints" / "predictor.json").exists() else published_run()


def start_run(
    name: str = "",
    profile: str = "",
    data: str | Sequence[DataSet] = "",
    overrides: dict | None = None,
    protocol: dict | None = None,
) -> RunFolder:
    """Open a run folder, or make it with its resolved parameters where it does not exist.

    Parameters
    ----------
    name, profile : str
        Empty: see `run_name`.
    data : str or sequence of DataSet
        Labelled faces in a form of `facelib.data.published`, or several; empty for synthetic faces.
    overrides : dict, optional
        Settings that replace the profile's.
    protocol : dict, optional
        From `facelib.data.protocols.identify`; without it the run makes its own split.

    Raises
    ------
    RunConflict
        If the folder exists with other parameters.
    """
    asked, (name, profile) = profile, run_name(name, profile)
    path = runs_root() / name
    first, *further = [
        each.resolved() for each in ([DataSet(data)] if isinstance(data, str) else data) or [DataSet("")]
    ]
    settings = resolve(profile, overrides, photographs=bool(first.path))
    sources = first.to_dict() | ({"further": [each.to_dict() for each in further]} if further else {})
    if (path / "params.yaml").exists():
        run = RunFolder(path)
        # Only what is asked for can conflict, not the environment or a default that changed since.
        present, wanted = run.settings.flat(), settings.flat()
        other = [f"{key} ({present[key]})" for key in overrides or {} if wanted[key] != present[key]]
        if asked and asked != run.settings.profile:
            other.insert(0, f"profile ({run.settings.profile})")
        if sources["path"]:
            sources.setdefault("further", [])  # named data are all of the run's
        stored = {"further": [], **run.params["data"]}
        if any(value != stored.get(key) for key, value in sources.items() if value or key == "further"):
            other.insert(0, "data")
        if protocol and protocol["digest"] != run.protocol.get("digest"):
            other.insert(0, f"protocol ({run.protocol.get('name', 'none')})")
        if other:
            raise RunConflict(
                f"run {name!r} exists with other {', '.join(other)}: choose another --run name, "
                "or pass --fresh to begin it anew"
            )
        return run
    if earlier := settings.data.split_of:
        open_run(earlier).require("tables/splits.parquet")  # before hours of work
    versions = {package: importlib.metadata.version(package) for package in VERSIONED}
    params = {
        "settings": settings.model_dump(mode="json"),
        "data": sources,
        **({"protocol": protocol} if protocol else {}),
        "commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": processor(),
        "versions": {"python": platform.python_version(), **versions},
    }
    write_text(path / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    return RunFolder(path)


def open_run(name: str = "") -> RunFolder:
    """Open the run folder that earlier notebooks wrote; MissingFromRun if there is none."""
    name, _ = run_name(name)
    path = runs_root() / name
    if not (path / "params.yaml").exists():
        raise MissingFromRun(
            f"there is no run {name!r} yet: `facelib run --run {name}` or notebook {schema.NOTEBOOKS[0]} makes it"
        )
    return RunFolder(path)
