"""Bad pictures: a sample of the fuzzing benchmark, and what an ordinary user may not read."""

import json
import multiprocessing.dummy  # noqa: F401, by joblib's threads, which an ordinary user could not import any more
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.fuzz_corpus import DAMAGE, encode, face_like, sound_files, write_mutants
from facelib.data.pixels import FORMATS, cache_faces, decode
from facelib.data.readers import read_faces
from facelib.runs import project_root

pytestmark = pytest.mark.slow

SAMPLE = 120  # damaged files here; benchmarks/fuzz_images.py takes thousands


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, "-m", "benchmarks.fuzz_images", "--n", str(SAMPLE), "--seed", "7", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(project_root())})
    return json.loads((out / "fuzz_images.json").read_text())


def test_every_file_is_used_or_rejected_with_a_reason(found):
    assert found["lost"] == [] and found["used"] + found["rejected"] == found["files"] > SAMPLE + 60
    assert found["used"] > 40 and found["rejected"] > 60


def test_every_odd_file_is_judged_as_it_should_be(found):
    assert found["oddities_misjudged"] == [] and found["oddities"] > 60


def test_nothing_outside_the_folder_is_opened_and_no_program_started(found):
    assert found["opened_outside"] == []


def test_no_file_takes_long_or_much_memory(found):
    # Times the largest PNG in the same process: about 2.2 for the largest WebP; 3 are about 0.9 s on a free core.
    assert found["times_reference"] < 3 and found["peak_gb"] < 2


def test_the_corpus_repeats_and_does_damage(tmp_path):
    names = write_mutants(tmp_path / "one", 30, seed=3)
    write_mutants(tmp_path / "two", 30, seed=3)
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    rng = np.random.default_rng(0)
    for name, content in sound_files(rng).items():
        assert decode(content, 32)[0].shape == (32, 32, 3), name
        assert all(bytes(damage(bytearray(content), rng)) != content for damage in DAMAGE), name


def test_formats_that_start_other_programs_are_no_images():
    postscript = encode(face_like(np.random.default_rng(0)), "EPS")
    for content in (postscript, b"%PDF-1.4\n", encode(Image.new("RGB", (8, 8)), "ICO"), b"8BPS" + bytes(80)):
        with pytest.raises(ValueError, match="is not an image"):
            decode(content, 16)
    assert not {"EPS", "FPX", "WMF", "PSD"} & set(FORMATS)


def test_what_may_not_be_read_is_rejected_and_the_rest_is_used(open_folder, ordinary_user):
    faces, cache = open_folder / "faces", open_folder / "cache"
    for place in (faces, faces / "closed", cache):
        place.mkdir()
        place.chmod(0o777)
    picture = encode(face_like(np.random.default_rng(0)), "PNG")
    for name in ("20_0_0_good.png", "20_0_0_locked.png", "closed/20_0_0_inside.png"):
        (faces / name).write_bytes(picture)
        (faces / name).chmod(0o644)
    (faces / "20_0_0_locked.png").chmod(0)
    (faces / "closed").chmod(0)
    with ordinary_user():
        _, used, rejected = cache_faces(read_faces(faces), 32, cache)
    assert used["image_id"].tolist() == ["20_0_0_good.png"]
    assert sorted(rejected.itertuples(index=False, name=None)) == [
        ("20_0_0_locked.png", "cannot be read: Permission denied"),
        ("closed", "is a folder that cannot be read: Permission denied"),
    ]


def test_a_tree_too_deep_for_the_system_is_reported_and_not_silently_left_out(tmp_path):
    (tmp_path / "20_0_0_a.png").write_bytes(encode(face_like(np.random.default_rng(0)), "PNG"))
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
    finally:
        os.chdir(here)
    source = read_faces(tmp_path)
    assert len(source.faces) == 1
    assert source.rejected["reason"].tolist() == ["is a folder that cannot be read: File name too long"]
