"""How configuration files write a board: by the name of its enum member."""

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from engine.core.records import Board


def parse_board(value: object) -> Board:
    """Read a board by its name, such as ``"CN_MAIN"``.

    Raises:
        ValueError: no board has that name.
    """
    if isinstance(value, Board):
        return value
    if isinstance(value, str) and value in Board.__members__:
        return Board[value]
    raise ValueError(f"{value!r} is not a board; boards are {', '.join(Board.__members__)}")


def _name_of(board: Board) -> str:
    return board.name


BoardName = Annotated[Board, BeforeValidator(parse_board), PlainSerializer(_name_of)]
"""A Board, written as its name in TOML."""
