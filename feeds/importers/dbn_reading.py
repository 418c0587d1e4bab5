"""Reads Databento's DBN files through its library: records one by one, and whose each one is.

Plain or Zstandard, told apart by their first bytes, versions 1 to 3. A file that is damaged or cut
off anywhere is an InputFileError: nothing after that place could be trusted.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import databento_dbn as dbn

from engine.core.errors import InputFileError
from feeds.importers.reading import ByteMeter, reading

_CHUNK_BYTES: Final = 1 << 20
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_NS_PER_S: Final = 10**9


class Record(NamedTuple):
    """One record of a file.

    Args:
        row: Its number, from 1.
        found: The library's record.
    """

    row: int
    found: Any


class DbnFile:
    """One file, read from its beginning to its end once.

    Args:
        path: The file.
        meter: Told how far it has been read.

    Attributes:
        path: The file.
        dataset: The data set's code, "" before the first record was read.
        symbols: Who is who in it.
    """

    def __init__(self, path: Path, meter: ByteMeter) -> None:
        self.path = path
        self.dataset = ""
        self.symbols = SymbolTable()
        self._meter = meter

    def records(self) -> Iterator[Record]:
        """Yield the records in the order of the file.

        Raises:
            InputFileError: missing, damaged, cut off, or no DBN.
        """
        with reading(self.path), self.path.open("rb") as file:
            decoder, row = dbn.DBNDecoder(), 0
            for chunk in self._chunks(file):
                for found in self._decode(decoder, chunk, row):
                    if isinstance(found, dbn.Metadata):
                        self._begin(found)
                        continue
                    row += 1
                    yield Record(row, found)
            left = len(decoder.buffer())
        if left or not self.dataset:
            raise InputFileError(self.path, f"cut off: {left} bytes follow record {row:,}")

    def _begin(self, metadata: Any) -> None:
        self.dataset = metadata.dataset
        self.symbols.read_metadata(metadata)

    def _decode(self, decoder: Any, chunk: bytes, row: int) -> list[Any]:
        try:
            found: list[Any] = decoder.write_and_decode(chunk)
        except dbn.DBNError as error:
            where = f"after record {row:,}" if row else "at its beginning"
            raise InputFileError(self.path, f"is no good DBN {where}: {error}") from None
        return found

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        magic = file.read(4)
        file.seek(0)
        if magic != _ZSTD:
            while chunk := file.read(_CHUNK_BYTES):
                self._meter(len(chunk))
                yield chunk
            return
        import pyarrow as pa

        told = 0
        with pa.input_stream(file, compression="zstd") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                self._meter(max(file.tell() - told, 0))
                told = max(file.tell(), told)
                yield chunk


class SymbolTable:
    """Which symbol a numeric instrument id stands for, by date: ids are given out anew."""

    def __init__(self) -> None:
        self._intervals: dict[int, list[tuple[date, date, str]]] = {}
        self._said: dict[int, str] = {}

    def read_metadata(self, metadata: Any) -> None:
        """Learn the mappings of a file's head; those that name no number are left out."""
        to_numbers = metadata.stype_out == dbn.SType.INSTRUMENT_ID
        for name, intervals in metadata.mappings.items():
            for interval in intervals:
                number, symbol = interval["symbol"], name
                if not to_numbers:
                    number, symbol = symbol, number
                if number.isdigit():
                    span = (interval["start_date"], interval["end_date"], symbol)
                    self._intervals.setdefault(int(number), []).append(span)

    def read_message(self, message: Any) -> None:
        """Learn a mapping that a live recording holds among its records, if its text is one."""
        with contextlib.suppress(dbn.DBNError):
            self._said[message.instrument_id] = message.stype_out_symbol

    def symbol(self, number: int, ts_ns: int) -> str:
        """Return the symbol of an instrument id at a time, "" if the file does not say."""
        if number in self._said:
            return self._said[number]
        spans = self._intervals.get(number, [])
        if not spans:
            return ""
        day = datetime.fromtimestamp(ts_ns // _NS_PER_S, UTC).date()
        return next((symbol for start, end, symbol in spans if start <= day < end), "")
