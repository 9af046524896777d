"""Gates that nothing has come through yet, for people who look at `status`: the agent may not know of its gate.

A file for each in ``gates/``, named after its process, which writes and removes it. What a killed one leaves says
nothing, and the next one to write removes it.
"""

from __future__ import annotations

import json
import os
from contextlib import closing

from leasecap._store.picture import SilentGate

TYPE_CHECKING = False
if TYPE_CHECKING:
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
                if self._has_ended(name):
                    directory.unlink(name)
            directory.replace(self._name(), json.dumps({"command": command, "pid_ns": me.pid_ns}).encode())

    def forget(self) -> None:
        """Something has come, or the gate is closed. Never raises: what an ended process leaves says nothing."""
        try:
            os.unlink(os.path.join(self._path, self._name()))
        except OSError:
            pass

    def read(self) -> tuple[SilentGate, ...]:
        """Those whose processes run. One that can't be read, or can't be seen from here, is left out.

        :raises OSError: when none can be read.
        """
        found = []
        with closing(self._effects.directory(self._path)) as directory:
            try:
                names = directory.list(".")
            except FileNotFoundError:
                return ()
            for name in names:
                try:
                    record = json.loads(directory.read(name, _LONGEST))
                    command, pid_ns = str(record["command"]), record["pid_ns"]
                except (OSError, ValueError, KeyError, TypeError):
                    continue
                if pid_ns == self._effects.me().pid_ns and not self._has_ended(name):
                    found.append(SilentGate(int(name.partition("-")[0]), command))
        return tuple(found)

    def _name(self) -> str:
        me = self._effects.me()
        return f"{me.pid}-{me.start}"

    def _has_ended(self, name: str) -> bool:
        pid, _, start = name.partition("-")
        if not (pid.isdigit() and start.isdigit()):
            return False  # not ours
        return self._effects.presence(int(pid), int(start)) == "gone"
