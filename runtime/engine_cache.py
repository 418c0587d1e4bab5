"""Keeps what devices compile: built in minutes, loaded in milliseconds.

An engine fits exactly one library, chip, system release, device, form and set of batch sizes, and
nothing says so inside it; so all of that is its key. A file is written beside its place and renamed
into it, carries its own hash, and is thrown away and built again if it does not match.
"""

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Final

import msgspec

MAX_BYTES: Final = 4 << 30
SUFFIX: Final = ".engine"
_MAGIC: Final = b"HEQIS-ENGINE 1\n"
_MAX_HEADER: Final = 16 << 10
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.]+")


class EngineKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an engine depends on."""

    library: str
    """tensorrt or tensorrt_rtx."""
    version: str
    """The library's, all of it."""
    sm: int
    """Compute capability times ten."""
    jetpack: str
    """The board's system release (L4T), "" elsewhere."""
    chip: str
    """The device's name as its driver says it."""
    device: str
    """gpu, dla:0, …"""
    form: str
    """SHA-256 of the model file it was built from, and of the calibration set if one was used."""
    precision: str
    buckets: tuple[int, ...]
    window: int
    features: int

    @property
    def file_name(self) -> str:
        """A name a person can read, made unique by a hash over the whole key."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]
        batches = "-".join(str(bucket) for bucket in self.buckets)
        words = (self.library, self.version, f"sm{self.sm}", self.device, self.precision, batches)
        stem = "_".join(_UNSAFE.sub("-", word) for word in words)
        return f"{stem[:120]}_{digest}{SUFFIX}"


class CacheCounts(msgspec.Struct):
    """What the cache did since it was opened."""

    hits: int = 0
    misses: int = 0
    corrupt: int = 0
    written: int = 0
    evicted: int = 0


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: EngineKey
    size_bytes: int
    sha256: str


class EngineCache:
    """Engines in one directory, never more than ``max_bytes`` of them.

    Several processes may share the directory: files appear whole or not at all.
    """

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.counts = CacheCounts()

    def path(self, key: EngineKey) -> Path:
        """Return where an engine of this key is, or would be."""
        return self.directory / key.file_name

    def read(self, key: EngineKey) -> bytes | None:
        """Return the engine; None if there is none, or its file was damaged and is now gone."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            self.counts.misses += 1
            return None
        engine = unpack(content, key)
        if engine is None:
            self.discard(key)
            return None
        os.utime(path)
        self.counts.hits += 1
        return engine

    def discard(self, key: EngineKey) -> None:
        """Remove an engine that its library would not take, or whose file is damaged."""
        self.path(key).unlink(missing_ok=True)
        self.counts.corrupt += 1

    def write(self, key: EngineKey, engine: bytes) -> Path:
        """Keep an engine, and remove the least recently used beyond the bound.

        Returns:
            Its file.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.path(key)
        handle, temporary = tempfile.mkstemp(prefix=".new-", dir=self.directory)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(pack(key, engine))
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        self.counts.written += 1
        self._evict(keep=path)
        return path

    def _evict(self, keep: Path) -> None:
        kept = [(path.stat(), path) for path in self.directory.glob(f"*{SUFFIX}")]
        total = sum(stat.st_size for stat, _path in kept)
        for stat, path in sorted(kept, key=lambda item: item[0].st_mtime_ns):
            if total <= self.max_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                self.counts.evicted += 1
                total -= stat.st_size


def pack(key: EngineKey, engine: bytes) -> bytes:
    """Lay an engine out as its file: magic, one line of JSON, the engine."""
    header = _Header(key, len(engine), hashlib.sha256(engine).hexdigest())
    return _MAGIC + msgspec.json.encode(header) + b"\n" + engine


def unpack(content: bytes, key: EngineKey | None = None) -> bytes | None:
    """Return a file's engine, None if the file is damaged or of another key than ``key``."""
    found = read_packed(content)
    if found is None or key not in {None, found[0]}:
        return None
    return found[1]


def read_packed(content: bytes) -> tuple[EngineKey, bytes] | None:
    """Return a file's key and engine, None if it is no such file or damaged."""
    end = content.find(b"\n", len(_MAGIC), len(_MAGIC) + _MAX_HEADER)
    if not content.startswith(_MAGIC) or end < 0:
        return None
    try:
        header = msgspec.json.decode(content[len(_MAGIC) : end], type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    engine = content[end + 1 :]
    found = (len(engine), hashlib.sha256(engine).hexdigest())
    whole = found == (header.size_bytes, header.sha256)
    return (header.key, engine) if whole else None


def is_packed(content: bytes) -> bool:
    """Return whether a file begins as one of ours, damaged or not."""
    return content.startswith(_MAGIC)
