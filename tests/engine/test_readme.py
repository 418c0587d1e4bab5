"""What the README shows works as it stands there."""

import asyncio
import re
import sys
import tomllib
from pathlib import Path

import uvloop
from live_cases import live_tree, wait_until

from engine.composition import resolve
from engine.config import Config, load_config
from engine.daemon import Engine
from feeds.gateway import Gateway

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEADLINE_S = 30.0


def block(language: str, after: str = "") -> str:
    """Return the first block of a language after a heading."""
    found = re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


def test_the_first_strategy_is_a_good_configuration() -> None:
    blueprint = resolve(Config.model_validate(tomllib.loads(block("toml"))))
    assert [rule.name for rule in blueprint.plan.rules] == ["my_breakout"]


def test_the_first_model_is_a_good_configuration(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(ROOT / "models")
    path = tmp_path / "with-model.toml"
    path.write_text(block("toml", "## A first model"), encoding="utf-8")
    blueprint = resolve(load_config([path]))
    assert [model.bundle.manifest.name for model in blueprint.models] == ["demo-tcn"]
    assert {entry.name for entry in blueprint.config.strategies} == {"tcn-alone", "confirmed"}


async def first_line_of(script: Path) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", script, cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": "."}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            line = await process.stdout.readline()
            assert line, (await process.stderr.read()).decode()
            return line.decode().split()
    finally:
        process.kill()
        await process.wait()


def test_the_first_client_prints_signals_of_a_live_engine(tmp_path: Path) -> None:
    code = block("python")
    assert len(code.split("async def main")[1].splitlines()) <= 10
    script = tmp_path / "client.py"
    config = Config.model_validate(live_tree(tmp_path))
    said: list[str] = []

    async def main() -> None:
        gateway = Gateway(config.gateway)
        task = asyncio.create_task(gateway.run())
        async with Engine(resolve(config)) as engine:
            await wait_until(lambda: engine.ingest.pipeline.signals > 0)
            script.write_text(code.replace(":8765", f":{engine.stream.port}"), encoding="utf-8")
            said.extend(await first_line_of(script))
        gateway.stop()
        await task

    uvloop.run(main())
    assert said[0].endswith(".SIM")
    assert said[1] in {"BUY", "SELL"}
    assert float(said[2]) > 0.0
    assert said[3] == "macd"
