"""A configuration that is wrong or half written is refused while running, and the old one runs."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from process_rig import RULES, Rig, eventually, source_toml

pytestmark = pytest.mark.slow
REFUSED = "configuration refused, the old one runs on: "
DIFFERS = "needs a restart of the gateway: "
LIMIT = "max_gross = 400\n"
GOOD = RULES.replace("max_position = 0\n", f"max_position = 0\n{LIMIT}") + source_toml(batch=4096)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One live engine for all of these: each must leave it as it was."""
    with Rig(tmp_path_factory.mktemp("reload"), GOOD) as made:
        made.start("gateway")
        made.start("engine")
        made.until_live()
        yield made


def lives(rig: Rig) -> bool:
    before = rig.signals()
    return bool(eventually(lambda: rig.signals() > before, "more signals", 10))


def hang_up(rig: Rig, gateway: psutil.Popen, answer: str) -> str:
    """Have the gateway read its files again; return the line in which it answers so."""

    def answers() -> list[str]:
        return [line for line in rig.log("gateway").splitlines() if answer in line]

    before = len(answers())
    gateway.send_signal(signal.SIGHUP)
    return str(eventually(lambda: answers()[before:], f"gateway: {answer}", 10)[0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(GOOD.replace("max_gross = 400", "max_gross = 4"), None, id="good"),
        pytest.param("", "empty file", id="emptied"),
        pytest.param(GOOD[: len(GOOD) // 2], "mend the TOML", id="half-of-it"),
        pytest.param(
            GOOD[: GOOD.index("[risk.data]")],
            "keys missing that were given",
            id="whole-tables-gone",
        ),
        pytest.param(
            GOOD.replace("max_gross = 400", "max_gross = -4"),
            "risk.limits.max_gross",
            id="bad-value",
        ),
        pytest.param(GOOD.replace("macd_cross", "macd_crass"), "rules are", id="unknown-rule"),
        pytest.param(GOOD.replace("max_gross", "max_grass"), "did you mean", id="unknown-key"),
        pytest.param(GOOD.replace("[risk.data]", "[risk.data"), "mend the TOML", id="bad-syntax"),
        pytest.param(GOOD.rstrip("\n")[:-1], "line end", id="last-number-cut-short"),
        pytest.param("\0" * 512, "TOML", id="zeroes"),
    ],
)
def test_what_is_wrong_is_refused_with_its_reason_and_the_old_one_runs(
    rig: Rig, content: str, told: str | None
) -> None:
    refused, taken = len(rig.events("reload_refused")), len(rig.events("reload"))
    rig.file.write_text(content, encoding="utf-8")
    try:
        answer = rig.ask("reload", rig.url)
    finally:
        rig.file.write_text(GOOD, encoding="utf-8")
    if told is None:
        assert (answer.returncode, answer.stdout) == (0, "changed: risk.limits.max_gross\n")
        assert rig.ask("reload", rig.url).returncode == 0
        assert eventually(lambda: len(rig.events("reload")) == taken + 2, "both journaled", 5)
    else:
        assert answer.returncode == 2
        assert told in answer.stderr
        kept = eventually(lambda: rig.events("reload_refused")[refused:], "it is journaled", 5)
        assert told in kept[0]["problem"]
        assert kept[0]["by"] == "stream"
        assert len(rig.events("reload")) == taken
    assert lives(rig)


def test_a_file_that_is_gone_is_refused(rig: Rig, tmp_path: Path) -> None:
    aside = rig.file.rename(tmp_path / "aside.toml")
    try:
        answer = rig.ask("reload", rig.url)
    finally:
        aside.rename(rig.file)
    assert answer.returncode == 2
    assert "No such file" in answer.stderr
    assert lives(rig)


def test_a_hangup_reloads_and_ends_nothing(rig: Rig) -> None:
    engine = next(p for p in rig.processes if "engine" in p.cmdline())
    gateway = next(p for p in rig.processes if "gateway" in p.cmdline())
    rig.file.write_text(GOOD.replace("max_gross = 400", "max_gross = 5"), encoding="utf-8")
    try:
        engine.send_signal(signal.SIGHUP)
        gateway.send_signal(signal.SIGHUP)
        taken = eventually(
            lambda: [e for e in rig.events("reload") if e["by"] == "SIGHUP"], "the reload", 10
        )
        assert taken[-1]["changed"] == ["risk.limits.max_gross"]
    finally:
        rig.file.write_text(GOOD, encoding="utf-8")
    assert rig.ask("reload", rig.url).returncode == 0
    assert f"{DIFFERS}nothing" in rig.log("gateway")
    assert lives(rig)
    assert engine.poll() is None
    assert gateway.poll() is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(GOOD[: len(GOOD) // 2], "mend the TOML", id="half-of-it"),
        pytest.param(
            GOOD.replace("rate = 5000.0", "rate = -1.0"), "rate: found -1.0", id="bad-value"
        ),
        pytest.param("\0" * 512, "mend the TOML", id="zeroes"),
    ],
)
def test_a_gateway_refuses_what_is_wrong_and_sends_on(rig: Rig, content: str, told: str) -> None:
    gateway = next(p for p in rig.processes if "gateway" in p.cmdline())
    rig.file.write_text(content, encoding="utf-8")
    try:
        refused = hang_up(rig, gateway, REFUSED)
    finally:
        rig.file.write_text(GOOD, encoding="utf-8")
    assert told in refused
    rig.until_live()
    assert hang_up(rig, gateway, DIFFERS).endswith(f"{DIFFERS}nothing")
    assert gateway.poll() is None


def test_what_cannot_change_while_running_is_named_and_waits(rig: Rig) -> None:
    rig.file.write_text(GOOD.replace("fast = 2", "fast = 3"), encoding="utf-8")
    try:
        answer = rig.ask("reload", rig.url)
    finally:
        rig.file.write_text(GOOD, encoding="utf-8")
    assert answer.returncode == 0
    assert answer.stdout == "changed: nothing\nneeds a restart: strategies\n"
    assert lives(rig)
