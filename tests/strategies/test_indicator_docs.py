"""The page about indicators says what they say of themselves."""

from pathlib import Path

import pytest

from strategies.registry import load_registry
from strategies.spec import IndicatorSpec, resolve_params

PAGE = (Path(__file__).parents[2] / "docs" / "indicators.md").read_text(encoding="utf-8")
BUILT_IN = load_registry().indicators


@pytest.mark.parametrize("spec", BUILT_IN.values(), ids=lambda spec: spec.name)
def test_the_page_has_every_indicator_as_it_is(spec: IndicatorSpec) -> None:
    params = ", ".join(f"{name}={param.default}" for name, param in spec.params.items())
    assert f"**`{spec.name}({params})`** {spec.title}." in PAGE
    assert f"- `{spec.formula}`" in PAGE
    assert f"- {spec.reference}\n" in PAGE
    ready = f"ready after {spec.warm_up(resolve_params(spec.params, {}))} samples"
    outputs = ", ".join(f"`{output}`" for output in spec.outputs)
    assert f"- outputs: {outputs}; reads" in PAGE
    assert ready in PAGE
