"""The demo's model with every way to ask it, for sessions of real processes."""

from pathlib import Path
from typing import Final

BUNDLE: Final = Path(__file__).parents[1] / "models" / "demo-tcn"


def asking_demo_model(valid_for: str, placement: str = '["onnxruntime@cpu"]') -> str:
    """Return the tables of a configuration: alone, confirming a rule, and the rule alone.

    What a late machine would change is off: lateness, gaps, and costs.
    """
    cross = (
        'rule = "macd_cross"\non = "1s"\nparams = { fast = 2, slow = 4, signal = 2 }\n'
        f'valid_for = "{valid_for}"'
    )
    return f"""
[risk.data]
max_late = "10m"
gap_hold = 0
[risk.cost]
check_edge = false

[[bars]]
name = "1s"
interval = "1s"

[[models]]
name = "tcn"
bundle = "{BUNDLE}"
on = "1s"
deadline = "10s"
placement = {placement}

[[strategies]]
name = "tcn"
model = "tcn"
params = {{ min_probability = 0.45 }}
valid_for = "{valid_for}"
[[strategies]]
name = "confirmed"
confirm = "tcn"
confirm_min = 0.35
{cross}
[[strategies]]
name = "rule"
{cross}
"""


NO_LIMITS: Final = """
[risk.limits]
max_position = 0
cool_down = 0
max_signals_per_instrument = 0
max_signals_per_strategy = 0
max_signals = 0
"""
"""Whether a signal passes depends on nothing before it."""
