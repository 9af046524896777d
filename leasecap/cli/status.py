"""`leasecap status`: who holds, who waits, since when, and why."""

from __future__ import annotations

import sys
import time

import click

from leasecap._durations import format_duration
from leasecap._errors import ConfigError, StoreError
from leasecap._liveness.verdict import NOT_VISIBLE, UNREADABLE
from leasecap._redact import printable
from leasecap._status.read import status
from leasecap.cli._pools import complete_pool, known_pool
from leasecap.cli._say import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._status.read import Holder, PoolStatus, Status, Waiter

_EVERY = 1.0  # seconds between two pictures of --watch
_COMMAND_LEAST = 20  # columns left to the command on a narrow terminal


@click.command("status", cls=Verb)
@click.argument("pools", metavar="[POOL]...", nargs=-1, shell_complete=complete_pool)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
def command(pools: tuple[str, ...], as_json: bool, watch: bool) -> int:
    """Show who holds and who waits, in all pools or in those named.

    Takes no lock and writes nothing. Exit status 1 when a pool or the configuration can't be read as it should be.
    """
    if as_json and watch:
        raise click.UsageError("give --json or --watch, not both")
    _check(pools)
    while watch:
        # Home, then clear to the end after drawing: no flicker, and nothing scrolls away.
        picture = "\n".join(_lines(_look(pools)))
        sys.stdout.write(
            "\x1b[H" + picture.replace("\n", "\x1b[K\n") + "\x1b[K\n\x1b[J" if _tty() else picture + "\n\n"
        )
        sys.stdout.flush()
        time.sleep(_EVERY)
    found = _look(pools)
    if as_json:
        import json

        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        click.echo("\n".join(_lines(found)))
    troubles = [found.config_error, found.error, *(pool.error for pool in found.pools)]
    return 1 if any(troubles) else 0


def _check(pools: tuple[str, ...]) -> None:
    for pool in pools:
        try:
            known_pool(pool)
        except (ConfigError, StoreError):
            pass  # it is shown with the pools


def _look(pools: tuple[str, ...]) -> Status:
    if not pools:
        return status()
    from dataclasses import replace

    looks = [status(pool) for pool in pools]
    return replace(looks[0], pools=tuple(pool for look in looks for pool in look.pools))


def _tty() -> bool:
    return sys.stdout.isatty()


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _style(text: str, **how: bool | str) -> str:
    import os

    return click.style(text, **how) if _tty() and not os.environ.get("NO_COLOR") else text  # type: ignore[arg-type]


def _lines(found: Status) -> list[str]:
    lines = [_style(f"root {printable(found.root, 500)}", dim=True)]
    for error in filter(None, (found.config_error, found.error)):
        lines += ["", *(_style(line, fg="red") for line in error.splitlines())]
    for pool in found.pools:
        lines += ["", *_pool(pool)]
    if not found.pools and not found.error:
        lines += ["", 'No pool yet. Try: leasecap run -p anthropic --limit 4 -- claude -p "fix the tests"']
    return lines


def _pool(pool: PoolStatus) -> list[str]:
    limit = "no limit set" if pool.limit is None else str(pool.limit)
    head = f"{_style(printable(pool.pool, 60), bold=True)}  {pool.in_flight}/{limit} in flight, {pool.waiting} waiting"
    lines = [head + (_style(f"   limit: {printable(pool.limit_source, 200)}", dim=True) if pool.limit_source else "")]
    if pool.error:
        lines += [_style(f"  {line}", fg="red") for line in pool.error.splitlines()]
    if pool.feedback is not None:
        lines += [_style(f"  {printable(line, 300)}", fg="yellow") for line in pool.feedback.lines]
    if not pool.stable:
        lines.append("  it changed while it was read: the rows below may not be of one moment")
    if pool.holders:
        lines += _table(
            ("HOLDER", "PID", "HELD", "BEAT", "EVIDENCE", "COMMAND"), [_holder(holder) for holder in pool.holders]
        )
    if pool.waiters:
        lines += _table(
            ("WAITER", "PID", "WAITED", "POS", "PRIO", "COMMAND"), [_waiter(waiter) for waiter in pool.waiters]
        )
    return lines


def _holder(holder: Holder) -> tuple[str, ...]:
    evidence = holder.evidence if holder.alive else f"{holder.evidence}: to be reaped"
    notes = [] if holder.state == "held" else ["granted, not yet taken up"]
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
        "; ".join([evidence, *notes]),
        _called(holder),
    )


def _waiter(waiter: Waiter) -> tuple[str, ...]:
    position = str(waiter.position) if waiter.state == "waiting" else waiter.state
    called = _called(waiter) if waiter.alive else f"({waiter.evidence}: to be reaped) {_called(waiter)}"
    return waiter.id, _pid(waiter), _ago(waiter.waited), position, str(waiter.priority), called


def _pid(entry: Holder | Waiter) -> str:
    if entry.pid is None:
        return "?"
    return str(entry.pid) if entry.host is None else f"{entry.pid}@{printable(entry.host, 30)}"


def _called(entry: Holder | Waiter) -> str:
    if entry.pid is None:
        return "(corrupt record)"
    return printable(entry.label or entry.command or "", 200)


def _ago(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    room = max(_columns() - sum(widths) - 2 * len(widths) - 2, _COMMAND_LEAST) if _tty() else 200
    lines = []
    for row in (head, *rows):
        last = row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…"
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  " + "  ".join([*cells, last]).rstrip())
    return [_style(lines[0], dim=True), *lines[1:]]
