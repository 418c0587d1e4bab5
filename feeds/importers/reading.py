"""Reads input files as blocks of whole lines: plain, gzip or zip, told apart by their first bytes.

Every way in which a file can be missing or damaged becomes an InputFileError that names it. Memory
is bounded by one block, whatever the size of the file.
"""

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol

from engine.core.errors import InputFileError

BLOCK_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 24
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_PARQUET: Final = b"PAR1"

ByteMeter = Callable[[int], None]
"""Told how many more bytes of input, as they lie on disk, have been read."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Block(NamedTuple):
    """Whole lines of one file.

    Args:
        member: The member's name in a zip, "" otherwise.
        text: The lines; only the last block of a member may lack its final newline.
        first_row: Number of the first line in its member, from 1.
    """

    member: str
    text: bytes
    first_row: int


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading a file into an InputFileError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputFileError(path, "no such file") from None
    except IsADirectoryError:
        raise InputFileError(path, "is a directory; name its files") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputFileError(path, f"damaged or cut-off gzip or zip data: {error}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputFileError(path, f"damaged or unsupported zip: {error}") from None
    except OSError as error:
        raise InputFileError(path, f"cannot be read: {error.strerror or error}") from None


def is_parquet(path: Path) -> bool:
    """Tell whether a file begins as Parquet does.

    Raises:
        InputFileError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return file.read(4) == _PARQUET


def member_names(path: Path) -> list[str]:
    """Return the names of a zip's members, sorted; one empty name for any other file.

    Raises:
        InputFileError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        if file.read(4) != _ZIP:
            return [""]
        with zipfile.ZipFile(file) as archive:
            return sorted(info.filename for info in archive.infolist() if not info.is_dir())


def read_blocks(
    path: Path, meter: ByteMeter, *, member: str = "", block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Yield a file's lines in blocks; a zip's member by member in name order, or of one member.

    Raises:
        InputFileError: missing, unreadable, damaged, Parquet, or a line above MAX_LINE_BYTES.
    """
    with reading(path), path.open("rb") as file:
        told = -1
        for block in _file_blocks(path, file, member, block_bytes):
            position = file.tell()
            if told >= 0 or not member:
                meter(max(position - max(told, 0), 0))
            told = position
            yield block


def _file_blocks(path: Path, file: BinaryIO, member: str, block_bytes: int) -> Iterator[Block]:
    magic = file.read(4)
    file.seek(0)
    if magic == _PARQUET:
        raise InputFileError(path, "is a Parquet file; this kind reads text")
    if magic[:2] == _GZIP:
        with gzip.GzipFile(fileobj=file) as text:
            yield from _line_blocks(path, "", text, block_bytes)
    elif magic == _ZIP:
        names = [member] if member else member_names(path)
        with zipfile.ZipFile(file) as archive:
            for name in names:
                with archive.open(name) as text:
                    yield from _line_blocks(path, name, text, block_bytes)
    else:
        yield from _line_blocks(path, "", file, block_bytes)


def _line_blocks(path: Path, member: str, text: _Readable, block_bytes: int) -> Iterator[Block]:
    rest, row = b"", 1
    while chunk := text.read(block_bytes):
        chunk = rest + chunk
        cut = chunk.rfind(b"\n") + 1
        whole, rest = chunk[:cut], chunk[cut:]
        if len(rest) > MAX_LINE_BYTES:
            raise InputFileError(path, f"row {row} is longer than {MAX_LINE_BYTES:,} bytes")
        if whole:
            yield Block(member, whole, row)
            row += whole.count(b"\n")
    if rest:
        yield Block(member, rest, row)
