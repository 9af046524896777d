"""`leasecap run`: any command, under a cap."""

from __future__ import annotations

import os
import sys

import click

from leasecap._decisions.limits import UNLIMITED
from leasecap._durations import format_duration
from leasecap._errors import AcquireTimeout, StoreError
from leasecap.cli._pools import chosen_pool, complete_pool, is_on_disk
from leasecap.cli._say import Duration, Limit, Verb, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._lease import Lease
    from leasecap._request import Unset
    from leasecap._wait.progress import Waiting
    from leasecap.cli._signals import SignalGate
    from leasecap.cli._supervise import Outcome

NO_SLOT = 75  # EX_TEMPFAIL of sysexits.h: try again later


@click.command("run", cls=Verb, context_settings={"allow_interspersed_args": False})
@click.option(
    "-p",
    "--pool",
    metavar="POOL",
    shell_complete=complete_pool,
    help="Which cap; else by [commands], LEASECAP_POOL, [defaults] pool.",
)
@click.option("--limit", type=Limit(), help="Hold to at most N while this runs; it can only tighten.")
@click.option("-w", "--wait", type=Duration(), help="Wait at most so long for a slot: 1.5, 500ms, 30s, 5m, 1h.")
@click.option("-n", "--no-wait", is_flag=True, help="Don't wait: try once.")
@click.option(
    "-E", "--no-slot-status", "no_slot", metavar="CODE", type=click.IntRange(0, 255), default=NO_SLOT,
    show_default=True, help="Exit status when no slot came in time.",
)  # fmt: skip
@click.option(
    "--max-hold", type=Duration(zero=False),
    help="When CMD has held the slot so long, end it with TERM and exit with 124; else max_hold of the configuration.",
)  # fmt: skip
@click.option(
    "--kill-after", type=Duration(), help="And with KILL if it still runs so long after that; else kill_after, or 10s."
)
@click.option("--priority", metavar="N", type=click.IntRange(-99, 99), help="Higher goes first.")
@click.option("-l", "--label", metavar="LABEL", help="What status shows in place of the command.")
@click.option("--no-borrow", is_flag=True, help="Take a slot of its own even under a lease of the same pool.")
@click.option("-v", "--verbose", is_flag=True, help="Say when the slot came and how the command ended.")
@click.option("-q", "--quiet", is_flag=True, help="Don't say that it waits.")
@click.argument("command", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    pool: str | None,
    limit: int | None,
    wait: float | None,
    no_wait: bool,
    no_slot: int,
    max_hold: float | None,
    kill_after: float | None,
    priority: int | None,
    label: str | None,
    no_borrow: bool,
    verbose: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Run CMD as soon as POOL has a free slot, and keep the slot until CMD ends.

    The exit status is that of CMD; 75 when no slot came in time, 124 when CMD held it for too long, 125 when leasecap
    itself failed, 126 when CMD can't be executed, 127 when it isn't found.
    """
    if no_wait and wait is not None:
        raise click.UsageError("give -w or -n, not both")
    if verbose and quiet:
        raise click.UsageError("give -v or -q, not both")
    if not hasattr(os, "fork"):
        raise StoreError(
            "`leasecap run` needs POSIX signals and process groups", path=sys.platform, remedy="use the library here"
        )
    # First of all: signals have to be blocked before any thread starts.
    from leasecap._api import acquire_with
    from leasecap._config.root import root_path
    from leasecap._request import UNSET, Options
    from leasecap._runtime import local
    from leasecap.cli._signals import Interrupted, SignalGate
    from leasecap.cli._supervise import Outcome, SpawnError, die_like

    gate = SignalGate()
    timeout: float | Unset | None = 0.0 if no_wait else UNSET if wait is None else wait
    options = Options(
        timeout=timeout,
        limit=limit,
        priority=UNSET if priority is None else priority,
        label=label,
        borrow=not no_borrow,
        on_wait=None if quiet else _say_waiting,
        on_lost=_say_lost,
        max_hold=UNSET if max_hold is None else max_hold,
        kill_after=UNSET if kill_after is None else kill_after,
    )
    chosen = chosen_pool(pool, command[0], local.root(root_path()).config)
    began = local.effects.monotonic()
    try:
        lease = acquire_with(chosen, gate, options, argv=command)
        if verbose:
            say(f"{lease.pool}: slot {lease.id} after {format_duration(local.effects.monotonic() - began)}")
        with lease:
            outcome = _run(gate, lease, command)
    except AcquireTimeout as error:
        say(str(error))
        return no_slot
    except SpawnError as error:
        say(str(error))
        return error.status
    except Interrupted as interrupted:
        outcome = Outcome(signal=interrupted.signum)
    if verbose:
        say(f"ended with {f'signal {outcome.signal}' if outcome.signal else f'status {outcome.exit_status}'}")
    return die_like(outcome)


def _run(gate: SignalGate, lease: Lease, argv: tuple[str, ...]) -> Outcome:
    from leasecap._host.process import start_of
    from leasecap._liveness.record import PENDING, Child
    from leasecap.cli._supervise import spawn, supervise

    def note(pid: int) -> None:
        start = start_of(pid)
        lease.note_child(PENDING if start is None else Child(pid, start))

    child = spawn(gate, argv, {**os.environ, **lease.env()}, lease.liveness_fd, note)
    return supervise(gate, child, lease.hold)


def _say_waiting(waiting: Waiting) -> None:
    longest = f", held longest by {waiting.holders[0]}" if waiting.holders else ""
    limit = "no limit" if waiting.limit in (None, UNLIMITED) else waiting.limit
    say(f"waiting for {waiting.pool}: {waiting.in_flight}/{limit}, position {waiting.position}{longest}")
    if waiting.notice:
        say(waiting.notice)


def _say_lost(lease: Lease) -> None:
    if lease.expired:
        return  # `supervise` tells, and ends it
    from leasecap._config.pool_name import pool_name
    from leasecap._config.root import root_path

    if is_on_disk(root_path(), pool_name(lease.pool)):
        why = "released by a person, or taken for dead"
    else:
        why = f"the pool's directory was removed from {root_path()}"
    say(f"lease {lease.id} of pool {lease.pool} was lost ({why}): the command runs on beside the cap")
