"""Reports as pages: whole, offline, escaped, the same bytes every time."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from replay.report_page import (
    Cell,
    Plot,
    Table,
    Text,
    Value,
    new_figure,
    page,
    stacked_figure,
    write_page,
)

VOID = {"meta", "br", "link", "img", "input"}


class Reader(HTMLParser):
    """Collects what a browser would load, the text, and tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.mismatched: list[str] = []
        self.text: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [str(value) for name, value in attrs if name in {"src", "href", "data"}]
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)


def read(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    return reader


def a_plot(name: str = "equity") -> Plot:
    figure = new_figure()
    figure.add_scatter(x=np.arange(3), y=np.array([1.0, 2.0, 1.5]), name=name)
    return Plot("A curve", figure, "In yuan.")


def test_a_page_without_figures_is_small_and_well_formed() -> None:
    document = page("Report", [Text("Words", "one\n\ntwo"), Table("T", ["a", "b"], [["x", 1]])])
    reader = read(document)
    assert reader.mismatched == []
    assert reader.open == []
    assert len(document) < 6_000
    assert [text for text in reader.text if text in {"one", "two", "x", "1"}] == [
        "one",
        "two",
        "x",
        "1",
    ]


def test_text_from_outside_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>"
    document = page(evil, [Text(evil, evil), Table(evil, [evil], [[evil]], evil)], evil)
    reader = read(document)
    assert reader.scripts == 0
    assert sum(evil in text for text in reader.text) == 9


def test_a_name_in_a_figure_cannot_end_its_script() -> None:
    pytest.importorskip("plotly")
    plain, evil = (page("t", [a_plot(name)]) for name in ("x", "</script><img src=x>"))
    assert read(evil).scripts == read(plain).scripts
    assert read(evil).loads == []


def test_the_script_of_plotly_is_there_once_for_all_figures() -> None:
    pytest.importorskip("plotly")
    one, three = (page("t", [a_plot()] * count) for count in (1, 3))
    assert len(one) > 1_000_000
    assert len(three) - len(one) < 200_000


def test_nothing_is_loaded_and_the_policy_forbids_it() -> None:
    pytest.importorskip("plotly")
    document = page("t", [a_plot()])
    assert read(document).loads == []
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', document)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "http" not in policy[1]


def test_the_same_sections_give_the_same_bytes() -> None:
    pytest.importorskip("plotly")
    assert page("t", [a_plot(), a_plot()]) == page("t", [a_plot(), a_plot()])


def test_panels_of_a_stacked_figure_share_their_horizontal_axis() -> None:
    pytest.importorskip("plotly")
    figure = stacked_figure([0.7, 0.3])
    assert figure.layout.xaxis.matches == "x2"
    assert figure.layout.yaxis.domain[1] > figure.layout.yaxis2.domain[1]


def test_columns_of_numbers_are_right_aligned_and_words_are_not() -> None:
    rows: list[list[Value]] = [["low", "1.50 %", -3.0], ["high", "\u22120.20 %", None]]
    document = page("t", [Table("T", ["name", "share", "value"], rows)])
    heads = re.findall(r"<th( [^>]*)?>", document)
    assert heads == ["", " class='n'", " class='n'"]
    assert "<td class='n'>\u2013</td>" in document


@pytest.mark.parametrize("odd", ["\u221e", "-\u221e", "\u2013"])
def test_a_number_without_end_or_value_leaves_its_column_one_of_numbers(odd: str) -> None:
    document = page("t", [Table("T", ["a"], [["12 d"], [odd]])])
    assert f"<td class='n'>{odd}</td>" in document


def test_missing_and_infinite_numbers_are_shown_as_such() -> None:
    rows = [[float("nan"), float("inf"), 1234567, 0.123456789]]
    document = page("t", [Table("T", ["a", "b", "c", "d"], rows)])
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", document)
    assert cells == ["\u2013", "inf", "1,234,567", "0.123457"]


def test_a_shade_colours_good_and_bad_apart() -> None:
    rows = [[Cell("1 %", 1.0), Cell("-1 %", -0.5), Cell("0 %", 0.0), Cell("?", float("nan"))]]
    document = page("t", [Table("T", ["a", "b", "c", "d"], rows)])
    tints = re.findall(r"rgba\((\d+),\d+,\d+,([\d.]+)\)", document)
    assert [alpha for _, alpha in tints] == ["0.450", "0.225"]
    assert tints[0][0] != tints[1][0]


def test_a_row_of_another_length_than_the_headings_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        page("t", [Table("T", ["a", "b"], [["only one"]])])


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(path, "Report", [Text("Words", "so it is")])
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    with pytest.raises(ValueError, match="shorter"):
        write_page(path, "Report", [Table("T", ["a", "b"], [["only one"]])])
    assert "so it is" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
