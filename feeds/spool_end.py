"""Whether a spool's log ends where its stream ended, or more was sent than could be written.

A gateway that stops in order leaves a mark in its log's directory that says where the stream
ended. One that runs vouches for its log by a file in memory: it outlives a killed process, goes
when the machine goes, which may take the log's last pages with it, and can be taken back while the
disk refuses everything. Without mark or voucher nobody knows how much was sent after a log's end.
"""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

MARK: Final = "end"
"""Name of the mark, in the log's directory."""
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class End(NamedTuple):
    """Where a log ends."""

    seq: int
    """One past its last number."""
    whole: bool
    """Nothing was sent after it."""


class EndMarks:
    """Marks and vouchers of one gateway's logs; one owner.

    Args:
        directory: The spool's.
        memory: A directory in memory, such as /dev/shm.
        gateway: The gateway's id.
    """

    def __init__(self, directory: Path, memory: Path, gateway: int) -> None:
        self._directory = directory
        self._memory = memory
        self._gateway = gateway
        name = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:16]
        self._prefix = f"heqis-spool-{name}-{gateway}-"

    def vouch(self, epoch: int) -> bool:
        """Say that the log lacks nothing of what is sent; False if that cannot be kept."""
        try:
            os.close(os.open(self._voucher(epoch), _CREATE, 0o600))
        except OSError:
            return False
        return True

    def withdraw(self, epoch: int) -> None:
        """Take it back."""
        with suppress(FileNotFoundError):
            self._voucher(epoch).unlink()

    def settle(self, epoch: int, end_seq: int) -> None:
        """Write down for good that the stream has ended, and where.

        Raises:
            OSError: the disk refuses.
        """
        handle = os.open(self._mark(epoch), _CREATE | os.O_TRUNC, 0o600)
        try:
            os.write(handle, f"{end_seq}\n".encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def settled(self, epoch: int) -> int | None:
        """Return where the stream has ended, if that was written down, all of it."""
        try:
            text = self._mark(epoch).read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return None
        number = text.removesuffix("\n")
        return int(number) if number.isdecimal() and number != text else None

    def vouched(self, epoch: int) -> bool:
        """Whether its gateway vouched for the log, up to the end."""
        try:
            found = self._voucher(epoch).stat(follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()

    def tidy(self, epochs: set[int]) -> None:
        """Remove vouchers of logs that are no more.

        Args:
            epochs: Those of which there is a log.
        """
        for path in self._memory.glob(f"{self._prefix}*"):
            epoch = path.name.removeprefix(self._prefix)
            if epoch.isdecimal() and int(epoch) not in epochs:
                path.unlink(missing_ok=True)

    def _voucher(self, epoch: int) -> Path:
        return self._memory / f"{self._prefix}{epoch}"

    def _mark(self, epoch: int) -> Path:
        return self._directory / f"gateway-{self._gateway}-{epoch}.hql" / MARK
