"""CURVE keys on disk: one's own pair, the public keys that are let in, and the revoked ones.

A store is a directory of mode 0700 with files of mode 0600: ``own.key``, ``authorized/NAME.key``
and ``revoked/NAME.key``, each a few lines of TOML. A key that is anywhere in ``revoked`` is not let
in, whatever ``authorized`` says; nor is whoever's name a file bears there that cannot be read.
"""

import re
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

import zmq

from engine.core.errors import ConfigError
from feeds.private_files import (
    check_private,
    make_private_directory,
    read_private,
    sync_directory,
    write_private,
)

MAX_KEYS: Final = 1024
"""Most files that are read of ``authorized``, and of ``revoked``."""
_OWN: Final = "own.key"
_AUTHORIZED: Final = "authorized"
_REVOKED: Final = "revoked"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY: Final = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


class KeyPair:
    """A CURVE key pair in Z85; its ``repr`` does not show the secret."""

    __slots__ = ("public", "secret")

    def __init__(self, public: str, secret: str) -> None:
        self.public = public
        self.secret = secret

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


class Admitted(NamedTuple):
    """Whom a store lets in.

    Attributes:
        names: Names by public key.
        revoked: Public keys that were let in once, and those that may have been revoked.
        problems: Files that could not be used, and why; their keys are not let in.
    """

    names: dict[str, str]
    revoked: frozenset[str]
    problems: tuple[str, ...]


class _Listed(NamedTuple):
    """One directory of a store."""

    names: dict[str, str]
    """By public key."""
    unread: tuple[str, ...]
    """Names of files that could not be read, without their ending."""
    problems: tuple[str, ...]


def check_key(text: str) -> str:
    """Return a public key.

    Raises:
        ValueError: it is not one: 40 characters of Z85.
    """
    if not _KEY.fullmatch(text):
        raise ValueError("a public key has 40 characters, as `heqis keys new` prints it")
    return text


class KeyStore:
    """The store in a directory.

    Args:
        directory: Where it is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def create(self) -> KeyPair:
        """Make the store and a new key pair in it.

        Raises:
            ConfigError: there is one already, or it cannot be written.
        """
        make_private_directory(self.directory)
        path = self.directory / _OWN
        if path.exists():
            expected = "a key pair is there; take another directory, or remove the file"
            raise ConfigError(path, "", "a file", expected)
        for name in (_AUTHORIZED, _REVOKED):
            make_private_directory(self.directory / name)
        public, secret = (half.decode() for half in zmq.curve_keypair())
        text = f'# The key pair of this process. Keep it secret.\npublic = "{public}"\n'
        write_private(path, f'{text}secret = "{secret}"\n'.encode())
        return KeyPair(public, secret)

    def own(self) -> KeyPair:
        """Return the store's key pair.

        Raises:
            ConfigError: there is none, others may read it, or it is not one.
        """
        check_private(self.directory)
        path = self.directory / _OWN
        table = _read(path)
        public, secret = table.get("public"), table.get("secret")
        if not (isinstance(secret, str) and _KEY.fullmatch(secret)):
            raise ConfigError(path, "secret", "no key", "make a pair with `heqis keys new`")
        if public != zmq.curve_public(secret.encode()).decode():
            raise ConfigError(path, "public", public, "it is not the secret key's other half")
        return KeyPair(public, secret)

    def authorize(self, name: str, public: str) -> None:
        """Let a public key in, under a name.

        Raises:
            ConfigError: the name or the key cannot be used, is there already, or was revoked.
        """
        path = self._file(_AUTHORIZED, name)
        try:
            check_key(public)
        except ValueError as error:
            raise ConfigError("command line", "key", public, str(error)) from None
        admitted = self.admitted()
        if _may_be_revoked(name, self._list(_REVOKED).unread):
            expected = "its files cannot be read; mend them, or take another name"
            raise ConfigError(path.parent.parent / _REVOKED, "", name, expected)
        if public in admitted.revoked:
            raise ConfigError("command line", "key", public, "it was revoked; have a new one made")
        if path.exists() or public in admitted.names:
            raise ConfigError(path, "", "a key", "name and key must both be new; revoke the old")
        make_private_directory(path.parent)
        write_private(path, f'public = "{public}"\n'.encode())

    def revoke(self, name: str) -> str:
        """Let a key in no longer; a running process cuts its peers off. Return the public key.

        Raises:
            ConfigError: no such name, or the store cannot be written.
        """
        path = self._file(_AUTHORIZED, name)
        if not path.exists():
            known = ", ".join(sorted(self.admitted().names.values())) or "none"
            raise ConfigError(path.parent, "", name, f"names that are let in: {known}")
        public = _public(path)
        revoked = self.directory / _REVOKED
        make_private_directory(revoked)
        gone = revoked / path.name
        if gone.exists():
            gone = revoked / f"{name}.{public[:8].encode().hex()}.key"
        try:
            path.rename(gone)
            sync_directory(revoked)
        except OSError as error:
            raise ConfigError(path, "", error.strerror, "give a store to write in") from None
        return public

    def admitted(self) -> Admitted:
        """Return whom the store lets in now.

        Raises:
            ConfigError: the store cannot be read, or others may use it.
        """
        check_private(self.directory)
        revoked, authorized = self._list(_REVOKED), self._list(_AUTHORIZED)
        names, out, doubts = {}, set(revoked.names), []
        for key, name in authorized.names.items():
            if _may_be_revoked(name, revoked.unread):
                out.add(key)
                doubts.append(f"{name}: a file of this name in {_REVOKED}/ cannot be read")
            elif key not in out:
                names[key] = name
        problems = (*doubts, *authorized.problems, *revoked.problems)
        return Admitted(names, frozenset(out), problems)

    def state(self) -> tuple[int, ...]:
        """Return numbers that change when a file is added, taken away or written."""
        places = [self.directory / _AUTHORIZED, self.directory / _REVOKED]
        files = [file for place in places if place.is_dir() for file in sorted(place.iterdir())]
        found = []
        for path in [self.directory, *places, *files[: 2 * MAX_KEYS]]:
            try:
                about = path.stat()
            except OSError:
                continue
            found += [about.st_mtime_ns, about.st_ino, about.st_mode]
        return tuple(found)

    def _list(self, kind: str) -> "_Listed":
        """Read one directory."""
        place = self.directory / kind
        if not place.is_dir():
            return _Listed({}, (), ())
        check_private(place)
        found: dict[str, str] = {}
        problems = []
        paths = sorted(place.glob("*.key"))
        unread = [path.stem for path in paths[MAX_KEYS:]]
        if unread:
            problems.append(f"{place}: more than {MAX_KEYS} keys; the rest is not let in")
        for path in paths[:MAX_KEYS]:
            try:
                found[_public(path)] = path.stem
            except ConfigError as error:
                problems.append(str(error))
                unread.append(path.stem)
        return _Listed(found, tuple(unread), tuple(problems))

    def _file(self, kind: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            expected = "a name has letters, digits, '.', '_' and '-', 64 at most"
            raise ConfigError("command line", "name", name, expected)
        return self.directory / kind / f"{name}.key"


def _may_be_revoked(name: str, unread: tuple[str, ...]) -> bool:
    """Return whether a file that could not be read bears a name, alone or before part of a key."""
    return any(stem == name or stem.rpartition(".")[0] == name for stem in unread)


def _public(path: Path) -> str:
    public = _read(path).get("public")
    try:
        return check_key(public if isinstance(public, str) else "")
    except ValueError as error:
        raise ConfigError(path, "public", "no key", str(error)) from None


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(read_private(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError(path, "", "no TOML", 'a line like public = "…" is expected') from None
