"""A comparison's result as text for people. Pure."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from replay.analysis.diff_result import Difference, DiffReport

COUNTS: Final[dict[str, str]] = {
    "signals": "signals alike",
    "signals_late": "of them made late, after a restart",
    "refusals": "refusals alike",
    "refusals_not_journaled": "refusals here that the journal does not list one by one",
    "at_threshold": "decided in two ways by scores within the tolerance of a threshold",
    "unscored_live": "refused live for want of a score that proposes nothing here",
    "commanded": "refused live by an operator's command",
    "untold": "made while warming up, and never told",
    "gaps": "gaps that live had too",
    "before_the_recording": "decisions before the recording begins",
    "after_the_live_end": "signals here after the last that is known of live",
    "after_the_recording": "decisions after the session, in later ones",
    "checkpoints": "checkpoints of the state alike",
    "sealed_bytes": "bytes of the recording as they were written",
}
"""What each count is of."""
_SHOWN: Final = 10


def report_lines(report: DiffReport) -> Iterator[str]:
    """Yield the lines of a report."""
    yield (
        f"{report.recording}: {report.records:,} records of {report.sessions} sessions, "
        f"compared with {report.journal}"
    )
    for name, text in COUNTS.items():
        if report.counts.get(name):
            yield f"{report.counts[name]:>12,} {text}"
    for note in report.notes:
        yield f"note: {note}"
    if report.first is None:
        yield "clean: the replay decides as live did"
        return
    causes = ", ".join(f"{count:,} {cause}" for cause, count in report.causes.items())
    yield f"{report.differences:,} differences: {causes}"
    yield ""
    yield from first_lines(report.first)
    if report.differences > 1:
        yield ""
        yield "then:"
        for one in report.listed[1 : 1 + _SHOWN]:
            yield f"  {place_of(one)}: {one.cause}: {one.why}"
        if report.differences > 1 + _SHOWN:
            yield f"  and {report.differences - 1 - _SHOWN:,} more (--json lists up to 200)"


def first_lines(one: Difference) -> Iterator[str]:
    """Yield what is to be said of the first difference."""
    yield f"the first, at {place_of(one)}"
    yield f"  cause    {one.cause}"
    yield f"  what     {one.why}"
    if one.id:
        yield f"  signal   {one.id} of {one.strategy} on {one.instrument}"
    for name, told in (("live", one.live), ("here", one.here)):
        if told:
            yield f"  {name}     {fields_text(told)}"
    for evidence in one.evidence:
        yield f"  because  {evidence}"


def place_of(one: Difference) -> str:
    """Return where a difference is."""
    tick = f" (tick {one.tick_epoch}/{one.tick_seq})" if one.tick_epoch else ""
    when = f", {moment(one.ts_event)}" if one.ts_event else ""
    return f"record {one.place:,}{tick}{when}"


def fields_text(fields: Mapping[str, Any]) -> str:
    """Return names and values on one line; numbers as they are."""
    return ", ".join(f"{name} {value_text(name, value)}" for name, value in fields.items())


def value_text(name: str, value: Any) -> str:
    """Return a value; times since 1970 as a date."""
    if isinstance(value, int) and (name.startswith("ts_") or name == "valid_until"):
        return moment(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)


def moment(ts_ns: int) -> str:
    """Return a wall time, ns, as UTC."""
    seconds, rest = divmod(ts_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}"
