"""Children are started, watched and stopped, whatever they do."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from engine.core.errors import CheckFailedError, UserError
from engine.supervise import PARENT_VARIABLE, Child, Supervisor, follow_supervisor

OBEDIENT = "import signal, time; print('up', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(60)"
)


def make_child(directory: Path, program: str, name: str = "child", **options: object) -> Child:
    log = directory / "logs" / f"{name}.log"
    return Child(name, [sys.executable, "-c", program], log, 5.0, **options)  # type: ignore[arg-type]  # may_end


async def until_up(child: Child) -> None:
    async with asyncio.timeout(20):
        while "up" not in child.tail():  # noqa: ASYNC110 - a file tells nobody that it grew
            await asyncio.sleep(0.01)


def test_an_obedient_child_stops_in_time(tmp_path: Path) -> None:
    async def run() -> None:
        child = make_child(tmp_path, OBEDIENT)
        await child.start()
        await until_up(child)
        assert child.running
        assert await child.stop()
        assert not child.running
        assert await child.stop(), "stopping again is nothing"

    asyncio.run(run())


def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    async def run() -> None:
        child = make_child(tmp_path, STUBBORN)
        child.stop_timeout_s = 0.1
        await child.start()
        await until_up(child)
        assert not await child.stop()
        assert child.process is not None
        assert child.process.returncode == -signal.SIGKILL

    asyncio.run(run())


def test_children_stop_in_their_order(tmp_path: Path) -> None:
    async def run() -> None:
        program = (
            "import signal, sys, time\n"
            "def end(*_):\n"
            f"    open({str(tmp_path / 'order')!r}, 'a').write('NAME ')\n"
            "    sys.exit()\n"
            "signal.signal(signal.SIGTERM, end)\n"
            "print('up', flush=True); time.sleep(60)"
        )
        names = ("first", "second", "third")
        children = [make_child(tmp_path, program.replace("NAME", n), n) for n in names]
        async with Supervisor(children).running():
            for child in children:
                await until_up(child)

    asyncio.run(run())
    assert (tmp_path / "order").read_text() == "first second third "


@pytest.mark.parametrize(
    ("status", "kind"), [(0, CheckFailedError), (1, CheckFailedError), (2, UserError)]
)
def test_a_death_is_told_with_status_and_last_words(
    tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    program = f"import sys; print('some' + chr(10) + 'last words'); sys.exit({status})"

    async def run() -> None:
        child = make_child(tmp_path, program, "engine")
        async with Supervisor([child]).running() as supervisor:
            with pytest.raises(kind, match=rf"engine ended \({status}\)(?s:.*)last words"):
                await supervisor.watch()

    asyncio.run(run())


def test_a_child_that_may_end_ends_well_only_with_status_0(tmp_path: Path) -> None:
    async def run(status: int) -> str:
        child = make_child(tmp_path, f"import sys; sys.exit({status})", may_end=True)
        async with Supervisor([child]).running() as supervisor:
            return (await supervisor.watch()).name

    assert asyncio.run(run(0)) == "child"
    with pytest.raises(CheckFailedError):
        asyncio.run(run(1))


def test_only_the_end_of_a_long_log_is_shown_and_the_log_before_is_kept(tmp_path: Path) -> None:
    async def run() -> Child:
        child = make_child(tmp_path, "for n in range(100_000): print('line', n)")
        await child.start()
        assert child.process is not None
        await child.process.wait()
        return child

    asyncio.run(run())
    child = asyncio.run(run())
    assert child.tail().splitlines() == [f"line {n}" for n in range(99_988, 100_000)]
    assert {file.name for file in child.log.parent.iterdir()} == {"child.log", "child.log.1"}


def test_logs_that_cannot_be_written_are_the_users_matter(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    with pytest.raises(UserError, match="cannot be written"):
        asyncio.run(make_child(tmp_path, OBEDIENT).start())


def test_who_has_no_supervisor_goes_on_and_who_lost_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    assert follow_supervisor()
    program = (
        "import os; from engine.supervise import follow_supervisor;"
        f"os.environ[{PARENT_VARIABLE!r}] = '1';"
        "print(follow_supervisor(), os.environ.get('HEQIS_SUPERVISOR'))"
    )

    async def run() -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0]

    assert asyncio.run(run()).split() == [b"False", b"None"]
