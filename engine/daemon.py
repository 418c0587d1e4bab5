"""The engine process: builds the parts, runs them on one loop, takes them down in order."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from typing import Final

from engine.background import Background
from engine.clock import WallClock
from engine.composition import Blueprint, build_pipeline, check_windows
from engine.config import Config
from engine.core.records import Instruments
from engine.exit_status import ExitStatus
from engine.guard import Guard
from engine.ingest import Ingest
from engine.journal import Journal
from engine.latency_log import LatencyLog, no_models
from engine.link_side import LinkSide
from engine.model_control import MAX_SWAPS, SWAPPED, ModelControl
from engine.notify import Notifier
from engine.operator_desk import OPERATOR_STATE, OperatorDesk
from engine.own_recording import next_session
from engine.process import keep_collections_short
from engine.recorder import Recorder
from engine.recording_retention import Bounds, RecordingRetention
from engine.rehearsal import Rehearsal
from engine.reload import Sources
from engine.reloader import Reloader
from engine.restart import RECORDING, Restart
from engine.sinks import LiveSink
from engine.snapshot_file import SnapshotFiles
from engine.snapshot_keeper import SnapshotKeeper
from engine.status import StatusBoard
from engine.stream import SignalStream
from engine.supervise import on_hang_up, stop_on_signals
from engine.tidy import Tidy
from feeds.burst import BurstDecoder
from latency.histogram import StageHistograms
from latency.stall import LoopWatch, StallMeter

_log = logging.getLogger(__name__)
NS_PER_S: Final = 1_000_000_000
OFFSET_INTERVAL_S: Final = 0.2
FLUSH_INTERVAL_S: Final = 0.25
TIDY_INTERVAL_S: Final = 5.0
START_EXTENSION_NS: Final = 30 * NS_PER_S
"""What the service manager is asked for with every sign that the start goes on."""


class Engine:
    """One engine; ``async with Engine(blueprint)``: inside, it is live.

    Args:
        blueprint: The configuration, resolved.
        sources: What it was read from, for a reload.
        notifier: Tells the service manager.

    Attributes:
        guard: Watches the gateway, the data, the budgets; tells when to end.
        ingest: The duty cycle.
        stream: The signal stream; its ``port`` is known once live.
        desk: Carries out the operator's commands.
        link: Both sockets of the link, and what fetches what did not come over it.
        restart: Brings the state back to where the last life ended.
        keeper: Takes the snapshots; None: none are taken.
        ready_s: Seconds from construction to ready.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        sources: Sources | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._sources = sources or Sources()
        self._notifier = notifier or Notifier()
        self.config: Config = blueprint.config
        check_windows(blueprint, self.config.engine.max_instruments)
        self._blueprint = blueprint
        self._made_ns = time.perf_counter_ns()
        self._clock = WallClock()
        self._histograms = StageHistograms()
        self._watch = LoopWatch(StallMeter(self.config.engine.stall_budget))
        self._models = ModelControl(blueprint, self._on_halt) if blueprint.models else None
        self._latency_log = LatencyLog(
            self.config.engine.hlog,
            self.config.engine.hlog_interval,
            self._histograms,
            self._watch.meter,
            self._models.histograms if self._models is not None else no_models,
        )
        self._stack = contextlib.AsyncExitStack()
        self._keeping = contextlib.AsyncExitStack()
        self._failures: list[str] = []
        self._background = Background(self._failures)
        self._session = time.time_ns()
        self.ready_s = 0.0
        self.desk: OperatorDesk
        self.guard: Guard
        self.ingest: Ingest
        self.journal: Journal
        self.stream: SignalStream
        self.board: StatusBoard
        self.link: LinkSide
        self.restart: Restart
        self.keeper: SnapshotKeeper | None = None
        self._retention: RecordingRetention | None = None
        self._sink: LiveSink

    async def __aenter__(self) -> "Engine":
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        """Open from the client's end to the data's, so that nothing arrives before its taker."""
        config = self.config
        self.journal = await stack.enter_async_context(
            Journal(config.journal.path, config.journal, on_halt=self._on_halt)
        )
        epoch, next_seq = self.journal.epoch, self.journal.next_seq
        self.stream = SignalStream(
            config.stream,
            epoch=epoch,
            next_seq=next_seq,
            store=self.journal,
            health=lambda: self.board.health(),
            set_state=lambda state, who: self.desk.on_set_state(state, who),
            operate=lambda message, who: self.desk.operate(message, who),
            on_forbidden=lambda who, command: self.desk.on_forbidden(who, command),
        )
        sink = self._sink = LiveSink(self.journal, self.stream)
        self.desk = OperatorDesk(
            lambda: self.ingest.pipeline.gate, sink, self.journal, self._background, self._models
        )
        pipeline = build_pipeline(
            self._blueprint,
            capacity=config.engine.max_instruments,
            sink=sink,
            clock=self._clock,
            histograms=self._histograms,
            stream=(epoch, next_seq),
            infer=self._models.infer if self._models is not None else None,
        )
        decoder = BurstDecoder(0, config.engine.burst)
        decoder.warm_up()
        self.ingest = Ingest(
            pipeline=pipeline,
            decoder=decoder,
            clock=self._clock,
            histograms=self._histograms,
            on_fault=self._on_halt,
            recorder=await self._open_recorder(decoder, stack),
        )
        if config.engine.rehearse_every:
            rehearsal = Rehearsal(pipeline, self.stream, config.engine.rehearse_every)
            self.ingest.rehearse = rehearsal.after_burst
        self.board = StatusBoard(
            ingest=self.ingest,
            sink=sink,
            journal=self.journal,
            stream=self.stream,
            histograms=self._histograms,
            watch=self._watch,
            latency_log=self._latency_log,
            models=self._models,
            failures=self._failures,
        )
        self._open_guard()
        if self._models is not None:
            self._models.attach(pipeline)
            await self._start_models(self._models, stack)
            self._models.compare(await self.journal.read_fields(SWAPPED, MAX_SWAPS))
        self.desk.restore(await self.journal.read_last_event(OPERATOR_STATE))
        pipeline.host.start()
        stack.callback(pipeline.host.stop)
        await self.stream.start()
        stack.push_async_callback(self.stream.stop)
        if self._models is not None:
            # Sooner than strategies and stream, which are to see the last answers.
            stack.push_async_callback(self._models.stop)
        await self._regenerate(stack)
        await stack.enter_async_context(self._keeping)
        keep_collections_short()
        self._start_tasks(stack)
        await self._open_link(stack)
        self.ready_s = (time.perf_counter_ns() - self._made_ns) / NS_PER_S
        facts = {"epoch": epoch, "ready_s": self.ready_s, **self.restart.facts()}
        sink.on_event("engine_started", 0, facts)

    @staticmethod
    async def _start_models(models: ModelControl, stack: contextlib.AsyncExitStack) -> None:
        try:
            await models.start()
        except asyncio.CancelledError:
            await models.stop()
            raise
        stack.push_async_callback(models.stop)

    def _open_guard(self) -> None:
        models = self._models
        self.guard = self.board.guard = Guard(
            self.config,
            ingest=self.ingest,
            journal=self.journal,
            batches=models.inference if models is not None else None,
            notifier=self._notifier,
            halt=self._on_halt,
        )
        self.desk.reloader = Reloader(
            self.config, self._sources, self._take_config, self.guard.tell, self._notifier
        )

    def _take_config(self, config: Config) -> None:
        """Go by what a reload may change, all of it in this turn of the loop."""
        self.ingest.pipeline.gate.reconfigure(config.risk)
        self.stream.reconfigure(config.stream)
        self.journal.reconfigure(config.journal)
        self.guard.take_config(config)

    async def _open_recorder(
        self, decoder: BurstDecoder, stack: contextlib.AsyncExitStack
    ) -> Recorder | None:
        """Open a session; the journal knows of it before its first frame."""
        config = self.config.engine
        if config.record is None:
            return None
        session = next_session(config.record, time.time_ns())
        self._session = epoch = session.epoch
        recorder = Recorder(
            session.path, decoder, epoch=epoch, rotate_bytes=config.record_rotate_bytes
        )
        stack.callback(recorder.close)
        self.journal.append_event(RECORDING, {"session": epoch}, time.time_ns())
        await self.journal.flush()
        return recorder

    async def _regenerate(self, stack: contextlib.AsyncExitStack) -> None:
        """Go on from where the last life ended, as far as its own traces lead."""
        config = self.config.engine
        directory = config.snapshot or self.config.journal.path.with_suffix(".snapshots")
        files = SnapshotFiles(directory) if config.snapshot_interval else None
        self.restart = self.board.restart = Restart(
            self._blueprint,
            self.ingest,
            self.journal,
            self._sink,
            files=files,
            recordings=config.record,
            session=self._session,
            on_progress=lambda text: self._notifier.extend(text, START_EXTENSION_NS),
        )
        if files is not None:
            self.keeper = self.board.keeper = SnapshotKeeper(
                self.ingest,
                self.journal,
                files,
                identity=self.restart.identity,
                session=self._session,
                interval_ns=config.snapshot_interval,
            )
        if config.record is not None:
            bounds = Bounds(config.record_keep_bytes, config.record_keep_age)
            self._retention = self.board.retention = RecordingRetention(
                config.record, files, bounds, self.guard.tell
            )
        stack.push_async_callback(self._end)
        await self.restart.regenerate()

    async def _end(self) -> None:
        """Keep what the next life goes on from, now that nothing comes any more."""
        kept = self.restart.live and self.keeper is not None and await self.keeper.keep()
        pipeline = self.ingest.pipeline
        facts = {
            "reason": self.guard.why or "asked to stop",
            "uptime_s": (time.perf_counter_ns() - self._made_ns) / NS_PER_S,
            "ticks": pipeline.ticks,
            "signals": pipeline.signals,
            "refused": pipeline.judge.refused,
            "void": pipeline.judge.void,
            "snapshot": kept,
        }
        self._sink.on_event("engine_stopped", 0, facts)

    def _on_caught_up(self, instruments: Instruments | None) -> None:
        """Go live; from now on there is something to keep, and what is old may go."""
        self.restart.go_live(instruments)
        if self._models is not None:
            self._models.live = True
        for keeps in (self.keeper, self._retention):
            if keeps is not None:
                self._background.start(keeps.run(), self._keeping)

    async def _open_link(self, stack: contextlib.AsyncExitStack) -> None:
        link = self.link = LinkSide(
            self.config.link,
            self.ingest,
            self.restart,
            on_restart_asked=self.guard.on_restart_asked,
            on_caught_up=self._on_caught_up,
        )
        self.board.receiver, self.board.recovery = link.receiver, link.recovery
        self.board.control = self.guard.control = link.control
        self.ingest.on_gap = self.stream.publish_data_gap
        await link.open(stack)

    def _on_halt(self, reason: str) -> None:
        self.desk.halt(reason)

    def _start_tasks(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        self._watch.start(loop)
        stack.callback(self._watch.stop)
        start, config = self._background.start_rounds, self.config.engine
        start(OFFSET_INTERVAL_S, self._correct_clock, stack)
        start(config.status_interval / NS_PER_S, self._tell_status, stack)
        start(TIDY_INTERVAL_S, Tidy().look, stack)
        if self.ingest.recorder is not None:
            start(FLUSH_INTERVAL_S, self.ingest.recorder.flush, stack)
        for interval_s, act in self.guard.rounds():
            start(interval_s, act, stack)
        for task in (*self.guard.tasks(), self._latency_log.run()):
            self._background.start(task, stack)

    def _correct_clock(self) -> None:
        self.link.correct(self._clock)

    def _tell_status(self) -> None:
        self.stream.publish_status(self.board.status())


async def run_engine(
    blueprint: Blueprint,
    on_ready: Callable[[Engine], None] | None = None,
    *,
    sources: Sources | None = None,
    notifier: Notifier | None = None,
) -> ExitStatus:
    """Run until SIGTERM or SIGINT, or until the engine decides to end; then stop in order.

    SIGHUP has the configuration read again; where a terminal has gone with it, it is the end.

    Args:
        blueprint: The configuration, resolved.
        on_ready: Called when live.
        sources: What the configuration was read from.
        notifier: Tells the service manager.

    Returns:
        Why it ended.
    """
    if blueprint.models:
        from runtime.backends.onnxruntime_backend import bound_memory

        bound_memory(blueprint.config.inference.memory_budget_bytes)
    notifier = notifier or Notifier()
    stop = stop_on_signals((signal.SIGTERM, signal.SIGINT))
    engine = Engine(blueprint, sources, notifier)
    if not await _opened(engine, stop, notifier):
        return ExitStatus.OK
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_exit(engine)
        on_hang_up(lambda: engine.desk.reload_soon("SIGHUP"), stop)
        if on_ready is not None:
            on_ready(engine)
        notifier.ready(f"live after {engine.ready_s:.1f} s")
        return await _run_until_ended(engine, stop, notifier)


async def _opened(engine: Engine, stop: asyncio.Event, notifier: Notifier) -> bool:
    """Open the engine; False if it was asked to stop sooner, and all is closed again."""
    opening = asyncio.create_task(engine.__aenter__())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((opening, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not opening.done():
        _log.info("stopping before it was live")
        notifier.stopping("stopping before it was live")
        opening.cancel()
        await asyncio.wait((opening,))
    if opening.cancelled():
        return False
    await opening
    return True


async def _run_until_ended(engine: Engine, stop: asyncio.Event, notifier: Notifier) -> ExitStatus:
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((stopped, engine.guard.ended), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    ended = engine.guard.ended
    status = ended.result() if ended.done() else ExitStatus.OK
    _log.info("stopping")
    notifier.stopping(engine.guard.why or "stopping")
    await engine.link.control.leave(returns=status is ExitStatus.RESTART)
    return status
