"""A planted look at the future is caught, whatever its way; what is clean passes."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_cases import RULES, START_NS, market_instruments, market_ticks
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.config import Config
from engine.core.errors import CheckFailedError, ConfigError, InputFileError
from engine.core.records import Bars, Ticks, empty_bars
from feeds.log_writer import LogWriter
from replay.analysis.lookahead import analyze_lookahead
from replay.analysis.lookahead_report import LookaheadOptions, LookaheadReport
from strategies.kernel import Kernel

MINUTE_NS = 60 * 10**9
START = START_NS - START_NS % MINUTE_NS


def minute_bars(count: int = 120, instruments: int = 2, seed: int = 3) -> Bars:
    rng = np.random.default_rng(seed)
    bars = empty_bars(count * instruments)
    rows = np.arange(len(bars))
    bars["instrument"] = rows % instruments
    bars["ts_open"] = START + rows // instruments * MINUTE_NS
    bars["ts_event"] = bars["ts_recv"] = bars["ts_open"] + MINUTE_NS
    close = 100.0 + np.round(np.cumsum(rng.normal(0.0, 0.05, len(bars))), 2)
    bars["open"] = close - np.round(rng.normal(0.0, 0.03, len(bars)), 2)
    bars["close"] = close
    bars["high"] = np.maximum(bars["open"], close) + 0.01
    bars["low"] = np.minimum(bars["open"], close) - 0.01
    bars["volume"], bars["turnover"], bars["count"] = 100.0, 100.0 * close, 1
    bars["trades"] = 5
    return bars


@pytest.fixture(scope="module")
def bar_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "minutes.hql"
    with LogWriter(path, market_instruments(2), epoch=5) as writer:
        writer.write_bars(minute_bars())
    return path


@pytest.fixture(scope="module")
def tick_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ticks") / "market.hql"
    return write_ticks(path, market_ticks(6_000))


def write_ticks(path: Path, ticks: Ticks) -> Path:
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks)
    return path


def config(**tree: Any) -> Config:
    base = {"risk": {"limits": {"max_position": 0, "cool_down": 0}, "data": {"max_age": "1h"}}}
    return Config.model_validate({**base, **tree})


def plugin(directory: Path, text: str) -> Path:
    path = directory / "user_code.py"
    path.write_text(textwrap.dedent(text))
    return path


def python_strategy(directory: Path, text: str, **params: Any) -> Config:
    return config(
        bars=[{"name": "1m", "interval": "1m"}],
        plugins=[str(plugin(directory, text))],
        strategies=[{"name": "user", "strategy": "user", "on": "1m", "params": params}],
    )


def checks(report: LookaheadReport) -> set[str]:
    return {finding.check for finding in report.findings}


PEEKS = """
    from replay.bursts import LogBursts
    from feeds.log_reader import LogReader
    from strategies.python_strategy import Strategy

    HARD = {hard!r}

    class User(Strategy):
        name = "user"
        defaults = {{"log": HARD, "ahead": 1}}

        def on_start(self):
            self.closes, self.at = {{}}, {{}}
            with LogReader(self.params["log"]) as reader:
                symbols = [row["symbol"].decode() for row in reader.instruments]
                for burst in LogBursts(reader, 4096, lambda rows: None):
                    for bar in burst.records[: burst.size]:
                        own = self.closes.setdefault(symbols[bar["instrument"]], [])
                        own.append(float(bar["close"]))

        def on_bar(self, bar):
            at = self.at[bar.instrument] = self.at.get(bar.instrument, -1) + 1
            closes = self.closes[bar.instrument]
            if at + self.params["ahead"] >= len(closes):
                return
            if closes[at + self.params["ahead"]] > bar.close:
                self.buy(bar.instrument, 0.5, 0.5)
"""


def test_a_strategy_that_reads_the_next_bar_of_its_log_is_caught(
    bar_log: Path, tmp_path: Path
) -> None:
    user = python_strategy(tmp_path, PEEKS.format(hard=""), log=str(bar_log))
    report = analyze_lookahead([bar_log], user)
    assert not report.ok
    assert report.proposals["user"] > 20
    assert {"truncated", "shifted", "mirrored", "reads_log"} <= checks(report)
    for finding in report.findings:
        if finding.check in ("truncated", "shifted", "mirrored"):
            assert finding.strategy == "user"
            assert finding.cut is not None
            behind = (finding.cut + 1) // 2 - 1 - (finding.ts_event - START) // MINUTE_NS + 1
            assert 0 <= behind <= 1, "the differing bar is the last before the cut"


def test_a_strategy_that_reads_only_its_own_bar_from_the_log_is_told_that_it_reads_the_log(
    bar_log: Path, tmp_path: Path
) -> None:
    user = python_strategy(tmp_path, PEEKS.format(hard=""), log=str(bar_log), ahead=0)
    assert checks(analyze_lookahead([bar_log], user)) <= {"reads_log"}


def test_a_path_to_the_log_inside_the_code_is_told(bar_log: Path, tmp_path: Path) -> None:
    text = PEEKS.format(hard=str(bar_log)).replace('"log": HARD, ', "")
    user = python_strategy(tmp_path, text.replace('self.params["log"]', "HARD"))
    (finding,) = [
        one for one in analyze_lookahead([bar_log], user).findings if one.check == "reads_log"
    ][:1]
    assert str(bar_log) in finding.problem
    assert "user_code.py" in finding.problem


CLEAN = """
    from strategies.python_strategy import Strategy
    from strategies.spec import Use

    class User(Strategy):
        name = "user"

        def indicators(self):
            return {"fast": Use("ema", {"length": 3})}

        def on_bar(self, bar):
            fast = bar.indicators.get("fast")
            if fast is not None and bar.close > fast:
                self.buy(bar.instrument, 0.5, 0.5)
"""


def test_a_clean_strategy_passes(bar_log: Path, tmp_path: Path) -> None:
    report = analyze_lookahead([bar_log], python_strategy(tmp_path, CLEAN))
    assert report.findings == []
    assert report.proposals["user"] > 20
    assert len(report.cuts) == 10
    assert report.values_compared > 20
    assert report.runs == 3 + 3 * 10


def test_chance_is_told_apart_from_the_future(bar_log: Path, tmp_path: Path) -> None:
    text = CLEAN.replace("bar.close > fast", "random.random() > 0.5").replace(
        "    from strategies.spec", "    import random\n    from strategies.spec"
    )
    report = analyze_lookahead([bar_log], python_strategy(tmp_path, text))
    assert checks(report) == {"repeat"}


def test_what_is_left_of_an_earlier_run_is_caught(bar_log: Path, tmp_path: Path) -> None:
    text = """
        from strategies.python_strategy import Strategy

        class User(Strategy):
            name = "user"
            seen = {}

            def on_bar(self, bar):
                after = self.seen.get((bar.instrument, bar.ts_event + 60 * 10**9))
                self.seen[bar.instrument, bar.ts_event] = bar.close
                if after is not None and after > bar.close:
                    self.buy(bar.instrument, 0.5, 0.5)
    """
    assert checks(analyze_lookahead([bar_log], python_strategy(tmp_path, text))) == {"repeat"}


def test_knowledge_of_this_log_by_its_times_is_caught(bar_log: Path, tmp_path: Path) -> None:
    ups = minute_bars()[::2]
    rises = np.flatnonzero(np.diff(ups["close"]) > 0)
    times = [int(ts) for ts in ups["ts_event"][rises]]
    text = CLEAN.replace("bar.close > fast", "bar.ts_event in TIMES").replace(
        "    class User", f"    TIMES = {times}\n\n    class User"
    )
    user = python_strategy(tmp_path, text)
    assert checks(analyze_lookahead([bar_log], user)) == {"moved"}
    dated = analyze_lookahead([bar_log], user, LookaheadOptions(dated=True))
    assert dated.ok
    assert "not moved in time: --dated" in dated.notes


def test_other_files_are_told_unless_trusted(bar_log: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.txt"
    table.write_text("1")
    text = CLEAN.replace("    class User", f"    open({str(table)!r}).close()\n\n    class User")
    user = python_strategy(tmp_path, text)
    (finding,) = analyze_lookahead([bar_log], user).findings
    assert finding.check == "reads_file"
    assert str(table) in finding.problem
    assert analyze_lookahead([bar_log], user, LookaheadOptions(trust=(table,))).ok


@pytest.mark.slow
def test_built_in_rules_and_the_example_strategy_pass_on_ticks(tick_log: Path) -> None:
    rules = [
        {"name": rule, "rule": rule, "on": "1s"}
        for rule in ("macd_cross", "bollinger_reversion", "zscore_reversion", "kdj_macd")
    ]
    python = {"name": "pullback", "strategy": "trend_pullback", "on": "1s",
              "params": {"trend_length": 5, "rsi_length": 3, "quiet_bars": 0}}  # fmt: skip
    flow = {"name": "flow", "rule": "flow_momentum", "on": "tick", "params": {"length": 50}}
    tree = {**RULES, "strategies": [*RULES["strategies"], *rules, flow, python]}
    report = analyze_lookahead([tick_log], Config.model_validate(tree))
    assert report.findings == []
    assert report.proposals["fast"] > 10
    assert report.values_compared > 500


def test_a_kernel_that_sees_one_record_further_is_caught(
    tick_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ticks = Kernel.run_ticks

    def peeking(self: Kernel, ticks: Ticks, start: int, stop: int) -> int:
        seen = ticks.copy()
        trades = np.flatnonzero(seen["price"] > 0.0)
        seen["price"][trades[:-1]] = seen["price"][trades[1:]]
        return run_ticks(self, seen, start, stop)

    monkeypatch.setattr(Kernel, "run_ticks", peeking)
    report = analyze_lookahead([tick_log], Config.model_validate(RULES))
    assert {"truncated", "values"} <= checks(report)


NEIGHBOUR = """
    from numba import njit
    from strategies.spec import IndicatorSpec, Param, RuleSpec, Use

    @njit(error_model="numpy", forceinline=True)
    def update_nb(s, p, ring, base, x):
        ring[base] = x["close"]
        s["value"] = ring[base + 1] - x["close"]
        s["ready"] = 1

    NEIGHBOUR = IndicatorSpec(
        name="neighbour", title="t", params={}, outputs=("value",), update=update_nb,
        warm_up=lambda p: 1, formula="f", reference="r", ring=lambda p: 1,
    )

    @njit(error_model="numpy", forceinline=True)
    def decide_nb(s, p, x, out, neighbour):
        out["side"] = 1 if neighbour["value"] > 0.0 else -1
        out["strength"] = 0.5
        out["confidence"] = 0.5
        out["edge_bps"] = 1.0
        return True

    RULE = RuleSpec(name="neighbourly", version="1", title="t", params={},
        uses=lambda p: (Use("neighbour"),), decide=decide_nb)
"""


def test_a_compiled_strategy_that_reads_another_instruments_history_is_caught(
    bar_log: Path, tmp_path: Path
) -> None:
    user = config(
        bars=[{"name": "1m", "interval": "1m"}],
        plugins=[str(plugin(tmp_path, NEIGHBOUR))],
        strategies=[{"name": "leaks", "rule": "neighbourly", "on": "1m"}],
    )
    report = analyze_lookahead([bar_log], user)
    assert checks(report) == {"alone"}
    assert {finding.strategy for finding in report.findings} == {"leaks"}


def test_a_log_on_which_nothing_could_differ_shows_nothing(bar_log: Path) -> None:
    idle = ["analyze", "lookahead", str(bar_log), "--limit", "6", "--cuts", "1"]
    with pytest.raises(CheckFailedError, match="nothing is shown: no strategy proposed anything"):
        CliRunner().invoke(make_app(), idle, catch_exceptions=False)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_indicators_are_named_in_full_in_a_narrow_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    words = ["analyze", "warmup", "--samples", "400", "--indicator", "ema(length=50)"]
    told = CliRunner().invoke(make_app(), words, catch_exceptions=False).stdout
    assert "ema(length=50)" in told
    assert "used by" not in told


def test_a_strategy_without_proposals_is_told(bar_log: Path, tmp_path: Path) -> None:
    report = analyze_lookahead(
        [bar_log], python_strategy(tmp_path, CLEAN.replace("bar.close > fast", "False"))
    )
    assert report.ok
    assert report.notes == ["strategy user proposed nothing on this log: nothing is shown of it"]


def test_without_strategies_there_is_nothing_to_look_at(bar_log: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to look at"):
        analyze_lookahead([bar_log], config())


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "empty.hql", market_instruments(), epoch=5):
        pass
    with pytest.raises(InputFileError, match="holds no tick and no bar"):
        analyze_lookahead([tmp_path / "empty.hql"], Config.model_validate(RULES))
