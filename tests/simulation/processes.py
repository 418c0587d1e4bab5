"""The real gateway and the real engine, each with its edges in the simulation's hands.

Nothing in here decides anything: sockets, threads, clocks and SQLite's connections are exchanged
for simulated ones, everything else is the program.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from simulation.devices import AtOnce, Hardware, SimulatedModels
from simulation.disk import Disk
from simulation.market import Market, instruments
from simulation.network import Channel, Network, NoWatch, Receiver, Sender
from simulation.virtual_loop import BASE_NS

from engine.composition import build_pipeline
from engine.core.records import Ticks
from engine.core.signals import Refusal, Signal
from engine.daemon import Engine
from engine.journal import Journal
from engine.pipeline import Pipeline
from engine.regenerate import RegeneratingSink
from engine.sinks import LiveSink
from engine.stream import SignalStream
from engine.stream_link import StreamConnection
from feeds.config import GatewayConfig
from feeds.frame_ring import FrameRing
from feeds.gateway import Gateway
from feeds.gateway_feed import TickFeed
from feeds.publisher import Publisher
from feeds.sequencer import Sequenced, Sequencer
from feeds.spool import Spool
from feeds.wake_timer import WakeTimer
from latency.histogram import StageHistograms
from strategies.kernel import Kernel, KernelState
from strategies.plan import KernelPlan

OnFrame = Callable[[int, Sequenced], None]


class Watcher:
    """Is told what the processes do; the world's checks are one."""

    def on_frame(self, epoch: int, frame: Sequenced) -> None:
        """A gateway has published a frame."""

    def on_signal(self, signal: Signal, *, taken: bool) -> None:
        """An engine has made a signal; ``taken``: it went out."""

    def on_made_again(self, signal: Signal) -> None:
        """An engine has made a signal after a restart, and decides what becomes of it."""

    def on_refusal(self, refusal: Refusal) -> None:
        """An engine has refused a candidate."""

    def on_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """An engine has told something."""

    def on_ticks(self, ticks: Ticks, origins: npt.NDArray[np.void], at: int, stop: int) -> None:
        """An engine's pipeline is given a burst."""


class _ToldPublisher(Publisher):
    told: OnFrame

    def keep(self, frame: Sequenced) -> None:
        self.told(self.sequencer.epoch, frame)
        super().keep(frame)


class _LoopTimer(WakeTimer):
    """A wake timer on the loop's own timers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._fd = -1


def make_gateway(config: GatewayConfig, seed: int, watcher: Watcher) -> Gateway:
    """Make a gateway over the simulated market."""

    def make_feed(
        config: GatewayConfig, epoch: int, ring: FrameRing
    ) -> tuple[TickFeed, Spool | None]:
        spool = None
        if config.spool is not None:
            spool = Spool(config.spool, instruments(), gateway=config.id, epoch=epoch)
        source = Market(seed)
        publisher = _ToldPublisher(Sequencer(config.id, epoch), ring, spool, instruments())
        publisher.told = watcher.on_frame
        return TickFeed(source, publisher), spool

    with mock.patch("feeds.gateway.make_feed", make_feed):
        return Gateway(config)


class _ToldSink(LiveSink):
    """Tells the watcher what goes through it."""

    watcher: Watcher

    def on_signal(self, signal: Signal) -> bool:
        taken = super().on_signal(signal)
        self.watcher.on_signal(signal, taken=taken)
        return taken

    def on_refusal(self, refusal: Refusal) -> None:
        self.watcher.on_refusal(refusal)
        super().on_refusal(refusal)

    def on_expired(self, refusal: Refusal) -> None:
        self.watcher.on_refusal(refusal)
        super().on_expired(refusal)

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        self.watcher.on_event(kind, fields)
        super().on_event(kind, ts_ns, fields)


class SimStream(SignalStream):
    """The stream without a port: whoever wants to connect comes by ``accept``."""

    def accept(self, connection: StreamConnection) -> None:
        self._keep(self._serve_client(connection))

    async def _listen(self) -> Any:
        async def closed() -> None:
            return

        return SimpleNamespace(close=lambda **_: None, wait_closed=closed, sockets=[])


def _build_told(watcher: Watcher, hardware: Hardware, *args: Any, **kwargs: Any) -> Pipeline:
    pipeline = build_pipeline(*args, **kwargs)
    if pipeline.desk is not None:
        pipeline.desk._clock_ns = hardware.now_ns
    run = pipeline.run_ticks

    def told(ticks: Ticks, origins: npt.NDArray[np.void], start: int, stop: int) -> int:
        watcher.on_ticks(ticks, origins, start, stop)
        return run(ticks, origins, start, stop)

    pipeline.run_ticks = told  # type: ignore[method-assign] # in front of it
    return pipeline


class _ToldRegeneratingSink(RegeneratingSink):
    watcher: Watcher

    def on_signal(self, signal: Signal) -> bool:
        self.watcher.on_made_again(signal)
        return super().on_signal(signal)

    def on_refusal(self, refusal: Refusal) -> None:
        self.watcher.on_refusal(refusal)
        super().on_refusal(refusal)


@cache
def _compiled(
    plan_key: int, capacity: int, emit: frozenset[str], pause: bool
) -> tuple[Kernel, KernelState]:
    kernel = Kernel(_PLANS[plan_key], capacity, emit, pause=pause)
    kernel.enabled = np.zeros((max(1, len(kernel.plan.rules)), capacity), np.uint8)
    kernel._rest = (*kernel._rest[:4], kernel.enabled, *kernel._rest[5:])
    kernel.warm_up()
    return kernel, kernel.export_state()


_PLANS: dict[int, KernelPlan] = {}


def _kernel(
    plan: KernelPlan,
    capacity: int,
    emit: frozenset[str],
    enabled: npt.NDArray[np.uint8],
    *,
    pause: bool,
) -> Kernel:
    """Return the one compiled kernel of a plan, pristine again: one process lives at a time."""
    _PLANS[id(plan)] = plan
    kernel, pristine = _compiled(id(plan), capacity, emit, pause)
    kernel.import_state(pristine)
    kernel.enabled[:] = enabled
    kernel.warm_up = _warm  # type: ignore[method-assign] # it is
    return kernel


def _warm(*, bars: bool = False) -> None:
    return


_HISTOGRAMS: dict[tuple[str, ...], StageHistograms] = {}


def shared_histograms(names: Any = None) -> StageHistograms:
    """Return histograms that all share: what they count says nothing here."""
    key = () if names is None else tuple(names)
    if key not in _HISTOGRAMS:
        _HISTOGRAMS[key] = StageHistograms() if names is None else StageHistograms(names)
    return _HISTOGRAMS[key]


@contextmanager
def simulated_edges(
    network: Network, disk: Disk, hardware: Hardware, watcher: Watcher
) -> Iterator[None]:
    """Exchange every edge of gateway and engine."""
    sink = type("ToldSink", (_ToldSink,), {"watcher": watcher})
    regenerating = type("ToldRegenerating", (_ToldRegeneratingSink,), {"watcher": watcher})
    models = type("Models", (SimulatedModels,), {"hardware": hardware})
    edges: dict[str, object] = {
        "engine.daemon.ModelControl": models,
        "engine.restart.infer_at_once": AtOnce,
        "feeds.gateway.TickSender": partial(Sender, network),
        "feeds.gateway.WakeTimer": _LoopTimer,
        "feeds.gateway.StageHistograms": shared_histograms,
        "feeds.control_client.Channel": partial(Channel, network),
        "feeds.control_server.Channel": partial(Channel, network),
        "feeds.control_server.PeerWatch": NoWatch,
        "feeds.log_writer.os": _Os(disk),
        "feeds.spool_end.os": _Os(disk),
        "engine.clock.BASE_NS": BASE_NS,
        "engine.link_side.TickReceiver": partial(Receiver, network),
        "engine.daemon.SignalStream": SimStream,
        "engine.daemon.LiveSink": sink,
        "engine.daemon.build_pipeline": partial(_build_told, watcher, hardware),
        "engine.restart.RegeneratingSink": regenerating,
        "engine.daemon.StageHistograms": shared_histograms,
        "engine.daemon.keep_collections_short": lambda: None,
        "engine.link_recovery.StageHistograms": shared_histograms,
        "latency.stall.StageHistograms": shared_histograms,
        "engine.composition.Kernel": _kernel,
        "engine.journal_store.aiosqlite.connect": disk.connect,
        "engine.journal_store.lock_file": disk.lock_file,
        "engine.journal_writer.disk_state": disk.state,
        "engine.budgets.rss_bytes": lambda: 1 << 28,
        "engine.budgets.available_bytes": lambda: 1 << 33,
        "engine.budgets.disk_free_bytes": lambda path: float(1 << 40),
        "engine.budgets.hottest_c": lambda: 40.0,
        "engine.restart.StageHistograms": shared_histograms,
    }
    with ExitStack() as stack:
        for where, what in edges.items():
            stack.enter_context(mock.patch(where, what))
        own: dict[str, Any] = {"wall_ns": lambda: time.time_ns()}  # not bound yet
        stack.enter_context(mock.patch.dict(Journal.__init__.__kwdefaults__ or {}, own))
        yield


class _Os:
    """The ``os`` of what writes to the disk: it decides about writes."""

    def __init__(self, disk: Disk) -> None:
        self.write = disk.write

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def abandon_gateway(gateway: Gateway) -> None:
    """Do what the kernel does with a killed gateway's files: what was not written is lost."""
    spool = gateway._spool
    if spool is not None and spool._writer is not None:
        _shut(spool._writer)


def abandon_engine(engine: Engine) -> None:
    """Do what the kernel does with a killed engine's files."""
    recorder = getattr(engine, "ingest", None) and engine.ingest.recorder
    if recorder is not None:
        _shut(recorder._writer)


def _shut(writer: Any) -> None:
    writer._pending.clear()
    if writer._fd >= 0:
        os.close(writer._fd)
        writer._fd = -1
