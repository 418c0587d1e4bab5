"""A stream with its journal in a process of its own: publishes, and tells how its loop fared.

Run as a program: ``python stream_server.py JOURNAL SIGNALS RATE``. It writes signals before it
listens, says its port, then publishes RATE signals a second until its standard input ends, and
says what it measured.
"""

import asyncio
import resource
import sys
import time
from pathlib import Path

import orjson
import uvloop
from stream_fakes import make_signal

from engine.journal import Journal
from engine.process import keep_collections_short
from engine.stream import SignalStream
from engine.stream_config import JournalConfig, StreamConfig

STREAM = {
    "port": 0, "ring_signals": 2048, "max_connections": 1024,
    "handshakes_per_s": 1e6,  # a crowd has many addresses, and here it has one
}  # fmt: skip
TICK_S = 0.001


class Turns:
    """How long single turns of the loop took.

    Wall time, that of turns in which no other process took the processor away, and processor
    time: on a busy machine only the last two say what the turn itself cost.
    """

    def __init__(self) -> None:
        self.worst_ns = {"wall": 0, "alone": 0, "cpu": 0}
        self._before = (0, 0, 0)

    async def run(self) -> None:
        """Wake in every turn of the loop and note how long the turn took."""
        self.reset()
        while True:
            await asyncio.sleep(0)
            wall, cpu, switches = now = self._read()
            took = {"wall": wall - self._before[0], "cpu": cpu - self._before[1]}
            if switches == self._before[2]:
                took["alone"] = took["wall"]
            for name, value in took.items():
                self.worst_ns[name] = max(self.worst_ns[name], value)
            self._before = now

    def reset(self) -> None:
        """Begin anew."""
        self.worst_ns = dict.fromkeys(self.worst_ns, 0)
        self._before = self._read()

    def told(self) -> dict[str, object]:
        return {f"{name}_ms": value / 1e6 for name, value in self.worst_ns.items()}

    def _read(self) -> tuple[int, int, int]:
        forced = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        return time.perf_counter_ns(), time.thread_time_ns(), forced


def say(fields: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(fields) + b"\n")
    sys.stdout.buffer.flush()


async def publish(journal: Journal, stream: SignalStream, rate: float) -> None:
    """Publish at a rate until cancelled."""
    began, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * rate)
        for _ in range(due - sent):
            signal = make_signal(journal.epoch, journal.next_seq, ts_emit=time.time_ns())
            stream.publish(signal)
            journal.append_signal(signal)
        sent = due
        await asyncio.sleep(TICK_S)


async def commands(turns: Turns) -> None:
    """Obey lines of standard input; return when it ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "reset":
            turns.reset()
        say(turns.told())


async def main(path: Path, signals: int, rate: float) -> None:
    config = StreamConfig.model_validate(STREAM)
    async with Journal(path, JournalConfig()) as journal:
        for _ in range(signals):
            journal.append_signal(make_signal(journal.epoch, journal.next_seq))
        await journal.flush()
        stream = SignalStream(config, epoch=journal.epoch, next_seq=journal.next_seq, store=journal)
        async with stream:
            keep_collections_short()
            say({"port": stream.port, "epoch": journal.epoch})
            turns = Turns()
            work = [asyncio.create_task(turns.run())]
            if rate:
                work.append(asyncio.create_task(publish(journal, stream, rate)))
            await commands(turns)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            say({
                "head": journal.next_seq - 1, "counters": stream.counters,
                "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            })  # fmt: skip


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
