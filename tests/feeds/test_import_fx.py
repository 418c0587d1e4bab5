import csv
import io
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from datafiles import data_file
from importing import Imported, run_import, write_zip

from engine.core.errors import ConfigError, InputFileError
from engine.core.records import TickFlag
from feeds.importers.fx_quote import weekend

MIDNIGHT = int(datetime(2014, 5, 8, tzinfo=UTC).timestamp()) * 10**9
HOUR = 3600 * 10**9


def fx_file(tmp_path: Path, name: str, *rows: str) -> Path:
    return write_zip(tmp_path / name, quotes="".join(f"{row}\n" for row in rows))


def imported(tmp_path: Path, *files: Path, **options: str) -> Imported:
    return run_import("fx-quote", files, tmp_path / "out.hql", **options)


def test_each_venue_has_its_own_clock(tmp_path: Path) -> None:
    fxcm = fx_file(tmp_path, "fxcm_eurusd_20140508_quote.zip", "0,1.39147,1.39148")
    oanda = fx_file(tmp_path, "oanda_eurusd_20140508_quote.zip", "18000001,1.39101,1.39114")
    found = imported(tmp_path, oanda, fxcm)
    assert found.symbols() == ["EURUSD.FXCM", "EURUSD.OANDA"]
    assert found.ticks["ts_event"].tolist() == [
        MIDNIGHT + 5 * HOUR,
        MIDNIGHT + 5 * HOUR + 1_000_000,
    ]


def test_the_clock_can_be_said_and_must_be_for_an_unknown_venue(tmp_path: Path) -> None:
    file = fx_file(tmp_path, "dukas_eurusd_20140508_quote.zip", "0,1.39147,1.39148")
    with pytest.raises(InputFileError, match="say --timezone"):
        imported(tmp_path, file)
    with pytest.raises(ConfigError, match="name a zone"):
        imported(tmp_path, file, timezone="Nowhere")
    found = imported(tmp_path, file, timezone="Europe/Zurich")
    assert found.ticks["ts_event"].tolist() == [MIDNIGHT - 2 * HOUR]


def test_fractions_of_a_millisecond_are_exact(tmp_path: Path) -> None:
    file = fx_file(tmp_path, "oanda_xauusd_20140508_quote.zip", "42.4312,1290.33,1290.66")
    found = imported(tmp_path, file)
    assert found.ticks["ts_event"].tolist() == [MIDNIGHT + 42_431_200]
    assert found.ticks[["bid", "ask"]].tolist() == [(1290.33, 1290.66)]


def test_quotes_without_size_crossed_or_one_sided_are_kept_and_flagged(tmp_path: Path) -> None:
    rows = ("1,1.2,1.3", "2,1.3,1.2", "3,1.3,1.3", "4,0,1.3", "5,0,0", "6,x,1.3", "7,1.2")
    found = imported(tmp_path, fx_file(tmp_path, "oanda_eurusd_20140508_quote.zip", *rows))
    no_size = TickFlag.NO_SIZE
    assert found.ticks["flags"].tolist() == [
        no_size,
        no_size | TickFlag.CROSSED,
        no_size | TickFlag.LOCKED,
        no_size | TickFlag.ONE_SIDED,
    ]
    assert dict(found.report.refused) == {
        "no_side": 1,
        "not_a_number": 1,
        "wrong_field_count": 1,
    }


def test_the_weekend_runs_from_friday_to_sunday_17_in_new_york() -> None:
    edges = [
        datetime(2014, 5, 9, 20, 59, 59, tzinfo=UTC),
        datetime(2014, 5, 9, 21, tzinfo=UTC),
        datetime(2014, 5, 11, 20, 59, 59, tzinfo=UTC),
        datetime(2014, 5, 11, 21, tzinfo=UTC),
    ]
    times = np.array([int(edge.timestamp()) * 10**9 for edge in edges], np.int64)
    assert weekend(times, -4 * HOUR).tolist() == [False, True, True, False]


def test_a_trade_file_is_of_the_wrong_kind(tmp_path: Path) -> None:
    file = fx_file(tmp_path, "comex_gc_20131007_trade.zip", "1,1,1,usa,,0")
    with pytest.raises(InputFileError, match="fx-quote reads quotes"):
        imported(tmp_path, file)


@pytest.mark.data
def test_a_real_crossed_source_is_kept_whole(tmp_path: Path) -> None:
    path = data_file("fx_future_tick/fxcm_eurusd_20140508_quote.zip")
    found = imported(tmp_path, path)
    with zipfile.ZipFile(path) as archive:
        rows = list(csv.reader(io.TextIOWrapper(archive.open(archive.namelist()[0]))))
    crossed = sum(Decimal(bid) > Decimal(ask) for _, bid, ask in rows)
    assert found.report.rows == found.report.ticks == len(rows) == 167_466
    assert found.report.flags["CROSSED"] == crossed == 18_285
    assert found.ticks["bid"].tolist() == [float(bid) for _, bid, _ in rows]
    assert found.ticks["ask"].tolist() == [float(ask) for _, _, ask in rows]
    first = MIDNIGHT + 5 * HOUR
    assert found.ticks["ts_event"].tolist() == [first + int(ms) * 10**6 for ms, _, _ in rows]


@pytest.mark.data
def test_two_venues_of_one_pair_agree_minute_by_minute(tmp_path: Path) -> None:
    names = ("fxcm_eurusd_20140508_quote.zip", "oanda_eurusd_20140508_quote.zip")
    found = imported(tmp_path, *(data_file(f"fx_future_tick/{name}") for name in names))
    minutes = found.ticks["ts_event"] // (60 * 10**9)
    mid = (found.ticks["bid"] + found.ticks["ask"]) / 2
    venues = [found.ticks["instrument"] == number for number in (0, 1)]
    last = [dict(zip(minutes[one], mid[one], strict=True)) for one in venues]
    common = sorted(set(last[0]) & set(last[1]))
    first, second = (np.diff([prices[minute] for minute in common]) for prices in last)
    assert float(np.corrcoef(np.stack([first, second]))[0, 1]) > 0.95
