"""This process's one subscription to a store, and the thread that reads it.

A connection can be dead without either end knowing, and a subscription gone though its connection lives
(redis-py#2417). So the thread sends itself a message when none has come for a while, and subscribes anew when that one
doesn't come back. Mostly it needn't: the looks of those who wait have one sent (`wants_proof`).
"""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector

from redis.exceptions import RedisError

from leasecap._errors import LeasecapError
from leasecap._log import log_warning_apart
from leasecap._redis_store.lua.state import PROOF
from leasecap._threads import await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap._config.store_address import StoreAddress
    from leasecap._redis_store.client import Client

_chance = random.Random().random  # noqa: S311  # the program's own numbers, which it may have seeded, stay as they are
_PROVE_EVERY, _BACK_WITHIN = 12.0, 2.0  # seconds; longer than the time between two looks of a waiter
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds
_PROOF = PROOF.encode()


def channel(address: StoreAddress, name: str) -> str:
    """The channel of that name. The databases of a server have their keys apart but not their channels."""
    return f"{address.prefix}:{address.db}:{name}"


class Subscription:
    """Hands messages on.

    :ivar own: the channel of this process alone.
    :ivar common: the channel of all processes that use the store.
    """

    def __init__(self, client: Client, process: str, heard: Callable[[bytes | None], object]) -> None:
        """
        :param process: a name that no other process has.
        :param heard: called in the thread with each message to one of the channels; with None when it has subscribed,
            since messages may have been missed before.
        """
        self.own, self.common = channel(client.address, process), channel(client.address, "all")
        self._client, self._heard = client, heard
        self._lock = threading.Lock()
        self._reader: _Reader | None = None

    @property
    def proven(self) -> bool:
        """Whether a message has come lately. If not, whoever waits has to look by itself more often."""
        reader = self._reader
        return reader is not None and time.monotonic() < reader.proven_until

    @property
    def wants_proof(self) -> bool:
        """Whether a message is welcome, since none has come for a while."""
        reader = self._reader
        return reader is not None and time.monotonic() > reader.proven_until - _BACK_WITHIN - _PROVE_EVERY / 2

    def start(self) -> bool:
        """Read in a thread, if none does yet; False: no thread can be had."""
        with self._lock:
            if self._reader is not None and self._reader.is_alive():
                return True
            reader = _Reader(self._client, self.own, self.common, self._heard)
            try:
                reader.start()
            except RuntimeError:
                reader.close()
                return False
            self._reader = reader
            return True

    def stop(self) -> None:
        """End the thread, as before a fork: Python warns of one beside threads. `start` begins again."""
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()

    def forget(self) -> None:
        """In a fork's child: close the copies of what is the parent's. A child needs a `Subscription` of its own."""
        reader, self._reader = self._reader, None
        self._lock = threading.Lock()
        if reader is not None:
            reader.close()


class _Reader:
    """One thread and its connection."""

    def __init__(self, client: Client, own: str, common: str, heard: Callable[[bytes | None], object]) -> None:
        self.proven_until = 0.0
        self._client, self._heard = client, heard
        self._own, self._common = own, common
        self._stopping, self._stop = socket.socketpair()
        self._selector = DefaultSelector()
        self._selector.register(self._stopping, EVENT_READ)
        self._ended = False
        self._connection: Any = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """:raises RuntimeError: when no thread can be had."""
        self._thread = start_thread("subscription", self._run)

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """End the thread, and wait a second for that."""
        self._ended = True
        with suppress(OSError):  # the thread has ended by itself
            self._stop.send(b".")
        if self._thread is not None:
            await_end(self._thread)

    def close(self) -> None:
        """Close everything. No selector is changed, since a fork's child shares it with its parent."""
        with suppress(OSError):  # a kqueue isn't inherited
            self._selector.close()
        self._drop()
        self._stopping.close()
        self._stop.close()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not self._ended:
                try:
                    self._subscribe()
                    self._say(None)
                    quiet = 0.0  # it proves itself at once
                    while self._read(quiet):
                        quiet, pause = _PROVE_EVERY, _FIRST_PAUSE
                except (RedisError, OSError, LeasecapError):
                    pass  # whoever waits looks by itself meanwhile, and is told by that what is wrong
                self.proven_until = 0.0
                self._let_go()
                self._wait(pause * (0.5 + _chance() / 2))  # others lost it at the same moment
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self.close()

    def _subscribe(self) -> None:
        connection = self._connection = self._client.connect()
        connection.send_command("SUBSCRIBE", self._own, self._common)
        for _ in range(2):
            connection.read_response()
        sock = connection._sock  # redis-py forgets it when it finds the connection broken
        self._selector.register(sock, EVENT_READ)
        self._socket = sock

    def _read(self, quiet: float) -> bool:
        """Read until nothing has come for ``quiet`` seconds, and prove then that something can; False: nothing does."""
        if self._read_until(time.monotonic() + quiet):
            return not self._ended
        self._client.command("PUBLISH", self._own, _PROOF)
        return self._read_until(time.monotonic() + _BACK_WITHIN)

    def _read_until(self, when: float) -> bool:
        """Hand on what comes; True once something has, or it is to end; False at ``when``."""
        while not self._ended:
            came = False
            while self._connection.can_read():
                came = True
                kind, _, message = self._connection.read_response()
                if kind == b"message" and message != _PROOF:
                    self._say(message)
            if came:
                self.proven_until = time.monotonic() + _PROVE_EVERY + _BACK_WITHIN
                return True
            left = when - time.monotonic()
            if left <= 0:
                return False
            self._wait(left)
        return True

    def _wait(self, seconds: float) -> None:
        """Wait until something comes on the connection, if there is one, or `stop` is called."""
        self._selector.select(seconds)

    def _say(self, message: bytes | None) -> None:
        try:
            self._heard(message)
        except Exception as error:
            log_warning_apart(f"a wake-up could not be handed on: {error!r}")

    def _let_go(self) -> None:
        """Wait for this connection no longer, and close it."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._selector.unregister(sock)
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
