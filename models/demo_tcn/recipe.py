"""What is trained, on which market, over which spans: every number that decides the result."""

from typing import Final, NamedTuple

from feeds.config import SimulatorConfig

NAME: Final = "demo-tcn"
VERSION: Final = "1"
NS: Final = 1_000_000_000

CLOCK: Final = "1s"
INTERVAL_NS: Final = NS
HORIZON_S: Final = 20
"""A forecast is of the mid's move over this time from the close of the window's last bar."""
BAND_BPS: Final = 6.0
"""A move beyond it is up or down, within it flat: about what one leg of a trade costs at the
engine's default fee, spread and slippage."""
LEVELS: Final = 4
"""Dilated layers: dilations 1, 2, 4, 8 with two taps each see exactly WINDOW rows."""
WINDOW: Final = 2**LEVELS
LABELS: Final = ("down", "flat", "up")

MARKET_SEED: Final = 20_240_304
"""Of the market that is split in time. The demo plays seed 7, which no training saw."""
DEMO_SEED: Final = 7
TRAINING_SEED: Final = 7
MIN_PROBABILITY: Final = 0.5
"""From which probability on the measures count a side as traded."""


class Feature(NamedTuple):
    """One column: its name, the indicator with parameters, and which output, "" for the main."""

    name: str
    of: str
    output: str = ""


class Span(NamedTuple):
    """A part of a market's time, in seconds since its start."""

    seed: int
    start_s: int
    stop_s: int
    effect_bps_per_s: float = 4.0


FEATURES: Final = (
    Feature("zscore_10", "zscore(length=10)"),
    Feature("flow_1", "trade_flow(length=1)", "normalised"),
    Feature("flow_5", "trade_flow(length=5)", "normalised"),
    Feature("book_1", "book_imbalance(length=1)"),
    Feature("book_5", "book_imbalance(length=5)"),
    Feature("lean_bps", "weighted_mid", "deviation_bps"),
)
"""All of about the same size whatever the instrument, so that one scale suits them in INT8."""

PURGE_S: Final = 60
"""Left out between two spans. Indicators, windows and outcomes are computed within a span alone,
so that nothing of one reaches into the next; the gap lets the market forget, too."""
_HOUR_S: Final = 3600
TRAIN: Final = Span(MARKET_SEED, 0, 4 * _HOUR_S)
VALIDATION: Final = Span(MARKET_SEED, TRAIN.stop_s + PURGE_S, 5 * _HOUR_S)
TEST: Final = Span(MARKET_SEED, VALIDATION.stop_s + PURGE_S, 6 * _HOUR_S)
DEMO: Final = Span(DEMO_SEED, 0, _HOUR_S)
"""The first hour that the demo plays: another path of the same kind of market."""
NO_EFFECT: Final = Span(DEMO_SEED, 0, _HOUR_S, effect_bps_per_s=0.0)
"""The control: the same without the planted effect, where nothing can be known of the next move."""


def market(span: Span) -> SimulatorConfig:
    """Return the demo's market with a span's seed and effect, ending with the span."""
    return SimulatorConfig(
        universe="crypto",
        instruments=20,
        seed=span.seed,
        rate=1500.0,
        effect_bps_per_s=span.effect_bps_per_s,
        duration=span.stop_s * NS,
    )
