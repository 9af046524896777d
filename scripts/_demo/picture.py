"""Pictures made of text: a table, and a chart of what was in flight over time. No clock and no screen in here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROWS_TO_THE_LIMIT = 2  # high enough to tell 1, 2 and 3 apart, low enough that 12 fits on a screen
GUTTER = 10  # columns left of a chart

Sample = tuple[float, int, int]  # seconds, requests in flight, refusals so far
Paint = Callable[[str, str], str]  # (tone, text) -> text; the tones are good, bad and faint


@dataclass(frozen=True)
class Ink:
    """The characters that pictures are made of."""

    levels: str  # of a bar's end, from empty to full
    limit: str
    wall: str
    axis: str
    tick: str
    corner: str
    refused: str


BLOCKS = Ink(levels=" ▁▂▃▄▅▆▇█", limit="╌", wall="│", axis="─", tick="┴", corner="└", refused="x")
ASCII = Ink(levels=" .:#", limit="-", wall="|", axis="-", tick="+", corner="+", refused="x")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a name and one right-aligned value under each head."""
    lines = [["", *heads], *rows]
    name, *values = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        line[0].ljust(name) + "".join(f"   {cell:>{width}}" for cell, width in zip(line[1:], values, strict=True))
        for line in lines
    ]


def chart(record: Sequence[Sample], limit: int, seconds: float, width: int, ink: Ink, paint: Paint) -> list[str]:
    """Requests in flight over `seconds`, `width` columns in all: what is over the limit stands above its line."""
    columns = width - GUTTER
    levels, refused = by_column(record, seconds, columns)
    unit = limit / ROWS_TO_THE_LIMIT
    above = math.ceil((max(levels) - limit) / unit)

    def row(label: object, tone: str, text: str) -> str:
        return paint("faint", f"{label:>{GUTTER - 2}} {ink.wall}") + paint(tone, text.rstrip())

    def bars(base: float) -> str:
        return "".join(bar((level - base) / unit, ink.levels) for level in levels)

    lines = [row(max(levels) if r == above - 1 else "", "bad", bars(limit + r * unit)) for r in reversed(range(above))]
    line = "".join(ink.levels[-1] if level > limit else ink.limit for level in levels)
    lines += [row(f"limit {limit}", "bad" if above > 0 else "faint", line)]
    lines += [row("", "good", bars(r * unit)) for r in reversed(range(ROWS_TO_THE_LIMIT))]
    lines += [paint("faint", line) for line in time_axis(seconds, columns, ink)]
    marks = "".join(ink.refused if some else " " for some in refused).rstrip()
    lines += [paint("faint", f"{'429':>{GUTTER - 2}}  ") + (paint("bad", marks) if marks else paint("good", "none"))]
    return lines


def by_column(record: Sequence[Sample], seconds: float, columns: int) -> tuple[list[int], list[bool]]:
    """For each of `columns` equal parts of `seconds`: the most in flight, and whether anything was refused."""
    levels, refused = [0] * columns, [False] * columns
    before = 0
    for (begin, level, refusals), (end, _, _) in zip(record, [*record[1:], (seconds, 0, 0)], strict=True):
        first, last = (min(columns - 1, max(0, int(when / seconds * columns))) for when in (begin, end))
        for i in range(first, last + 1):
            levels[i] = max(levels[i], level)
        refused[first] |= refusals > before
        before = refusals
    return levels, refused


def bar(filled: float, levels: str) -> str:
    """One character, `filled` from 0 (or less) to 1 (or more); never empty when there is something to show."""
    if filled <= 0:
        return levels[0]
    return levels[max(1, round(min(filled, 1.0) * (len(levels) - 1)))]


def time_axis(seconds: float, columns: int, ink: Ink) -> list[str]:
    """The axis with its ticks, and the seconds below them, as far apart as their names need."""
    step = next((step for step in (1, 2, 5, 10, 20) if step * columns / seconds >= 8), 60)
    axis, names = [ink.axis] * columns, " " * columns
    for second in range(0, math.ceil(seconds), step):
        at, name = int(second / seconds * columns), f"{second} s"
        axis[at] = ink.tick
        if at + len(name) <= columns:
            names = names[:at] + name + names[at + len(name) :]
    return [" " * (GUTTER - 1) + ink.corner + "".join(axis), " " * GUTTER + names.rstrip()]
