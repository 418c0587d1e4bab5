"""Compiled pieces of the kernel about candidates and resets."""

import numpy as np
from numba import njit


@njit(error_model="numpy", forceinline=True)
def clear_candidate_nb(c):
    """Forget what an earlier proposal left in the buffer, so that a rule cannot hand it on."""
    c["side"] = 0
    c["strength"] = 0.0
    c["confidence"] = 0.0
    c["edge_bps"] = np.nan


@njit(error_model="numpy", forceinline=True)
def fill_candidate_nb(c, m, x, row, instrument, strategy):
    """Complete a candidate that a rule proposed with the facts the risk gate judges by."""
    c["row"] = row
    c["ts_event"] = x["ts_event"]
    c["ts_recv"] = x["ts_recv"]
    c["price"] = x["close"]
    c["bid"] = m["bid"]
    c["ask"] = m["ask"]
    c["bid_size"] = m["bid_size"]
    c["ask_size"] = m["ask_size"]
    c["pre_close"] = x["pre_close"]
    c["session_turnover"] = m["session_turnover"]
    c["ts_quote"] = m["ts_quote"]
    c["instrument"] = instrument
    c["strategy"] = strategy
    c["flags"] = m["flags"]
    c["session"] = m["session"]
    c["window"] = 0
    c["model"] = -1


@njit(error_model="numpy", forceinline=True)
def reset_instrument_nb(state, ring, params, instrument):
    """Make one instrument's state pristine: nothing is known, nothing is ready.

    The last row of ``state`` is the pristine one.
    """
    state[instrument] = state[state.shape[0] - 1]
    width = params[0]["ring_width"]
    ring[instrument * width : (instrument + 1) * width] = 0.0
