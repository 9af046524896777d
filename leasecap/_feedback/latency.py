"""How long requests took, by what was asked of the provider: the table of one hour, and its format.

A provider that is loaded too much answers ever later, until requests run into their time-outs. The slowest of a hundred
show that before it comes to it. A field that this version doesn't know is ignored, and a missing one has its default.
"""

from __future__ import annotations

import json

from leasecap._durations import format_duration
from leasecap._feedback.histogram import EMPTY, FIRST, LAST, Histogram, merged, percentile
from leasecap._named_tuple import NamedTuple
from leasecap._redact import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

VERSION = 1
MAX_BYTES = 1 << 20
"""A table with all its rows and buckets is below that."""

MOST_ROWS = 32
"""Rows of one hour; what is asked of more models than these counts under `OTHERS`."""

OTHERS = "(others)"

KEPT = 48
"""Hours for which counts are kept; those of a clock that is ahead likewise."""

_LONGEST_MODEL = 80  # characters
_HIGHEST = 1e15  # no number is higher, so that sums stay finite

NEAR = 0.8
"""From this share of a time-out on the slowest of a hundred are near to it."""

ENOUGH = 20
"""Of fewer requests nothing is said."""


class Kind(NamedTuple):
    """What was asked of the provider.

    :ivar model: "" if it isn't known.
    :ivar streamed: whether the answer was to come piece by piece, so that its first byte may come early.
    """

    model: str
    streamed: bool


class Row(NamedTuple):
    """How long requests of one kind took.

    :ivar first: until the answer began. One that had not begun when its time was over counts with that time.
    :ivar whole: until it had ended; those that broke off are left out.
    :ivar local: whether all were made of servers on this machine, which have time-outs of their own.
    """

    first: Histogram = EMPTY
    whole: Histogram = EMPTY
    local: bool = True


Table: TypeAlias = "Mapping[Kind, Row]"


class Newer(ValueError):
    """A later version has written it."""


def added(one: Table, other: Table) -> Table:
    """What both tables count."""
    rows = dict(one)
    for kind, row in other.items():
        found = kind if kind in rows or len(rows) < MOST_ROWS - 2 else Kind(OTHERS, kind.streamed)
        old = rows.get(found, Row())
        rows[found] = Row(merged(old.first, row.first), merged(old.whole, row.whole), old.local and row.local)
    return rows


def kind_of(model: str | None, streamed: bool) -> Kind:
    """The kind of a request.

    :param model: as it was asked for; it may be anything.
    """
    return Kind(printable(model or "", _LONGEST_MODEL), streamed)


# -- what is near -----------------------------------------------------------------------------------------------------


class Cliff(NamedTuple):
    """A time-out that requests of one kind come near to.

    :ivar key: of config.toml.
    :ivar timeout, p99: seconds.
    """

    kind: Kind
    key: str
    timeout: float
    p99: float
    n: int


def cliff(kind: Kind, row: Row, timeout: float | None) -> Cliff | None:
    """The time-out that they come near to, if they do.

    :param timeout: seconds until an answer of this kind has to begin; None: as long as it takes.
    """
    p99 = percentile(row.first, 99)
    if timeout is None or p99 is None or row.first.n < ENOUGH or p99 < NEAR * timeout:
        return None
    return Cliff(kind, "first_byte_timeout" if kind.streamed else "answer_timeout", timeout, p99, row.first.n)


def describe(found: Cliff) -> str:
    """A line for people."""
    model, streamed = found.kind.model or "model not known", ", streamed" if found.kind.streamed else ""
    near = "past" if found.p99 >= found.timeout else "near"
    return (
        f"{model}{streamed}: first byte p99 {format_duration(found.p99)} of {found.n}, {near} {found.key} "
        f"{format_duration(found.timeout)}: lower the limit, or raise the time-out"
    )


# -- the format -------------------------------------------------------------------------------------------------------


def encode(table: Table) -> bytes:
    """The bytes of a table's file."""
    rows = [{"model": kind.model, "streamed": kind.streamed} | _described(row) for kind, row in table.items()]
    return json.dumps({"version": VERSION, "rows": rows}, separators=(",", ":")).encode("ascii")


def encode_row(row: Row) -> str:
    """The text of one row, which says nothing of its kind."""
    return json.dumps(_described(row), separators=(",", ":"))


def _described(row: Row) -> dict[str, object]:
    series = {"first": row.first, "whole": row.whole}
    return {"local": row.local} | {name: _encoded(each) for name, each in series.items() if each.n}


def _encoded(series: Histogram) -> dict[str, object]:
    return {"over": series.over, "max": round(series.highest, 6), "counts": dict(series.counts)}


def decode(data: bytes) -> Table:
    """The table in ``data``.

    :raises Newer: when a later version has written it.
    :raises ValueError: when it isn't one; it says why.
    """
    try:
        raw = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or not _is_count(raw.get("version")):
        raise ValueError("is not what leasecap writes (truncated, or changed by somebody)")
    if raw["version"] != VERSION:
        raise Newer(f"has format {raw['version']}, and this leasecap knows format {VERSION}")
    rows = raw.get("rows", [])
    if not isinstance(rows, list):
        raise ValueError("holds no list of rows")
    table: Table = {}
    for row in rows:
        table = added(table, _row(row))
    return table


def decode_row(data: bytes) -> Row:
    """The row in ``data``.

    :raises ValueError: when it isn't one; it says why.
    """
    try:
        raw = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        raw = None
    return _read(raw)


def _row(raw: object) -> Table:
    row = _read(raw)
    assert isinstance(raw, dict)
    model, streamed = raw.get("model", ""), raw.get("streamed", False)
    if not (isinstance(model, str) and isinstance(streamed, bool)):
        raise ValueError("holds a row of no kind")
    return {kind_of(model, streamed): row}


def _read(raw: object) -> Row:
    if not isinstance(raw, dict):
        raise ValueError("holds a row that is none")
    local = raw.get("local", False)
    if not isinstance(local, bool):
        raise ValueError("holds a row of no kind")
    return Row(_series(raw.get("first")), _series(raw.get("whole")), local)


def _series(raw: object) -> Histogram:
    if raw is None:
        return EMPTY
    counts = raw.get("counts", {}) if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(counts, dict):
        raise ValueError("holds times that are none")
    found = {int(bucket): count for bucket, count in counts.items() if _is_bucket(bucket) and _is_count(count)}
    n, over, highest = sum(found.values()), raw.get("over", 0), raw.get("max", 0.0)
    if len(found) < len(counts) or not _is_count(over) or over > n or not _is_time(highest):
        raise ValueError("holds times that can't be")
    return Histogram(n, over, float(highest), found)


def _is_bucket(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 4 and FIRST <= int(text) <= LAST


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _HIGHEST


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= _HIGHEST  # type: ignore[operator]
