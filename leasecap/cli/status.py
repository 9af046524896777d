"""`leasecap status`: who holds, who waits, since when, and why."""

from __future__ import annotations

import click

from leasecap._config.pool_name import pool_name
from leasecap._errors import ConfigError, StoreError
from leasecap._status.read import status
from leasecap.cli._picture import render
from leasecap.cli._pools import complete_pool, known_pool
from leasecap.cli._say import Verb
from leasecap.cli._screen import columns, home, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._status.model import PoolStatus
    from leasecap._status.read import Status


@click.command("status", cls=Verb)
@click.argument("pools", metavar="[POOL]...", nargs=-1, shell_complete=complete_pool)
@click.option("--latency", is_flag=True, help="How long requests took, by hour and model, in place of who holds.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C.")
def command(pools: tuple[str, ...], latency: bool, as_json: bool, watch: bool) -> int:
    """Show who holds and who waits, in all pools or in those named.

    Takes no lock and writes nothing. Exit status 1 when a pool or the configuration can't be read as it should be.
    """
    if as_json and watch:
        raise click.UsageError("give --json or --watch, not both")
    if watch:
        from leasecap.cli import _watch  # with it comes what sees changes

        if pools:
            _check(_look(pools, latency))
        _watch.watch(lambda: _look(pools, latency))
    found = _look(pools, latency)
    if pools:
        _check(found)
    if as_json:
        import json

        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        click.echo("\n".join(map(paint, render(None, columns(), found, home()))))
    troubles = [found.config_error, found.error, *(pool.error for pool in found.pools)]
    return 1 if any(troubles) else 0


def _check(found: Status) -> None:
    """Refuse a name that means no pool. One of which something is found does, and its server isn't asked again."""
    for pool in found.pools:
        if pool.lock is None and pool.error is None:
            try:
                known_pool(pool.pool)
            except (ConfigError, StoreError):
                pass  # it is shown with the pools


def _look(pools: tuple[str, ...], latency: bool) -> Status:
    if not pools:
        return status(latency=latency)
    from dataclasses import replace

    looks = [status(pool, latency=latency) for pool in dict.fromkeys(pools)]
    found: dict[str, PoolStatus] = {}
    for look in looks:
        for pool in look.pools:
            found.setdefault(pool_name(pool.pool).identity, pool)  # a pool may have been given by two of its names
    return replace(looks[0], pools=tuple(found.values()))
