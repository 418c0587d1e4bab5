import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import write_gz, write_zip

from engine.core.errors import InputFileError
from feeds.importers import reading
from feeds.importers.reading import member_names, read_blocks


def silent(_: int) -> None:
    pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("ab\n", max_size=60), st.integers(1, 9))
def test_blocks_of_any_size_are_whole_lines_with_their_numbers(
    tmp_path: Path, text: str, size: int
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    blocks = list(read_blocks(path, silent, block_bytes=size))
    assert b"".join(block.text for block in blocks) == text.encode()
    assert all(block.text.endswith(b"\n") for block in blocks[:-1])
    row = 1
    for block in blocks:
        assert block.first_row == row
        row += block.text.count(b"\n")


def test_plain_gzip_and_zip_give_the_same_lines(tmp_path: Path) -> None:
    text = "1,2\n3,4\n"
    (tmp_path / "plain").write_text(text)
    paths = [
        tmp_path / "plain",
        write_gz(tmp_path / "misnamed.zip", text),
        write_zip(tmp_path / "x.gz", one=text),
    ]
    assert [next(read_blocks(path, silent)).text.decode() for path in paths] == [text] * 3


def test_members_of_a_zip_come_in_name_order_or_alone(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", b="2\n", a="1\n")
    assert member_names(path) == ["a.csv", "b.csv"]
    assert [block.member for block in read_blocks(path, silent)] == ["a.csv", "b.csv"]
    assert [block.text for block in read_blocks(path, silent, member="b.csv")] == [b"2\n"]


def test_the_meter_hears_of_nearly_the_whole_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, 2_000_000, np.uint8).tobytes()
    path = tmp_path / "noise.gz"
    path.write_bytes(gzip.compress(noise))
    heard: list[int] = []
    for _ in read_blocks(path, heard.append, block_bytes=65_536):
        pass
    assert min(heard) >= 0
    assert 0.9 * path.stat().st_size < sum(heard) <= path.stat().st_size


def damage(path: Path, cut: int) -> Path:
    path.write_bytes(path.read_bytes()[:-cut])
    return path


def test_what_cannot_be_read_is_named_with_its_problem(tmp_path: Path) -> None:
    text = "".join(f"{i},{i * 7919}\n" for i in range(5000))
    flipped = write_zip(tmp_path / "flipped.zip", a=text)
    data = bytearray(flipped.read_bytes())
    data[200] ^= 0xFF
    flipped.write_bytes(data)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    cases = {
        tmp_path / "none.csv": "no such file",
        tmp_path: "is a directory",
        damage(write_gz(tmp_path / "cut.gz", text), 20): "damaged or cut-off",
        damage(write_zip(tmp_path / "cut.zip", a=text), 30): "zip",
        flipped: "damaged",
        tmp_path / "a.parquet": "is a Parquet file",
    }
    for path, problem in cases.items():
        with pytest.raises(InputFileError, match=problem) as caught:
            list(read_blocks(path, silent))
        assert str(path) in str(caught.value)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 100)
    path = tmp_path / "long"
    path.write_text("x\n" + "y" * 1000)
    with pytest.raises(InputFileError, match="row 2 is longer than 100 bytes"):
        list(read_blocks(path, silent, block_bytes=64))
