"""Tables of text for a terminal: what its columns have room for. Nothing here knows a terminal."""

from __future__ import annotations

import unicodedata
from functools import partial

from leasecap._liveness.verdict import LOCK_HELD
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Span: TypeAlias = tuple[str, str]
    """A text, and its style: "bold", "dim", "red", "yellow" or ""."""
    Line: TypeAlias = tuple[Span, ...]

_COMMAND_LEAST = 20  # columns left to the command on a narrow terminal
_COMMAND_MOST = 200  # columns for the command where nothing says how wide the terminal is
_DIRECTORY_SHORT = 10


class Table(NamedTuple):
    """Lines under a head; any of the lines may be left out, and ``noun`` says what they are."""

    head: Line
    rows: list[Line]
    noun: str


def text(line: Line) -> str:
    """The line without its styles."""
    return "".join(part for part, _ in line)


def lay_out(rows: list[tuple[str, ...]], columns: int | None) -> Table:
    """The table of these rows, the first of which is its head.

    What is least missed is left out until the last column has room.
    """
    for narrower in _NARROWER:
        if columns is None or columns - _width_before_command(rows) >= _COMMAND_LEAST:
            break
        rows = narrower(rows)
    widths = _widths(rows)
    room = _COMMAND_MOST if columns is None else max(columns - _width_before_command(rows), _COMMAND_LEAST)
    lines = []
    for row in rows:
        padded = [cell + " " * (width - cells(cell)) for cell, width in zip(row, widths, strict=False)]
        lines.append("  " + "  ".join([*padded, cut(row[-1], room)]).rstrip())
    return Table(((lines[0], "dim"),), [((line, ""),) for line in lines[1:]], rows[0][0].lower())


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(cells(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]


def _width_before_command(rows: Sequence[tuple[str, ...]]) -> int:
    widths = _widths(rows)
    return sum(widths) + 2 * len(widths) + 2


def end_of(path: str, most: int) -> str:
    """At most so many characters of the path, those at its end."""
    return path if len(path) <= most else "…" + path[1 - most :]


def without(name: str, rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows without the column of that name."""
    if name not in rows[0]:
        return rows
    column = rows[0].index(name)
    return [(*row[:column], *row[column + 1 :]) for row in rows]


def _with_short_directories(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    if "IN" not in rows[0]:
        return rows
    column = rows[0].index("IN")
    return [(*row[:column], end_of(row[column], _DIRECTORY_SHORT), *row[column + 1 :]) for row in rows]


def _without_plain_evidence(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    plain = "EVIDENCE" in rows[0] and {row[rows[0].index("EVIDENCE")] for row in rows[1:]} == {LOCK_HELD}
    return without("EVIDENCE", rows) if plain else rows


_NARROWER = (
    partial(without, "BEAT"),
    _with_short_directories,
    _without_plain_evidence,
    partial(without, "IN"),
)
"""What a table does without, one after the other, until its commands have room."""


# -- widths -----------------------------------------------------------------------------------------------------------


def clip(line: Line, columns: int) -> Line:
    """The line, cut to that many columns."""
    if cells(text(line)) <= columns:
        return line
    spans: list[Span] = []
    for part, style in line:
        spans.append((cut(part, columns), style) if cells(part) > columns else (part, style))
        columns -= cells(part)
        if columns <= 0:
            break
    return tuple(spans)


def cut(part: str, columns: int) -> str:
    """The text, cut to that many columns, with a mark if anything is missing."""
    if cells(part) <= columns:
        return part
    kept, used = [], 0
    for character in part:
        used += _width(character)
        if used >= columns:
            break
        kept.append(character)
    return "".join(kept) + "…" if columns > 0 else ""


def cells(part: str) -> int:
    """How many columns it takes on a terminal."""
    return len(part) if part.isascii() else sum(map(_width, part))


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
