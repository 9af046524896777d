"""All small interleavings of calls for slots, on a real server, with lost, repeated and late calls, and kills.

Callers run the shipped code call by call (`caller`); after each call the server's state is taken away, so that another
order can be tried from there (`saved`). Who waits may hear that it was granted a slot, and begins then. States that are
equal are merged. A referee that knows who works checks after each step: no more than the limit, no slot that is free
beside somebody who waits, nobody told that a lease is lost whose time isn't over. At the end nothing is left that keeps
a newcomer out.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, NamedTuple

from redis_server import RedisServer, running

from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._redis_store.answer import answer_of
from leasecap._redis_store.client import Client
from leasecap._redis_store.keys import pool_keys
from leasecap._redis_store.lua.leases import RENEW
from leasecap._redis_store.lua.pools import COMMIT
from leasecap._redis_store.lua.tickets import END, LOOK
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.subscription import channel
from leasecap._redis_store.taking_up import STANDS_FOR, Looked, granted_at

from .caller import LOST, NOTIFIED, Call, Caller, Stand, stand, state_of
from .saved import Saved, Server, coarse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = pool_name("p")
TTL = 6000  # milliseconds, as all times here
LONG, SHORT = 6500, 1100  # more than a lease's time, and than half of the wait for holders, without a call
ON_ITS_WAY = 9_000  # at most: a token that its holder has ended is remembered for a little longer
OLD, YOUNG = 3_600_000, 0  # how long the server has run


class Left(NamedTuple):
    """How much may still happen.

    :ivar losses: of calls and answers, repetitions included.
    :ivar whiles: stretches in which time passes.
    :ivar renewals: of leases.
    :ivar restarts: of the server, which forgets everything.
    """

    losses: int = 0
    kills: int = 0
    whiles: int = 0
    renewals: int = 0
    restarts: int = 0


class Scenario(NamedTuple):
    name: str
    callers: tuple[Caller, ...]
    limit: int
    left: Left


def _scenarios(callers: int, limit: int, name: str, left: Left) -> Scenario:
    return Scenario(name, tuple(Caller(number) for number in range(1, callers + 1)), limit, left)


NESTED = (Caller(1), Caller(2, (1,)), Caller(3))
TINY = (
    _scenarios(2, 1, "two for one slot", Left(losses=1, kills=1, renewals=1)),
    _scenarios(2, 1, "two, and time passes", Left(kills=1, whiles=1, renewals=1)),
    _scenarios(2, 1, "two, and a server that forgets", Left(whiles=1, renewals=2, restarts=1)),
    Scenario("one under another, and a third", NESTED, 1, Left()),
)
FULL = (
    _scenarios(2, 1, "two for one slot", Left(losses=2, kills=1, renewals=1)),
    _scenarios(3, 1, "three for one slot", Left(losses=1)),
    _scenarios(3, 2, "three for two slots", Left(losses=1, kills=1)),
    _scenarios(2, 1, "two, and time passes", Left(losses=1, whiles=2)),
    _scenarios(3, 1, "three, and time passes", Left(kills=1, whiles=1)),
    _scenarios(3, 1, "three, and time passes twice", Left(whiles=2)),
    _scenarios(2, 1, "two, and a server that forgets", Left(losses=1, whiles=1, renewals=1, restarts=1)),
    Scenario("one under another, and a third", NESTED, 1, Left(kills=1)),
)


class Actor(NamedTuple):
    """A caller as the referee knows it.

    :ivar heard: the answers that it has had.
    :ivar works: it has a slot and hasn't begun to give it back.
    :ivar sent: when the last of its calls was sent that confirmed its lease.
    :ivar run: of the server that has confirmed it last.
    :ivar looked: when it sent the last look that says that it waits, and when the server saw that.
    :ivar notice: when it was granted a slot, of which a message is on its way; 0 if there is none.
    :ivar until: when its lease ends, unless the server confirms it before; 0 once that has.
    """

    caller: Caller
    stand: Stand
    heard: tuple[object, ...] = ()
    alive: bool = True
    works: bool = False
    sent: int = 0
    run: int = 0
    looked: tuple[int, int] = (0, 0)
    notice: int = 0
    until: int = 0

    @property
    def call(self) -> Call | None:
        return self.stand.call if self.alive else None

    def holds_at(self, now: int) -> bool:
        """Whether it works, and may: one whose time is over knows that."""
        return self.alive and self.works and now < (self.until or self.sent + TTL)

    def granted_at(self, now: int) -> int | None:
        """When it was granted, as far as it can know, if it may begin by what it has heard."""
        # The clock stands still between two steps, and goes on by a millisecond in the world.
        sent, seen = self.looked
        found = granted_at((self.notice + 1) / 1000, Looked(sent / 1000, seen / 1000), (now + 1) / 1000)
        return None if found is None else round(found * 1000)


class Node(NamedTuple):
    """A state of everything.

    :ivar late: calls that were given up, and are on their way still, with when that is over.
    :ivar later: milliseconds since the server was used last.
    :ivar run: how often the server was started.
    """

    server: Saved
    actors: tuple[Actor, ...]
    late: tuple[tuple[Call, int], ...]
    later: int
    run: int
    left: Left
    trace: tuple[str, ...] = ()

    @property
    def now(self) -> int:
        return self.server.now + self.later

    def key(self) -> object:
        version, now = self.server.of("pool").get("version", ""), self.now
        actors = tuple(
            (_call_key(actor.call, version), actor.stand.stage, actor.alive, actor.works, actor.run,
             coarse(actor.sent - now) if actor.works else 0, coarse(actor.notice - now) if actor.notice else None,
             coarse(actor.until - now) if actor.until else None)
            for actor in self.actors
        )  # fmt: skip
        late = sorted(f"{_call_key(call, version)} {coarse(until - now)}" for call, until in self.late)
        return self.server.key(), actors, tuple(late), coarse(self.later), self.run, self.left

    def with_actor(self, index: int, actor: Actor) -> Node:
        return self._replace(actors=(*self.actors[:index], actor, *self.actors[index + 1 :]))

    def spent(self, what: str) -> Left:
        return self.left._replace(**{what: getattr(self.left, what) - 1})


def _call_key(call: Call | None, version: str) -> object:
    if call is None:
        return None
    words = [str(word)[21:37] if str(word)[3:4] == "-" and len(str(word)) > 51 else str(word) for word in call.words]
    if call.script is COMMIT:
        words[0], words[3] = str(words[0] == version), str(coarse(float(words[3])))
    return (call.script.name, *words)


class Violation(Exception):
    """What must not happen, and how it was come to."""

    def __init__(self, what: str, node: Node) -> None:
        super().__init__(f"{what}\n  " + "\n  ".join(node.trace))


class Explorer:
    """Tries all orders of one scenario.

    :ivar states: how many were met.
    :ivar ends: in how many of them everybody was done.
    """

    def __init__(self, server: RedisServer, scenario: Scenario) -> None:
        self._address = parse_address(f"unix://{server.socket}")
        self._client = Client(self._address)
        self._keys = pool_keys(self._address.prefix, NAME)
        self._channel = channel(self._address, "")
        self._server = Server(server.socket, self._keys)
        self._scenario = scenario
        self.states = self.ends = 0

    def explore(self) -> None:
        """:raises Violation: when something happened that must not."""
        seen: set[object] = set()
        stack = [self._first()]
        while stack:
            node = stack.pop()
            key = node.key()
            if key in seen:
                continue
            seen.add(key)
            self.states += 1
            after = list(self._steps(node))
            if not after:
                self.ends += 1
                self._check_end(node)
            stack += after

    def close(self) -> None:
        self._client.close()
        self._server.close()

    def _first(self) -> Node:
        self._server.put(Saved(tuple(() for _ in self._keys)))
        pool = Pool(self._client, NAME, time.monotonic)
        pool.configure(limit=str(self._scenario.limit), ttl=str(TTL), closed="0", quiet="0", run="0")
        actors = tuple(Actor(caller, stand(caller, (), NAME, self._address)) for caller in self._scenario.callers)
        return Node(self._server.take(), actors, (), 0, 0, self._scenario.left)

    # -- steps ------------------------------------------------------------------------------------------------------

    def _steps(self, node: Node) -> Iterator[Node]:
        for index, actor in enumerate(node.actors):
            if actor.call is not None:
                yield from self._steps_of(node, index, actor, actor.call)
            if actor.notice:
                yield from self._notified(node, index, actor)
            if node.left.renewals and actor.holds_at(node.now) and not actor.until:
                yield self._renewed(node, index, actor)
        for number, (call, _) in enumerate(node.late):
            rest = (*node.late[:number], *node.late[number + 1 :])
            yield self._ran(node._replace(late=rest), call, f"{call.script.name} arrives late")[0]
        if node.left.whiles:
            yield from self._time_passes(node)
        if node.left.restarts:
            # Whoever is in charge says at once what holds for all. What was on its way ends with its connection.
            pool = {"clock": node.now, "limit": self._scenario.limit, "ttl": TTL}
            empty = Saved((tuple(str(word) for pair in pool.items() for word in pair), *(() for _ in self._keys[1:])))
            trace = (*node.trace, "the server is started anew")
            left = node.spent("restarts")
            yield node._replace(server=empty, late=(), later=0, run=node.run + 1, left=left, trace=trace)

    def _steps_of(self, node: Node, index: int, actor: Actor, call: Call) -> Iterator[Node]:
        who = f"{actor.caller.number} {call.script.name}"
        asked = node.now
        if call.script is END:
            actor = actor._replace(works=False)  # what it did under its slot is over before it gives it back
            node = node.with_actor(index, actor)
        ran, answer = self._ran(node, call, who)
        yield self._heard(ran, index, actor, answer, asked)
        if node.left.losses:
            less = node._replace(left=node.spent("losses"))
            lost = self._heard(less._replace(trace=(*node.trace, f"{who}: lost")), index, actor, LOST, asked)
            yield lost
            late = (*node.late, (call, asked + ON_ITS_WAY))
            yield lost._replace(late=late, trace=(*node.trace, f"{who}: given up, and on its way"))
            less = ran._replace(trace=(*node.trace, f"{who}: its answer is lost"), left=node.spent("losses"))
            yield self._heard(less, index, actor, LOST, asked)
            again, answer = self._ran(less._replace(trace=node.trace), call, f"{who}, sent twice")
            yield self._heard(again, index, actor, answer, asked)
        if node.left.kills:
            dead = actor._replace(alive=False, works=False)
            trace = (*node.trace, f"{actor.caller.number} is killed before its {call.script.name}")
            yield node._replace(left=node.spent("kills"), trace=trace).with_actor(index, dead)

    def _ran(self, node: Node, call: Call, what: str) -> tuple[Node, Any]:
        """The state after the call, and its answer."""
        self._server.put(node.server, node.later)
        age = YOUNG if node.run else OLD
        answer = self._client.run(call.script, self._keys, [self._channel, str(node.run), age, *call.words])
        trace = (*node.trace, f"{what}: {state_of(answer)}")
        after = node._replace(server=self._server.take(), later=0, trace=trace)
        self._check_free_slot(after)
        return self._with_messages(node, after), answer

    def _with_messages(self, before: Node, after: Node) -> Node:
        """Messages of the grants in between are on their way to those whom they are for."""
        old = before.server.of("granted")
        granted = {name[21:37]: int(float(at)) for name, at in after.server.of("granted").items() if name not in old}
        for index, actor in enumerate(after.actors):
            if actor.caller.token in granted:
                after = after.with_actor(index, actor._replace(notice=granted[actor.caller.token]))
        return after

    def _notified(self, node: Node, index: int, actor: Actor) -> Iterator[Node]:
        """The work begins by a message, if the next thing to do is to look."""
        granted = actor.granted_at(node.now)
        if granted is None or not actor.stand.stage.startswith("waits") or actor.call is None:
            return
        if actor.call.script is not LOOK:
            return
        heard = (*actor.heard, NOTIFIED)
        begun = actor._replace(
            heard=heard, stand=stand(actor.caller, heard, NAME, self._address),
            works=True, until=granted + round(STANDS_FOR * 1000), notice=0, run=node.run,
        )  # fmt: skip
        node = node.with_actor(index, begun)._replace(trace=(*node.trace, f"{actor.caller.number} hears of its grant"))
        self._check_cap(node)
        yield node

    def _heard(self, node: Node, index: int, actor: Actor, answer: object, asked: int) -> Node:
        """The state in which the caller has had that answer."""
        heard = (*actor.heard, answer)
        found = stand(actor.caller, heard, NAME, self._address)
        after = node.actors[index]._replace(heard=heard, stand=found)
        if found.stage.startswith("waits") and answer is not LOST:
            after = after._replace(looked=(asked, node.server.now), notice=0)
        if found.stage == "lost":
            after = after._replace(works=False, until=0)
        elif found.stage == "holds" and actor.stand.stage != "holds":
            works = not actor.until or (actor.works and node.now < actor.until)
            after = after._replace(works=works, sent=asked, until=0, run=node.run, notice=0)
        node = node.with_actor(index, after)
        self._check_cap(node)
        return node

    def _renewed(self, node: Node, index: int, actor: Actor) -> Node:
        asked = node.now
        call = Call(RENEW, (1, actor.stand.name, 0))
        after, answer = self._ran(node._replace(left=node.spent("renewals")), call, f"{actor.caller.number} renews")
        [became] = answer_of(answer).each
        if became == "lost":
            raise Violation("a lease whose time isn't over is called lost", after)
        return after.with_actor(index, actor._replace(sent=asked, run=node.run))

    def _time_passes(self, node: Node) -> Iterator[Node]:
        # A server that has forgotten waits for so long for those who hold: whoever can't reach it then isn't promised
        # anything.
        if all(actor.run == node.run for actor in node.actors if actor.holds_at(node.now)):
            for length in (SHORT,) if node.run else (SHORT, LONG):
                late = tuple((call, until) for call, until in node.late if until > node.now + length)
                trace = (*node.trace, f"{length} ms pass")
                yield node._replace(later=node.later + length, late=late, left=node.spent("whiles"), trace=trace)

    # -- the referee ------------------------------------------------------------------------------------------------

    def _check_cap(self, node: Node) -> None:
        working = {actor.caller.number for actor in node.actors if actor.holds_at(node.now)}
        counted = [
            actor.caller.number
            for actor in node.actors
            if actor.caller.number in working and not working & set(actor.caller.lenders)
        ]
        if len(counted) > self._scenario.limit:
            raise Violation(f"{counted} work, and the limit is {self._scenario.limit}", node)

    def _check_free_slot(self, node: Node) -> None:
        # Where somebody has to decide, and where a wait for holders ends, it is for who waits first to look.
        if node.server.of("nested") or node.run:
            return
        if node.server.held() < self._scenario.limit and node.server.of("queue"):
            raise Violation("a slot is free beside somebody who waits", node)

    def _check_end(self, node: Node) -> None:
        if all(actor.alive for actor in node.actors) and node.server.of("expiries"):
            raise Violation("all are done, and something is left", node)
        for length in (LONG, SHORT, SHORT) * 2:  # time passes, and somebody calls
            node = self._ran(node._replace(later=length), Call(RENEW, (0, 0)), "nobody")[0]
        if node.server.of("expiries") or node.server.held():
            raise Violation("the dead are never forgotten", node)
        self._server.put(node.server)
        pool = Pool(self._client, NAME, lambda: 1e6)
        pool.configure(limit=str(self._scenario.limit), ttl=str(TTL), closed="0")
        states = [
            pool.place(
                priority=0, order=None, token=f"{number:016x}", process="0" * 12, limit=None, may_queue=False,
                record=b"{}", lenders=(),
            ).state
            for number in range(100, 101 + self._scenario.limit)
        ]  # fmt: skip
        if states != ["held"] * self._scenario.limit + ["refused"]:
            raise Violation(f"newcomers find {states}", node)


def play(software: str, directory: Path, *, tiny: bool) -> list[str]:
    """Explore each scenario, and tell of it; returns what was found."""
    print(f"\ninterleavings\n  {'scenario':34}{'states':>8}{'ends':>8}{'seconds':>9}", flush=True)
    broken = []
    for scenario in TINY if tiny else FULL:
        # A server of its own: as long as nobody else uses it, its clock can be put back.
        place = directory / scenario.name.replace(" ", "-")
        with running(software, place) as server, closing(Explorer(server, scenario)) as explorer:
            began = time.monotonic()
            try:
                explorer.explore()
            except Violation as error:
                broken.append(f"{scenario.name}: {error}")
            seconds = time.monotonic() - began
        print(f"  {scenario.name:34}{explorer.states:>8}{explorer.ends:>8}{seconds:>9.1f}", flush=True)
    return broken
