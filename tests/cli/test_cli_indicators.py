import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from indicator_series import walk

from strategies.batch import run_indicators
from strategies.registry import load_registry
from strategies.spec import Use


def heqis(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from engine.cli import main; sys.argv[0] = 'heqis'; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    path = tmp_path / "bars.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        fields = ["open", "high", "low", "close", "volume"]
        writer.writerow(["time", *fields])
        for index, bar in enumerate(walk(60, 4)):
            writer.writerow([1_700_000_000 + 60 * index, *(float(bar[f]) for f in fields)])
    return path


def test_the_output_is_the_batchs_in_full_precision(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = heqis(
        "indicators", "--bars", bars, "--indicator", "rsi( length=14 )", "--indicator", "macd",
        "-o", out,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["time", "rsi(length=14)", "macd", "macd.signal", "macd.histogram"]
    assert [row["time"] for row in rows[:2]] == ["1700000000", "1700000060"]
    uses = [Use("rsi", {"length": 14}), Use("macd")]
    for name, values in run_indicators(walk(60, 4), uses, load_registry()).items():
        read = [float(row[name] or "nan") for row in rows]
        np.testing.assert_array_equal(read, values)


def test_without_an_output_file_the_columns_go_to_stdout(bars: Path) -> None:
    done = heqis("indicators", "--bars", bars, "--indicator", "sma(length=2)")
    assert done.stdout.splitlines()[:2] == ["time,sma(length=2)", "1700000000,"]


def test_json_says_what_was_computed(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = heqis("indicators", "--bars", bars, "--indicator", "atr", "-o", out, "--json")
    assert json.loads(done.stdout) == {
        "bars": 60, "output": str(out), "first_ready_row": {"atr": 14},
    }  # fmt: skip


def test_the_list_documents_every_indicator() -> None:
    people = heqis("indicators", "--list").stdout
    machine = json.loads(heqis("indicators", "--list", "--json").stdout)["indicators"]
    assert [one["name"] for one in machine] == sorted(load_registry().indicators)
    assert all(one["name"] in people for one in machine)
    (rsi,) = (one for one in machine if one["name"] == "rsi")
    assert rsi["params"]["length"] == {
        "default": 14, "low": 2, "high": 100_000, "doc": "samples of Wilder's smoothing",
    }  # fmt: skip
    assert rsi["warm_up"] == 15


def test_an_indicator_of_ones_own_is_computed(bars: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "twice.py"
    plugin.write_text(
        "from numba import njit\n"
        "from strategies.spec import IndicatorSpec\n"
        "@njit(error_model='numpy', forceinline=True)\n"
        "def update_nb(s, p, ring, base, x):\n"
        "    s['value'] = 2.0 * x['close']\n"
        "    s['ready'] = 1\n"
        "SPEC = IndicatorSpec(name='twice', title='', params={}, outputs=('value',),\n"
        "    update=update_nb, warm_up=lambda p: 1, formula='', reference='')\n"
    )
    done = heqis("indicators", "--bars", bars, "--plugin", plugin, "--indicator", "twice")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[1].split(",")[1]) == 2 * walk(60, 4)["close"][0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--indicator", "rsi(lenght=3)"], "did you mean 'length'"),
        (["--indicator", "vpin"], "vpin needs the columns buy_volume, sell_volume"),
        (["--indicator", "rsi", "--timezone", "Mars/Base"], "--timezone"),
        (["--indicator", "rsi", "--json"], "--json needs -o"),
        ([], "at least one --indicator"),
    ],
)
def test_a_users_mistake_is_told_and_exits_2(bars: Path, arguments: list[str], told: str) -> None:
    done = heqis("indicators", "--bars", bars, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_cell_is_told_with_its_place(bars: Path) -> None:
    lines = bars.read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + ","
    bars.write_text("\n".join(lines) + "\n")
    done = heqis("indicators", "--bars", bars, "--indicator", "rsi")
    assert done.returncode == 2
    assert f"{bars}: line 4, column volume: found ''" in done.stderr
