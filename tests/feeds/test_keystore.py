"""Key stores: what is in them stays its owner's, and what was revoked stays out."""

import stat
from pathlib import Path

import pytest
import zmq

from engine.core.errors import ConfigError
from feeds.keystore import KeyStore


def new_key() -> str:
    return zmq.curve_keypair()[0].decode()


def modes(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode)
        for path in [directory, *directory.rglob("*")]
    }


def test_everything_in_a_store_is_its_owners_alone(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    store.authorize("gateway-1", new_key())
    store.authorize("gateway-2", new_key())
    store.revoke("gateway-2")
    assert modes(store.directory) == {
        ".": 0o700, "own.key": 0o600, "authorized": 0o700, "revoked": 0o700,
        "authorized/gateway-1.key": 0o600, "revoked/gateway-2.key": 0o600,
    }  # fmt: skip


def test_a_pair_is_read_back_and_its_secret_not_shown(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    tmp_path.chmod(0o700)
    made = store.create()
    read = store.own()
    assert (read.public, read.secret) == (made.public, made.secret)
    assert made.secret not in f"{made!r} {made}"


def test_a_second_pair_does_not_replace_the_first(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    made = store.create()
    with pytest.raises(ConfigError, match="a key pair is there"):
        store.create()
    assert store.own().public == made.public


@pytest.mark.parametrize(("place", "mode"), [(".", 0o750), ("own.key", 0o640), ("own.key", 0o604)])
def test_a_store_that_others_may_use_is_refused(place: str, mode: int, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    (store.directory / place).chmod(mode)
    with pytest.raises(ConfigError, match=r"others may use it; run: chmod [67]00"):
        store.own()


@pytest.mark.parametrize(
    "text", ["", "public = 1", 'public = "x"\nsecret = "y"', "\x00\xff", "[secret]"]
)
def test_a_damaged_pair_is_refused_and_not_quoted(text: str, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    secret = store.create().secret
    (store.directory / "own.key").write_text(f"{text}\n# {secret}", encoding="latin-1")
    with pytest.raises(ConfigError) as caught:
        store.own()
    assert secret not in str(caught.value)


def test_halves_of_different_pairs_are_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    secret = store.create().secret
    (store.directory / "own.key").write_text(f'public = "{new_key()}"\nsecret = "{secret}"\n')
    with pytest.raises(ConfigError, match="other half"):
        store.own()


def test_a_revoked_key_is_not_let_in_again(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    key, other = new_key(), new_key()
    store.authorize("gateway", key)
    store.authorize("second", other)
    assert store.admitted().names == {key: "gateway", other: "second"}
    assert store.revoke("gateway") == key
    assert store.admitted().names == {other: "second"}
    assert store.admitted().revoked == {key}
    with pytest.raises(ConfigError, match="it was revoked"):
        store.authorize("anew", key)
    (store.directory / "authorized" / "copy.key").write_text(f'public = "{key}"\n')
    (store.directory / "authorized" / "copy.key").chmod(0o600)
    assert key not in store.admitted().names


def test_a_name_may_be_used_and_revoked_again(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    keys = [new_key() for _ in range(3)]
    for key in keys:
        store.authorize("gateway", key)
        store.revoke("gateway")
    assert store.admitted().revoked == set(keys)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("../x", "k" * 40), ("", "k" * 40), ("x" * 65, "k" * 40), (".hidden", "k" * 40),
        ("good", "k" * 39), ("good", '"' * 40), ("good", "\n" + "k" * 39),
    ],
)  # fmt: skip
def test_odd_names_and_keys_are_refused(name: str, key: str, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    with pytest.raises(ConfigError):
        store.authorize(name, key)
    assert store.admitted().names == {}


def test_a_file_that_cannot_be_used_lets_nobody_in_and_is_told(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    good = new_key()
    store.authorize("good", good)
    for name, text, mode in (
        ("open", f'public = "{new_key()}"', 0o644),
        ("bad", "nonsense", 0o600),
    ):
        path = store.directory / "authorized" / f"{name}.key"
        path.write_text(text)
        path.chmod(mode)
    admitted = store.admitted()
    assert admitted.names == {good: "good"}
    assert len(admitted.problems) == 2


@pytest.mark.parametrize("file", ["gateway", "gateway.6b6579206f6e6520"])
def test_a_damaged_file_of_the_revoked_keeps_out_whose_name_it_bears(
    file: str, tmp_path: Path
) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    old, new, other = new_key(), new_key(), new_key()
    store.authorize("gateway", old)
    store.revoke("gateway")
    store.authorize("gateway", new)
    store.authorize("gateway-2", other)
    path = store.directory / "revoked" / f"{file}.key"
    path.write_text("nonsense")
    path.chmod(0o600)
    admitted = store.admitted()
    assert admitted.names == {other: "gateway-2"}
    assert new in admitted.revoked
    assert any("gateway: a file of this name" in one for one in admitted.problems)
    assert any(str(path) in one for one in admitted.problems)
    (store.directory / "authorized" / "gateway.key").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        store.authorize("gateway", new_key())


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    store.authorize("gateway-7", new_key())
    with pytest.raises(ConfigError, match="gateway-7"):
        store.revoke("gateway-8")


def test_every_change_changes_the_state(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.create()
    states = [store.state()]
    store.authorize("a", new_key())
    states.append(store.state())
    (store.directory / "authorized" / "a.key").chmod(0o644)
    states.append(store.state())
    (store.directory / "authorized" / "a.key").chmod(0o600)
    store.revoke("a")
    states.append(store.state())
    assert len(set(states)) == 4
    assert store.state() == states[-1]
