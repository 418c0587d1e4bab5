"""Reports as one HTML file each: text, tables and plotly figures; it opens offline and prints.

plotly's script is in the page once, and a content policy in its head forbids every request, so a
report that works here works anywhere. plotly is imported only where a figure is drawn.
"""

import html
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

# Told apart by people with any colour vision (Okabe and Ito, 2008), darkened where too light.
COLOURS: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A7A00", "#56B4E9", "#444444", "#E69F00",
)  # fmt: skip
INK: Final = "#333333"
GRID: Final = "#E2E2E2"
_GOOD: Final = (0, 114, 178)
_BAD: Final = (213, 94, 0)
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', Arial, sans-serif"
_CONFIG: Final = {"displaylogo": False, "responsive": True, "showTips": False}
_NUMBER: Final = re.compile(r"[-+\u2212]?([\d.,]+|\u221e)|\u2013$")
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE: Final = """
body { margin: 0; background: #fff; color: #222; font: 15px/1.5 FONT; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 24px; margin: 0; }
h2 { font-size: 17px; margin: 36px 0 8px; border-bottom: 1px solid #e2e2e2; padding-bottom: 4px; }
p { margin: 8px 0; }
p.lead, p.note { color: #666; }
p.note { font-size: 13px; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px 3px 0; text-align: left; border-bottom: 1px solid #eee; }
th { color: #666; font-weight: 600; white-space: nowrap; }
th.n, td.n { text-align: right; white-space: nowrap; padding-left: 12px; }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  main { padding: 0; }
  h2 { break-after: avoid; }
  tr, div.figure { break-inside: avoid; }
  .modebar-container { display: none; }
}
""".replace("FONT", _FONT)


class Figure(Protocol):
    """A plotly figure."""

    def to_html(self, **options: Any) -> str:
        """Return it as HTML."""


class Cell(NamedTuple):
    """A table's cell with a shade: -1 is the worst of its table, 0 neither, 1 the best."""

    value: str | float | None
    shade: float = 0.0


Value = str | float | None | Cell


class Text(NamedTuple):
    """Paragraphs under a heading; an empty line separates two."""

    title: str
    text: str


class Table(NamedTuple):
    """Rows under a heading; None and NaN are shown as a dash."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""


class Plot(NamedTuple):
    """A figure under a heading."""

    title: str
    figure: Figure
    note: str = ""


Section = Text | Table | Plot


def page(title: str, sections: Sequence[Section], subtitle: str = "") -> str:
    """Return a report as one self-contained HTML document.

    The same sections give the same bytes.

    Args:
        title: Of the page and above it.
        sections: In order.
        subtitle: A line under the title.
    """
    parts = [
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"{_script(sections)}</head><body><main><h1>{html.escape(title)}</h1>",
        _paragraphs(subtitle, "lead"),
        *(_section(section, number) for number, section in enumerate(sections, 1)),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def write_page(path: Path, title: str, sections: Sequence[Section], subtitle: str = "") -> None:
    """Write a report into a file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(page(title, sections, subtitle), encoding="utf-8")
    draft.replace(path)


def new_figure(height_px: int = 380, **layout: Any) -> Any:
    """Return an empty plotly figure in the reports' style.

    Args:
        height_px: Its height.
        layout: More for plotly's ``update_layout``.
    """
    import plotly.graph_objects as go

    return styled(go.Figure(), height_px, **layout)


def stacked_figure(heights: Sequence[float], height_px: int = 520, **layout: Any) -> Any:
    """Return a figure of several panels, one above the other, on one horizontal axis.

    Args:
        heights: Shares of the height, from the top.
        height_px: Its height.
        layout: More for plotly's ``update_layout``.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=len(heights), cols=1, shared_xaxes=True, row_heights=list(heights),
        vertical_spacing=0.05,
    )  # fmt: skip
    return styled(figure, height_px, **layout)


def styled(figure: Any, height_px: int, **layout: Any) -> Any:
    """Give a plotly figure the reports' style, in place, and return it."""
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "ticks": ""}
    figure.update_layout(
        template="none", height=height_px, colorway=list(COLOURS), hovermode="x unified",
        font={"family": _FONT, "size": 12, "color": INK},
        paper_bgcolor="#fff", plot_bgcolor="#fff",
        margin={"l": 64, "r": 16, "t": 28, "b": 44},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
    )  # fmt: skip
    figure.update_xaxes(**axis)
    figure.update_yaxes(automargin=True, title_standoff=8, **axis)
    figure.update_layout(**layout)
    return figure


def _script(sections: Sequence[Section]) -> str:
    if not any(isinstance(section, Plot) for section in sections):
        return ""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _section(section: Section, number: int) -> str:
    heading = f"<h2>{html.escape(section.title)}</h2>"
    if isinstance(section, Text):
        return heading + _paragraphs(section.text)
    if isinstance(section, Table):
        return heading + _table(section) + _paragraphs(section.note, "note")
    drawn = section.figure.to_html(
        full_html=False, include_plotlyjs=False, config=_CONFIG, div_id=f"figure-{number}"
    )
    return f"{heading}<div class='figure'>{drawn}</div>{_paragraphs(section.note, 'note')}"


def _paragraphs(text: str, css: str = "") -> str:
    attribute = f" class='{css}'" if css else ""
    parts = [part.strip() for part in text.split("\n\n")]
    return "".join(f"<p{attribute}>{html.escape(part)}</p>" for part in parts if part)


def _table(table: Table) -> str:
    bare = [[_bare(value) for value in row] for row in table.rows]
    columns = zip(table.headings, *bare, strict=True)
    numeric = [bool(bare) and all(map(_is_number, column[1:])) for column in columns]
    head = "".join(
        f"<th{_class(right)}>{html.escape(name)}</th>"
        for name, right in zip(table.headings, numeric, strict=True)
    )
    body = "".join(f"<tr>{_row(row, numeric)}</tr>" for row in table.rows)
    top = f"<thead><tr>{head}</tr></thead>" if any(table.headings) else ""
    return f"<div class='wide'><table>{top}<tbody>{body}</tbody></table></div>"


def _row(row: Sequence[Value], numeric: Sequence[bool]) -> str:
    return "".join(_cell(value, right) for value, right in zip(row, numeric, strict=True))


def _bare(value: Value) -> str | float | None:
    return value.value if isinstance(value, Cell) else value


def _is_number(value: str | float | None) -> bool:
    return not isinstance(value, str) or not value or _NUMBER.match(value) is not None


def _class(right: bool) -> str:
    return " class='n'" if right else ""


def _cell(value: Value, right: bool) -> str:
    shade = value.shade if isinstance(value, Cell) else 0.0
    style = f" style='background:{_tint(shade)}'" if shade and math.isfinite(shade) else ""
    return f"<td{_class(right)}{style}>{html.escape(shown(_bare(value)))}</td>"


def _tint(shade: float) -> str:
    red, green, blue = _GOOD if shade > 0 else _BAD
    return f"rgba({red},{green},{blue},{0.45 * min(abs(shade), 1.0):.3f})"


def shown(value: str | float | None) -> str:
    """Write a value as a cell shows it: integers whole, other numbers with six digits."""
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return "\u2013"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
