"""Runs scripts on a store. Each call blocks: for event loops `errands` makes them."""

from __future__ import annotations

import math
import os
import random
import time

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from leasecap._redis_store.calls import Ask, Route, call
from leasecap._redis_store.connections import Connections
from leasecap._redis_store.script import command_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from leasecap._config.store_address import StoreAddress
    from leasecap._redis_store.calls import Node
    from leasecap._redis_store.script import Command, Script, Server, Word

_chance = random.Random().random  # noqa: S311  # the program's own numbers, which it may have seeded, stay as they are


class Client:
    """A store, as this process talks to it. Threads share it; a fork's child begins with no connection.

    :ivar address: where the store is.
    :ivar server: what the last one said of itself to which a connection was made; None before the first. A script that
        has to know which server runs it takes that as an argument (`Word`): another thread may have met a new one.
    :ivar answered_at: when a call was answered last (monotonic clock, seconds).
    """

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self.server: Server | None = None
        self.answered_at = -math.inf
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._route = Route(self.address)
        self._connections: dict[Node, Connections] = {}

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Word] = (), *, within: float = 0.0) -> Any:
        """What the script returns, as redis-py has it: integers, bytes, None, and lists of them.

        It is run again when its reply was lost, or the server can't be reached for now, unless ``within`` seconds are
        over. One try is always made, and another one for each node of several that doesn't answer: two seconds at least
        to connect, and one to be answered. Of Sentinels each one is asked in the same try.

        :raises Unreachable: when the store can't be reached for now; whether the script has run is unknown.
        :raises StoreError: when the store refuses, or is none that can be used.
        :raises ConfigError: when the password isn't where the address says.
        """
        return self._call(script.command(keys, args), keys[0], within)

    def send(self, script: Script, keys: Sequence[str], args: Sequence[Word] = ()) -> Callable[[], Any] | None:
        """Send a script; returns what waits for its answer, to be called once. It raises what redis-py raises.

        None: it wasn't sent, since that might take time, or somebody else has to be asked first.
        """
        node = None if self._pid != os.getpid() or self.address.service else self._route.to(keys[0])
        connections = None if node is None else self._connections.get(node)
        return None if connections is None else connections.send(script.command(keys, args))

    def command(self, *words: Word, within: float = 0.0) -> Any:
        """What a command returns that isn't about one pool; raises as `run` does, and is sent again like a script."""
        return self._call(command_of(*words), None, within)

    def connect(self) -> Any:
        """A connection of its own to the server, which the caller closes; raises as `command` does."""
        return self._call(None, None, 0.0)

    def server_of(self, key: str) -> Server | None:
        """What the one that has the key, as far as is known, has said of itself."""
        node = self._route.to(key)
        connections = None if node is None else self._connections.get(node)
        return None if connections is None else connections.server

    def close(self) -> None:
        """Close the connections that aren't in use."""
        for connections in list(self._connections.values()):
            connections.close()

    def forget(self) -> None:
        """In a fork's child: let go of what is the parent's."""
        self.close()
        self._begin()

    def _call(self, command: Command | None, key: str | None, within: float) -> Any:
        if self._pid != os.getpid():
            self.forget()
        steps = call(self._route, command, key, time.monotonic() + within, time.monotonic, _chance)
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Ask):
                    answer = self._ask(step)
                else:
                    time.sleep(step.seconds)
        except StopIteration as done:
            self.answered_at = time.monotonic()
            return done.value

    def _ask(self, ask: Ask) -> Any:
        connections = self._connections.get(ask.node)
        if connections is None:
            connections = self._connections.setdefault(ask.node, Connections(self.address, ask.node, self._seen))
        try:
            if ask.command is None:
                return connections.apart(ask.until)
            with connections.one(ask.until) as connection:
                try:
                    if ask.asking:
                        connection.send_command("ASKING")
                        connection.read_response()
                    connection.send_packed_command([ask.command.packed(connection.server)])
                    return connection.read_response()
                except ReadOnlyError:
                    raise  # it may lead to what was the master, whose name leads elsewhere by now
                except ResponseError as error:  # the connection can be used again
                    return error
        except (RedisError, OSError) as error:
            return error

    def _seen(self, server: Server) -> None:
        self.server, self.answered_at = server, time.monotonic()
