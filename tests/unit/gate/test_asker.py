"""Who asks, and what is looked up for it beside the gate's event loop."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from leasecap._gate import asker


@pytest.mark.parametrize("store", [None, "a server"])
def test_a_server_is_asked_beside_the_loop(store: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def leases(_: asker.Asker, pool: str) -> tuple[str, ...]:
        asked.append(threading.current_thread() is threading.main_thread())
        return (pool,)

    root = SimpleNamespace(pool=lambda pool: SimpleNamespace(store=store))
    monkeypatch.setattr(asker, "runtime", SimpleNamespace(root=lambda path: root))
    monkeypatch.setattr(asker.Asker, "_leases", leases)
    assert asyncio.run(asker.Asker(("127.0.0.1", 1), ("127.0.0.1", 2)).leases("p")) == ("p",)
    assert asked == [store is None]
