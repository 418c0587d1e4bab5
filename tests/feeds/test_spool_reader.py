"""Frames found again in a spool on disk, whatever became of it."""

from pathlib import Path

import pytest
from frame_cases import make_instruments, make_ticks
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.records import SEQUENCED, Schema
from feeds.codec import iter_frames
from feeds.config import SpoolConfig
from feeds.sequencer import Sequenced, Sequencer
from feeds.spool import Spool
from feeds.spool_end import End
from feeds.spool_reader import SpoolReader

EPOCH = 5
FRAME = 64 + 80 * 3
OPENING = 64 + 112 * 2


def fill(directory: Path, frames: int, *, epoch: int = EPOCH, **how: int) -> list[Sequenced]:
    """Spool frames of three ticks in small segments; return them."""
    keys = {"rotate_bytes": 1 << 16, **how}
    config = SpoolConfig(directory=directory, memory=directory, **keys)
    spool = Spool(config, make_instruments(), gateway=1, epoch=epoch)
    sequencer = Sequencer(1, epoch)
    made = []
    for _ in range(frames):
        made += sequencer.ticks(make_ticks(3, first=sequencer.next_seq), 1)
        spool.append(made[-1])
    spool.close()
    return made


def read_all(reader: SpoolReader, seq: int, stop: int, most: int = 4096) -> list[bytes]:
    """Read stretch after stretch; return the numbered frames."""
    found = []
    while seq < stop and (part := reader.read(EPOCH, seq, stop, most)) is not None:
        whole = part.frames.tobytes()
        assert len(whole) <= max(most, FRAME) + OPENING
        at = 0
        for frame in iter_frames(whole):
            if frame.schema in SEQUENCED:
                found.append(whole[at : at + frame.length])
            at += frame.length
        assert part.next_seq > seq
        seq = part.next_seq
    return found


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sequenced]]:
    directory = tmp_path_factory.mktemp("spool")
    made = fill(directory, 1000)
    assert len(list(directory.glob("*/*.hql"))) > 4
    return directory, made


@given(data=st.data())
@settings(max_examples=50)
def test_any_range_comes_whole_and_in_order(
    data: st.DataObject, spooled: tuple[Path, list[Sequenced]]
) -> None:
    directory, made = spooled
    first = data.draw(st.integers(1, 3000))
    stop = data.draw(st.integers(first + 1, 3001))
    most = data.draw(st.sampled_from([1, 1000, 5000, 1 << 20]))
    reader = SpoolReader(directory, 1, directory)
    wanted = [f.frame for f in made if f.first_seq + f.consumed > first and f.first_seq < stop]
    assert read_all(reader, first, stop, most) == wanted


def test_bounds_and_epochs_are_told(tmp_path: Path) -> None:
    fill(tmp_path, 10, epoch=4)
    fill(tmp_path, 20)
    reader = SpoolReader(tmp_path, 1, tmp_path)
    assert reader.epochs() == [4, 5]
    assert (reader.first_held(4), reader.end_of(4), reader.end_of(5)) == (
        1,
        End(31, whole=True),
        End(61, whole=True),
    )
    assert (reader.first_held(9), reader.end_of(9), reader.read(9, 1, 9, 1000)) == (
        None,
        None,
        None,
    )
    assert SpoolReader(tmp_path, 2, tmp_path).epochs() == []
    assert SpoolReader(tmp_path / "none", 1, tmp_path).epochs() == []


def test_what_was_pruned_is_left_out(tmp_path: Path) -> None:
    made = fill(tmp_path, 10_000, max_bytes=1 << 20)
    reader = SpoolReader(tmp_path, 1, tmp_path)
    oldest = reader.first_held(EPOCH)
    assert oldest is not None
    assert oldest > 10_000
    part = reader.read(EPOCH, 1, 40_000, 4096)
    assert part is not None
    frames = [f for f in iter_frames(part.frames.tobytes()) if f.schema in SEQUENCED]
    assert frames[0].first_seq == oldest
    assert reader.end_of(EPOCH) == End(made[-1].first_seq + 3, whole=True)


def test_frames_still_being_written_are_found_once_flushed(tmp_path: Path) -> None:
    config = SpoolConfig(directory=tmp_path, memory=tmp_path)
    spool = Spool(config, make_instruments(), gateway=1, epoch=EPOCH)
    sequencer, reader = Sequencer(1, EPOCH), SpoolReader(tmp_path, 1, tmp_path)
    for count in range(1, 40):
        (frame,) = sequencer.ticks(make_ticks(3), 1)
        spool.append(frame)
        spool.commit()
        assert len(read_all(reader, 1, 1 << 40)) == count
        assert read_all(reader, frame.first_seq, 1 << 40) == [frame.frame]
    spool.close()


def test_damage_in_the_middle_costs_what_it_hit(tmp_path: Path) -> None:
    made = fill(tmp_path, 100)
    (file,) = (tmp_path / f"gateway-1-{EPOCH}.hql").glob("*.hql")
    whole = bytearray(file.read_bytes())
    at = whole.index(made[40].frame)
    whole[at : at + 500] = bytes(500)
    file.write_bytes(whole)
    reader = SpoolReader(tmp_path, 1, tmp_path)
    found = read_all(reader, 1, 1 << 40)
    assert found == [f.frame for i, f in enumerate(made) if i not in {40, 41}]
    assert reader.end_of(EPOCH) == End(301, whole=True)


def test_a_tail_torn_later_is_missing_from_what_was_sent(tmp_path: Path) -> None:
    fill(tmp_path, 50)
    (file,) = (tmp_path / f"gateway-1-{EPOCH}.hql").glob("*.hql")
    file.write_bytes(file.read_bytes()[:-20])
    reader = SpoolReader(tmp_path, 1, tmp_path)
    assert reader.end_of(EPOCH) == End(151, whole=True)
    assert len(read_all(reader, 1, 1 << 40)) == 49


def test_definitions_come_along_wherever_an_answer_begins(tmp_path: Path) -> None:
    spool = Spool(
        SpoolConfig(directory=tmp_path, memory=tmp_path), make_instruments(), gateway=1, epoch=EPOCH
    )
    sequencer, reader = Sequencer(1, EPOCH), SpoolReader(tmp_path, 1, tmp_path)
    for frame in [
        *sequencer.ticks(make_ticks(3), 1),
        *sequencer.definitions(make_instruments(3), 1),
        *sequencer.ticks(make_ticks(3, instruments=3), 1),
    ]:
        spool.append(frame)
    spool.close()
    for reads in (SpoolReader(tmp_path, 1, tmp_path), reader):
        part = reads.read(EPOCH, 4, 7, 1)
        assert part is not None
        frames = list(iter_frames(part.frames.tobytes()))
        assert [frame.schema for frame in frames] == [Schema.INSTRUMENTS, Schema.TICK]
        reader.read(EPOCH, 1, 4, 1)
