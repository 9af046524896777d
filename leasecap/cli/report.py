"""`leasecap report`: what the provider answered, for shell hooks and scripts."""

from __future__ import annotations

import click

from leasecap._config.root import root_path
from leasecap._durations import format_duration
from leasecap._errors import LeasecapError
from leasecap._redact import printable
from leasecap._runtime import runtime
from leasecap.cli._pools import (
    UnknownPool,
    complete_pool,
    known_pool,
    pool_here,
    pool_of_chain,
    pool_of_environment,
    pool_of_parent,
)
from leasecap.cli._say import Verb, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._status.model import PoolStatus


@click.command("report", cls=Verb)
@click.argument("pool", metavar="[POOL]", required=False, shell_complete=complete_pool)
@click.option("--status", metavar="CODE", type=int, help="The HTTP status of the answer.")
@click.option("--retry-after", metavar="S|DATE", help="As the header has it: seconds, or an HTTP date.")
@click.option(
    "--kind",
    type=click.Choice(["concurrency", "quota", "neutral"]),
    help="What it means, unless the status says so: 429, 503, 529 concurrency, 402 quota.",
)
@click.option("--ttfb", metavar="SECONDS", type=click.FloatRange(0), help="Seconds to the first byte of the answer.")
def command(
    pool: str | None, status: int | None, retry_after: str | None, kind: str | None, ttfb: float | None
) -> None:
    """Tell POOL what its provider answered, so that all who share it learn from it.

    A refusal (429, 503, 529) cuts the limit, and with --retry-after closes the pool until then. A used-up quota closes
    it until --retry-after, or until `leasecap resume POOL`. Under `leasecap run` it is about that lease, and its pool
    need not be named: a refusal of work that began before the last cut doesn't cut again. Exit status 1 when it can't
    be noted.
    """
    from leasecap import _control
    from leasecap._api import report
    from leasecap._status.read import status as look

    try:
        _control.check_report(status, retry_after, kind, ttfb)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    about = _pool(pool)
    before = look(about).pools[0]
    if before.lock is None and before.error:  # to ask a server that is away once more takes seconds each time
        raise LeasecapError(before.error)
    report(about, status, retry_after=retry_after, kind=kind, ttfb=ttfb)
    click.echo(f"{printable(before.pool, 200)}: {_effect(before, look(about).pools[0])}")


def _pool(given: str | None) -> str:
    """The pool that is given, else that of the lease, else LEASECAP_POOL or [defaults] pool."""
    if given is None:
        given = pool_of_chain() or _without_a_chain()
        if given is None:
            raise LeasecapError("no pool is given, and this runs under no lease: leasecap report POOL ...")
    try:
        return known_pool(given).text
    except UnknownPool as error:
        here = pool_here()
        if here is None:
            raise
        say(f"{error}; noted for {printable(here, 60)}, whose lease this runs under")
        return here


def _without_a_chain() -> str | None:
    """The pool of a parent's lease, else LEASECAP_POOL or [defaults] pool. Its server is asked once if it is away."""
    config = runtime.root(root_path()).config
    named = pool_of_environment() or config.default_pool
    store = None if named is None else config.pool(named).store
    if named is None or store is None:
        return pool_of_parent() or named
    from leasecap._status.read import status as look

    seen = look(named).pools[0]
    if seen.lock is not None or not seen.error:
        return pool_of_parent() or named
    found = pool_of_parent(silent=store)
    if found is None:
        raise LeasecapError(seen.error)
    return found


def _effect(before: PoolStatus, after: PoolStatus) -> str:
    """What the report has changed."""
    words = []
    if after.limit != before.limit:
        words.append(f"limit {before.limit} -> {after.limit}")
    feedback = after.feedback
    if feedback is not None and feedback.paused:
        left = "until it is resumed" if feedback.pause_left is None else f"for {format_duration(feedback.pause_left)}"
        words.append(f"gives out no slot {left}")
    return ", ".join(words) or f"noted, the limit stays {'unset' if after.limit is None else after.limit}"
