"""Which pool a verb means when none is given, and what a shell completes."""

from __future__ import annotations

import os

from leasecap._ancestry import current, tokens
from leasecap._config.pool_name import pool_name
from leasecap._config.presets import PRESETS
from leasecap._config.root import root_path
from leasecap._config.toml_file import key_text
from leasecap._errors import ConfigError, LeasecapError
from leasecap._host.process import ancestors_of
from leasecap._redact import printable
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import click

    from leasecap._config.config import Config
    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress

ENVIRONMENT = "LEASECAP_POOL"


class UnknownPool(LeasecapError):
    """A name that means no pool."""


def chosen_pool(pool: str | None, program: str | None, config: Config) -> str:
    """The pool given, else that of ``program`` in [commands], else LEASECAP_POOL, else [defaults] pool.

    :raises ConfigError: when none of them names one.
    """
    if pool is not None:
        return pool
    name = os.path.basename(program or "")
    found = config.commands.get(name) or pool_of_environment() or config.default_pool
    if found:
        return found
    table = f', or map the command once in {config.path}: [commands] {key_text((name,))} = "anthropic"' if name else ""
    raise ConfigError("no pool is given", allowed=f"name one with -p POOL, or set {ENVIRONMENT}{table}")


def pool_of_environment() -> str | None:
    """What LEASECAP_POOL says.

    :raises ConfigError: if that can't name a pool.
    """
    pool = os.environ.get(ENVIRONMENT)
    if not pool:
        return None
    try:
        pool_name(pool)
    except ConfigError as error:
        raise ConfigError(error.message, file="environment", key=ENVIRONMENT, allowed=error.allowed) from None
    return pool


def known_pool(pool: str) -> PoolName:
    """The pool of that name, if there is one: it is configured, preset, or was used before.

    :raises UnknownPool: if there is none; its one line has the name that was probably meant.
    :raises ConfigError, StoreError: if it can't name a pool, or the configuration can't be used.
    """
    root = root_path()
    config = runtime.root(root).config
    name = config.pool(pool).name
    if is_known(name, config, root):
        return name
    raise unknown(name, config, root)


def is_known(name: PoolName, config: Config, root: str) -> bool:
    """Whether the pool is configured, preset, or was used before."""
    return name.identity in config.names() or runtime.is_used(root, name)


def unknown(name: PoolName, config: Config, root: str) -> UnknownPool:
    """The error about a name that means no pool."""
    return UnknownPool(f"there is no pool {printable(name.text, 60)!r}{suggestion(name, config, root)}")


def suggestion(name: PoolName, config: Config, root: str) -> str:
    """The end of a sentence about a name that means no pool: which pool was probably meant, or where they are
    listed."""
    found = nearest_pool(name, config, root)
    return "; `leasecap status` and `leasecap limit` list them" if found is None else f"; did you mean {found}?"


def nearest_pool(name: PoolName, config: Config, root: str) -> str | None:
    """The pool that was probably meant by a name that means none."""
    from leasecap._config.nearest import nearest

    known = {other.identity: other.text for other in runtime.pictures(root).names()} | config.names()
    found = nearest(name.identity, known)
    return None if found is None else known[found]


def pool_here() -> str | None:
    """The pool of the lease that this runs under: by the chain in LEASECAP_LEASE, or held by a parent process."""
    return pool_of_chain() or pool_of_parent()


def pool_of_chain() -> str | None:
    """The pool of the innermost lease in LEASECAP_LEASE. No server is asked."""
    root = root_path()
    for entry in current():
        directory = entry.rpartition("/")[0].rpartition("/")[2]
        name = runtime.name_on_disk(root, directory)
        if name.identity != directory and tokens(root, directory):  # the pool is there, and in this root
            return name.text
        if (on_server := _pool_on_server(directory, runtime.root(root).config)) is not None:
            return on_server
    return None


def pool_of_parent(silent: StoreAddress | None = None) -> str | None:
    """The pool in which a parent process holds a slot.

    :param silent: a server that isn't asked.
    """
    from leasecap._status.read import status, status_apart_from

    held: dict[int, set[str]] = {}
    for pool in (status() if silent is None else status_apart_from(silent)).pools:
        for holder in pool.holders:
            if holder.host is None and holder.alive and holder.pid is not None:
                held.setdefault(holder.pid, set()).add(pool.pool)
    # If a parent holds slots of two pools, it can't be told which one is meant.
    nearest = next((held[pid] for pid in ancestors_of(os.getpid()) if pid in held), set())
    return nearest.pop() if len(nearest) == 1 else None


def _pool_on_server(directory: str, config: Config) -> str | None:
    """The pool with that directory's name, if this runs under a lease of it on its server, which isn't asked."""
    # That of a plain name begins with it, so one that only [defaults] puts on a server is found as well.
    for text in (*config.names().values(), directory.rpartition("-")[0]):
        try:
            pool = config.pool(text)
        except ConfigError:
            continue
        if pool.store is not None and pool.name.directory == directory and tokens(pool.store.name, directory):
            return pool.name.text
    return None


def complete_pool(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Pools that are configured, in use, or preset."""
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
