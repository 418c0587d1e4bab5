"""Files of daily bars given in the place of logs: imported on the way, for as long as it takes."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from feeds.importers.reading import is_parquet
from feeds.importers.run import ImportKind, import_files
from replay.backtest.prepared import Prepared, Progress


class Logs(NamedTuple):
    """Logs to read.

    Attributes:
        paths: All of them.
        refused: Rows of bar files that were refused, by reason.
    """

    paths: list[Path]
    refused: dict[str, int]

    def load(self, progress: Progress | None = None) -> Prepared:
        """Read and decode all, see ``Prepared.load``; ``bad_input`` has the refused rows, too."""
        prepared = Prepared.load(self.paths, progress)
        return replace(prepared, bad_input={**self.refused, **prepared.bad_input})


@contextmanager
def as_logs(paths: Sequence[Path]) -> Iterator[Logs]:
    """Give logs as they are, and all Parquet files of daily bars together as one more.

    The log made of them is gone at the end.

    Args:
        paths: Logs, and Parquet files with Tushare's ``daily`` columns.

    Raises:
        InputFileError: a Parquet file that is damaged or lacks a column.
    """
    files = tuple(path for path in paths if path.is_file() and is_parquet(path))
    if not files:
        yield Logs(list(paths), {})
        return
    with tempfile.TemporaryDirectory(prefix="heqis-bars-") as folder:
        log = Path(folder) / "bars.hql"
        report = import_files(ImportKind.TUSHARE_DAILY, files, log)
        others = [path for path in paths if path not in files]
        refused = {f"row_{reason}": count for reason, count in report.refused.items() if count}
        yield Logs([*others, log], refused)
