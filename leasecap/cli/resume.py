"""`leasecap resume`: a pool that is paused or closed gives out slots again."""

from __future__ import annotations

import click

from leasecap._config.root import root_path
from leasecap._errors import StoreError, Unreachable
from leasecap._redact import printable
from leasecap._runtime import runtime
from leasecap.cli._pools import complete_pool, known_pool
from leasecap.cli._say import Verb


@click.command("resume", cls=Verb)
@click.argument("pool", shell_complete=complete_pool)
def command(pool: str) -> None:
    """Give out slots of POOL again, whatever closed it: `pause`, a Retry-After, a used-up quota.

    A limit that was reduced stays so: `leasecap limit POOL N` restores it.
    """
    from leasecap import _control
    from leasecap._api import pool_store
    from leasecap._feedback import adaptive
    from leasecap._feedback.rules import Rules

    known = known_pool(pool)
    if not runtime.is_used(root_path(), known):
        click.echo(f"{printable(known.text, 200)}: was not paused")
        return
    store = pool_store(known.text)
    try:
        store.view()
        broken = False
    except Unreachable:
        raise
    except StoreError:
        broken = True
    before = _control.resume(store)
    name, pause = printable(store.name, 200), before.pause
    now = store.feedback_now()
    if broken:
        click.echo(f"{name}: its state could not be read; it begins anew, at the configured limit")
    elif pause is None or not adaptive.admission(before, Rules(), now, gated=False).closed:
        click.echo(f"{name}: was not paused")
    else:
        click.echo(f"{name}: open again (it was closed: {printable(pause.why, 200)})")
