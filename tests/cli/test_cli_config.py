"""``heqis config`` finds what is wrong, shows what is in force; the reference lists every key."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.config import CONFIGS, Config, load_config, load_with_origins
from engine.config_text import config_toml, duration_text, value_toml
from engine.core.errors import BundleError, ConfigError
from engine.core.settings import parse_duration_ns

DEFAULT = CONFIGS / "default.toml"
LISTS = ("bars", "strategies")
"""What the reference shows by example; a list has no default entries to agree with."""
NO_ENVIRONMENT: dict[str, str] = {}
BUNDLE = CONFIGS.parent / "models" / "demo-tcn"
SHADOW = CONFIGS.parent / "models" / "demo-tcn-b"
ASKERS = (
    '[[strategies]]\nname = "alone"\nmodel = "tcn"\n'
    '[[strategies]]\nname = "cross"\nrule = "macd_cross"\non = "1s"\nconfirm = "tcn"\n'
)
TICKING = 'on = "1s"'
MODEL = (
    '[[bars]]\nname = "1s"\ninterval = "1s"\n'
    f'[[models]]\nname = "tcn"\nbundle = "{BUNDLE}"\n{TICKING}\n'
)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(make_app(), ["config", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def models_of(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_of(part)]


def keys_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the model and of every model it may hold."""
    for name, field in model.model_fields.items():
        yield (*path, name)
        for inner in models_of(field.annotation):
            yield from keys_of(inner, (*path, name))


def listed_keys(text: str) -> set[tuple[str, ...]]:
    """Every key of the file, those behind a # too, by the table it stands in."""
    table: tuple[str, ...] = ()
    listed = set()
    for line in text.splitlines():
        if match := re.fullmatch(r"(?:# )?\[+([a-z_.]+)\]+", line):
            table = tuple(match[1].split("."))
            listed.add(table)
        elif match := re.match(r"(?:# )?([A-Za-z_]+) = (.*)", line):
            listed.add((*table, match[1]))
            inner = re.findall(r"(\w+) =", match[2]) if match[2].startswith("{") else []
            listed |= {(*table, match[1], name) for name in inner}
    return listed


def test_the_reference_lists_every_key_there_is() -> None:
    missing = set(keys_of(Config)) - listed_keys(DEFAULT.read_text(encoding="utf-8"))
    assert not missing, sorted(".".join(key) for key in missing)


def test_the_reference_equals_the_defaults() -> None:
    reference = load_config([DEFAULT], NO_ENVIRONMENT).model_dump(exclude=set(LISTS))
    assert reference == Config().model_dump(exclude=set(LISTS))


def test_keys_shown_behind_a_hash_are_good_as_well() -> None:
    """Whatever may be uncommented by itself in its table gives a valid configuration."""
    lines = DEFAULT.read_text(encoding="utf-8").splitlines()
    tables = [i for i, line in enumerate(lines) if re.match(r"# \[", line)]
    ends = [next(i for i in range(at, len(lines)) if not lines[i]) for at in tables]
    inside = {i for at, end in zip(tables, ends, strict=True) for i in range(at, end)}
    exclusive = {"size", "strategy", "rulebook", "model", "confirm", "priority"}
    exclusive |= {"keys", "server_key"}  # which go together
    for index, line in enumerate(lines):
        match = re.match(r"# ([a-z_]+) = \S", line)
        if match and index not in inside and match[1] not in exclusive:
            tree = tomllib.loads("\n".join([*lines[:index], line[2:], *lines[index + 1 :]]))
            Config.model_validate(tree)
    for at, end in zip(tables, ends, strict=True):
        table = "\n".join(line.removeprefix("# ") for line in lines[at:end])
        Config.model_validate(tomllib.loads(table))


@pytest.mark.parametrize("name", ["default.toml", "demo.toml", "replay.toml"])
def test_every_configuration_that_comes_along_is_good(name: str) -> None:
    facts = orjson.loads(run("check", "-c", str(CONFIGS / name), "--json"))
    assert facts["rules"]
    assert "good" in run("check", "-c", str(CONFIGS / name))


def test_check_lists_what_it_resolved() -> None:
    facts = orjson.loads(run("check", "-c", str(CONFIGS / "demo.toml"), "--json"))
    assert [rule["name"] for rule in facts["rules"]][:2] == ["macd", "macd-rsi"]
    assert facts["rules"][0]["params"]["fast"] == 12
    assert facts["rules"][0]["indicators"] == ["macd"]
    assert facts["stream"] == "ws://127.0.0.1:8765"
    assert not facts["notes"]


def test_check_notes_what_is_hardly_meant(tmp_path: Path) -> None:
    file = tmp_path / "odd.toml"
    file.write_text('[link]\ndata = "tcp://127.0.0.1:9"\n', encoding="utf-8")
    output = run("check", "-c", str(file))
    assert "nothing will be signalled" in output
    assert "gateway.outputs does not name link.data" in output


def test_check_tells_of_every_model_who_asks_it_and_where_it_runs(tmp_path: Path) -> None:
    text = MODEL.replace(TICKING, f'{TICKING}\nplacement = ["dla:7", "cpu"]\nshadow = "{SHADOW}"')
    file = tmp_path / "m.toml"
    file.write_text(text + ASKERS, encoding="utf-8")
    facts = orjson.loads(run("check", "-c", str(file), "--json"))
    (model,) = facts["models"]
    assert model["name"] == "tcn"
    assert model["identity"].startswith("demo-tcn@1-")
    assert model["shadow"].startswith("demo-tcn@")
    assert (model["on"], model["clock"]) == ("1s", "time bars of 1s, auto prices")
    assert (model["decides"], model["confirms"]) == (["alone"], ["cross"])
    assert [(one["entry"], one["here"]) for one in model["placement"]] == [
        ("dla:7", False),
        ("cpu", True),
    ]
    assert "onnxruntime: it has no dla:7" in model["placement"][0]["why"]
    assert facts["notes"] == ["models.tcn.placement: not on this machine and passed over: dla:7"]
    told = " ".join(run("check", "-c", str(file)).split())
    for part in (
        model["identity"], "dla:7 (not here), cpu", "asked by alone, cross (to confirm)",
        "the score of tcn", "confirmed by tcn", "compared, never traded",
        *facts["notes"],
    ):  # fmt: skip
        assert part in told, part


def test_check_says_that_an_engine_will_not_start_without_a_device(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(MODEL.replace(TICKING, f'{TICKING}\nplacement = ["dla:7"]'), encoding="utf-8")
    notes = orjson.loads(run("check", "-c", str(file), "--json"))["notes"]
    assert "models.tcn.placement: no device of it is here (dla:7): the engine will not start" in (
        notes
    )
    assert "models.tcn: no strategy that is enabled asks it" in notes
    told = " ".join(run("check", "-c", str(file)).split())
    assert "will not start" in told
    assert "dla:7: onnxruntime: it has no dla:7" in told


def test_check_opens_the_candidate_that_is_to_score_beside_a_model(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(MODEL.replace(TICKING, f'{TICKING}\nshadow = "gone"'), encoding="utf-8")
    with pytest.raises(BundleError, match=r"no such directory.*models\.tcn\.shadow names it"):
        run("check", "-c", str(file))


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[engin]\n", "engin", "did you mean 'engine'"),
        ("[engine]\nburst = 'many'\n", "engine.burst", "integer"),
        (
            '[[strategies]]\nname = "a"\nrule = "macd_cros"\non = "1m"\n',
            "strategies.a.rule",
            "did you mean 'macd_cross'? rules are: ",
        ),
        (
            '[[strategies]]\nname = "a"\nrule = "macd_cross"\non = "trades"\n',
            "strategies.a.on",
            "did you mean 'trade'? clocks are: ",
        ),
        (
            '[[strategies]]\nname = "a"\nstrategy = "Trend"\non = "1m"\n',
            "strategies.a.strategy",
            "Python strategies are: ",
        ),
        (MODEL.replace(TICKING, 'on = "1ss"'), "models.tcn.on", "did you mean '1s'? clocks are: "),
        (
            f'{MODEL}[[strategies]]\nname = "a"\nmodel = "tnc"\n',
            "strategies.a.model",
            "did you mean 'tcn'? models are: tcn",
        ),
        (
            f'{MODEL}[[strategies]]\nname = "a"\nrule = "macd_cross"\non = "1s"\nconfirm = "tc"\n',
            "strategies.a.confirm",
            "did you mean 'tcn'? models are: tcn",
        ),
        (
            '[[strategies]]\nname = "a"\nrule = "macd_cross"\non = "7m"\n',
            "strategies.a.on",
            "clocks are: tick, trade, quote, 1m",
        ),
        (
            '[[strategies]]\nname = "a"\nrule = "macd_cross"\non = "1m"\nparams = { fats = 1 }\n',
            "strategies.a.params",
            "fast",
        ),
    ],
)
def test_check_names_the_file_the_key_and_what_may_be_there(
    tmp_path: Path, text: str, key: str, expected: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        run("check", "-c", str(file))
    assert raised.value.file == str(file)
    assert raised.value.key == key
    assert expected in raised.value.expected


def test_show_says_where_a_value_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEQIS__RISK__LIMITS__MAX_SIGNALS", "50")
    shown = run("show", "-c", str(CONFIGS / "demo.toml"))
    variable = "environment variable HEQIS__RISK__LIMITS__MAX_SIGNALS"
    assert f"max_signals = 50  # {variable}" in shown
    assert f"rate = 1500.0  # {CONFIGS / 'demo.toml'}" in shown
    assert "\nmax_gross = 1000\n" in shown


def test_what_is_shown_finds_its_bundles_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    shown = tmp_path / "shown.toml"
    shown.write_text(run("show", "-c", "configs/demo.toml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (model,) = load_config([shown], NO_ENVIRONMENT).models
    assert model.bundle == BUNDLE


def test_show_as_json_is_a_configuration() -> None:
    shown = orjson.loads(run("show", "-c", str(CONFIGS / "demo.toml"), "--json"))
    assert Config.model_validate(shown) == load_config([CONFIGS / "demo.toml"])


@pytest.mark.parametrize("name", ["default.toml", "demo.toml", "replay.toml"])
def test_what_is_shown_loads_as_the_same_configuration(name: str) -> None:
    config, origins = load_with_origins([CONFIGS / name], NO_ENVIRONMENT)
    tree = tomllib.loads(config_toml(config, origins))
    assert Config.model_validate(tree) == config


def test_plugins_aliases_and_absent_tables_survive_being_shown() -> None:
    config = Config.model_validate(
        {
            "plugins": ['odd "name".py'],
            "gateway": {
                "spool": {"directory": "a\\b", "rotate_interval": "90s"},
                "source": {"kind": "log", "path": "日志.hql", "speed": 1e-3},
            },
            "risk": {"market": {"calendar_aliases": {"24 h": "24/7"}, "rulebook": "r.toml"}},
            "strategies": [
                {"name": "a", "rule": "r", "on": "1m", "params": {"x": 1.5, "deep": {"k y": True}}}
            ],
        }
    )
    assert Config.model_validate(tomllib.loads(config_toml(config))) == config


@given(st.integers(0, 2**62))
def test_durations_survive_being_written(value_ns: int) -> None:
    text = duration_text(value_ns)
    assert parse_duration_ns(text) == value_ns or value_ns > 2**53


@given(
    st.recursive(
        st.one_of(
            st.booleans(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
        ),
        max_leaves=12,
    )
)
def test_any_value_survives_being_written(value: Any) -> None:
    assert tomllib.loads(f"value = {value_toml(value)}")["value"] == value


def test_a_value_without_a_form_is_refused() -> None:
    with pytest.raises(TypeError, match="NoneType has no TOML form"):
        value_toml(None)
