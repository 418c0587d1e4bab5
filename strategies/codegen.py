"""Writes the fused kernel's Python source from a plan.

Pure text. The generated module has two entry points of one signature, ``on_ticks`` and
``on_bars``: they walk records ``start`` to ``stop`` and return where they stopped. That is before
``stop`` when the candidate or bar buffer could overflow, and after a record that made a bar leave
the kernel, that was a gap or, with the parameter ``pause``, that made a candidate: the caller then
finds the state as that record left it. The order within one tick is fixed: time bars that end
before it, the tick's own clocks, then the bars it fills; within a clock first the indicators, then
the models' feature rows, then the rules in the order of the configuration. With models it also
returns after ``RUN_RECORDS`` records.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

from engine.core.records import TickKind
from strategies import bars as bar_kernels
from strategies import candidates as candidate_kernels
from strategies import sample as sample_kernels
from strategies.borrowed import borrowed
from strategies.codegen_models import (
    MODEL_BINDINGS,
    ask_line,
    push_lines,
    reset_lines,
    run_bound,
    score_condition,
)
from strategies.plan import IndicatorInstance, KernelPlan, ModelInstance, RuleInstance
from strategies.score_rule import SCORE

Bindings = dict[str, Any]
"""Names that the generated source uses: compiled functions and constants."""

_ARGS: Final = "k, i, r, x, ring, p, enabled, out, rows, shut, values, tally"
_SIGNATURE: Final = (
    "records, start, stop, state, ring, params, facts, enabled, out, rows, shut, values, tally"
)

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
"""Where the counts lie; from ``TALLY_BARS`` on, one of closed bars a bar specification, then one of
unusable feature rows a model."""

MAX_CLOSES: Final = 2
"""Most bars of one kind that one recorded bar closes: the one that ends before it, and the one that
it fills."""

_PAUSE: Final = [
    f'        if tally[{TALLY_SHUT}] > 0 or (p["pause"] != 0 and tally[{TALLY_CANDIDATES}] > 0):',
    "            return k + 1",
]


def tally_broken(plan: KernelPlan) -> int:
    """Return where the count of the first model's unusable rows lies."""
    return TALLY_BARS + max(1, len(plan.bars))


def bindings_of(plan: KernelPlan) -> Bindings:
    """Return what the generated source's names stand for."""
    bound: Bindings = {**BASE_BINDINGS, **(MODEL_BINDINGS if plan.models else {})}
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
    parts += _entry(plan, "on_ticks", _tick_body(plan))
    parts += _entry(plan, "on_bars", _bar_body(plan))
    return "\n".join(parts) + "\n"


def _args(plan: KernelPlan) -> str:
    return f"{_ARGS}, windows" if plan.models else _ARGS


def _args_of_bar(plan: KernelPlan, b: str) -> str:
    return _args(plan).replace(" x,", f' r["{b}"]["cur"],', 1)


def _signature(plan: KernelPlan) -> str:
    return f"{_SIGNATURE}, windows" if plan.models else _SIGNATURE


def _clock_name(plan: KernelPlan, clock: str) -> str:
    return plan.bars[int(clock[1:])].name if clock[0] == "b" else clock


def _def(name: str, arguments: str) -> list[str]:
    return ['@njit(error_model="numpy", forceinline=True)', f"def {name}({arguments}):"]


def _runs(plan: KernelPlan, clock_name: str) -> bool:
    parts: Iterable[IndicatorInstance | ModelInstance | RuleInstance] = chain(
        plan.indicators, plan.models, plan.rules
    )
    return any(one.clock == clock_name for one in parts)


def _clock_function(plan: KernelPlan, clock: str, name: str) -> list[str]:
    if not _runs(plan, name) and clock[0] != "b":
        return []
    lines = _def(f"run_{clock}", _args(plan))
    lines.append('    base = i * p["ring_width"]')
    for one in plan.indicators:
        if one.clock == name:
            f = one.field
            lines.append(f'    {f}_update(r["{f}"], p["{f}"], ring, base + p["{f}"]["ring"], x)')
    if clock[0] == "b":
        lines += _emit_lines(plan, clock, name)
    lines += push_lines(plan, name, tally_broken(plan))
    for index, rule in enumerate(plan.rules):
        if rule.clock == name:
            model = plan.models[rule.model] if rule.model >= 0 else None
            lines += _rule_lines(rule, index, model)
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


def _rule_lines(rule: RuleInstance, index: int, model: ModelInstance | None) -> list[str]:
    f = rule.field
    inputs = "".join(f', r["{one.field}"]' for one in rule.inputs)
    ready = "".join(f' and r["{one.field}"]["ready"]' for one in rule.inputs)
    fill = f'fill_candidate(c, r["m"], x, k, i, {index})'
    count = f"tally[{TALLY_CANDIDATES}] += 1"
    ask = [ask_line(rule, model)] if model else []
    clear = [f"        c = out[tally[{TALLY_CANDIDATES}]]", "        clear_candidate(c)"]
    if rule.spec is SCORE and model:
        condition = score_condition(rule, model)
        made = [f"        {line}" for line in (fill, *ask, count)]
        return [f"    if enabled[{index}, i] and {condition}:", *clear, *made]
    return [
        f"    if enabled[{index}, i]{ready}:",
        *clear,
        f'        if {f}_decide(r["{f}"], p["{f}"], x, c{inputs}):',
        *(f"            {line}" for line in (fill, *ask, count)),
    ]


def _time_bars_function(plan: KernelPlan) -> list[str]:
    lines = _def("end_time_bars", f"ts, ts_recv, {_args(plan)}")
    for index in range(len(plan.bars)):
        b = f"b{index}"
        lines += [
            f'    if bar_due(r["{b}"], p["{b}"], ts):',
            f'        bar_close(r["{b}"], p["{b}"], r["m"], ts_recv)',
            f"        run_{b}({_args_of_bar(plan, b)})",
            f'        bar_clear(r["{b}"])',
        ]
    return [*lines, "    return", ""]


def _fill_bars_function(plan: KernelPlan) -> list[str]:
    lines = _def("fill_bars", f"offset, {_args(plan)}")
    for index in range(len(plan.bars)):
        b = f"b{index}"
        lines += [
            f'    if bar_add(r["{b}"], p["{b}"], r["m"], x, offset):',
            f'        bar_close(r["{b}"], p["{b}"], r["m"], x["ts_recv"])',
            f"        run_{b}({_args_of_bar(plan, b)})",
            f'        bar_clear(r["{b}"])',
        ]
    return [*lines, "    return", ""]


def _entry(plan: KernelPlan, name: str, body: list[str]) -> list[str]:
    arguments = _signature(plan).split(", ")
    head = [
        '@njit(error_model="numpy", nogil=True, cache=CACHE)',
        f"def {name}({_signature(plan)}):",
        *(f"    {name} = borrowed({name})" for name in arguments if name not in ("start", "stop")),
        *run_bound(plan),
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
        f'                end_time_bars(t["ts_event"], t["ts_recv"], {_args(plan)})',
        *_indent(_PAUSE),
        "            continue",
        f"        if kind == {int(TickKind.GAP)}:",
        "            for i in range(instruments):",
        *(f"                {line}" for line in reset_lines(plan)),
        f"            tally[{TALLY_RESETS}] += 1",
        "            return k + 1",
        *_guard(plan, "1"),
        *_instrument(),
        f'        end_time_bars(t["ts_event"], t["ts_recv"], {_args(plan)})',
        '        if apply_tick(r["m"], x, t, facts[i]):',
    ]
    inner: list[str] = []
    for clock, condition in (
        ("tick", ""),
        ("trade", f"kind != {int(TickKind.QUOTE)} and x['trades'] > 0"),
        ("quote", f"kind != {int(TickKind.TRADE)}"),
    ):
        if _runs(plan, clock):
            inner += _call_clock(plan, clock, condition)
    inner.append(f'        fill_bars(facts[i]["day_offset_ns"], {_args(plan)})')
    return [*lines, *_indent(inner), *_PAUSE, "    return stop"]


def _bar_body(plan: KernelPlan) -> list[str]:
    lines = [
        "    for k in range(start, stop):",
        *_guard(plan, str(MAX_CLOSES)),
        "        t = records[k]",
        *_instrument(),
        f'        end_time_bars(t["ts_open"], t["ts_recv"], {_args(plan)})',
        '        apply_bar(r["m"], x, t, facts[i])',
    ]
    for clock in ("tick", "trade"):
        if _runs(plan, clock):
            lines += _call_clock(plan, clock, "")
    lines.append(f'        fill_bars(facts[i]["day_offset_ns"], {_args(plan)})')
    return [*lines, *_PAUSE, "    return stop"]


def _call_clock(plan: KernelPlan, clock: str, condition: str) -> list[str]:
    if not condition:
        return [f"        run_{clock}({_args(plan)})"]
    return [f"        if {condition}:", f"            run_{clock}({_args(plan)})"]


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
