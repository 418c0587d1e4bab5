"""Lines of text for the terminal view: columns of fixed width, titled rules, human units.

Rows are put together here and not by rich's tables, which measure every cell anew at every drawing:
that would take ten times as long.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

Cell = tuple[str, str]
"""Text and its rich style."""
GAP: Final = 2
"""Blanks between two parts of a line."""
_SPARKS: Final = "▁▂▃▄▅▆▇█"


class Column(NamedTuple):
    """A column of a table: its heading and its width in terminal cells."""

    title: str
    width: int
    right: bool = False


def blank_line() -> Text:
    """Return an empty line that stays one line whatever is appended."""
    return Text(no_wrap=True, overflow="ellipsis")


def printable(text: str) -> str:
    """Return text without line breaks and anything else that would move the cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def clip(text: str, width: int) -> str:
    """Return printable text of at most ``width`` cells; cut text ends in an ellipsis."""
    text = printable(text)
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""


def row(cells: Iterable[Cell], columns: Sequence[Column]) -> Text:
    """Return one row of a table, cells clipped and padded, a blank between columns."""
    line = blank_line()
    for (text, style), column in zip(cells, columns, strict=True):
        clipped = clip(text, column.width)
        pad = " " * (column.width - cell_len(clipped))
        if column.right:
            line.append(pad).append(clipped, style).append(" ")
        else:
            line.append(clipped, style).append(pad + " ")
    return line


def heading(columns: Sequence[Column]) -> Text:
    """Return the headings of a table."""
    return row([(column.title, "dim") for column in columns], columns)


def rule(title: Text, width: int) -> Text:
    """Return a line across with a title in it."""
    line = blank_line().append("── ", "dim").append_text(title)
    return line.append(" " + "─" * max(0, width - line.cell_len - 1), "dim")


def fit(parts: Iterable[Text], width: int) -> Text:
    """Return a line of those parts that there is room for; the first ones matter most."""
    line = blank_line()
    for part in parts:
        gap = GAP if line else 0
        if line.cell_len + gap + part.cell_len <= width or not line:
            line.append(" " * gap).append_text(part)
    return line


def beside(left: Sequence[Text], right: Sequence[Text], width: int) -> list[Text]:
    """Return lines with ``left``, padded to ``width`` cells, and ``right`` next to it."""
    lines = []
    for index in range(max(len(left), len(right))):
        line = left[index].copy() if index < len(left) else blank_line()
        line.append(" " * max(0, width - line.cell_len))
        if index < len(right):
            line.append_text(right[index])
        lines.append(line)
    return lines


def labelled(label: str, value: str, style: str = "") -> Text:
    """Return a dim label with its value."""
    return Text().append(f"{label} ", "dim").append(value, style)


def sparkline(values: Sequence[float | None]) -> str:
    """Draw values as bars from 0 to the greatest; a blank where there is none."""
    top = max((value for value in values if value is not None), default=0.0)
    last = len(_SPARKS) - 1
    return "".join(
        " " if value is None else _SPARKS[round(last * value / top) if top > 0 else 0]
        for value in values
    )


def format_uptime(seconds: float) -> str:
    """Write a span as ``H:MM:SS``, days before it if there are any."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour}:{minute:02}:{second:02}"
    return f"{days}d {clock}" if days else clock


def format_bytes(count: int) -> str:
    """Write a size in the binary unit that suits it."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if unit != "B" and size < 10 else f"{size:.0f} {unit}"


def format_price(price: float) -> str:
    """Write a price in full, without an exponent, to eight significant digits."""
    if 0 < abs(price) < 1e-3:
        return f"{price:.10f}".rstrip("0")
    return f"{price:,.8g}" if abs(price) < 1e8 else f"{price:,.0f}"


def format_share(part: int, whole: int) -> str:
    """Write a share in per cent; what is there at all is never 0."""
    share = 100 * part / whole
    return "<1 %" if 0 < share < 1 else f"{share:.0f} %"


def format_time(wall_ns: int, *, millis: bool) -> str:
    """Write the local time of day, as the viewer's own clock shows it."""
    local = datetime.fromtimestamp(wall_ns // 10**9, UTC).astimezone()
    text = local.strftime("%H:%M:%S")
    return f"{text}.{wall_ns // 10**6 % 1000:03}" if millis else text


def bundle_text(identity: str) -> str:
    """Return a bundle's name and version, without the hash at the end of its identity."""
    return printable(identity.rpartition("-")[0] or identity)


def words(name: str) -> str:
    """Return a counter's name as words."""
    return name.replace("_", " ").lower()
