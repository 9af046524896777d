"""One call, step by step: which server it asks, and when it asks again."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from leasecap._config.store_address import parse_address
from leasecap._errors import StoreError, Unreachable
from leasecap._redis_store.calls import Ask, Node, Pause, Route, call
from leasecap._redis_store.script import Script, Server, command_of

SCRIPT = Script("s", "return 1")
KEY = "leasecap:{x}:a"
SHORT = SCRIPT.command([KEY], [7])
WHOLE = SHORT.with_script()
SLOT = 16287
"""That of the key."""

A, B, C = Node("a", 6379), Node("b", 7), Node("c", 8)


class Told:
    """A call, answered by a test; its clock moves by its pauses alone."""

    def __init__(self, route: Route, within: float = 0.0, now: float = 0.0) -> None:
        self.now = now
        self.pauses: list[float] = []
        self._steps = call(route, SHORT, KEY, within, lambda: self.now, lambda: 1.0)
        self._asked = next(self._steps)

    @property
    def asked(self) -> Ask:
        """What it asks now, pauses over."""
        while isinstance(self._asked, Pause):
            self.pauses.append(self._asked.seconds)
            self.now += self._asked.seconds
            self._asked = self._steps.send(None)
        return self._asked

    def answer(self, answer: object) -> object:
        """None, or what it returns."""
        assert isinstance(self.asked, Ask)
        try:
            self._asked = self._steps.send(answer)
        except StopIteration as done:
            return done.value
        return None


def route(text: str = "redis://a") -> Route:
    return Route(parse_address(text))


SERVER = Server("run", "redis", "7.0.15", 0.0, False, False)


def test_a_command_is_packed_as_the_protocol_has_it() -> None:
    assert command_of("SET", b"\xff", 7, "é").packed(None) == (
        b"*4\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$1\r\n7\r\n$2\r\n\xc3\xa9\r\n"
    )
    words = [b"EVALSHA", SCRIPT.digest.encode(), b"1", KEY.encode(), b"run", b"7"]
    packed = SCRIPT.command([KEY], [lambda server: server.run_id, 7]).packed(SERVER)
    assert packed == b"*6\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    words[:2] = [b"EVAL", b"return 1"]
    packed = SCRIPT.command([KEY], ["run", 7]).with_script().packed(SERVER)
    assert packed == b"*6\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def test_a_script_is_called_by_its_digest_and_the_answer_is_returned() -> None:
    told = Told(route())
    assert told.asked == Ask(A, SHORT, 0.0)
    assert told.answer(5) == 5


def test_a_server_that_does_not_know_the_script_gets_it_whole_and_no_pause() -> None:
    told = Told(route())
    told.answer(NoScriptError("x"))
    assert told.asked == Ask(A, WHOLE, 0.0)
    assert told.answer([]) == []
    assert told.pauses == []


@pytest.mark.parametrize("error", [NoConnection("x"), NoAnswer("x"), ReadOnlyError("x", status_code="READONLY")])
def test_without_time_one_try_is_made(error: Exception) -> None:
    told = Told(route())
    with pytest.raises(Unreachable):
        told.answer(error)


def test_tries_go_on_with_longer_pauses_until_the_time_is_over() -> None:
    told = Told(route(), within=3.0)
    with pytest.raises(Unreachable):
        while True:
            told.answer(NoConnection("x"))
    assert told.pauses[:5] == [0.02, 0.04, 0.08, 0.16, 0.32]
    assert set(told.pauses[5:]) == {0.5}
    assert 2.5 <= told.now <= 3.0


def test_what_does_not_pass_ends_it_at_once() -> None:
    told = Told(route(), within=60.0)
    with pytest.raises(StoreError, match="refuses the user"):
        told.answer(AuthenticationError("x", status_code="WRONGPASS"))
    assert told.pauses == []


def test_a_cluster_is_followed_and_remembered() -> None:
    known = route()
    told = Told(known)
    told.answer(MovedError(f"{SLOT} b:7"))
    assert told.asked.node == B
    assert told.answer(1) == 1
    assert Told(known).asked.node == B
    assert known.to("leasecap:{y}:a") == A
    assert known.to(None) == A


def test_a_slot_that_is_being_moved_is_asked_for_there_and_not_remembered() -> None:
    known = route()
    told = Told(known)
    told.answer(AskError(f"{SLOT} b:7"))
    assert told.asked == Ask(B, SHORT, 0.0, asking=True)
    told.answer(NoScriptError("x"))
    assert told.asked == Ask(B, WHOLE, 0.0, asking=True)
    assert told.answer(1) == 1
    assert Told(known).asked.node == A


def test_a_node_that_names_no_host_means_its_own() -> None:
    told = Told(route())
    told.answer(MovedError(f"{SLOT} :7001"))
    assert told.asked.node == Node("a", 7001)


def test_nodes_that_send_in_a_circle_are_not_followed_for_ever() -> None:
    told = Told(route())
    with pytest.raises(StoreError):
        for _ in range(100):
            told.answer(MovedError(f"{SLOT} b:7"))
            told.answer(MovedError(f"{SLOT} a:6379"))


@pytest.mark.parametrize("error", [NoConnection("x"), NoAnswer("x")])
def test_where_a_node_of_a_cluster_is_gone_the_given_one_is_asked_again(error: Exception) -> None:
    known = route()
    known.moved(SLOT, B)
    told = Told(known, within=5.0)
    assert told.asked.node == B
    told.answer(error)
    assert told.asked.node == A
    told.answer(MovedError(f"{SLOT} c:8"))
    assert told.asked.node == C


def test_where_the_given_node_is_gone_another_one_of_the_cluster_is_asked() -> None:
    known = route()
    known.moved(1, B)
    told = Told(known, within=5.0)
    assert told.asked.node == A
    told.answer(NoConnection("x"))
    assert told.asked.node == B
    told.answer(NoConnection("x"))
    assert told.asked.node == A  # nothing else is known any more


def test_each_node_of_a_cluster_that_is_given_is_tried_however_little_time_there_is() -> None:
    known = route("redis://a,b:7,c:8")
    told = Told(known)
    told.answer(NoConnection("x"))
    assert told.asked.node == B
    told.answer(NoConnection("x"))
    assert told.asked.node == C
    with pytest.raises(Unreachable):
        told.answer(NoConnection("x"))
    assert Told(known).asked.node == A


def test_the_owner_of_a_slot_is_not_tried_again_for_each_node_that_only_knows_it() -> None:
    told = Told(route("redis://a,b:7,c:8"))
    told.answer(MovedError(f"{SLOT} c:8"))
    told.answer(NoConnection("x"))
    assert told.asked.node == A
    told.answer(MovedError(f"{SLOT} c:8"))
    with pytest.raises(Unreachable):
        told.answer(NoConnection("x"))
    known = route("redis://a,b:7")
    known.moved(SLOT, C)  # a cluster may name its nodes otherwise than the address does
    told = Told(known)
    told.answer(NoAnswer("x"))
    assert told.asked.node == A
    told = Told(route("redis://a,b:7,c:8"))
    with pytest.raises(Unreachable):
        told.answer(ClusterDownError("x", status_code="CLUSTERDOWN"))


@pytest.mark.parametrize(
    "error", [TryAgainError("x", status_code="TRYAGAIN"), ClusterDownError("x", status_code="CLUSTERDOWN")]
)
def test_a_cluster_that_is_busy_with_itself_is_waited_for(error: Exception) -> None:
    told = Told(route(), within=5.0)
    told.answer(error)
    assert told.asked.node == A
    assert told.pauses == [0.02]


SENTINELS = "redis+sentinel://s1,s2:2/main/0"
S1, S2 = Node("s1", 26379, sentinel=True), Node("s2", 2, sentinel=True)


def test_sentinels_are_asked_for_the_master_once() -> None:
    known = route(SENTINELS)
    told = Told(known)
    assert told.asked == Ask(S1, command_of("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"), 0.0)
    told.answer([b"b", b"7"])
    assert told.asked.node == B
    assert told.answer(1) == 1
    assert Told(known).asked.node == B


def test_master_that_another_thread_loses_as_soon_as_it_is_known_is_no_answer() -> None:
    class Raced(Route):
        master = property(lambda self: None, lambda self, found: None)

    told = Told(Raced(parse_address(SENTINELS)))
    with pytest.raises(Unreachable):
        told.answer([b"b", b"7"])


@pytest.mark.parametrize("answer", [None, NoConnection("x"), NoAnswer("x")])
def test_the_next_sentinel_is_asked_and_is_the_first_one_from_then_on(answer: object) -> None:
    known = route(SENTINELS)
    told = Told(known)
    told.answer(answer)
    assert told.asked.node == S2
    told.answer([b"b", b"7"])
    assert told.answer(1) == 1
    assert known.given == [S2, S1]


def test_sentinels_are_asked_now_and_then_whether_the_master_still_is_the_one() -> None:
    known = route(SENTINELS)
    told = Told(known)
    told.answer([b"b", b"7"])
    assert told.answer(1) == 1
    later = Told(known, now=0.9)
    assert later.asked.node == B
    later = Told(known, now=1.1)
    assert later.asked.node == S1
    later.answer([b"c", b"8"])
    assert later.asked.node == C


@pytest.mark.parametrize("answer", [None, NoConnection("x"), NoAnswer("x")])
def test_a_sentinel_that_does_not_answer_now_costs_no_master(answer: object) -> None:
    known = route(SENTINELS)
    known.master = B
    told = Told(known)
    assert told.asked.node == S1
    told.answer(answer)
    assert told.asked.node == B
    assert told.answer(1) == 1
    assert Told(known, now=1.1).asked.node == S2


def test_sentinels_that_know_no_such_master_are_an_error_that_names_it() -> None:
    told = Told(route(SENTINELS))
    told.answer(None)
    with pytest.raises(Unreachable, match="no Sentinel knows a master called main"):
        told.answer(None)


def test_sentinels_that_refuse_are_an_error() -> None:
    told = Told(route(SENTINELS))
    told.answer(AuthenticationError("x", status_code="NOAUTH"))
    with pytest.raises(StoreError, match="wants a password"):
        told.answer(NoConnection("x"))


@pytest.mark.parametrize("error", [NoConnection("x"), NoAnswer("x"), ReadOnlyError("x", status_code="READONLY")])
def test_after_a_failure_of_the_master_the_sentinels_are_asked_again(error: Exception) -> None:
    known = route(SENTINELS)
    known.master, known.ask_at = B, 9.0
    told = Told(known, within=5.0)
    assert told.asked.node == B
    told.answer(error)
    assert told.asked.node == S1
    told.answer([b"c", b"8"])
    assert told.asked.node == C


def test_while_another_thread_asks_the_sentinels_this_one_does_too() -> None:
    """The first one is down, as the master is: who was told so is about to ask the second one."""
    route = Route(parse_address(SENTINELS))
    one = Told(route)
    assert one.asked.node == S1
    one.answer(NoConnection())
    assert one.asked.node == S2 and route.master is None
    assert Told(route).asked.node in (S1, S2)


def test_a_master_that_is_lost_just_as_it_is_found_is_looked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    route = Route(parse_address(SENTINELS))
    told = Told(route)
    monkeypatch.setattr(route, "to", lambda key: None)  # another thread has found that it doesn't answer
    with pytest.raises(Unreachable, match="looked for anew"):
        told.answer([b"c", b"8"])
