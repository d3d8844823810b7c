"""Untrusted files: real attacks in checkpoints, arrays, caches, tables, run folders and archives run nothing."""

import contextlib
import csv
import hashlib
import io
import json
import os
import pickle
import re
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import kagglehub
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from kagglehub.http_resolver import _extract_archive

from facelib.audit import decisions
from facelib.config import resolve
from facelib.data import archives
from facelib.data.archives import UnsafeArchive, unpack
from facelib.data.fetch import fetch_dataset
from facelib.data.pixels import FaceImages, cache_faces, is_cached
from facelib.data.readers import read_faces
from facelib.errors import DamagedRun, FacelibError, UnknownSetting
from facelib.formats import read_csv, write_csv
from facelib.models.batches import Batches
from facelib.models.losses import known_mean
from facelib.models.network import Backbone, load_network
from facelib.models.training import FaceModule, fit_in_folder
from facelib.pipeline import split_parameters
from facelib.runs import RunFolder, project_root, start_run
from facelib.schema import UTKFACE_ATTRIBUTES


class Attack:
    """Touches a file wherever it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch '{self.trace}'",)


@pytest.fixture
def trace(tmp_path):
    """A file that a successful attack makes; the test fails if it is there."""
    path = tmp_path / "pwned"
    yield path
    assert not path.exists(), "the attack ran"


def test_the_attack_is_a_real_one(tmp_path):
    pickle.loads(pickle.dumps(Attack(tmp_path / "pwned")))
    assert (tmp_path / "pwned").exists()


# --- checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".pth", ".safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_start_weights_run_nothing(trace, tmp_path, suffix, legacy):
    torch.save({"conv1.weight": Attack(trace)}, tmp_path / f"w{suffix}", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FacelibError, match=r"start weights .* cannot be loaded"):
        Backbone("resnet18").load_start_weights(str(tmp_path / f"w{suffix}"))


def test_a_network_file_runs_nothing(trace, tmp_path):
    torch.save(Attack(trace), tmp_path / "model.safetensors")
    with pytest.raises(FacelibError, match="is not a network saved by facelib"):
        load_network(tmp_path / "model.safetensors")


def test_a_checkpoint_to_resume_from_runs_nothing(trace, tmp_path, tiny_network):
    settings = resolve("smoke", {"epochs": 1})
    rows = np.arange(8)
    batches = Batches(FaceImages(np.zeros((8, 32, 32, 3), np.uint8), rows), pd.DataFrame({"age": np.full(8, 30.0)}))

    def losses(outputs, batch):
        return {"age": known_mean((outputs["age"] - batch["age"]).abs(), batch["age"].isfinite())}

    def module():
        return FaceModule(tiny_network, losses, settings.training, 0, 1, 1e-3)

    def stop(*_):
        raise KeyboardInterrupt

    stopped = module()
    stopped.on_train_start = stop  # leaves the folder, whose key says that it belongs to this training
    with pytest.raises(BaseException):  # noqa: B017 lightning exits
        fit_in_folder(stopped, batches, rows, rows, tmp_path / "training")
    assert (tmp_path / "training" / "key").exists()
    torch.save({"state_dict": Attack(trace)}, tmp_path / "training" / "last.ckpt")
    with pytest.raises(DamagedRun, match=r"last\.ckpt cannot be read \(UnpicklingError\): remove .*training"):
        fit_in_folder(module(), batches, rows, rows, tmp_path / "training")


# --- run folders ------------------------------------------------------------------------------------------


def test_arrays_of_a_run_run_nothing(trace, empty_runs):
    run = start_run("r", "smoke")
    (run.path / "tables").mkdir()
    np.save(run.path / "tables" / "embeddings.npy", np.array([Attack(trace)], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedRun, match=r"embeddings\.npy is not what facelib writes"):
        run.load_array("embeddings")


def test_tables_of_a_run_run_nothing(trace, empty_runs):
    run = start_run("r", "smoke")
    (run.path / "tables").mkdir()
    field = pa.field("x", pa.int64(), metadata={
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Attack(trace)),
    })  # fmt: skip
    pq.write_table(pa.table([pa.array([1])], schema=pa.schema([field])), run.path / "tables" / "faces.parquet")
    with contextlib.suppress(DamagedRun):
        run.load_table("faces")
    (run.path / "tables" / "splits.parquet").write_bytes(pickle.dumps(Attack(trace)))
    with pytest.raises(DamagedRun, match=r"splits\.parquet is not what facelib writes"):
        run.load_table("splits")


PARAMS = {
    "settings": {"profile": "smoke"},
    "data": {"path": "", "images": ""},
    "commit": "c", "created": "2026-01-01", "device": "d", "versions": {"python": "3.11"},
}  # fmt: skip
BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}*{a}]\n" for a, b in zip("abcdefgh", "bcdefghi"))  # noqa: B905


@pytest.mark.parametrize(
    "text",
    [
        "settings: !!python/object/apply:os.system ['touch {trace}']\n",
        "!!python/object/new:os.system ['touch {trace}']\n",
        "settings: !!python/name:os.system\n",
        yaml.safe_dump(PARAMS) + BOMB,
        "",
        "just text",
        "[1, 2",
        "\0",
        yaml.safe_dump(PARAMS | {"settings": {"profile": "smoke", "start": "x"}}),
        yaml.safe_dump(PARAMS | {"settings": {"profile": "smoke", "training": {"epochs": "x"}}}),
        yaml.safe_dump(PARAMS | {"settings": ["smoke"]}),
        yaml.safe_dump(PARAMS | {"attributes": [{"name": "age", "kind": "__class__"}]}),
        yaml.safe_dump(PARAMS | {"attributes": [{"name": "smile", "kind": "classes", "classes": ["x"]}]}),
        yaml.safe_dump(PARAMS | {"data": {"path": 3}}),
        yaml.safe_dump(PARAMS | {"data": {"path": "", "fingerprint": "../../elsewhere"}}),
        yaml.safe_dump(PARAMS | {"versions": {"python": {"deep": 1}}}),
        yaml.safe_dump({key: value for key, value in PARAMS.items() if key != "commit"}),
    ],
)
def test_parameters_of_a_run_run_nothing_and_lead_nowhere(trace, tmp_path, text):
    (tmp_path / "params.yaml").write_text(text.replace("{trace}", str(trace)))
    with pytest.raises(FacelibError):
        RunFolder(tmp_path)


def test_sound_parameters_are_taken(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    assert RunFolder(tmp_path).settings.profile == "smoke"


def test_settings_given_on_the_command_line_run_nothing(trace):
    attack = f"!!python/object/apply:os.system ['touch {trace}']"
    with pytest.raises(UnknownSetting, match="epochs"):
        resolve("smoke", {"epochs": attack})
    with pytest.raises(UnknownSetting, match=r"parameter show_faces is .* which is not YAML"):
        split_parameters({"show_faces": attack})


@pytest.mark.parametrize(
    "name", ["progress.json", "results.json", "metrics/05_evaluate.json", "notebooks/01_explore.ipynb"]
)
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"test.age.mae": 3, "01_explore": {}}', b"[" * 100_000])
def test_any_other_file_of_a_run_is_refused_in_one_sentence(facelib, name, content):
    run = start_run("r", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    run.save_table(pd.DataFrame({"image_id": []}), "faces")
    path = run.path
    (path / "notebooks").mkdir()
    for file in ("notebooks/01_explore.ipynb", name):
        (path / file).parent.mkdir(exist_ok=True)
        (path / file).write_bytes(
            content if file == name else b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
        )
    command = ("run", "--profile", "smoke", "--to", "01") if name == "progress.json" else ("report",)
    code, _, err = facelib(*command, "--run", "r")
    assert code == 2 and err.count("\n") == 1 and re.match(rf"facelib: {path}\S* is no", err), err


# --- the cache --------------------------------------------------------------------------------------------


def test_an_untrusted_cache_runs_nothing_and_is_made_again(trace, faces_folder, tmp_path):
    root = tmp_path / "cache"
    cache_faces(read_faces(faces_folder), 32, root)
    (folder,) = root.iterdir()
    np.save(folder / "pixels.npy", np.array([Attack(trace)], dtype=object), allow_pickle=True)
    about = json.loads((folder / "about.json").read_text())
    # An attacker computes checksums, too.
    about["pixels.npy"] = hashlib.sha256((folder / "pixels.npy").read_bytes()).hexdigest()
    (folder / "about.json").write_text(json.dumps(about))
    assert not is_cached(folder)
    images, faces, _ = cache_faces(read_faces(faces_folder), 32, root)
    assert images[np.arange(len(faces))].std() > 1


# --- the working directory --------------------------------------------------------------------------------


@pytest.mark.slow
def test_modules_beside_the_data_are_not_imported(trace, tmp_path, drawn_faces):
    """`cd scraped; facelib run --data .` runs the project's modules, not those that lie among the pictures."""
    folder = tmp_path / "scraped"
    folder.mkdir()
    for name in ("facelib", "numpy", "pandas", "seaborn", "IPython", "ipykernel_launcher", "joblib", "json"):
        (folder / f"{name}.py").write_text(f"import os\nos.system('touch {trace}')\n")
    call = "import sys; sys.path.remove(''); sys.argv = ['facelib', 'run', '--profile', 'smoke', '--to', '01',"
    call += " '-p', 'synthetic_images', '200']; from facelib import cli; cli.main()"
    environment = {**os.environ, "PYTHONPATH": str(project_root())}
    environment.pop("PYTHONSAFEPATH", None)  # as in a shell
    done = subprocess.run([sys.executable, "-c", call], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- archives ---------------------------------------------------------------------------------------------


def zip_of(path: Path, members: dict[str, bytes], links: dict[str, str] = {}) -> Path:  # noqa: B006
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in links.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return path


def tar_of(path: Path, members: dict[str, bytes], links: dict[str, str] = {}, kind: bytes = tarfile.SYMTYPE) -> Path:  # noqa: B006
    with tarfile.open(path, "w:gz") as archive:
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


CLIMBING = [
    "../out.jpg",
    "UTKFace/../../out.jpg",
    "/tmp/out.jpg",
    "UTKFace/..\\..\\out.jpg",
    "C:\\out.jpg",
    "\\out.jpg",
]


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_an_archive_cannot_write_outside(tmp_path, name, pack):
    archive = pack(tmp_path / "a", {"UTKFace/1_0_0_a.jpg": b"x", name: b"x"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnsafeArchive, match="leads out of its folder"):
        fetch_dataset("utkface", tmp_path / "raw", archive)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.suffix == ".jpg"] == []
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "raw", tmp_path / "raw" / "utkface"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_an_archive_are_refused(tmp_path, kind):
    link = {"UTKFace": "/etc"}
    with pytest.raises(UnsafeArchive, match="a link or a device"):
        unpack(tar_of(tmp_path / "a.tar", {"UTKFace/passwd": b"x"}, link, kind), "UTKFace", tmp_path)
    with pytest.raises(UnsafeArchive, match="a link or a device"):
        unpack(zip_of(tmp_path / "a.zip", {}, link), "UTKFace", tmp_path)


def test_an_archive_that_unpacks_without_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("UTKFace/1_0_0_a.jpg", bytes(2 * 10**6))
    with pytest.raises(UnsafeArchive, match="would unpack to more than"):
        unpack(tmp_path / "a.zip", "UTKFace", tmp_path)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the size that it claims
        where = content.index(signature) + at
        content[where : where + 4] = (100).to_bytes(4, "little")
    (tmp_path / "liar.zip").write_bytes(content)
    with pytest.raises(UnsafeArchive):
        unpack(tmp_path / "liar.zip", "UTKFace", tmp_path)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(UnsafeArchive, match="would unpack to more than"):
        unpack(zip_of(tmp_path / "many.zip", {f"UTKFace/{k}": b"" for k in range(9)}), "UTKFace", tmp_path / "raw")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04" + bytes(50), b"PK\x05\x06" + bytes(18), b"\x1f\x8b" + bytes(20)]
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UnsafeArchive, match=r"a\.zip "):
        unpack(tmp_path / "a.zip", "UTKFace", tmp_path)


def test_a_sound_archive_is_unpacked_once_and_whole(tmp_path):
    members = {"UTKFace/1_0_0_a.jpg": b"x", "./UTKFace/part/2_0_0_b.jpg": b"y", "crop_part1/1_0_0_a.jpg": b"z"}
    for pack in (zip_of, tar_of):
        target = fetch_dataset("utkface", tmp_path / pack.__name__, pack(tmp_path / "a", members))
        files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
        assert files == ["1_0_0_a.jpg", "part/2_0_0_b.jpg"]
        assert [path.name for path in target.parent.iterdir()] == ["UTKFace"]


def test_links_in_a_download_are_not_copied(tmp_path, monkeypatch):
    (tmp_path / "kaggle" / "UTKFace").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "kaggle" / "UTKFace" / "1_0_0_a.jpg").symlink_to(tmp_path / "secret")
    (tmp_path / "kaggle" / "UTKFace" / "1_0_0_b.jpg").write_bytes(b"x")
    monkeypatch.setattr(kagglehub, "dataset_download", lambda name: str(tmp_path / "kaggle"))
    target = fetch_dataset("utkface", tmp_path / "raw")
    assert [path.name for path in target.iterdir()] == ["1_0_0_b.jpg"]


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_the_download_itself_cannot_write_outside(tmp_path, name, pack):
    archive = pack(tmp_path / "a", {"UTKFace/1_0_0_a.jpg": b"x", name: b"x"})
    (tmp_path / "to").mkdir()
    with contextlib.suppress(tarfile.FilterError):
        _extract_archive(str(archive), str(tmp_path / "to"))
    outside = {path for path in tmp_path.rglob("*.jpg") if not path.is_relative_to(tmp_path / "to")}
    assert outside == set() and not Path("/tmp/out.jpg").exists()


# --- formulas in CSV files --------------------------------------------------------------------------------

FULL_WIDTH = "\uff1d"  # an equals sign to some spreadsheets
FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+SUM(A1)",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    FULL_WIDTH + "1",
    "'=1",
    "''@x",
    "a\r=1+1",
]
HARMLESS = ["face.jpg", "-1", "+3.5", "'tis", "a=b", "", "#REF", "-", "a@b"]


@pytest.mark.parametrize("text", FORMULAS + HARMLESS)
def test_an_image_id_survives_a_csv_file_in_which_it_is_no_formula(tmp_path, text):
    table = pd.DataFrame({"image_id": [text, "other"], "age": [-1.5, 2.0], "note": ["n", text]})
    write_csv(table, tmp_path / "t.csv")
    cells = [cell for row in csv.reader((tmp_path / "t.csv").open(newline="", encoding="utf-8")) for cell in row]
    assert len(cells) == 9
    for cell in cells:
        is_number = cell.lstrip("+-").replace(".", "", 1).isdigit()
        assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r", FULL_WIDTH)) or cell == "-"
    back = read_csv(tmp_path / "t.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    if text in HARMLESS and text != "-":
        assert cells.count(text) == 2  # nothing is changed without need


def test_decisions_about_an_image_named_like_a_formula_are_found_again(tmp_path):
    faces = pd.DataFrame({"image_id": ["=1+1.jpg"]})
    row = {"image_id": "=1+1.jpg", "issue": "label:age", "action": "relabel", "value": "3", "reason": "=x"}
    decisions.write(pd.DataFrame([row]), tmp_path / "d.csv")
    assert "'=1+1.jpg" in (tmp_path / "d.csv").read_text()
    assert decisions.read(tmp_path / "d.csv", faces, UTKFACE_ATTRIBUTES).to_dict("records") == [row]
    (tmp_path / "d.csv").write_text("image_id,issue,action\n=1+1.jpg,quality,drop\n")  # as a person might type it
    assert decisions.read(tmp_path / "d.csv", faces, UTKFACE_ATTRIBUTES)["image_id"].tolist() == ["=1+1.jpg"]
