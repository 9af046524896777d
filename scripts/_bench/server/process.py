"""A redis-server of the bench's own on loopback, empty, gone when the block is left; nothing is saved to disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..fleet import Worker, clean_environment, free_port, scratch

PROGRAM = "redis-server"
PORT = "BENCH_REDIS_PORT"
"""The variable that says to limiters where the server is, or the way to it."""

STARTS_WITHIN = 10.0  # seconds
PATIENCE = 1.0  # seconds, for one answer


class Server(NamedTuple):
    port: int
    pid: int


def is_there() -> bool:
    return shutil.which(PROGRAM) is not None


def about() -> str:
    """What it says of its version, as "redis-server 7.0.15"."""
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    version = next((word[2:] for word in said.split() if word.startswith("v=")), said.strip())
    return f"{PROGRAM} {version}, a process on loopback that saves nothing to disk"


@contextlib.contextmanager
def running(base: str) -> Iterator[Server]:
    """The server, to which limiters are led.

    :raises RuntimeError: when it doesn't start.
    """
    port = free_port()
    with scratch(base) as directory:
        words = ["--bind", "127.0.0.1", "--port", str(port), "--dir", directory, "--save", "", "--appendonly", "no"]
        log = Path(directory, "log")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [PROGRAM, *words, "--daemonize", "no"],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            _await_answer(process, port, log)
            with _led_to(port):
                yield Server(port, process.pid)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def at_distance(server: Server, round_trip: float) -> Iterator[None]:
    """Lead limiters to the server by a way that takes so many seconds there and back."""
    with Worker("server.relay", server.port, round_trip / 2) as relay, _led_to(relay.hear()):
        yield


@contextlib.contextmanager
def _led_to(port: int) -> Iterator[None]:
    before = os.environ.get(PORT)
    os.environ[PORT] = str(port)
    try:
        yield
    finally:
        del os.environ[PORT]
        if before is not None:
            os.environ[PORT] = before


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
        ):
            connection.sendall(b"PING\r\n")
            if connection.recv(16).startswith(b"+PONG"):
                return
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{PROGRAM} doesn't answer on port {port}: {log.read_text(errors='replace')[-1000:]}")
        time.sleep(0.02)
