"""Holds a rebuilt book against the best prices that the venue says itself, at equal update ids."""

from collections import OrderedDict
from typing import Final

from feeds.books.level_book import Best

REMEMBERED: Final = 1024
"""Most tops and most tickers that wait for their counterpart; the oldest is forgotten."""


class TickerCheck:
    """Compares in whichever order the two come; one book's.

    Args:
        remembered: Most tops, and most tickers, kept.

    Attributes:
        compared: Pairs with equal update ids.
        different: Those of them that are not the same.
    """

    __slots__ = ("_remembered", "_tickers", "_tops", "compared", "different")

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._tops: OrderedDict[int, Best] = OrderedDict()
        self._tickers: OrderedDict[int, list[Best]] = OrderedDict()
        self.compared = 0
        self.different = 0

    def on_top(self, update_id: int, top: Best) -> bool:
        """Take the book's top as of an update; tell whether every ticker of that id agrees."""
        self._tops[update_id] = top
        if len(self._tops) > self._remembered:
            self._tops.popitem(last=False)
        agree = [self._compare(top, ticker) for ticker in self._tickers.pop(update_id, ())]
        return all(agree)

    def on_ticker(self, update_id: int, ticker: Best) -> bool:
        """Take what the venue says of an update; tell whether the top of that id agrees."""
        top = self._tops.get(update_id)
        if top is not None:
            return self._compare(top, ticker)
        self._tickers.setdefault(update_id, []).append(ticker)
        if len(self._tickers) > self._remembered:
            self._tickers.popitem(last=False)
        return True

    def forget_tops(self) -> None:
        """Forget the tops of a book that was given up."""
        self._tops.clear()

    def _compare(self, top: Best, ticker: Best) -> bool:
        self.compared += 1
        same = all(a == b or (a != a and b != b) for a, b in zip(top, ticker, strict=True))
        self.different += not same
        return same
