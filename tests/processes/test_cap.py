"""The cap, and who is next: many processes, judged by the intervals in which they held a slot."""

from __future__ import annotations

from holders import ABOUT_TO_LOOK, LOOP, ONCE, SLOW_TO_TAKE_UP
from referee import Interval, Team, peak

TYPE_CHECKING = False


def test_the_referee_counts_overlaps_and_not_neighbours() -> None:
    apart = [Interval("a", 0, 5), Interval("b", 5, 9)]
    assert peak(apart) == 1
    assert peak([*apart, Interval("c", 4, 6), Interval("d", 3, 5)]) == 3
    assert peak([]) == 0


def test_forty_processes_fill_the_cap_and_never_exceed_it(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 3\nlock = "{lock}"\n')
    workers = [team.start(LOOP, name, 3, 0.01, 3) for name in range(40)]
    for worker in workers:
        worker.expect("READY")
    for worker in workers:
        worker.tell()
    for worker in workers:
        worker.done()
    assert len(team.referee.intervals()) == 120
    assert team.referee.peak() == 3
    assert team.pool().lock == lock
    team.assert_idle()


def test_a_newcomer_does_not_overtake_a_head_that_runs_and_has_not_taken_up_its_slot_yet(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{lock}"\n')
    holder, head = team.start(ONCE, "holder", 0, "keep"), team.start(SLOW_TO_TAKE_UP + ONCE, "head", 0, "keep")
    newcomer = team.start('say("READY"); hear(); say("GOT", leasecap.try_acquire("p")); hear()')
    for worker in (holder, head, newcomer):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    head.tell()
    team.until_waiting(1)
    killed = holder.kill()
    head.expect("GRANTED")
    newcomer.tell()
    assert newcomer.expect("GOT") == "None"
    head.tell()
    head.expect("HELD")
    head.tell()
    head.done()
    newcomer.tell()
    newcomer.done()
    assert team.referee.peak({"holder": killed}) == 1
    team.assert_idle()


def test_a_newcomer_overtakes_a_head_that_is_stopped(team: Team, lock: str) -> None:
    """Promise 3 is to the first that lives *and runs*; who is stopped keeps its place."""
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{lock}"\n')
    holder, head, newcomer = (team.start(ONCE, name, 0, "keep") for name in ("holder", "head", "newcomer"))
    for worker in (holder, head, newcomer):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    head.tell()
    team.until_waiting(1)
    team.stop_outside(head)
    killed = holder.kill()
    newcomer.tell()
    newcomer.expect("HELD")
    assert [waiter.pid for waiter in team.pool().waiters] == [head.pid]
    head.go_on()
    newcomer.tell()
    head.expect("HELD")
    head.tell()
    for worker in (newcomer, head):
        worker.done()
    assert team.referee.peak({"holder": killed}) == 1
    team.assert_idle()


def test_a_newcomer_who_alone_sees_the_free_slot_gives_it_to_the_head(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{lock}"\n')
    holder, head = (team.start(ONCE, name, 0, "keep") for name in ("holder", "head"))
    newcomer = team.start(ABOUT_TO_LOOK + 'say("READY"); hear(); say("GOT", leasecap.try_acquire("p")); hear()')
    for worker in (holder, head, newcomer):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    head.tell()
    team.until_waiting(1)
    newcomer.tell()
    newcomer.expect("INSIDE")
    # A release doesn't wait for the pool's lock, and leaves the hand-off to whoever has it.
    holder.tell()
    holder.done()
    newcomer.tell()
    assert newcomer.expect("GOT") == "None"
    head.expect("HELD")
    head.tell()
    head.done()
    assert team.referee.order() == ["holder", "head"]
