"""A small market of daily bars, and a configuration that trades it."""

from pathlib import Path
from typing import Any

import numpy as np
from result_cases import CLOSE_NS, midnight_ns, weekdays

from engine.core.records import Bars, Board, empty_bars, instrument_row
from feeds.log_writer import LogWriter

SYMBOLS = ("AAA.X", "BBB.X", "CCC.X")
BEIJING_S = 8 * 3600
STRATEGIES: list[dict[str, Any]] = [
    {"name": "quick", "rule": "macd_cross", "on": "tick", "params": {"fast": 3, "slow": 6}},
    {"name": "slow", "rule": "macd_cross", "on": "tick", "params": {"fast": 5, "slow": 12}},
]
CONFIG: dict[str, Any] = {
    "strategies": STRATEGIES,
    "risk": {"limits": {"max_position": 0, "cool_down": 0}},
    "backtest": {"sizing": {"by": "cash", "amount": 200_000.0}},
}


def daily_bars(days: int, seed: int = 1) -> Bars:
    """Return a random walk of every symbol, a bar a weekday, in order of time."""
    rng = np.random.default_rng(seed)
    count = len(SYMBOLS)
    closes = 100.0 * np.cumprod(1.0 + rng.normal(0.0005, 0.02, (days, count)), axis=0)
    opens = closes * (1.0 + rng.normal(0.0, 0.005, (days, count)))
    ends = [midnight_ns(day) + CLOSE_NS for day in weekdays(days)]
    bars = empty_bars(days * count)
    bars["instrument"] = np.tile(np.arange(count), days)
    bars["ts_event"] = bars["ts_recv"] = np.repeat(ends, count)
    bars["ts_open"] = bars["ts_event"] - 5 * 3600 * 10**9
    bars["open"], bars["close"] = np.round(opens, 2).ravel(), np.round(closes, 2).ravel()
    bars["high"] = np.maximum(bars["open"], bars["close"]) + 0.5
    bars["low"] = np.minimum(bars["open"], bars["close"]) - 0.5
    bars["volume"] = 1e6
    bars["turnover"] = 1e6 * bars["close"]
    return bars


def write_daily(path: Path, bars: Bars) -> Path:
    """Write bars as a log of a market whose days are Beijing's."""
    rows = [
        instrument_row(name, id=number, board=Board.CRYPTO, tick_size=0.01, day_offset_s=BEIJING_S)
        for number, name in enumerate(SYMBOLS)
    ]
    with LogWriter(path, np.concatenate(rows), epoch=4) as writer:
        writer.write_bars(bars)
    return path


def as_toml(config: dict[str, Any] | None = None) -> str:
    """Write a configuration of tables, lists of tables and plain values as TOML."""
    lines: list[str] = []
    _add(lines, (), config or CONFIG)
    return "\n".join(lines) + "\n"


def _add(lines: list[str], path: tuple[str, ...], table: dict[str, Any]) -> None:
    for key, value in table.items():
        if not isinstance(value, dict | list):
            lines.append(f"{key} = {_literal(value)}")
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict):
            lines.append(f"[{'.'.join(here)}]")
            _add(lines, here, value)
        elif isinstance(value, list):
            for item in value:
                lines.append(f"[[{'.'.join(here)}]]")
                _add(lines, here, item)


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
