"""``heqis export``, ``heqis features`` and ``heqis analyze`` as one types them."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pipeline_cases import market_instruments, market_ticks

from feeds.log_writer import LogWriter

pytestmark = pytest.mark.slow

CONFIG = """
plugins = ["mine.py"]

[[bars]]
name = "1s"
interval = "1s"

[[strategies]]
name = "fast"
rule = "macd_cross"
on = "1s"
params = { fast = 3, slow = 6 }

[[strategies]]
name = "mine"
strategy = "mine"
on = "1s"
"""
HONEST = """
from strategies.python_strategy import Strategy

class Mine(Strategy):
    name = "mine"

    def on_bar(self, bar):
        if bar.close > bar.open:
            self.buy(bar.instrument, 0.5, 0.5)
"""
DISHONEST = """
from strategies.python_strategy import Strategy

class Mine(Strategy):
    name = "mine"

    def on_start(self):
        open("market.hql", "rb").close()

    def on_bar(self, bar):
        if bar.close > bar.open:
            self.buy(bar.instrument, 0.5, 0.5)
"""


def heqis(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from engine.cli import main; sys.argv[0] = 'heqis'; main()"
    command = [sys.executable, "-c", code, *arguments]
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=directory,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with LogWriter(tmp_path / "market.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(3_000))
    (tmp_path / "mine.toml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(textwrap.dedent(HONEST))
    return tmp_path


def test_ticks_bars_and_features_are_written(place: Path) -> None:
    done = heqis(place, "export", "ticks", "market.hql", "-o", "t.parquet", "--json")
    assert json.loads(done.stdout) == {"output": "t.parquet", "rows": 3_000, "bad_input": {}}
    assert pq.read_metadata(place / "t.parquet").num_rows == 3_000
    done = heqis(
        place, "export", "bars", "market.hql", "-c", "mine.toml", "--bar", "1s", "--indicator",
        "sma(length=2)", "-o", "b.npy",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (np.load(place / "b.npy")["sma(length=2)"] > 0).sum() > 50
    done = heqis(
        place, "features", "market.hql", "-c", "mine.toml", "--feature", "rsi(length=3)",
        "--feature", "m=macd(fast=2,slow=4,signal=2).histogram", "--on", "1s", "--horizon", "3s",
        "--usable", "-o", "f.npz", "--json",
    )  # fmt: skip
    told = json.loads(done.stdout)
    with np.load(place / "f.npz") as read:
        assert told["rows"] == len(read["m"]) == len(read["move_bps"]) > 20
    assert told["horizon_ns"] == 3 * 10**9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("export", "ticks", "market.hql", "-o", "t.csv"), "its ending says the format"),
        (("export", "ticks", "none.hql", "-o", "t.npy"), "none.hql"),
        (("export", "bars", "market.hql", "-o", "t.npy"), "it holds no bars; nothing was written"),
        (("export", "bars", "market.hql", "--bar", "7s", "-o", "t.npy"), "bars are: 1m, 5s"),
        (
            ("export", "ticks", "market.hql", "market.hql", "-o", "t.npy"),
            "market.hql: it holds S0.X over the same time as market.hql: give one of them",
        ),
        (("export", "depth", "market.hql", "-o", "t.npy"), "it holds no depth"),
        (("features", "market.hql", "-o", "t.npy"), "give --model NAME, or --feature"),
        (("features", "market.hql", "--feature", "rsi", "-o", "t.npy"), "give the clock"),
        (
            ("features", "market.hql", "--feature", "rsi", "--on", "5s", "--horizon", "soon",
             "-o", "t.npy"), "found 'soon'",
        ),
        (("analyze", "lookahead", "none.hql"), "none.hql"),
        (("analyze", "lookahead", "mine.toml"), "is not a tick log"),
        (("export", "ticks", "mine.toml", "-o", "t.npz"), "is not a tick log"),
        (("analyze", "warmup", "--indicator", "rso"), "did you mean 'rsi'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_and_leaves_nothing(
    place: Path, arguments: tuple[str, ...], told: str
) -> None:
    before = sorted(path.name for path in place.iterdir())
    done = heqis(place, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in place.iterdir()) == before


def test_analyze_lookahead_passes_the_honest_and_exits_1_on_the_other(place: Path) -> None:
    honest = heqis(place, "analyze", "lookahead", "market.hql", "-c", "mine.toml", "--cuts", "4")
    assert (honest.returncode, honest.stderr) == (0, "")
    assert "nothing knows the future" in honest.stdout
    (place / "mine.py").write_text(textwrap.dedent(DISHONEST))
    other = heqis(
        place, "analyze", "lookahead", "market.hql", "-c", "mine.toml", "--cuts", "4", "--json"
    )
    assert other.returncode == 1
    assert "heqis: 1 finding" in other.stderr
    (finding,) = json.loads(other.stdout)["findings"]
    assert finding["check"] == "reads_log"
    assert "market.hql" in finding["problem"]


def test_analyze_warmup_tells_what_each_indicator_needs(place: Path) -> None:
    done = heqis(place, "analyze", "warmup", "--indicator", "ema(length=50)", "--json")
    (one,) = json.loads(done.stdout)["indicators"]
    assert (one["indicator"], one["declared"], one["ready"]) == ("ema(length=50)", 50, 50)
    assert one["needed"] > 100
    table = heqis(place, "analyze", "warmup", "market.hql", "-c", "mine.toml")
    assert table.returncode == 0
    assert "strategy fast:" in table.stdout
