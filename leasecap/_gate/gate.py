"""The server: takes connections, lets requests in, and answers for what goes wrong inside."""

from __future__ import annotations

import asyncio

from leasecap._config.root import root_path
from leasecap._errors import AcquireTimeout, LeasecapError
from leasecap._gate import errors, head
from leasecap._gate.downstream import ClientConnection, Downstream, reason
from leasecap._gate.exchange import Exchange
from leasecap._gate.head import Refused
from leasecap._gate.route import UpstreamError
from leasecap._gate.shared import Shared
from leasecap._gate.unjoined import UnjoinedThreads
from leasecap._gate.upstreams import detour
from leasecap._host.sockets import peer_uid
from leasecap._latency import latencies
from leasecap._log import log_warning
from leasecap._provider.absorb import clamp_retry_after
from leasecap._provider.free import is_free, is_known
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from typing import Any

    import h11

    from leasecap._gate.asker import Asker
    from leasecap._gate.terms import Pools
    from leasecap._gate.upstreams import Upstream

CONNECTIONS_MAX = 1024
"""Clients' connections at once. An idle one is never closed by the gate: the next request may be on its way."""


_TURNS = 10
"""Of the event loop, for what the command began just before its end: it is connected, but not yet accepted."""

SILENT_AFTER = 60.0
"""Seconds without a request that takes a slot after which `status` says so."""


class Gate:
    """One gate, for one command or for itself.

    :ivar metered: how many requests took a slot, here or at a gate nearer to the provider.
    """

    def __init__(
        self,
        listener: socket.socket,
        token: Callable[[], str],
        upstreams: Mapping[str, Upstream],
        pools: Pools,
        environ: Mapping[str, str],
        program: str | None,
    ) -> None:
        """
        :param token: gives the secret that each request must have.
        :param environ: as it stood before the command's was changed.
        :param program: what the command is called; None: it is for itself, and serves whoever comes.
        """
        self._listener = listener
        self._port: int = listener.getsockname()[1]
        self._token = token
        self._upstreams = upstreams
        self._pools = pools
        self._unknown: set[bytes] = set()  # paths that were told of
        self._open: set[asyncio.Task[None]] = set()
        self._silent_gates = runtime.silent_gates(root_path())
        self._shared = Shared(environ, program)
        self.metered = 0

    # -- life ---------------------------------------------------------------------------------------------------------

    async def serve(self, ended: asyncio.Event, patience: float) -> None:
        """Serve until the command has ``ended``, and then until the last connection is closed, or for ``patience``."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_fault)
        loop.set_default_executor(UnjoinedThreads())
        server = await loop.create_server(self._connection, sock=self._listener)
        program = self._shared.program
        silent = None if program is None else loop.call_later(SILENT_AFTER, self._note_silence, program)
        try:
            await ended.wait()
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            try:
                async with asyncio.timeout(patience):
                    while self._open:  # whose process has outlived the command
                        await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                pass
        finally:
            server.close()
            if silent is not None:
                silent.cancel()
                self._silent_gates.forget()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            self._shared.client.close()
            latencies.end()

    def _note_silence(self, program: str) -> None:
        if self.metered:
            return
        try:
            self._silent_gates.note(program)
        except OSError as error:
            log_warning(f"that nothing comes through the gate could not be noted for status: {error}")

    def _connection(self) -> ClientConnection:
        return ClientConnection(self._connected)

    async def _connected(self, connection: ClientConnection) -> None:
        task = asyncio.current_task()
        assert task is not None
        down = Downstream(connection)
        self._open.add(task)
        try:
            await self._serve(down)
            connection.serving = None  # from here on the end is ours
            await down.close()
        except (asyncio.CancelledError, OSError):
            pass  # the client is gone, or all are to go
        except Exception as error:
            _log_failure(error)
        finally:
            connection.serving = None
            down.abort()
            self._open.discard(task)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _serve(self, down: Downstream) -> None:
        """Answer one request after the other."""
        try:
            self._admit(down.asker)
            while (request := await down.next_request()) is not None:
                if not await self._answer(down, request):
                    return
        except Refused as refused:
            await down.refuse(refused.status, *errors.answer(refused.status, str(refused), "", None))

    def _admit(self, asker: Asker) -> None:
        if len(self._open) > CONNECTIONS_MAX:
            raise Refused(503, f"there are {CONNECTIONS_MAX} connections already")
        uid = peer_uid(asker.peer, asker.local)
        if uid is not None and uid != runtime.own.effects.me().uid:
            raise Refused(403, "only processes of the user who started this gate are answered")

    async def _answer(self, down: Downstream, request: h11.Request) -> bool:
        """Answer it, or say what went wrong. Returns whether the connection can take another one."""
        provider, retry_after = "", None
        try:
            head.check(request, self._port)
            route = head.route(request, self._token(), self._upstreams)
            upstream, target = detour(
                self._upstreams[route.upstream], [name for name, _ in request.headers], route.target
            )
            provider = upstream.speaks
            await self._pass(down, request, upstream, target)
            return await down.end()
        except Refused as error:
            status, message = error.status, str(error)
        except AcquireTimeout as error:
            status, message, retry_after = 429, str(error), clamp_retry_after(1.0)
        except UpstreamError as error:
            status, message = (504 if error.kind == "timeout" else 502), str(error)
        except LeasecapError as error:  # never a bypass: without a slot nothing is sent
            status, message = 502, str(error)
        except ConnectionError:
            raise  # the client's
        except Exception as error:
            _log_failure(error)
            status, message = 502, "the gate failed; nothing was sent past the pool"
        if down.started:
            down.abort()
            return False
        headers, body = errors.answer(status, message, provider, retry_after)
        down.start(status, reason(status), headers)
        if request.method != b"HEAD":
            await down.send(body)
        return await down.end()

    async def _pass(self, down: Downstream, request: h11.Request, upstream: Upstream, target: bytes) -> None:
        free = is_free(request.method, target, upstream.base_path)
        terms = self._pools.terms(upstream)
        if terms.unsure and not free and await asyncio.to_thread(self._pools.ask, upstream):
            terms = self._pools.terms(upstream)
        exchange = Exchange(self._shared, down, request, target, terms)
        if not free and (terms.pool is not None or terms.nearer):
            self.metered += 1
            if self.metered == 1 and self._shared.program is not None:
                self._silent_gates.forget()
        if free or terms.pool is None:
            await exchange.pass_through()
            return
        if not is_known(target, upstream.base_path):
            self._log_unknown(upstream.name, target)
        await exchange.meter(terms.pool)

    def _log_unknown(self, name: str, target: bytes) -> None:
        path = target.partition(b"?")[0][:200]
        if path not in self._unknown and len(self._unknown) < 100:
            self._unknown.add(path)
            log_warning(f"{name}: {path.decode('latin-1')} is not known to cost nothing, so requests to it take a slot")


def _log_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """In place of asyncio's own words, which go to the terminal that is the command's."""
    error = context.get("exception")
    if isinstance(error, OSError):
        log_warning(f"the gate is in trouble: {error.strerror}")
    elif isinstance(error, Exception):
        _log_failure(error)


def _log_failure(error: Exception) -> None:
    """Say where, without what was said: that may quote a key or a body."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" in line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename}"
    log_warning(f"the gate failed at a request: {type(error).__name__}{where}")
