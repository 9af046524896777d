"""The library's face: slots for threads, tasks, functions and generators."""

from __future__ import annotations

from leasecap._config.root import root_path
from leasecap._errors import AcquireTimeout
from leasecap._host.deferred_signals import DeferredSignals, surely
from leasecap._request import UNSET, Options
from leasecap._runtime import runtime
from leasecap._steps import Steps
from leasecap._wait.blocking import ThreadWaiter, drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from types import TracebackType
    from typing import Any, TypedDict, Unpack

    from leasecap._lease import Lease
    from leasecap._request import Unset
    from leasecap._store.store import Store
    from leasecap._wait.blocking import Waiter
    from leasecap._wait.event_loop import LoopWaiter
    from leasecap._wait.progress import Waiting

    class TryOptions(TypedDict, total=False):
        limit: int | Unset | None
        priority: int | Unset
        label: str | None
        borrow: bool
        on_lost: Callable[[Lease], object] | None
        max_hold: float | Unset | None
        kill_after: float | Unset
        task_since: float | Callable[[], float | None] | None

    class AcquireOptions(TryOptions, total=False):
        timeout: float | Unset | None
        on_wait: Callable[[Waiting], object] | None


def acquire(
    pool: str,
    *,
    timeout: float | Unset | None = UNSET,
    limit: int | Unset | None = UNSET,
    priority: int | Unset = UNSET,
    label: str | None = None,
    borrow: bool = True,
    on_wait: Callable[[Waiting], object] | None = None,
    on_lost: Callable[[Lease], object] | None = None,
    max_hold: float | Unset | None = UNSET,
    kill_after: float | Unset = UNSET,
    task_since: float | Callable[[], float | None] | None = None,
) -> Lease:
    """Wait for a slot of ``pool`` and return the lease; the caller releases it.

    :param pool: a pool's name, one of its aliases, or an endpoint such as ``http://localhost:8000/v1``.
    :param timeout: seconds to wait at most; None waits for ever, 0 tries once. Unset: ``LEASECAP_WAIT``, then
        ``queue_timeout`` of the configuration, then for ever.
    :param limit: a limit to hold to while this call waits or holds; it can only tighten the configured one.
    :param priority: -99 to 99, higher goes first. Unset: that of the configuration, then 0.
    :param label: what `leasecap status` shows in place of the command.
    :param borrow: whether it may use the slot of a lease that this code runs under.
    :param on_wait: told after about a second of waiting, then ever more rarely; what it raises ends the wait.
    :param on_lost: called once if the lease is lost or its time is over, in a thread of its own; what it raises is
        logged.
    :param max_hold: seconds after which the lease has `expired`; None: never. Unset: that of the configuration. In a
        pool on a server it can only shorten what that has for all.
    :param kill_after: seconds more that the holder has then, before a pool with ``reclaim = "force"`` gives its slot
        away. Unset: that of the configuration.
    :param task_since: when the task began that this call is part of, as ``time.time()`` gives it, or a function that
        says so. In a pool with ``order = "task"`` it goes before calls of later tasks; None: its task begins now.
    :raises AcquireTimeout: no slot came in time.
    :raises ConfigError: the configuration can't be used, or nothing gives the pool a limit.
    :raises StoreError: the state directory can't be used.
    """
    options = Options(
        timeout, limit, priority, label, borrow, on_wait, on_lost, max_hold, kill_after, task_since=task_since
    )
    return acquire_with(pool, ThreadWaiter(), options)


def acquire_with(pool: str, waiter: Waiter, options: Options, argv: Sequence[str] | None = None) -> Lease:
    """`acquire` with a waiter of one's own; ``argv`` is the command to show in place of this process's."""
    interrupts, steps = DeferredSignals(), None
    try:
        with interrupts:
            steps = Steps(pool, waiter.wake, options, argv, waiter.listen, interrupts)
            return drive(steps.run(), waiter, interrupts)
    except BaseException:
        if steps is not None:
            surely(steps.undo)
        raise


_loaded: Callable[..., Coroutine[Any, Any, Lease]] | None = None


def _load() -> Callable[..., Coroutine[Any, Any, Lease]]:
    global _loaded
    with DeferredSignals(), runtime.own.lock:  # a fork must copy no half-done import
        from leasecap._wait.event_loop import drive_async
    _loaded = drive_async
    return drive_async


async def acquire_async(pool: str, **options: Unpack[AcquireOptions]) -> Lease:
    """`acquire` for a task, with the same arguments: suspends it and needs no thread.

    A cancelled call leaves no ticket behind.
    """
    return await acquire_async_with(pool, Options(**options))


async def acquire_async_with(pool: str, options: Options) -> Lease:
    """`acquire_async` with its arguments in one piece."""
    drive_async = _loaded or _load()
    steps = None

    def begin(waiter: LoopWaiter, interrupts: DeferredSignals) -> Generator[float, None, Lease]:
        nonlocal steps
        steps = Steps(pool, waiter.waker(), options, interrupts=interrupts)
        return steps.run()

    try:
        return await drive_async(begin, runtime.own.heartbeats)
    except BaseException:
        if steps is not None:
            surely(steps.undo)
        raise


def try_acquire(pool: str, **options: Unpack[TryOptions]) -> Lease | None:
    """Return a lease if a slot is free for this call right now, else None. Never overtakes those who wait."""
    try:
        return acquire_with(pool, ThreadWaiter(), Options(timeout=0, **options))
    except AcquireTimeout:
        return None


def report(
    pool: str,
    status: int | None = None,
    *,
    retry_after: float | str | None = None,
    kind: str | None = None,
    ttfb: float | None = None,
) -> None:
    """Tell ``pool`` what its provider answered, so that all who share it learn from it.

    It is about the lease that the code runs under, if there is one; `Lease.report` says so in any case.

    :param status: of the answer. 429, 503 and 529 are refusals for concurrency or rate, 402 is a used-up quota.
    :param retry_after: seconds or an HTTP date, as the header has it. With a refusal it closes the pool until then
        (``max_pause`` at most), and a later, shorter one never shortens that; with a quota as well, without a bound.
        What can't be read, or is negative, is ignored, and told once in the log: it is the provider's word, not yours.
    :param kind: "concurrency" cuts the limit, "quota" closes the pool (until a person resumes it, unless there is a
        ``retry_after``), "neutral" changes nothing. Unset: what ``status`` means; a ``retry_after`` alone is a refusal.
    :param ttfb: seconds to the first byte of the answer. While they rise, a reduced limit doesn't grow.
    :raises TypeError, ValueError: for arguments that can't be meant; nothing is noted then.
    :raises ConfigError, StoreError: when it can't be noted.
    """
    from leasecap import _control

    with DeferredSignals():
        root = runtime.root(root_path())
        with runtime.using(root, pool) as store:
            _control.report_from_here(store, status=status, retry_after=retry_after, kind=kind, ttfb=ttfb)
    if ttfb is not None:
        from leasecap._latency import note_report

        note_report(root.path, store.name, status, kind, ttfb)


def set_usage(pool: str, count: Callable[[], int] | None) -> None:
    """Let ``count`` say how many requests the provider counts in flight, in place of ``usage_url`` and
    ``usage_command``.

    It is asked before a grant that could be too much, in a thread, by this process alone; other processes of the pool
    have the configured command, or none. None takes it back.

    :raises TypeError: for a ``count`` that can't be called, as a number that was counted once.
    """
    if count is not None and not callable(count):
        raise TypeError(f"count must be a function, or None, not {count!r}")
    with DeferredSignals():
        pool_store(pool)  # what talks to servers is loaded without the lock
        with runtime.own.lock:  # a pool that is closed to be opened again keeps it
            pool_store(pool).terms.count = count


def pool_store(pool: str) -> Store:
    """The open pool of that name, for what people do to it from the command line: there it stays open."""
    root = runtime.root(root_path())
    return runtime.store(root, root.config.pool(pool))


class slot:  # noqa: N801  # reads as a function: with slot("anthropic"): ...
    """A slot for a block: ``with slot("anthropic"):`` or ``async with slot("anthropic"):``.

    Takes the arguments of `acquire`, and acquires when the block is entered. One object serves one block at a time.
    """

    def __init__(self, pool: str, **options: Unpack[AcquireOptions]) -> None:
        self._pool = pool
        self._options = Options(**options)
        self._lease: Lease | None = None
        self._user: dict[str, object] = {}  # also while it waits: a second lease would be lost sight of

    def __enter__(self) -> Lease:
        user = object()
        try:
            self._begin(user)
            self._lease = acquire_with(self._pool, ThreadWaiter(), self._options)
            return self._lease.__enter__()
        except BaseException:
            self._end(user)
            raise

    async def __aenter__(self) -> Lease:
        user = object()
        try:
            self._begin(user)
            self._lease = await acquire_async_with(self._pool, self._options)
            return self._lease.__enter__()
        except BaseException:
            self._end(user)
            raise

    def _begin(self, user: object) -> None:
        if self._user.setdefault("user", user) is not user:
            raise RuntimeError("this slot() is in use already: make one for each block")

    def _end(self, user: object) -> None:
        """Undo what was begun by ``user``."""
        if self._user.get("user") is user:
            surely(self._leave)

    def _leave(self) -> None:
        lease = self._lease
        if lease is not None:
            lease.__exit__(None, None, None)
        self._forget()

    def _forget(self) -> None:
        self._lease = None
        self._user.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._lease is not None:
                self._lease.__exit__(kind, error, traceback)
                self._forget()
        except BaseException:
            surely(self._leave)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._lease is not None:
                await self._lease.__aexit__(kind, error, traceback)
                self._forget()
        except BaseException:
            surely(self._leave)
            raise
