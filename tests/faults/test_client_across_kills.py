"""Clients of an engine that is killed: each signal of the journal once, and every change told."""

import asyncio
import random
import time
from pathlib import Path

import psutil
import pytest
from process_rig import FULL, THREE_RULES, Rig, eventually, source_toml

from engine.client import Backoff, Gap, Signal, SignalClient

KILLS = 30 if FULL else 4
CONFIG = f"""
[engine]
record = "recordings"
snapshot_interval = "2s"
[gateway]
await_output = true
[gateway.spool]
directory = "spool"
{source_toml(instruments=20)}
[risk.data]
max_late = "10m"
gap_hold = 0
[risk.limits]
max_position = 0
{THREE_RULES}"""


class Follower:
    """A client from the first signal on, and all it was given."""

    def __init__(self, url: str) -> None:
        self.client = SignalClient(url, from_seq=1, backoff=Backoff(0.05, 0.2))
        self.signals: list[Signal] = []
        self.gaps: list[Gap] = []
        self._reading: asyncio.Task[None] | None = None

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.signals]

    def come(self) -> None:
        """Connect, or resume."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())

    async def go(self) -> None:
        """Leave."""
        if self._reading is not None:
            await self.client.aclose()
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    async def _read(self) -> None:
        async for item in self.client:
            if isinstance(item, Signal):
                self.signals.append(item)
            elif isinstance(item, Gap):
                self.gaps.append(item)


async def until_live(rig: Rig, lives: int) -> None:
    await asyncio.to_thread(eventually, lambda: len(rig.events("engine_live")) > lives, "live")


async def kill_and_come_back(rig: Rig, engine: psutil.Popen) -> psutil.Popen:
    lives = len(rig.events("engine_live"))
    engine.kill()
    engine.wait()
    engine = rig.start("engine")
    await until_live(rig, lives)
    return engine


async def session(rig: Rig) -> tuple[Follower, Follower]:
    """Let one client stay and one come and go, while the engine dies again and again."""
    random_ = random.Random(77)
    stays, goes = Follower(rig.url), Follower(rig.url)
    engine, gateway = rig.start("engine"), rig.start("gateway")
    stays.come()
    goes.come()
    await until_live(rig, 0)
    for kill in range(KILLS):
        await asyncio.sleep(random_.uniform(0.2, 3.0))
        # It is away for two kills: all of an epoch passes it by.
        if kill % 4 == 0:
            await goes.go()
        engine = await kill_and_come_back(rig, engine)
        if kill % 4 == 1:
            goes.come()
    goes.come()
    await asyncio.sleep(2.0)
    rig.stop(gateway)
    await settled(rig, (stays, goes))
    for one in (stays, goes):
        await one.go()
    rig.stop(engine)
    return stays, goes


async def settled(rig: Rig, followers: tuple[Follower, ...]) -> None:
    """Wait until everybody has what is journaled; or for as long as that may take."""
    ends = time.monotonic() + 20.0
    while time.monotonic() < ends:
        count = rig.signals()
        if all(len(one.signals) >= count for one in followers):
            return
        await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(120 + 20 * KILLS)
def test_clients_of_a_killed_engine_get_each_journaled_signal_once(tmp_path: Path) -> None:
    with Rig(tmp_path, CONFIG) as rig:
        followers = asyncio.run(session(rig))
    rows = rig.rows("SELECT epoch, seq, id FROM signals ORDER BY epoch, seq")
    epochs = sorted({epoch for epoch, _, _ in rows})
    assert len(epochs) > KILLS // 2
    assert rig.rows("SELECT count(*) FROM refusals WHERE gate = 'restart'") == [(0,)]
    for one in followers:
        assert len(one.ids) == len(set(one.ids)), "none twice"
        assert sorted(one.ids) == sorted(row[2] for row in rows), "and all of them"
        places = [(signal.epoch, signal.seq) for signal in one.signals]
        assert places == sorted(places)
        assert any(signal.late for signal in one.signals)
        assert {gap.reason for gap in one.gaps} == {"epoch_changed"}
        told = [gap.epoch for gap in one.gaps]
        assert told == sorted(set(told)), "every change of epoch once"
        assert set(epochs) - {epochs[-1]} <= {*told}
        assert one.client.stats.chain_breaks == 0
    again = [one.client.stats.duplicates for one in followers]
    print(  # noqa: T201 - the figure
        f"\nFIGURE client across kills: kills {KILLS}, epochs {len(epochs)}, signals {len(rows)}, "
        f"late {sum(signal.late for signal in followers[0].signals)}, known again {again}, "
        f"connections {[one.client.stats.connects for one in followers]}"
    )
