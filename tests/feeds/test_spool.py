"""The gateway's spool: bounded, and no reason to stop."""

import shutil
from pathlib import Path

import pytest

from engine.core.errors import LogError
from engine.core.records import empty_ticks, instrument_row
from feeds.config import SpoolConfig
from feeds.log_reader import LogReader
from feeds.sequencer import Sequencer
from feeds.spool import Spool


def make_spool(directory: Path, epoch: int = 5) -> Spool:
    config = SpoolConfig(
        directory=directory, rotate_bytes=1 << 16, max_bytes=1 << 20, memory=directory.parent
    )
    return Spool(config, instrument_row("A.SIM"), gateway=1, epoch=epoch)


def fill(spool: Spool, sequencer: Sequencer, frames: int) -> None:
    ticks = empty_ticks(256)
    ticks["ts_recv"] = 1
    for _ in range(frames):
        for frame in sequencer.ticks(ticks, 1000):
            spool.append(frame)
        spool.flush()


def test_the_oldest_segments_go_first_over_all_runs(tmp_path: Path) -> None:
    for epoch in (5, 10, 200):
        spool = make_spool(tmp_path, epoch)
        fill(spool, Sequencer(1, epoch), 40)
        spool.close()
        assert sum(f.stat().st_size for f in tmp_path.glob("*/*.hql")) <= 1 << 20
    assert [path.name for path in tmp_path.iterdir() if "-5." in path.name] == []
    assert (tmp_path / "gateway-1-200.hql").is_dir()


def test_a_failing_disk_is_counted_left_and_tried_again(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    spool, sequencer = make_spool(directory), Sequencer(1, 5)
    fill(spool, sequencer, 2)
    shutil.rmtree(directory)
    directory.write_text("in the way")
    fill(spool, sequencer, 10)
    assert spool.failures >= 1
    assert spool.lost_frames > 0
    assert "cannot be written" in spool.last_error
    directory.unlink()
    for _ in range(200):
        spool.flush()
    lost = spool.lost_frames
    fill(spool, sequencer, 2)
    spool.close()
    assert spool.lost_frames == lost
    assert LogReader(spool.path).summary()["records"]["TICK"] == 512


def test_a_spool_that_cannot_begin_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LogError):
        make_spool(tmp_path / "file")
