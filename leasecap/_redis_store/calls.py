"""One call to a store: which server to ask, what to do with its answer, and when to ask again.

Written as a generator that says what to do next; `client` carries it out.
"""

from __future__ import annotations

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from leasecap._errors import Unreachable
from leasecap._named_tuple import NamedTuple
from leasecap._redis_store.faults import fault
from leasecap._redis_store.script import command_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias

    from leasecap._config.store_address import StoreAddress
    from leasecap._redis_store.script import Command

    Steps: TypeAlias = "Generator[Ask | Pause, Any, Any]"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds
_MOST_REDIRECTS = 5

_ASK_SENTINELS_EVERY = 1.0
"""Seconds. A master that is replaced while it runs takes writes until it is told, many seconds later: leases that are
renewed there would be granted anew by its successor."""


class Node(NamedTuple):
    """A server, or a Sentinel."""

    host: str
    port: int
    path: str = ""
    sentinel: bool = False


class Ask(NamedTuple):
    """Send this and give the answer back; what redis-py raises is an answer as well.

    :ivar command: None: make a connection of its own, and give that back.
    :ivar until: when to stop waiting for a connection that others use (monotonic clock).
    :ivar asking: the node is to answer though it is just being given these keys.
    """

    node: Node
    command: Command | None
    until: float
    asking: bool = False


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Route:
    """Which server has a key, as far as it is known."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        nodes = [Node(host, port, sentinel=bool(address.service)) for host, port in address.hosts]
        self.given = nodes or [Node("", 0, address.path)]
        self.master: Node | None = None if address.service else self.given[0]
        self.ask_at = 0.0  # when to ask the Sentinels whether it still is (monotonic clock)
        self._moved: dict[int, Node] = {}

    def to(self, key: str | None) -> Node | None:
        """The node to ask; None where the Sentinels have to say first."""
        if key is not None and self._moved:
            found = self._moved.get(key_slot(key.encode()))
            if found is not None:
                return found
        return self.master

    def moved(self, slot: int, node: Node) -> None:
        """Remember which node of a cluster has the slot."""
        self._moved[slot] = node

    def lost(self, node: Node) -> None:
        """Ask anew where the keys are: this node doesn't answer, or is no master any more."""
        self._moved = {slot: other for slot, other in self._moved.items() if other != node}
        if self.address.service:
            self.master, self.ask_at = None, 0.0
            return
        self.put_last(node)
        others = [other for other in (*self.given, *self._moved.values()) if other != node]
        self.master = others[0] if others else self.given[0]  # any node of a cluster knows the others

    def put_last(self, node: Node) -> None:
        """Another one of those that the address names is asked next time."""
        if node in self.given:
            self.given = [*(other for other in self.given if other != node), node]


def call(
    route: Route, command: Command | None, key: str | None, until: float,
    clock: Callable[[], float], chance: Callable[[], float],
) -> Steps:  # fmt: skip
    """Call, and again where that may help, as long as the next one would begin before ``until``. Where the address
    names several nodes, also after one was found to be away, until each of them was.

    :param command: see `Ask`.
    :raises Unreachable: when the store can't be reached for now.
    :raises StoreError: when it refuses.
    """
    pause = _FIRST_PAUSE
    several = frozenset(route.given if len(route.given) > 1 and not route.address.service else ())
    away: set[Node] = set()
    while True:
        node, answer = yield from _once(route, command, key, until, clock)
        if not isinstance(answer, BaseException):
            return answer
        found = fault(route.address, answer)
        is_new = _is_away(answer) and node not in away
        if is_new:
            away.add(node)
        if not isinstance(found, Unreachable) or (not (is_new and several - away) and clock() + pause > until):
            raise found from answer
        yield Pause(pause * (0.5 + chance() / 2))  # others lost the same server at the same moment
        pause = min(2 * pause, _LONGEST_PAUSE)


def _once(route: Route, command: Command | None, key: str | None, until: float, clock: Callable[[], float]) -> Steps:
    """The node that was asked last, None where none was, and what it answered."""
    why = None
    if route.address.service and (route.master is None or clock() >= route.ask_at):
        why = yield from _ask_sentinels(route, until, clock)
    node = route.to(key)
    if node is None:  # none is known, or another thread has just found that it doesn't answer
        return None, why or RedisError(f"the master called {route.address.service} is looked for anew")
    asking = False
    answer: Any = None
    for _ in range(_MOST_REDIRECTS):
        answer = yield Ask(node, command, until, asking)
        if isinstance(answer, NoScriptError) and command is not None:
            answer = yield Ask(node, command.with_script(), until, asking)
        if not isinstance(answer, AskError):  # MovedError is one
            break
        there = Node(answer.host or node.host, answer.port)
        asking = not isinstance(answer, MovedError)
        if not asking:
            route.moved(answer.slot_id, there)
        node = there
    if _is_away(answer) or isinstance(answer, ReadOnlyError):
        route.lost(node)
    return node, answer


def _is_away(answer: Any) -> bool:
    """Whether there was no answer from the server."""
    return isinstance(answer, Exception) and not isinstance(answer, ResponseError)


def _ask_sentinels(route: Route, until: float, clock: Callable[[], float]) -> Steps:
    """Ask one Sentinel after the other who the master is; one alone where a master is known.

    Returns why none is known.
    """
    why: Any = None
    for node in route.given:
        answer = yield Ask(node, command_of("SENTINEL", "GET-MASTER-ADDR-BY-NAME", route.address.service), until)
        route.ask_at = clock() + _ASK_SENTINELS_EVERY
        if isinstance(answer, list) and len(answer) == 2:
            route.master = Node(answer[0].decode(), int(answer[1]))
            return None
        route.put_last(node)
        if route.master is not None:
            return None
        why = answer if isinstance(answer, BaseException) and why is None else why
    route.ask_at = 0.0
    return why or RedisError(f"no Sentinel knows a master called {route.address.service}")
