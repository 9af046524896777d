"""A status as lines of text: all of them, or those that fit on a screen. Nothing here knows a terminal, clock or
file."""

from __future__ import annotations

from leasecap._durations import format_duration
from leasecap._liveness.verdict import NOT_VISIBLE, UNREADABLE
from leasecap._named_tuple import NamedTuple
from leasecap._redact import printable
from leasecap.cli._tables import Table, clip, cut, end_of, lay_out, without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from leasecap._status.model import Holder, HttpRequest, ModelLatency, PoolStatus, SilentGate, Status, Waiter
    from leasecap.cli._tables import Line

_ANSWERS = {"queued": "-", "sent": "awaited", "streaming": "comes"}
_DIRECTORY_MOST = 24


class _Section(NamedTuple):
    """What is said of a pool."""

    head: list[Line]
    tables: list[Table]


def render(rows: int | None, columns: int | None, found: Status, home: str = "") -> list[Line]:
    """The lines of a picture that is ``rows`` high and ``columns`` wide; None: as high, or wide, as it comes.

    :param home: the user's home directory, which is shown as ``~``.

    What doesn't fit is counted: each table gets as many lines as the others, as far as it needs them.
    """
    top: list[Line] = [((f"root {printable(found.root, 500)}", "dim"),)]
    told = "\n".join(filter(None, (found.config_error, found.error)))
    errors: list[Line] = [((line, "red"),) for line in told.splitlines()]
    sections = [_section(pool, columns, home, told) for pool in found.pools]
    if not sections and not told:  # else that comes first, and whether there are pools may not be known
        hint = 'No pool yet. Try: leasecap run -p anthropic --limit 4 -- claude -p "fix the tests"'
        sections = [_Section([((hint, ""),)], [])]
    top += [((f"gate {gate.address} (pid {gate.pid})", "dim"),) for gate in found.gates]
    top += [((_silent(gate), "yellow"),) for gate in found.silent_gates]
    lines = top + ([(), *errors] if errors else [])
    for section in sections:
        lines += [(), *section.head, *(line for table in section.tables for line in (table.head, *table.rows))]
    if rows is not None and len(lines) > rows:
        lines = _fit(rows, top + errors, sections)
    return lines if rows is None or columns is None else [clip(line, columns) for line in lines]


def _silent(gate: SilentGate) -> str:
    command = printable(gate.command, 60)
    return (
        f"{command} (run --per-request, pid {gate.pid}) has made no request that takes a slot: it may have another way "
        "to its provider"
    )


def _section(pool: PoolStatus, columns: int | None, home: str, told: str) -> _Section:
    """:param told: what is wrong, as it is said above the pools. No pool says it again."""
    source = f"   limit: {printable(pool.limit_source, 200)}" if pool.limit_source else ""
    of, none = ("", ", no limit set") if pool.limit is None else (f"/{pool.limit}", "")
    held, queued = _dead(pool.dead_slots), _dead(sum(not waiter.alive for waiter in pool.waiters))
    counts = f"  {pool.in_flight}{of} in flight{held}, {pool.waiting} waiting{queued}{none}"
    if pool.error is not None and pool.lock is None:  # nothing is known of its slots, and 0 is no answer
        counts = "  who holds and who waits is not known"
    head: list[Line] = [((printable(pool.pool, 60), "bold"), (counts, ""), (source, "dim"))]
    if pool.error != told:
        head += [((f"  {line}", "red"),) for line in (pool.error or "").splitlines()]
    if pool.feedback is not None:
        head += [((f"  {printable(line, 300)}", "yellow"),) for line in pool.feedback.lines]
    head += [((f"  {printable(line, 300)}", "yellow"),) for line in pool.latency_warnings]
    head += [((f"  {printable(line, 300)}", "red"),) for line in (pool.latency_error or "").splitlines()]
    if pool.latency is not None:
        if not pool.latency:
            head.append((("  nothing is known of how long requests took in the last 48 hours", "dim"),))
        return _Section(head, _latency(pool.latency, columns))
    if not pool.stable:
        head.append((("  it changed while it was read: the rows below may not be of one moment", ""),))
    tables = []
    if pool.holders:
        names: tuple[str, ...] = ("HOLDER", "PID", "HELD", "BEAT", "ANSWER", "EVIDENCE", "IN", "COMMAND")
        rows = [names, *(_holder(holder, home) for holder in pool.holders)]
        if all(holder.request is None for holder in pool.holders):
            rows = without("ANSWER", rows)
        tables.append(lay_out(rows, columns))
    if pool.waiters:
        names = ("WAITER", "PID", "WAITED", "POS", "PRIO", "IN", "COMMAND")
        tables.append(lay_out([names, *(_waiter(waiter, home) for waiter in pool.waiters)], columns))
    return _Section(head, tables)


def _dead(number: int) -> str:
    return f" ({number} of them dead)" if number else ""


def _latency(rows: Sequence[ModelLatency], columns: int | None) -> list[Table]:
    """A table for each model, of whom most was asked first: for each hour until answers began, and until they ended."""
    models: dict[tuple[str, bool], list[ModelLatency]] = {}
    for row in reversed(rows):  # the last hour first, since the end of a table is cut off
        models.setdefault((row.model, row.streamed), []).append(row)
    tables = []
    for (model, streamed), hours in sorted(models.items(), key=lambda one: -sum(row.first_byte.n for row in one[1])):
        lines: list[tuple[str, ...]] = []
        for row in hours:
            hour = f"{row.hour[5:10]} {row.hour[11:16]}"
            for until, series in (("first byte", row.first_byte), ("end", row.whole_answer)):
                if series.n:
                    times = map(_took, (series.p50, series.p90, series.p99, series.max))
                    lines.append((hour, until, str(series.n), str(series.over_120s), *times))
        names = ("HOUR (UTC)", "UNTIL", "N", ">120s", "P50", "P90", "P99", "MAX")
        table = lay_out([names, *lines], columns)
        title = (cut(printable(model, 100), 60) or "(model not known)") + (", streamed" if streamed else "")
        tables.append(Table(((f"  {title}", ""),), [table.head, *table.rows], "line"))
    return tables


def _holder(holder: Holder, home: str) -> tuple[str, ...]:
    evidence = holder.evidence if holder.alive else f"{holder.evidence}: to be reaped"
    notes = [] if holder.state == "held" else ["granted, not yet taken up"]
    if holder.stopped:
        notes.append("stopped")
    if holder.evidence in (NOT_VISIBLE, UNREADABLE):
        notes.append(f"if it is gone: leasecap release {holder.id}")
    if holder.borrows_from:
        notes.append(f"borrows from {holder.borrows_from}")
    if holder.over_max_hold is not None:
        notes.append(f"over max_hold by {format_duration(holder.over_max_hold)}")
    if holder.limit is not None:
        notes.append(f"--limit {holder.limit}")
    return (
        holder.id,
        _pid(holder),
        _ago(holder.held_for),
        _ago(holder.heartbeat_age),
        _answer(holder.request),
        "; ".join([evidence, *notes]),
        _directory(holder, home),
        called(holder),
    )


def _waiter(waiter: Waiter, home: str) -> tuple[str, ...]:
    position = str(waiter.position) if waiter.state == "waiting" else waiter.state
    what = called(waiter) if waiter.alive else f"({waiter.evidence}: to be reaped) {called(waiter)}"
    return (
        waiter.id,
        _pid(waiter),
        _ago(waiter.waited),
        position,
        str(waiter.priority),
        _directory(waiter, home),
        what,
    )


def _answer(request: HttpRequest | None) -> str:
    return "-" if request is None else "?" if request.phase is None else _ANSWERS[request.phase]


def _pid(entry: Holder | Waiter) -> str:
    if entry.pid is None:
        return "?"
    return str(entry.pid) if entry.host is None else f"{entry.pid}@{printable(entry.host, 30)}"


def called(entry: Holder | Waiter) -> str:
    """What people know the work by."""
    if entry.pid is None:
        return "(corrupt record)"
    request = entry.request
    if request is None:
        return printable(entry.label or entry.command or "", 200)
    what = " ".join(filter(None, (request.agent, request.model))) or entry.command
    where = f" at {request.provider}" if request.provider else ""
    return printable(": ".join(filter(None, (entry.label, what))) + where, 200)


def _directory(entry: Holder | Waiter, home: str) -> str:
    """Where it was started. Of a long path the end is shown, in which several worktrees differ."""
    path = printable(entry.cwd or "", 500)
    if home and (path == home or path.startswith(home + "/")):
        path = "~" + path.removeprefix(home)
    return end_of(path, _DIRECTORY_MOST)


def _ago(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)


def _took(seconds: float | None) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds is not None and seconds < 1 else _ago(seconds)


# -- what fits --------------------------------------------------------------------------------------------------------


def _fit(rows: int, top: list[Line], sections: Sequence[_Section]) -> list[Line]:
    heads = sum(len(section.head) for section in sections)
    if len(top) + heads > rows:
        return _fit_heads(rows, top, sections)
    tables = [table for section in sections for table in section.tables]
    given = iter(_shares(rows - len(top) - heads, [1 + len(table.rows) for table in tables]))
    lines = list(top)
    for section in sections:
        lines += section.head
        for table in section.tables:
            lines += _fit_table(next(given), table)
    return lines


def _fit_heads(rows: int, top: list[Line], sections: Sequence[_Section]) -> list[Line]:
    """The lines when not even the heads of all pools have room."""
    lines = list(top)
    shown = 0
    for section in sections:
        if len(lines) + len(section.head) > rows - 1:
            break
        lines += section.head
        shown += 1
    more = len(sections) - shown
    return [*lines[: max(rows - 1, 0)], *([_more(more, "pool")] if rows > 0 else [])]


def _shares(room: int, needs: Sequence[int]) -> list[int]:
    """Divide ``room`` lines: each gets the same number, or as many as it needs if that is fewer."""
    shares = [0] * len(needs)
    while room and (hungry := [at for at, need in enumerate(needs) if shares[at] < need]):
        each = max(min(room // len(hungry), *(needs[at] - shares[at] for at in hungry)), 1)
        for at in hungry[:room]:
            shares[at] += each
            room -= each
    return shares


def _fit_table(room: int, table: Table) -> list[Line]:
    if room > len(table.rows):
        return [table.head, *table.rows]
    if room < 2:
        return [_more(len(table.rows), table.noun)] if room else []
    shown = room - 2
    return [table.head, *table.rows[:shown], _more(len(table.rows) - shown)]


def _more(number: int, what: str = "") -> Line:
    noun = f" {what}{'' if number == 1 else 's'}" if what else ""
    return ((f"  ... {number} more{noun}", "dim"),)


def aged(found: Status, seconds: float) -> Status:
    """The same picture so many seconds later, without a new look at the pools: only the ages change."""
    from dataclasses import replace

    def older(age: float | None) -> float | None:
        return None if age is None else age + seconds

    def later(pool: PoolStatus) -> PoolStatus:
        holders: Iterable[Holder] = (
            replace(
                one,
                held_for=older(one.held_for),
                heartbeat_age=older(one.heartbeat_age),
                over_max_hold=older(one.over_max_hold),
            )
            for one in pool.holders
        )
        waiters: Iterable[Waiter] = (replace(one, waited=older(one.waited)) for one in pool.waiters)
        return replace(pool, holders=tuple(holders), waiters=tuple(waiters))

    return replace(found, pools=tuple(map(later, found.pools)))
