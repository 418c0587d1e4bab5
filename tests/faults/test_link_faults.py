"""The link between two real processes is cut, torn, stopped and mangled: nothing is lost.

The truth is the gateway's spool, of every epoch; what the engine took stands in its recording.
"""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from link_mangler import FrameMangler
from linked_rig import Linked, linked
from pipeline_cases import market_instruments, market_ticks
from process_rig import FULL, RULES, eventually, source_toml

from feeds.log_files import find_end
from feeds.log_index import COUNT, FIRST_SEQ, numbered_frames
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1800 if FULL else 170)]
RATE = 5_000.0
SPOOL = """
[gateway.spool]
directory = "spool"
memory = "."
rotate_bytes = 1048576
"""


def config(rate: float = RATE, **gateway: object) -> str:
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in gateway.items())
    return f"{RULES}\n[gateway]\n{keys}{source_toml(rate)}{SPOOL}"


def flows_again(rig: Linked) -> None:
    """Wait until the engine has taken some more ticks."""
    before = rig.status()["ticks"]
    eventually(lambda: rig.status()["ticks"] > before + 500, "ticks again")


def told(what: str, **figures: object) -> None:
    """Print a figure for the page of faults."""
    print(f"\nFIGURE {what}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))  # noqa: T201 - the figure


def test_a_killed_gateway_begins_a_new_epoch_and_nothing_it_sent_is_lost(tmp_path: Path) -> None:
    kills = 100 if FULL else 4
    chance = random.Random(1)
    with linked(tmp_path, config()) as rig:
        rig.begin()
        for _ in range(kills):
            time.sleep(chance.uniform(0.1, 1.5))
            rig.end(rig.gateway, signal.SIGKILL)
            rig.gateway = rig.start("gateway")
            flows_again(rig)
        rig.end_well()
        assert len(rig.spooled()) == kills + 1
        rig.assert_nothing_lost()
        gaps = rig.events("gap")
        assert len(gaps) == kills
        assert [gap["previous_missing"] for gap in gaps] == [0] * kills
        told("gateway killed", kills=kills, epochs=kills + 1, lost=0)


def test_what_a_killed_gateway_took_with_it_is_a_gap_exact_to_the_tick(tmp_path: Path) -> None:
    text = config().replace("rotate_bytes = 1048576", "rotate_bytes = 262144")
    with linked(tmp_path, text) as rig:
        rig.begin()
        rig.data.cut()
        rig.control.cut()
        time.sleep(4)
        rig.end(rig.gateway, signal.SIGKILL)
        (log,) = (rig.directory / "spool").iterdir()
        files = sorted(log.iterdir())
        (epoch,) = rig.spooled()
        doomed = files[-3:-1]
        gone = np.concatenate([numbers_of(file) for file in doomed])
        for file in doomed:
            file.unlink()
        rig.gateway = rig.start("gateway")
        rig.data.mend()
        rig.control.mend()
        eventually(lambda: len(rig.events("gap")) >= 2, "the gaps are journaled")
        rig.end_well()
        end = rig.spooled()[epoch]
        taken = set(rig.taken()[epoch].tolist())
        missing = set(range(min(taken), end)) - taken
        assert missing == set(gone.tolist())
        first, second = rig.events("gap")
        assert (first["first_missing"], first["missing"]) == (int(gone.min()), len(gone))
        assert first["reason"] == "gone"
        assert (second["previous_epoch"], second["previous_missing"]) == (epoch, 0)
        told("gap after a kill", missing=len(gone), declared=first["missing"])


def numbers_of(file: Path) -> npt.NDArray[np.int64]:
    rows = numbered_frames(LogReader(file).frames)
    return np.concatenate([np.arange(f, f + n) for f, n in rows[:, [FIRST_SEQ, COUNT]].tolist()])


@pytest.mark.parametrize("role", ["gateway", "engine"])
def test_a_peer_that_stands_still_is_noticed_and_caught_up_with(tmp_path: Path, role: str) -> None:
    with linked(tmp_path, config()) as rig:
        rig.begin()
        process = rig.gateway if role == "gateway" else rig.engine
        stopped = time.time()
        process.send_signal(signal.SIGSTOP)
        noticed = eventually(lambda: lost_at(rig, role), "the peer is missed", 4) - stopped
        time.sleep(max(0.0, 5 - (time.time() - stopped)))
        process.send_signal(signal.SIGCONT)
        went_on = time.monotonic()
        rate_s = caught_up_s(rig, went_on)
        rig.end_well()
        assert noticed <= 1.0
        rig.assert_nothing_lost()
        assert rig.events("gap") == []
        told(f"{role} stopped 5 s", noticed_s=f"{noticed:.2f}", caught_up_s=f"{rate_s:.2f}")


def lost_at(rig: Linked, role: str) -> float | None:
    """Return when the other one journaled that its peer is lost, wall-clock seconds."""
    if role == "gateway":
        rows = rig.rows("SELECT ts FROM events WHERE kind = 'peer_lost'")
        return rows[0][0] / 1e9 if rows else None
    events = [e for e in rig.gateway_events() if e.get("kind", e.get("event")) == "peer_lost"]
    return events[0]["ts"] / 1e9 if events else None


def caught_up_s(rig: Linked, since: float) -> float:
    """Return the seconds until the engine lives with the gateway again."""

    def level() -> bool:
        status = rig.status()
        return (
            not status["recovery"]["holding"]
            and status["ticks_per_s"] < 2 * RATE
            and (status["ticks_per_s"] > 0.5 * RATE)
        )

    eventually(level, "the engine keeps up again", 30)
    return time.monotonic() - since


def test_connections_torn_in_the_middle_of_frames_lose_nothing(tmp_path: Path) -> None:
    tears = 1000 if FULL else 50
    with linked(tmp_path, config()) as rig:
        rig.begin()
        for _ in range(tears):
            rig.data.tear()
            eventually(lambda: rig.data.torn, "a chunk passes", 30, every_s=0.005)
        flows_again(rig)
        rig.end_well()
        assert rig.data.resets == tears
        rig.assert_nothing_lost()
        assert rig.events("gap") == []
        told("connection torn", tears=tears, lost=0)


def test_a_cut_link_is_bounded_in_the_spool_and_made_up_for_in_order(tmp_path: Path) -> None:
    seconds = 60 if FULL else 5
    with linked(tmp_path, config(ring_frames=500)) as rig:
        rig.begin()
        rig.data.cut()
        rig.control.cut()
        time.sleep(seconds)
        rig.data.mend()
        rig.control.mend()
        back_s = caught_up_s(rig, time.monotonic())
        recovery = rig.status()["recovery"]
        rig.end_well()
        rig.assert_nothing_lost()
        assert rig.events("gap") == []
        assert recovery["recovered"] >= 0.9 * RATE * seconds * 0.5
        held = held_bytes(tmp_path)
        told(
            "link cut", seconds=seconds, fetched=recovery["recovered"],
            caught_up_s=f"{back_s:.2f}", spool_bytes=held,
        )  # fmt: skip


def held_bytes(directory: Path) -> int:
    """Return what the spool takes on disk."""
    held = 0
    for file in (directory / "spool").glob("*/*"):
        try:
            held += file.stat().st_size
        except FileNotFoundError:
            continue  # the oldest goes at any moment
    return held


def test_a_link_cut_for_longer_than_the_spool_lasts_leaves_a_gap_of_what_was_dropped(
    tmp_path: Path,
) -> None:
    most_bytes = 2 << 20
    text = config(ring_frames=500).replace(
        "rotate_bytes = 1048576", f"rotate_bytes = 262144\nmax_bytes = {most_bytes}"
    )
    with linked(tmp_path, text) as rig:
        rig.begin()
        rig.data.cut()
        rig.control.cut()
        most, ends = 0, time.monotonic() + 12
        while time.monotonic() < ends:
            most = max(most, held_bytes(tmp_path))
            time.sleep(0.02)
        rig.data.mend()
        rig.control.mend()
        (gap,) = eventually(lambda: rig.events("gap"), "the gap is journaled")
        caught_up_s(rig, time.monotonic())
        rig.end_well()
        ((epoch, end),) = rig.spooled().items()
        taken = rig.taken()[epoch]
        missing = np.setdiff1d(np.arange(taken.min(), end), taken)
        assert most_bytes // 2 < most <= most_bytes
        assert len(taken) == len(np.unique(taken))
        assert np.array_equal(missing, np.arange(missing[0], missing[0] + len(missing)))
        assert (gap["first_missing"], gap["missing"]) == (missing[0], len(missing))
        assert gap["reason"] == "gone"
        told("cut beyond the spool", spool_bytes=most, missing=len(missing))


def test_frames_doubled_dropped_and_swapped_change_no_signal(tmp_path: Path) -> None:
    seconds = 60 if FULL else 15
    with Linked(tmp_path, config()) as rig:
        mangler = FrameMangler(rig.environ["HEQIS__LINK__DATA"], 0.05)
        rig.environ["HEQIS__LINK__CONTROL"] = rig.environ["HEQIS__GATEWAY__CONTROL"]
        rig.environ["HEQIS__GATEWAY__OUTPUTS"] = f'["{mangler.endpoint}"]'
        with mangler:
            rig.begin()
            time.sleep(seconds)
            recovery = rig.status()["recovery"]
            gap = recovery["gap"]
            mangler.share = 0.0
            time.sleep(0.5)
            rig.end_well()
        rig.assert_nothing_lost()
        assert rig.events("gap") == []
        assert min(mangler.dropped, mangler.doubled, mangler.swapped) > 0.02 * mangler.passed
        assert gap["p99"] <= 50_000_000
        told(
            "5 % mangled", frames=mangler.passed, gaps=gap["count"], p50_ms=gap["p50"] / 1e6,
            p99_ms=gap["p99"] / 1e6, lost=0,
        )  # fmt: skip


def burst_log(file: Path, calm_s: int, burst_s: int) -> Path:
    """Write a session of 5,000 ticks/s with ten times as many in its middle."""
    counts = [5_000 * calm_s, 50_000 * burst_s, 5_000 * calm_s]
    ticks = market_ticks(sum(counts), 10)
    steps = np.repeat([200_000, 20_000, 200_000], counts)
    ticks["ts_event"] = ticks["ts_recv"] = 1_700_000_000_000_000_000 + np.cumsum(steps)
    with LogWriter(file, market_instruments(10), epoch=7) as writer:
        writer.write_ticks(ticks)
    return file


def test_ten_times_the_load_for_seconds_loses_nothing(tmp_path: Path) -> None:
    burst_s = 10 if FULL else 3
    log = burst_log(tmp_path / "burst.hql", 5, burst_s)
    text = (
        f'{RULES}\n[gateway]\nawait_output = true\n[gateway.source]\nkind = "log"\n'
        f'path = "{log}"\ntimes = "now"\n{SPOOL}'
    )
    with linked(tmp_path, text) as rig:
        rig.engine = rig.start("engine")
        rig.gateway = rig.start("gateway")
        burst_ticks = 5_000 * 5 + 50_000 * burst_s
        eventually(lambda: sent(rig) >= burst_ticks, "the burst was sent", 60, every_s=0.1)
        over = time.monotonic()
        eventually(lambda: rig.status()["ticks"] >= burst_ticks, "the burst was taken", 30)
        behind_s = time.monotonic() - over
        rig.gateway.wait(60)
        rig.end_well()
        rig.assert_nothing_lost()
        assert behind_s <= 5
        told("burst of 50,000 ticks/s", seconds=burst_s, taken_after_s=f"{behind_s:.2f}", lost=0)


def sent(rig: Linked) -> int:
    """Return how many records the gateway has numbered, as its newest segment tells."""
    files = sorted((rig.directory / "spool").glob("*/*.hql"))
    end = find_end(files[-1]) if files and files[-1].stat().st_size else None
    return 0 if end is None else end.next_seq - 1
