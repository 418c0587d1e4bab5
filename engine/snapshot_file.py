"""Snapshots on disk: numbered files, each whole or absent, the newest few kept."""

import hashlib
import os
import struct
import threading
from pathlib import Path
from typing import Final

import msgspec

from engine.core.errors import SnapshotError
from engine.snapshot import FORMAT, RecordingPlace, Snapshot, decode_snapshot, encode_snapshot
from feeds.private_files import replace_private

KEPT: Final = 2
SUFFIX: Final = ".snapshot"
_MAGIC: Final = b"HEQISSNP"
_HEADER: Final = struct.Struct("<8sIIQ32s")
"""Magic, format, bytes of the label, bytes of the body, and SHA-256 of both."""
_OTHERS_WRITE: Final = 0o022


class Label(msgspec.Struct, frozen=True):
    """What a snapshot is of; read without its body.

    Attributes:
        taken_ns: Wall clock.
        kernel_key: Of the compiled kernel.
        identity: Of the configuration.
        recording: Where a restart goes on in the recording, None if there was none; unset in files
            of a program that did not write it.
    """

    taken_ns: int
    kernel_key: str
    identity: str
    recording: RecordingPlace | msgspec.UnsetType | None = msgspec.UNSET


class SnapshotFiles:
    """The snapshots of one engine.

    A file is written beside, confirmed by the disk, and renamed. Its owner alone may write it: it
    holds pickled strategies, which are programs. Any thread may write, one at a time.

    Args:
        directory: Where they are; made when the first is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writing = threading.Lock()

    def write(self, snapshot: Snapshot) -> int:
        """Write one and remove the oldest beyond KEPT; return its bytes.

        Raises:
            SnapshotError: the disk refuses.
        """
        with self._writing:
            return self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> int:
        body = encode_snapshot(snapshot)
        label = msgspec.json.encode(
            Label(snapshot.taken_ns, snapshot.kernel_key, snapshot.identity, snapshot.recording)
        )
        digest = hashlib.sha256(label + body).digest()
        header = _HEADER.pack(_MAGIC, FORMAT, len(label), len(body), digest)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = max((_number(path) for path in self.paths()), default=0) + 1
            path = self.directory / f"{number:08d}{SUFFIX}"
            replace_private(path, header + label + body, path.with_suffix(".draft"))
            for older in self.paths()[KEPT:]:
                older.unlink(missing_ok=True)
        except OSError as error:
            problem = f"{self.directory}: cannot be written: {error.strerror}"
            raise SnapshotError(problem) from error
        return len(header) + len(label) + len(body)

    def paths(self) -> list[Path]:
        """Return the files, newest first.

        Raises:
            SnapshotError: the directory cannot be read.
        """
        try:
            found = [path for path in self.directory.iterdir() if path.suffix == SUFFIX]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SnapshotError(f"{self.directory}: cannot be read: {error.strerror}") from error
        return sorted((p for p in found if p.stem.isdigit()), key=_number, reverse=True)


def read_snapshot(path: Path) -> Snapshot:
    """Read one file.

    Raises:
        SnapshotError: it is damaged, of another version, or others may have written it.
    """
    try:
        facts = path.stat()
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"it cannot be read: {error.strerror}") from error
    if facts.st_uid != os.geteuid() or facts.st_mode & _OTHERS_WRITE:
        raise SnapshotError("others than its owner may have written it")
    if len(data) < _HEADER.size or data[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError("it is none")
    _, version, label_bytes, body_bytes, digest = _HEADER.unpack_from(data)
    if version != FORMAT:
        raise SnapshotError(f"it is of version {version}, this engine reads {FORMAT}")
    told = memoryview(data)[_HEADER.size :]
    if len(told) != label_bytes + body_bytes or hashlib.sha256(told).digest() != digest:
        raise SnapshotError("it is damaged")
    return decode_snapshot(told[label_bytes:])


def read_label(path: Path) -> Label:
    """Read what a file is of, and nothing more of it; its checksum is not looked at.

    Raises:
        SnapshotError: it cannot be read, or is no snapshot of this version.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise SnapshotError(f"{path}: it is none")
            magic, version, label_bytes, _, _ = _HEADER.unpack(header)
            if magic != _MAGIC or version != FORMAT:
                raise SnapshotError(f"{path}: it is none of version {FORMAT}")
            return msgspec.json.decode(file.read(label_bytes), type=Label)
    except (OSError, msgspec.DecodeError) as error:
        raise SnapshotError(f"{path}: it cannot be read: {error}") from error


def _number(path: Path) -> int:
    return int(path.stem)
