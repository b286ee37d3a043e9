"""Rows for people: a table where it fits, a few lines for each row where the terminal is narrow, one line in a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.control import strip_control_codes
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: In a pipe nothing is folded to fit a screen that is not there.
_PIPE_WIDTH = 100_000
#: With more rows than that nobody waits until they fit a screen.
_MOST_FITTED = 1_000
#: A last column that is narrower than this is a tower of words.
_LEAST_NOTE_WIDTH = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: a cell for each title, of one or several lines, and what is told at its end."""

    cells: Sequence[str | Sequence[str]]
    note: Sequence[str]


def picture(
    titles: Sequence[str], rows: Sequence[Row], *, numbers: frozenset[str] = frozenset(), width: int
) -> RenderableType:
    """The rows as they are to be drawn.

    Args:
        titles: Of the cells, and of the note.
        rows: What stands below.
        numbers: Titles of columns that are flush right.
        width: Of the terminal, in cells.
    """
    table = _table(titles, rows, numbers, with_note=True)
    fixed = _width(_table(titles[:-1], rows, numbers, with_note=False))
    if fixed + 2 + min(_LEAST_NOTE_WIDTH, max((len(line) for row in rows for line in row.note), default=0)) <= width:
        return table
    return Group(*(_record(titles, row) for row in rows))


def console() -> Console:
    """Writes what it is given: nothing in a name or a reason is taken for a mark."""
    # Not rich's own idea of a pipe's width, which is 80.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def draw(titles: Sequence[str], rows: Sequence[Row], *, numbers: frozenset[str] = frozenset()) -> None:
    """Print the rows."""
    screen = console()
    if sys.stdout.isatty() and len(rows) <= _MOST_FITTED:
        screen.print(picture(titles, rows, numbers=numbers, width=screen.width))
        return
    for line in plain(titles, rows, numbers=numbers):
        screen.file.write(f"{line}\n")


def plain(titles: Sequence[str], rows: Sequence[Row], *, numbers: frozenset[str] = frozenset()) -> Iterator[str]:
    """The rows as lines, one each, however long: as the table would be on a screen that is wide enough.

    A table that is fitted to a screen costs a millisecond a row.
    """
    lines = [list(titles), *([_line(cell) for cell in (*row.cells, row.note)] for row in rows)]
    widths = [max(map(_cells, column)) for column in zip(*lines, strict=True)]
    right = [title in numbers for title in titles]
    for line in lines:
        yield "  ".join(map(_padded, line, widths, right)).rstrip()


def _line(cell: str | Sequence[str]) -> str:
    return " ".join(strip_control_codes("; ".join(_lines(cell))).split("\n"))


def _cells(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _padded(text: str, width: int, right: bool) -> str:
    room = " " * (width - _cells(text))
    return room + text if right else text + room


def _table(titles: Sequence[str], rows: Sequence[Row], numbers: frozenset[str], *, with_note: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(titles):
        note = with_note and place == len(titles) - 1
        table.add_column(title, justify="right" if title in numbers else "left", no_wrap=not note, overflow="fold")
    for row in rows:
        cells = [_text(cell) for cell in row.cells]
        table.add_row(*cells, *([_text(row.note)] if with_note else []))
    return table


def _record(titles: Sequence[str], row: Row) -> RenderableType:
    first, *others = row.cells
    said = [
        f"{title.lower()} {', '.join(_lines(cell))}"
        for title, cell in zip(titles[1:], others, strict=False)
        if _lines(cell) not in ([""], ["-"])
    ]
    lines = [" · ".join(said), *row.note]
    return Group(Text("".join(_lines(first)), style="bold", overflow="fold"),
                 *(Padding(Text(line, overflow="fold"), (0, 0, 0, 2)) for line in lines if line))  # fmt: skip


def _lines(cell: str | Sequence[str]) -> list[str]:
    return [cell] if isinstance(cell, str) else list(cell)


def _text(cell: str | Sequence[str]) -> Text:
    return Text(("\n" if sys.stdout.isatty() else "; ").join(_lines(cell)))


def _width(table: Table) -> int:
    wide = Console(width=_PIPE_WIDTH, file=io.StringIO())
    return wide.measure(table).maximum
