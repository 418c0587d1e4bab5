"""A bundle is opened only if all of it is what it says it is."""

from pathlib import Path

import pytest
from bundle_cases import make_bundle

from engine.core.models import ModelShape
from runtime.bundle import Bundle


def test_a_whole_bundle_opens(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "b")
    bundle = Bundle.open(tmp_path / "b")
    assert bundle == made
    assert bundle.shape == ModelShape(8, 4, 3)
    assert bundle.identity.startswith("tiny@1-")
    assert bundle.reference in bundle.forms("onnx") == bundle.forms()
    assert bundle.parity().inputs.shape == (20, 8, 4)
