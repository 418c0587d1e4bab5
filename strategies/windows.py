"""Compiled pieces of the kernel about feature windows: rings of rows, and their gathering.

Of each model and instrument the last ``window + SLACK`` rows are kept, float32. Rows are numbered
without end, from 1, and row n stands at place ``(n - 1) % length`` of its ring. A window is named
by the number of its newest row: nothing is copied when it is asked for, and as long as at most
``SLACK`` rows were pushed since, it is still whole. Where samples were lost, a feature was not
ready or not finite, a number is left out, and no window reaches across.
"""

from typing import Any, Final

import numpy as np
from numba import njit

SLACK: Final = 256
"""Rows that may be pushed between the asking for a window and its gathering."""
MAX_PUSHES: Final = 2
"""Most rows that one record can push for one instrument: a recorded bar may end one and fill
another."""
RUN_RECORDS: Final = SLACK // MAX_PUSHES
"""Most records of one run, so that what was asked for in a run is there at its end."""

WINDOW_STATE: Final = np.dtype([("pushed", "i8"), ("since", "i8")], align=True)
"""``pushed``: the number of the newest row; ``since``: that of the last one left out."""

WINDOW_PARAMS: Final = np.dtype(
    [("window", "i8"), ("length", "i8"), ("features", "i8"), ("base", "i8")], align=True
)
"""Rows of a window, rows of a ring, columns, and where the first instrument's ring begins."""


@njit(error_model="numpy", forceinline=True)
def push_row_nb(w: Any, q: Any, i: Any) -> Any:
    """Number a new row of an instrument; return where its first column stands."""
    place = w["pushed"] % q["length"]
    w["pushed"] += 1
    return q["base"] + (i * q["length"] + place) * q["features"]


@njit(error_model="numpy", forceinline=True)
def break_window_nb(w: Any) -> None:
    """Leave out a number, so that no window reaches from before it to after it."""
    if w["pushed"] != w["since"]:
        w["pushed"] += 1
        w["since"] = w["pushed"]


@njit(error_model="numpy", forceinline=True)
def keep_number_nb(w: Any, pushed: Any, since: Any) -> None:
    """Go on numbering after an instrument was made pristine, with a number left out."""
    w["pushed"] = pushed
    w["since"] = since
    if pushed != since:
        w["pushed"] = pushed + 1
        w["since"] = pushed + 1


@njit(error_model="numpy", forceinline=True)
def due_nb(p: Any, w: Any, q: Any) -> Any:
    """Say whether a whole window is to be asked about: the first one and every n-th from there."""
    beyond = w["pushed"] - w["since"] - q["window"]
    return beyond >= 0 and beyond % p["every"] == 0


@njit(error_model="numpy", forceinline=True)
def ask_model_nb(c: Any, w: Any, q: Any, model: Any) -> None:
    """Let a candidate wait for a model's score of the newest window; 0 if there is no whole one."""
    whole = w["pushed"] - w["since"] >= q["window"]
    c["window"] = w["pushed"] if whole else 0
    c["model"] = model


@njit(error_model="numpy", cache=True, nogil=True)
def gather_nb(
    rows: Any,
    states: Any,
    base: Any,
    norm: Any,
    stated: Any,
    instruments: Any,
    windows: Any,
    out: Any,
    ok: Any,
) -> Any:
    """Copy windows that are still whole, side by side; O(N W F).

    Args:
        rows: All rings, float32, shape (R,).
        states: WINDOW_STATE of the model, shape (I,).
        base: Where the first instrument's ring begins.
        norm: Mean and scale of each column, float32, shape (2, F).
        stated: Whether to give (x - mean) * scale instead of x.
        instruments: int64, shape (N,).
        windows: Numbers of the newest rows, int64, shape (N,).
        out: float32, shape (B, W, F), B at least N.
        ok: uint8, shape (N,): 1 where the window was whole; where not, zeros are given.

    Returns:
        How many were whole.
    """
    window, features = out.shape[1], out.shape[2]
    length = window + SLACK
    found = 0
    for j in range(instruments.shape[0]):
        i, newest = instruments[j], windows[j]
        ok[j] = 0
        if i >= 0 and i < states.shape[0]:
            pushed = states[i]["pushed"]
            if newest >= window and newest <= pushed and pushed - newest <= SLACK:
                ok[j] = 1
        if ok[j] == 0:
            out[j] = 0.0
            continue
        found += 1
        first = base + i * length * features
        place = (newest - window) % length
        most = min(window, length - place)
        start, size = first + place * features, most * features
        target = out[j].reshape(window * features)
        target[:size] = rows[start : start + size]
        target[size:] = rows[first : first + (window - most) * features]
        if stated:
            for k in range(window):
                for f in range(features):
                    out[j, k, f] = (out[j, k, f] - norm[0, f]) * norm[1, f]
    return found
