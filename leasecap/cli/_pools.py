"""Which pool a verb means when it isn't told, and what a shell completes."""

from __future__ import annotations

import os

from leasecap._errors import ConfigError, LeasecapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import click

    from leasecap._config.config import Config

ENVIRONMENT = "LEASECAP_POOL"


def chosen_pool(pool: str | None, program: str | None, config: Config) -> str:
    """The pool given, else that of ``program`` in [commands], else LEASECAP_POOL, else [defaults] pool.

    :raises ConfigError: when none of them names one.
    """
    if pool is not None:
        return pool
    name = os.path.basename(program or "")
    found = config.commands.get(name) or os.environ.get(ENVIRONMENT) or config.default_pool
    if found:
        return found
    table = f', or map the command once in {config.path}: [commands] {name} = "anthropic"' if name else ""
    raise ConfigError("no pool is given", allowed=f"name one with -p POOL, or set {ENVIRONMENT}{table}")


def complete_pool(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Pools that are configured, in use, or preset."""
    from leasecap._config.presets import PRESETS
    from leasecap._status.read import status

    try:
        known = {pool.pool for pool in status().pools}
    except LeasecapError:
        known = set()
    return sorted(name for name in known.union(PRESETS) if name.startswith(incomplete))


def complete_lease(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of leases that are held."""
    from leasecap._status.read import status

    try:
        pools = status().pools
    except LeasecapError:
        return []
    return sorted(holder.id for pool in pools for holder in pool.holders if holder.id.startswith(incomplete))
