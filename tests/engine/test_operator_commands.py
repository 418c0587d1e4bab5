"""An operator's commands about models are journaled, whatever came of them."""

from pathlib import Path

import pytest
from live_models import THREADED, Session, events, model_tree, run_session, trade_bundle

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")


def test_a_command_that_could_not_be_carried_out_is_journaled_with_the_reason(
    tmp_path: Path,
) -> None:
    bundle = trade_bundle(tmp_path / "bundle")
    nothing = str(tmp_path / "nothing")
    endless = str(tmp_path / ("x" * 300))

    async def scene(live: Session) -> None:
        for value in (nothing, endless):
            answer = await live.operate("model_swap", "tiny", value)
            assert value in answer["problem"]
        assert live.model["bundle"] == bundle.identity

    run_session(tree := model_tree(tmp_path, bundle.path, inference=THREADED), scene)
    told = events(tree["journal"]["path"], "operator_command")
    assert [(one["command"], one["model"], one["value"]) for one in told] == [
        ("model_swap", "tiny", nothing),
        ("model_swap", "tiny", endless),
    ]
    assert "no such directory" in told[0]["problem"]
    assert "File name too long" in told[1]["problem"]
