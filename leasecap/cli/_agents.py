"""Finding the agent that started a hook."""

from __future__ import annotations

import os
import sys

import click

from leasecap._errors import LeasecapError
from leasecap._host.process import ancestors_of, command_of, start_of
from leasecap._liveness.record import Child
from leasecap._named_tuple import NamedTuple
from leasecap._redact import printable, redact_argv
from leasecap.cli._say import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_SHELLS = frozenset({"sh", "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "nu", "pwsh", "tcsh", "zsh"})
_WRAPPERS = frozenset({"doas", "pipx", "sudo", "time", "timeout", "uv", "uvx"})
"""Programs that start a command and wait for it, and are no agents."""

_NEAREST = "\0"
"""The value of ``--for-parent`` without a name; nobody can type it."""


class Agent(NamedTuple):
    """The process that a verb is about.

    :ivar argv: its command line, as far as it can be seen.
    """

    process: Child
    argv: Sequence[str]

    def check(self) -> None:
        """:raises LeasecapError: when it has ended; its pid may be another process's by now."""
        pid, start = self.process
        if start_of(pid) != start:
            raise _does_not_run(pid)


def agent_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options ``--for-pid`` and ``--for-parent``; it gets their values as ``pid`` and ``parent``."""
    for option in (
        click.option(
            "--for-parent", "parent", metavar="[NAME]", is_flag=False, flag_value=_NEAREST,
            help="The process called NAME above this one; without NAME the nearest that is no shell.",
        ),
        click.option("--for-pid", "pid", metavar="PID", type=click.IntRange(1, 2**31 - 1), help="This very process."),
    ):  # fmt: skip
        command = option(command)
    return command


def find_agent(pid: int | None, parent: str | None) -> Agent | None:
    """The process that the options mean; None where none of them is given.

    :raises LeasecapError: when there is no such process.
    :raises click.UsageError: when both are given.
    """
    if pid is not None and parent is not None:
        raise click.UsageError("give --for-pid or --for-parent, not both")
    if parent is not None:
        pid = _parent_called(parent) if parent != _NEAREST else _parent_above_the_shells()
    if pid is None:
        return None
    start = start_of(pid)
    if start is None:
        raise _does_not_run(pid)
    return Agent(Child(pid, start), command_of(pid))


def warn_of_a_shell(pid: int) -> None:
    """Say so if ``pid`` is a shell that was started for this call alone, and so ends with it."""
    for above in (os.getpid(), *ancestors_of(os.getpid())):
        argv = command_of(above)
        if above != os.getpid() and _name(argv) not in _SHELLS:
            return
        if above == pid:
            if above == os.getpid() or (_takes_a_command(argv) and not _leads_a_session(above)):
                what = "is this very process" if above == os.getpid() else f"is the shell that runs it ({_shown(argv)})"
                say(
                    f"pid {pid} {what}: it ends with this call, and then the slot is free again. If the agent that "
                    "started it is meant: --for-parent, or --for-parent NAME"
                )
            return


def _leads_a_session(pid: int) -> bool:
    return sys.platform != "win32" and os.getsid(pid) == pid


def _parent_called(name: str) -> int:
    parents = ancestors_of(os.getpid())
    for pid in parents:
        if name in _names(pid):
            return pid
    raise LeasecapError(f"no parent of this process is called {printable(name, 40)!r}: they are {_listed(parents)}")


def _parent_above_the_shells() -> int:
    parents = ancestors_of(os.getpid())
    for pid in parents:
        argv = command_of(pid)
        name = _name(argv)
        if name in _SHELLS:
            if not _has_work(argv):
                break  # a person types into this shell
        elif name not in _WRAPPERS:
            if pid == 1:
                break
            return pid
    raise LeasecapError(
        f"no agent is above the shells that this was started by: the parents are {_listed(parents)}. "
        "Name one with --for-parent NAME or --for-pid PID"
    )


def _does_not_run(pid: int) -> LeasecapError:
    return LeasecapError(f"pid {pid} does not run, as far as can be seen from here")


def _name(argv: Sequence[str]) -> str:
    return os.path.basename(argv[0]).removeprefix("-") if argv else ""


def _names(pid: int) -> set[str]:
    """The names of the process: its program, the script that an interpreter runs, and the name that it gave itself."""
    argv = command_of(pid)
    words = [word for word in argv[:2] if not word.startswith("-")]
    found = {os.path.basename(word) for word in words} | {_name(argv)}
    found |= {os.path.splitext(name)[0] for name in found}
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            found.add(file.read().strip())
    except OSError:
        pass
    return found - {""}


def _takes_a_command(argv: Sequence[str]) -> bool:
    """Whether a shell was given its commands as an argument (``sh -c``, ``bash -lc``)."""
    for word in argv[1:]:
        if not word.startswith("-"):
            return False
        if not word.startswith("--") and "c" in word:
            return True
    return False


def _has_work(argv: Sequence[str]) -> bool:
    """Whether a shell was given commands or a script. If not, it reads what somebody types."""
    return _takes_a_command(argv) or any(not word.startswith("-") for word in argv[1:])


def _shown(argv: Sequence[str]) -> str:
    return redact_argv(argv, limit=60)


def _listed(parents: Sequence[int]) -> str:
    return ", ".join(f"{_name(command_of(pid)) or '?'} ({pid})" for pid in parents) or "unknown here"
