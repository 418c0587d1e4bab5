"""Carries out the steps against a silent engine, one at a time, and journals each of them."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from engine.core.errors import DeviceError
from feeds.power_config import PowerConfig
from feeds.power_ladder import PowerLadder, PowerRule, PowerStep
from feeds.power_line import PowerLine, open_line

NS_PER_S: Final = 1e9
_SAID_CHARACTERS: Final = 400

Tell = Callable[[str, Mapping[str, Any]], None]
Settle = Callable[[], Awaitable[object]]


class PowerControl:
    """Owned by the gateway; lives on its loop.

    Args:
        config: Line, command and waits.
        ask: Asks the engine to begin anew; returns how many peers were asked.
        tell: Takes every step, for the gateway's event log.
        settle: Waits, and not for long, until what was told is on disk.
        now_ns: When the gateway began, monotonic.
        line: The line; the configured one if None.

    Raises:
        ConfigError: the line cannot be had.
    """

    def __init__(
        self,
        config: PowerConfig,
        *,
        ask: Callable[[], int],
        tell: Tell,
        now_ns: int,
        settle: Settle | None = None,
        line: PowerLine | None = None,
    ) -> None:
        self._config = config
        self._ask = ask
        self._tell = tell
        self._settle = settle
        self._line = open_line(config) if line is None else line
        self._work: asyncio.Task[None] | None = None
        self.ladder = PowerLadder(
            PowerRule(
                silent_ns=config.silent,
                ask_wait_ns=config.ask_wait,
                command_wait_ns=config.command_wait,
                boot_ns=config.boot,
                most_cycles=config.max_cycles,
                window_ns=config.window,
            ),
            now_ns,
        )

    def look(self, now_ns: int, *, alive: bool, parted: bool) -> None:
        """Take in how the engine is; begin the step that is due, if none is under way."""
        if self._work is not None and not self._work.done():
            return
        decision = self.ladder.look(now_ns, alive=alive, parted=parted)
        fields = {"silent_ns": decision.silent_ns, "dry_run": self._config.dry_run}
        if decision.event:
            self._tell(f"power_{decision.event}", fields)
        if decision.step is not None:
            self._tell("power_step", {"step": decision.step.value, **fields})
            self._work = asyncio.create_task(self._carry_out(decision.step))

    def status(self) -> dict[str, Any]:
        """Return the steps taken so far."""
        last = self.ladder.last
        return {
            "dry_run": self._config.dry_run,
            "steps": {step.value: count for step, count in self.ladder.steps.items()},
            "last": last.value if last is not None else None,
        }

    async def close(self) -> None:
        """End a step that is under way, never with the power off, and give the line back."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self._line.close()

    async def _carry_out(self, step: PowerStep) -> None:
        if self._settle is not None:
            await self._settle()  # it may be this machine's end
        began = time.monotonic_ns()
        act = {
            PowerStep.ASK: self._ask_engine,
            PowerStep.COMMAND: self._run_command,
            PowerStep.CYCLE: self._cycle,
        }[step]
        result = await act()
        took_ns = time.monotonic_ns() - began
        self._tell("power_step_done", {"step": step.value, "took_ns": took_ns, **result})

    async def _ask_engine(self) -> dict[str, Any]:
        return {"would_ask": True} if self._config.dry_run else {"asked": self._ask()}

    async def _run_command(self) -> dict[str, Any]:
        command = self._config.command
        if self._config.dry_run:
            return {"would_run": command}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            return {"command": command, "problem": error.strerror}
        try:
            async with asyncio.timeout(self._config.command_wait / NS_PER_S):
                said, _ = await process.communicate()
        except TimeoutError:
            return {"command": command, "problem": "it did not end in time"}
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        text = said.decode(errors="replace")[-_SAID_CHARACTERS:]
        return {"command": command, "status": process.returncode, "said": text}

    async def _cycle(self) -> dict[str, Any]:
        where = {"chip": self._config.chip, "line": self._config.line}
        try:
            self._line.assert_line(True)
            try:
                await asyncio.sleep(self._config.off_time / NS_PER_S)
            finally:
                self._line.assert_line(False)
        except DeviceError as error:
            return {**where, "problem": str(error)}
        return where
