"""Writes the parts of the fused kernel's source that keep feature windows and ask models.

Pure text, used by ``strategies.codegen``; a plan without models gets none of it.
"""

from typing import Any, Final

from strategies import windows as window_kernels
from strategies.plan import KernelPlan, ModelInstance, RuleInstance
from strategies.windows import RUN_RECORDS

MODEL_BINDINGS: Final[dict[str, Any]] = {
    "push_row": window_kernels.push_row_nb,
    "break_window": window_kernels.break_window_nb,
    "keep_number": window_kernels.keep_number_nb,
    "ask_model": window_kernels.ask_model_nb,
}


def push_lines(plan: KernelPlan, clock_name: str, broken_at: int) -> list[str]:
    """Return the lines that push a row for every model on a clock, after its indicators ran.

    Args:
        plan: The plan.
        clock_name: The clock.
        broken_at: Where in the tally the count of the first model's unusable rows lies.
    """
    lines: list[str] = []
    for index, model in enumerate(plan.models):
        if model.clock == clock_name:
            lines += _push(model, broken_at + index)
    return lines


def _push(model: ModelInstance, broken_at: int) -> list[str]:
    f = model.field
    instances = dict.fromkeys(instance.field for _, instance, _ in model.columns)
    reads = [f'r["{one.field}"]["{output}"]' for _, one, output in model.columns]
    values = [f"{f}_{at}" for at in range(len(reads))]
    ready = " and ".join(f'r["{name}"]["ready"]' for name in instances)
    return [
        f"    pushed_{f} = False",
        f"    if {ready}:",
        *(f"        {name} = np.float32({read})" for name, read in zip(values, reads, strict=True)),
        "        if " + " and ".join(f"np.isfinite({name})" for name in values) + ":",
        f'            at = push_row(r["{f}"], p["{f}"], i)',
        *(f"            windows[at + {at}] = {name}" for at, name in enumerate(values)),
        f"            pushed_{f} = True",
        "        else:",
        f"            tally[{broken_at}] += 1",
        f"    if not pushed_{f}:",
        f'        break_window(r["{f}"])',
    ]


def score_condition(rule: RuleInstance, model: ModelInstance) -> str:
    """Return what must be true for a model's own strategy to ask it."""
    f, w = rule.field, model.field
    return f'pushed_{w} and {f}_decide(p["{f}"], r["{w}"], p["{w}"])'


def ask_line(rule: RuleInstance, model: ModelInstance) -> str:
    """Return the call that lets a candidate wait for the model."""
    return f'ask_model(c, r["{model.field}"], p["{model.field}"], {rule.model})'


def reset_lines(plan: KernelPlan) -> list[str]:
    """Return the lines that make instrument i pristine and go on numbering its rows."""
    lines = ["r = state[i]"] if plan.models else []
    for model in plan.models:
        f = model.field
        lines.append(f'pushed_{f}, since_{f} = r["{f}"]["pushed"], r["{f}"]["since"]')
    lines.append("reset_instrument(state, ring, params, i)")
    for model in plan.models:
        f = model.field
        lines.append(f'keep_number(r["{f}"], pushed_{f}, since_{f})')
    return lines


def run_bound(plan: KernelPlan) -> list[str]:
    """Return the line that bounds a run, so that what it asks for is still there at its end."""
    return [f"    stop = min(stop, start + {RUN_RECORDS})"] if plan.models else []
