"""Plain aligned columns, and colour where a terminal shows it. A cell is text, or (text, style)."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Final

import click

Cell = str | tuple[str, str]
STYLES: Final[dict[str, str]] = {
    "good": "green",
    "warning": "yellow",
    "critical": "red",
    "unknown": "magenta",
    "dim": "bright_black",
}


def styled(text: str, style: str) -> str:
    """Colour a text; click takes the colour out again where the output is no terminal."""
    if style == "bold":
        return click.style(text, bold=True)
    return click.style(text, fg=STYLES[style]) if style in STYLES else text


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def printable(text: str) -> str:
    """Replace what could move a terminal's cursor: names of processes are written by strangers."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: frozenset[int] = frozenset(), none: str = "none"
) -> list[str]:
    """Give lines of aligned columns. `right` are the columns of numbers; `none` is said when there are no rows."""
    if not rows:
        return [none]
    texts = [[printable(cell if isinstance(cell, str) else cell[0]) for cell in row] for row in rows]
    widths = [max(width_of(row[i]) for row in [list(head), *texts]) for i in range(len(head))]
    widths[-1] = _last_width(widths)
    lines = [_line(head, ["bold"] * len(head), widths, right)]
    for row, text in zip(rows, texts, strict=True):
        lines.append(_line(text, ["" if isinstance(cell, str) else cell[1] for cell in row], widths, right))
    return lines


def _last_width(widths: Sequence[int]) -> int:
    """The last column gives way to a narrow terminal, down to 24 columns; elsewhere nothing is cut."""
    columns = shutil.get_terminal_size((0, 0)).columns
    room = columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
    return widths[-1] if columns <= 0 else min(widths[-1], max(room, 24))


def _line(texts: Sequence[str], styles: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    """One row, padded by what is seen and not by the codes of its colours."""
    cells = []
    for column, (text, style, width) in enumerate(zip(texts, styles, widths, strict=True)):
        shown = cut(text, width)
        pad = " " * (width - width_of(shown))
        cells.append(pad + styled(shown, style) if column in right else styled(shown, style) + pad)
    return "  ".join(cells).rstrip()


def cut(text: str, width: int) -> str:
    """Shorten a text to a width, and show that it was."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) > width - 1:
        text = text[:-1]
    return text + "…"


def pairs(rows: Sequence[tuple[str, Cell]], *, wrap: bool = False) -> list[str]:
    """Give lines of "name  value"; with `wrap` a value that is wider than the terminal goes on below itself."""
    width = max((width_of(name) for name, _ in rows), default=0)
    lines = []
    for name, cell in rows:
        text, style = (cell, "") if isinstance(cell, str) else cell
        texts = paragraph(printable(text), width + 2) if wrap else [printable(text)]
        lines.append(f"{styled(name, 'dim')}{' ' * (width - width_of(name))}  {styled(texts[0], style)}".rstrip())
        lines += [f"{' ' * (width + 2)}{styled(more, style)}" for more in texts[1:]]
    return lines


def paragraph(text: str, indent: int = 0) -> list[str]:
    """Give a text as lines that fit the terminal beside an indent; one line where there is no terminal. No word is broken."""
    columns = shutil.get_terminal_size((0, 0)).columns
    if columns <= 0:
        return [text]
    room = max(columns - indent, 24)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
