"""The error tree. What the market does (gap, duplicate, stale, refused) is a value, not an error.

HeqisError
├── UserError                 the user can mend it; told without a traceback, exit status 2
│   ├── ConfigError           a configuration key, value or file
│   ├── PluginError           a user's indicator or rule file
│   ├── InputFileError        a file that cannot be imported or read
│   └── BundleError           a model bundle that cannot be used
├── CheckFailedError          a check ran and said no; exit status 1
├── FrameError                bytes that are not a frame
│   └── LogError              a tick log that cannot be read
├── LinkError                 the connection between gateway and engine
├── DeviceError               an inference device or its library
├── JournalError              the journal cannot be written or read
├── SnapshotError             a snapshot that cannot be taken or does not fit
└── StreamError               the signal stream
"""

from pathlib import Path


class HeqisError(Exception):
    """Root of everything HEQIS raises on purpose."""


class UserError(HeqisError):
    """Something the user can mend; the text says what was found, what is expected, what to do."""


class ConfigError(UserError):
    """A configuration file, key or value.

    Args:
        file: The file, or a description of where the value came from.
        key: Dotted path of the key, "" for the whole file.
        found: What is there; None for a file that cannot be read at all.
        expected: What may be there, and what to do.
    """

    def __init__(self, file: str | Path, key: str, found: object, expected: str) -> None:
        super().__init__(file, key, found, expected)
        self.file = str(file)
        self.key = key
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        if not self.key and self.found is None:
            return f"{where}: {self.expected}"
        return f"{where}: found {self.found!r}; {self.expected}"


class PluginError(UserError):
    """A user's indicator or rule file that cannot be used."""

    def __init__(self, file: str | Path, problem: str) -> None:
        super().__init__(file, problem)
        self.file = str(file)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


class InputFileError(UserError):
    """A file that cannot be read as what it was said to be."""

    def __init__(self, file: str | Path, problem: str) -> None:
        super().__init__(file, problem)
        self.file = str(file)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


class BundleError(UserError):
    """A model bundle, or a file of one, that cannot be used."""

    def __init__(self, file: str | Path, problem: str) -> None:
        super().__init__(file, problem)
        self.file = str(file)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


class CheckFailedError(HeqisError):
    """A check ran to its end and the answer is no."""


class BudgetSpentError(CheckFailedError):
    """A process ended by decision, since a budget was used up; it is not to be started again."""


class FrameError(HeqisError):
    """Bytes that are not a frame of this version.

    Args:
        problem: What is wrong, with the value found.
        offset: Byte offset of the frame in its file, None on the wire.
    """

    def __init__(self, problem: str, offset: int | None = None) -> None:
        super().__init__(problem, offset)
        self.problem = problem
        self.offset = offset

    def __str__(self) -> str:
        return self.problem if self.offset is None else f"at byte {self.offset}: {self.problem}"


class LogError(FrameError):
    """A tick log that cannot be read or written.

    Args:
        file: The log.
        problem: What is wrong.
        offset: Byte offset, if one place is to blame.
    """

    def __init__(self, file: str | Path, problem: str, offset: int | None = None) -> None:
        super().__init__(problem, offset)
        self.file = str(file)

    def __str__(self) -> str:
        return f"{self.file}: {super().__str__()}"


class LinkError(HeqisError):
    """The connection between gateway and engine."""


class DeviceError(HeqisError):
    """An inference device or its library failed; another may do the work."""


class JournalError(HeqisError):
    """The journal cannot be written or read."""


class SnapshotError(HeqisError):
    """A snapshot of the engine that cannot be taken, read, or taken up."""


class StreamError(HeqisError):
    """The signal stream, on the server's or the client's side."""
