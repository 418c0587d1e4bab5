"""The demo's configuration on ports and paths of its own, for benchmarks that start processes."""

import tomllib
from pathlib import Path
from typing import Any

from bench.processes import free_endpoint

from engine.config import CONFIGS


def demo_tree(directory: Path) -> dict[str, Any]:
    """Return configs/demo.toml as a tree, with free ports, writing into ``directory`` only."""
    tree: dict[str, Any] = tomllib.loads((CONFIGS / "demo.toml").read_text(encoding="utf-8"))
    data, control = free_endpoint(), free_endpoint()
    changes: dict[str, dict[str, Any]] = {
        "link": {"data": data, "control": control},
        "gateway": {"outputs": [data], "control": control},
        "stream": {"port": 0},
        "journal": {"path": str(directory / "journal.db")},
        "engine": {"hlog": str(directory / "latency.hlog")},
    }
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values}
    for model in tree["models"]:
        model["bundle"] = str((CONFIGS / model["bundle"]).resolve())
    tree["inference"] = {**tree["inference"], "cache": str(directory / "models")}
    return tree
