"""Which requests of a transport take a slot, of which pool, and in which place of its queue."""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache, partial

from leasecap import _ancestry
from leasecap._api import acquire_async_with, acquire_with
from leasecap._config.pool_name import pool_name
from leasecap._config.root import root_path
from leasecap._errors import AcquireTimeout
from leasecap._liveness.record import Purpose
from leasecap._provider.chain import VARIABLE, metered_nearer
from leasecap._provider.free import is_free
from leasecap._provider.places import Places
from leasecap._provider.reading import UNKNOWN, header, read_request
from leasecap._provider.tasks import Tasks
from leasecap._request import refuse_wrong
from leasecap._runtime import runtime
from leasecap._transport.call import Call, look_for_unread
from leasecap._transport.messages import content_of, headers_of, origin_of
from leasecap._wait.blocking import ThreadWaiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from leasecap._lease import Lease
    from leasecap._provider.places import Kept
    from leasecap._provider.reading import RequestFacts
    from leasecap._provider.tasks import Task
    from leasecap._request import Options
    from leasecap._store.ticket import Place
    from leasecap._transport.messages import Request
    from leasecap._wait.progress import Waiting

_places = Places(time.monotonic)
"""Of all transports of this process: a client that tries again may be another object."""

_tasks = Tasks(time.time)

_CREDENTIALS = (b"authorization", b"x-api-key", b"x-goog-api-key")


@lru_cache(maxsize=256)
def _is_free(method: str, path: bytes) -> bool:
    return is_free(method.encode("ascii"), path)


def comes_again(status: int) -> bool:
    """Whether the SDKs send a request anew that was answered so."""
    return status in (408, 409, 429) or status >= 500


class Meter:
    """Gives the requests of one transport their slots."""

    def __init__(self, pool: str | None, options: Options, timed_out: Callable[..., AcquireTimeout]) -> None:
        """
        :param pool: None: that of each request's URL.
        :param timed_out: makes the error for a request that got no slot in time; takes what `AcquireTimeout` does.
        :raises ConfigError, TypeError, ValueError: for arguments that can't be meant.
        """
        if pool is not None:
            pool_name(pool)
        refuse_wrong(options)
        self._pool = pool
        self._options = options
        self._timed_out = timed_out

    def pool_of(self, request: Request) -> str | None:
        """Whose slot the request takes; None: none."""
        if _is_free(request.method, request.url.raw_path.partition(b"?")[0]):
            return None
        if VARIABLE in os.environ and self._is_metered_by_gate(request):
            return None
        return self._pool or origin_of(request.url)

    def _is_metered_by_gate(self, request: Request) -> bool:
        """Whether it goes to the gate that this process runs under, which takes a slot for it itself."""
        url = request.url
        path = url.raw_path.decode("latin-1").partition("?")[0]
        nearer = metered_nearer(f"{url.host}:{url.port or 0}", path, os.environ)
        if nearer is None or self._pool is None:
            return nearer is not None
        root = runtime.root(root_path())
        return _ancestry.is_same_pool(nearer, _ancestry.place(root.path, root.pool(self._pool).name.directory))

    def keeping(self, pool: str, request: Request) -> AbstractContextManager[Kept]:
        """The place of a request in the queue for the block; unless it is ``done`` by then, it is kept for the same
        request when that comes again.

        :raises ConfigError, StoreError: when the configuration can't be used.
        """
        body = content_of(request)
        if body is None:
            return _places.keeping(None, 0)
        headers = headers_of(request)
        who = [header(headers, name) for name in _CREDENTIALS]
        where = origin_of(request.url).encode()
        key = partial(_places.key, request.method.encode("ascii"), where, request.url.raw_path, *who, body)
        return _places.keeping(key, runtime.root(root_path()).pool(pool).requests.keep_place)

    def acquire(self, pool: str, request: Request, place: Place) -> Call:
        """Wait for a slot."""
        wants, facts, task = self._wants(pool, request, place)
        try:
            lease = acquire_with(pool, ThreadWaiter(), wants)
        except AcquireTimeout as error:
            raise self._timed_out(*error.args) from None
        return _call(lease, request, facts, task)

    async def acquire_async(self, pool: str, request: Request, place: Place) -> Call:
        """`acquire` for a task."""
        wants, facts, task = self._wants(pool, request, place)
        try:
            lease = await acquire_async_with(pool, wants)
        except AcquireTimeout as error:
            raise self._timed_out(*error.args) from None
        return _call(lease, request, facts, task)

    def _wants(self, pool: str, request: Request, place: Place) -> tuple[Options, RequestFacts, Task | None]:
        """What to ask for, what the request says, and the task that it is part of, where the pool goes by that."""
        options, task = self._options, None
        by_task = options.task_since is None and runtime.by_task(runtime.root(root_path()).config.pool(pool))
        facts = _facts(request, prompt=by_task)
        if by_task:
            who = (header(headers_of(request), name) for name in _CREDENTIALS)
            task = _tasks.of(facts.prompt, [origin_of(request.url).encode(), *who])
        wants = options._replace(
            purpose=Purpose(_program(), pool_name(origin_of(request.url)).text, facts.model),
            on_wait=look_for_unread if options.on_wait is None else _both(options.on_wait),
            place=place,
            task_since=options.task_since if task is None else task.began,
        )
        return wants, facts, task


def _call(lease: Lease, request: Request, facts: RequestFacts, task: Task | None) -> Call:
    return Call(lease, facts, request.url.host, request.url.netloc.decode("ascii"), task)


def _both(on_wait: Callable[[Waiting], object]) -> Callable[[Waiting], object]:
    def tell(waiting: Waiting) -> object:
        look_for_unread(waiting)
        return on_wait(waiting)

    return tell


def _facts(request: Request, *, prompt: bool) -> RequestFacts:
    body = content_of(request)
    if body is None:
        return UNKNOWN
    headers = headers_of(request)
    kind, encoding = header(headers, b"content-type"), header(headers, b"content-encoding")
    return read_request(request.url.raw_path, kind, encoding, body, prompt=prompt)


def _program() -> str:
    path, name = os.path.split(sys.argv[0] if sys.argv else "")
    if name == "__main__.py":  # of a package that is run
        name = os.path.basename(path)
    return "python" if name in ("", "-", "-c") else name
