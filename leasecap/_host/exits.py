"""Handles on the exits of processes: descriptors that can be read from once a process has exited.

On Linux (since 5.3) a pidfd, on macOS a kqueue of its own with the process in it; elsewhere none is to be had.
"""

from __future__ import annotations

import os
import sys

from leasecap._host.process import presence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._liveness.presence import Presence

SEES_EXITS = sys.platform == "darwin" or hasattr(os, "pidfd_open")
# A Python that was built with an old C library has no pidfd_open, beside others on the same machine that have it.
OTHERS_SEE_EXITS = sys.platform in ("linux", "darwin")


def exit_of(pid: int, start: int) -> tuple[int, Presence] | None:
    """A handle on the process with this pid and start time, to be closed with `close_exit`, and its presence.

    None if it has exited, or no handle is to be had. What `presence` demands is demanded here too.
    """
    try:
        handle = _open(pid)
    except OSError:
        return None
    # The presence is asked after the opening: until then the pid could pass to another process.
    found = presence(pid, start)
    if found in ("runs", "stopped"):
        return handle, found
    close_exit(handle)
    return None


if sys.platform == "darwin":
    import select

    # By descriptor. An object without a reference closes its descriptor, so each one is kept here. The last of a list
    # is in use; the ones before it had the same number until the program closed that (`os.closerange`), and they must
    # never be closed, since the number isn't theirs any more.
    _queues: dict[int, list[select.kqueue]] = {}

    def _open(pid: int) -> int:
        queue = select.kqueue()
        try:
            event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            queue.control([event], 0, 0)
        except BaseException:
            queue.close()
            raise
        _queues.setdefault(queue.fileno(), []).append(queue)
        return queue.fileno()

    def close_exit(handle: int) -> None:
        """Close a handle. In a fork's child there is nothing to close: a kqueue isn't inherited."""
        try:
            _queues[handle].pop().close()
        except OSError:
            pass  # before 3.11.7 the object doesn't know that it is in a child

else:

    def _open(pid: int) -> int:
        if sys.platform == "linux" and hasattr(os, "pidfd_open"):
            return os.pidfd_open(pid)
        raise OSError("no handles on processes on this platform")

    def close_exit(handle: int) -> None:
        """Close a handle."""
        os.close(handle)
