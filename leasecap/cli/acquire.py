"""`leasecap acquire`: a slot for a process that is not a child of ours, such as an interactive agent with hooks."""

from __future__ import annotations

import errno
import os
import sys

import click

from leasecap._errors import AcquireTimeout, LeasecapError
from leasecap.cli._pools import chosen_pool, complete_pool
from leasecap.cli._say import Duration, Verb, say

NO_SLOT = 75


@click.command("acquire", cls=Verb)
@click.option(
    "-p", "--pool", metavar="POOL", shell_complete=complete_pool, help="Which cap; else LEASECAP_POOL, [defaults] pool."
)
@click.option("--for-pid", "pid", metavar="PID", type=click.IntRange(1, 2**31 - 1), required=True, help="Who holds it.")
@click.option("-w", "--wait", type=Duration(), help="Wait at most so long for a slot: 1.5, 500ms, 30s, 5m, 1h.")
@click.option("-n", "--no-wait", is_flag=True, help="Don't wait: try once.")
def command(pool: str | None, pid: int, wait: float | None, no_wait: bool) -> int:
    """Take a slot for the process PID and print the lease's id.

    It is held until `leasecap release ID`, or until PID ends. Meant for an agent's hooks: a slot from prompt to answer,
    not for a whole session at an idle prompt. Exit status 75 when no slot came in time.
    """
    if no_wait and wait is not None:
        raise click.UsageError("give -w or -n, not both")
    from leasecap._api import acquire_with
    from leasecap._config.root import root_path
    from leasecap._host.process import start_of
    from leasecap._request import UNSET, Options
    from leasecap._runtime import runtime
    from leasecap._wait.blocking import ThreadWaiter

    start = _started(pid, start_of(pid))
    chosen = chosen_pool(pool, None, runtime.root(root_path()).config)
    options = Options(timeout=0.0 if no_wait else UNSET if wait is None else wait, label=f"for pid {pid}")
    try:
        lease = acquire_with(chosen, ThreadWaiter(), options)
    except AcquireTimeout as error:
        say(str(error))
        return NO_SLOT
    try:
        _started(pid, start_of(pid), start)  # it may have ended, and its pid be another's, while we waited
        _print(lease.id)  # first: nobody could give back a slot whose id is lost
        lease.hand_to(pid, start)
    except BaseException:
        lease.release()
        raise
    return 0


def _print(lease: str) -> None:
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        click.echo(lease)
    except OSError as error:
        if sys.stdout is not None:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())  # else it would fail once more at the end
        raise LeasecapError(
            f"the lease's id could not be written to stdout ({error.strerror}): the slot was given back"
        ) from None


def _started(pid: int, start: int | None, before: int | None = None) -> int:
    if start is None or before not in (None, start):
        raise LeasecapError(f"pid {pid} does not run, as far as can be seen from here: no slot was taken for it")
    return start
