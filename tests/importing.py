"""Runs importers on files made in a test and reads the log back frame by frame."""

import gzip
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.core.records import BAR, TICK, Bars, Schema, Ticks
from feeds.codec import decode_frame
from feeds.importers.options import ImportOptions
from feeds.importers.report import ImportReport
from feeds.importers.run import ImportKind, import_files


class Imported(NamedTuple):
    report: ImportReport
    ticks: Ticks
    bars: Bars
    raws: list[tuple[int, bytes]]
    schemas: list[Schema]
    definitions: list[np.void]
    depths: list[np.void]

    def symbols(self) -> list[str]:
        names = {int(row["id"]): row["symbol"].decode() for row in self.definitions}
        return [names[int(number)] for number in self.ticks["instrument"]]


def run_import(kind: str, files: Iterable[Path], output: Path, **options: Any) -> Imported:
    report = import_files(ImportKind(kind), tuple(files), output, ImportOptions(**options))
    kept = report.ticks + report.bars + report.raw + report.in_books
    assert report.rows + report.quotes_made == kept + sum(report.refused.values())
    return read_log(report, output)


def read_log(report: ImportReport, output: Path) -> Imported:
    data = output.read_bytes()
    ticks: list[Ticks] = [np.zeros(0, TICK)]
    bars: list[Bars] = [np.zeros(0, BAR)]
    raws: list[tuple[int, bytes]] = []
    schemas: list[Schema] = []
    definitions: list[np.void] = []
    depths: list[np.void] = []
    offset = 0
    while offset < len(data):
        frame = decode_frame(data, offset)
        offset += frame.length
        schemas.append(Schema(frame.schema))
        if frame.schema is Schema.TICK:
            ticks.append(frame.records.copy())
        elif frame.schema is Schema.BAR:
            bars.append(frame.records.copy())
        elif frame.schema is Schema.RAW:
            raws.append((frame.ts_send, frame.records.tobytes()))
        elif frame.schema in (Schema.DEPTH5, Schema.DEPTH10):
            depths.extend(frame.records.copy())
        elif frame.schema is Schema.INSTRUMENTS:
            definitions.extend(frame.records.copy())
    found = Imported(
        report, np.concatenate(ticks), np.concatenate(bars), raws, schemas, definitions, depths
    )
    counts = (len(found.ticks), len(found.bars), len(found.raws), len(found.depths))
    assert counts == (report.ticks, report.bars, report.raw, report.depth)
    return found


def write_zip(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.csv", text)
    return path


def write_gz(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path
