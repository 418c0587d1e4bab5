"""What an engine journals of its configuration when it starts."""

from importlib.metadata import PackageNotFoundError

import pytest

from engine import parts


def test_an_engine_that_was_never_installed_has_no_version_but_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert parts.own_version()

    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(parts, "version", missing)
    assert parts.own_version() == ""
