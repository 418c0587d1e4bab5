"""``heqis model`` against a running engine: what it commands, prints and refuses."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from live_cases import wait_until
from live_models import Session, model_tree, run_session, trade_bundle

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")


async def heqis(live: Session, *arguments: object) -> tuple[int | None, str, str]:
    """Run ``heqis model`` against the engine; return exit status, stdout and stderr."""
    url = f"ws://127.0.0.1:{live.engine.stream.port}"
    command = [sys.executable, "-m", "engine.cli", "model", *map(str, arguments), "--url", url]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def listed(live: Session) -> dict[str, Any]:
    """Return what ``list --json`` tells of the model."""
    status, out, _ = await heqis(live, "list", "--json")
    assert status == 0
    model: dict[str, Any] = json.loads(out)["serving"]["models"]["tiny"]
    return model


@pytest.mark.slow
def test_swap_shadow_and_list_tell_what_serves(tmp_path: Path) -> None:
    old, new = trade_bundle(tmp_path / "old"), trade_bundle(tmp_path / "new", version="2")

    async def scene(live: Session) -> None:
        await live.send(200)
        assert (await listed(live))["bundle"] == old.identity
        status, out, _ = await heqis(live, "swap", "tiny", new.path)
        assert status == 0
        assert f"{new.identity} serves; it was {old.identity}" in out
        assert (await listed(live))["bundle"] == new.identity
        status, out, _ = await heqis(live, "shadow", "tiny", old.path)
        assert (status, old.identity in out) == (0, True)
        await live.send(200)
        assert (await listed(live))["shadow"]["bundle"] == old.identity
        status, out, _ = await heqis(live, "list")
        assert (status, "serves" in out, "inference on cpu" in out) == (0, True, True)
        status, out, _ = await heqis(live, "shadow", "tiny")
        assert (status, "compared" in out) == (0, True)
        assert (await listed(live))["shadow"] is None

    run_session(model_tree(tmp_path, old.path), scene, crowded=True)


@pytest.mark.slow
def test_a_device_is_broken_and_mended(tmp_path: Path) -> None:
    bundle = trade_bundle(tmp_path / "b")

    async def scene(live: Session) -> None:
        status, out, _ = await heqis(live, "fault", "cpu", "raise")
        assert (status, out) == (0, "cpu: fails on purpose (raise)\n")
        await live.send_until(lambda: live.serves == "onnxruntime@cpu:1")
        assert "broken on purpose" in (await heqis(live, "list"))[1]
        assert (await heqis(live, "fault", "cpu"))[:2] == (0, "cpu: mended\n")
        await wait_until(lambda: live.serves == "onnxruntime@cpu")

    placement = ["onnxruntime@cpu", "cpu:1"]  # no other library is to mend it
    run_session(model_tree(tmp_path, bundle.path, placement=placement), scene, crowded=True)


@pytest.mark.slow
def test_what_cannot_be_done_is_told_and_changes_nothing(tmp_path: Path) -> None:
    bundle = trade_bundle(tmp_path / "b")
    other = trade_bundle(tmp_path / "other", name="other")
    (other.path / "model.onnx").write_bytes(b"not a model")

    async def scene(live: Session) -> None:
        for arguments, told in (
            (("swap", "tiny", tmp_path / "gone"), "there is no such directory"),
            (("swap", "tiny", other.path), "model.onnx"),
            (("swap", "none", bundle.path), "models are: tiny"),
            (("fault", "gpu", "raise"), "devices in use are: "),
            (("fault", "cpu", "burn"), "faults are: raise, hang, late, nan"),
        ):
            status, out, err = await heqis(live, *arguments)
            assert (status, out) == (2, ""), arguments
            assert told in err, arguments
        assert (await listed(live))["swaps"] == 0

    run_session(model_tree(tmp_path, bundle.path), scene, crowded=True)


def test_without_an_engine_it_says_where_none_answers() -> None:
    async def ask() -> tuple[int | None, str]:
        command = [sys.executable, "-m", "engine.cli", "model", "list", "--url"]
        process = await asyncio.create_subprocess_exec(
            *command, "ws://127.0.0.1:1", stdout=PIPE, stderr=PIPE
        )
        _, err = await process.communicate()
        return process.returncode, err.decode()

    status, err = asyncio.run(ask())
    assert status == 2
    assert "ws://127.0.0.1:1: no engine answers there" in err
