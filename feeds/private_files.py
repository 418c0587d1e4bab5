"""Files that only their owner may read: written whole or not at all, refused if others may."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.core.errors import ConfigError

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
_OTHERS: Final = 0o077
_MAX_BYTES: Final = 1 << 20


def read_private(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        ConfigError: it cannot be read, is too long, or is not its owner's alone.
    """
    try:
        with path.open("rb") as file:
            check_private(path, os.fstat(file.fileno()))
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, "", error.strerror, "give a file that can be read") from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(path, "", f"more than {_MAX_BYTES} bytes", "give a file of ours")
    return data


def check_private(path: Path, found: os.stat_result | None = None) -> None:
    """Refuse a file or directory that others than its owner may use, or that is another user's.

    Raises:
        ConfigError: so it is, or it is not there.
    """
    try:
        found = found or path.stat()
    except OSError as error:
        raise ConfigError(path, "", error.strerror, "make it with `heqis keys new`") from None
    mode = stat.S_IMODE(found.st_mode)
    if mode & _OTHERS:
        wanted = DIRECTORY_MODE if stat.S_ISDIR(found.st_mode) else FILE_MODE
        how = f"others may use it; run: chmod {wanted:o} {path}"
        raise ConfigError(path, "", f"mode {mode:o}", how)
    if found.st_uid not in (os.geteuid(), 0):
        expected = "it must belong to the user who runs this"
        raise ConfigError(path, "", f"owner {found.st_uid}", expected)


def make_private_directory(path: Path) -> None:
    """Make a directory, and those above it, that only its owner may use; one there is checked.

    Raises:
        ConfigError: it cannot be made, or others may use it.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(path, "", error.strerror, "give a directory that can be made") from None
    check_private(path)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, whole or not at all; it is on the disk on return.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        replace_private(path, data, draft)
    except OSError as error:
        raise ConfigError(path, "", error.strerror, "give a place that can be written") from None


def replace_private(path: Path, data: bytes, draft: Path) -> None:
    """Replace a file by a draft in the same directory, only its owner's; on the disk on return.

    Raises:
        OSError: it cannot be written; the draft is removed.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(draft, flags, FILE_MODE), "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Have the disk know the names in a directory."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
