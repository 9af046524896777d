"""`leasecap policy`: what holds for everybody who shares a pool on a server."""

from __future__ import annotations

import shlex

import click

from leasecap._config.root import root_path
from leasecap._errors import LeasecapError
from leasecap._redact import printable
from leasecap._runtime import runtime
from leasecap.cli._pools import complete_pool, known_pool
from leasecap.cli._say import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import PoolConfig


@click.command("policy", cls=Verb)
@click.argument("action", type=click.Choice(["show", "push"]))
@click.argument("pool", shell_complete=complete_pool)
def command(action: str, pool: str) -> None:
    """Show what holds for everybody who shares POOL on a server, or push what this machine's config.toml says.

    These are the keys about feedback, order, max_hold, reclaim, when_unsure, and stale_after (for how long an entry
    lasts that nobody renews). A file that says something else is named by `leasecap status`, and not applied. The limit
    is set by `leasecap limit`.
    """
    root = runtime.root(root_path())
    settings = root.config.pool(known_pool(pool).text)
    if settings.store is None:
        name = printable(settings.name.text, 200)
        raise LeasecapError(f"{name} is kept in this machine's files, and config.toml has all that holds for it")
    if action == "push":
        runtime.on_server(settings).push_policy()
    _show(settings)


def _show(settings: PoolConfig) -> None:
    policy, by, differing = runtime.on_server(settings).policy()
    name = printable(settings.name.text, 200)
    click.echo(f"{name}: " + (printable(by, 200) if by else "nobody has pushed a policy, so the defaults hold"))
    for key, value in policy.items():
        click.echo(f"  {key} = {_toml(value)}")
    if differing:
        click.echo(f"This machine's file says something else of {', '.join(differing)}, which doesn't hold.")
        click.echo(f"To make it everybody's: leasecap policy push {shlex.quote(name)}")


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return f'"{printable(value, 200)}"'
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
