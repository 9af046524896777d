"""A process that keeps a lease for another one, once the one that took it is gone.

`leasecap run` starts one before its command: should it be killed, the command goes on, and its slot must stay taken
until it ends. `leasecap acquire --for-pid` ends at once, and leaves one behind for as long as the agent runs. Until
then a keeper only waits for the end of its standard input, which the kernel brings about however its starter ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

from leasecap._config.pool_name import PoolName
from leasecap._config.schema import KILL_AFTER
from leasecap._config.store_address import Secret, StoreAddress
from leasecap._errors import StoreError
from leasecap._host.own_code import finding_it
from leasecap._liveness.record import Child, decode_record, encode_record
from leasecap._log import log_warning
from leasecap._redis_store.holding import holding_in, text_of
from leasecap._redis_store.renewals import Kept, Renewals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leasecap._host.effects import Effects
    from leasecap._liveness.record import Record
    from leasecap._redis_store.pool import Pool

_LOOK_EVERY = 0.2  # seconds between looks at the process


class Keeper:
    """A keeper as its starter sees it."""

    def __init__(self, address: StoreAddress, kept: Kept, process: Child) -> None:
        """Start it; a machine that can't start it any more is told of, and the lease then ends after its ttl.

        :param kept: the lease.
        :param process: for which it is kept.
        """
        self._process: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-P", "-m", __name__]
        nowhere = subprocess.DEVNULL
        pool = kept.pool
        # Not the configuration: that may name another store by the time it is needed, or be broken.
        told = [_told(address), pool.name, kept.name, *process, encode_record(kept.record).decode("ascii")]
        told += [pool.ttl, text_of(pool.holding)]
        try:
            # Ctrl-C in the terminal is for the command.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=nowhere,
                stderr=nowhere,
                start_new_session=True,
                env=finding_it(os.environ),
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            log_warning(f"lease {kept.name[21:37]} can't be kept beyond this process: {error}")

    def let_go(self) -> None:
        """It is for the keeper to renew the lease from now on."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = 0  # it outlives this process, and nobody waits for it

    def end(self) -> None:
        """It isn't needed any more."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def main() -> None:
    """Wait until the starter is gone, and keep the lease until the process has ended."""
    address, pool_name, name, pid, start, record, ttl, holding = json.loads(sys.stdin.readline())
    sys.stdin.read()
    from leasecap._host.effects import Effects
    from leasecap._redis_store.client import Client
    from leasecap._redis_store.pool import Pool

    effects = Effects()
    known = decode_record(record.encode())
    if known is not None:
        pool = Pool(Client(_address(address)), PoolName(*pool_name), effects.monotonic)
        pool.ttl, pool.holding = ttl, holding_in(holding)
        keep(pool, effects, name, known, Child(pid, start))


def _told(address: StoreAddress) -> dict[str, object]:
    """The address as a keeper is told it, by its standard input, which nobody else can read."""
    password = None if address.password is None else address.password.reveal()
    return {**address._asdict(), "password": password}


def _address(told: dict[str, Any]) -> StoreAddress:
    hosts = tuple((host, port) for host, port in told["hosts"])
    password = None if told["password"] is None else Secret(told["password"])
    return StoreAddress(**{**told, "hosts": hosts, "password": password})


def keep(pool: Pool, effects: Effects, name: str, record: Record, process: Child) -> None:
    """Renew the entry until the process has ended, and then end it; or until it is gone.

    The command of a killed `leasecap run` is ended in time if it can't be renewed, where the policy wants that.
    """
    gone = threading.Event()
    # The starter has renewed it within a beat, unless the server was away already.
    kept = Kept(pool, name, effects.boot_clock() / 1e9, record, gone.set, is_lease=True)
    kept.kill_after = KILL_AFTER if record.kill_after is None else record.kill_after
    renewals = Renewals(effects, _watch_nothing)
    renewals.add(kept)
    renewals.soon()
    killed: bool | None = None  # whether it got KILL, or TERM
    pause = _LOOK_EVERY
    while not gone.wait(pause) and effects.presence(*process) != "gone":
        left = kept.ends_in(effects.boot_clock() / 1e9) if record.proof == "lock" else None
        if left is None:
            killed = None
        elif killed is None or (left <= 0 and not killed):
            killed = left <= 0
            _end(process.pid, kill=killed)
        pause = min(left, _LOOK_EVERY) if left is not None and left > 0 else _LOOK_EVERY
    if gone.is_set():
        return
    try:
        pool.end(name[21:37], by_holder=True, within=pool.ttl)
    except StoreError:
        pass  # nobody renews it, so it ends after its ttl


def _watch_nothing(when: float) -> None:
    """Nobody here ends the lease when its time is over: it may still be adopted."""


def _end(pid: int, *, kill: bool) -> None:
    if sys.platform == "win32":
        return  # there is no `leasecap run`
    try:
        os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # a stopped one takes no TERM
    except OSError:
        pass  # it has ended, or is another user's


if __name__ == "__main__":
    main()
