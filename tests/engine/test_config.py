"""Configurations: layers, overrides, and errors that name file, key and what is allowed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import CONFIGS, Config, load_config
from engine.core.errors import ConfigError
from engine.core.settings import parse_duration_ns


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def error_of(tmp_path: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config([write(tmp_path / "bad.toml", text)], {})
    return caught.value


def test_no_file_gives_the_defaults() -> None:
    assert load_config([], {}) == Config()


def test_a_later_file_wins_key_by_key_and_replaces_lists(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a.toml",
        '[engine]\nburst = 1000\nmax_instruments = 7\n[[bars]]\nname = "a"\ninterval = "1s"\n',
    )
    second = write(
        tmp_path / "b.toml", '[engine]\nburst = 2000\n[[bars]]\nname="b"\ninterval="2s"\n'
    )
    config = load_config([first, second], {})
    assert (config.engine.burst, config.engine.max_instruments) == (2000, 7)
    assert [bar.name for bar in config.bars] == ["b"]


def test_the_environment_overrides_files_with_toml_values_or_text(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "[engine]\nburst = 1000\n")
    environ = {
        "HEQIS__ENGINE__BURST": "3000",
        "HEQIS__JOURNAL__PATH": "/tmp/j.db",
        "HEQIS__RISK__DATA__MAX_AGE": '"3s"',
        "OTHER": "x",
    }
    config = load_config([file], environ)
    assert config.engine.burst == 3000
    assert config.journal.path == Path("/tmp/j.db")
    assert config.risk.data.max_age == 3_000_000_000


def test_an_unknown_key_is_told_with_its_file_and_the_nearest_key(tmp_path: Path) -> None:
    error = error_of(tmp_path, "[risk.limits]\nmax_signal = 3\n")
    assert error.file.endswith("bad.toml")
    assert error.key == "risk.limits.max_signal"
    assert "did you mean 'max_signals'" in str(error)
    assert "cool_down" in str(error)


def test_the_key_of_the_right_kind_of_source_is_suggested(tmp_path: Path) -> None:
    error = error_of(tmp_path, '[gateway.source]\nkind = "simulator"\nsed = 1\n')
    assert "did you mean 'seed'" in str(error)
    error = error_of(tmp_path, '[gateway.source]\nkind = "log"\npath = "x"\nsped = 1\n')
    assert "did you mean 'speed'" in str(error)


def test_a_bad_value_of_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([], {"HEQIS__RISK__LIMITS__MAX_SIGNALS": "many"})
    assert caught.value.file == "environment variable HEQIS__RISK__LIMITS__MAX_SIGNALS"
    assert caught.value.found == "many"


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("x =", "", "mend the TOML syntax"),
        ("[stream]\nhost = '0.0.0.0'\n", "stream", "no authentication"),
        ("[[bars]]\nname = 'a'\nkind = 'tick'\n", "bars.a", "takes `size`"),
        ("[[bars]]\nname = 'tick'\ninterval = '1s'\n", "bars.tick", "built-in clock"),
        ("[[bars]]\nname = 'a b'\ninterval = '1s'\n", "bars.0.name", "letters, digits"),
        ("[[bars]]\nname = 'a'\ninterval = '1 parsec'\n", "bars.a.interval", "not a duration"),
        (
            "[[models]]\nname = 'm'\nbundle = 'b'\non = '1m'\nplacement = ['dla:0', 'gpux']\n",
            "models.m.placement",
            "'gpux': did you mean 'gpu'? devices are: cpu, cpu:1, gpu, dla:0, dla:1, npu",
        ),
        ("[[strategies]]\nname = 'x'\non = '1m'\n", "strategies.x", "one of `rule`"),
        ("[link]\ndata = 'nowhere'\n", "link.data", "tcp://"),
        ("[risk]\nstate = 'open'\n", "risk.state", "active"),
    ],
)
def test_what_is_wrong_is_told_with_key_and_remedy(
    tmp_path: Path, text: str, key: str, told: str
) -> None:
    error = error_of(tmp_path, text)
    assert error.key == key
    assert told in str(error)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    bar = "[[bars]]\nname = 'a'\ninterval = '1s'\n"
    assert "'a' is given twice" in str(error_of(tmp_path, bar + bar))


def test_several_errors_are_told_at_once(tmp_path: Path) -> None:
    error = error_of(tmp_path, "[engine]\nburst = 'x'\nnope = 1\n")
    assert "1 more" in str(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([tmp_path / "none.toml"], {})
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'none.toml'}: there is no such file; `heqis config show >")
    assert str(Path("configs") / "default.toml") in told
    assert "found" not in told


def test_a_file_that_was_meant_is_suggested(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.toml", "")
    with pytest.raises(ConfigError, match=f"did you mean {mine}"):
        load_config([tmp_path / "mien.toml"], {})
    with pytest.raises(ConfigError, match=r"did you mean .*demo\.toml"):
        load_config([tmp_path / "gone" / "demo.toml"], {})


def test_a_directory_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it cannot be read: Is a directory"):
        load_config([tmp_path], {})


def test_plugins_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = write(tmp_path / "sub" / "c.toml", "plugins = ['mine.py']\n")
    assert load_config([file], {}).plugins == (tmp_path / "sub" / "mine.py",)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_configuration_that_comes_along_is_valid(file: Path) -> None:
    if "a_share" not in file.name:
        load_config([file], {})


@given(st.integers(0, 10**6), st.sampled_from(["ns", "us", "ms", "s", "m", "h", "d"]))
def test_durations_are_read_with_their_unit(count: int, unit: str) -> None:
    scale = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 6 * 10**10, "h": 36 * 10**11}
    assert parse_duration_ns(f"{count}{unit}") == count * scale.get(unit, 864 * 10**11)


@given(st.text(max_size=8))
def test_no_text_makes_the_reader_of_durations_fail_otherwise(text: str) -> None:
    try:
        assert parse_duration_ns(text) >= 0
    except ValueError as error:
        assert "is not a duration" in str(error)  # noqa: PT017 - most texts are refused


def test_a_variable_that_would_be_passed_over_is_told() -> None:
    with pytest.raises(ConfigError, match="HEQIS__RISK__LIMITS__MAX_SIGNALS, with two underscores"):
        load_config([], {"HEQIS_RISK__LIMITS__MAX_SIGNALS": "5"})
    load_config([], {"HEQIS_CACHE_DIR": "/tmp/x"})


def test_a_duration_without_a_unit_is_refused_where_seconds_were_meant(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[journal]\ncommit_interval = 10\n", encoding="utf-8")
    with pytest.raises(ConfigError, match='10 without a unit is nanoseconds; write "10s"'):
        load_config([path])
