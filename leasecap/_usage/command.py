"""A command that prints the provider's count."""

from __future__ import annotations

import os
import sys
import time

from leasecap._host.process import child_has_ended
from leasecap._usage.no_count import NoCount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

_MOST_BYTES = 4096  # an answer is one number, so it isn't longer
_ENDS_WITHIN = 1.0  # seconds from SIGKILL to the end, for a process that can be ended
_EXIT_LOOK, _OUTPUT_LOOK = 0.01, 0.05  # seconds between looks whether the command has ended: after its output, before


class Command:
    """The command of one pool, as this process runs it: one at a time."""

    def __init__(self) -> None:
        self._left: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Kill a command that has not ended; don't wait for it."""
        if self._left is not None:
            _kill(self._left)

    def count(self, command: Sequence[str], seconds: float) -> int:
        """The number that ``command`` prints within that time.

        :raises OSError, NoCount: when there is none.
        """
        import subprocess

        if self._left is not None and not _ended(self._left):
            raise NoCount(f"the command of the last question (pid {self._left.pid}) can't be ended")
        # It gets a process group of its own, so that what it starts ends with it: `sh -c` leaves its children behind.
        group = None if sys.platform == "win32" else 0
        process = self._left = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=group
        )
        try:
            said = _output_of(process, seconds)
        finally:
            if _ended(process):
                self._left = None
        if process.returncode:
            raise NoCount(f"{command[0]} ended with status {process.returncode}")
        text = said.decode("ascii", "replace").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise NoCount(f"{command[0]} printed {text!r:.60}, which is no count")
        return int(text)


def _output_of(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What the command prints until it ends.

    :raises NoCount: when it prints more than a number, or takes longer.
    """
    import subprocess

    late = f"no answer within {seconds:g} s"
    if sys.platform == "win32":  # a pipe can't be polled there
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            raise NoCount(late) from None
    import selectors

    assert process.stdout is not None
    fd = process.stdout.fileno()
    os.set_blocking(fd, False)
    end = time.monotonic() + seconds
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            # Asked before the read: a command that has ended prints no more, though a child of it may keep the pipe
            # open.
            ended = child_has_ended(process.pid)
            try:
                more: bytes | None = os.read(fd, _MOST_BYTES)
            except BlockingIOError:
                more = None
            said += more or b""
            if len(said) > _MOST_BYTES:
                raise NoCount(f"it prints more than {_MOST_BYTES} bytes, which is no count")
            if more:
                continue
            if ended:
                return said
            left = end - time.monotonic()
            if left <= 0:
                raise NoCount(late)
            if more is None:
                selector.select(min(left, _OUTPUT_LOOK))
            else:
                time.sleep(min(left, _EXIT_LOOK))


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """End the command and what it has started; False if it goes on all the same."""
    import subprocess

    if process.stdout is not None:
        process.stdout.close()
    _kill(process)
    try:
        process.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    import signal

    try:
        if sys.platform == "win32":
            process.kill()
        elif process.returncode is None:  # else the number may be another group's by now
            os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended, or belongs to somebody else
