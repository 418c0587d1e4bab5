"""Where a stream ended: known while nothing was lost before it, unknown after a disk refused."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from frame_cases import make_instruments, make_ticks

from feeds.config import SpoolConfig
from feeds.sequencer import Sequencer
from feeds.spool import Spool
from feeds.spool_end import End, EndMarks
from feeds.spool_reader import SpoolReader

EPOCH = 5
FLUSHES = 120


class Life:
    """One run of a gateway over a disk that can refuse."""

    def __init__(self, directory: Path, epoch: int = EPOCH) -> None:
        directory.mkdir(exist_ok=True)
        self.memory = directory / "memory"
        self.memory.mkdir(exist_ok=True)
        config = SpoolConfig(directory=directory / "spool", memory=self.memory)
        self.spool = Spool(config, make_instruments(), gateway=1, epoch=epoch)
        self.sequencer = Sequencer(1, epoch)

    def send(self, ticks: int = 3) -> None:
        for frame in self.sequencer.ticks(make_ticks(ticks), 1):
            self.spool.append(frame)
        self.spool.commit()

    def end(self, epoch: int = EPOCH) -> End | None:
        """What the next run knows."""
        return SpoolReader(self.spool.path.parent, 1, self.memory).end_of(epoch)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let every write of a log fail, or no more."""
    write = os.write
    refuses = False

    def guarded(descriptor: int, data: bytes) -> int:
        if refuses:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(descriptor, data)

    def refuse(now: bool) -> None:
        nonlocal refuses
        refuses = now

    monkeypatch.setattr(os, "write", guarded)
    return refuse


def test_a_killed_gateway_on_a_good_disk_is_known_to_have_sent_no_more(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.send()
    assert life.spool.whole
    assert life.end() == End(4, whole=True)


def test_a_gateway_that_sent_nothing_is_known_to_have_sent_nothing(tmp_path: Path) -> None:
    assert Life(tmp_path).end() == End(1, whole=True)


def test_after_the_machine_went_down_nobody_knows_what_else_was_sent(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.send()
    for voucher in life.memory.iterdir():
        voucher.unlink()
    assert life.end() == End(4, whole=False)


def test_a_stop_in_order_is_known_even_after_the_machine_went_down(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.send()
    life.spool.close()
    assert list(life.memory.iterdir()) == []
    assert life.end() == End(4, whole=True)


def test_what_was_sent_while_the_disk_refused_makes_the_end_unknown(
    tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    life = Life(tmp_path)
    life.send()
    disk(True)
    life.send()
    assert not life.spool.whole
    assert life.end() == End(4, whole=False)
    life.spool.close()
    assert life.end() == End(4, whole=False)


def test_a_disk_that_is_back_makes_the_end_known_again_by_the_next_number(
    tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    life = Life(tmp_path)
    life.send()
    disk(True)
    life.send()
    disk(False)
    for _ in range(FLUSHES):
        life.spool.flush()
    assert life.end() == End(4, whole=False)
    life.send()
    assert life.spool.whole
    assert life.end() == End(10, whole=True)


def test_a_disk_that_is_back_too_late_leaves_the_end_unknown_at_a_stop(
    tmp_path: Path, disk: Callable[[bool], None]
) -> None:
    life = Life(tmp_path)
    life.send()
    disk(True)
    life.send()
    disk(False)
    for _ in range(FLUSHES):
        life.spool.flush()
    life.spool.close()
    assert life.end() == End(4, whole=False)


def test_vouchers_go_with_their_logs_and_strangers_cannot_vouch(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.send()
    marks = EndMarks(tmp_path / "spool", life.memory, 1)
    (voucher,) = life.memory.iterdir()
    marks.tidy({EPOCH})
    assert voucher.exists()
    marks.tidy({EPOCH + 1})
    assert not voucher.exists()
    voucher.symlink_to(tmp_path / "memory")
    assert not marks.vouched(EPOCH)
    assert not marks.vouch(EPOCH)


@pytest.mark.parametrize("text", ["", "12", "x\n", "-3\n", "\xff\n", "1\n2\n"])
def test_a_mark_that_is_none_is_left(tmp_path: Path, text: str) -> None:
    life = Life(tmp_path)
    life.send()
    (life.spool.path / "end").write_text(text, "latin-1")
    assert life.end() == End(4, whole=True)
    life.spool.close()
    assert life.end() == End(4, whole=True)


def test_without_memory_it_is_told_that_the_end_would_be_unknown(tmp_path: Path) -> None:
    config = SpoolConfig(directory=tmp_path / "spool", memory=tmp_path / "none")
    spool = Spool(config, make_instruments(), gateway=1, epoch=EPOCH)
    assert not spool.whole
    spool.close()
    assert SpoolReader(config.directory, 1, config.memory).end_of(EPOCH) == End(1, whole=True)
