"""What a process's look-out does where its own tickets have to look: nobody else may tell them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leasecap._decisions import polling
from leasecap._decisions.entry import make_entry
from leasecap._decisions.places import QUEUE
from leasecap._file_store.lookout import Lookout
from leasecap._file_store.sweep import Swept

OWN, OTHERS = "a" * 12, ["b" * 12, "c" * 12, "d" * 12]


def ticket(process: str, order: int) -> str:
    return make_entry(token=f"{order:016x}", process=process, order=order, priority=0, limit=None, ancestors=()).name


class World:
    """A queue, behind whose first three processes this one waits with a ticket.

    :ivar woken: the tickets whose waiters were woken.
    :ivar left: the tickets of which those behind were notified that they have left the queue.
    """

    def __init__(self, others: list[str] = OTHERS) -> None:
        self.name = ticket(OWN, 99)
        self.queue = [*(ticket(process, order) for order, process in enumerate(others, 1)), self.name]
        self.granted: dict[str, float] = {}
        self.woken: list[str] = []
        self.left: list[str] = []
        effects = SimpleNamespace(monotonic=lambda: 1000.0, presence=lambda pid, start: "runs", sees_exits=False)
        own = SimpleNamespace(effects=effects, id=OWN, wake_tickets=self.woken.extend)
        watch = SimpleNamespace(attend=lambda _: None, leave=lambda _: None, wake_by=lambda _: None, starts=0)
        self.store = SimpleNamespace(
            entries=SimpleNamespace(names=lambda where: self.queue if where == QUEUE else []),
            feedback=None,
            notify_behind=lambda *names: self.left.extend(names),
            pool=SimpleNamespace(name=SimpleNamespace(text="p")),
            peers=SimpleNamespace(identity=lambda _: None, look=lambda _: "runs", gone=(), dead=()),
            refresh=lambda: None,
            snapshots=SimpleNamespace(see_grants=lambda: self.granted),
            sweeper=SimpleNamespace(stamp=lambda: b"swept"),
        )
        self.lookout = Lookout(cast("Any", own), cast("Any", self.store), cast("Any", watch), lambda: None)
        self.lookout.add(self.name, 1000.0, watched=True, alone=False)
        self.lookout.due = 1001.0

    def look(self) -> None:
        """A look that nobody has asked for."""
        self.lookout.run(1001.0)


def test_nothing_is_woken_while_it_waits() -> None:
    world = World()
    world.look()
    assert world.woken == []
    assert world.lookout.due == 1001.0 + 2 * polling.THIRD_LOOK


def test_a_grant_that_nobody_has_told_of_wakes_its_waiter() -> None:
    world = World()
    world.granted = {world.name: 1000.5, ticket(OTHERS[0], 1): 1000.5}
    world.look()
    assert world.woken == [world.name]
    assert world.left == [world.name]  # who granted it may have died before it granted what else was free


def test_a_ticket_that_is_in_the_queue_no_longer_has_its_waiter_look() -> None:
    world = World()
    world.queue.remove(world.name)
    world.look()
    assert world.woken == [world.name]


def test_far_back_it_looks_once_a_second_where_no_handle_can_be_had_on_a_process_ahead() -> None:
    world = World([f"{number:012x}" for number in range(20)])  # all of them in another container, say
    world.look()
    assert world.lookout.due == 1001.0 + polling.FAR_LOOK


@pytest.mark.parametrize("error", [FileNotFoundError(2, "removed"), OSError(9, "closed"), KeyError("a defect")])
def test_where_the_pool_cannot_be_read_the_waiters_look_who_are_told_why(error: Exception) -> None:
    def fail() -> None:
        raise error

    world = World()
    world.store.sweeper.stamp = fail
    world.look()
    assert world.woken == [world.name]
    assert world.lookout.due == 1001.0 + polling.FAR_LOOK


class OnDuty(World):
    """The first in its queue, who is woken by the exit of each holder.

    :ivar stamp: of the last sweep.
    :ivar sweeps: how many were its own; ``in_vain``: whether they are left to somebody who is inside.
    """

    def __init__(self) -> None:
        super().__init__([])
        self.stamp, self.sweeps, self.in_vain = b"somebody's", 0, False
        self.store.effects = SimpleNamespace(sees_exits=True)
        self.store.sweeper = SimpleNamespace(stamp=lambda: self.stamp, sweep=self.sweep, own_stamp=b"")
        self.lookout._exits = cast("Any", SimpleNamespace(came=False, watch=lambda _: True, cover=lambda: True))

    def sweep(self) -> Swept:
        self.sweeps += 1
        self.stamp = self.store.sweeper.own_stamp = b"own %d" % self.sweeps
        return Swept(math.inf, in_vain=self.in_vain)

    def rests(self, now: float) -> bool:
        """Whether it rests after a look at that time."""
        self.lookout.run(now)
        pause = self.lookout.due - now
        assert pause == pytest.approx(polling.COVERED_SWEEP) or pause == pytest.approx(polling.SWEEP_EVERY)
        return pause == pytest.approx(polling.COVERED_SWEEP)


PERIOD = polling.SWEEP_EVERY * 1.001


def test_who_was_told_of_something_rests_after_a_sweep_of_its_own_and_not_after_anothers() -> None:
    """What it was told of may come about after the other one's sweep, or be for those to watch who sweep."""
    world, told = OnDuty(), 1002.0
    world.lookout.notify()
    assert not world.rests(told)
    world.stamp = b"another's"
    assert not world.rests(told + PERIOD)
    assert world.sweeps == 0
    assert world.rests(told + 2 * PERIOD)
    assert world.sweeps == 1
    world.stamp = b"another's again"
    assert world.rests(told + 20 * PERIOD)  # it was told of nothing since


def test_who_was_told_of_something_sweeps_also_where_another_one_does_all_the_time() -> None:
    world, told = OnDuty(), 1002.0
    world.lookout.notify()
    assert not world.rests(told)
    for period in (1, 2):
        world.stamp = b"another's %d" % period
        assert world.rests(told + period * PERIOD) == (period == 2)
    assert world.sweeps == 1


def test_who_comes_on_duty_again_rests_after_a_sweep_of_its_own() -> None:
    world, told = OnDuty(), 1002.0
    world.lookout.notify()
    world.rests(told)
    assert world.rests(told + PERIOD)
    world.queue[:0] = [ticket(process, order) for order, process in enumerate(OTHERS, 1)]
    world.stamp = b"theirs"
    world.lookout.run(told + 20 * PERIOD)
    assert world.sweeps == 1  # those ahead of it do that
    del world.queue[:3]
    world.stamp = b"another's"
    assert world.rests(told + 40 * PERIOD)
    assert world.sweeps == 2


def test_nobody_rests_after_a_sweep_in_vain() -> None:
    world, told = OnDuty(), 1002.0
    world.lookout.notify()
    world.rests(told)
    world.in_vain = True  # somebody is inside, and may be killed there
    assert not world.rests(told + PERIOD)
    assert not world.rests(told + 2 * PERIOD)
    world.in_vain = False
    assert world.rests(told + 3 * PERIOD)
    assert world.sweeps == 3
    world.in_vain = True
    assert not world.rests(told + 20 * PERIOD)
