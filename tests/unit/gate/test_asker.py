"""Who asks, and what is looked up for it beside the gate's event loop."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from leasecap._config.config import parse_config
from leasecap._errors import Unreachable
from leasecap._gate import asker
from leasecap._request import Options

SERVER = "redis://127.0.0.1:1/0"


def pool_in(store: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = parse_config("/root/config.toml", "" if store is None else f'[pools.p]\nstore = "{store}"\n').pool("p")
    root = SimpleNamespace(pool=lambda name: pool)
    monkeypatch.setattr(asker, "runtime", SimpleNamespace(root=lambda path: root))


@pytest.mark.parametrize("store", [None, SERVER])
def test_a_server_is_asked_beside_the_loop(store: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def leases(_: asker.Asker, pool: str) -> tuple[str, ...]:
        asked.append(threading.current_thread() is threading.main_thread())
        return (pool,)

    pool_in(store, monkeypatch)
    monkeypatch.setattr(asker.Asker, "_leases", leases)
    assert asyncio.run(asker.Asker(("127.0.0.1", 1), ("127.0.0.1", 2)).leases("p", Options(timeout=1))) == ("p",)
    assert asked == [store is None]


@pytest.mark.parametrize("timeout", [None, 30, 0])
def test_a_server_that_is_away_is_waited_for(timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that didn't know of its agent's lease waited for a second slot, at a limit of 1 for ever."""
    tries = iter(range(3))

    def leases(_: asker.Asker, pool: str) -> tuple[str, ...]:
        if next(tries) < 2:
            raise Unreachable("is away", path="", remedy="")
        return (pool,)

    pool_in(SERVER, monkeypatch)
    monkeypatch.setattr(asker, "_AGAIN", 0.0)
    monkeypatch.setattr(asker.Asker, "_leases", leases)
    asks = asker.Asker(("127.0.0.1", 1), ("127.0.0.1", 2)).leases("p", Options(timeout=timeout))
    if timeout == 0:
        with pytest.raises(Unreachable):
            asyncio.run(asks)
    else:
        assert asyncio.run(asks) == ("p",)
