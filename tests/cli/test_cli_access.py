"""``heqis keys`` and ``heqis token``: made, shown without secrets, and ended."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.core.errors import ConfigError
from engine.stream_auth import Grant, Scope
from engine.token_store import TokenStore
from feeds.keystore import KeyStore


def run(*words: str) -> str:
    done = CliRunner().invoke(make_app(), list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_keys_are_made_let_in_listed_and_revoked(tmp_path: Path) -> None:
    store, other = str(tmp_path / "keys"), str(tmp_path / "other")
    public, peer = run("keys", "new", store).strip(), run("keys", "new", other).strip()
    assert KeyStore(tmp_path / "keys").own().public == public
    run("keys", "authorize", store, "gateway-1", peer)
    told = json.loads(run("keys", "list", store, "--json"))
    assert told["public"] == public
    assert told["authorized"] == {"gateway-1": peer}
    run("keys", "revoke", store, "gateway-1")
    told = json.loads(run("keys", "list", store, "--json"))
    assert (told["authorized"], told["revoked"]) == ({}, [peer])
    assert f"revoked    {peer}" in run("keys", "list", store)


def test_no_command_shows_a_secret_key(tmp_path: Path) -> None:
    store = str(tmp_path / "keys")
    said = run("keys", "new", store, "--json") + run("keys", "list", store)
    assert KeyStore(tmp_path / "keys").own().secret not in said


def test_a_token_is_shown_once_and_found_nowhere_else(tmp_path: Path) -> None:
    file = str(tmp_path / "tokens.json")
    token = run("token", "new", "ops", "-s", "operate", "-s", "read", "-f", file).splitlines()[0]
    grant = TokenStore(Path(file)).read().judge(token, 1)
    assert isinstance(grant, Grant)
    assert (grant.name, grant.scopes) == ("ops", frozenset(Scope))
    listed = run("token", "list", "-f", file)
    assert "ops" in listed
    assert "good" in listed
    assert token not in listed + run("token", "list", "-f", file, "--json")
    run("token", "revoke", "ops", "-f", file)
    assert json.loads(run("token", "list", "-f", file, "--json"))["tokens"][0]["state"] == "revoked"


def test_a_token_reads_for_ninety_days_if_nothing_else_is_said(tmp_path: Path) -> None:
    file = str(tmp_path / "tokens.json")
    made = json.loads(run("token", "new", "view", "--json", "-f", file))
    (record,) = TokenStore(Path(file)).read().records
    assert made["scopes"] == ["read"]
    assert record.expires == made["expires"] == record.created + 90 * 86_400 * 10**9


def test_the_file_is_found_in_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(f'[stream]\ntokens = "{tmp_path}/t.json"\n')
    run("token", "new", "view", "-c", str(config), "--expires", "never")
    (record,) = TokenStore(tmp_path / "t.json").read().records
    assert record.expires is None


@pytest.mark.parametrize(
    "words", [("token", "list"), ("token", "new", "x", "--expires", "soon", "-f", "t.json")]
)
def test_what_is_missing_or_odd_is_said(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--file|--expires"):
        run(*words)
    assert not list(tmp_path.iterdir())
