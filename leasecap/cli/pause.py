"""`leasecap pause`: nobody gets a slot for a while."""

from __future__ import annotations

import os

import click

from leasecap._durations import format_duration
from leasecap._feedback.messages import resume_command
from leasecap._redact import printable
from leasecap.cli._pools import complete_pool, known_pool
from leasecap.cli._say import Duration, Verb


@click.command("pause", cls=Verb)
@click.argument("pool", shell_complete=complete_pool)
@click.argument("duration", metavar="[DUR]", required=False, type=Duration())
def command(pool: str, duration: float | None) -> None:
    """Give out no slot of POOL for DUR (30s, 1m30s, 1h, 1d), or until `leasecap resume POOL`.

    What runs goes on. A pause that holds already is never shortened.
    """
    from leasecap import _control
    from leasecap._api import pool_store

    if duration == 0:
        raise click.UsageError("a pause of no length closes nothing; give none at all to close the pool until resumed")
    store = pool_store(known_pool(pool).text)
    state = _control.pause(store, duration, f"by hand (pid {os.getppid()})")
    name, pause = printable(store.name, 200), state.pause
    resume = resume_command(name)
    assert pause is not None
    if pause.until is None:
        click.echo(f"{name}: closed until {resume}")
    else:
        left = pause.until - store.feedback_now()
        click.echo(f"{name}: paused for {format_duration(left)}; sooner with {resume}")
