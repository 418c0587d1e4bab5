"""Data that several processes look at and none copies: one file, mapped by all of them."""

import mmap
import os
import pickle
import struct
import tempfile
from pathlib import Path
from typing import IO, Any, Final

_HEAD: Final = struct.Struct("<Q")
_ALIGN: Final = 64


class Parcel:
    """An object's arrays, laid into a temporary file; belongs to whoever made it.

    Args:
        content: Anything that can be pickled; its arrays' bytes stand beside the pickle.

    Raises:
        OSError: there is no room for the file.
    """

    def __init__(self, content: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        frame = pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
        sizes = [buffer.raw().nbytes for buffer in buffers]
        table = pickle.dumps((frame, sizes))
        self._file, self.path = _new_file()
        self._file.write(_HEAD.pack(len(table)) + table)
        for buffer in buffers:
            self._file.seek(_aligned(self._file.tell()))
            self._file.write(buffer.raw())
        self._file.truncate(_aligned(self._file.tell()))
        self._file.flush()

    def close(self) -> None:
        """Give the file back; who has opened it goes on looking at it."""
        self._file.close()


def _new_file() -> tuple[IO[bytes], Path]:
    """Return an empty file and where other processes of this user find it.

    Where processes can be looked into, it has no name of its own, so that it is gone with whoever
    made it, however that ends.
    """
    descriptors = Path(f"/proc/{os.getpid()}/fd")
    if descriptors.exists():
        nameless = tempfile.TemporaryFile()  # noqa: SIM115 - held open
        return nameless, descriptors / str(nameless.fileno())
    named = tempfile.NamedTemporaryFile(prefix="heqis-sweep-")  # noqa: SIM115 - held open
    return named, Path(named.name)


def open_parcel(path: Path) -> Any:
    """Return a parcel's content; its arrays are views of the file that nobody can write to."""
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    (length,) = _HEAD.unpack_from(mapped)
    at = _HEAD.size + length
    frame, sizes = pickle.loads(mapped[_HEAD.size : at])
    views = []
    for size in sizes:
        at = _aligned(at)
        views.append(mapped[at : at + size])
        at += size
    return pickle.loads(frame, buffers=views)


def _aligned(at: int) -> int:
    return -(-at // _ALIGN) * _ALIGN
