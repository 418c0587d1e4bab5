"""The file of tokens: made, changed, and followed while the engine runs."""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from engine.core.errors import ConfigError
from engine.stream_auth import (
    MAX_TOKENS,
    PREFIX,
    Scope,
    TokenBook,
    TokenRecord,
    digest_of,
    parse_tokens,
)
from feeds.private_files import FILE_MODE, make_private_directory, read_private, write_private

_SECRET_BYTES = 32


class TokenStore:
    """A file of tokens, its owner's alone.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> TokenBook:
        """Return the tokens in the file.

        Raises:
            ConfigError: it cannot be read, others may use it, or it is no such file.
        """
        try:
            return parse_tokens(read_private(self.path))
        except ValueError as error:
            raise ConfigError(self.path, "", "something else", str(error)) from None

    def issue(
        self, name: str, scopes: Sequence[Scope], wall_ns: int, expires_ns: int | None
    ) -> str:
        """Make a token and return it; only its hash is kept.

        Raises:
            ConfigError: the name is in use or cannot be used, or the file cannot be written.
        """
        token = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        made = TokenRecord(name, digest_of(token), tuple(scopes), wall_ns, expires_ns)
        with self._edited() as book:
            live = [one.name for one in book.records if one.revoked is None]
            if name in live:
                expected = "a token has this name; revoke it, or take another name"
                raise ConfigError(self.path, "name", name, expected)
            self._write([*book.records, made])
        return token

    def revoke(self, name: str, wall_ns: int) -> None:
        """End a token; connections that came with it are closed.

        Raises:
            ConfigError: no token has this name, or the file cannot be written.
        """
        with self._edited() as book:
            live = [one for one in book.records if one.name == name and one.revoked is None]
            if not live:
                names = ", ".join(one.name for one in book.records if one.revoked is None)
                raise ConfigError(self.path, "name", name, f"there are: {names or 'none'}")
            self._write(
                replace(one, revoked=wall_ns) if one in live else one for one in book.records
            )

    @contextmanager
    def _edited(self) -> Iterator[TokenBook]:
        """Hold other writers off, and give what is there."""
        if not self.path.parent.is_dir():
            make_private_directory(self.path.parent)
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            handle = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise ConfigError(lock, "", error.strerror, "give a place to write in") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self.read() if self.path.exists() else TokenBook()
        finally:
            os.close(handle)

    def _write(self, records: "Iterator[TokenRecord] | Sequence[TokenRecord]") -> None:
        """Write the newest; revoked ones beyond the bound are forgotten, which ends them too."""
        kept = list(records)
        for one in [one for one in kept if one.revoked is not None][: len(kept) - MAX_TOKENS]:
            kept.remove(one)
        data = TokenBook(kept).to_json()
        try:
            parse_tokens(data)
        except ValueError as error:
            raise ConfigError(self.path, "", "a new token", str(error)) from None
        write_private(self.path, data)


class FollowedTokens:
    """The tokens of a file as it is now; owned by the loop thread.

    A file that is gone holds no token. While one cannot be read or is no file of tokens, nobody
    new is let in; who is in stays until the file says otherwise.

    Args:
        path: The file.

    Raises:
        ConfigError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._store = TokenStore(path)
        self._state = self._look()
        self.book = self._store.read()
        self.problem = ""
        """Why the file is of no use now, "" if it is."""

    def refresh(self) -> None:
        """Read the file again if it changed."""
        state = self._look()
        if state == self._state and not self.problem:
            return
        self._state = state
        if state is None:
            self.book, self.problem = TokenBook(), f"{self._store.path}: the file is gone"
            return
        try:
            self.book, self.problem = self._store.read(), ""
        except ConfigError as error:
            self.problem = str(error)

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._store.path.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)
