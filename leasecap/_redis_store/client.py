"""Runs scripts on a store, from threads and from tasks of event loops."""

from __future__ import annotations

import asyncio
import os
import random
import time
import weakref

from redis.exceptions import RedisError, ResponseError

from leasecap._redis_store.calls import Ask, Route, call, script_call
from leasecap._redis_store.connections import Connections, LoopConnections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from typing import Any

    from leasecap._config.store_address import StoreAddress
    from leasecap._redis_store.calls import Node, Steps
    from leasecap._redis_store.script import Script, Server, Word


class Client:
    """A store, as this process talks to it. Threads and tasks share it; a fork's child begins with no connection.

    :ivar address: where the store is.
    :ivar server: what the last one said of itself to which a connection was made; None before the first. A script that
        has to know which server runs it takes that as an argument (`Word`): another thread may have met a new one.
    """

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self.server: Server | None = None
        self._abandoned: list[object] = []
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._route = Route(self.address)
        self._for_threads: dict[Node, Connections] = {}
        self._for_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = weakref.WeakKeyDictionary()

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Word] = (), *, within: float = 0.0) -> Any:
        """What the script returns, as redis-py has it: integers, bytes, None, and lists of them.

        It is run again when its reply was lost, or the server can't be reached for now, unless ``within`` seconds are
        over. One try is always made; it takes six seconds at most (five of them to connect).

        :raises Unreachable: when the store can't be reached for now; whether the script has run is unknown.
        :raises StoreError: when the store refuses, or is none that can be used.
        :raises ConfigError: when the password isn't where the address says.
        """
        return self._drive(self._script_call(script, keys, args, within))

    async def run_async(
        self, script: Script, keys: Sequence[str], args: Sequence[Word] = (), *, within: float = 0.0
    ) -> Any:
        """`run` for tasks. Whoever is cancelled can't know whether the script has run."""
        return await self._drive_async(self._script_call(script, keys, args, within))

    def command(self, *words: Word, within: float = 0.0) -> Any:
        """What a command returns that isn't about one pool; raises as `run` does, and is sent again like a script."""
        return self._drive(self._call(words, words, None, within))

    async def command_async(self, *words: Word, within: float = 0.0) -> Any:
        """`command` for tasks."""
        return await self._drive_async(self._call(words, words, None, within))

    def connect(self) -> Any:
        """A connection of its own to the server, which the caller closes; raises as `command` does."""
        return self.command()

    def close(self) -> None:
        """Close the connections of threads that aren't in use."""
        for connections in list(self._for_threads.values()):
            connections.close()

    def forget(self) -> None:
        """In a fork's child: let go of what is the parent's."""
        self.close()
        # To close what belongs to the parent's event loop would take it out of the poll set, which both share.
        self._abandoned.append(dict(self._for_loops))
        self._begin()

    def _script_call(self, script: Script, keys: Sequence[str], args: Sequence[Word], within: float) -> Steps:
        words, whole = script_call(script, keys, args)
        return self._call(words, whole, keys[0], within)

    def _call(self, words: Sequence[Word], whole: Sequence[Word], key: str | None, within: float) -> Steps:
        if self._pid != os.getpid():
            self.forget()
        return call(self._route, words, whole, key, time.monotonic() + within, time.monotonic, random.random)

    def _drive(self, steps: Steps) -> Any:
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Ask):
                    answer = self._ask(step)
                else:
                    time.sleep(step.seconds)
        except StopIteration as done:
            return done.value

    async def _drive_async(self, steps: Steps) -> Any:
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Ask):
                    answer = await self._ask_async(step)
                else:
                    await asyncio.sleep(step.seconds)
        except StopIteration as done:
            return done.value

    def _ask(self, ask: Ask) -> Any:
        connections = self._for_threads.get(ask.node)
        if connections is None:
            connections = self._for_threads.setdefault(ask.node, Connections(self.address, ask.node, self._seen))
        try:
            if not ask.words:
                return connections.apart()
            with connections.one(ask.until) as connection:
                try:
                    if ask.asking:
                        connection.send_command("ASKING")
                        connection.read_response()
                    connection.send_command(*_filled(ask.words, connection))
                    return connection.read_response()
                except ResponseError as error:  # the connection can be used again
                    return error
        except (RedisError, OSError) as error:
            return error

    async def _ask_async(self, ask: Ask) -> Any:
        loop = asyncio.get_running_loop()
        of_loop = self._for_loops.get(loop)
        if of_loop is None:
            of_loop = self._for_loops[loop] = _OfLoop()
            await of_loop.start()
        connections = of_loop.connections.get(ask.node)
        if connections is None:
            connections = of_loop.connections[ask.node] = LoopConnections(self.address, ask.node, self._seen)
        try:
            async with connections.one(ask.until) as connection:
                try:
                    if ask.asking:
                        await connection.send_command("ASKING")
                        await connection.read_response()
                    await connection.send_command(*_filled(ask.words, connection))
                    return await connection.read_response()
                except ResponseError as error:
                    return error
        except (RedisError, OSError) as error:
            return error

    def _seen(self, server: Server) -> None:
        self.server = server


class _OfLoop:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.connections: dict[Node, LoopConnections] = {}

    async def start(self) -> None:
        """Have the connections closed when the loop ends."""
        self._until_the_end = self._last()
        await anext(self._until_the_end)

    async def _last(self) -> AsyncGenerator[None, None]:
        # asyncio.run closes the generators that are left: that is the one hook there is on a loop's end.
        try:
            yield
        finally:
            for connections in self.connections.values():
                await connections.close()


def _filled(words: Sequence[Word], connection: Any) -> list[Any]:
    return [word(connection.server) if callable(word) else word for word in words]
