"""Reads the frames that came again: where each lies, and whether all of them are good; pure."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from feeds.frame_check import index_nb
from feeds.log_index import COLUMNS, EPOCH, GATEWAY, LENGTH, OFFSET, frames_ok

_LEAST_FRAME_BYTES: Final = 72


class Frames(NamedTuple):
    """Frames lying one after the other, ready for ``BurstDecoder.decode``."""

    wire: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def read_frames(body: bytes, gateway: int, epoch: int) -> Frames | None:
    """Find the frames of an answer; None if anything is not a good frame of that epoch.

    Args:
        body: The frames, one after the other; may be none.
        gateway: Whose they are.
        epoch: Of this epoch.
    """
    wire = np.frombuffer(body, np.uint8)
    if wire.ctypes.data % 8:
        wire = wire.copy()
    words = wire[: len(wire) // 8 * 8].view(np.int64)
    words.flags.writeable = False
    rows = np.zeros((len(wire) // _LEAST_FRAME_BYTES + 1, COLUMNS), np.int64)
    count, end = index_nb(rows, words, 0)
    rows = rows[:count]
    whose = (rows[:, GATEWAY] == gateway) & (rows[:, EPOCH] == epoch)
    if end != len(wire) or not whose.all() or not frames_ok(wire, rows).all():
        return None
    return Frames(
        wire, np.ascontiguousarray(rows[:, OFFSET]), np.ascontiguousarray(rows[:, LENGTH])
    )


def good_frames(
    wire: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Say of each message whether it is a good frame, CRC included; shape (N,)."""
    rows = np.zeros((len(offsets), COLUMNS), np.int64)
    rows[:, OFFSET], rows[:, LENGTH] = offsets, lengths
    return frames_ok(wire, rows)
