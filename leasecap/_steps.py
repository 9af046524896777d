"""One call for a slot, from the name of a pool to the lease."""

from __future__ import annotations

import math
from functools import partial

from leasecap._acquire import Acquisition
from leasecap._config.root import root_path
from leasecap._kept_code import keep
from leasecap._lease import Lease
from leasecap._messages import no_limit
from leasecap._origin import Origin
from leasecap._request import checked
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._request import Options
    from leasecap._store.lease import HeldLease
    from leasecap._store.store import Store
    from leasecap._store.wakeup import Wakeup


class Steps:
    """The steps to the lease, and back. Once the pool is found it stays open, until they are over."""

    def __init__(
        self,
        pool: str,
        wake: Callable[[], None],
        options: Options,
        argv: Sequence[str] | None = None,
        listen: Callable[[Wakeup], bool] | None = None,
        interrupts: DeferredSignals | None = None,
    ) -> None:
        """
        :param argv: the command to show in place of this process's own.
        :param wake, listen, interrupts: see `Acquisition`.
        :raises TypeError, ValueError, ConfigError, StoreError: as `leasecap.acquire`.
        """
        self._pool = pool
        self._wake = wake
        self._options = options
        self._argv = argv
        self._listen = listen
        self._interrupts = interrupts
        self._started = runtime.own.effects.monotonic()
        self._acquisition: Acquisition | None = None
        self._done: Callable[[], None] = _nothing
        self._lease: Lease | None = None
        self._before = self._prepare()

    def _prepare(self) -> Generator[float, None, None] | None:
        """Prepare the acquisition; or return the steps in which a server has to be asked before.

        Only these leave the lock to others.
        """
        with runtime.own.lock:  # a fork must copy no half-done import: in the child it would stay so
            keep()
            root = runtime.root(root_path())
            settings = root.pool(self._pool)
            request = checked(self._options, settings, self._argv)
            in_files_without_limit = settings.store is None and request.limit is None and settings.limit is None
            if in_files_without_limit and not runtime.is_used(root.path, settings.name):
                raise no_limit(settings.name.text, root.config)  # a name that is misspelt leaves no pool behind
            self._origin = Origin(runtime.own)
            until = self._started + request.timeout if request.timeout else math.inf
            if before := runtime.refuse_move(root, settings, self._wake, self._started, until):
                # What the caller's function has said: it is called once.
                self._options = self._options._replace(task_since=request.task_since)
                return before
            store = runtime.store(root, settings)
            self._acquisition = acquisition = Acquisition(
                root, store, request, self._origin, self._wake, self._started, self._listen, self._interrupts
            )
            self._done = runtime.keep_open(store, acquisition)
            self._reopen: Callable[[], AbstractContextManager[Store]] = partial(runtime.using_again, root, store.name)
            self._root = root.path
            return None

    def run(self) -> Generator[float, None, Lease]:
        steps = self._to_slot()
        try:
            while True:
                yield next(steps)
                self._origin.check("wait")
        except StopIteration as stop:
            held = stop.value
            try:
                self._lease = Lease(runtime, held, self._options.on_lost, self._reopen, self._root)
            except BaseException:
                held.release()  # nobody else knows of it
                raise
            return self._lease
        finally:
            steps.close()
            self._done()

    def _to_slot(self) -> Generator[float, None, HeldLease]:
        while self._before is not None:
            yield from self._before
            self._before = self._prepare()  # anew: the configuration may have changed meanwhile
        assert self._acquisition is not None
        return (yield from self._acquisition.steps())

    def undo(self) -> None:
        """Give the slot back: what a signal handler has raised goes to the caller in place of the lease."""
        self._done()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


def _nothing() -> None:
    pass
