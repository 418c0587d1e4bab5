"""The one command that runs a seed again: ``pytest tests/simulation --seed N``."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=None, help="run this seed only, and tell it all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave every other test out where one seed is asked for."""
    if config.getoption("--seed", None) is not None:
        items[:] = [item for item in items if item.name == "test_one_seed_holds"]
