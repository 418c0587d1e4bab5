"""The ``heqis`` command: one module a group of commands, all imports of rooms lazy."""

from engine.cli.main import main

__all__ = ["main"]
