"""Reads delimited text with named columns in blocks of whole columns; counts lines that are none.

Lines are told apart by their newlines alone: a line break inside quotes is not supported.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from feeds.importers.reading import Block, ByteMeter, read_blocks
from feeds.importers.report import ImportReport

_MAX_EXACT: Final = 2.0**53


class ColumnBlock(NamedTuple):
    """Some rows of a table, by column.

    Args:
        cells: The text of the wanted columns that the table has, each of length N.
        rows: Line numbers, from 1, shape (N,); the header is line 1.
        place: The report's number of the file or member.
        member: The member's name in a zip, "" otherwise.
    """

    cells: dict[str, list[str]]
    rows: npt.NDArray[np.int64]
    place: int
    member: str

    def only(self, good: npt.NDArray[np.bool_]) -> "ColumnBlock":
        """Return the rows where ``good``, shape (N,), is true."""
        if good.all():
            return self
        chosen = np.flatnonzero(good).tolist()
        cells = {name: [column[i] for i in chosen] for name, column in self.cells.items()}
        return self._replace(cells=cells, rows=self.rows[good])


class Layout(NamedTuple):
    """Where the wanted columns stand.

    Args:
        at: Position of each wanted column.
        width: Fields of a row.
    """

    at: dict[str, int]
    width: int


def read_columns(
    path: Path,
    required: Sequence[str],
    optional: Sequence[str],
    report: ImportReport,
    meter: ByteMeter,
    *,
    header: bool = True,
    member: str = "",
) -> Iterator[ColumnBlock]:
    """Yield a table's wanted columns block by block; blank and ragged lines are refused.

    Args:
        path: The file; every member of a zip is a table of its own.
        required: Columns it must have; without a header they are named 1, 2, 3 and so on.
        optional: Columns it may have.
        report: Counts the lines.
        meter: Told how far the file has been read.
        header: Whether the first line names the columns; it is not a row.
        member: Read only this member of a zip.

    Raises:
        InputFileError: a required column is missing, or the file is damaged.
    """
    place, layout = -1, Layout({}, 0)
    for block in read_blocks(path, meter, member=member):
        lines = _text_lines(block)
        first_row = block.first_row
        if first_row == 1:
            place = report.place(path, block.member)
            layout = _layout(path, _fields(lines[0]) or [], header, required, optional)
            if header:
                lines, first_row = lines[1:], 2
        report.read(place, len(lines))
        yield _column_block(lines, first_row, place, block.member, layout, report)


def floats(cells: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Parse a column of numbers; an empty cell is NaN.

    Returns:
        The numbers and where a cell is none, each of shape (N,).
    """
    try:
        return np.array(cells, np.str_).astype(np.float64), np.zeros(len(cells), np.bool_)
    except ValueError:
        pass
    values = np.full(len(cells), np.nan)
    bad = np.zeros(len(cells), np.bool_)
    for i, cell in enumerate(cells):
        if cell.strip():
            try:
                values[i] = float(cell)
            except ValueError:
                bad[i] = True
    return values, bad


def whole_numbers(cells: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Parse a column of whole numbers below 2**53; an empty cell is none.

    Returns:
        The numbers (0 where there is none) and where a cell is none, each of shape (N,).
    """
    values, bad = floats(cells)
    bad = bad | ~np.isfinite(values) | (np.abs(values) >= _MAX_EXACT) | (values % 1 != 0)
    return np.where(bad, 0, values).astype(np.int64), bad


def require_columns(path: Path, required: Sequence[str], found: Sequence[str]) -> None:
    """Check that a table has the columns it must have.

    Raises:
        InputFileError: names those missing and those found.
    """
    missing = [name for name in required if name not in found]
    if missing:
        have = ", ".join(found[:40]) or "none"
        problem = f"has no column {', '.join(map(repr, missing))}; its columns are: {have}"
        raise InputFileError(path, problem)


def _text_lines(block: Block) -> list[str]:
    encoding = "utf-8-sig" if block.first_row == 1 else "utf-8"
    lines = block.text.decode(encoding, "replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return lines


def _fields(line: str) -> list[str] | None:
    line = line.removesuffix("\r")
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line]), None)
    except csv.Error:
        return None


def _layout(
    path: Path,
    first: Sequence[str],
    header: bool,
    required: Sequence[str],
    optional: Sequence[str],
) -> Layout:
    names = [name.strip() for name in first] if header else [str(i + 1) for i in range(len(first))]
    require_columns(path, required, names)
    wanted = [name for name in (*required, *optional) if name in names]
    return Layout({name: names.index(name) for name in wanted}, len(names))


def _column_block(
    lines: list[str], first_row: int, place: int, member: str, layout: Layout, report: ImportReport
) -> ColumnBlock:
    kept: list[list[str]] = []
    rows: list[int] = []
    refused: dict[str, list[int]] = {"blank_line": [], "wrong_field_count": []}
    for row, line in enumerate(lines, first_row):
        fields = _fields(line)
        if fields is not None and len(fields) == layout.width and line.strip():
            kept.append(fields)
            rows.append(row)
        else:
            refused["wrong_field_count" if line.strip() else "blank_line"].append(row)
    for reason, places in refused.items():
        report.refuse(reason, place, places)
    columns = list(zip(*kept, strict=True)) or [()] * layout.width
    cells = {name: list(columns[at]) for name, at in layout.at.items()}
    return ColumnBlock(cells, np.array(rows, np.int64), place, member)
