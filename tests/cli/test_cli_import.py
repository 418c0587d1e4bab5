import json
import subprocess
import sys
from pathlib import Path

import pytest
from datafiles import data_file

GOOD = "time,price,size\n1600000000,1,1\n1600000001,0,1\n1600000002,2,1\n"


def heqis(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from engine.cli import main; sys.argv[0] = 'heqis'; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "x.csv"
    path.write_text(GOOD)
    return path


def test_json_is_one_object_on_stdout_and_nothing_on_stderr(table: Path, tmp_path: Path) -> None:
    log = tmp_path / "x.hql"
    done = heqis(
        "import", "csv", table, "--symbol", "A.X", "--time-format", "s", "-o", log, "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["rows"] == report["ticks"] + report["bars"] + report["raw"] + 1
    assert report["refused"] == {"zero_price": 1}
    assert report["examples"] == {"zero_price": ["x.csv: row 3"]}
    assert report["instruments"] == ["A.X"]
    assert report["first"] == "2020-09-13T12:26:40.000000000Z"
    assert report["output"] == str(log)
    assert set(report) >= {"kind", "files", "flags", "notes", "first_ns", "last_ns", "wall_s"}
    assert log.exists()


def test_the_table_names_refused_rows(table: Path, tmp_path: Path) -> None:
    log = tmp_path / "x.hql"
    done = heqis("import", "csv", table, "--symbol", "A.X", "--time-format", "s", "-o", log)
    assert done.returncode == 0
    assert "zero_price" in done.stdout
    assert "x.csv: row 3" in done.stdout


def test_what_the_user_can_mend_is_told_without_a_traceback(table: Path, tmp_path: Path) -> None:
    log = tmp_path / "x.hql"
    cases = [
        (("import", "pcap", table, "-o", log), "it is one of binance-raw"),
        (("import", "csv", table, "-o", log, "--depth", "7"), "it is one of 0, 5, 10"),
        (("import", "csv", tmp_path / "no.csv", "--symbol", "A.X", "-o", log), "no such file"),
        (("import", "csv", table, "-o", log, "--as", "books"), "it is one of trades"),
        (("import", "csv", table, "-o", log, "--bar-length", "long"), "is not a duration"),
        (("import", "csv", table, "-o", log, "--time-format", "s"), "SYMBOL.VENUE"),
    ]
    for arguments, told in cases:
        done = heqis(*arguments)
        assert done.returncode == 2, arguments
        assert told in done.stderr
        assert "Traceback" not in done.stderr
        assert not log.exists()


def test_help_has_an_example() -> None:
    done = heqis("import", "--help")
    assert done.returncode == 0
    assert "heqis import us-equity-tick" in done.stdout


@pytest.mark.data
def test_a_recorded_file_imports_from_the_command_line(tmp_path: Path) -> None:
    path = data_file("cn_future_tick/CFFEX.IF.HOT_tick_20210104.decoded.csv.gz")
    done = heqis("import", "cffex-tick", path, "-o", tmp_path / "if.hql", "--json")
    assert json.loads(done.stdout)["ticks"] == 27_955


@pytest.mark.data
def test_books_are_told_on_the_command_line(tmp_path: Path) -> None:
    path = data_file("binance_raw_ws/usdm_btcusdt_20230404.dat.gz")
    log = tmp_path / "btc.hql"
    told = json.loads(
        heqis("import", "binance-raw", path, "--depth", "10", "-o", log, "--json").stdout
    )
    assert told["rows"] == told["ticks"] + told["bars"] + told["raw"]
    assert told["depth"] == 2444
    assert told["books"] == {"applied": 4322, "compared": 310, "diffs": 4322, "snapshots": 1}
    assert json.loads(heqis("log", "info", log, "--json").stdout)["records"]["DEPTH10"] == 2444


@pytest.mark.data
def test_a_dbn_file_imports_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("databento_dbn", reason="databento-dbn is not installed")
    path = data_file("dbn_conformance/test_data.mbp-10.v3.dbn.zst")
    done = heqis("import", "dbn", path, "-o", tmp_path / "es.hql")
    assert done.returncode == 0, done.stderr
    assert "depth records" in done.stdout
    assert "ESH1.GLBX" in done.stdout
