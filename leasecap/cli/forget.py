"""`leasecap forget`: a pool that nobody wants any more."""

from __future__ import annotations

import shlex

import click

from leasecap._config.root import root_path
from leasecap._redact import printable
from leasecap.cli._pools import complete_pool, known_pool
from leasecap.cli._say import Verb


@click.command("forget", cls=Verb)
@click.argument("pool", shell_complete=complete_pool)
def command(pool: str) -> None:
    """Remove POOL with all that its provider's answers have taught it, a pause included.

    Refused while somebody holds a slot in it or waits. What config.toml says of it stays there.
    """
    from leasecap._runtime import runtime

    root, known = root_path(), known_pool(pool)
    name = printable(known.text, 200)
    found = runtime.forget(root, known)
    click.echo(f"{name}: forgotten" if found else f"{name}: there was nothing to forget, nobody has used it")
    config = runtime.root(root).config
    if known in config.pools:
        # Where a server keeps the pool `--unset` is about the limit there, which is forgotten.
        unset = f"; `leasecap limit {shlex.quote(name)} --unset` takes the limit out"
        click.echo(f"Its table in config.toml stays{unset if config.pool(known.text).store is None else ''}.")
