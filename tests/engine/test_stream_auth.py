"""Tokens and the door, without a socket: who is let in, for what, and until when."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import ConfigError
from engine.stream_admission import MAX_ADDRESSES, Admission, DoorLimits, source_of
from engine.stream_auth import (
    MAX_TOKENS,
    Denied,
    Grant,
    Scope,
    TokenBook,
    TokenRecord,
    bearer_of,
    digest_of,
    parse_tokens,
)
from engine.token_store import FollowedTokens, TokenStore

READ = (Scope.READ,)
BOTH = (Scope.READ, Scope.OPERATE)
S = 10**9


def record(token: str, name: str = "who", **fields: int | None) -> TokenRecord:
    return TokenRecord(name, digest_of(token), READ, 1, **fields)


def test_a_token_is_good_until_it_ends() -> None:
    book = TokenBook([record("a", expires=100), record("b", revoked=50), record("c")])
    assert book.judge("a", 99) == Grant("who", frozenset(READ), 100, digest_of("a"))
    assert book.judge("a", 100) is Denied.EXPIRED
    assert book.judge("b", 10) is Denied.REVOKED
    assert isinstance(book.judge("c", 10**19), Grant)
    assert book.judge("d", 1) is Denied.UNKNOWN
    assert book.judge("x" * 10_000, 1) is Denied.UNKNOWN
    assert book.judge("", 1) is Denied.MISSING
    assert book.judge(None, 1) is Denied.MISSING


@given(st.text(max_size=300))
def test_no_other_text_is_a_token(text: str) -> None:
    book = TokenBook([record("heqis_right")])
    assert isinstance(book.judge(text, 1), Denied) or text == "heqis_right"


def test_a_grant_ends_with_its_token() -> None:
    grant = TokenBook([record("a", expires=100)]).judge("a", 1)
    assert isinstance(grant, Grant)
    assert TokenBook([record("a", expires=100)]).end_of(grant, 50) is None
    assert TokenBook([record("a", expires=100)]).end_of(grant, 100) is Denied.EXPIRED
    assert TokenBook([record("a", revoked=40)]).end_of(grant, 50) is Denied.REVOKED
    assert TokenBook([]).end_of(grant, 50) is Denied.REVOKED
    fewer = TokenRecord("who", digest_of("a"), (Scope.OPERATE,), 1)
    assert TokenBook([fewer]).end_of(grant, 50) is Denied.REVOKED


@pytest.mark.parametrize(
    ("authorization", "protocols", "found"),
    [
        (["Bearer abc"], [], "abc"),
        (["bearer  abc "], [], "abc"),
        (["Basic abc"], [], None),
        ([], ["heqis, heqis.token.abc"], "abc"),
        ([], ["heqis"], None),
        (["Bearer abc"], ["heqis.token.abd"], None),
        (["Bearer a", "Bearer b"], [], None),
        ([], [], None),
    ],
)
def test_a_request_brings_one_token_or_none(
    authorization: list[str], protocols: list[str], found: str | None
) -> None:
    assert bearer_of(authorization, protocols) == found


@given(st.binary(max_size=200))
def test_what_is_no_file_of_tokens_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a file of tokens"):
        parse_tokens(data)


def test_only_the_hash_of_a_token_is_kept(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "private" / "tokens.json")
    token = store.issue("ops", BOTH, 5, 100)
    text = store.path.read_text()
    assert token not in text
    assert token.removeprefix("heqis_") not in text
    assert digest_of(token) in text
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    grant = store.read().judge(token, 6)
    assert grant == Grant("ops", frozenset(BOTH), 100, digest_of(token))


def test_tokens_are_never_alike(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    made = {store.issue(f"t{at}", READ, 1, None) for at in range(20)}
    assert len(made) == 20
    assert all(len(one) == len("heqis_") + 43 for one in made)


def test_a_name_is_free_again_once_its_token_is_revoked(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    first = store.issue("ops", READ, 1, None)
    with pytest.raises(ConfigError, match="a token has this name"):
        store.issue("ops", READ, 1, None)
    store.revoke("ops", 2)
    second = store.issue("ops", READ, 3, None)
    assert store.read().judge(first, 4) is Denied.REVOKED
    assert isinstance(store.read().judge(second, 4), Grant)
    with pytest.raises(ConfigError, match="there are: ops"):
        store.revoke("nobody", 4)


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "a\n"])
def test_odd_names_are_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    with pytest.raises(ConfigError):
        store.issue(name, READ, 1, None)
    assert not store.path.exists()


def test_the_file_stays_bounded_and_forgets_revoked_tokens_first(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    gone = record("gone", "gone", revoked=2)
    kept = [record(f"t{at}", f"t{at}") for at in range(MAX_TOKENS - 1)]
    store.path.write_bytes(TokenBook([gone, *kept]).to_json())
    store.path.chmod(0o600)
    token = store.issue("new", READ, 3, None)
    book = store.read()
    assert len(book.records) == MAX_TOKENS
    assert book.judge("gone", 4) is Denied.UNKNOWN
    assert isinstance(book.judge(token, 4), Grant)
    with pytest.raises(ConfigError):
        store.issue("one-too-many", READ, 5, None)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_file_that_others_may_use_is_refused(mode: int, tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    store.issue("a", READ, 1, None)
    store.path.chmod(mode)
    with pytest.raises(ConfigError, match="others may use it"):
        FollowedTokens(store.path)


def test_a_followed_file_is_as_it_is_now(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    one = store.issue("one", READ, 1, None)
    followed = FollowedTokens(store.path)
    two = store.issue("two", READ, 1, None)
    assert followed.book.judge(two, 2) is Denied.UNKNOWN
    followed.refresh()
    assert isinstance(followed.book.judge(two, 2), Grant)
    store.revoke("one", 3)
    followed.refresh()
    assert followed.book.judge(one, 4) is Denied.REVOKED


def test_a_damaged_file_keeps_what_was_known_and_is_told(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    token = store.issue("one", READ, 1, None)
    followed = FollowedTokens(store.path)
    good = store.path.read_bytes()
    store.path.write_bytes(good[: len(good) // 2])
    followed.refresh()
    assert "not a file of tokens" in followed.problem
    assert isinstance(followed.book.judge(token, 2), Grant)
    store.path.unlink()
    followed.refresh()
    assert "is gone" in followed.problem
    assert followed.book.judge(token, 2) is Denied.UNKNOWN
    store.path.write_bytes(good)
    store.path.chmod(0o600)
    followed.refresh()
    assert followed.problem == ""
    assert isinstance(followed.book.judge(token, 2), Grant)


LIMITS = DoorLimits(handshakes_per_s=2.0, handshake_burst=3, per_address=2, handshaking=8)


def test_an_address_knocks_so_often_and_no_oftener() -> None:
    admission = Admission(LIMITS)
    assert [admission.refusal("10.0.0.1", 0) for _ in range(4)] == [
        "",
        "",
        "",
        "handshakes_limited",
    ]
    assert admission.refusal("10.0.0.2", 0) == ""
    assert admission.refusal("10.0.0.1", S) == ""


def test_an_address_has_so_many_connections_and_this_machine_as_many_as_it_likes() -> None:
    admission = Admission(LIMITS)
    for source in ("10.0.0.1", "127.0.0.1"):
        for _ in range(2):
            admission.opened(source)
    assert admission.refusal("10.0.0.1", 0) == "addresses_limited"
    assert admission.refusal("127.0.0.1", 0) == ""
    admission.closed("10.0.0.1")
    assert admission.refusal("10.0.0.1", 0) == ""


def test_addresses_are_forgotten_not_collected() -> None:
    admission = Admission(LIMITS)
    for at in range(MAX_ADDRESSES + 500):
        admission.refusal(f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}", 0)
    assert len(admission._buckets) == MAX_ADDRESSES
    for at in range(500):
        admission.closed(str(at))
    assert admission._open == {}


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("x", "x"),
    ],
)  # fmt: skip
def test_one_who_has_a_network_is_one(address: str, source: str) -> None:
    assert source_of(address) == source
