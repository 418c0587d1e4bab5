"""Who may do what on the stream: tokens, their scopes, their end. Pure.

A token is 256 random bits, so its SHA-256 is as good as a slow hash, and is all that is kept.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

PREFIX: Final = "heqis_"
"""Of every token, so that a leaked one is found by those who look for such."""
MAX_TOKENS: Final = 1024
MAX_TOKEN_CHARS: Final = 256
SUBPROTOCOL: Final = "heqis"
_TOKEN_PROTOCOL: Final = "heqis.token."
_BEARER: Final = "bearer "


class Scope(StrEnum):
    """What a token is good for."""

    READ = "read"
    """Subscribe to signals and status."""
    OPERATE = "operate"
    """Command the engine."""


class Grant(NamedTuple):
    """What one connection may do.

    Attributes:
        name: Who it is, for the journal.
        scopes: What it may.
        expires_ns: Until when, wall clock; None: without end.
        digest: Of its token; "" where no token is asked for.
    """

    name: str
    scopes: frozenset[Scope]
    expires_ns: int | None
    digest: str


OPEN: Final = Grant("stream", frozenset(Scope), None, "")
"""Where no token is asked for: this machine only."""


class Denied(StrEnum):
    """Why there is no grant; the counter it counts as."""

    MISSING = "token_missing"
    UNKNOWN = "token_unknown"
    REVOKED = "token_revoked"
    EXPIRED = "token_expired"


ANY_COUNTERS: Final = (
    "handshakes_limited", "handshakes_displaced", "addresses_limited", "accepts_failed",
    "refused_origins", "refused_commands", "forbidden", "expelled",
    *(str(denied) for denied in Denied),
)  # fmt: skip
"""What a stream counts of those who may not."""


class TokenRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One token as the file keeps it; times are wall-clock nanoseconds."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)]
    created: int
    expires: int | None = None
    revoked: int | None = None


class TokenFile(Struct, frozen=True, forbid_unknown_fields=True):
    """All tokens, as JSON."""

    version: Literal[1]
    tokens: Annotated[tuple[TokenRecord, ...], Meta(max_length=MAX_TOKENS)]


_decode: Final = msgspec.json.Decoder(TokenFile).decode


def digest_of(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def parse_tokens(data: bytes) -> "TokenBook":
    """Read a token file.

    Raises:
        ValueError: it is not one.
    """
    try:
        return TokenBook(_decode(data).tokens)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a file of tokens: {error}") from None


class TokenBook:
    """The tokens there are.

    Args:
        records: At most ``MAX_TOKENS``.
    """

    def __init__(self, records: Iterable[TokenRecord] = ()) -> None:
        self.records = tuple(records)
        self._by_digest = {record.sha256: record for record in self.records}

    def to_json(self) -> bytes:
        """Return the file's content."""
        return msgspec.json.format(msgspec.json.encode(TokenFile(1, self.records)))

    def judge(self, token: str | None, wall_ns: int) -> Grant | Denied:
        """Return what the bearer of a token may do at ``wall_ns``, or why nothing."""
        if not token:
            return Denied.MISSING
        if len(token) > MAX_TOKEN_CHARS:
            return Denied.UNKNOWN
        digest = digest_of(token)
        denied = self.denial(digest, wall_ns)
        if denied is not None:
            return denied
        record = self._by_digest[digest]
        return Grant(record.name, frozenset(record.scopes), record.expires, digest)

    def denial(self, digest: str, wall_ns: int) -> Denied | None:
        """Return why a token is not good at ``wall_ns``, None if it is."""
        record = self._by_digest.get(digest)
        if record is None:
            return Denied.UNKNOWN
        if record.revoked is not None:
            return Denied.REVOKED
        if record.expires is not None and wall_ns >= record.expires:
            return Denied.EXPIRED
        return None

    def end_of(self, grant: Grant, wall_ns: int) -> Denied | None:
        """Return why a connection's grant holds no longer, None while it does.

        A token that is gone from the file was revoked; one whose scopes changed is, too.
        """
        denied = self.denial(grant.digest, wall_ns)
        if denied is Denied.UNKNOWN:
            return Denied.REVOKED
        if denied is None and frozenset(self._by_digest[grant.digest].scopes) != grant.scopes:
            return Denied.REVOKED
        return denied


def bearer_of(authorization: Iterable[str], protocols: Iterable[str]) -> str | None:
    """Return the token a request brings, None without one or with several.

    Args:
        authorization: Values of the header ``Authorization``: ``Bearer TOKEN``.
        protocols: Values of ``Sec-WebSocket-Protocol``, where a browser, which cannot set the
            other, brings it: ``heqis, heqis.token.TOKEN``.
    """
    found = [
        value[len(_BEARER) :].strip()
        for value in authorization
        if value[: len(_BEARER)].lower() == _BEARER
    ]
    for value in protocols:
        names = (name.strip() for name in value.split(","))
        found += [one[len(_TOKEN_PROTOCOL) :] for one in names if one.startswith(_TOKEN_PROTOCOL)]
    return found[0] if len(found) == 1 else None
