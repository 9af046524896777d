"""Which store a pool is in, as one process sees it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from leasecap._config.config import parse_config
from leasecap._config.store_address import parse_address
from leasecap._redis_store.own_stores import OwnStores


def test_new_password_is_no_other_store() -> None:
    old = parse_address("redis://:old@host/0")
    nothing: Any = None
    its: Any = SimpleNamespace(name=old.name, address=old, is_used_in=lambda name: True)
    stores = OwnStores(nothing, nothing, nothing)
    stores._stores[old] = its
    for text, elsewhere in (("redis://:new@host/0", False), ("redis://:old@host/1", True), ("redis://other/0", True)):
        settings = parse_config("", f'[pools.p]\nstore = "{text}"\n').pool("p")
        assert bool(stores.used_elsewhere(settings)) is elsewhere, text
