"""Where a gate's event loop makes the calls that block: its look-ups of names, its questions to a pool's server."""

from __future__ import annotations

import errno
from concurrent.futures import Future, ThreadPoolExecutor

from leasecap._threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")


class UnjoinedThreads(ThreadPoolExecutor):  # a loop takes no other kind
    """A thread for each call, for which nobody waits at the end.

    `asyncio.run` joins those of a common executor, and so does Python at its exit. A look-up can take a minute where
    no name server answers, and nothing ends it: a command would be over for that long before `leasecap run` is.
    """

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor.submit`. Where no thread can be had the call fails with an `OSError`."""
        future: Future[T] = Future()
        try:
            start_thread("gate-call", _run, future, lambda: call(*args, **kwargs))
        except RuntimeError as error:
            future.set_exception(OSError(errno.EAGAIN, str(error)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: each thread ends with its call."""


def _run(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
