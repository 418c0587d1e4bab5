"""The samples of one instrument on one clock, as the kernel gives them to its indicators."""

from collections.abc import Iterator, Sequence

import numpy as np

from engine.core.errors import ConfigError, InputFileError
from engine.core.records import BAR, Bars, Schema, TickKind, Ticks
from engine.core.suggest import known_names
from replay.analysis.lookahead_tape import Tape
from strategies.bar_spec import BarSpec
from strategies.kernel import Kernel
from strategies.plan import Watch, make_plan
from strategies.registry import Registry
from strategies.spec import SAMPLE_CLOCKS, Use


def busiest(tape: Tape, symbol: str = "") -> int:
    """Return the id of a symbol, or of the instrument with the most records.

    Raises:
        ConfigError: there is no such instrument.
    """
    if symbol:
        if symbol not in tape.symbols:
            expected = known_names("instruments", tape.symbols[:20], symbol)
            raise ConfigError("command line", "--instrument", symbol, expected)
        return tape.symbols.index(symbol)
    counts = np.zeros(tape.capacity, np.int64)
    for records in (tape.ticks["instrument"], tape.bars["instrument"]):
        own = records[records < tape.capacity]
        counts += np.bincount(own, minlength=tape.capacity)
    return int(counts.argmax())


def samples_of(
    tape: Tape,
    instrument: int,
    clock: str,
    bars: Sequence[BarSpec],
    registry: Registry,
    most: int,
) -> Bars:
    """Return the first samples of an instrument on a clock.

    Args:
        tape: The log.
        instrument: Its id.
        clock: A bar's name, or tick, trade or quote.
        bars: The bars there are.
        registry: The indicators there are.
        most: Most samples.

    Returns:
        BAR, shape (N,), N at most ``most``.

    Raises:
        ConfigError: there is no such clock.
        InputFileError: there is none of these samples.
    """
    watch = Watch(clock, "", Use("sma", {"length": 1}))
    plan = make_plan(registry, bars, [], [watch])
    emit = frozenset(() if clock in SAMPLE_CLOCKS else (clock,))
    kernel = Kernel(plan, tape.capacity, emit)
    kernel.warm_up(bars=len(tape.bars) > 0)
    parts: list[Bars] = [np.zeros(0, BAR)]
    count = 0
    for part in _run(kernel, tape, instrument, clock):
        parts.append(part)
        count += len(part)
        if count >= most:
            break
    if not count:
        problem = f"{tape.symbols[instrument]} has no sample on the clock {clock!r}"
        raise InputFileError("the log", problem)
    return np.concatenate(parts)[:most]


def _run(kernel: Kernel, tape: Tape, instrument: int, clock: str) -> Iterator[Bars]:
    for span in tape.spans:
        if span.schema == Schema.INSTRUMENTS:
            kernel.define(span.defined)
            continue
        records = tape.of(span.schema)[span.start : span.stop]
        if clock not in SAMPLE_CLOCKS:
            yield from _closed(kernel, records, instrument, clock)
        else:
            yield from _sampled(kernel, records, instrument, clock)


def _closed(kernel: Kernel, records: Ticks | Bars, instrument: int, clock: str) -> Iterator[Bars]:
    """Yield the bars of a clock that records close."""
    take = kernel.run_bars if records.dtype == BAR else kernel.run_ticks
    spec = [bar.name for bar in kernel.plan.bars].index(clock)
    at = 0
    while at < len(records):
        at = take(records, at, len(records))
        closed = kernel.bars[: kernel.n_bars]
        own = (closed["instrument"] == instrument) & (closed["spec"] == spec)
        if own.any():
            yield closed[own].copy()


def _sampled(kernel: Kernel, records: Ticks | Bars, instrument: int, clock: str) -> Iterator[Bars]:
    """Yield the samples that records are themselves."""
    take = kernel.run_bars if records.dtype == BAR else kernel.run_ticks
    for row in np.flatnonzero(records["instrument"] == instrument).tolist():
        take(records, row, row + 1)
        sample = kernel.state[instrument]["x"]
        if _counts(records[row], sample, clock):
            yield kernel.state["x"][instrument : instrument + 1].copy()


def _counts(record: np.void, sample: np.void, clock: str) -> bool:
    """Say whether a record is a sample of a clock, as the kernel decides it."""
    if np.isnan(sample["close"]):
        return False
    if record.dtype == BAR:
        return clock != "quote"
    if clock == "trade":
        return bool(record["kind"] != TickKind.QUOTE and sample["trades"] > 0)
    return clock == "tick" or bool(record["kind"] != TickKind.TRADE)
