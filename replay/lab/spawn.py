"""The lab's own child processes: told and heard by one JSON line each way, always ended."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from engine.core.errors import CheckFailedError, UserError
from engine.exit_status import ExitStatus
from latency.steady import BASE_NS
from replay.lab.talk import BASE_VARIABLE

STOP_S: Final = 5.0
_LINE_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 2_000


class Worker:
    """One process of ours that reads JSON lines on stdin and writes them on stdout.

    Args:
        name: What people call it.
        process: The process, its pipes open.
        log: Where its stderr goes.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    async def tell(self, message: dict[str, Any]) -> None:
        """Send it a message.

        Raises:
            CheckFailedError: it has ended.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(orjson.dumps(message) + b"\n")
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._death() from None

    async def hear(self, kind: str, within_s: float) -> dict[str, Any]:
        """Return its next message, which must be of a kind.

        Raises:
            UserError: it ended because of something the user can mend.
            CheckFailedError: it ended otherwise, or said nothing in time.
        """
        stdout = self._process.stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(within_s):
                line = await stdout.readline()
        except TimeoutError:
            text = f"the {self.name} did not say {kind!r} within {within_s:.0f} s"
            raise CheckFailedError(text) from None
        if not line:
            raise await self._death()
        message: dict[str, Any] = orjson.loads(line)
        if message.get("kind") != kind:
            raise CheckFailedError(f"the {self.name} said {message!r}, not {kind!r}")
        return message

    async def end(self) -> None:
        """Ask it to stop and wait; kill it if it does not."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _death(self) -> CheckFailedError | UserError:
        status = await self._process.wait()
        said = self._log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        text = f"the {self.name} ended ({status}): {said}"
        return UserError(text) if status == ExitStatus.USER else CheckFailedError(text)


@contextlib.asynccontextmanager
async def spawned(
    name: str, module: str, log: Path, options: Sequence[str] = ()
) -> AsyncIterator[Worker]:
    """Run ``python -m MODULE`` as a worker for as long as the context lasts."""
    environ = {**os.environ, BASE_VARIABLE: str(BASE_NS)}
    with log.open("ab") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *options,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=err,
            limit=_LINE_BYTES, start_new_session=True, env=environ,
        )  # fmt: skip
    worker = Worker(name, process, log)
    try:
        yield worker
    finally:
        await worker.end()
