"""Where the recorded market data lies; tests that need it skip with a reason where it is absent."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_file(name: str) -> Path:
    """Return the path of one recorded file, or skip the test."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"recorded market data is not here: {name}")
    return path
