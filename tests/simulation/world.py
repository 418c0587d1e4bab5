"""One world: gateway, network, engine, disk and clients under one clock and one seed."""

import asyncio
import contextvars
import errno
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

from simulation.bounds import Bounds, check_count
from simulation.checks import Checks, InvariantError, Told, require
from simulation.clients import Client
from simulation.devices import TIMEOUT_NS, Hardware
from simulation.disk import Disk
from simulation.ending import assert_ending
from simulation.network import Network, Weather
from simulation.processes import (
    SimStream,
    abandon_engine,
    abandon_gateway,
    make_gateway,
    simulated_edges,
)
from simulation.scenario import FAULTY_MS, Happening, Scenario, blueprint_of, make_scenario
from simulation.virtual_loop import START_NS, Life, VirtualLoop, virtual_time

from engine.composition import Blueprint
from engine.core.errors import HeqisError
from engine.daemon import Engine
from engine.link_recovery import LinkRecovery
from engine.stream_messages import OnSlow, Subscribe
from feeds.gateway import Gateway
from feeds.recovery import GONE

MS: Final = 1_000_000
_SETTLE_MS: Final = 20_000
_LAST_ANSWERS_S: Final = 0.2
HALT: Final = 'SELECT 1 FROM events WHERE fields LIKE \'%"to":"halted"%\''
REACHED: Final = "SELECT 1 FROM meta WHERE key GLOB 'reached_*'"
_SHM: Final = Path("/dev/shm")  # only where it lies matters


class World:
    """Everything, from the seed.

    Attributes:
        checks: Its books.
        trace: What happened, if asked for.
    """

    def __init__(self, scenario: Scenario, directory: Path, *, trace: bool = False) -> None:
        seed = scenario.seed
        self.scenario = scenario
        self.loop = VirtualLoop()
        self.network = Network(self.loop, Random(f"{seed}/network"))
        self.disk = Disk(Random(f"{seed}/disk"))
        queue = scenario.device_queue
        self.hardware = Hardware(self.loop, Random(f"{seed}/device"), queue)
        self.checks = Checks()
        self.checks.look_for_lost = self._look_for_lost
        self.checks.remembers = bool(scenario.tree["engine"]["record"])
        self.trace: list[str] | None = [] if trace else None
        self.directory = directory
        self.blueprint: Blueprint = blueprint_of(scenario, directory)
        self.bounds = Bounds(self.blueprint.config, self.disk, queue)
        self.gateway: Gateway | None = None
        self.engine: Engine | None = None
        self._gateway_life: Life | None = None
        self._engine_life: Life | None = None
        self._rng = Random(f"{seed}/world")
        self._calm = Weather(200_000, 300_000)
        self.gateways = self.engines = 0
        self.clients = [self._make_client(number) for number in range(scenario.clients)]
        self.is_open = False
        self.trouble_ns = 0
        self._ended: list[BaseException] = []

    def _make_client(self, number: int) -> Client:
        rng = Random(f"{self.scenario.seed}/client {number}")
        slow: OnSlow = "conflate" if rng.random() < 0.3 else "disconnect"
        strategies = ["fast"] if rng.random() < 0.2 else None
        wish = Subscribe(on_slow=slow, strategies=strategies)
        limit = self.blueprint.config.stream.send_buffer_bytes
        client = Client(f"client {number}", self.loop, rng, limit, wish)
        client.on_item = self._on_item
        return client

    def _on_item(self, client: Client, item: Any) -> None:
        if client.state.wish.strategies is None:
            self.checks.on_item(client, item)

    def tell(self, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{(self.loop.now_ns - START_NS) / 1e6:10.3f} ms  {what}")

    def _look_for_lost(self, told: Told) -> None:
        """What is said to be gone is not in the gateway's hands."""
        self.tell(f"gap {told}")
        gateway = self.gateway
        if gateway is None or told.reason != GONE or self.disk.refuses:
            return
        for seq in {told.first, told.stop - 1} if told.stop > told.first else set():
            held = told.epoch == gateway.epoch and gateway._ring.find(seq) is not None
            past = gateway._resender._past
            found = None if past is None else past.read(told.epoch, seq, seq + 1, 1)
            require(not held and found is None, f"{told}: the gateway has it")

    # Lives

    def start_gateway(self) -> None:
        if self.gateway is not None:
            return
        self.gateways += 1
        life = self._gateway_life = Life(f"gateway {self.gateways}")
        seed = self.scenario.seed * 1000 + self.gateways
        config = self.blueprint.config.gateway
        try:
            self.gateway = life.context.run(make_gateway, config, seed, self.checks)
        except HeqisError as error:
            self.tell(f"gateway does not start: {error}")
            return
        self.tell(f"gateway {self.gateways} begins epoch {self.gateway.epoch}")
        self.loop.call_soon(self._run_gateway, self.gateway, context=life.context)

    def _run_gateway(self, gateway: Gateway) -> None:
        async def run() -> None:
            await gateway.run()
            self.tell("gateway has left")
            self.loop.call_soon(self._bury_gateway, gateway, context=contextvars.Context())

        self._watch(self.loop.create_task(run()))

    def _bury_gateway(self, gateway: Gateway) -> None:
        if self.gateway is gateway:
            self.kill_gateway()

    def kill_gateway(self) -> None:
        gateway, life = self.gateway, self._gateway_life
        if gateway is None or life is None:
            return
        self.tell("gateway killed")
        self.gateway = None
        self.loop.kill(life)
        self.network.servers.clear()
        abandon_gateway(gateway)
        check_count(gateway._ring)

    def start_engine(self) -> None:
        if self._engine_life is not None:
            return
        self.engines += 1
        life = self._engine_life = Life(f"engine {self.engines}")
        self.checks.begin_life()
        self.loop.call_soon(self._run_engine, context=life.context)

    def _run_engine(self) -> None:
        self._watch(self.loop.create_task(self._open_engine()))

    async def _open_engine(self) -> None:
        engine = Engine(self.blueprint)
        self.engine = engine
        try:
            await engine.__aenter__()
        except HeqisError as error:
            self.tell(f"engine does not start: {error}")
            life = self._engine_life
            self.loop.call_soon(self._bury_engine, life, context=contextvars.Context())
            return
        self.is_open = True
        self.tell(f"engine {self.engines} is open")

    def kill_engine(self) -> None:
        engine, life = self.engine, self._engine_life
        if life is None:
            return
        self.tell("engine killed")
        self.engine, self._engine_life, self.is_open = None, None, False
        self.loop.kill(life)
        for receiver in list(self.network.receivers.values()):
            receiver.close()
        if engine is not None:
            abandon_engine(engine)
        self.disk.forget_uncommitted()
        for client in self.clients:
            client.drop()
        self.checks.committed |= committed_ids(self.directory)
        if not self.checks.remembers and not _committed(self.directory, REACHED):
            self.checks.first_life = len(self.checks.lives)
        self.checks.stays_halted |= self.checks.halted and _committed(self.directory, HALT)

    def _watch(self, task: "asyncio.Task[None]") -> None:
        def note(done: "asyncio.Task[None]") -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self._ended.append(error)

        task.add_done_callback(note)

    # Happenings

    def happen(self, one: Happening) -> None:
        self.tell(one.what)
        value = one.value
        act: dict[str, Callable[[], None]] = {
            "cut": self.network.cut,
            "cut_over": self.network.mend,
            "storm": lambda: self._storm(value),
            "storm_over": self._calm_down,
            "gateway_killed": self.kill_gateway,
            "gateway_killed_over": self.start_gateway,
            "gateway_stopped": lambda: self._stop(self._gateway_life),
            "gateway_stopped_over": lambda: self._go_on(self._gateway_life),
            "gateway_leaves": self._leave_gateway,
            "gateway_leaves_over": self.start_gateway,
            "engine_killed": self.kill_engine,
            "engine_killed_over": self.start_engine,
            "engine_stopped": lambda: self._stop(self._engine_life),
            "engine_stopped_over": lambda: self._go_on(self._engine_life),
            "engine_leaves": self._leave_engine,
            "engine_leaves_over": self.start_engine,
            "disk_full": lambda: self._refuse(errno.ENOSPC),
            "disk_full_over": lambda: self._refuse(0),
            "disk_broken": lambda: self._refuse(errno.EIO),
            "disk_broken_over": lambda: self._refuse(0),
            "disk_slow": lambda: self._slow(int(value * 400 * MS)),
            "disk_slow_over": lambda: self._slow(0),
            "device_fails": lambda: self._break_device(fails=True),
            "device_fails_over": self._mend_device,
            "device_hangs": lambda: self._break_device(slow_ns=int(value * 2 * TIMEOUT_NS)),
            "device_hangs_over": self._mend_device,
            "client_stalls": lambda: self._stall(value, stop=True),
            "client_stalls_over": lambda: self._stall(value, stop=False),
            "client_drops": lambda: self._part(value, away=True),
            "client_drops_over": lambda: self._part(value, away=False),
        }
        self.trouble_ns = self.loop.now_ns
        act[one.what]()

    def _stop(self, life: Life | None) -> None:
        if life is not None:
            self.loop.stop_life(life)

    def _go_on(self, life: Life | None) -> None:
        if life is not None:
            self.loop.go_on(life)

    def _leave_gateway(self) -> None:
        """Stop the gateway in order."""
        gateway, life = self.gateway, self._gateway_life
        if gateway is not None and life is not None:
            self.loop.call_soon(gateway.stop, context=life.context)

    def _leave_engine(self) -> None:
        """Stop the engine in order, if it has started."""
        engine, life = self.engine, self._engine_life
        if engine is not None and life is not None and self.is_open:
            self.is_open = False
            self.loop.call_soon(self._close_engine, engine, life, context=life.context)

    def _close_engine(self, engine: Engine, life: Life) -> None:
        async def close() -> None:
            with suppress(HeqisError):
                await engine.__aexit__(None, None, None)
            self.tell("engine has left")
            self.loop.call_soon(self._bury_engine, life, context=contextvars.Context())

        self._watch(self.loop.create_task(close()))

    def _bury_engine(self, life: Life) -> None:
        if self._engine_life is life:
            self.kill_engine()

    def _storm(self, strength: float) -> None:
        unruly = self.scenario.unruly
        self.network.weather = Weather(
            delay_ns=int(5 * MS * strength),
            jitter_ns=int(20 * MS * strength),
            drop=0.2 * strength if unruly else 0.0,
            double=0.2 * strength if unruly else 0.0,
            spoil=0.05 * strength if unruly else 0.0,
            reorder=unruly,
            cut=self.network.weather.cut,
        )

    def _calm_down(self) -> None:
        cut = self.network.weather.cut
        self.network.weather = Weather(200_000, 300_000, cut=cut)

    def _refuse(self, number: int) -> None:
        self.disk.refuses = number

    def _slow(self, by_ns: int) -> None:
        self.disk.slow_ns = by_ns

    def _break_device(self, *, fails: bool = False, slow_ns: int = 0) -> None:
        self.hardware.fails, self.hardware.slow_ns = fails, slow_ns

    def _mend_device(self) -> None:
        self._break_device()

    def _which(self, value: float) -> Client:
        return self.clients[int(value * len(self.clients))]

    def _stall(self, value: float, *, stop: bool) -> None:
        client = self._which(value)
        client.stalled = stop
        if not stop:
            client.go_on()

    def _part(self, value: float, *, away: bool) -> None:
        client = self._which(value)
        client.away = away
        if away:
            client.drop()

    def figures(self) -> dict[str, int]:
        """Return what there was of everything."""
        return {
            "ticks": len(self.checks.published),
            "signals": len(self.checks.signals),
            "ends of a gateway": self.gateways - 1,
            "ends of an engine": self.engines - 1,
            "declared gaps": self.checks.events["gap"],
        }

    # The run

    async def run(self) -> None:
        """Let everything happen, then be well, then come to rest."""
        self.loop.after_turn = self.after_turn
        self.start_gateway()
        self.start_engine()
        for one in self.scenario.happenings:
            if one.at_ms < FAULTY_MS:
                self.loop.call_at((START_NS + one.at_ms * MS) / 1e9, self.happen, one)
        visits = asyncio.create_task(self._visit())
        await asyncio.sleep(FAULTY_MS / 1e3)
        self.tell("all is well")
        self._heal()
        await self._settle()
        self.kill_gateway()
        await asyncio.sleep(_LAST_ANSWERS_S)
        visits.cancel()
        self.loop.after_turn = lambda: None
        error = self.loop.unseen()
        if error is not None:
            raise error
        assert_ending(self)

    async def _visit(self) -> None:
        """Let clients that are not connected come back."""
        while True:
            await asyncio.sleep(0.02)
            engine, life = self.engine, self._engine_life
            stream = None if engine is None else getattr(engine, "stream", None)
            for client in self.clients:
                away = client.away or client.connected
                if not away and life is not None and isinstance(stream, SimStream) and stream._loop:
                    client.connect(stream, life.context)

    def _heal(self) -> None:
        self.network.mend()
        self._calm_down()
        self._refuse(0)
        self._slow(0)
        self._mend_device()
        self._go_on(self._gateway_life)
        self._go_on(self._engine_life)
        self.start_gateway()
        self.start_engine()
        for client in self.clients:
            client.away = False
            client.go_on()

    async def _settle(self) -> None:
        """Wait until all have caught up.

        Raises:
            InvariantError: they do not.
        """
        quiet_since = 0
        for _ in range(_SETTLE_MS // 10):
            await asyncio.sleep(0.01)
            self.start_gateway()
            self.start_engine()
            waiting = self.unsettled()
            quiet_since = 0 if waiting else quiet_since + 1
            if quiet_since >= 5:
                return
        error = self.loop.unseen()
        if error is not None:
            raise error
        raise InvariantError(f"it does not come to rest: {self.unsettled()}")

    def unsettled(self) -> list[str]:
        """Return what is still on its way."""
        engine, gateway = self.engine, self.gateway
        recovery = recovery_of(engine)
        if engine is None or gateway is None or recovery is None:
            return ["a process is missing"]
        found = []
        place = self.checks.taken.place
        newest = max(self.checks.published, default=None)
        if place is None or newest is None or place[0] != newest[0] or place[1] + 40 < newest[1]:
            found.append(f"the engine is at {place}, the gateway at {newest}")
        if recovery.holding:
            found.append("the stream is held")
        if not engine.restart.live:
            found.append("the engine has not caught up")
        desk = engine.ingest.pipeline.desk
        if desk is not None and desk.waiting > 8:
            found.append(f"{desk.waiting} scores are awaited")
        if engine.journal.queued > 8:
            found.append(f"{engine.journal.queued} rows wait")
        found += [f"{one.name} is not connected" for one in self.clients if not one.connected]
        return found

    def bury(self) -> None:
        """End everything, without any effect on anything."""
        self.network.cut()
        if self.gateway is not None:
            abandon_gateway(self.gateway)
        if self.engine is not None:
            abandon_engine(self.engine)
        self.disk.forget_uncommitted()
        self.loop.bury()

    def after_turn(self) -> None:
        """Check what must hold after every turn."""
        if InvariantError.first is not None:
            raise InvariantError.first
        if self._ended:
            raise self._ended[0]
        engine, gateway = self.engine, self.gateway
        if gateway is not None:
            self.bounds.check_gateway(gateway)
        self.bounds.check_spool()
        for client in self.clients:
            self.bounds.check_client(client)
        recovery = recovery_of(engine)
        if engine is None or recovery is None:
            return
        self.bounds.check_hold(recovery._hold, self.network.largest_burst)
        self.bounds.check_engine(engine)
        require(engine.ingest.faults == 0, f"the duty cycle failed {engine.ingest.faults} times")
        if engine.board.failures:
            raise InvariantError(f"a task failed: {engine.board.failures}")


def recovery_of(engine: Engine | None) -> LinkRecovery | None:
    """Return an engine's recovery; None before its link is open."""
    link = getattr(engine, "link", engine)
    return getattr(link, "recovery", None)


def committed_ids(directory: Path) -> set[str]:
    """Return the ids of the signals that are in the journal's file."""
    import sqlite3

    path = directory / "journal.db"
    if not path.exists():
        return set()
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(path)
        try:
            return {str(row[0]) for row in connection.execute("SELECT id FROM signals")}
        finally:
            connection.close()
    return set()


def _committed(directory: Path, query: str) -> bool:
    """Return whether there is what a query looks for in the journal's file."""
    import sqlite3

    with suppress(sqlite3.Error):
        connection = sqlite3.connect(directory / "journal.db")
        try:
            return bool(connection.execute(f"SELECT EXISTS ({query})").fetchone()[0])
        finally:
            connection.close()
    return False


def run_seed(seed: int, *, trace: bool = False) -> World:
    """Run one world to its end.

    Raises:
        AssertionError: something that must hold does not.
    """
    InvariantError.first = None
    directory = Path(tempfile.mkdtemp(dir=_SHM if _SHM.is_dir() else None))
    world = World(make_scenario(seed), directory, trace=trace)
    try:
        with (
            virtual_time(world.loop),
            simulated_edges(world.network, world.disk, world.hardware, world.checks),
        ):
            try:
                world.loop.run_until_complete(world.run())
            except AssertionError as error:
                error.add_note("\n".join(world.trace or ()))
                raise
            finally:
                world.bury()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return world
