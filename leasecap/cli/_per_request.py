"""``leasecap run --per-request``: the command's requests take the slots, each its own.

The gate is a thread of this process. It listens before the command is started, and is loaded while that starts.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from contextlib import ExitStack

assert sys.platform != "win32"  # `run` refuses there

import click

from leasecap import _log
from leasecap._config.command_environment import environment_of_commands
from leasecap._config.root import root_path
from leasecap._errors import ConfigError, LeasecapError, StoreError
from leasecap._extras import missing, to_install
from leasecap._gate.environment import prepare, private_path, write_files
from leasecap._gate.terms import Pools
from leasecap._host.descriptors import raise_descriptor_limit
from leasecap._host.listener import listen
from leasecap._messages import no_limit
from leasecap._provider import chain
from leasecap._runtime import runtime
from leasecap.cli._pools import chosen_pool
from leasecap.cli._say import say
from leasecap.cli._signals import ENDING
from leasecap.cli._spawn import NOT_EXECUTABLE, NOT_FOUND
from leasecap.cli._supervise import spawn, supervise

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from leasecap._config.config import Config, PoolConfig
    from leasecap._gate.environment import Prepared
    from leasecap._gate.gate import Gate
    from leasecap._request import Options
    from leasecap.cli._signals import SignalGate
    from leasecap.cli._slot_options import Asked
    from leasecap.cli._supervise import Outcome

OUTLIVING = 10.0
"""Seconds for which the gate stays when the command has ended, for what that has started and left behind."""

LONG = 3.0
"""Seconds from which on a command may have asked a model. In less it has printed its version, or failed at once."""

_MOST_LINES = 20


def check_options(asked: Asked, *, status_given: bool) -> None:
    """:raises click.UsageError: for an option that means the command's own slot, which it doesn't have here."""
    wrong = {"-n": asked.no_wait, "-E": status_given, "--kill-after": asked.kill_after is not None}
    for option, given in wrong.items():
        if given:
            raise click.UsageError(
                f"{option} is about a slot for the whole command; with --per-request each request has its own"
            )


def run_per_request(signals: SignalGate, asked: Asked, argv: Sequence[str]) -> Outcome:
    """Run ``argv`` with its requests led through a gate.

    :raises LeasecapError: before the command is started.
    :raises SpawnError, Interrupted: as `spawn` does.
    """
    if lacks := missing("gate"):
        raise LeasecapError(f"--per-request needs {' and '.join(lacks)}: {to_install('gate')}")
    config = runtime.root(root_path()).config
    # As `secrets` has them, which loads OpenSSL before the command starts.
    token = os.urandom(24).hex()
    environ = environment_of_commands(config)
    private = private_path(environ, f"leasecap-{os.urandom(8).hex()}", os.geteuid())
    trouble = Trouble()
    with ExitStack() as ending:
        listener = ending.enter_context(listen())
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        prepared = prepare(
            argv, environ, address=address, token=token, config=config, private=private,
            directory=os.getcwd(), superuser=os.getuid() == 0,
        )  # fmt: skip
        own = _own_pools(asked, argv, prepared, config)
        options = asked.options()._replace(on_wait=None)
        _check_limits(own, options, config)
        _say_at_start(asked, prepared, own, config)
        if prepared.files:
            ending.callback(shutil.rmtree, private, ignore_errors=True)
            write_files(private, prepared.files)
        pools = Pools(own, options, environ)
        # Its terminal is the command's own from here on.
        _log.sink = trouble.note
        ending.callback(setattr, _log, "sink", say)
        began = time.monotonic()
        child = spawn(signals, prepared.argv, {**prepared.environment, **_told(address, prepared, pools)})
        raise_descriptor_limit()
        program = os.path.basename(argv[0])

        def make() -> Gate:
            from leasecap._gate.gate import Gate

            return Gate(listener, lambda: token, prepared.upstreams, pools, environ, program)

        thread = GateThread(make, listener, trouble.note, signals.wake)
        thread.start()
        outcome = supervise(signals, child)
        was_long = time.monotonic() - began >= LONG
        thread.finish(signals)
    trouble.tell()
    has_run = was_long and outcome.exit_status not in (NOT_EXECUTABLE, NOT_FOUND)
    if has_run and thread.gate is not None and thread.gate.metered == 0 and not asked.quiet:
        say(f"{program} made no request that took a slot: it may have another way to its provider")
    return outcome


class Trouble:
    """What went wrong while the terminal was the command's: told at the end, each thing once."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._more = 0

    def note(self, line: str) -> None:
        """From any thread."""
        if len(self._lines) < _MOST_LINES or line in self._lines:
            self._lines[line] = None
        else:
            self._more += 1

    def tell(self) -> None:
        """On standard error."""
        for line in self._lines:
            say(line)
        if self._more:
            say(f"and {self._more} times more")


def _own_pools(asked: Asked, argv: Sequence[str], prepared: Prepared, config: Config) -> dict[str, str]:
    """The pool of each upstream that is the command's own, by the upstream's name."""
    try:
        pool = chosen_pool(asked.pool, argv[0], config)
    except ConfigError:
        ups = prepared.upstreams.values()
        ahead = any(chain.metered_nearer(up.address, up.base_path, os.environ) is not None for up in ups)
        if ahead and asked.pool is None:
            return {}  # what is metered there needs no pool here
        if prepared.own is None or asked.pool is not None:
            raise
        pool = prepared.upstreams[prepared.own].origin
    if prepared.own is not None:
        return {prepared.own: pool}
    # A command that nobody knows: what its pool is called says which provider is meant, or else it is for all of them.
    identity = config.pool(pool).name.identity
    meant = [name for name, up in prepared.upstreams.items() if config.pool(up.origin).name.identity == identity]
    return dict.fromkeys(meant or prepared.upstreams, pool)


def _check_limits(own: Mapping[str, str], options: Options, config: Config) -> None:
    for pool in own.values():
        if options.limit is None and not _has_limit(config.pool(pool)):
            raise no_limit(config.pool(pool).name.text, config)


def _has_limit(pool: PoolConfig) -> bool:
    try:
        return runtime.has_limit(pool)
    except StoreError:
        return True  # its server is away: each request says so, and none passes without a slot


def _say_at_start(asked: Asked, prepared: Prepared, own: Mapping[str, str], config: Config) -> None:
    for warning in prepared.warnings:
        say(warning)
    if asked.verbose:
        for name, upstream in prepared.upstreams.items():
            settings = config.pool(own.get(name, upstream.origin))
            metered = name in own or _has_limit(settings)
            what = f"a slot of {settings.name.text} per request" if metered else "unmetered: its pool has no limit"
            say(f"{name} ({upstream.origin}): {what}")


def _told(address: str, prepared: Prepared, pools: Pools) -> dict[str, str]:
    """What a gate or a ``leasecap run`` under this one has to know."""
    places = {name: place for name, up in prepared.upstreams.items() if (place := pools.metered_at(up)) is not None}
    return {chain.VARIABLE: chain.describe(address, places)}


class GateThread:
    """The gate's event loop, beside the supervision of the command.

    :ivar gate: once it is loaded.
    """

    def __init__(
        self,
        make: Callable[[], Gate],
        listener: socket.socket,
        trouble: Callable[[str], object],
        wake: Callable[[], object],
    ) -> None:
        """:param wake: called when it has ended."""
        self._make = make
        self._listener = listener
        self._trouble = trouble
        self._thread = threading.Thread(target=self._run, name="leasecap gate", daemon=True)
        self._end: Callable[[], object] = lambda: None
        self._cancel: Callable[[], object] = lambda: None
        self._wake = wake
        self._ended = threading.Event()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self.gate: Gate | None = None

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def _run(self) -> None:
        try:
            import asyncio
            import logging

            # It would write to the terminal that is the command's.
            logging.getLogger("asyncio").disabled = True
            asyncio.run(self._serve(), debug=False)
        except BaseException as error:
            self._trouble(f"the gate failed: {error!r}; requests were refused from then on")
        finally:
            self._listener.close()  # fails closed: who has its address is refused
            self._done.set()
            self._wake()

    async def _serve(self) -> None:
        import asyncio

        self.gate = self._make()
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._end = lambda: _call_in(loop, ended.set)
            serving = asyncio.current_task()
            assert serving is not None
            self._cancel = lambda: _call_in(loop, serving.cancel)
            if self._ended.is_set():
                ended.set()
        try:
            await self.gate.serve(ended, OUTLIVING)
        except asyncio.CancelledError:
            pass  # cut short

    def finish(self, signals: SignalGate) -> None:
        """The command has ended: serve what outlives it for a while, or until a signal says to end."""
        with self._lock:
            self._ended.set()
            self._end()
        until = time.monotonic() + OUTLIVING + 1
        while not self._done.is_set() and (left := until - time.monotonic()) > 0:
            taken = signals.take(left)
            if taken is None:
                continue
            if taken.signum == signal.SIGTSTP:
                signals.stop(taken.signum, lambda: True)
            elif taken.signum in ENDING and signal.getsignal(taken.signum) is not signal.SIG_IGN:
                self.cut()
        self._thread.join(1)

    def cut(self) -> None:
        """Break off what is still served."""
        with self._lock:
            self._cancel()


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        pass  # it has ended
