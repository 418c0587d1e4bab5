"""Feature rows of a span of a simulated market, made by the kernel that makes them live."""

import hashlib
from collections.abc import Iterator
from typing import Final

import numpy as np

from engine.core.records import Ticks
from feeds.cleaning import Cleaner
from feeds.simulator.source import Simulator, parse_start_ns
from models.demo_tcn.outcomes import Examples, Rows, choose
from models.demo_tcn.recipe import CLOCK, FEATURES, INTERVAL_NS, NS, WINDOW, Span, market
from strategies.bar_spec import BarKind, BarSpec
from strategies.feature_matrix import feature_matrix
from strategies.model_spec import ModelWindow, read_columns
from strategies.registry import load_registry

_BARS: Final = (BarSpec(CLOCK, BarKind.TIME, interval_ns=INTERVAL_NS),)


def load_examples(span: Span) -> Examples:
    """Simulate a span and return its rows with what followed them; same span, same bytes."""
    simulator = Simulator(market(span))
    registry = load_registry()
    columns = read_columns(FEATURES, registry, "features of the recipe")
    model = ModelWindow("demo", CLOCK, columns, WINDOW)
    ticks = ticks_of(simulator, span)
    made = feature_matrix(ticks, model, _BARS, registry, simulator.instruments)
    order = np.argsort(made.instrument, kind="stable")
    rows = Rows(
        ts_ns=made.ts_event[order],
        instrument=made.instrument[order],
        features=np.ascontiguousarray(made.rows[order]),
        mid=made.mid[order],
        run=made.run[order],
    )
    return choose(rows)


def ticks_of(simulator: Simulator, span: Span) -> Iterator[Ticks]:
    """Yield a span's ticks, cleaned as a gateway would; the arrays are reused."""
    config = market(span)
    first_ns = parse_start_ns(config.start) + span.start_s * NS
    cleaner = Cleaner(config.instruments)
    for batch in simulator.batches():
        if batch["ts_event"][-1] < first_ns:
            continue
        inside = batch[np.searchsorted(batch["ts_event"], first_ns) :]
        yield inside[: cleaner.clean(inside)]


def digest_of(examples: Examples) -> str:
    """Return the SHA-256 over rows, times and classes, in hexadecimal."""
    digest = hashlib.sha256()
    rows = examples.rows
    for part in (rows.ts_ns, rows.instrument, rows.features, examples.classes, examples.ends):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
