"""The servers that keep pools: whether each can, and what it would forget."""

from __future__ import annotations

import importlib.util
from functools import partial

from leasecap._config.config import load_config
from leasecap._config.store_choice import default_store
from leasecap._doctor import proof
from leasecap._doctor.check import Check, guarded
from leasecap._errors import LeasecapError
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leasecap._config.store_address import StoreAddress
    from leasecap._doctor.check import Site
    from leasecap._store.health import Finding


def servers(site: Site) -> Iterator[Check]:
    """What is found of each server that config.toml or the environment names."""
    named = _named(site)
    if named and importlib.util.find_spec("redis") is None:
        yield Check("server", "bad", "redis-py is not installed", "it comes with:\n  pip install 'leasecap[redis]'")
        return
    for address in named:
        refusals = 0
        for name, look in runtime.server_checks(address):
            check = guarded(name, partial(_check, name, look))
            refusals += check.verdict == "bad"
            yield check
        if not refusals:  # else it would say the same in other words
            yield guarded("server proof", proof.server_proof, address)


def _named(site: Site) -> list[StoreAddress]:
    try:
        config = load_config(site.root)
        stores = [default_store(config.defaults), *(config.pool(name.text).store for name in config.pools)]
    except LeasecapError:
        return []  # the check of the configuration says what is wrong
    return list(dict.fromkeys(store for store in stores if store is not None))


def _check(name: str, look: Callable[[], Finding]) -> Check:
    verdict, found, remedy = look()
    return Check(name, verdict, found, remedy)
