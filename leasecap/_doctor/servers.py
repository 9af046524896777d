"""The servers that keep pools: whether each can, and what it would forget."""

from __future__ import annotations

from functools import partial

from leasecap._config.config import load_config
from leasecap._config.store_choice import default_store
from leasecap._doctor import proof
from leasecap._doctor.check import Check, guarded
from leasecap._errors import LeasecapError
from leasecap._extras import missing, to_install
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress
    from leasecap._doctor.check import Site
    from leasecap._store.health import Finding


def servers(site: Site) -> Iterator[Check]:
    """What is found of each server that config.toml or the environment names."""
    named = _named(site)
    if named and missing("redis"):
        yield Check("server", "bad", "redis-py is not installed", f"it comes with:\n  {to_install('redis')}")
        return
    for address, pools in named.items():
        refusals = 0
        for name, look in runtime.server_checks(address, pools):
            check = guarded(name, partial(_check, name, look))
            refusals += check.verdict == "bad"
            yield check
        if not refusals:  # else it would say the same in other words
            yield guarded("server proof", proof.server_proof, address)


def _named(site: Site) -> dict[StoreAddress, list[PoolName]]:
    """The servers, with the pools that are configured to be there."""
    found: dict[StoreAddress, list[PoolName]] = {}
    try:
        config = load_config(site.root)
        if (usual := default_store(config.defaults)) is not None:
            found[usual] = []
        for name in config.pools:
            if (store := config.pool(name.text).store) is not None:
                found.setdefault(store, []).append(name)
    except LeasecapError:
        return {}  # the check of the configuration says what is wrong
    return found


def _check(name: str, look: Callable[[], Finding]) -> Check:
    verdict, found, remedy = look()
    return Check(name, verdict, found, remedy)
