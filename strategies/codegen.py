"""Writes the fused kernel's Python source from a plan.

Pure text. The generated module has two entry points of one signature, ``on_ticks`` and
``on_bars``: they walk records ``start`` to ``stop`` and return where they stopped. That is before
``stop`` when the candidate or bar buffer could overflow, and after a record that made a bar leave
the kernel, that was a gap or, with the parameter ``pause``, that made a candidate: the caller then
finds the state as that record left it. The order within one tick is fixed: time bars that end
before it, the tick's own clocks, then the bars it fills; within a clock first the indicators, then
the rules in the order of the configuration.
"""

from collections.abc import Callable
from typing import Any, Final

from engine.core.records import TickKind
from strategies import bars as bar_kernels
from strategies import candidates as candidate_kernels
from strategies import sample as sample_kernels
from strategies.borrowed import borrowed
from strategies.plan import IndicatorInstance, KernelPlan, RuleInstance

Bindings = dict[str, Any]
"""Names that the generated source uses: compiled functions and constants."""

_ARGS: Final = "k, i, r, x, ring, p, enabled, out, rows, shut, values, tally"
_SIGNATURE: Final = (
    "records, start, stop, state, ring, params, facts, enabled, out, rows, shut, values, tally"
)

_BORROWED: Final = [
    name.strip() for name in _SIGNATURE.split(",") if name not in (" start", " stop")
]

BASE_BINDINGS: Final[Bindings] = {
    "borrowed": borrowed,
    "apply_tick": sample_kernels.apply_tick_nb,
    "apply_bar": sample_kernels.apply_bar_nb,
    "copy_sample": sample_kernels.copy_sample_nb,
    "bar_due": bar_kernels.bar_due_nb,
    "bar_close": bar_kernels.bar_close_nb,
    "bar_clear": bar_kernels.bar_clear_nb,
    "bar_add": bar_kernels.bar_add_nb,
    "clear_candidate": candidate_kernels.clear_candidate_nb,
    "fill_candidate": candidate_kernels.fill_candidate_nb,
    "reset_instrument": candidate_kernels.reset_instrument_nb,
}

TALLY_CANDIDATES: Final = 0
TALLY_SHUT: Final = 1
TALLY_RESETS: Final = 2
TALLY_UNKNOWN: Final = 3
TALLY_BARS: Final = 4
"""Where the counts lie; from ``TALLY_BARS`` on, one of closed bars a bar specification."""

_PAUSE: Final = [
    f'        if tally[{TALLY_SHUT}] > 0 or (p["pause"] != 0 and tally[{TALLY_CANDIDATES}] > 0):',
    "            return k + 1",
]


def bindings_of(plan: KernelPlan) -> Bindings:
    """Return what the generated source's names stand for."""
    bound: Bindings = dict(BASE_BINDINGS)
    for instance in plan.indicators:
        bound[f"{instance.field}_update"] = instance.spec.update
    for rule in plan.rules:
        bound[f"{rule.field}_decide"] = rule.spec.decide
    return bound


def generate(plan: KernelPlan) -> str:
    """Return the module's source; equal plans in structure give equal text."""
    parts = ["from numba import njit", "import numpy as np", ""]
    clocks = ["tick", "trade", "quote", *(f"b{index}" for index in range(len(plan.bars)))]
    used = {c: _clock_name(plan, c) for c in clocks}
    for clock, name in used.items():
        parts += _clock_function(plan, clock, name)
    parts += _time_bars_function(plan)
    parts += _fill_bars_function(plan)
    parts += _entry("on_ticks", _tick_body(plan))
    parts += _entry("on_bars", _bar_body(plan))
    return "\n".join(parts) + "\n"


def _clock_name(plan: KernelPlan, clock: str) -> str:
    return plan.bars[int(clock[1:])].name if clock[0] == "b" else clock


def _def(name: str, arguments: str) -> list[str]:
    return ['@njit(error_model="numpy", forceinline=True)', f"def {name}({arguments}):"]


def _runs(plan: KernelPlan, clock_name: str) -> bool:
    on_clock: Callable[[IndicatorInstance | RuleInstance], bool] = lambda it: it.clock == clock_name  # noqa: E731
    return any(map(on_clock, plan.indicators)) or any(map(on_clock, plan.rules))


def _clock_function(plan: KernelPlan, clock: str, name: str) -> list[str]:
    if not _runs(plan, name) and clock[0] != "b":
        return []
    lines = _def(f"run_{clock}", _ARGS)
    lines.append('    base = i * p["ring_width"]')
    for one in plan.indicators:
        if one.clock == name:
            f = one.field
            lines.append(f'    {f}_update(r["{f}"], p["{f}"], ring, base + p["{f}"]["ring"], x)')
    if clock[0] == "b":
        lines += _emit_lines(plan, clock, name)
    for index, rule in enumerate(plan.rules):
        if rule.clock == name:
            lines += _rule_lines(rule, index)
    return [*lines, ""]


def _emit_lines(plan: KernelPlan, clock: str, name: str) -> list[str]:
    lines = [
        f"    tally[{TALLY_BARS + int(clock[1:])}] += 1",
        f'    if p["{clock}"]["emit"] != 0:',
        f"        e = tally[{TALLY_SHUT}]",
        "        rows[e] = k",
        "        copy_sample(shut[e], x)",
    ]
    for column, (_, instance, output) in enumerate(plan.columns(name)):
        f = instance.field
        lines.append(
            f'        values[e, {column}] = r["{f}"]["{output}"] if r["{f}"]["ready"] else np.nan'
        )
    unused = range(len(plan.columns(name)), plan.width)
    lines += [f"        values[e, {column}] = np.nan" for column in unused]
    return [*lines, f"        tally[{TALLY_SHUT}] = e + 1"]


def _rule_lines(rule: RuleInstance, index: int) -> list[str]:
    f = rule.field
    ready = "".join(f' and r["{one.field}"]["ready"]' for one in rule.inputs)
    inputs = "".join(f', r["{one.field}"]' for one in rule.inputs)
    return [
        f"    if enabled[{index}, i]{ready}:",
        f"        c = out[tally[{TALLY_CANDIDATES}]]",
        "        clear_candidate(c)",
        f'        if {f}_decide(r["{f}"], p["{f}"], x, c{inputs}):',
        f'            fill_candidate(c, r["m"], x, k, i, {index})',
        f"            tally[{TALLY_CANDIDATES}] += 1",
    ]


def _time_bars_function(plan: KernelPlan) -> list[str]:
    lines = _def("end_time_bars", f"ts, ts_recv, {_ARGS}")
    for index in range(len(plan.bars)):
        b = f"b{index}"
        lines += [
            f'    if bar_due(r["{b}"], p["{b}"], ts):',
            f'        bar_close(r["{b}"], p["{b}"], r["m"], ts_recv)',
            f'        run_{b}({_ARGS.replace(" x,", f""" r["{b}"]["cur"],""", 1)})',
            f'        bar_clear(r["{b}"])',
        ]
    return [*lines, "    return", ""]


def _fill_bars_function(plan: KernelPlan) -> list[str]:
    lines = _def("fill_bars", f"offset, {_ARGS}")
    for index in range(len(plan.bars)):
        b = f"b{index}"
        lines += [
            f'    if bar_add(r["{b}"], p["{b}"], r["m"], x, offset):',
            f'        bar_close(r["{b}"], p["{b}"], r["m"], x["ts_recv"])',
            f'        run_{b}({_ARGS.replace(" x,", f""" r["{b}"]["cur"],""", 1)})',
            f'        bar_clear(r["{b}"])',
        ]
    return [*lines, "    return", ""]


def _entry(name: str, body: list[str]) -> list[str]:
    head = [
        '@njit(error_model="numpy", nogil=True, cache=CACHE)',
        f"def {name}({_SIGNATURE}):",
        *(f"    {name} = borrowed({name})" for name in _BORROWED),
        "    p = params[0]",
        '    instruments = p["instruments"]',
        "    capacity = out.shape[0]",
    ]
    return [*head, *body, ""]


def _guard(plan: KernelPlan, need: str) -> list[str]:
    rules = max(1, len(plan.rules))
    bars = max(1, len(plan.bars))
    return [
        f"        if tally[{TALLY_CANDIDATES}] + {need} * {rules} > capacity:",
        "            return k",
        f"        if tally[{TALLY_SHUT}] + {need} * {bars} > shut.shape[0]:",
        "            return k",
    ]


def _instrument() -> list[str]:
    return [
        '        i = t["instrument"]',
        "        if i >= instruments:",
        f"            tally[{TALLY_UNKNOWN}] += 1",
        "            continue",
        "        r = state[i]",
        '        x = r["x"]',
    ]


def _tick_body(plan: KernelPlan) -> list[str]:
    lines = [
        "    for k in range(start, stop):",
        "        t = records[k]",
        '        kind = t["kind"]',
        f"        if kind == {int(TickKind.HEARTBEAT)}:",
        *_indent(_guard(plan, "instruments")),
        "            for i in range(instruments):",
        "                r = state[i]",
        '                x = r["x"]',
        f'                end_time_bars(t["ts_event"], t["ts_recv"], {_ARGS})',
        *_indent(_PAUSE),
        "            continue",
        f"        if kind == {int(TickKind.GAP)}:",
        "            for i in range(instruments):",
        "                reset_instrument(state, ring, params, i)",
        f"            tally[{TALLY_RESETS}] += 1",
        "            return k + 1",
        *_guard(plan, "1"),
        *_instrument(),
        f'        end_time_bars(t["ts_event"], t["ts_recv"], {_ARGS})',
        '        if apply_tick(r["m"], x, t, facts[i]):',
    ]
    inner: list[str] = []
    for clock, condition in (
        ("tick", ""),
        ("trade", f"kind != {int(TickKind.QUOTE)} and x['trades'] > 0"),
        ("quote", f"kind != {int(TickKind.TRADE)}"),
    ):
        if _runs(plan, clock):
            inner += _call_clock(clock, condition)
    inner.append(f'        fill_bars(facts[i]["day_offset_ns"], {_ARGS})')
    return [*lines, *_indent(inner), *_PAUSE, "    return stop"]


def _bar_body(plan: KernelPlan) -> list[str]:
    lines = [
        "    for k in range(start, stop):",
        *_guard(plan, "1"),
        "        t = records[k]",
        *_instrument(),
        f'        end_time_bars(t["ts_open"], t["ts_recv"], {_ARGS})',
        '        apply_bar(r["m"], x, t, facts[i])',
    ]
    for clock in ("tick", "trade"):
        if _runs(plan, clock):
            lines += _call_clock(clock, "")
    lines.append(f'        fill_bars(facts[i]["day_offset_ns"], {_ARGS})')
    return [*lines, *_PAUSE, "    return stop"]


def _call_clock(clock: str, condition: str) -> list[str]:
    if not condition:
        return [f"        run_{clock}({_ARGS})"]
    return [f"        if {condition}:", f"            run_{clock}({_ARGS})"]


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
