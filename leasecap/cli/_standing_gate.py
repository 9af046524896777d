"""`leasecap gate` while it serves: from its port to the signal that ends it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
import time

assert sys.platform != "win32"  # `gate` refuses there

from leasecap._config.root import make_root, root_path
from leasecap._decisions.limits import UNLIMITED
from leasecap._errors import LeasecapError
from leasecap._extras import missing, to_install
from leasecap._faults import store_error
from leasecap._gate.standing import PORT, declare
from leasecap._gate.terms import Pools
from leasecap._host.descriptors import raise_descriptor_limit
from leasecap._host.listener import listen
from leasecap._host.process import command_of
from leasecap._host.sockets import listener_on, pids_of_socket
from leasecap._redact import redact_argv
from leasecap._request import Options
from leasecap._runtime import runtime
from leasecap.cli._say import say
from leasecap.cli._streams import die_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from leasecap._config.config import Config
    from leasecap._gate.gate import Gate
    from leasecap._gate.standing import Declared

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

_PATIENCE = 1.0
"""Seconds in which a gate that has just taken the port says who it is."""


def serve(port: int | None) -> int:
    """Serve until a signal comes, and die of it; the slots are free by then.

    :param port: None: the usual one.
    :raises LeasecapError: before anything is served.
    """
    if lacks := missing("gate"):
        raise LeasecapError(f"`leasecap gate` needs {' and '.join(lacks)}: {to_install('gate')}")
    port = PORT if port is None else port
    root = root_path()
    make_root(root)
    environ = dict(os.environ)
    config = runtime.root(root).config
    declared = declare(environ, config.gate, port)
    # What has a limit now never passes unmetered, also if that should be taken away.
    metered = {name: up.origin for name, up in declared.upstreams.items() if config.pool(up.origin).limit is not None}
    pools = Pools(metered, Options(), environ)
    token = runtime.gate_token(root)
    token.make()
    gates = runtime.standing_gates(root)
    with _listen(root, port) as listener:
        raise_descriptor_limit()
        gates.note(port, declared.variables, declared.told())
        try:
            from leasecap._gate.gate import Gate

            gate = Gate(listener, token.read, declared.upstreams, pools, environ, None)
            say(f"on 127.0.0.1:{port}, pid {os.getpid()}; `leasecap gate --env` prints what leads agents there")
            _say_what_is_metered(declared, pools, config)
            signum = asyncio.run(_serve(gate), debug=False)
        finally:
            gates.forget(port)
    runtime.at_exit()
    die_of(signum)


def _listen(root: str, port: int) -> socket.socket:
    try:
        return listen(port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise store_error(error, f"127.0.0.1:{port}") from error
    who = _who_has(root, port)
    raise LeasecapError(
        f"port {port} of 127.0.0.1 is in use{f' by {who}' if who else ''}\n"
        "`leasecap gate --port N` takes another one; then `leasecap gate --port N --env` has the addresses"
    )


def _who_has(root: str, port: int) -> str:
    """Who listens on the port, for people; "" if that can't be told."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            for gate in runtime.standing_gates(root).read():
                if gate.port == port:
                    return f"pid {gate.pid}, the gate of this root"
        except OSError:
            pass  # there was never one here
        found = listener_on(port)
        if found is not None:
            pids = pids_of_socket(found.inode)
            if not pids:
                return f"a process of uid {found.uid}"
            return f"pid {pids[0]} ({redact_argv(command_of(pids[0]), limit=60)})"
        if time.monotonic() > until:
            return ""
        time.sleep(0.05)


def _say_what_is_metered(declared: Declared, pools: Pools, config: Config) -> None:
    slots, free = [], []
    for name, upstream in declared.upstreams.items():
        if pools.metered_at(upstream) is None:
            free.append(f"{name} (pool {config.pool(upstream.origin).name.text})")
        else:
            limit = config.pool(upstream.origin).limit
            slots.append(name if limit in (None, UNLIMITED) else f"{name} ({limit})")
    say(f"a slot per request: {', '.join(slots) or 'none'}")
    if free:
        say(f"unmetered, since their pools have no limit: {', '.join(free)}; set one with `leasecap limit POOL N`")


async def _serve(gate: Gate) -> signal.Signals:
    """Serve until a signal comes that isn't ignored; returns it. What is under way is broken off."""
    logging.getLogger("asyncio").disabled = True  # it would show what clients sent; the gate tells by itself
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    came: list[signal.Signals] = []

    def end(signum: signal.Signals) -> None:
        came.append(signum)
        ended.set()

    for signum in _ENDING:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as under nohup, and for a job in the background
            loop.add_signal_handler(signum, end, signum)
    await gate.serve(ended, 0)
    return came[0]
