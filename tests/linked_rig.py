"""Two real processes whose link goes through what does harm, and the proof that nothing is lost."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from link_mangler import TcpProxy
from process_rig import Rig, eventually
from websockets.sync.client import connect

from feeds.log_index import COUNT, EPOCH, FIRST_SEQ, numbered_frames
from feeds.log_reader import LogReader


class Linked(Rig):
    """Processes whose link goes through what does harm.

    Attributes:
        data: In the way of the frames.
        control: In the way of the control channel.
    """

    def __init__(self, directory: Path, config: str) -> None:
        super().__init__(directory, config)
        self.environ["HEQIS__ENGINE__RECORD"] = str(directory / "recordings")
        self.environ["HEQIS__ENGINE__STATUS_INTERVAL"] = "100ms"
        self.data = TcpProxy(self.environ["HEQIS__LINK__DATA"])
        self.control = TcpProxy(self.environ["HEQIS__GATEWAY__CONTROL"])
        self.environ["HEQIS__GATEWAY__OUTPUTS"] = f'["{self.data.endpoint}"]'
        self.environ["HEQIS__LINK__CONTROL"] = self.control.endpoint
        self.engine: psutil.Popen
        self.gateway: psutil.Popen

    def begin(self) -> None:
        """Start both, and wait until signals come."""
        self.engine = self.start("engine")
        self.gateway = self.start("gateway")
        self.until_live()

    def status(self) -> dict[str, Any]:
        """Return the engine's status of this moment; it must be running."""
        ended = self.engine.poll()
        assert ended is None, f"the engine ended with {ended}: {self.log('engine')[-3_000:]}"
        with connect(self.url) as client:
            client.send(json.dumps({"type": "subscribe", "topics": ["status"]}))
            while True:
                message = json.loads(client.recv(timeout=10))
                if message["type"] == "status":
                    found: dict[str, Any] = message["status"]
                    return found

    def spooled(self) -> dict[int, int]:
        """Return one past the last number of every epoch in the spool."""
        ends = {}
        for log in sorted((self.directory / "spool").iterdir()):
            frames = numbered_frames(LogReader(log).frames)
            if len(frames):
                epoch = int(log.stem.rpartition("-")[2])
                ends[epoch] = int((frames[:, FIRST_SEQ] + frames[:, COUNT]).max())
        return ends

    def taken(self) -> dict[int, npt.NDArray[np.int64]]:
        """Return the numbers the engine took, in the order it took them, by epoch."""
        found: dict[int, list[npt.NDArray[np.int64]]] = {}
        for log in sorted((self.directory / "recordings").iterdir()):
            frames = numbered_frames(LogReader(log).frames)
            for epoch in dict.fromkeys(frames[:, EPOCH].tolist()):
                rows = frames[frames[:, EPOCH] == epoch]
                parts = [np.arange(f, f + n) for f, n in rows[:, [FIRST_SEQ, COUNT]].tolist()]
                found.setdefault(epoch, []).append(np.concatenate(parts))
        return {epoch: np.concatenate(parts) for epoch, parts in found.items()}

    def end_well(self) -> None:
        """Stop the gateway, wait until the engine has all of it, stop the engine.

        What a gateway could not send before it stopped, its next one would: so it goes on until
        the engine has got over all that was done to the link.
        """
        if self.gateway.poll() is None:
            for _ in range(2):  # what is spooled in the second comes over the link as it is then
                self._until_taken(self.spooled())
            self.end(self.gateway)
        self._until_taken(self.spooled())
        self.end(self.engine)

    def _until_taken(self, ends: dict[int, int]) -> None:
        """Wait until the engine has the newest epoch up to its end."""
        newest = max(ends)

        def has_all() -> bool:
            taken = self.taken().get(newest)
            return taken is not None and taken.max() + 1 >= ends[newest]

        eventually(has_all, "the engine has taken everything", 30, every_s=0.3)

    def assert_nothing_lost(self) -> None:
        """Everything spooled was taken, in order, and nothing was signalled twice."""
        ends, taken = self.spooled(), self.taken()
        for epoch, end in ends.items():
            first_new = dict.fromkeys(taken[epoch].tolist())
            numbers = list(first_new)
            begin = numbers[0] if epoch == min(ends) else 1
            assert numbers == list(range(begin, end)), f"epoch {epoch}"
        assert self.doubled_signals() == 0
        assert all(gap["missing"] == 0 for gap in self.events("gap"))

    def doubled_signals(self) -> int:
        ids = [row[0] for row in self.rows("SELECT id FROM signals")]
        return len(ids) - len(set(ids))


@contextmanager
def linked(directory: Path, config: str) -> Iterator[Linked]:
    with ExitStack() as stack:
        rig = stack.enter_context(Linked(directory, config))
        stack.enter_context(rig.data)
        stack.enter_context(rig.control)
        yield rig
