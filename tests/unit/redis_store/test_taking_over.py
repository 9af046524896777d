"""When the first ticket of a process begins to look for all."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

from leasecap._config.store_address import parse_address
from leasecap._host.effects import Effects
from leasecap._redis_store.own_store import _TAKE_OVER_IN, OwnStore, _Waiting

PATIENCE = 20.0


def test_first_ticket_takes_over_after_a_while_and_once() -> None:
    own = OwnStore(parse_address("redis://127.0.0.1"), cast("Any", SimpleNamespace(id="p")), Effects(), lambda _: None)
    woken: list[str] = []
    last = threading.Event()
    pool, other = cast("Any", object()), cast("Any", object())
    own._waiting = {
        "1": _Waiting(pool, "500-2", lambda _: woken.append("second")),
        "2": _Waiting(pool, "500-1", lambda _: woken.append("first")),
        "3": _Waiting(other, "500-9", lambda _: last.set()),
    }
    began = time.monotonic()
    for _ in range(3):
        own._heard(b"!")
    assert last.wait(PATIENCE)
    assert time.monotonic() - began >= _TAKE_OVER_IN
    own._waiting = {}
    own.rest()
    assert woken == ["first"]


def test_ticket_that_is_granted_meanwhile_takes_nothing_over() -> None:
    own = OwnStore(parse_address("redis://127.0.0.1"), cast("Any", SimpleNamespace(id="p")), Effects(), lambda _: None)
    own._heard(b"!")
    own.rest()
    assert own.alarms._alarms == {}
    assert own.alarms._thread is None
