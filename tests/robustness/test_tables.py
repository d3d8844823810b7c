"""Bad tables: whatever is in them, each row becomes a face or a rejection, or the table is refused in one sentence."""

import contextlib
import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facelib.audit import decisions
from facelib.data import readers
from facelib.data.protocols import read_protocol
from facelib.data.readers import FaceSource, read_faces
from facelib.errors import InvalidDecision, UnreadableData
from facelib.schema import UTKFACE_ATTRIBUTES

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
GOOD = [f"photos/{number}.png" for number in range(4)]
HOSTILE = [
    "../secret.png", "photos/../../secret.png", "/etc/passwd", "/dev/zero", "//etc/passwd", "https://example.org/a.png",
    "file:///etc/passwd", "photos", ".", "..", "", " ", "photos/none.png", "photos/\0.png", "~/.ssh/id_rsa",
    "$HOME/a.png", "photos/link.png", "photos/0.png/../1.png", "x" * 5000, "d/" * 3000, "=cmd()", "C:\\Windows\\a.png",
    "photos/0.png\n",
]  # fmt: skip
PATHS = st.sampled_from(GOOD) | st.sampled_from(HOSTILE) | st.text(max_size=12)
LABELLED = (*(attribute.name for attribute in UTKFACE_ATTRIBUTES), "age_band")
LABELS = (
    st.none()
    | st.integers()
    | st.integers(-2, 120)
    | st.floats()
    | st.booleans()
    | st.text(max_size=9)
    | st.sampled_from([10**400, "1e999", "female", " Asian ", "nan", "-0", "20-29", "70+", "0x10", "1_0", "٣", "None"])
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four pictures below photos/, and one outside that nothing may read."""
    inside = tmp_path / "data"
    (inside / "photos").mkdir(parents=True)
    for name in GOOD:
        Image.new("RGB", (8, 8), (0, 9 * int(name[-5]), 0)).save(inside / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (inside / "photos" / "link.png").symlink_to(tmp_path / "secret.png")
    return inside


@pytest.fixture
def opened(folder, monkeypatch) -> list[Path]:
    """Every file that the readers open."""
    paths, read_below = [], readers.read_below

    def noting(root: Path, path: str) -> bytes:
        content = read_below(root, path)
        paths.append((root / path).resolve())
        return content

    monkeypatch.setattr(readers, "read_below", noting)
    return paths


def read_or_refuse(path: Path) -> FaceSource | None:
    """What was read; None where the table was refused, in one sentence that names it."""
    try:
        return read_faces(path)
    except UnreadableData as error:
        assert path.name in str(error) and len(str(error).splitlines()) == 1 and ": " in str(error)
        return None


def check_rows(source: FaceSource | None, n: int | None, folder: Path, opened: list[Path]) -> None:
    """Each row has become one face or one rejection, and nothing else was opened."""
    assert all(path.is_relative_to(folder) for path in opened)
    if source is None:
        return
    faces, rejected = source.faces, source.rejected
    assert n is None or len(faces) + len(rejected) == n
    assert faces["image_id"].is_unique and set(faces["path"]) <= set(GOOD)
    assert rejected["reason"].str.len().between(1, 300).all()
    for attribute in source.attributes:
        most = 116 if attribute.name == "age" else len(attribute.classes) - 1
        assert (~attribute.is_known(faces[attribute.name]) | faces[attribute.name].between(0, most)).all()


# --- tables of paths --------------------------------------------------------------------------------------

ROWS = st.lists(st.fixed_dictionaries({"path": PATHS | st.none(), **dict.fromkeys(LABELLED, LABELS)}), max_size=12)


@pytest.mark.slow
@given(rows=ROWS, dropped=st.sets(st.sampled_from(["path", *LABELLED]), max_size=2), extra=st.text(max_size=5))
@EXAMPLES
def test_any_csv_is_read_by_row_or_refused(folder, opened, rows, dropped, extra):
    columns = [name for name in ("path", *LABELLED) if name not in dropped]
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, extra], extrasaction="ignore", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    # A blank line is no row to pandas; every other one is.
    check_rows(read_or_refuse(folder / "t.csv"), len(rows), folder, opened)


COLUMNS = st.one_of(
    *(
        st.lists(values, min_size=5, max_size=5).map(lambda items, kind=kind: pa.array(items, kind))
        for kind, values in {
            pa.string(): st.none() | PATHS,
            pa.int64(): st.integers(-(2**63), 2**63 - 1) | st.none(),
            pa.float64(): st.floats() | st.none(),
            pa.bool_(): st.booleans(),
            pa.binary(): st.binary(max_size=9),
            pa.list_(pa.int64()): st.lists(st.integers(0, 5), max_size=3) | st.none(),
            pa.struct([("path", pa.string())]): st.fixed_dictionaries({"path": PATHS}),
            pa.timestamp("us"): st.integers(0, 2**50),
            pa.decimal128(38, 2): st.decimals(-(10**30), 10**30, places=2),
        }.items()
    )
)


@pytest.mark.slow
@given(table=st.dictionaries(st.sampled_from(["path", "Path ", *LABELLED, "pixels", "x"]), COLUMNS, min_size=1))
@EXAMPLES
def test_any_parquet_table_is_read_by_row_or_refused(folder, opened, table):
    pq.write_table(pa.table(table), folder / "t.parquet")
    check_rows(read_or_refuse(folder / "t.parquet"), 5, folder, opened)


@pytest.mark.slow
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"path,age\n{text}".encode()))
@EXAMPLES
def test_any_bytes_named_csv_are_read_or_refused(folder, opened, content):
    (folder / "t.csv").write_bytes(content)
    check_rows(read_or_refuse(folder / "t.csv"), None, folder, opened)


@pytest.mark.slow
@given(st.data())
@EXAMPLES
def test_a_damaged_parquet_file_is_read_or_refused(folder, opened, data):
    pd.DataFrame({"path": GOOD, "age": [1, 2, 3, 4]}).to_parquet(folder / "t.parquet")
    content = bytearray((folder / "t.parquet").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "t.parquet").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    read_or_refuse(folder / "t.parquet")
    assert all(path.is_relative_to(folder) for path in opened)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_path_is_followed_out_of_the_folder(folder, opened, name):
    table = pd.DataFrame({"path": [name, GOOD[0]], "age": [30, 31]})
    table.to_parquet(folder / "t.parquet")
    source = read_faces(folder / "t.parquet")
    inside = [] if name != "photos/0.png/../1.png" else ["photos/1.png"]
    assert source.faces["image_id"].tolist() == [*inside, GOOD[0]]
    assert all(path.is_relative_to(folder) for path in opened)


def test_two_columns_of_one_name_are_refused(folder):
    (folder / "t.csv").write_text("path,age,PATH\nphotos/0.png,3,photos/1.png\n")
    with pytest.raises(UnreadableData, match="has 2 columns path: leave one of them"):
        read_faces(folder / "t.csv")


def test_a_pipe_for_a_table_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "t.csv")
    with pytest.raises(UnreadableData, match=r"neither a folder nor a \.csv"):
        read_faces(folder / "t.csv")


# --- the 48 x 48 grey CSV ---------------------------------------------------------------------------------

SOUND = " ".join(["7"] * 2304)
SPOILT = [SOUND[:-2], SOUND + " 7", "", "7", f"{10**30} {SOUND[2:]}", f"nan {SOUND[2:]}"]
SPOILT += [f"{value} {SOUND[2:]}" for value in ("256", "-1", "7.5", "1e1", "0x7")]
PIXELS = st.just(SOUND) | st.sampled_from(SPOILT) | st.text(max_size=9)


@pytest.mark.slow
@given(st.lists(st.tuples(LABELS, LABELS, LABELS, st.text(max_size=8), PIXELS), max_size=8))
@EXAMPLES
def test_any_row_of_the_grey_csv_is_read_or_rejected(tmp_path, rows):
    with (tmp_path / "grey.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("age", "ethnicity", "gender", "img_name", "pixels"), *rows])
    source = read_or_refuse(tmp_path / "grey.csv")
    if source is not None:
        assert len(source.faces) + len(source.rejected) == len(rows)
        assert all((grey == np.full((48, 48), 7)).all() for grey in source.items(source.faces.index))


# --- lists of a split, and decisions ----------------------------------------------------------------------

FACES = pd.DataFrame({"image_id": GOOD, "path": GOOD, "age": 30.0, "gender": 0, "ethnicity": 0})


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"filename\n{text}".encode()))
@EXAMPLES
def test_any_list_of_a_split_is_read_or_refused(tmp_path, content):
    (tmp_path / "train.csv").write_bytes(content)
    (tmp_path / "test.csv").write_text(f"filename\n{GOOD[0]}\n")
    with contextlib.suppress(UnreadableData):
        part, _ = read_protocol(tmp_path, FACES)
        assert part[0] in ("test", "both")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"image_id,issue,action\n{text}".encode()))
@EXAMPLES
def test_any_decisions_are_read_or_refused(tmp_path, content):
    (tmp_path / "decisions.csv").write_bytes(content)
    with contextlib.suppress(InvalidDecision):
        table = decisions.read(tmp_path / "decisions.csv", FACES, UTKFACE_ATTRIBUTES)
        assert set(table["action"]) <= {*decisions.ACTIONS, ""}
