"""The gateway: a source's ticks, cleaned and numbered, to every engine, to disk, and in time."""

import asyncio
import logging
import signal
import time
from typing import Any, Final

import orjson

from engine.core.records import Instruments
from feeds.codec import encode_instruments
from feeds.config import GatewayConfig
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_server import ControlServer
from feeds.curve import client_of
from feeds.frame_ring import FrameRing
from feeds.gateway_feed import make_feed
from feeds.gateway_guard import GatewayGuard
from feeds.link import TickSender
from feeds.outlet import Outlet
from feeds.resend import Limits, Resender
from feeds.spool_reader import SpoolReader
from feeds.wake_timer import WakeTimer
from latency.histogram import StageHistograms
from latency.steady import steady_ns

_log = logging.getLogger(__name__)

_TURN_TICKS: Final = 8192
"""Most ticks published in one turn of the loop."""
_TURN_FRAMES: Final = 1024
"""Most frames sent to one output in one turn of the loop."""
_FLUSH_NS: Final = 100_000_000
_LINGER_MS: Final = 500


class Gateway:
    """Owns the stream, its ring, its spool and its sockets; runs on one loop.

    Every turn publishes what is due, sends what the outputs take, and sleeps until something is
    due again. Frames that an output does not take wait in the ring; when the ring is full the
    oldest are dropped and counted, and the engine asks for them again, out of the spool.

    Args:
        config: What to send, where, and within which bounds.

    Raises:
        HeqisError: the source or the spool cannot be opened.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._ring = FrameRing(config.ring_frames, config.ring_bytes)
        past = _past_of(config)
        self._feed, self._spool = make_feed(config, _new_epoch(past), self._ring)
        self._lateness = StageHistograms(("lateness",))
        self._resender = Resender(
            config.id,
            self._ring,
            lambda: (self._feed.epoch, self._feed.next_seq),
            past,
            self._commit,
            Limits(config.resend_bytes, config.resend_bytes_per_s, config.max_peers),
        )
        self._desk = ControlDesk(self._facts, self.status, config.max_peers, self._resender.serve)
        self._control = ControlServer(config.control, self._desk, config.keys)
        self._senders: list[TickSender] = []
        self._outlets: list[Outlet] = []
        self._engine_keys: list[str | None] = []
        self._revoked: frozenset[str] = frozenset()
        self._ended: list[str] = []
        self._guard = GatewayGuard(config, self._desk, self._ask_restart, self._outlets)
        self._timer: WakeTimer | None = None
        self._stopping = False
        self._defined: Instruments | None = None
        self._definitions = b""
        self._opened_ns = time.monotonic_ns()
        self._next_beat_ns = 0
        self._next_flush_ns = 0
        self._next_status_ns = 0

    @property
    def control_endpoint(self) -> str:
        """The control endpoint with its real port, while the gateway runs."""
        return self._control.endpoint

    @property
    def turned_ns(self) -> int:
        """Monotonic time at which it last sent what was due, 0 before the first."""
        return self._guard.turned_ns

    @property
    def epoch(self) -> int:
        """The stream epoch."""
        return self._feed.epoch

    def stop(self) -> None:
        """Ask ``run`` to end: the source stops at once, the ring is sent within the timeout."""
        self._stopping = True
        if self._timer is not None:
            self._timer.wake()

    def status(self) -> dict[str, Any]:
        """Return the counters, as JSON has them; times in nanoseconds."""
        late = self._lateness.summary()["lateness"]
        mono_ns = time.monotonic_ns()
        status: dict[str, Any] = {
            "gateway": self._config.id,
            "epoch": self._feed.epoch,
            "next_seq": self._feed.next_seq,
            "source": self._config.source.kind,
            "uptime_ns": mono_ns - self._opened_ns,
            **self._feed.counters,
            "ring": {"frames": len(self._ring), "bytes": self._ring.held_bytes},
            "outputs": [_outlet_status(outlet) for outlet in self._outlets],
            "peers": self._desk.alive(mono_ns, self._config.peer_timeout),
            "guard": self._guard.status(),
            "control": {**self._desk.answered, "unsent": self._control.unsent},
            "strangers": self._control.counters,
            "keys": {"problem": self._control.problem, "ended": list(self._ended)},
            "resend": dict(self._resender.counters),
            "lateness": {"count": late.count, "p50": late.p50, "p99": late.p99, "max": late.max},
        }
        if self._spool is not None:
            status["spool"] = {
                "path": str(self._spool.path),
                "failures": self._spool.failures,
                "lost_frames": self._spool.lost_frames,
                "error": self._spool.last_error,
                "pruned_bytes": self._spool.pruned_bytes,
                "whole": self._spool.whole,
            }
        return status

    async def run(self) -> None:
        """Send until the source ends or ``stop`` is called.

        Raises:
            LinkError: an endpoint cannot be used.
        """
        self._timer = WakeTimer()
        try:
            for at, endpoint in enumerate(self._config.outputs):
                key = self._config.server_key(at)
                curve = client_of(self._config.keys, key)
                sender = TickSender(endpoint, self._config.output_hwm, curve=curve)
                self._senders.append(sender)
                self._outlets.append(Outlet(endpoint, sender, self._ring))
                self._engine_keys.append(key)
            async with self._control:
                _log.info("gateway %d sends epoch %d", self._config.id, self._feed.epoch)
                self._feed.open(steady_ns())
                await self._await_output()
                await self._send_all()
                await self._drain_ring()
        finally:
            await self._guard.close()
            self._close()

    def _ask_restart(self) -> int:
        return self._control.ask_restart("the gateway found it silent")

    async def _send_all(self) -> None:
        while not self._stopping:
            mono_ns = time.monotonic_ns()
            due = self._publish(mono_ns)
            more = self._send()
            self._keep_house(mono_ns)
            if due is None:
                return
            await self._sleep(0 if more else due, mono_ns)

    def _publish(self, mono_ns: int) -> int | None:
        """Publish what is due; return when to be back, monotonic ns, None when the source ended."""
        wall_ns = steady_ns()
        defined = self._feed.instruments
        intended = self._feed.turn(mono_ns, wall_ns, _TURN_TICKS)
        if len(intended):
            self._lateness.record_spans(0, wall_ns, intended, len(intended))
        if self._feed.instruments is not defined:
            self._control.tell_instruments()
        if mono_ns >= self._next_beat_ns:
            self._next_beat_ns = mono_ns + self._config.heartbeat_interval
            self._feed.heartbeat(mono_ns, wall_ns)
        next_due_ns = self._feed.next_due_ns(mono_ns)
        return None if next_due_ns is None else min(next_due_ns, self._next_beat_ns)

    def _send(self) -> bool:
        """Let every output take what it can; return whether one would take more at once.

        What is sent is in the spool first: so a gateway that is killed has kept all that it sent.
        """
        self._commit()
        for outlet in self._outlets:
            outlet.drain(_TURN_FRAMES)
        return any(outlet.waiting and not outlet.blocked for outlet in self._outlets)

    def _commit(self) -> None:
        if self._spool is not None:
            self._spool.commit()

    async def _sleep(self, due_ns: int, turn_ns: int) -> None:
        assert self._timer is not None
        earliest_ns = turn_ns + self._config.turn_interval if due_ns else 0
        wait_ns = max(due_ns, earliest_ns) - time.monotonic_ns()
        if wait_ns > self._config.spin:
            await self._timer.wait(wait_ns - self._config.spin)
        else:
            await self._timer.wait(0)

    def _keep_house(self, mono_ns: int) -> None:
        self._guard.turn(mono_ns)
        if self._control.revoked is not self._revoked:
            self._revoked = self._control.revoked
            self._end_revoked()
        if self._spool is not None and mono_ns >= self._next_flush_ns:
            self._next_flush_ns = mono_ns + _FLUSH_NS
            self._spool.flush()
        if mono_ns >= self._next_status_ns:
            self._next_status_ns = mono_ns + self._config.status_interval
            _log.info("status %s", orjson.dumps(self.status()).decode())

    def _end_revoked(self) -> None:
        """Send nothing more to engines whose key was revoked, until the next start."""
        for at in reversed(range(len(self._outlets))):
            if self._engine_keys[at] in self._revoked:
                endpoint = self._outlets[at].name
                self._senders[at].close(linger_ms=0)
                del self._senders[at], self._outlets[at], self._engine_keys[at]
                self._ended.append(endpoint)
                self._guard.tell("output_revoked", {"output": endpoint})

    async def _await_output(self) -> None:
        """Hold the source until an output has taken a frame, if the configuration says so."""
        assert self._timer is not None
        while self._config.await_output and self._outlets and not self._stopping:
            self._send()
            if any(outlet.sent_frames for outlet in self._outlets):
                return
            self._guard.turn(time.monotonic_ns())
            await self._timer.wait(self._config.heartbeat_interval)

    async def _drain_ring(self) -> None:
        """Send what the ring still holds, within the stop timeout."""
        deadline_ns = time.monotonic_ns() + self._config.stop_timeout
        while self._send() or any(outlet.waiting for outlet in self._outlets):
            if time.monotonic_ns() >= deadline_ns:
                return
            await asyncio.sleep(0.001)

    def _facts(self) -> StreamFacts:
        feed, config = self._feed, self._config
        if feed.instruments is not self._defined:
            self._defined = feed.instruments
            frames = encode_instruments(
                feed.instruments,
                gateway=config.id,
                epoch=feed.epoch,
                next_seq=feed.next_seq,
                ts_send=steady_ns(),
            )
            self._definitions = b"".join(frames)
        return StreamFacts(
            config.id, feed.epoch, feed.next_seq, config.heartbeat_interval, self._definitions
        )

    def _close(self) -> None:
        for sender in self._senders:
            sender.close(_LINGER_MS)
        if self._spool is not None:
            self._spool.close()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        _log.info("stopped %s", orjson.dumps(self.status()).decode())


def _past_of(config: GatewayConfig) -> SpoolReader | None:
    spool = config.spool
    return None if spool is None else SpoolReader(spool.directory, config.id, spool.memory)


def _new_epoch(past: SpoolReader | None) -> int:
    """Return the time, or more if an earlier run's clock was ahead: epochs only ever grow."""
    epochs = past.epochs() if past is not None else []
    return max(time.time_ns(), *(epoch + 1 for epoch in epochs[-1:]), 0)


def _outlet_status(outlet: Outlet) -> dict[str, Any]:
    return {
        "endpoint": outlet.name,
        "sent_frames": outlet.sent_frames,
        "waiting_frames": outlet.waiting,
        "dropped_frames": outlet.dropped_frames,
        "dropped_ticks": outlet.dropped_ticks,
        "blocked": outlet.blocked,
    }


async def run_gateway(config: GatewayConfig) -> dict[str, Any]:
    """Run a gateway until its source ends or SIGTERM or SIGINT comes.

    Returns:
        The final counters.

    Raises:
        HeqisError: the source, the spool or an endpoint cannot be used.
    """
    gateway = Gateway(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop)
    try:
        await gateway.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return gateway.status()
