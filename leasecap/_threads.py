"""Threads of leasecap's own: daemons, since no program waits for them; where none is to be had, its caller goes on."""

from __future__ import annotations

import collections.abc  # noqa: F401  # Python 3.13.0 replaces it while it is loaded: in two threads at once that fails
import os
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENDS_WITHIN = 1.0  # seconds


def start_thread(name: str, call: Callable[..., object], *args: object) -> threading.Thread:
    """Start it.

    :raises RuntimeError: when the user has too many, or the interpreter can't have one or is on its way out.
    """
    if not _is_main_interpreter():
        # Python 3.12 and later refuse most of them; where one runs when a subinterpreter ends, the process is aborted.
        raise RuntimeError("a subinterpreter can't have daemon threads")
    thread = threading.Thread(target=call, args=args, name=f"leasecap-{name}", daemon=True)
    thread.start()
    return thread


def await_end(thread: threading.Thread) -> None:
    """Wait for one that has been told to end, for a second at most; not for the calling one."""
    if thread is not threading.current_thread():
        thread.join(_ENDS_WITHIN)


def end_before_fork(rest: Callable[[], None]) -> None:
    """Call ``rest``, and return once the threads that it ends have ended for the kernel (Linux) as well.

    That counts them a moment longer than `join` waits, and Python takes its count to warn of a fork beside threads.
    """
    not_ours = _tasks_without_thread()
    rest()
    until = time.monotonic() + _ENDS_WITHIN
    while _tasks_without_thread() - not_ours and time.monotonic() < until:
        time.sleep(0.0002)


def _tasks_without_thread() -> set[int]:
    """Threads that Python doesn't know, or no longer; none where that can't be told."""
    try:
        tasks = set(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return set()
    return tasks - {thread.native_id for thread in threading.enumerate()}


def are_greenlets() -> bool:
    """Whether gevent has put its greenlets in the place of threads: all of them stand still while one blocks."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def is_in_loop() -> bool:
    """Whether this thread runs an event loop of asyncio just now, which stands still while it blocks."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _is_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = __import__(name)
        except ImportError:
            continue
        return _number(interpreters.get_current()) == _number(interpreters.get_main())
    return True


def _number(interpreter: object) -> object:
    return interpreter[0] if isinstance(interpreter, tuple) else interpreter  # a tuple from 3.13 on
