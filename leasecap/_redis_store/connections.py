"""Connections to one server: a few that are shared, for whom the others wait.

The connections are redis-py's. Its pools aren't used: they wait for as long as the pool was told, and not the call that
needs a connection; and to say for sure that no connection is used again which was left in the middle of an exchange
(redis-py#2665), one has to see who uses it.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _queue import Empty, SimpleQueue
from contextlib import contextmanager
from functools import partial

from redis import connection as redis_py
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError

from leasecap._errors import ConfigError, StoreError
from leasecap._redis_store.script import Server

# A socket looks this codec up at its first connection, which imports it: the child of a fork in the middle of that
# could connect to nothing.
"".encode("idna")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from leasecap._config.store_address import StoreAddress
    from leasecap._redis_store.calls import Node
    from leasecap._redis_store.script import Command

CONNECT_WITHIN, ANSWER_WITHIN = 5.0, 1.0  # seconds
CONNECT_AT_LEAST = 2.0
"""Seconds to connect for a caller whose time is over before: a SYN that is lost is sent again after one (RFC 6298)."""

MOST = 8

_OLDEST = {"redis": (7, 0), "valkey": (7, 2)}
_LARGEST_PASSWORD = 4096  # bytes


def settings(address: StoreAddress, node: Node, environ: Mapping[str, str]) -> dict[str, Any]:
    """What redis-py is told of a connection, its class left out.

    :raises ConfigError: when the password, or a file, isn't where the address says.
    """
    told: dict[str, Any] = {
        "protocol": 2,  # RESP3 mixes messages and answers, and its greeting is a right more
        "socket_timeout": ANSWER_WITHIN,
        "driver_info": None,
    }
    if node.sentinel:
        told["password"] = _variable(address, "sentinel_password_env", environ)
    else:
        told |= {"db": address.db, "username": address.user or None, "password": password(address, environ)}
    if node.path:
        return told | {"path": node.path}
    told |= {"host": node.host, "port": node.port}
    if address.scheme == "rediss":
        _check_files(address)
        told |= {
            "ssl_ca_certs": address.ca or None,
            "ssl_certfile": address.cert or None,
            "ssl_keyfile": address.key or address.cert or None,
            "ssl_check_hostname": True,
        }
    return told


def _check_files(address: StoreAddress) -> None:
    for name in ("ca", "cert", "key"):
        path = getattr(address, name)
        if path and not os.access(path, os.R_OK):
            raise ConfigError(
                "there is no file that can be read",
                file=address.shown,
                key=name,
                value=path,
                allowed="Name a file in PEM format.",
            )


def password(address: StoreAddress, environ: Mapping[str, str]) -> str | None:
    """The password for the server, or None.

    :raises ConfigError: when it isn't where the address says.
    """
    if address.password is not None:
        return address.password.reveal()
    if address.password_file:
        return _from_file(address)
    return _variable(address, "password_env", environ)


def _variable(address: StoreAddress, key: str, environ: Mapping[str, str]) -> str | None:
    name = getattr(address, key)
    if not name:
        return None
    if not environ.get(name):
        raise ConfigError(
            f"the variable {name} is not set, and the password should be there",
            file=address.shown,
            key=key,
            value=name,
            allowed="Set it, or use password_file: `leasecap run` takes the variable out of its command's environment.",
        )
    return environ[name]


def _from_file(address: StoreAddress) -> str:
    path = address.password_file
    try:
        with open(path, "rb") as file:
            found = file.read(_LARGEST_PASSWORD).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise _bad_file(address, f"the password can't be read ({why})") from None
    if not found:
        raise _bad_file(address, "the file with the password is empty")
    return found


def _bad_file(address: StoreAddress, message: str) -> ConfigError:
    return ConfigError(
        message, file=address.shown, key="password_file", value=address.password_file,
        allowed="Name a file that has the password, and nothing else, in its first line.",
    )  # fmt: skip


def server_of(address: StoreAddress, answer: bytes, now: float) -> Server:
    """What the server says of itself.

    :raises StoreError: when it is none that can be used.
    """
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    said = {key: value for key, _, value in lines}
    software = "valkey" if said.get("server_name") == "valkey" else "redis"
    version = said.get("valkey_version" if software == "valkey" else "redis_version", "")
    run_id = said.get("run_id", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST[software] or not run_id:
        raise too_old(address, f"{software} {version}".strip())
    started = now - float(said.get("uptime_in_seconds") or 0)
    is_cluster = said.get("server_mode", said.get("redis_mode")) == "cluster"  # Valkey's name for it goes first
    return Server(run_id, software, version, started, said.get("role") == "slave", is_cluster)


def too_old(address: StoreAddress, what: str) -> StoreError:
    return StoreError(
        f"is {what}, which can't keep pools",
        path=address.shown,
        remedy="Use Redis 7.0 or newer, or Valkey 7.2 or newer.",
    )


_GREETING = ("INFO", "server", "replication")


class Connections:
    """The connections of this process to one node.

    :ivar server: what that said of itself when the last one was made; None before the first.
    """

    def __init__(self, address: StoreAddress, node: Node, seen: Callable[[Server], object]) -> None:
        self.server: Server | None = None
        self._address, self._node, self._seen = address, node, seen
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(MOST):
            self._places.put(None)
        self._idle: list[Any] = []

    @contextmanager
    def one(self, until: float) -> Iterator[Any]:
        """A connection, connected. It is used again only if the block ends well.

        :param until: when to stop waiting for it (monotonic clock).
        :raises RedisError, OSError: when there is none.
        """
        try:
            self._places.get(timeout=max(ANSWER_WITHIN, until - time.monotonic()))
        except Empty:
            raise NoConnection("all connections of this process are in use") from None
        try:
            connection = self._ready() or self.apart(until)
            try:
                yield connection
            except BaseException:
                connection.disconnect()
                raise
            self._idle.append(connection)
        finally:
            self._places.put(None)

    def send(self, command: Command) -> Callable[[], Any] | None:
        """Send it by a connection that nobody uses; returns what waits for the answer, to be called once.

        None: there is no such connection, or it has come to its end.
        """
        try:
            self._places.get_nowait()
        except Empty:
            return None
        answer: Callable[[], Any] | None = None
        try:
            connection = self._ready()
            if connection is not None:
                try:
                    connection.send_packed_command([command.packed(connection.server)])
                    answer = partial(self._answer, connection)
                except (RedisError, OSError):
                    connection.disconnect()
        finally:
            if answer is None:
                self._places.put(None)
        return answer

    def _answer(self, connection: Any) -> Any:
        try:
            answer = connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        else:
            self._idle.append(connection)
            return answer
        finally:
            self._places.put(None)

    def _ready(self) -> Any:
        """One that was made before, if any is left."""
        while self._idle:
            connection = self._idle.pop()
            if not _can_read(connection._sock):  # what can be read is its end, or what nobody asked for
                return connection
            connection.disconnect()
        return None

    def apart(self, until: float) -> Any:
        """A connection that isn't one of those that are shared.

        :param until: see `one`; it is at least `CONNECT_AT_LEAST` from now.
        :raises RedisError, OSError: when there is none.
        """
        connection = self._new(min(CONNECT_WITHIN, max(CONNECT_AT_LEAST, until - time.monotonic())))
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _new(self, connect_within: float) -> Any:
        told = settings(self._address, self._node, os.environ) | {"socket_connect_timeout": connect_within}
        kind: Any = redis_py.UnixDomainSocketConnection if "path" in told else redis_py.Connection
        if "ssl_check_hostname" in told:
            kind = redis_py.SSLConnection
        connection = kind(**told, redis_connect_func=None if self._node.sentinel else self._greet)
        connection.server = None
        return connection

    def _greet(self, connection: Any) -> None:
        connection.on_connect()
        connection.send_command(*_GREETING)
        try:
            answer = connection.read_response()
        except ResponseError as error:
            if "syntax error" in str(error):
                raise too_old(self._address, "a Redis older than 7.0") from None
            raise
        connection.server = server_of(self._address, answer, time.monotonic())
        if len(self._address.hosts) > 1 and not self._address.service and not connection.server.is_cluster:
            raise self._not_a_node()
        self.server = connection.server
        self._seen(connection.server)

    def _not_a_node(self) -> StoreError:
        # Each of them would give out all slots, to whoever meets it first.
        return StoreError(
            f"{self._node.host}:{self._node.port} is no node of a cluster, and the address names several hosts",
            path=self._address.shown,
            remedy="Name the one server, or Sentinels that know it: redis+sentinel://HOST,HOST/SERVICE/DB",
        )

    def close(self) -> None:
        """Close those that aren't in use; in a fork's child only its own copies."""
        while self._idle:
            self._idle.pop().disconnect()


def _can_read(sock: Any) -> bool:
    # redis-py's own question makes the socket non-blocking and back.
    if sys.platform == "win32":  # it has no poll, and takes any socket here
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
