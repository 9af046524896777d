"""A gate in a thread of the test, whose constants a test can change and which it can stop at any place."""

from __future__ import annotations

import logging
import threading

from commands import until
from gated import POOL, Gated

from leasecap import _log
from leasecap._gate.gate import Gate
from leasecap._gate.terms import Pools
from leasecap._gate.upstreams import Upstream
from leasecap._host.listener import listen
from leasecap._request import Options
from leasecap.cli._per_request import GateThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from provider import Provider
    from pytest import MonkeyPatch

TOKEN = "a-token-of-a-test"


class GateInside(Gated):
    """Serves while its block lasts.

    :ivar told: what it had to tell.
    """

    def __init__(self, provider: Provider, monkeypatch: MonkeyPatch, *, limit: int | None = 1) -> None:
        self.told: list[str] = []
        monkeypatch.setattr(_log, "sink", self.told.append)
        monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", False)
        listener = listen()
        self.port, self.token = listener.getsockname()[1], TOKEN
        upstream = Upstream("anthropic", "http", "127.0.0.1", provider.port, "", "ANTHROPIC_BASE_URL", "anthropic")
        pools = Pools({"anthropic": POOL}, Options(limit=limit), {})
        self._over = threading.Event()
        self._thread = GateThread(
            lambda: Gate(listener, lambda: TOKEN, {"anthropic": upstream}, pools, {}, "agent"),
            listener,
            self.told.append,
            self._over.set,
        )
        self._thread.start()
        until(lambda: self._thread.gate)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.cut()
        assert self._over.wait(20)

    @property
    def gate(self) -> Gate:
        assert self._thread.gate is not None
        return self._thread.gate

    @property
    def busy(self) -> int:
        """How many connections to providers it uses at the moment."""
        return len(self.gate._shared.client._busy)
