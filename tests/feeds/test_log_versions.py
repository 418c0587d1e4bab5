"""A log of another version is told as such, and never written to."""

import struct
import zlib
from pathlib import Path

import pytest
from frame_cases import make_ticks, write_log

from engine.core.errors import LogError
from engine.core.records import VERSION
from feeds.log_reader import LogReader
from feeds.log_verify import verify


def of_version(log: Path, version: int) -> Path:
    """Rewrite every frame of a log as one of another version, with the CRC that is its own."""
    data, made = log.read_bytes(), b""
    with LogReader(log) as reader:
        (segment,) = reader.segments()
        for at, length in zip(segment.offsets.tolist(), segment.lengths.tolist(), strict=True):
            head = bytearray(data[at : at + 60])
            struct.pack_into("<H", head, 4, version)
            body = data[at + 64 : at + length]
            made += head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body
    log.write_bytes(made)
    return log


@pytest.mark.parametrize("version", [0, VERSION + 1, 65_535])
def test_a_log_of_another_version_is_an_error_that_names_both(tmp_path: Path, version: int) -> None:
    log = of_version(write_log(tmp_path / "a.hql", make_ticks(300)), version)
    told = f"is a tick log of version {version}, this program reads version {VERSION}"
    with pytest.raises(LogError, match=told):
        LogReader(log)
    with pytest.raises(LogError, match=told):
        verify(log)


def test_a_log_of_another_version_is_not_cut_when_it_is_appended_to(tmp_path: Path) -> None:
    log = of_version(write_log(tmp_path / "a.hql", make_ticks(300)), VERSION + 1)
    before = log.read_bytes()
    with pytest.raises(LogError, match="of version"):
        write_log(log, make_ticks(1), append=True)
    assert log.read_bytes() == before


def test_one_damaged_version_field_is_damage_like_any_other(tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.hql", make_ticks(600))
    data = bytearray(log.read_bytes())
    data[4] ^= 2
    log.write_bytes(data)
    with LogReader(log) as reader:
        assert len(reader.damage) == 1
        assert reader.summary()["records"] == {"TICK": 600}
