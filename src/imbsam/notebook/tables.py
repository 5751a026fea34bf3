"""Small tables in HTML that read well on light and dark pages and need no style sheet and no script."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SHOWN = 20
"""Rows of a long table that are shown; the others are counted."""

NOTHING = "–"

_TABLE = "border-collapse: collapse; margin: 0.4em 0; font-size: 90%"
_CAPTION = "caption-side: top; text-align: left; padding: 0.2em 0; font-weight: bold; color: inherit"
_CELL = "padding: 0.15em 0.8em; border-bottom: 1px solid rgba(128, 128, 128, 0.35)"
# Half transparent, so that the text is read on it whatever the page's colour is.
_BAR = (
    "min-width: 9em; "
    "background: linear-gradient(90deg, rgba(0, 150, 136, 0.3) {end}, transparent {end}) 0 / 9em no-repeat"
)


@dataclass(frozen=True)
class Share:
    """A share of 1, shown in percent with a bar behind it.

    Args:
        value: Value in [0, 1]; None or NaN if nothing could be measured.
    """

    value: float | None

    @property
    def is_measured(self) -> bool:
        """True if there is a value."""
        return self.value is not None and not math.isnan(self.value)

    def __str__(self) -> str:
        # The blank does not break a line.
        return f"{100 * (self.value or 0.0):.1f}\u00a0%" if self.is_measured else NOTHING


Cell = str | int | float | Share | None


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write a table.

    Args:
        caption: Stands above it.
        columns: Headings.
        rows: Cells, as many as columns; the first of a row is its heading. Texts are escaped, whole numbers get
            commas, other numbers four digits.

    Returns:
        HTML.
    """
    # Numbers are set to the right, texts and what stands above them to the left.
    left = [not place or any(isinstance(row[place], str) for row in rows) for place in range(len(columns))]
    head = "".join(_cell("th", name, left=side, scope="col") for name, side in zip(columns, left, strict=True))
    return _table(caption, rows, left, f"<thead><tr>{head}</tr></thead>")


def facts(caption: str, rows: Sequence[tuple[str, Cell]]) -> str:
    """Write a table of two columns, name and value, without headings.

    Args:
        caption: Stands above it.
        rows: Names and values.

    Returns:
        HTML.
    """
    return _table(caption, rows, (True, True), "")


def folded(summary: str, content: str) -> str:
    """Hide HTML behind one line until it is clicked.

    Args:
        summary: The line.
        content: HTML.

    Returns:
        HTML.
    """
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _table(caption: str, rows: Sequence[Sequence[Cell]], left: Sequence[bool], head: str) -> str:
    above = f'<caption style="{_CAPTION}">{escape(caption)}</caption>' if caption else ""
    body = "".join(
        "<tr>"
        + _cell("th", row[0], left=True, scope="row")
        + "".join(_cell("td", cell, left=side) for cell, side in zip(row[1:], left[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<table style="{_TABLE}">{above}{head}<tbody>{body}</tbody></table>'


def _cell(tag: str, cell: Cell, *, left: bool, scope: str = "") -> str:
    style = f"{_CELL}; text-align: {'left' if left else 'right'}"
    if scope:
        style += f"; font-weight: {'bold' if scope == 'col' else 'normal'}; white-space: nowrap"
    if isinstance(cell, Share) and cell.is_measured:
        style += "; " + _BAR.format(end=str(cell).replace("\u00a0", ""))
    opened = f'{tag} scope="{scope}"' if scope else tag
    return f'<{opened} style="{style}">{escape(_text(cell))}</{tag}>'


def _text(cell: Cell) -> str:
    if cell is None:
        return NOTHING
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return NOTHING if math.isnan(cell) else f"{cell:.4g}"
    return str(cell)
