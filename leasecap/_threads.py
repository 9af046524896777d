"""leasecap's own threads. They are daemons, so that no program waits for them."""

from __future__ import annotations

import collections.abc  # noqa: F401  # Python 3.13.0 replaces it while it is loaded: in two threads at once that fails
import os
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ENDS_WITHIN = 5.0  # seconds; on a busy machine they take more than one
_GONE_WITHIN = 0.1  # seconds until the kernel counts a thread no more that has ended
_foreign: set[int] = set()  # the kernel's threads of this process that other code has made, as far as is known
_NAMED = "leasecap-"
_may_run = False  # whether a thread was started that may not have ended


def start_thread(name: str, call: Callable[..., object], *args: object) -> threading.Thread:
    """Start a thread that makes this call.

    :raises RuntimeError: when the user has too many threads, or when the interpreter can't have one or is ending.
    """
    if not _is_main_interpreter():
        # If a daemon thread runs when its subinterpreter ends, Python aborts the process. From 3.12 on it mostly
        # refuses to start one.
        raise RuntimeError("a subinterpreter can't have daemon threads")
    global _may_run
    thread = threading.Thread(target=call, args=args, name=_NAMED + name, daemon=True)
    _may_run = True
    thread.start()
    return thread


def await_end(thread: threading.Thread) -> None:
    """Wait, some seconds at most, for a thread that was asked to end. Nothing is done for the calling thread."""
    if thread is not threading.current_thread():
        thread.join(_ENDS_WITHIN)


def await_named(name: str, within: float) -> None:
    """Wait, ``within`` seconds at most, until those threads have ended that were started by this name."""
    until = time.monotonic() + within
    for thread in threading.enumerate():
        if thread.name == _NAMED + name:
            thread.join(max(until - time.monotonic(), 0.0))


def end_before_fork(rest: Callable[[], None]) -> None:
    """Call ``rest``, and return once the threads that it ends are gone for the kernel (Linux) too.

    The kernel counts a thread for a moment longer than `join` waits, and Python goes by that count when it warns of a
    fork beside threads. One that Python doesn't know before ``rest`` may be the program's own, or have ended a moment
    ago; if it doesn't go soon, it is the program's.
    """
    global _may_run
    if not _may_run:
        return
    before = _tasks_without_thread()
    _foreign.intersection_update(before)  # numbers are used again
    rest()
    began = time.monotonic()
    while left := _tasks_without_thread() - _foreign:
        took = time.monotonic() - began
        if took > (_GONE_WITHIN if left <= before else _ENDS_WITHIN):
            _foreign.update(left & before)
            break
        time.sleep(0.0002)
    _may_run = False  # and only then looked: another thread may start one
    if any(thread.name.startswith(_NAMED) for thread in threading.enumerate()):
        _may_run = True


def _tasks_without_thread() -> set[int]:
    """The kernel's threads of this process that Python doesn't know (any more); none where that can't be told."""
    try:
        tasks = set(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return set()
    return tasks - {thread.native_id for thread in threading.enumerate()}


def are_greenlets() -> bool:
    """Whether gevent has replaced threads by greenlets: all of them stand still while one blocks."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def is_in_loop() -> bool:
    """Whether this thread is running an event loop of asyncio, which stands still while the thread blocks."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _load_interpreters() -> Any:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return __import__(name)
        except ImportError:
            continue
    return None


_interpreters = _load_interpreters()  # not when a thread starts: a fork in the middle would copy it half done


def _is_main_interpreter() -> bool:
    if _interpreters is None:
        return True
    return _number(_interpreters.get_current()) == _number(_interpreters.get_main())


def _number(interpreter: object) -> object:
    return interpreter[0] if isinstance(interpreter, tuple) else interpreter  # a tuple from 3.13 on
