"""`leasecap doctor`: can agents share a cap here, and if not, what to do."""

from __future__ import annotations

import signal
import textwrap
from contextlib import contextmanager

import click

from leasecap._redact import printable
from leasecap.cli import _streams
from leasecap.cli._say import Verb
from leasecap.cli._screen import ENDING, columns, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from leasecap._doctor.check import Check

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}
_NAMES = 15  # columns
_FOUND = 6 + _NAMES  # where the findings begin
_REMEDY = _FOUND + 2
_NARROWEST = 30


@click.command("doctor", cls=Verb)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
def command(directory: str | None) -> int:
    """Try out whether agents can share a cap here, and say what to do if not.

    Looks at the root and at the machine, and lets two processes fight for one slot. With DIR: tries writing, locks,
    notifications and the fight in that directory, to see whether a root would do there. Leaves nothing behind. Exit
    status 1 when something is wrong.
    """
    from leasecap._doctor.examine import examine, summary

    checks = []
    with _leaving_nothing():
        for check in examine(directory):
            checks.append(check)
            for line in _lines(check):
                click.echo(line)
    click.echo()
    click.echo("\n".join(_wrapped(printable(summary(checks), 500), 0)))
    return 1 if any(check.verdict == "bad" for check in checks) else 0


class _Ended(BaseException):
    """A signal asks this process to end. No `Exception`, as no check may take it for its finding."""


@contextmanager
def _leaving_nothing() -> Iterator[None]:
    """Let a signal that ends this process end the block first, so that what is tried out is removed, its processes
    too."""
    before = {signum: signal.getsignal(signum) for signum in ENDING}
    came: list[int] = []

    def end(signum: int, _frame: FrameType | None) -> None:
        came.append(signum)
        if len(came) == 1:  # timeout(1) sends two, and the second must not end the removal
            raise _Ended

    try:
        try:
            for signum, handler in before.items():
                if handler is not signal.SIG_IGN:  # as under nohup, and for a job in the background
                    signal.signal(signum, end)
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
    except _Ended:
        _streams.die_of(signal.Signals(came[0]))


def _lines(check: Check) -> Iterator[str]:
    first, *others = _wrapped(printable(check.found, 1000), _FOUND)
    yield paint(((check.verdict.ljust(6), _COLOURS[check.verdict]), (check.name.ljust(_NAMES) + first, "")))
    for line in others:
        yield " " * _FOUND + line
    for line in check.remedy.splitlines():
        # To be copied as it is: never wrapped.
        verbatim = line.startswith("  ")
        for part in [printable(line, 4000)] if verbatim else _wrapped(printable(line, 1000), _REMEDY):
            yield " " * _REMEDY + part


def _wrapped(text: str, indent: int) -> list[str]:
    wide = columns()
    if wide is None:
        return [text]
    width = max(wide - indent, _NARROWEST)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
