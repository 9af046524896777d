"""One who asks for a slot with the shipped code, call by call: the explorer says what becomes of each of them.

It can be taken up again wherever it stood, by the answers that it has had.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

from greenlet import GreenletExit, greenlet

from leasecap._errors import Unreachable
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.renewals import Kept
from leasecap._redis_store.taking_up import TakingUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress
    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.script import Script, Word

LOST = object()
"""In place of an answer: none has come."""

NOTIFIED = object()
"""Before the answer to a look: the message of the grant comes, and the work begins."""

LOOKS = 2
"""How often somebody looks before it gives up."""


class Call(NamedTuple):
    """What is to be sent. ``words`` are without those that say which server it goes to."""

    script: Script
    words: tuple[Word, ...]

    @property
    def key(self) -> object:
        return (self.script.name, *map(str, self.words))


class Caller(NamedTuple):
    """Who asks. Its state is what it has heard.

    :ivar lenders: the numbers of those under whose leases it asks.
    """

    number: int
    lenders: tuple[int, ...] = ()

    @property
    def token(self) -> str:
        return f"{self.number:016x}"


class Stand(NamedTuple):
    """Where it stands.

    :ivar call: what it sends next; None when it is done.
    :ivar stage: of its program: asks, waits, begins (on the message of its grant), holds, lost or done.
    :ivar name: of the lease that it holds, "" if it holds none.
    """

    call: Call | None
    stage: str
    name: str


def stand(caller: Caller, heard: Sequence[object], name: PoolName, address: StoreAddress) -> Stand:
    """Run its program with what it has heard so far."""
    stage = ["asks"]
    holds = [""]
    main = greenlet.getcurrent()

    def sent(script: Script, keys: Sequence[str], args: Sequence[Word] = (), *, within: float = 0.0) -> Any:
        answer = main.switch(Call(script, tuple(args[3:])))
        if answer is NOTIFIED:
            raise _Notified
        if answer is LOST:
            raise Unreachable("lost", path="", remedy="")
        return answer

    pool = Pool(SimpleNamespace(address=address, run=sent, server=None), name, lambda: 0.0)  # type: ignore[arg-type]
    pool._eviction.refuse = lambda: None  # type: ignore[method-assign]  # it changes no pool
    pool._is_noted = True

    def program() -> None:
        found = until_answered(
            lambda: pool.place(
                priority=0, order=None, token=caller.token, process=f"{caller.number:012x}", limit=None,
                may_queue=True, record=b"{}", lenders=[f"{number:016x}" for number in caller.lenders],
            )
        )  # fmt: skip
        looks = 0
        while found.state == "queued":
            looks += 1
            stage[0] = f"waits {looks}"
            call = pool.withdraw if looks > LOOKS else pool.look
            try:
                found = until_answered(lambda: call(caller.token, within=0))  # noqa: B023
            except _Notified:
                stage[0], holds[0] = "begins", found.name
                take_up(pool, found, lambda: stage.__setitem__(0, "lost"))
                if stage[0] != "lost":
                    stage[0] = "holds"
                break
        if found.state == "held":
            stage[0], holds[0] = "holds", found.name
        # Its work is over by the time this is sent, so it isn't counted from then on.
        until_answered(lambda: pool.end(caller.token, by_holder=True, within=0))
        stage[0], holds[0] = "done", ""

    runner = greenlet(program)
    call = runner.switch()
    for answer in heard:
        call = runner.switch(answer)
    done = Stand(None if runner.dead else call, stage[0], holds[0])
    runner.throw(GreenletExit)
    return done


class _Notified(Exception):
    pass


def take_up(pool: Pool, queued: Answer, lose: Callable[[], None]) -> None:
    """As a ticket does on the message of its grant, until the server has said what has become of it."""
    over: list[Kept] = []

    def lost(kept: Kept) -> None:
        over.append(kept)
        lose()

    renewals = SimpleNamespace(
        lose=lost, adopts=lambda kept: pool.renew([kept.name], []) != ("lost",), confirm=Kept.confirm
    )
    own = SimpleNamespace(renewals=renewals, errands=SimpleNamespace(do=lambda call: None))
    store: Any = SimpleNamespace(pool=pool, boot_clock=lambda: 0.0, own=own)
    record: Any = SimpleNamespace(max_hold=None)
    kept = Kept(pool, queued.name, 0.0, record, lambda: None, is_lease=True)
    taken = TakingUp(store, kept, 0.0, partial(pool.look, queued.name[21:37]))
    while not (kept.is_settled or over):
        taken.settle()


def until_answered(call: Callable[[], Any]) -> Any:
    """As a ticket does: send it again, with the same token."""
    while True:
        try:
            return call()
        except Unreachable:
            continue


def state_of(answer: Any) -> str:
    """What an answer says, for people."""
    line = answer[0] if isinstance(answer, list) else answer
    return line.partition(b" ")[0].decode() if isinstance(line, bytes) else str(answer)
