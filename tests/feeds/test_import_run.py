from pathlib import Path

import pytest
from importing import run_import, write_zip

from engine.core.errors import InputFileError
from feeds.importers.options import ImportOptions
from feeds.importers.report import EXAMPLES_PER_REASON, ImportReport, iso_utc
from feeds.importers.run import ImportKind, import_files

GOOD = "time,price,size\n1600000000,1,1\n1600000001,2,1\n"
OPTIONS = {"symbol": "A.X", "time_format": "s"}


def source(tmp_path: Path, text: str = GOOD, name: str = "x.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    path = source(tmp_path)
    logs = [tmp_path / "a.hql", tmp_path / "b.hql"]
    for log in logs:
        run_import("csv", [path], log, **OPTIONS)
    assert logs[0].read_bytes() == logs[1].read_bytes()


def test_the_epoch_is_the_receive_time_of_the_first_record(tmp_path: Path) -> None:
    from feeds.codec import decode_frame

    run_import("csv", [source(tmp_path)], tmp_path / "a.hql", **OPTIONS)
    assert decode_frame((tmp_path / "a.hql").read_bytes()).epoch == 1_600_000_000 * 10**9


def test_a_failed_import_leaves_nothing_behind(tmp_path: Path) -> None:
    good = source(tmp_path)
    cut = write_zip(tmp_path / "cut.zip", a=GOOD * 2000)
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(InputFileError, match=r"cut\.zip"):
        run_import("csv", [good, cut], tmp_path / "a.hql", **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.zip", "x.csv"]


def test_a_file_damaged_after_its_first_rows_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    import gzip

    path.write_bytes(gzip.compress((GOOD + "1600000002,3,1\n" * 300_000).encode())[:-300])
    with pytest.raises(InputFileError, match="damaged or cut-off"):
        run_import("csv", [path], tmp_path / "a.hql", **OPTIONS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.gz"]


def test_an_existing_output_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.hql").write_bytes(b"precious")
    with pytest.raises(InputFileError, match="exists already"):
        run_import("csv", [source(tmp_path)], tmp_path / "a.hql", **OPTIONS)
    assert (tmp_path / "a.hql").read_bytes() == b"precious"


def test_an_output_in_no_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such directory"):
        run_import("csv", [source(tmp_path)], tmp_path / "no" / "a.hql", **OPTIONS)


def test_a_file_of_another_kind_is_told_with_the_first_refusal(tmp_path: Path) -> None:
    zipped = write_zip(tmp_path / "aig_20131007_trade.zip", a="1,1.3,1.4\n2,1.3,1.4\n")
    with pytest.raises(InputFileError) as caught:
        run_import("us-equity-tick", [zipped], tmp_path / "a.hql")
    assert "none of its 2 rows can be used as us-equity-tick" in str(caught.value)
    assert "wrong_field_count, row 1" in str(caught.value)


def test_every_file_must_give_something(tmp_path: Path) -> None:
    empty = source(tmp_path, "", "empty.csv")
    header = source(tmp_path, "time,price\n", "header.csv")
    for useless in (empty, header):
        with pytest.raises(InputFileError, match="has no rows"):
            run_import("csv", [source(tmp_path), useless], tmp_path / "a.hql", **OPTIONS)
    assert not (tmp_path / "a.hql").exists()


def test_the_meter_is_told_of_the_input_and_the_report_of_the_time(tmp_path: Path) -> None:
    heard: list[int] = []
    options = ImportOptions(symbol="A.X", time_format="s")
    path = source(tmp_path)
    report = import_files(ImportKind.CSV, (path,), tmp_path / "a.hql", options, heard.append)
    assert sum(heard) == path.stat().st_size
    assert report.wall_s > 0


def test_examples_are_few_but_every_refusal_is_counted() -> None:
    report = ImportReport("csv", (Path("x"),), Path("y"))
    place = report.place(Path("x"), "m.csv")
    report.refuse("bad", place, range(1, 100))
    report.refuse("bad", place, ())
    assert report.refused["bad"] == 99
    assert report.examples["bad"] == [f"x:m.csv: row {i + 1}" for i in range(EXAMPLES_PER_REASON)]


def test_times_are_shown_to_the_nanosecond() -> None:
    assert iso_utc(1_723_161_255_088_169_167) == "2024-08-08T23:54:15.088169167Z"
    assert iso_utc(None) is None
