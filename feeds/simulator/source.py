"""The simulator as a source of ticks."""

import datetime as dt
from collections.abc import Iterator

import numpy as np

from engine.core.errors import ConfigError
from engine.core.records import TICK, Instruments, Ticks
from feeds.config import SimulatorConfig
from feeds.simulator import ashare, crypto
from feeds.simulator.faults import add_faults
from feeds.simulator.kernels import DAY_CYCLES, snapshots_nb, trades_and_quotes_nb
from feeds.simulator.state import REGIMES, TRANSITIONS

SNAPSHOTS_PER_S = 1.0 / 3.0


def parse_start_ns(text: str) -> int:
    """Read an ISO 8601 time with a zone as nanoseconds since the epoch.

    Raises:
        ConfigError: not such a time.
    """
    expected = 'an ISO 8601 time with a zone, such as "2024-03-04T01:30:00Z"'
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError("simulator", "start", text, expected) from None
    if moment.tzinfo is None:
        raise ConfigError("simulator", "start", text, expected)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (moment - epoch) // dt.timedelta(microseconds=1) * 1000


class Simulator:
    """A seeded market: a TickSource whose bytes follow from its configuration alone.

    The planted effect. For each instrument let F be the sum over its past trades of
    ``side * exp(-age / horizon)``, A the same sum without the side, and ``s = F / (A + 2)`` the
    signed flow share, in (-1, 1). The efficient price, around which quotes are set, drifts by
    ``effect_bps_per_s * s`` basis points a second, on top of the regime's drift and volatility. So
    over a time much shorter than the horizon the expected move is that number times the time; over
    a longer one flow decays, and the buying or selling pressure behind it adds to it.

    Args:
        config: What to simulate.

    Raises:
        ConfigError: the start is not a time.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._start_ns = parse_start_ns(config.start)
        market_seed, fault_seed = np.random.SeedSequence(config.seed).spawn(2)
        self._rng = np.random.Generator(np.random.PCG64(market_seed))
        self._fault_rng = np.random.Generator(np.random.PCG64(fault_seed))
        if config.universe == "crypto":
            self._rows = crypto.open_rows(config, self._rng)
            self._market = crypto.open_market(config, self._rows, self._start_ns)
            self._instruments = crypto.define_instruments(config.instruments)
        else:
            self._rows = ashare.open_rows(config, self._rng)
            self._market = ashare.open_market(config, self._start_ns)
            self._instruments = ashare.define_instruments(self._rows)
        self._make(np.zeros(0, TICK))  # compiled now: the first batch is asked for on a live loop

    @property
    def instruments(self) -> Instruments:
        """Definitions that hold for the latest batch; another array when a new day changes them."""
        return self._instruments

    @property
    def speed(self) -> float:
        """How much faster than market time a live gateway plays it to reach the configured rate."""
        if self._config.universe == "crypto" or self._config.rate is None:
            return 1.0
        return self._config.rate / (self._config.instruments * SNAPSHOTS_PER_S)

    @property
    def longest_gap_ns(self) -> int | None:
        """The longest wait of a live gateway between two ticks."""
        if self._config.longest_gap is None and self._config.universe == "a-share":
            return ashare.LONGEST_GAP_NS
        return self._config.longest_gap

    @property
    def keep_times(self) -> bool:
        """Whether a live gateway leaves the simulated times as they are."""
        return self._config.keeps_market_times

    def batches(self) -> Iterator[Ticks]:
        """Yield TICK arrays of at most ``batch`` ticks (more where faults duplicate some).

        The array is reused: copy what must stay.
        """
        left = self._config.limit_ticks
        for made in self._made():
            ticks = made if left is None else made[:left]
            yield ticks
            if left is not None:
                left -= len(ticks)
                if left == 0:
                    return

    def _make(self, out: Ticks) -> int:
        """Make the next ticks, none if there is no room; return how many."""
        make_nb = trades_and_quotes_nb if self._config.universe == "crypto" else snapshots_nb
        return int(make_nb(self._rng, self._rows, self._market, REGIMES, TRANSITIONS, out))

    def _made(self) -> Iterator[Ticks]:
        config = self._config
        generated = self._crypto() if config.universe == "crypto" else self._snapshots()
        end_ns = None if config.duration is None else self._start_ns + config.duration
        for generated_ticks in generated:
            ticks = generated_ticks
            ended = end_ns is not None and bool(ticks["ts_event"][-1] >= end_ns)
            if end_ns is not None and ended:
                ticks = ticks[: np.searchsorted(ticks["ts_event"], end_ns)]
            if config.faults.total > 0 and len(ticks):
                ticks = add_faults(ticks, config.faults, self._fault_rng)
            if len(ticks):
                yield ticks
            if ended:
                return

    def _crypto(self) -> Iterator[Ticks]:
        out = np.zeros(self._config.batch, TICK)
        while True:
            yield out[: self._make(out)]

    def _snapshots(self) -> Iterator[Ticks]:
        out = np.zeros(self._config.batch, TICK)
        zone = dt.timezone(dt.timedelta(seconds=ashare.BEIJING_OFFSET_S))
        first = dt.datetime.fromtimestamp(self._start_ns // 1_000_000_000, zone).date()
        for day in ashare.trading_days(first):
            self._instruments = ashare.open_day(self._rows, self._market, self._rng, day)
            while self._market["cycle"][0] < DAY_CYCLES:
                ticks = out[: self._make(out)]
                yield ticks[ticks["ts_event"] >= self._start_ns]
