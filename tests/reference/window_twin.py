"""Feature windows written the plain way: every row is kept for ever under its number."""

from dataclasses import dataclass, field

Row = tuple[float, ...]


@dataclass
class WindowTwin:
    """The rows of one model and instrument."""

    length: int
    rows: dict[int, Row] = field(default_factory=dict)
    number: int = 0

    def take(self, row: Row | None) -> int:
        """Take a sample's row, None where one is missing; return what is to be asked for, or 0."""
        if row is None:
            if self.number in self.rows:
                self.number += 1
            return 0
        self.number += 1
        self.rows[self.number] = row
        return self.number if self.window(self.number) is not None else 0

    def window(self, number: int) -> list[Row] | None:
        """Return the window that ends with a row; None if one of its rows is missing."""
        numbers = range(number - self.length + 1, number + 1)
        if not all(one in self.rows for one in numbers):
            return None
        return [self.rows[one] for one in numbers]
