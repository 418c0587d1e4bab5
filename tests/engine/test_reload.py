"""A configuration read again: what changes now, what waits, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from engine.config import Config, load_with_origins
from engine.core.errors import ConfigError
from engine.reload import Sources, compare, read_again

TEXT = """
[risk.limits]
max_gross = 400

[stream]
max_lag = 1000

[engine]
burst = 2048
"""


def nothing(seconds: float) -> None:
    """Do not wait: nobody else writes."""


def started(tmp_path: Path, text: str = TEXT) -> tuple[Config, Sources]:
    file = tmp_path / "heqis.toml"
    file.write_text(text, encoding="utf-8")
    config, origins = load_with_origins([file], {})
    return config, Sources((file,), origins)


def again(sources: Sources, text: str) -> Config:
    sources.files[0].write_text(text, encoding="utf-8")
    return read_again(sources, environ={}, sleep=nothing)[0]


def test_what_may_change_does_and_what_may_not_waits(tmp_path: Path) -> None:
    running, sources = started(tmp_path)
    changed = TEXT.replace("400", "40").replace("2048", "4096").replace("1000", "2000")
    reloaded = compare(running, again(sources, changed))
    assert reloaded.live == ("risk.limits.max_gross", "stream.max_lag")
    assert reloaded.restart == ("engine.burst",)
    assert reloaded.config.risk.limits.max_gross == 40
    assert reloaded.config.stream.max_lag == 2000
    assert reloaded.config.engine.burst == 2048, "what waits is not told as if it were in force"


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    running, sources = started(tmp_path)
    reloaded = compare(running, again(sources, TEXT))
    assert reloaded.told() == {"changed": [], "needs_restart": []}
    assert reloaded.config == running


def test_a_waiting_key_is_told_again_at_the_next_reload(tmp_path: Path) -> None:
    running, sources = started(tmp_path)
    once = compare(running, again(sources, TEXT.replace("2048", "4096")))
    twice = compare(once.config, again(sources, TEXT.replace("2048", "4096")))
    assert once.restart == twice.restart == ("engine.burst",)


def test_a_new_key_is_taken_and_may_be_changed_back_but_not_taken_away(tmp_path: Path) -> None:
    _, sources = started(tmp_path)
    text = TEXT.replace("max_gross = 400", "max_gross = 400\nmax_position = 3")
    sources.files[0].write_text(text, encoding="utf-8")
    loaded, sources = read_again(sources, environ={}, sleep=nothing)
    assert loaded.risk.limits.max_position == 3
    with pytest.raises(ConfigError, match=r"risk\.limits\.max_position: found '1 keys missing"):
        again(sources, TEXT)


@pytest.mark.parametrize("length", range(0, len(TEXT), 1))
def test_no_beginning_of_the_file_passes_for_the_whole(tmp_path: Path, length: int) -> None:
    _, sources = started(tmp_path)
    with pytest.raises(ConfigError):
        again(sources, TEXT[:length])


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    _, sources = started(tmp_path)

    def another_writes(seconds: float) -> None:
        sources.files[0].write_text(TEXT.replace("400", "4"), encoding="utf-8")

    def another_goes_on(seconds: float) -> None:
        sources.files[0].write_text(TEXT + "# more\n", encoding="utf-8")

    for write in (another_writes, another_goes_on):
        sources.files[0].write_text(TEXT, encoding="utf-8")
        with pytest.raises(ConfigError, match="a file that changes"):
            read_again(sources, environ={}, sleep=write)


def test_without_a_file_there_is_nothing_to_read_again() -> None:
    with pytest.raises(ConfigError, match="started without -c"):
        read_again(Sources(), environ={}, sleep=nothing)


def test_what_does_not_go_with_what_waits_is_refused(tmp_path: Path) -> None:
    running, sources = started(tmp_path)
    text = TEXT.replace("max_lag = 1000", "max_lag = 20000\nring_signals = 30000")
    with pytest.raises(ConfigError, match="restart to have all of them"):
        compare(running, again(sources, text))


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    found = []
    for key, value in tree.items():
        here = (*path, key)
        found += _leaves(value, here) if isinstance(value, dict) else [".".join(here)]
    return found


def test_every_live_key_is_one_that_there_is() -> None:
    from engine.reload import LIVE

    leaves = _leaves(Config().model_dump())
    tables = {leaf[: len(key)] for leaf in leaves for key in LIVE if leaf.startswith(f"{key}.")}
    assert set(LIVE) <= set(leaves) | tables
