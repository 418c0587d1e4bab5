"""Progress bars on stderr, and only where a person looks at it."""

import contextlib
import sys
from collections.abc import Callable, Iterator

_PARTS = 200


@contextlib.contextmanager
def record_progress(what: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """Give a function that takes how many records are done, or None without a terminal.

    Args:
        what: What is going on.
        total: Records in all.
    """
    if not sys.stderr.isatty() or total <= 0:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        step, shown = max(1, total // _PARTS), 0

        def advance(done: int) -> None:
            nonlocal shown
            if done - shown >= step or done >= total:
                shown = done
                progress.update(task, completed=done)

        yield advance
