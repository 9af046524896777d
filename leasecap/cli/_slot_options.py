"""The options that `run` and `acquire` share, and what both print about a slot."""

from __future__ import annotations

from functools import wraps

import click

from leasecap._decisions.limits import UNLIMITED
from leasecap._durations import format_duration
from leasecap._errors import Unreachable
from leasecap._named_tuple import NamedTuple
from leasecap._redact import printable
from leasecap.cli._pools import complete_pool
from leasecap.cli._say import Duration, Limit, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap._errors import AcquireTimeout
    from leasecap._lease import Lease
    from leasecap._request import Options
    from leasecap._wait.progress import Waiting

NO_SLOT = 75  # EX_TEMPFAIL of sysexits.h: try again later

_AGAIN = 0.1  # seconds between tries while a server is away


class Asked(NamedTuple):
    """The options as they were given; None: not given."""

    pool: str | None
    limit: int | None
    wait: float | None
    no_wait: bool
    no_slot: int
    max_hold: float | None
    kill_after: float | None
    priority: int | None
    label: str | None
    no_borrow: bool
    verbose: bool
    quiet: bool

    def options(self) -> Options:
        """The arguments of an acquire."""
        from leasecap._request import UNSET, Options

        return Options(
            timeout=0.0 if self.no_wait else UNSET if self.wait is None else self.wait,
            limit=self.limit,
            priority=UNSET if self.priority is None else self.priority,
            label=self.label,
            borrow=not self.no_borrow,
            on_wait=None if self.quiet else _say_waiting,
            max_hold=UNSET if self.max_hold is None else self.max_hold,
            kill_after=UNSET if self.kill_after is None else self.kill_after,
        )

    def say_granted(self, pool: str, lease: str, waited: float) -> None:
        """Say that the slot came, if -v was given."""
        if self.verbose:
            say(f"{pool}: slot {lease} after {format_duration(waited)}")

    def note(self, lease: Lease, note: Callable[[], None], pause: Callable[[float], object]) -> None:
        """Call ``note``, which says whom the lease is for; again, for as long as it lasts, while its server is away.

        :param pause: waits that many seconds before the next try, or raises.
        """
        is_told = self.quiet
        while True:
            try:
                return note()
            except Unreachable as error:
                if lease.lost:
                    raise
                if not is_told:
                    is_told = True
                    say(f"{str(error).splitlines()[0]}; slot {lease.id} isn't used before it can be")
                pause(_AGAIN)

    def refuse(self, error: AcquireTimeout) -> int:
        """Say why no slot came; returns what to exit with."""
        if not self.quiet:
            say(str(error))
        return self.no_slot


def _not_an_option(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    # Click takes whatever comes next: of `run -p -- claude` it made a pool of that name.
    if name is not None and name.startswith("-"):
        raise click.UsageError(f"-p needs the name of a pool, and {printable(name, 40)} comes after it")
    return name


_OPTIONS = (
    click.option(
        "-p", "--pool", metavar="POOL", callback=_not_an_option, shell_complete=complete_pool, help="Which cap."
    ),
    click.option("--limit", type=Limit(), help="Hold to at most N while this waits or holds; it can only tighten."),
    click.option("-w", "--wait", type=Duration(), help="Wait at most so long for a slot: 1.5, 500ms, 30s, 1m30s, 1h."),
    click.option("-n", "--no-wait", is_flag=True, help="Don't wait: try once."),
    click.option(
        "-E", "--no-slot-status", "no_slot", metavar="CODE", type=click.IntRange(0, 255), default=NO_SLOT,
        show_default=True, help="Exit status when no slot came in time.",
    ),
    click.option(
        "--max-hold", type=Duration(zero=False),
        help="For how long the slot may be held; else max_hold of the configuration.",
    ),
    click.option(
        "--kill-after", type=Duration(), help="How long who has held it so long has to end; else kill_after, or 10s."
    ),
    click.option("--priority", metavar="N", type=click.IntRange(-99, 99), help="Higher goes first."),
    click.option("-l", "--label", metavar="LABEL", help="What status shows in place of the command."),
    click.option("--no-borrow", is_flag=True, help="Take a slot of its own even under a lease of the same pool."),
    click.option("-v", "--verbose", is_flag=True, help="Say when the slot came, and how it ended."),
    click.option("-q", "--quiet", is_flag=True, help="Say neither that it waits nor that no slot came."),
)  # fmt: skip


def slot_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a verb these options. It is called with an `Asked`, and with its other arguments."""

    @wraps(command)
    def called(**given: Any) -> int:
        asked = Asked(**{name: given.pop(name) for name in Asked._fields})
        if asked.no_wait and asked.wait is not None:
            raise click.UsageError("give -w or -n, not both")
        if asked.verbose and asked.quiet:
            raise click.UsageError("give -v or -q, not both")
        return command(asked, **given)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called


def _say_waiting(waiting: Waiting) -> None:
    longest = f", held longest by {waiting.holders[0]}" if waiting.holders else ""
    limit = "no limit" if waiting.limit in (None, UNLIMITED) else waiting.limit
    say(f"waiting for {waiting.pool}: {waiting.in_flight}/{limit}, position {waiting.position}{longest}")
    if waiting.notice:
        say(waiting.notice)
