"""Gates that nothing has come through yet, for people who look at `status`: the agent may not know of its gate.

A file for each in ``gates/``, named after its process, which writes and removes it. What a killed one leaves says
nothing, and the next one to write removes it.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, suppress

from leasecap._named_tuple import NamedTuple
from leasecap._store.picture import SilentGate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

GATES = "gates"

_LONGEST = 4096  # bytes


class SilentGates:
    """Those of one root."""

    def __init__(self, effects: Effects, root: str) -> None:
        self._effects = effects
        self._path = os.path.join(root, GATES)

    def note(self, command: str) -> None:
        """Write down that nothing has come through this process's gate.

        :raises OSError: when that can't be written.
        """
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        me = self._effects.me()
        with closing(self._effects.directory(self._path)) as directory:
            for name in directory.list("."):
                self._sweep(directory, name)
            directory.replace(self._name(), json.dumps({"command": command, "pid_ns": me.pid_ns}).encode())

    def _sweep(self, directory: Directory, name: str) -> None:
        """Remove what an ended process has left, a half-written file as well."""
        process = _process(name.partition(".")[0])
        if process is None or self._runs(process):
            return
        record = _record(directory, name)
        # Processes of another namespace have other numbers here.
        if record is None or record.pid_ns == self._effects.me().pid_ns:
            with suppress(FileNotFoundError):  # another gate is at it as well
                directory.unlink(name)

    def forget(self) -> None:
        """Something has come, or the gate is closed. Never raises: what an ended process leaves says nothing."""
        try:
            os.unlink(os.path.join(self._path, self._name()))
        except OSError:
            pass

    def read(self) -> tuple[SilentGate, ...]:
        """Those whose processes run. One that can't be read, or can't be seen from here, is left out.

        :raises OSError: when none can be read; also when no gate was ever silent here.
        """
        found = []
        me = self._effects.me()
        with closing(self._effects.directory(self._path)) as directory:
            for name in directory.list("."):
                process, record = _process(name), _record(directory, name)
                if process is None or record is None or record.pid_ns != me.pid_ns:
                    continue
                if self._runs(process):
                    found.append(SilentGate(process[0], record.command))
        return tuple(found)

    def _name(self) -> str:
        me = self._effects.me()
        return f"{me.pid}-{me.start}"

    def _runs(self, process: tuple[int, int]) -> bool:
        return self._effects.presence(*process) != "gone"


class _Record(NamedTuple):
    command: str
    pid_ns: object


def _process(name: str) -> tuple[int, int] | None:
    """The process that a file is named after: its pid and start; None: it is no such file."""
    pid, _, start = name.partition("-")
    return (int(pid), int(start)) if _is_number(pid) and _is_number(start) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _record(directory: Directory, name: str) -> _Record | None:
    try:
        record = json.loads(directory.read(name, _LONGEST))
        return _Record(str(record["command"]), record["pid_ns"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
