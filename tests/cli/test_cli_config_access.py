"""``heqis config check`` refuses the keys, tokens and certificates that a start would refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import make_certificates
from key_stores import Stores, make_stores
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.core.errors import ConfigError
from engine.stream_auth import Scope
from engine.token_store import TokenStore


class House:
    """A configuration in which every port is guarded, and its files."""

    def __init__(self, root: Path) -> None:
        self.stores: Stores = make_stores(root)
        self.certificates = make_certificates(root)
        self.tokens = root / "tokens.json"
        TokenStore(self.tokens).issue("reader", [Scope.READ], 1, None)
        link, gateway = self.stores.link, self.stores.gateway_keys
        self.file = root / "heqis.toml"
        self.file.write_text(
            f'[link]\nkeys = "{link["keys"]}"\nserver_key = {json.dumps(link["server_key"])}\n'
            f'[gateway]\nkeys = "{gateway["keys"]}"\n'
            f"server_keys = {json.dumps(gateway['server_keys'])}\n"
            f'[stream]\ntokens = "{self.tokens}"\n'
            f'[stream.tls]\ncertificate = "{self.certificates.certificate}"\n'
            f'key = "{self.certificates.key}"\n',
            encoding="utf-8",
        )

    def check(self) -> list[str]:
        """Return the notes about keys."""
        words = ["config", "check", "-c", str(self.file), "--json"]
        done = CliRunner().invoke(make_app(), words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return [note for note in json.loads(done.stdout)["notes"] if note.startswith("keys: ")]


def test_guarded_ports_are_good(tmp_path: Path) -> None:
    assert House(tmp_path).check() == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda house: house.tokens.chmod(0o644), "tokens.json.*mode 644"),
        (lambda house: house.tokens.unlink(), "tokens.json"),
        (lambda house: house.certificates.key.chmod(0o640), "server.key.*mode 640"),
        (lambda house: house.certificates.certificate.write_text("no"), "server.pem"),
        (lambda house: house.stores.engine.directory.chmod(0o755), "engine.*mode 755"),
        (lambda house: (house.stores.gateway.directory / "own.key").chmod(0o644), "own.key"),
        (lambda house: house.stores.gateway.revoke("engine"), "server_key.*revoked"),
    ],
    ids=["tokens-mode", "tokens-gone", "key-mode", "certificate", "store-mode", "pair", "revoked"],
)
def test_what_a_start_would_refuse_is_refused(
    tmp_path: Path, spoil: Callable[[House], object], told: str
) -> None:
    house = House(tmp_path)
    spoil(house)
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        house.check()


def test_who_is_kept_out_by_a_damaged_file_is_noted(tmp_path: Path) -> None:
    house = House(tmp_path)
    damaged = house.stores.gateway.directory / "authorized" / "other.key"
    damaged.write_text("nonsense", encoding="utf-8")
    damaged.chmod(0o600)
    (note,) = house.check()
    assert str(damaged) in note
