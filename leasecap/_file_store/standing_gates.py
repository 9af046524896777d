"""Which `leasecap gate` runs on a root: a file for each in ``gate/``, named after its port.

The gate writes and removes it. What a killed one leaves says nothing, and the next one on the port writes over it.
"""

from __future__ import annotations

import json
import os
from contextlib import closing

from leasecap._faults import faults
from leasecap._file_store.gate_token import GATE
from leasecap._named_tuple import NamedTuple, from_json
from leasecap._store.picture import StandingGate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

_LONGEST = 65_536  # bytes
_UNREADABLE = (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


class StandingGates:
    """Those of one root."""

    def __init__(self, effects: Effects, root: str) -> None:
        self._effects = effects
        self._path = os.path.join(root, GATE)

    def note(self, port: int, variables: Mapping[str, str], upstreams: Mapping[str, tuple[str, str]]) -> None:
        """Write down that this process has the gate on ``port``; for the others see `StandingGate`.

        :raises StoreError: when that can't be written.
        """
        record = {**self._own()._asdict(), "variables": dict(variables), "upstreams": dict(upstreams)}
        with faults(self._path), closing(self._effects.directory(self._path)) as directory:
            directory.replace(str(port), json.dumps(record).encode())

    def forget(self, port: int) -> None:
        """The gate of this process is closed, and the port may be another's by now. Never raises: what an ended process
        leaves says nothing."""
        try:
            with closing(self._effects.directory(self._path)) as directory:
                if from_json(_Process, json.loads(directory.read(str(port), _LONGEST))) == self._own():
                    directory.unlink(str(port))
        except _UNREADABLE:
            pass

    def _own(self) -> _Process:
        me = self._effects.me()
        return _Process(me.pid, me.start, me.boot, me.pid_ns)

    def read(self) -> tuple[StandingGate, ...]:
        """Those whose processes run, by their ports. One that can't be read, or can't be seen from here, is left out.

        :raises OSError: when none can be read; also when there was never one here.
        """
        with closing(self._effects.directory(self._path)) as directory:
            ports = sorted(int(name) for name in directory.list(".") if name.isascii() and name.isdigit())
            return tuple(found for port in ports if (found := self._gate(directory, port)) is not None)

    def _gate(self, directory: Directory, port: int) -> StandingGate | None:
        me = self._effects.me()
        try:
            raw = json.loads(directory.read(str(port), _LONGEST))
            process = from_json(_Process, raw)
            variables = {str(name): str(tail) for name, tail in raw.get("variables", {}).items()}
            upstreams = {str(name): (str(up[0]), str(up[1])) for name, up in raw.get("upstreams", {}).items()}
        except _UNREADABLE:
            return None
        if process.start is None or (process.boot, process.pid_ns) != (me.boot, me.pid_ns):
            return None
        if self._effects.presence(process.pid, process.start) == "gone":
            return None
        return StandingGate(process.pid, port, variables, upstreams)


class _Process(NamedTuple):
    """See `presence.Identity`."""

    pid: int
    start: int | None
    boot: str | None
    pid_ns: str | None
