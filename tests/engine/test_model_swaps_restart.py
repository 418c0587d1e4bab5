"""What an operator swapped at run time does not outlive the engine, and that is said."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from live_models import Session, events, model_tree, run_session, trade_bundle

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import StreamError
from engine.daemon import Engine
from engine.operating import operate
from engine.stream_messages import Operate

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")


def start_without_gateway(
    tree: dict[str, object], scene: Callable[[Engine], Awaitable[None]] | None = None
) -> None:
    async def main() -> None:
        async with Engine(resolve(Config.model_validate(tree))) as engine:
            if scene is not None:
                await scene(engine)

    uvloop.run(main())


def test_a_start_tells_that_the_last_swap_is_not_what_is_configured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = trade_bundle(tmp_path / "old")
    new = trade_bundle(tmp_path / "new", version="2")

    async def swap(live: Session) -> None:
        answer = await live.operate("model_swap", "tiny", str(new.path))
        assert answer["problem"] == ""

    tree = model_tree(tmp_path, old.path)
    run_session(tree, swap)
    assert events(tree["journal"]["path"], "model_as_configured") == []
    start_without_gateway(tree)
    told = [{"model": "tiny", "serves": old.identity, "swapped_to": new.identity}]
    assert events(tree["journal"]["path"], "model_as_configured") == told
    assert f"it had been swapped to {new.identity}" in caplog.text
    start_without_gateway(model_tree(tmp_path, new.path))
    assert events(tree["journal"]["path"], "model_as_configured") == told


@pytest.mark.parametrize("command", ["model_swap", "model_shadow"])
def test_no_bundle_takes_anothers_place_before_the_engine_is_live(
    tmp_path: Path, command: str
) -> None:
    bundle = trade_bundle(tmp_path / "bundle")
    tree = model_tree(tmp_path, bundle.path)

    async def scene(engine: Engine) -> None:
        wish = Operate(command, "tiny", str(bundle.path))  # type: ignore[arg-type] # one of them
        with pytest.raises(StreamError, match="not caught up"):
            await operate(f"ws://127.0.0.1:{engine.stream.port}", wish)

    start_without_gateway(tree, scene)
    (command_told,) = events(tree["journal"]["path"], "operator_command")
    assert "not caught up" in command_told["problem"]
    assert events(tree["journal"]["path"], "model_swap") == []
