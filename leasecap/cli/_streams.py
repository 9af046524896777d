"""The three standard streams, whatever the caller made of them: closed, full, or a pipe that nobody reads.

What a verb prints to stdout is its result: if that can't be written the verb fails, with `OutputError`. A message on
stderr never fails: if nobody reads it, it is dropped.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TextIO

    from _typeshed import ReadableBuffer

_PATIENCE = 1.0  # seconds for a reader of stderr; `run` can't take signals meanwhile
_PIECE = getattr(select, "PIPE_BUF", 512)  # a pipe that can be written to has room for as much


class OutputError(OSError):
    """What was to be printed on stdout could not be written.

    It hasn't the errno of its cause, since click ends the process by itself when it meets EPIPE.

    :ivar closed: whether nobody reads it any more.
    """

    def __init__(self, number: int) -> None:
        what = {errno.EBADF: "it is closed", errno.EPIPE: "nobody reads it any more", errno.ENOSPC: "the disk is full"}
        super().__init__(f"the output could not be written to stdout: {what.get(number) or os.strerror(number)}")
        self.closed = number == errno.EPIPE


class _Stdout(io.FileIO):
    def write(self, data: memoryview) -> int:  # type: ignore[override]
        try:
            written: int | None = super().write(data)
        except OSError as error:
            raise OutputError(error.errno or errno.EIO) from None
        if written is None:  # another process that shares stdout has made it non-blocking
            raise OutputError(errno.EAGAIN)
        return written


class _Stderr(io.FileIO):
    """Never fails, and never waits for long: the caller may be in a queue, or have a command to look after."""

    _patience = _PATIENCE

    def write(self, data: ReadableBuffer) -> int:
        data = left = memoryview(data)
        try:
            while left and self._is_read():
                left = left[super().write(left[:_PIECE]) or len(left) :]
        except OSError:
            pass
        return len(data)

    def _is_read(self) -> bool:
        if sys.platform == "win32":
            return True
        poll = select.poll()  # unlike select() it takes descriptors of any number
        poll.register(self.fileno(), select.POLLOUT)
        read = bool(poll.poll(self._patience * 1000))
        self._patience = _PATIENCE if read else 0.0  # a reader that doesn't read is not waited for a second time
        return read


def prepare() -> None:
    """Make stdin, stdout and stderr usable. Call before anything else is opened.

    A number that is closed would be given to the next file that is opened, perhaps one of a pool's, and what is printed
    would go there. A command that is started still finds it closed.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # Opened for reading, so that writing to it fails as on a closed descriptor.
            os.open(os.devnull, os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = _text(_Stdout(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Stderr(2, "w", closefd=False), sys.stderr)


def _text(raw: io.FileIO, like: TextIO | None) -> io.TextIOWrapper:
    encoding = "utf-8" if like is None else like.encoding
    # A label or directory may have letters that Latin-1, or a Windows code page, has not.
    errors = "backslashreplace" if like is None or like.errors == "strict" else like.errors
    if isinstance(raw, _Stderr):
        # There is no BufferedWriter: Python aborts if a thread is inside one when the process ends, and warnings are
        # written in threads of their own (`_log.log_warning_apart`).
        return io.TextIOWrapper(raw, encoding, errors, write_through=True)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=raw.isatty())


def give_up_output(error: OutputError) -> None:
    """Die of SIGPIPE if nobody reads on, as other tools do; else drop what is still buffered.

    Python would try to write that once more when it ends, and complain.
    """
    if error.closed and sys.platform != "win32":
        die_of(signal.SIGPIPE)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def die_of(signum: signal.Signals) -> NoReturn:
    """End as the signal ends a program that doesn't catch it."""
    signal.signal(signum, signal.SIG_DFL)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # where that isn't deadly (pid 1)
