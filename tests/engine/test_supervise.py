"""Children are started, watched and stopped, whatever they do."""

import asyncio
import itertools
import signal
import sys
from pathlib import Path

import pytest

from engine.child import PARENT_VARIABLE, Child, Watching
from engine.child_log import ChildLog
from engine.core.errors import CheckFailedError, UserError
from engine.restart_policy import RestartRule
from engine.supervise import Supervisor, follow_supervisor

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


MS = 1_000_000
QUICK = RestartRule(
    first_wait_ns=MS, longest_wait_ns=4 * MS, healthy_ns=10**15, most=3, window_ns=10**15
)
READY = (
    "import os, socket, sys, time\n"
    "manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "def say(text): manager.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])\n"
    "say('READY=1')\n"
)


def test_a_child_that_dies_is_started_again_until_it_is_too_often(tmp_path: Path) -> None:
    said: list[str] = []
    count = tmp_path / "count"
    program = f"open({str(count)!r}, 'a').write('x'); import sys; print('words'); sys.exit(1)"

    async def run() -> None:
        child = make_child(tmp_path, program, "engine")
        async with Supervisor([child], QUICK, said.append).running() as supervisor:
            with pytest.raises(CheckFailedError, match=r"engine ended \(1\)(?s:.*)words"):
                await supervisor.watch()
            assert supervisor.restarts == 3

    asyncio.run(run())
    assert count.read_text() == "xxxx"
    assert said == [
        f"engine ended (1); starting it again in {wait} s" for wait in ("0.00", "0.00", "0.00")
    ]


def test_the_others_run_on_while_one_is_started_again(tmp_path: Path) -> None:
    async def run() -> None:
        steady = make_child(tmp_path, OBEDIENT, "steady")
        dying = make_child(tmp_path, "import sys; sys.exit(7)", "dying")
        async with Supervisor([steady, dying], QUICK).running() as supervisor:
            await until_up(steady)
            assert steady.process is not None
            pid = steady.process.pid
            with pytest.raises(CheckFailedError, match=r"dying ended \(7\)"):
                await supervisor.watch()
            assert steady.running
            assert steady.process.pid == pid

    asyncio.run(run())


@pytest.mark.parametrize(("status", "kind"), [(2, UserError), (3, CheckFailedError)])
def test_a_refused_configuration_and_a_spent_budget_are_not_tried_again(
    tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    count = tmp_path / "count"
    program = f"open({str(count)!r}, 'a').write('x'); import sys; sys.exit({status})"

    async def run() -> None:
        async with Supervisor([make_child(tmp_path, program)], QUICK).running() as supervisor:
            with pytest.raises(kind):
                await supervisor.watch()

    asyncio.run(run())
    assert count.read_text() == "x"


def test_what_was_ready_once_is_tried_again_whatever_it_says(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = READY + f"open({str(count)!r}, 'a').write('x'); time.sleep(0.3); sys.exit(2)"

    async def run() -> None:
        child = make_child(tmp_path, program)
        async with Supervisor([child], QUICK).running() as supervisor:
            with pytest.raises(UserError):
                await supervisor.watch()

    asyncio.run(run())
    assert count.read_text() == "xxxx"


def test_a_child_without_signs_of_life_is_aborted_and_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    program = (
        "import faulthandler; faulthandler.enable()\n" + READY + "say('WATCHDOG=1')\n"
        "def hang(): time.sleep(60)\n"
        "hang()\n"
    )

    async def run() -> None:
        child = make_child(tmp_path, program, watching=Watching(800 * MS))
        async with Supervisor([child], QUICK, said.append).running() as supervisor:
            watching = asyncio.create_task(supervisor.watch())
            async with asyncio.timeout(20):
                while not said:  # noqa: ASYNC110 - the supervisor tells by a call
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(20):
                while not child.file.before.exists():  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(0.01)
            words = child.file.before.read_text()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert "in hang" in words

    asyncio.run(run())
    assert said[0].startswith("child gave no sign of life for ")
    assert "killed by signal 6" in said[0]


def test_a_child_that_feeds_in_time_is_left_alone(tmp_path: Path) -> None:
    said: list[str] = []
    program = READY + "while True: say('WATCHDOG=1'); time.sleep(0.05)"

    async def run() -> None:
        child = make_child(tmp_path, program, watching=Watching(600 * MS))
        async with Supervisor([child], QUICK, said.append).running() as supervisor:
            watching = asyncio.create_task(supervisor.watch())
            async with asyncio.timeout(20):
                while not supervisor.ready:  # noqa: ASYNC110 - it is looked at, not told
                    await asyncio.sleep(0.01)
            await asyncio.sleep(1.5)
            assert child.running
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(run())
    assert said == []


def test_a_child_that_never_becomes_ready_is_ended_in_its_time(tmp_path: Path) -> None:
    async def run() -> None:
        child = make_child(tmp_path, OBEDIENT, watching=Watching(400 * MS, 300 * MS))
        async with Supervisor([child]).running() as supervisor:
            with pytest.raises(CheckFailedError, match="was not ready after 0 s and was killed"):
                await supervisor.watch()

    asyncio.run(run())


def test_a_child_that_asks_for_patience_with_its_start_gets_it(tmp_path: Path) -> None:
    async def run() -> None:
        patience = "say('EXTEND_TIMEOUT_USEC=60000000')\ntime.sleep(2.0)\n"
        program = READY.replace("say('READY=1')\n", patience + "say('READY=1')\n")
        watching = Watching(2_000 * MS, 1_000 * MS)
        child = make_child(tmp_path, program, may_end=True, watching=watching)
        async with Supervisor([child]).running() as supervisor:
            assert await supervisor.watch() is child
            assert child.overdue == ""

    asyncio.run(run())


def test_one_that_is_stopping_owes_nothing_any_more(tmp_path: Path) -> None:
    async def run() -> None:
        program = READY + "say('STOPPING=1'); time.sleep(1.5)"
        child = make_child(tmp_path, program, may_end=True, watching=Watching(200 * MS))
        async with Supervisor([child]).running() as supervisor:
            assert await supervisor.watch() is child
            assert child.overdue == ""

    asyncio.run(run())


def test_a_log_is_bounded_while_the_child_writes_it_and_keeps_its_order(tmp_path: Path) -> None:
    program = "import itertools, sys\nfor n in range(60_000): print('line', n, flush=True)"

    async def run() -> Child:
        child = make_child(tmp_path, program, log_bytes=100_000)
        await child.start()
        assert child.process is not None
        while child.running:
            child.file.bound()
            await asyncio.sleep(0.001)
        child.file.bound()
        return child

    child = asyncio.run(run())
    assert child.file.rotations > 1
    assert child.log.stat().st_size < 400_000
    assert child.tail().splitlines()[-1] == "line 59999"
    before = child.file.before.read_text()
    before = before[: before.rindex("\n")]  # the copy may hold a part of the line being written
    kept = [
        int(line.split()[1])
        for line in (before + "\n" + child.log.read_text()).splitlines()
        if line.startswith("line ")
    ]
    assert len(kept) > 1_000
    assert all(a < b for a, b in itertools.pairwise(kept)), "in order, and nothing twice"


def test_a_log_whose_copy_finds_no_room_is_cut_all_the_same(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "child.log", 100)
    with log.open() as file:
        file.write(b"x" * 1000)
        file.flush()
        log.before.symlink_to("/dev/full")
        assert log.bound()
        assert (log.failures, log.rotations) == (1, 1)
        file.write(b"more\n")
        file.flush()
        assert log.path.read_bytes() == b"more\n", "the child goes on at the beginning"
        assert not log.bound()


def test_a_supervisor_leaves_no_sockets_behind(tmp_path: Path) -> None:
    places: list[Path] = []

    async def run() -> None:
        async with Supervisor([make_child(tmp_path, OBEDIENT)]).running() as supervisor:
            listener = supervisor.children[0].listener
            assert listener is not None
            places.append(listener.path.parent)
            assert listener.path.is_socket()
            assert listener.path.parent.stat().st_mode & 0o077 == 0, "nobody else may speak"

    asyncio.run(run())
    assert not places[0].exists()
