"""Table files: what is written is read back, in every format, and a broken file leaves nothing."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from engine.core.errors import ConfigError, InputFileError
from replay.export.arrow_sink import FACTS
from replay.export.files import ROWS_A_WRITE, open_table
from replay.export.table import Batch, Column, Kind, Table, text_column, time_column

TABLE = Table(
    (
        time_column("ts", "when"),
        text_column("name", 8, "who"),
        Column("price", "<f8", "yuan", "how much"),
        Column("label", "i1", "", "what followed", null=-128),
        Column("ok", "?", "", "whether", Kind.BOOL),
        Column("levels", ("<f8", (3,)), "yuan"),
    ),
    {"table": "sample", "source": "a test"},
)
ARROW = (".parquet", ".arrow", ".feather")
ALL = (*ARROW, ".npy", ".npz")


def sample(count: int, seed: int = 1) -> Batch:
    rng = np.random.default_rng(seed)
    rows = TABLE.empty(count)
    rows["ts"] = 1_700_000_000_123_456_789 + np.arange(count)
    rows["name"] = rng.choice(np.array([b"AB.C", b"", b"12345678"], "S8"), count)
    rows["price"] = np.where(rng.random(count) < 0.1, np.nan, rng.normal(100.0, 1.0, count))
    rows["label"] = rng.choice([-128, -1, 0, 1], count)
    rows["ok"] = rng.random(count) < 0.5
    rows["levels"] = rng.random((count, 3))
    return rows


def write(path: Path, *batches: Batch, overwrite: bool = False) -> Path:
    with open_table(path, TABLE, overwrite=overwrite) as file:
        for batch in batches:
            file.write(batch)
    return path


def write_half(path: Path) -> None:
    with open_table(path, TABLE, overwrite=True) as file:
        file.write(sample(10))
        raise InputFileError("log", "half way")


def read_arrow(path: Path) -> Any:
    return pq.read_table(path) if path.suffix == ".parquet" else feather.read_table(path)


@pytest.mark.parametrize("suffix", ARROW)
@pytest.mark.parametrize("parts", [1, 7])
def test_arrow_files_give_back_every_value(tmp_path: Path, suffix: str, parts: int) -> None:
    rows = sample(1_000)
    read = read_arrow(write(tmp_path / f"t{suffix}", *np.array_split(rows, parts)))
    assert read.num_rows == 1_000
    assert read["ts"].type == pa.timestamp("ns", tz="UTC")
    assert read["ts"].cast(pa.int64()).to_pylist() == rows["ts"].tolist()
    assert read["name"].to_pylist() == [name.decode() for name in rows["name"].tolist()]
    np.testing.assert_array_equal(read["price"].to_numpy(), rows["price"])
    assert read["label"].to_pylist() == [None if v == -128 else v for v in rows["label"].tolist()]
    assert read["ok"].to_pylist() == rows["ok"].tolist()
    assert read["levels"].to_pylist() == rows["levels"].tolist()


@pytest.mark.parametrize("suffix", ARROW)
def test_units_and_facts_stand_in_the_schema(tmp_path: Path, suffix: str) -> None:
    schema = read_arrow(write(tmp_path / f"t{suffix}", sample(3))).schema
    assert schema.field("price").metadata == {b"unit": b"yuan", b"doc": b"how much"}
    assert schema.field("ts").metadata[b"unit"] == b"ns since 1970-01-01 UTC"
    assert orjson.loads(schema.metadata[FACTS]) == {"table": "sample", "source": "a test"}


@pytest.mark.parametrize("parts", [1, 7])
def test_a_structured_array_is_the_rows_themselves(tmp_path: Path, parts: int) -> None:
    rows = sample(1_000)
    path = write(tmp_path / "t.npy", *np.array_split(rows, parts))
    read = np.load(path, mmap_mode="r")
    assert read.dtype == TABLE.dtype
    assert read.tobytes() == rows.tobytes()


def test_an_array_a_column_with_its_facts(tmp_path: Path) -> None:
    rows = sample(1_000)
    with np.load(write(tmp_path / "t.npz", *np.array_split(rows, 3))) as read:
        for one in TABLE.columns:
            assert read[one.name].tobytes() == np.ascontiguousarray(rows[one.name]).tobytes()
            assert read[one.name].shape == rows[one.name].shape
        facts = orjson.loads(str(read["heqis"]))
    assert facts["table"] == "sample"
    assert facts["units"]["price"] == "yuan"
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]


@pytest.mark.parametrize("suffix", ALL)
def test_a_table_without_rows_is_a_file_without_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}")
    if suffix in ARROW:
        assert read_arrow(path).num_rows == 0
    else:
        read = np.load(path)
        assert len(read if suffix == ".npy" else read["ts"]) == 0


def test_rows_beyond_one_write_are_written_in_groups(tmp_path: Path) -> None:
    rows = sample(2 * ROWS_A_WRITE + 5)
    path = write(tmp_path / "t.parquet", *np.array_split(rows, 40))
    assert 2 <= pq.ParquetFile(path).num_row_groups <= 4
    np.testing.assert_array_equal(pq.read_table(path)["price"].to_numpy(), rows["price"])


@pytest.mark.parametrize("suffix", ALL)
def test_what_fails_on_the_way_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"t{suffix}", sample(3))
    before = path.read_bytes()
    with pytest.raises(InputFileError, match="half way"):
        write_half(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_unknown_ending_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean '\.parquet'\?.*\.npz"):
        write(tmp_path / "t.parqet")


def test_a_file_that_is_there_stays_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.npy", sample(3))
    with pytest.raises(ConfigError, match="--overwrite"):
        write(path, sample(4))
    assert len(np.load(write(path, sample(4), overwrite=True))) == 4


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a directory that is there"):
        write(tmp_path / "no" / "t.npy")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("suffix", [".npy", ".arrow", ".parquet"])
def test_a_full_disk_is_told(tmp_path: Path, suffix: str) -> None:
    part = tmp_path / f".t{suffix}.part{os.getpid()}"
    part.symlink_to("/dev/full")
    with pytest.raises(InputFileError, match=r"cannot be written: .*No space left"):
        write(tmp_path / f"t{suffix}", sample(100_000))
    assert list(tmp_path.iterdir()) == []
