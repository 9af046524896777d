"""A process that keeps a lease for another one, once the one that took it is gone.

`leasecap run` starts one before its command: should it be killed, the command goes on, and its slot must stay taken
until it ends. `leasecap acquire --for-pid` ends at once, and leaves one behind for as long as the agent runs. Until
then a keeper only waits for the end of its standard input, which the kernel brings about however its starter ends.
"""

from __future__ import annotations

import json
import subprocess
import sys

from leasecap._log import log_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._liveness.presence import Process
    from leasecap._redis_store.pool import Pool

_LOOK_EVERY = 0.2  # seconds between looks at the process


class Keeper:
    """A keeper as its starter sees it."""

    def __init__(self, pool: str, name: str, process: Process) -> None:
        """Start it; a machine that can't start it any more is told of, and the lease then ends after its ttl.

        :param name: the entry's name.
        :param process: for which the lease is kept.
        """
        self._process: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-m", __name__]
        nowhere = subprocess.DEVNULL
        try:
            # Ctrl-C in the terminal is for the command.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([pool, name, *process]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            log_warning(f"lease {name[21:37]} can't be kept beyond this process: {error}")

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
    pool, name, pid, start = json.loads(sys.stdin.readline())
    sys.stdin.read()
    from leasecap._config.config import load_config
    from leasecap._config.root import root_path
    from leasecap._host.effects import Effects
    from leasecap._redis_store.client import Client
    from leasecap._redis_store.pool import Pool

    settings, effects = load_config(root_path()).pool(pool), Effects()
    if settings.store is not None:
        keep(Pool(Client(settings.store), settings.name, effects.monotonic), name, (pid, start))


def keep(pool: Pool, name: str, process: Process) -> None:
    """Renew the entry until the process has ended, and then end it; or until it is gone."""
    import time

    from leasecap._errors import StoreError
    from leasecap._host.process import presence

    due = 0.0
    while presence(*process) != "gone":
        if time.monotonic() >= due:
            try:
                if pool.renew([name], []) == ("lost",):
                    return
                due = time.monotonic() + pool.beat
            except StoreError:
                due = time.monotonic() + min(pool.beat, 1.0)
        time.sleep(_LOOK_EVERY)
    try:
        pool.end(name[21:37], by_holder=True, within=pool.ttl)
    except StoreError:
        pass  # nobody renews it, so it ends after its ttl


if __name__ == "__main__":
    main()
