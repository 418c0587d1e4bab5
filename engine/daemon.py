"""The engine process: builds the parts, runs them on one loop, takes them down in order."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from engine.clock import WallClock
from engine.composition import Blueprint, build_pipeline, check_windows
from engine.config import Config
from engine.core.errors import ConfigError, HeqisError
from engine.core.records import Instruments
from engine.exit_status import ExitStatus
from engine.guard import Guard
from engine.ingest import Ingest
from engine.journal import Journal
from engine.latency_log import LatencyLog, no_models
from engine.link_recovery import LinkRecovery
from engine.model_control import ModelControl
from engine.notify import Notifier
from engine.own_recording import next_session
from engine.process import keep_collections_short
from engine.recorder import Recorder
from engine.recovery_timer import RecoveryTimer
from engine.rehearsal import Rehearsal
from engine.reload import Sources
from engine.reloader import Reloader
from engine.restart import RECORDING, Restart
from engine.risk.rules import RiskState
from engine.sinks import LiveSink
from engine.snapshot_file import SnapshotFiles
from engine.snapshot_keeper import SnapshotKeeper
from engine.status import StatusBoard
from engine.stream import Health, SignalStream
from engine.stream_messages import GateState, Operate
from engine.supervise import on_hang_up, stop_on_signals
from feeds.burst import BurstDecoder
from feeds.control import ControlClient
from feeds.control_messages import Welcome
from feeds.curve import gatekeeper_of
from feeds.link import TickReceiver
from latency.histogram import StageHistograms
from latency.stall import LoopWatch, StallMeter

_log = logging.getLogger(__name__)
NS_PER_S: Final = 1_000_000_000
OPERATOR_STATE: Final = "operator_state"
"""Kind of the journal's event for an operator's command."""
OFFSET_INTERVAL_S: Final = 0.2
FLUSH_INTERVAL_S: Final = 0.25


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
        recovery: Fetches what did not come over the link.
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
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: set[asyncio.Future[dict[str, Any]]] = set()
        self.ready_s = 0.0
        self.guard: Guard
        self.reloader: Reloader
        self.ingest: Ingest
        self.journal: Journal
        self.stream: SignalStream
        self.board: StatusBoard
        self.receiver: TickReceiver | None = None
        self.recovery: LinkRecovery
        self.restart: Restart
        self.keeper: SnapshotKeeper | None = None
        self._sink: LiveSink
        self._session = time.time_ns()
        self._keeping = contextlib.AsyncExitStack()
        self._instruments: Instruments | None = None
        self._attached = False

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
            health=self._health,
            set_state=self._on_set_state,
            operate=self._operate,
            on_forbidden=self._on_forbidden,
        )
        sink = self._sink = LiveSink(self.journal, self.stream)
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
        )
        self._open_guard()
        if self._models is not None:
            self._models.attach(pipeline)
            await self._models.start()
            stack.push_async_callback(self._models.stop)
        await self._restore_state()
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
        self.reloader = Reloader(
            self.config, self._sources, self._take_config, self.guard.tell, self._notifier
        )

    def _take_config(self, config: Config) -> None:
        """Go by what a reload may change, all of it in this turn of the loop."""
        self.ingest.pipeline.gate.reconfigure(config.risk)
        self.stream.reconfigure(config.stream)
        self.journal.reconfigure(config.journal)
        self.guard.take_config(config)

    async def _operate(self, message: Operate, who: str) -> Mapping[str, Any]:
        if message.command == "reload":
            return await self.reloader.reload(who)
        if self._models is None:
            raise ConfigError("command", "model", message.model, "there are no models here")
        return await self._models.operate(message, who)

    def _on_forbidden(self, who: str, command: str) -> None:
        fields = {"command": command, "by": who}
        self.ingest.pipeline.judge.sink.on_event("operator_refused", 0, fields)

    def reload_soon(self, who: str) -> None:
        """Begin to read the configuration again; what comes of it is journaled and logged."""
        task = asyncio.ensure_future(self.reloader.reload(who))
        self._asked.add(task)
        task.add_done_callback(self._on_reloaded)

    def _on_reloaded(self, task: "asyncio.Future[dict[str, Any]]") -> None:
        self._asked.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, HeqisError):
            _log.critical("a reload failed", exc_info=error)
            self.board.failures.append(f"{type(error).__name__}: {error}")

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

    def _on_caught_up(self) -> None:
        """Go live; from now on there is something to keep."""
        self.restart.go_live(self._instruments)
        if self.keeper is not None:
            self._start(self.keeper.run(), self._keeping)

    async def _open_link(self, stack: contextlib.AsyncExitStack) -> None:
        link = self.config.link
        receiver = TickReceiver(
            link.data,
            slots=link.slots,
            hwm=link.receive_hwm,
            gatekeeper=gatekeeper_of(link.keys),
        )
        stack.callback(receiver.close)
        self.receiver = self.board.receiver = receiver
        control = ControlClient(
            link,
            name=link.name,
            on_restart=self.guard.on_restart_asked,
            on_instruments=self._on_instruments,
            on_welcome=self._on_welcome,
            on_resent=lambda head, frames: self.recovery.on_resent(
                head, frames, time.monotonic_ns()
            ),
        )
        self.board.control = self.guard.control = control
        timer = RecoveryTimer(lambda mono_ns: self.recovery.on_turn(mono_ns))
        stack.callback(timer.close)
        self.recovery = LinkRecovery(
            self.ingest,
            link,
            ask=control.ask,
            heard_ns=lambda: control.heard_ns,
            wake=timer.wake,
            pause=self._pause_receiver,
        )
        self.board.recovery = self.recovery
        self.ingest.on_gap = self.stream.publish_data_gap
        self.recovery.on_caught_up = self._on_caught_up
        await stack.enter_async_context(control)

    async def part(self, *, returns: bool) -> None:
        """Say goodbye to the gateway, so that it does not take this for a failure."""
        if self.board.control is not None:
            await self.board.control.leave(returns=returns)

    def _pause_receiver(self, stop: bool) -> None:
        if self.receiver is None:
            return
        if stop:
            self.receiver.detach()
        else:
            self.receiver.attach(asyncio.get_running_loop(), self.ingest.on_burst)

    def _on_welcome(self, welcome: Welcome) -> None:
        self.restart.greet(welcome)
        self.recovery.on_welcome(welcome, time.monotonic_ns())

    def _on_instruments(self, instruments: Instruments, epoch: int) -> None:
        """Begin to take data once it is known what the instruments are.

        Later changes come in the stream itself, at their place in it.
        """
        self._instruments = instruments
        if self._attached or self.receiver is None:
            return
        self._attached = True
        _log.info("gateway epoch %d sends %d instruments", epoch, len(instruments))
        self.restart.meet(instruments)
        self.ingest.pipeline.gate.warm(time.time_ns())
        self.receiver.attach(asyncio.get_running_loop(), self.ingest.on_burst)

    def _on_halt(self, reason: str) -> None:
        """Let no signal through any more, and say why."""
        pipeline = self.ingest.pipeline
        if pipeline.gate.state is not RiskState.HALTED:
            pipeline.gate.set_state(RiskState.HALTED)
            self._sink.on_event("halted", 0, {"reason": reason})

    def set_state(self, state: RiskState, who: str) -> None:
        """Carry out an operator's command on the risk gate; it is journaled."""
        pipeline = self.ingest.pipeline
        before = pipeline.gate.state
        pipeline.gate.set_state(state)
        fields = {"from": before.value, "to": state.value, "by": who}
        self._sink.on_event(OPERATOR_STATE, 0, fields)

    async def _restore_state(self) -> None:
        """Stay as the operator left the gate, where that is stricter than the configuration."""
        last = await self.journal.read_last_event(OPERATOR_STATE)
        states = list(RiskState)
        gate = self.ingest.pipeline.gate
        if last is not None and last.get("to") in states:
            wanted = RiskState(last["to"])
            if states.index(wanted) > states.index(gate.state):
                gate.set_state(wanted)
                _log.warning("the risk gate is %s, as the operator left it", wanted.value)

    def _on_set_state(self, state: GateState, who: str) -> GateState:
        before: GateState = self.ingest.pipeline.gate.state.value
        self.set_state(RiskState(state), who)
        return before

    def _health(self) -> Health:
        return self.board.health()

    def _start_tasks(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        self._watch.start(loop)
        stack.callback(self._watch.stop)
        config = self.config.engine
        rounds: list[tuple[float, Callable[[], None]]] = [
            (OFFSET_INTERVAL_S, self._correct_clock),
            (config.status_interval / NS_PER_S, self._tell_status),
        ]
        if self.ingest.recorder is not None:
            rounds.append((FLUSH_INTERVAL_S, self.ingest.recorder.flush))
        for interval_s, act in [*rounds, *self.guard.rounds()]:
            self._start(_every(interval_s, act), stack)
        for task in self.guard.tasks():
            self._start(task, stack)
        self._start(self._latency_log.run(), stack)

    def _start(
        self, coroutine: Coroutine[Any, Any, None], stack: contextlib.AsyncExitStack
    ) -> None:
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._on_task_end)
        self._tasks.append(task)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """Tell of a task that ended by itself; trading goes on, health says so."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task failed", exc_info=error)
            self.board.failures.append(f"{type(error).__name__}: {error}")

    def _correct_clock(self) -> None:
        """Follow the gateway's clock where it is certain to differ from ours."""
        control = self.board.control
        offset = control.offset if control is not None else None
        if offset is not None:
            certain = abs(offset.offset_ns) > offset.error_bound_ns
            self._clock.offset_ns = offset.offset_ns if certain else 0

    def _tell_status(self) -> None:
        self.stream.publish_status(self.board.status())


async def _every(interval_s: float, act: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        act()


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
    async with Engine(blueprint, sources, notifier) as engine:
        on_hang_up(lambda: engine.reload_soon("SIGHUP"), stop)
        if on_ready is not None:
            on_ready(engine)
        notifier.ready(f"live after {engine.ready_s:.1f} s")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((stopped, engine.guard.ended), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        ended = engine.guard.ended
        status = ended.result() if ended.done() else ExitStatus.OK
        _log.info("stopping")
        notifier.stopping(engine.guard.why or "stopping")
        await engine.part(returns=status is ExitStatus.RESTART)
    return status
