"""How much history indicators need: exact for windows, by arithmetic for averages without end."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from pipeline_cases import RULES, market_instruments, market_ticks

from engine.config import Config
from engine.core.errors import ConfigError, InputFileError
from engine.core.records import TickKind
from feeds.log_writer import LogWriter
from replay.analysis.lookahead_tape import load_tape
from replay.analysis.warmup import History, measure_history, samples_for
from replay.analysis.warmup_report import WarmupOptions, analyze_warmup
from replay.analysis.warmup_samples import busiest, samples_of
from replay.analysis.warmup_series import SESSION_SAMPLES, made_series
from strategies.registry import load_registry
from strategies.spec import Use

REGISTRY = load_registry()
WINDOWS = (
    "sma", "wma", "roc", "cci", "donchian", "bollinger", "zscore", "realised_volatility",
    "book_imbalance", "order_flow_imbalance", "trade_flow", "weighted_mid",
)  # fmt: skip
AVERAGES = ("ema", "rsi", "atr", "adx", "macd", "macd_cn", "kdj")


@pytest.fixture(scope="module")
def builtin() -> dict[str, History]:
    return {one.indicator: one for one in analyze_warmup([], None).histories}


@pytest.fixture(scope="module")
def tick_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "market.hql"
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(6_000))
    return path


def test_every_built_in_indicator_is_measured_beside_its_declared_warm_up(
    builtin: dict[str, History],
) -> None:
    assert set(builtin) == set(REGISTRY.indicators)
    for name, one in builtin.items():
        spec = REGISTRY.indicators[name]
        defaults = {key: param.default for key, param in spec.params.items()}
        assert one.declared == spec.warm_up(defaults)
        if name not in ("vpin", "hawkes"):  # they count buckets and trades
            assert one.ready == one.declared


@pytest.mark.parametrize("name", WINDOWS)
def test_an_indicator_over_a_window_needs_what_it_declares(
    builtin: dict[str, History], name: str
) -> None:
    one = builtin[name]
    assert (one.kind, one.needed) == ("window", one.declared)
    assert one.off_at_ready < 1e-9


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_without_end_needs_more_than_it_declares(
    builtin: dict[str, History], name: str
) -> None:
    one = builtin[name]
    assert one.kind == "longer"
    assert one.needed is not None
    assert one.needed > one.declared
    assert one.off_at_ready > 1e-3 > one.off_at_end


def test_a_running_total_and_volume_buckets_never_forget_their_start(
    builtin: dict[str, History],
) -> None:
    assert builtin["obv"].kind == builtin["vpin"].kind == "never"
    assert builtin["obv"].off_at_end > 0.1


def test_an_average_since_the_open_needs_the_rest_of_the_session(
    builtin: dict[str, History],
) -> None:
    needed = builtin["vwap"].needed
    assert needed is not None
    assert 1 < needed <= SESSION_SAMPLES


@pytest.mark.parametrize("length", [5, 20, 100])
def test_what_an_exponential_average_needs_is_what_its_arithmetic_says(length: int) -> None:
    (one,) = measure_history([Use("ema", {"length": length})], REGISTRY, made_series(8_000), 1e-3)
    fade = 1.0 - 2.0 / (length + 1)
    further = math.log(1e-3 / one.off_at_ready) / math.log(fade)
    assert one.needed is not None
    assert one.needed == pytest.approx(length + further, abs=length / 10 + 2)


def test_the_page_about_it_tells_what_is_measured(builtin: dict[str, History]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "analysis.md").read_text()
    told: dict[str, tuple[int, int | None]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and re.match(r"\d", cells[1]):
            needed = None if cells[2].startswith("never") else int(re.split(r"\D", cells[2])[0])
            row = int(cells[1].split()[0]), needed
            told |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), row)
    assert told == {name: (one.declared, one.needed) for name, one in builtin.items()}


def test_a_tighter_tolerance_needs_more() -> None:
    series, uses = made_series(8_000), [Use("ema", {"length": 30}), Use("rsi")]
    loose = measure_history(uses, REGISTRY, series, 1e-2)
    tight = measure_history(uses, REGISTRY, series, 1e-8)
    for one, other in zip(loose, tight, strict=True):
        assert (one.needed or 0) < (other.needed or 0)


def test_the_series_grows_with_the_longest_warm_up() -> None:
    uses = [Use("sma", {"length": 1_000})]
    assert samples_for(uses, REGISTRY) == 40_000
    (one,) = measure_history(uses, REGISTRY, made_series(40_000))
    assert one.needed == 1_000


def test_the_made_series_is_always_the_same() -> None:
    assert made_series(500).tobytes() == made_series(500).tobytes()


def test_a_log_gives_the_samples_that_the_kernel_gives_its_indicators(tick_log: Path) -> None:
    tape = load_tape([tick_log], 4096)
    own = tape.ticks[tape.ticks["instrument"] == 1]
    quotes = own[own["kind"] == TickKind.QUOTE]
    trades = own[own["kind"] == TickKind.TRADE]
    specs = [bar.spec() for bar in Config.model_validate(RULES).bars]
    got = {
        clock: samples_of(tape, 1, clock, specs, REGISTRY, 10**6)
        for clock in ("tick", "trade", "quote", "1s")
    }
    assert got["trade"]["close"].tolist() == trades["price"].tolist()
    assert got["quote"]["close"].tolist() == (0.5 * (quotes["bid"] + quotes["ask"])).tolist()
    assert len(got["tick"]) == len(own)
    assert (got["1s"]["ts_event"] % 10**9 == 0).all()
    assert 50 < len(got["1s"]) < 70


def test_a_configurations_indicators_are_measured_on_its_clocks(tick_log: Path) -> None:
    tree = {**RULES, "strategies": [{"name": "tick", "rule": "macd_cross", "on": "trade"}]}
    config = Config.model_validate(tree)
    report = analyze_warmup([tick_log], config, WarmupOptions(instrument="S2.X"))
    (one,) = report.histories
    assert (one.clock, one.used_by, one.declared) == ("trade", ("tick",), 34)
    assert report.strategies == {"tick": one.needed}
    assert report.source.startswith("S2.X in ")


def test_the_busiest_instrument_is_taken_by_default(tick_log: Path) -> None:
    tape = load_tape([tick_log], 4096)
    counts = [np.count_nonzero(tape.ticks["instrument"] == i) for i in range(4)]
    assert busiest(tape) == int(np.argmax(counts))


def test_a_log_that_is_too_short_is_told(tick_log: Path) -> None:
    config = Config.model_validate({**RULES, "bars": [{"name": "1m", "interval": "1m"}],
                                    "strategies": []})  # fmt: skip
    with pytest.raises(InputFileError, match="samples are too few; it needs at least 16"):
        analyze_warmup([tick_log], config, WarmupOptions(indicators=("ema",), on="1m"))


def test_an_unknown_instrument_or_clock_is_told(tick_log: Path) -> None:
    with pytest.raises(ConfigError, match=r"instruments are: S0\.X"):
        analyze_warmup([tick_log], None, WarmupOptions(indicators=("ema",), instrument="S9.X"))
    with pytest.raises(ConfigError, match="clocks are: tick, trade, quote"):
        analyze_warmup([tick_log], None, WarmupOptions(indicators=("ema",), on="7s"))
